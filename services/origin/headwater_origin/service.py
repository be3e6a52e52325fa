"""The origin process: node, the ROUTER for the edges' links, the store, jobs, drain."""

import sys
import time
from collections.abc import Mapping
from functools import partial

import gevent
from headwater_bus.control import GroupLoadsRequest, MoveGroup
from headwater_bus.garbage import spare_what_stays
from headwater_bus.link import OriginLinks
from headwater_bus.logs import get_log
from headwater_bus.node import Node, NodeConfig
from headwater_bus.requests import Caller
from headwater_rtmp.compiled import BUILD
from headwater_store import Journals, open_journals

from headwater_origin.application import Application
from headwater_origin.config import OriginConfig
from headwater_origin.develop.loading import ApplicationSpec, LoadError
from headwater_origin.develop.reload import Reloader
from headwater_origin.origin import Origin

_log = get_log("origin")
NO_STORE = "none"
"""Instead of a store's URL: the journal is off."""
_SWITCH_S = 0.0003
"""How long the event loop may keep the thread that commits from running, each time that this comes back from the store's library:
a dozen times for a commit to four SQLite files."""


def run(
    node_config: NodeConfig,
    config: OriginConfig,
    applications: Mapping[str, type[Application]],
    store: str,
    watched: Mapping[str, ApplicationSpec] | None = None,
) -> int:
    """Serve until a signal; returns the exit status. `store`: a URL, or `none`. `watched`: where the applications are found, to
    take them anew when their files change. Raises StoreError, or LoadError for an application that does not start."""
    journals: Journals | None = None if store == NO_STORE else open_journals(store)
    sys.setswitchinterval(_SWITCH_S)
    node = Node(node_config)
    origin = Origin(node, config, applications, journals)
    links = OriginLinks(
        context=node.context,
        security=node.security,
        node_id=node.node_id,
        boot=node.boot,
        on_batch=origin.batch,
        on_up=origin.link_up,
        on_down=origin.link_down,
    )
    try:
        origin.start_applications()
    except LoadError:
        node.close()
        raise
    endpoint = links.bind(f"tcp://{node_config.bind}:*")
    jobs = [*links.jobs(), ("tick", origin.tick), ("commits", origin.committer.run)]
    if watched:
        jobs.append(("reload", Reloader(watched, origin.replace_application).job))
    for name, job in jobs:
        node.spawn(name, job)
    node.on_request(GroupLoadsRequest, lambda caller, request: origin.moves.loads(request), role="balancer")
    node.on_request(MoveGroup, partial(_move, node, origin), role="balancer")
    node.load_provider = origin.load
    node.health_provider = lambda: {**origin.health(), "messages_refused": links.refused}
    spread = [name for name, application in applications.items() if application.shared_objects == "spread"]
    node.start(endpoint, meta={"apps": sorted(applications), "spread_objects": sorted(spread)})
    _log.info("serving", applications=" ".join(sorted(applications)), endpoint=endpoint, build=BUILD)

    def drain(deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s / 2
        origin.shutdown("the origin is stopping", within_s=deadline_s / 2)
        for link in links.links.values():
            link.ask()
        while time.monotonic() < deadline and any(not link.state.idle for link in links.links.values()):
            gevent.sleep(0.01)
        # Now, not when all is closed: who else can have the groups begins to look when the registry knows.
        node.leave()
        if origin.host.peers is not None:
            origin.host.peers.close("the origin is stopping")
        links.close("the origin is stopping")
        origin.stop_applications()
        origin.committer.close()

    spare_what_stays()
    return node.run(drain=drain)


def _move(node: Node, origin: Origin, caller: Caller, request: MoveGroup) -> None:
    """Answered when it is done, or refused."""
    gevent.spawn(lambda: node.health_server.answer(caller, origin.moves.move(request)))
