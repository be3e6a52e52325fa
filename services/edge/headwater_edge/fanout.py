"""Live streams on the edge: one message in, one encoding, every local player out.

What arrives for a stream between two flushes is encoded once, joined, and handed to every player with a single
send. A player whose queue is over its limit gets nothing more until the next keyframe finds the queue drained. A player that
joins is started at the next flush, so that a burst of them costs one encoding of the start.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from headwater_rtmp.chunk import csid_for, encode_for
from headwater_rtmp.gop import GopCache
from headwater_rtmp.media import MediaFlags
from headwater_rtmp.message import Message, MessageType

from headwater_edge.counters import Counters
from headwater_edge.shared_sends import SharedSends

if TYPE_CHECKING:
    from headwater_edge.client import Client
    from headwater_edge.groups import EdgeGroup

_KEYFRAME = int(MediaFlags.KEYFRAME)
_AUDIO, _VIDEO = int(MessageType.AUDIO), int(MessageType.VIDEO)


class Wait(IntEnum):
    """What a player does not get until the next keyframe."""

    NOTHING = 0
    VIDEO = 1
    """It has just asked for video; its audio goes on."""
    ALL = 2
    """It was too slow, or paused."""


class Player:
    """One NetStream of one client that plays a stream. `number` is that of the attachment by which it does.

    `plain`: it gets everything, so it shares the joined bytes of all others. `seen_headers`: the version of the headers that
    it had when it ceased to be plain; -1 while it is plain, and has them all. `owed`: it gets headers that it lacks next.
    """

    __slots__ = (
        "audio",
        "client",
        "fanout",
        "number",
        "owed",
        "paused",
        "plain",
        "seen_headers",
        "stream_id",
        "video",
        "wait",
    )

    def __init__(self, client: "Client", stream_id: int, fanout: "StreamFanout", number: int = 0) -> None:
        self.client, self.stream_id, self.fanout, self.number = client, stream_id, fanout, number
        self.audio = self.video = self.plain = True
        self.paused = self.owed = False
        self.wait = Wait.NOTHING
        self.seen_headers = -1

    def change(self, audio: bool, video: bool, paused: bool) -> None:
        """What the player wants from now on (receiveAudio, receiveVideo, pause)."""
        was_paused, had_audio, had_video = self.paused, self.audio, self.video
        self.audio, self.video, self.paused = audio, video, paused
        self.owed = self.owed or (audio and not had_audio)
        if was_paused and not paused:
            self.wait = Wait.ALL
        elif not video and self.wait == Wait.VIDEO:
            self.wait = Wait.NOTHING
        elif video and not had_video and self.wait == Wait.NOTHING:
            self.wait = Wait.VIDEO
        self.settle(self.fanout.sent_headers)

    def settle(self, headers: int) -> None:
        """Find out whether it is plain (again). `headers`: the version that plain players have."""
        whole = self.audio and self.video and not self.paused and self.wait == Wait.NOTHING
        if not whole and self.plain:
            self.seen_headers = headers
        elif whole and self.seen_headers == headers:
            self.seen_headers = -1
        self.plain = whole and self.seen_headers < 0
        if not self.plain:
            self.fanout.hold(self)

    def wants(self, message: Message) -> bool:
        """Whether a kind of message goes to this player."""
        if message.type_id == _AUDIO:
            return self.audio
        return self.video or message.type_id != _VIDEO


class _Audience:
    """Players on one message stream id. `ready`: those that are plain and have nothing queued, so that one send is shared by all;
    `others`."""

    __slots__ = ("others", "ready")

    def __init__(self) -> None:
        self.ready: SharedSends[Player] = SharedSends()
        self.others: dict[Player, None] = {}

    def __len__(self) -> int:
        return len(self.ready) + len(self.others)

    def __contains__(self, player: Player) -> bool:
        return player in self.ready or player in self.others

    def look_at(self, player: Player) -> None:
        """One of the others may be ready now."""
        client = player.client
        free = client.outbox is None and client.sock is not None and not client.closed
        if free and player.plain and player in self.others:
            del self.others[player]
            self.ready.add(player, client.sock)

    def leave(self, player: Player) -> None:
        """Forget one; unknown ones are ignored."""
        self.ready.discard(player)
        self.others.pop(player, None)


class _Pending:
    """What has come since the last flush. `restart`: the first message at which a player may begin (-1: none), and the
    headers that it then needs before it."""

    __slots__ = ("encoded", "headers", "joined", "messages", "restart")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.restart = -1
        self.headers: list[Message] = []
        self.encoded: dict[int, list[bytes]] = {}
        """The messages' chunks, by message stream id."""
        self.joined: dict[tuple[int, tuple[int, ...]], bytes] = {}
        """Selections of them, by message stream id and indices."""


def encode_media(message: Message, stream_id: int, chunk_size: int) -> bytes:
    """Chunks of a media message for message stream `stream_id`; stateless, so all players share them."""
    return encode_for(stream_id, message, csid_for(message.type_id), chunk_size)


