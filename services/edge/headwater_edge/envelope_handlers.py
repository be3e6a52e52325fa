"""What origins say to the edge about its sessions, streams and SharedObjects, carried out envelope by envelope.

Numbers that mean nothing (any more) are ignored: a client may have left while the origin spoke about it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headwater_bus import traffic
from headwater_bus.logs import get_log
from headwater_bus.rows import unpack_rows
from headwater_rtmp.message import Message

from headwater_edge.client import Phase, Publication
from headwater_edge.directory import Directory
from headwater_edge.fanout import Player, StreamFanout
from headwater_edge.objects import ObjectFanout

if TYPE_CHECKING:
    from headwater_edge.client import Client
    from headwater_edge.edge import Edge

_log = get_log("edge")


class EnvelopeHandlers:
    """`refused(client, reason)` is called for a session that its origin did not take."""

    def __init__(self, edge: "Edge", refused: "Callable[[Client, str], None]") -> None:
        self._edge = edge
        self._refused = refused
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
            traffic.ObjectAnswer: self._object_answer,
            traffic.ObjectLeft: self._object_left,
            traffic.ObjectClosed: self._object_closed,
        }

    def carry_out(self, directory: Directory, envelopes: list[Any]) -> None:
        """One batch of a link, in order. An envelope that cannot be carried out costs a log line, not the link."""
        handlers = self._handlers
        for envelope in envelopes:
            handler = handlers.get(type(envelope))
            if handler is None:
                continue
            try:
                handler(directory, envelope)
            except Exception as error:
                self._edge.counters.internal_errors += 1
                _log.error("internal error", envelope=type(envelope).__name__, error=repr(error))

    def flush_streams(self) -> None:
        """Send what streams have gathered since the last call."""
        gathering, self._gathering = self._gathering, []
        for fanout in gathering:
            try:
                fanout.flush()
            except Exception as error:
                self._edge.counters.internal_errors += 1
                _log.error("internal error", stream=fanout.name, error=repr(error))

    # Sessions

    def _attached(self, directory: Directory, envelope: traffic.Attached) -> None:
        client = directory.clients.get(envelope.session)
        if client is None or client.phase != Phase.CONNECTING:
            return
        client.phase = Phase.CONNECTED
        client.rtmp.connected()
        early, client.early = client.early or [], None
        for message in early[1:]:
            self._edge.router.route(client, message)

    def _attach_refused(self, directory: Directory, envelope: traffic.AttachRefused) -> None:
        client = directory.clients.get(envelope.session)
        if client is not None and client.phase == Phase.CONNECTING:
            del directory.clients[envelope.session]
            self._refused(client, envelope.reason)

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
            if client.publications is None:
                client.publications = {}
            client.publications[envelope.stream_id] = Publication(envelope.stream)

    def _publish_stopped(self, directory: Directory, envelope: traffic.PublishStopped) -> None:
        client = directory.clients.get(envelope.session)
        if client is not None and client.publications is not None:
            client.publications.pop(envelope.stream_id, None)

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
        if fanout.join(player):
            self._gathering.append(fanout)

    def _play_changed(self, directory: Directory, envelope: traffic.PlayChanged) -> None:
        client = directory.clients.get(envelope.session)
        player = client.players.get(envelope.stream_id) if client is not None and client.players else None
        if player is not None:
            player.change(envelope.audio, envelope.video, envelope.paused)

    def _play_stopped(self, directory: Directory, envelope: traffic.PlayStopped) -> None:
        client = directory.clients.get(envelope.session)
        if client is not None and client.players:
            player = client.players.pop(envelope.stream_id, None)
            if player is not None:
                player.fanout.leave(player)

    # SharedObjects

    def _object_opened(self, directory: Directory, envelope: traffic.ObjectOpened) -> None:
        directory.objects[envelope.shared_object] = ObjectFanout(
            envelope.name,
            envelope.persistent,
            envelope.version,
            dict(unpack_rows(envelope.payload, str, bytes)),
            self._edge.config.chunk_size,
            self._edge.counters,
        )

    def _object_joined(self, directory: Directory, envelope: traffic.ObjectJoined) -> None:
        client = directory.clients.get(envelope.session)
        shared_object = directory.objects.get(envelope.shared_object)
        if client is not None and shared_object is not None:
            if client.objects is None:
                client.objects = set()
            client.objects.add(shared_object)
            shared_object.join(envelope.session, client)

    def _object_update(self, directory: Directory, envelope: traffic.ObjectUpdate) -> None:
        shared_object = directory.objects.get(envelope.shared_object)
        if shared_object is not None:
            events = unpack_rows(envelope.payload, int, str, bytes)
            shared_object.update(envelope.version, envelope.session, events)

    def _object_answer(self, directory: Directory, envelope: traffic.ObjectAnswer) -> None:
        shared_object = directory.objects.get(envelope.shared_object)
        if shared_object is not None:
            shared_object.answer(envelope.session, unpack_rows(envelope.payload, int, str))

    def _object_left(self, directory: Directory, envelope: traffic.ObjectLeft) -> None:
        client = directory.clients.get(envelope.session)
        shared_object = directory.objects.get(envelope.shared_object)
        if client is not None and shared_object is not None:
            if client.objects is not None:
                client.objects.discard(shared_object)
            shared_object.leave(envelope.session)

    def _object_closed(self, directory: Directory, envelope: traffic.ObjectClosed) -> None:
        directory.objects.pop(envelope.shared_object, None)
