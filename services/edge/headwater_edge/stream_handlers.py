"""What origins say to the edge about live streams, who publishes them and who plays them.

Publications, and streams with their players, survive the loss of their origin: the next one finds them by message stream, and by
group and name.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headwater_bus import traffic
from headwater_bus.logs import get_log
from headwater_rtmp.message import Message

from headwater_edge.attachment import Attachment, AttachmentPhase
from headwater_edge.client import Client
from headwater_edge.directory import Directory
from headwater_edge.fanout import Player, StreamFanout
from headwater_edge.guests import Guests
from headwater_edge.publishing import Publication

if TYPE_CHECKING:
    from headwater_edge.cluster import Cluster
    from headwater_edge.edge import Edge

_log = get_log("edge")


class StreamHandlers:
    """See the module. `handlers` by envelope."""

    def __init__(self, edge: "Edge", cluster: "Cluster", guests: Guests) -> None:
        self._edge = edge
        self._cluster = cluster
        self._guests = guests
        self._gathering: list[StreamFanout] = []
        self.handlers: dict[type, Callable[[Directory, Any], None]] = {
            traffic.PublishStarted: self._publish_started,
            traffic.PublishStopped: self._publish_stopped,
            traffic.StreamOpened: self._stream_opened,
            traffic.StreamMedia: self._stream_media,
            traffic.StreamReset: self._stream_reset,
            traffic.StreamClosed: self._stream_closed,
            traffic.PlayStarted: self._play_started,
            traffic.PlayChanged: self._play_changed,
            traffic.PlayStopped: self._play_stopped,
        }

    def flush(self) -> None:
        """Send what came of streams since the last call."""
        gathering, self._gathering = self._gathering, []
        for fanout in gathering:
            try:
                fanout.flush()
            except Exception as error:
                self._edge.counters.internal_errors += 1
                _log.error("internal error", stream=fanout.name, error=repr(error))

    def _attachment(self, directory: Directory, session: int) -> Attachment | None:
        """Whom an origin speaks about that has the session: see `envelope_handlers`."""
        attachment = directory.attachments.get(session)
        return None if attachment is None or attachment.phase is AttachmentPhase.RESUMING else attachment

    # Who publishes

    def _publish_started(self, directory: Directory, envelope: traffic.PublishStarted) -> None:
        attachment = self._attachment(directory, envelope.session)
        if attachment is None or self._guests.late(attachment, envelope.stream_id):
            return
        client = attachment.client
        if envelope.resumed and client.publications is not None:
            publication = client.publications.get(envelope.stream_id)
            if publication is not None and publication.attachment is attachment:
                self._edge.counters.media_again += publication.resume(envelope.stream)
                return
        self._end_publication(client, envelope.stream_id)
        if client.publications is None:
            client.publications = {}
        config = self._edge.config
        publication = Publication(attachment, envelope.stream, config.ring_s, config.ring_bytes, client.holds)
        publication.note_early(envelope.stream_id, time.monotonic())
        client.publications[envelope.stream_id] = publication
        if envelope.resumed:
            # It has begun at an origin that could not say so any more.
            self._edge.counters.media_again += publication.resume(envelope.stream)
        self._guests.stream(attachment.number, client, envelope.stream_id, publishes=True, started=True)

    def _publish_stopped(self, directory: Directory, envelope: traffic.PublishStopped) -> None:
        attachment = self._attachment(directory, envelope.session)
        if attachment is None or attachment.client.publications is None:
            return
        publication = attachment.client.publications.get(envelope.stream_id)
        # It may publish by another group already.
        if publication is not None and publication.attachment is attachment:
            self._end_publication(attachment.client, envelope.stream_id)

    def _end_publication(self, client: Client, stream_id: int) -> None:
        publication = client.publications.pop(stream_id, None) if client.publications is not None else None
        if publication is not None:
            publication.stream = 0
            number = publication.attachment.number
            self._guests.stream(number, client, stream_id, publishes=True, started=False)

    # The streams

    def _stream_opened(self, directory: Directory, envelope: traffic.StreamOpened) -> None:
        group = directory.groups.get(envelope.group)
        if group is None:
            return
        fanout = group.streams.get(envelope.name)
        if fanout is None:
            config = self._edge.config
            fanout = StreamFanout(envelope.name, config.chunk_size, config.cache_bytes, self._edge.counters)
            group.streams[envelope.name] = fanout
            fanout.group = group
        else:
            directory.streams.pop(fanout.number, None)
            if envelope.after < 0:
                self._edge.counters.streams_interrupted += 1
                fanout.reset()
        fanout.number = envelope.stream
        directory.streams[envelope.stream] = fanout

    def _stream_media(self, directory: Directory, envelope: traffic.StreamMedia) -> None:
        self._edge.counters.media_received += 1
        fanout = directory.streams.get(envelope.stream)
        if fanout is None:
            return
        number = envelope.number
        if number:
            if number <= fanout.last_number:
                self._edge.counters.media_doubled += 1
                return
            fanout.last_number = number
        if fanout.add(Message(envelope.type_id, 0, envelope.timestamp, envelope.payload)):
            self._gathering.append(fanout)

    def _stream_reset(self, directory: Directory, envelope: traffic.StreamReset) -> None:
        fanout = directory.streams.get(envelope.stream)
        if fanout is not None:
            fanout.reset()

    def _stream_closed(self, directory: Directory, envelope: traffic.StreamClosed) -> None:
        fanout = directory.streams.pop(envelope.stream, None)
        group = fanout.group if fanout is not None else None
        if fanout is not None and group is not None:
            del group.streams[fanout.name]
            self._cluster.drop_unused(group)

    # Who plays

    def _play_started(self, directory: Directory, envelope: traffic.PlayStarted) -> None:
        attachment = self._attachment(directory, envelope.session)
        fanout = directory.streams.get(envelope.stream)
        if attachment is None or fanout is None or self._guests.late(attachment, envelope.stream_id):
            return
        client = attachment.client
        playing = client.players.get(envelope.stream_id) if client.players is not None else None
        if playing is not None and playing.fanout is fanout and playing.number == attachment.number:
            return
        self._end_player(client, envelope.stream_id)
        if client.players is None:
            client.players = {}
        player = Player(client, envelope.stream_id, fanout, attachment.number)
        client.players[envelope.stream_id] = player
        if client.restored is not None:
            client.restored.pop(envelope.stream_id, None)
        self._guests.stream(attachment.number, client, envelope.stream_id, publishes=False, started=True)
        if envelope.resumed:
            fanout.go_on(player)
        elif fanout.join(player):
            self._gathering.append(fanout)

    def _player(self, directory: Directory, session: int, stream_id: int) -> Player | None:
        """What an attachment plays on a message stream, which may play by another group already."""
        attachment = self._attachment(directory, session)
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
        attachment = self._attachment(directory, envelope.session)
        if player is not None:
            self._end_player(player.client, envelope.stream_id)
        elif attachment is not None:
            attachment.client.forget_restored(envelope.session, envelope.stream_id)

    def _end_player(self, client: Client, stream_id: int) -> None:
        if client.restored is not None:
            client.restored.pop(stream_id, None)
        player = client.players.pop(stream_id, None) if client.players is not None else None
        if player is not None:
            player.fanout.leave(player)
            self._guests.stream(player.number, client, stream_id, publishes=False, started=False)