def _at(timestamp: int, headers: Sequence[Message]) -> list[Message]:
    """Headers at another time. Metadata keeps its own: see `GopCache.headers`."""
    return [
        Message(header.type_id, 0, timestamp, header.payload)
        if header.type_id in (_AUDIO, _VIDEO)
        else header
        for header in headers
    ]


class StreamFanout:
    """One stream on this edge: its GOP cache, what waits for the next flush, its players by message stream id.

    `number` is that of the link over which it comes, 0 while its `group` has no origin that has named it.
    """

    __slots__ = (
        "_chunk_size",
        "_counters",
        "_delivered_number",
        "_joining",
        "_last_timestamp",
        "_pending",
        "_scheduled",
        "cache",
        "group",
        "last_number",
        "name",
        "number",
        "players",
        "sent_headers",
    )

    def __init__(self, name: str, chunk_size: int, cache_bytes: int, counters: Counters) -> None:
        self.name = name
        self.group: EdgeGroup | None = None
        self.number = 0
        self.last_number = 0
        """Of the last message, as the publisher's edge counts them: one that was sent again is known by it. 0: of none yet."""
        self.cache = GopCache(cache_bytes)
        self.players: dict[int, _Audience] = {}
        self.sent_headers = 0
        """The version of the headers that plain players have."""
        self._chunk_size = chunk_size
        self._counters = counters
        self._pending = _Pending()
        self._joining: dict[Player, None] = {}
        self._last_timestamp = 0
        self._delivered_number = 0
        self._scheduled = False

    @property
    def player_count(self) -> int:
        """Players, those included that are started at the next flush."""
        return sum(map(len, self.players.values())) + len(self._joining)

    def position_of(self, player: Player) -> int:
        """The number of the last message that a player was sent; 0 where it is to begin anew anyway."""
        started = player in self.players.get(player.stream_id, ())
        return self._delivered_number if started and player.wait == Wait.NOTHING else 0

    def go_on(self, player: Player) -> None:
        """Add a player that another edge had, and that has been sent all that has come until now."""
        self.flush()
        if not player.client.closed:
            self._audience(player).others[player] = None

    def _audience(self, player: Player) -> _Audience:
        audience = self.players.get(player.stream_id)
        if audience is None:
            audience = self.players[player.stream_id] = _Audience()
        return audience

    def hold(self, player: Player) -> None:
        """A player is not plain any more, or something is queued for its client: it does not share the send of the others."""
        audience = self.players.get(player.stream_id)
        if audience is not None and audience.ready.discard(player):
            audience.others[player] = None

    def add(self, message: Message) -> bool:
        """Take a message of the stream; returns whether a flush must be arranged."""
        cache, pending = self.cache, self._pending
        flags = cache.add(message)
        self._last_timestamp = message.timestamp
        if pending.restart < 0 and (int(flags) & _KEYFRAME or not cache.has_video):
            pending.restart = len(pending.messages)
            headers = [header for header in cache.headers() if header.payload != message.payload]
            pending.headers = _at(message.timestamp, headers)
        pending.messages.append(message)
        return self._schedule()

    def join(self, player: Player) -> bool:
        """Add a player, to be started at the next flush; returns whether one must be arranged."""
        self._joining[player] = None
        return self._schedule()

    def _schedule(self) -> bool:
        first, self._scheduled = not self._scheduled, True
        return first

    def leave(self, player: Player) -> None:
        """Remove a player; unknown ones are ignored."""
        self._joining.pop(player, None)
        audience = self.players.get(player.stream_id)
        if audience is not None:
            audience.leave(player)
            if not audience:
                del self.players[player.stream_id]

    def reset(self) -> None:
        """The publisher ended or changed, or some of what it sent is lost: flush, forget the cache. The players go on with what
        comes next."""
        self.flush()
        self.cache.clear()
        self.last_number = self._delivered_number = 0

    def flush(self) -> None:
        """Encode what is pending once, hand it to every player, and start those that joined."""
        pending, self._pending = self._pending, _Pending()
        self._scheduled = False
        if pending.messages:
            self._deliver(pending)
        self.sent_headers = self.cache.headers_version
        self._delivered_number = self.last_number
        if self._joining:
            self._start()

    def _deliver(self, pending: _Pending) -> None:
        """A client is closed only after all have been sent to, because that removes players."""
        broken: list[tuple[Client, OSError]] = []
        others: list[tuple[_Audience, Player]] = []
        everything = tuple(range(len(pending.messages)))
        total = shared = 0
        for stream_id, audience in self.players.items():
            # Now: one whose client plays on another message stream, too, may be held because of what was sent there.
            others += [(audience, player) for player in audience.others]
            ready = audience.ready
            if not ready:
                continue
            data = self._selected(pending, stream_id, everything)
            shared += len(ready)
            total += len(ready) * len(data)
            for player, outcome in ready.send(data):
                if isinstance(outcome, OSError):
                    broken.append((player.client, outcome))
                    total -= len(data)
                    shared -= 1
                else:
                    player.client.queue_rest(data, outcome)  # type: ignore[attr-defined]  # it has a socket
                    total += outcome - len(data)
        self._counters.bytes_out += total
        self._counters.messages_delivered += shared * len(pending.messages)
        for audience, player in others:
            self._deliver_to(player, pending)
            audience.look_at(player)
        for client, failure in broken:
            client.close(f"socket: {failure.strerror}", gone=True)

    def _deliver_to(self, player: Player, pending: _Pending) -> None:
        """A player that cannot share the joined bytes: it is slow, coming back, or wants a part only."""
        client, restart, wait = player.client, pending.restart, player.wait
        if player.paused or client.closed:
            return
        wanted = [at for at, message in enumerate(pending.messages) if player.wants(message)]
        begin = restart if player.video else 0
        if client.media_full or (wait == Wait.ALL and (begin < 0 or client.backlog_bytes)):
            self._counters.messages_dropped += len(wanted)
            player.wait = Wait.ALL
            player.settle(self.sent_headers)
            return
        chosen = wanted
        if wait == Wait.ALL:
            chosen = [at for at in wanted if at >= begin]
        elif wait == Wait.VIDEO:
            first = restart if restart >= 0 else len(pending.messages)
            chosen = [at for at in wanted if at >= first or pending.messages[at].type_id != _VIDEO]
        self._counters.messages_dropped += len(wanted) - len(chosen)
        self._counters.messages_delivered += len(chosen)
        data = self._selected(pending, player.stream_id, tuple(chosen))
        if wait != Wait.VIDEO or restart >= 0:
            player.wait = Wait.NOTHING
            data = self._owed_headers(player, pending, wait) + data
        client.transmit(data)

    def _owed_headers(self, player: Player, pending: _Pending, wait: Wait) -> bytes:
        """The headers that a player lacks which gets what it wants again; it is plain afterwards if it wants everything."""
        version = self.cache.headers_version
        headers: list[Message] = []
        if (wait or player.owed) and player.seen_headers != version:
            headers = pending.headers if pending.restart >= 0 else self.cache.headers()
            if wait == Wait.ALL:
                headers = [header for header in headers if player.wants(header)]
            else:
                # It had all others, and audio headers that have just come go out as they are.
                here = {message.payload for message in pending.messages if message.type_id == _AUDIO}
                kinds = {_VIDEO} if wait == Wait.VIDEO else set()
                kinds |= {_AUDIO} if player.owed else set()
                headers = [h for h in headers if h.type_id in kinds and h.payload not in here]
        player.owed = False
        if player.audio and player.video and player.seen_headers >= 0:
            player.seen_headers = version
        player.settle(version)
        return self._encode(headers, player.stream_id)

    def _start(self) -> None:
        """Start those that joined from the cache: metadata, sequence headers, the messages since the keyframe."""
        joining, self._joining = self._joining, {}
        headers, start = self.cache.headers(), self.cache.snapshot()
        wait = Wait.NOTHING
        if len(start) == len(headers):
            # Nothing gives them a time: that of the stream now, or the player would wait for it to come.
            start = _at(self._last_timestamp, start)
            # The keyframe was too long ago to be kept, or is yet to come.
            wait = Wait.VIDEO if self.cache.has_video else Wait.NOTHING
        encoded: dict[tuple[int, bool, bool], bytes] = {}
        for player in joining:
            if player.client.closed:
                continue
            audience = self._audience(player)
            audience.others[player] = None
            if not player.plain:
                player.seen_headers = 0  # Of some kinds it gets none now.
            if player.paused:
                continue
            player.wait = wait if player.video else Wait.NOTHING
            player.settle(self.sent_headers)
            key = (player.stream_id, player.audio, player.video)
            data = encoded.get(key)
            if data is None:
                data = self._encode([m for m in start if player.wants(m)], player.stream_id)
                encoded[key] = data
            player.client.transmit(data)
            audience.look_at(player)

    def _encoded(self, pending: _Pending, stream_id: int) -> list[bytes]:
        pieces = pending.encoded.get(stream_id)
        if pieces is None:
            pieces = [encode_media(message, stream_id, self._chunk_size) for message in pending.messages]
            pending.encoded[stream_id] = pieces
            self._counters.messages_encoded += len(pieces)
        return pieces

    def _selected(self, pending: _Pending, stream_id: int, chosen: tuple[int, ...]) -> bytes:
        if not chosen:
            return b""
        data = pending.joined.get((stream_id, chosen))
        if data is None:
            pieces = self._encoded(pending, stream_id)
            data = pending.joined[stream_id, chosen] = b"".join([pieces[at] for at in chosen])
        return data

    def _encode(self, messages: Sequence[Message], stream_id: int) -> bytes:
        self._counters.start_messages_encoded += len(messages)
        return b"".join([encode_media(message, stream_id, self._chunk_size) for message in messages])
