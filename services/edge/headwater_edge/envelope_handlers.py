"""What origins say to the edge about its sessions, streams and SharedObjects, carried out envelope by envelope.

Numbers that mean nothing (any more) are ignored: a client may have left while the origin spoke about it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headwater_bus import traffic
from headwater_bus.logs import get_log
from headwater_bus.rows import unpack_rows
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message
from headwater_rtmp.slots import Slots

from headwater_edge.attachment import Attachment, AttachmentPhase
from headwater_edge.client import Client, Phase, Publication
from headwater_edge.directory import Directory
from headwater_edge.fanout import Player, StreamFanout
from headwater_edge.guests import Guests
from headwater_edge.objects import ObjectFanout

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_log = get_log("edge")


class EnvelopeHandlers:
    """`refused(attachment, reason)` is called for one that its origin did not take."""

    def __init__(self, edge: "Edge", refused: Callable[[Attachment, str], None]) -> None:
        self._edge = edge
        self._refused = refused
        self._guests = Guests(edge)
        self._gathering: list[StreamFanout] = []
        self._handlers: dict[type, Callable[[Directory, Any], None]] = {
            traffic.Attached: self._attached,
            traffic.AttachRefused: self._attach_refused,
            traffic.ToClient: self._to_client,
            traffic.CloseSession: self._close_session,
            traffic.Routed: self._routed,
            traffic.Unrouted: self._unrouted,
            traffic.GuestIdle: self._guest_idle,
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
        attachment = directory.attachments.get(envelope.session)
        if attachment is None or attachment.phase != AttachmentPhase.ASKED:
            return
        attachment.attached()
        client = attachment.client
        if attachment.is_home:
            client.phase = Phase.CONNECTED
            client.spread_objects = envelope.spread_objects
            client.rtmp.connected()
            early, client.early = client.early or [], None
            try:
                for message in early[1:]:
                    self._edge.router.route(client, message)
            except RemoteProtocolError as error:
                client.close_for(error)

    def _attach_refused(self, directory: Directory, envelope: traffic.AttachRefused) -> None:
        attachment = directory.attachments.get(envelope.session)
        if attachment is not None and attachment.phase == AttachmentPhase.ASKED:
            del directory.attachments[envelope.session]
            self._refused(attachment, envelope.reason)

    def _to_client(self, directory: Directory, envelope: traffic.ToClient) -> None:
        attachment = directory.attachments.get(envelope.session)
        if attachment is not None:
            message = Message(envelope.type_id, envelope.stream_id, envelope.timestamp, envelope.payload)
            attachment.client.send(message)

    def _close_session(self, directory: Directory, envelope: traffic.CloseSession) -> None:
        attachment = directory.attachments.get(envelope.session)
        if attachment is not None:
            attachment.client.close(f"by the origin: {envelope.reason}")

    # Guests

    def _routed(self, directory: Directory, envelope: traffic.Routed) -> None:
        attachment = directory.attachments.get(envelope.session)
        if attachment is not None and attachment.is_home:
            self._guests.routed(attachment, envelope)

    def _unrouted(self, directory: Directory, envelope: traffic.Unrouted) -> None:
        attachment = directory.attachments.get(envelope.session)
        if attachment is not None and attachment.is_home:
            self._guests.unrouted(attachment.client, envelope)

    def _guest_idle(self, directory: Directory, envelope: traffic.GuestIdle) -> None:
        attachment = directory.attachments.get(envelope.session)
        if attachment is not None:
            self._guests.idle(attachment, envelope)

    # Streams

    def _publish_started(self, directory: Directory, envelope: traffic.PublishStarted) -> None:
        attachment = directory.attachments.get(envelope.session)
        if attachment is None or self._guests.late(attachment, envelope.stream_id):
            return
        client = attachment.client
        self._end_publication(client, envelope.stream_id)
        if client.publications is None:
            client.publications = {}
        client.publications[envelope.stream_id] = Publication(attachment, envelope.stream)
        self._guests.stream(attachment.number, client, envelope.stream_id, publishes=True, started=True)

    def _publish_stopped(self, directory: Directory, envelope: traffic.PublishStopped) -> None:
        attachment = directory.attachments.get(envelope.session)
        if attachment is None or attachment.client.publications is None:
            return
        publication = attachment.client.publications.get(envelope.stream_id)
        # It may publish by another group already.
        if publication is not None and publication.attachment is attachment:
            self._end_publication(attachment.client, envelope.stream_id)

    def _end_publication(self, client: Client, stream_id: int) -> None:
        publication = client.publications.pop(stream_id, None) if client.publications is not None else None
        if publication is not None:
            number = publication.attachment.number
            self._guests.stream(number, client, stream_id, publishes=True, started=False)

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
        attachment = directory.attachments.get(envelope.session)
        fanout = directory.streams.get(envelope.stream)
        if attachment is None or fanout is None or self._guests.late(attachment, envelope.stream_id):
            return
        client = attachment.client
        self._end_player(client, envelope.stream_id)
        if client.players is None:
            client.players = {}
        player = Player(client, envelope.stream_id, fanout, attachment.number)
        client.players[envelope.stream_id] = player
        self._guests.stream(attachment.number, client, envelope.stream_id, publishes=False, started=True)
        if fanout.join(player):
            self._gathering.append(fanout)

    def _player(self, directory: Directory, session: int, stream_id: int) -> Player | None:
        """What an attachment plays on a message stream, which may play by another group already."""
        attachment = directory.attachments.get(session)
        if attachment is None or not attachment.client.players:
            return None
        player = attachment.client.players.get(stream_id)
        return player if player is not None and player.number == session else None

    def _play_changed(self, directory: Directory, envelope: traffic.PlayChanged) -> None:
        player = self._player(directory, envelope.session, envelope.stream_id)
        if player is not None:
            player.change(envelope.audio, envelope.video, envelope.paused)

    def _play_stopped(self, directory: Directory, envelope: traffic.PlayStopped) -> None:
        player = self._player(directory, envelope.session, envelope.stream_id)
        if player is not None:
            self._end_player(player.client, envelope.stream_id)

    def _end_player(self, client: Client, stream_id: int) -> None:
        player = client.players.pop(stream_id, None) if client.players is not None else None
        if player is not None:
            player.fanout.leave(player)
            self._guests.stream(player.number, client, stream_id, publishes=False, started=False)

    # SharedObjects

    def _object_opened(self, directory: Directory, envelope: traffic.ObjectOpened) -> None:
        rows = unpack_rows(envelope.payload, str, bytes, int)
        slots = Slots.from_rows(envelope.version, envelope.base, rows)
        open_already = directory.objects.get(envelope.shared_object)
        if open_already is not None:
            open_already.replace(slots, envelope.events)
            return
        directory.objects[envelope.shared_object] = ObjectFanout(
            envelope.name,
            envelope.persistent,
            slots,
            envelope.events,
            self._edge.config.chunk_size,
            self._edge.counters,
        )

    def _object_joined(self, directory: Directory, envelope: traffic.ObjectJoined) -> None:
        attachment = directory.attachments.get(envelope.session)
        shared_object = directory.objects.get(envelope.shared_object)
        if attachment is not None and shared_object is not None:
            client = attachment.client
            if client.objects is None:
                client.objects = {}
            client.objects[shared_object] = envelope.session
            shared_object.join(envelope.session, client, envelope.since)

    def _object_update(self, directory: Directory, envelope: traffic.ObjectUpdate) -> None:
        shared_object = directory.objects.get(envelope.shared_object)
        if shared_object is not None:
            events = unpack_rows(envelope.payload, int, str, bytes)
            if not shared_object.update(envelope.version, envelope.events, envelope.session, events):
                directory.link.send(traffic.ObjectResync(envelope.shared_object))

    def _object_answer(self, directory: Directory, envelope: traffic.ObjectAnswer) -> None:
        shared_object = directory.objects.get(envelope.shared_object)
        if shared_object is not None:
            shared_object.answer(envelope.session, unpack_rows(envelope.payload, int, str))

    def _object_left(self, directory: Directory, envelope: traffic.ObjectLeft) -> None:
        attachment = directory.attachments.get(envelope.session)
        shared_object = directory.objects.get(envelope.shared_object)
        if attachment is not None and shared_object is not None:
            if attachment.client.objects is not None:
                attachment.client.objects.pop(shared_object, None)
            shared_object.leave(envelope.session)

    def _object_closed(self, directory: Directory, envelope: traffic.ObjectClosed) -> None:
        directory.objects.pop(envelope.shared_object, None)
