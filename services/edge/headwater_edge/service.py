"""The edge process: node, listeners, jobs, drain."""

import resource
import sys
from dataclasses import replace
from typing import Any

from headwater_bus.control import DrainEdge
from headwater_bus.garbage import spare_what_stays
from headwater_bus.logs import get_log
from headwater_bus.node import Node, NodeConfig
from headwater_rtmp.compiled import BUILD, COMPILED
from headwater_sends import COMPILED as SENDS_COMPILED
from headwater_store import Leases

from headwater_edge.auth import Authentication
from headwater_edge.config import EdgeConfig
from headwater_edge.doors import Doors, open_doors
from headwater_edge.draining import Draining
from headwater_edge.edge import Edge
from headwater_edge.gate import Gate
from headwater_edge.listener import Listener, shown

_log = get_log("edge")
_BUILD = BUILD if SENDS_COMPILED == COMPILED else "partly compiled"
_SWITCH_S = 0.001
"""How long the event loop may keep the thread that writes records from running."""
_OTHER_FILES = 256
"""Files of an edge that are no clients: listeners, links, logs, what libraries open."""


def run(
    node_config: NodeConfig,
    config: EdgeConfig,
    doors: Doors,
    leases: Leases | None,
    authentication: Authentication | None,
) -> int:
    """Serve until a signal; returns the exit status. `leases`: the records of RTMPT sessions; None: there is no RTMPT. Raises
    ListenError before anything is served."""
    config = replace(config, max_connections=_connections_possible(config.max_connections))
    sys.setswitchinterval(_SWITCH_S)
    node = Node(node_config)
    edge = Edge(node, config, leases, None if authentication is None else Gate(authentication))
    listeners = open_doors(edge, doors)
    if leases is not None:
        node.spawn("records", edge.tunnels.records.run)

    def stop_listening() -> None:
        for listener in listeners:
            listener.close()

    draining = Draining(edge, stop_listening, node.stop_event.set)
    node.on_request(DrainEdge, draining.answer, role="operator")
    node.load_provider = lambda: {"sessions": len(edge.clients)}
    node.health_provider = edge.health
    node.spawn("sweep", edge.sweep)
    node.start(endpoint="", meta=_meta(listeners))
    rtmp = " ".join(shown(listener.host, listener.port) for listener in listeners)
    _log.info("listening", rtmp=rtmp, build=_BUILD)

    def drain(deadline_s: float) -> None:
        stop_listening()
        edge.shutdown("the edge is stopping", within_s=deadline_s / 2)
        edge.tunnels.records.close()
        if authentication is not None:
            authentication.close()

    spare_what_stays()
    return node.run(drain=drain)


def _connections_possible(wanted: int) -> int:
    """Raise the limit of open files as far as needed and allowed; returns how many connections it is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            possible = max(1, soft - _OTHER_FILES)
            _log.warning(
                "fewer connections than configured", open_files=soft, connections=possible, wanted=wanted
            )
            return possible
    return wanted


def _meta(listeners: list[Listener]) -> dict[str, Any]:
    """What the registry tells others: the shared RTMP address first, then the edge's own."""
    addresses = [shown(listener.host, listener.port) for listener in listeners]
    return {"rtmp_shared": addresses[0], "rtmp": addresses[-1]}
