"""Live streams on the edge: one message in, one encoding, every local player out.

What arrives for a stream between two flushes is encoded once, joined, and handed to every player with a single
send. A player whose queue is over its limit gets nothing more until the next keyframe finds the queue drained.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.gop import GopCache
from headwater_rtmp.media import MediaFlags
from headwater_rtmp.message import Message, MessageType

from headwater_edge.counters import Counters

if TYPE_CHECKING:
    from headwater_edge.client import Client


class Player:
    """One NetStream of one client that plays a stream. `waiting`: gets nothing until the next keyframe."""

    __slots__ = ("audio", "client", "fanout", "headers_version", "paused", "stream_id", "video", "waiting")

    def __init__(self, client: "Client", stream_id: int, fanout: "StreamFanout") -> None:
        self.client, self.stream_id, self.fanout = client, stream_id, fanout
        self.audio = self.video = True
        self.paused = self.waiting = False
        self.headers_version = 0

    @property
    def selective(self) -> bool:
        """Whether the player wants less than everything, so that it cannot share the joined bytes."""
        return self.paused or not (self.audio and self.video)

    def wants(self, message: Message) -> bool:
        """Whether a message goes to this player at all."""
        if self.paused:
            return False
        if message.type_id == MessageType.AUDIO:
            return self.audio
        return self.video or message.type_id != MessageType.VIDEO


def encode_media(message: Message, stream_id: int, chunk_size: int) -> bytes:
    """Chunks of a media message for message stream `stream_id`; stateless, so all players share them."""
    addressed = Message(message.type_id, stream_id, message.timestamp, message.payload)
    return encode_message(addressed, csid_for(message.type_id), chunk_size)


class StreamFanout:
    """One stream on this edge: its GOP cache, what waits for the next flush, its players by message stream id."""

    __slots__ = (
        "_chunk_size",
        "_counters",
        "_joined",
        "_keyframe_at",
        "_pending",
        "cache",
        "name",
        "players",
    )

    def __init__(self, name: str, chunk_size: int, cache_bytes: int, counters: Counters) -> None:
        self.name = name
        self.cache = GopCache(cache_bytes)
        self.players: dict[int, dict[Player, None]] = {}
        self._chunk_size = chunk_size
        self._counters = counters
        self._pending: list[Message] = []
        self._keyframe_at = -1
        self._joined: dict[int, bytes] = {}

    def add(self, message: Message) -> bool:
        """Take a message of the stream; returns whether it is the first since the last flush."""
        flags = self.cache.add(message)
        if self._keyframe_at < 0 and (flags & MediaFlags.KEYFRAME or not self.cache.has_video):
            self._keyframe_at = len(self._pending)
        self._pending.append(message)
        self._joined.clear()
        return len(self._pending) == 1

    def join(self, player: Player) -> None:
        """Add a player and start it from the cache: metadata, sequence headers, the messages since the keyframe."""
        self.flush()
        stream_id = player.stream_id
        start = self._joined.get(stream_id)
        if start is None:
            start = self._joined[stream_id] = self._encode(self.cache.snapshot(), stream_id)
        player.headers_version = self.cache.headers_version
        self.players.setdefault(stream_id, {})[player] = None
        player.client.enqueue(start)

    def leave(self, player: Player) -> None:
        """Remove a player; unknown ones are ignored."""
        group = self.players.get(player.stream_id)
        if group is not None:
            group.pop(player, None)
            if not group:
                del self.players[player.stream_id]

    def reset(self) -> None:
        """The publisher ended or changed: flush, forget the cache; the players wait for a keyframe."""
        self.flush()
        self.cache.clear()
        self._joined.clear()

    def flush(self) -> None:
        """Encode what is pending once and hand it to every player."""
        pending, keyframe_at = self._pending, self._keyframe_at
        if not pending:
            return
        self._pending, self._keyframe_at = [], -1
        for stream_id, group in self.players.items():
            self._flush_group(list(group), stream_id, pending, keyframe_at)

    def _flush_group(
        self, players: list[Player], stream_id: int, pending: list[Message], keyframe_at: int
    ) -> None:
        joined = b""
        for player in players:
            client = player.client
            if player.selective or player.waiting or client.media_full:
                self._flush_one(player, pending, keyframe_at)
                continue
            if not joined:
                joined = self._encode(pending, stream_id)
            client.transmit(joined)
        self._counters.messages_delivered += len(pending) * len(players)

    def _flush_one(self, player: Player, pending: list[Message], keyframe_at: int) -> None:
        """A player that cannot share the joined bytes: it is slow, coming back, or wants a part only."""
        client = player.client
        if client.media_full:
            self._counters.messages_dropped += len(pending)
            player.waiting = True
            return
        messages: Iterable[Message] = pending
        if player.waiting:
            if keyframe_at < 0 or client.backlog_bytes:
                self._counters.messages_dropped += len(pending)
                return
            player.waiting = False
            messages = pending[keyframe_at:]
            if player.headers_version != self.cache.headers_version:
                messages = [*self.cache.headers(), *messages]
        player.headers_version = self.cache.headers_version
        client.transmit(self._encode([m for m in messages if player.wants(m)], player.stream_id))

    def _encode(self, messages: Iterable[Message], stream_id: int) -> bytes:
        pieces = [encode_media(message, stream_id, self._chunk_size) for message in messages]
        self._counters.messages_encoded += len(pieces)
        return b"".join(pieces)
