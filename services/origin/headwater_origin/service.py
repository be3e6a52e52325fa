"""The origin process: node, the ROUTER for the edges' links, jobs, drain."""

import time
from collections.abc import Mapping

import gevent
from headwater_bus.link import OriginLinks
from headwater_bus.logs import get_log
from headwater_bus.node import Node, NodeConfig

from headwater_origin.application import Application
from headwater_origin.config import OriginConfig
from headwater_origin.origin import Origin

_log = get_log("origin")


def run(node_config: NodeConfig, config: OriginConfig, applications: Mapping[str, type[Application]]) -> int:
    """Serve until a signal; returns the exit status."""
    node = Node(node_config)
    origin = Origin(node, config, applications)
    links = OriginLinks(
        context=node.context,
        security=node.security,
        node_id=node.node_id,
        boot=node.boot,
        on_batch=origin.batch,
        on_up=origin.link_up,
        on_down=origin.link_down,
    )
    endpoint = links.bind(f"tcp://{node_config.bind}:*")
    for name, job in [*links.jobs(), ("tick", origin.tick)]:
        node.spawn(name, job)
    node.load_provider = origin.load
    node.health_provider = lambda: {**origin.health(), "messages_refused": links.refused}
    node.start(endpoint, meta={"apps": sorted(applications)})
    _log.info("serving", applications=" ".join(sorted(applications)), endpoint=endpoint)

    def drain(deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s / 2
        origin.shutdown("the origin is stopping", within_s=deadline_s / 2)
        while time.monotonic() < deadline and any(not link.state.idle for link in links.links.values()):
            gevent.sleep(0.01)
        links.close("the origin is stopping")

    return node.run(drain=drain)
