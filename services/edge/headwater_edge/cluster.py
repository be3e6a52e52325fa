"""The edge's side of the cluster: which origin a session goes to, and the links to origins."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from headwater_bus import traffic
from headwater_bus.link import EdgeLink, Link
from headwater_bus.logs import RateLimit, get_log
from headwater_bus.node import AssignError
from headwater_bus.view import Assignment
from headwater_rtmp.status import StatusCode

from headwater_edge.client import Client, Phase
from headwater_edge.directory import Directory
from headwater_edge.envelope_handlers import EnvelopeHandlers

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_log = get_log("edge")
_RETRY_S, _LONGEST_RETRY_S = 0.05, 0.4
_LOST = "the origin of this application instance is lost"


class Cluster:
    """Attaches sessions to the origins of their groups and keeps one link to each of these."""

    def __init__(self, edge: "Edge") -> None:
        self._edge = edge
        self._node = edge.node
        self._handlers = EnvelopeHandlers(edge, self._refused)
        self.links: dict[str, EdgeLink] = {}
        self._resolving: dict[str, list[Client]] = {}
        """Who waits for the answer about a group, by group; a greenlet of each asks."""
        self._log_limit = RateLimit(10.0)

    # Sessions

    def attach(self, client: Client) -> None:
        """Send a client that connects to the origin of its group; ask the balancer when the group has none."""
        self._guarded(client, self._find_origin)

    def _guarded(self, client: Client, step: Callable[..., None], *args: Any) -> None:
        """One step for one client: should it fail, this client is told, and those behind it have their turn."""
        try:
            step(client, *args)
        except Exception as error:
            self._edge.counters.internal_errors += 1
            _log.error("internal error", group=client.group, session=client.session, error=repr(error))
            client.reject(StatusCode.CONNECT_FAILED, f"{client.group}: internal error")

    def _find_origin(self, client: Client) -> None:
        if not self._served(client.group):
            name = client.group.partition("/")[0]
            client.reject(StatusCode.CONNECT_INVALID_APP, f"there is no application {name[:64]!r} here")
            return
        assignment = self._node.view.groups.get(client.group)
        if assignment is not None and assignment.origin in self._node.view.nodes:
            self._attach(client, assignment)
        else:
            self._resolve(client)

    def _served(self, group: str) -> bool:
        """Whether some origin has the application of a group; while there is no origin at all nobody can say."""
        name = group.partition("/")[0]
        origins = [node for node in self._node.view.nodes.values() if node.role == "origin"]
        return not origins or any(name in node.apps for node in origins)

    def _resolve(self, client: Client) -> None:
        waiting = self._resolving.get(client.group)
        if waiting is not None:
            waiting.append(client)
            return
        self._resolving[client.group] = [client]
        gevent.spawn(self._ask, client.group)

    def _ask(self, group: str) -> None:
        """Greenlet: one question at a time to the balancer for all clients that wait for a group. Each is answered at its own
        deadline at the latest."""
        assignment, failure, pause_s = None, "no origin", _RETRY_S
        try:
            while assignment is None and (left_s := self._time_left(group, failure)) > 0:
                try:
                    assignment = self._node.assign(group, timeout_s=left_s)
                except AssignError as error:
                    failure = str(error)
                    if error.final:
                        break
                    gevent.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_RETRY_S)
        except Exception as error:
            failure = "internal error"
            self._edge.counters.internal_errors += 1
            _log.error("internal error", group=group, error=repr(error))
        for client in self._resolving.pop(group, []):
            if client.phase != Phase.CONNECTING:
                continue
            if assignment is None:
                client.reject(StatusCode.CONNECT_FAILED, f"{group}: {failure}")
            else:
                self._guarded(client, self._attach, assignment)
        self._edge.flush_clients()

    def _time_left(self, group: str, failure: str) -> float:
        """Seconds until the first client that waits for a group has waited for `attach_s` since its `connect`; 0 when nobody
        waits. Those that have are told."""
        earliest = time.monotonic() - self._edge.config.attach_s
        waiting: list[Client] = []
        for client in self._resolving[group]:
            if client.phase != Phase.CONNECTING:
                continue
            if client.phase_at > earliest:
                waiting.append(client)
                continue
            if self._log_limit.passes("no origin"):
                _log.warning(
                    "group has no origin",
                    group=group,
                    session=client.session,
                    error=failure,
                    suppressed=self._log_limit.suppressed("no origin"),
                )
            client.reject(StatusCode.CONNECT_FAILED, f"{group}: {failure}")
        self._resolving[group] = waiting
        self._edge.flush_clients()
        return min((client.phase_at - earliest for client in waiting), default=0.0)

    def _attach(self, client: Client, assignment: Assignment) -> None:
        link = self._link_to(assignment.origin)
        if link is None:
            self._resolve_later(client, f"{assignment.origin} is not registered")
            return
        assert client.early is not None
        connect = client.early[0]
        client.link = link
        link.data.clients[client.session] = client
        link.send(
            traffic.Attach(
                client.session,
                f"{self._node.boot}-{client.session}",
                client.group,
                assignment.epoch,
                client.address,
                client.object_encoding,
                connect.type_id,
                connect.payload,
            )
        )

    def _refused(self, client: Client, reason: str) -> None:
        """The origin has not (or no longer) the group: the mirror is a little older or newer than the origin's."""
        client.link = None
        self._resolve_later(client, reason)

    def _resolve_later(self, client: Client, reason: str) -> None:
        if time.monotonic() - client.phase_at > self._edge.config.attach_s:
            _log.warning("session has no origin", group=client.group, session=client.session, reason=reason)
            client.reject(StatusCode.CONNECT_FAILED, f"{client.group}: its origin cannot be reached")
        else:
            gevent.spawn_later(_RETRY_S, self._again, client)

    def _again(self, client: Client) -> None:
        if client.phase == Phase.CONNECTING and client.link is None:
            self.attach(client)
            self._edge.flush_clients()

    def forget(self, client: Client) -> None:
        """A client is closed: its number means nothing any more."""
        if client.link is not None:
            directory: Directory = client.link.data
            directory.clients.pop(client.session, None)
        for shared_object in client.objects or ():
            shared_object.leave(client.session)
        client.objects = None

    # Links

    def _link_to(self, origin: str) -> Link | None:
        link = self.links.get(origin)
        if link is not None and link.failure is None:
            return link
        node = self._node.view.nodes.get(origin)
        if node is None:
            return None
        link = EdgeLink(
            context=self._node.context,
            security=self._node.security,
            node_id=self._node.node_id,
            boot=self._node.boot,
            origin=origin,
            endpoint=node.endpoint,
            on_batch=self._on_batch,
            on_up=self._on_up,
            on_down=self._on_down,
        )
        link.data = Directory()
        self.links[origin] = link
        link.start()
        return link

    def _on_up(self, link: Link) -> None:
        _log.info("link up", origin=link.peer)

    def _on_down(self, link: Link, reason: str) -> None:
        """The origin is lost: its sessions are told and closed. Those that it had not accepted yet go elsewhere."""
        assert isinstance(link, EdgeLink)
        if self.links.get(link.origin) is link:
            del self.links[link.origin]
        directory: Directory = link.data
        _log.warning("link down", origin=link.origin, reason=reason, sessions=len(directory.clients))
        for client in list(directory.clients.values()):
            if client.phase == Phase.CONNECTING:
                client.link = None
                self._resolve_later(client, f"{link.origin} is lost")
            else:
                client.close_with(StatusCode.CONNECT_CLOSED, _LOST)
        self._edge.flush_clients()

    def close(self, reason: str) -> None:
        """End every link."""
        gevent.sleep(0)  # What was sent to the origins last leaves first.
        for link in list(self.links.values()):
            link.close(reason)
        self.links.clear()

    def _on_batch(self, link: Link, envelopes: list[Any]) -> None:
        self._handlers.carry_out(link.data, envelopes)
        if self._edge.config.flush_ms == 0:
            self._handlers.flush_streams()
        self._edge.flush_clients()

    def flush_streams(self) -> None:
        """Send what streams have gathered since the last call."""
        self._handlers.flush_streams()
        self._edge.flush_clients()

    def flush_job(self) -> None:
        """Job: one flush for all streams every `flush_ms`."""
        interval_s = self._edge.config.flush_ms / 1000
        due = time.monotonic()
        while True:
            due = max(due + interval_s, time.monotonic())
            gevent.sleep(max(0.001, due - time.monotonic()))
            self.flush_streams()

    def health(self) -> dict[str, Any]:
        """The links by origin, the number of objects, and the players of each stream."""
        streams: dict[str, int] = {}
        links: dict[str, dict[str, Any]] = {}
        objects = 0
        for origin, link in sorted(self.links.items()):
            links[origin] = {
                # Empty until the origin has answered.
                "peer": link.peer,
                "sessions": len(link.data.clients),
                "queued_bytes": link.queued_bytes,
                "resent_batches": link.state.resent_batches,
                "unknown": link.state.unknown,
            }
            directory: Directory = link.data
            objects += len(directory.objects)
            for fanout in directory.streams.values():
                streams[fanout.name] = streams.get(fanout.name, 0) + fanout.player_count
        return {"links": links, "streams": streams, "objects": objects}
