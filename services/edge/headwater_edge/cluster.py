"""The edge's side of the cluster: links to origins, sessions on them, and what origins say to clients."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from headwater_bus import traffic
from headwater_bus.link import EdgeLink, Link
from headwater_bus.logs import get_log
from headwater_bus.node import AssignError
from headwater_bus.view import Assignment
from headwater_rtmp.command import encode_command
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status

from headwater_edge.client import Client, Phase, PublishPort
from headwater_edge.fanout import Player, StreamFanout
from headwater_edge.objects import ObjectFanout

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_log = get_log("edge")
_RETRY_S = 0.05


class Directory:
    """What the numbers on one link mean: the sessions there, and the streams and objects the origin named."""

    __slots__ = ("clients", "objects", "streams")

    def __init__(self) -> None:
        self.clients: dict[int, Client] = {}
        self.streams: dict[int, StreamFanout] = {}
        self.objects: dict[int, ObjectFanout] = {}


class Cluster:
    """Attaches sessions to the origins of their groups and carries out what origins say."""

    def __init__(self, edge: "Edge") -> None:
        self._edge = edge
        self._node = edge.node
        self.links: dict[str, EdgeLink] = {}
        self._resolving: dict[str, list[Client]] = {}
        self._gathering: list[StreamFanout] = []
        self._handlers: dict[type, Callable[[Directory, Any], None]] = {
            traffic.Attached: self._attached,
            traffic.AttachRefused: self._attach_refused,
            traffic.ToClient: self._to_client,
            traffic.CloseSession: self._close_session,
            traffic.PublishStarted: self._publish_started,
            traffic.PublishStopped: self._publish_stopped,
            traffic.StreamOpened: self._stream_opened,
            traffic.StreamMedia: self._stream_media,
            traffic.StreamReset: self._stream_reset,
            traffic.StreamClosed: self._stream_closed,
            traffic.PlayStarted: self._play_started,
            traffic.PlayChanged: self._play_changed,
            traffic.PlayStopped: self._play_stopped,
            traffic.ObjectOpened: self._object_opened,
            traffic.ObjectJoined: self._object_joined,
            traffic.ObjectUpdate: self._object_update,
            traffic.ObjectLeft: self._object_left,
            traffic.ObjectClosed: self._object_closed,
        }

    # Sessions

    def attach(self, client: Client) -> None:
        """Send a client that connects to the origin of its group; ask the balancer when the group has none."""
        assignment = self._node.view.groups.get(client.group)
        if assignment is not None and assignment.origin in self._node.view.nodes:
            self._attach(client, assignment)
        else:
            self._resolve(client)

    def _resolve(self, client: Client) -> None:
        waiting = self._resolving.get(client.group)
        if waiting is not None:
            waiting.append(client)
            return
        self._resolving[client.group] = [client]
        gevent.spawn(self._ask, client.group)

    def _ask(self, group: str) -> None:
        """Greenlet: one question to the balancer for all clients that wait for a group."""
        assignment, failure = None, "no origin"
        deadline = time.monotonic() + self._edge.config.attach_s
        while assignment is None and time.monotonic() < deadline:
            try:
                assignment = self._node.assign(group, timeout_s=deadline - time.monotonic())
            except AssignError as error:
                failure = str(error)
                gevent.sleep(_RETRY_S)
        for client in self._resolving.pop(group, []):
            if client.phase != Phase.CONNECTING:
                continue
            if assignment is None:
                _log.warning("group has no origin", group=group, error=failure)
                self._edge.reject(client, StatusCode.CONNECT_FAILED, f"{group}: {failure}")
            else:
                self._attach(client, assignment)
        self._edge.flush_clients()

    def _attach(self, client: Client, assignment: Assignment) -> None:
        link = self._link_to(assignment.origin)
        if link is None:
            self._resolve_later(client)
            return
        assert client.early is not None
        connect = client.early[0]
        client.link, client.epoch = link, assignment.epoch
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

    def _resolve_later(self, client: Client) -> None:
        if time.monotonic() - client.opened_at > self._edge.config.attach_s + self._edge.config.connect_s:
            self._edge.reject(
                client, StatusCode.CONNECT_FAILED, f"{client.group}: its origin cannot be reached"
            )
        else:
            gevent.spawn_later(_RETRY_S, self._again, client)

    def _again(self, client: Client) -> None:
        if client.phase == Phase.CONNECTING:
            self.attach(client)
            self._edge.flush_clients()

    def forget(self, client: Client) -> None:
        """A client is closed: its number means nothing any more."""
        if client.link is not None:
            directory: Directory = client.link.data
            directory.clients.pop(client.session, None)
            for shared_object in directory.objects.values():
                shared_object.members.pop(client.session, None)

    # Links

    def _link_to(self, origin: str) -> EdgeLink | None:
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
        """The origin is lost: its sessions are told and closed (fail-over re-attaches them instead, one day)."""
        assert isinstance(link, EdgeLink)
        if self.links.get(link.origin) is link:
            del self.links[link.origin]
        directory: Directory = link.data
        _log.warning("link down", origin=link.origin, reason=reason, sessions=len(directory.clients))
        info = status(StatusCode.CONNECT_CLOSED, "the origin of this application instance is lost")
        for client in list(directory.clients.values()):
            if client.phase == Phase.CONNECTING:
                client.link = None
                self._resolve_later(client)
            else:
                client.send(encode_command("onStatus", 0, None, info, amf3=client.object_encoding == 3))
                client.close(f"origin {link.origin} lost: {reason}")

    def close(self, reason: str) -> None:
        """End every link."""
        gevent.sleep(0)
        for link in list(self.links.values()):
            link.close(reason)
        self.links.clear()

    # What origins say

    def _on_batch(self, link: Link, envelopes: list[Any]) -> None:
        directory: Directory = link.data
        handlers = self._handlers
        for envelope in envelopes:
            handler = handlers.get(type(envelope))
            if handler is not None:
                handler(directory, envelope)
        if self._edge.config.flush_ms == 0:
            self.flush_streams()
        self._edge.flush_clients()

    def flush_streams(self) -> None:
        """Send what streams have gathered since the last call."""
        gathering, self._gathering = self._gathering, []
        for fanout in gathering:
            fanout.flush()

    def flush_job(self) -> None:
        """Job: one flush for all streams every `flush_ms`."""
        interval_s = self._edge.config.flush_ms / 1000
        due = time.monotonic()
        while True:
            due = max(due + interval_s, time.monotonic())
            gevent.sleep(due - time.monotonic())
            self.flush_streams()
            self._edge.flush_clients()

    def _attached(self, directory: Directory, envelope: traffic.Attached) -> None:
        client = directory.clients.get(envelope.session)
        if client is None or client.phase != Phase.CONNECTING:
            return
        client.phase = Phase.CONNECTED
        client.rtmp.connected()
        early, client.early = client.early or [], None
        for message in early[1:]:
            self._edge.client_message(client, message)

    def _attach_refused(self, directory: Directory, envelope: traffic.AttachRefused) -> None:
        client = directory.clients.pop(envelope.session, None)
        if client is not None:
            _log.info("attach refused", group=envelope.group, reason=envelope.reason)
            client.link = None
            self._resolve_later(client)

    def _to_client(self, directory: Directory, envelope: traffic.ToClient) -> None:
        client = directory.clients.get(envelope.session)
        if client is not None:
            client.send(Message(envelope.type_id, envelope.stream_id, envelope.timestamp, envelope.payload))

    def _close_session(self, directory: Directory, envelope: traffic.CloseSession) -> None:
        client = directory.clients.get(envelope.session)
        if client is not None:
            client.close(f"by the origin: {envelope.reason}")

    # Streams

    def _publish_started(self, directory: Directory, envelope: traffic.PublishStarted) -> None:
        client = directory.clients.get(envelope.session)
        if client is not None:
            if client.ports is None:
                client.ports = {}
            client.ports[envelope.stream_id] = PublishPort(envelope.stream)

    def _publish_stopped(self, directory: Directory, envelope: traffic.PublishStopped) -> None:
        client = directory.clients.get(envelope.session)
        if client is not None and client.ports is not None:
            client.ports.pop(envelope.stream_id, None)

    def _stream_opened(self, directory: Directory, envelope: traffic.StreamOpened) -> None:
        config = self._edge.config
        directory.streams[envelope.stream] = StreamFanout(
            envelope.name, config.chunk_size, config.cache_bytes, self._edge.counters
        )

    def _stream_media(self, directory: Directory, envelope: traffic.StreamMedia) -> None:
        self._edge.counters.media_received += 1
        fanout = directory.streams.get(envelope.stream)
        if fanout is not None and fanout.add(
            Message(envelope.type_id, 0, envelope.timestamp, envelope.payload)
        ):
            self._gathering.append(fanout)

    def _stream_reset(self, directory: Directory, envelope: traffic.StreamReset) -> None:
        fanout = directory.streams.get(envelope.stream)
        if fanout is not None:
            fanout.reset()

    def _stream_closed(self, directory: Directory, envelope: traffic.StreamClosed) -> None:
        directory.streams.pop(envelope.stream, None)

    def _play_started(self, directory: Directory, envelope: traffic.PlayStarted) -> None:
        client = directory.clients.get(envelope.session)
        fanout = directory.streams.get(envelope.stream)
        if client is None or fanout is None:
            return
        if client.players is None:
            client.players = {}
        elif (old := client.players.get(envelope.stream_id)) is not None:
            old.fanout.leave(old)
        player = client.players[envelope.stream_id] = Player(client, envelope.stream_id, fanout)
        fanout.join(player)

    def _play_changed(self, directory: Directory, envelope: traffic.PlayChanged) -> None:
        client = directory.clients.get(envelope.session)
        player = client.players.get(envelope.stream_id) if client is not None and client.players else None
        if player is None:
            return
        had_video = player.video and not player.paused
        player.audio, player.video, player.paused = envelope.audio, envelope.video, envelope.paused
        if player.video and not player.paused and not had_video:
            player.waiting = True

    def _play_stopped(self, directory: Directory, envelope: traffic.PlayStopped) -> None:
        client = directory.clients.get(envelope.session)
        player = (
            client.players.pop(envelope.stream_id, None) if client is not None and client.players else None
        )
        if player is not None:
            player.fanout.leave(player)

    # SharedObjects

    def _object_opened(self, directory: Directory, envelope: traffic.ObjectOpened) -> None:
        directory.objects[envelope.shared_object] = ObjectFanout(
            envelope.name, envelope.persistent, self._edge.config.chunk_size, self._edge.counters
        )

    def _object_joined(self, directory: Directory, envelope: traffic.ObjectJoined) -> None:
        client = directory.clients.get(envelope.session)
        shared_object = directory.objects.get(envelope.shared_object)
        if client is not None and shared_object is not None:
            shared_object.join(envelope.session, client, envelope.version, envelope.slots)

    def _object_update(self, directory: Directory, envelope: traffic.ObjectUpdate) -> None:
        shared_object = directory.objects.get(envelope.shared_object)
        if shared_object is not None:
            shared_object.update(envelope.version, envelope.events)

    def _object_left(self, directory: Directory, envelope: traffic.ObjectLeft) -> None:
        shared_object = directory.objects.get(envelope.shared_object)
        if shared_object is not None:
            shared_object.members.pop(envelope.session, None)

    def _object_closed(self, directory: Directory, envelope: traffic.ObjectClosed) -> None:
        directory.objects.pop(envelope.shared_object, None)

    def health(self) -> dict[str, Any]:
        """Links, streams and objects by count, and the players of each stream."""
        streams: dict[str, int] = {}
        objects = 0
        for link in self.links.values():
            directory: Directory = link.data
            objects += len(directory.objects)
            for fanout in directory.streams.values():
                streams[fanout.name] = sum(len(group) for group in fanout.players.values())
        return {"links": sorted(self.links), "streams": streams, "objects": objects}
