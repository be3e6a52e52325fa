"""What a player who joins now needs first: metadata, sequence headers, and the messages since the last keyframe."""

from typing import Final

from headwater_rtmp.media import MediaFlags, MediaInfo, inspect, strip_set_data_frame
from headwater_rtmp.message import DATA, Counted, Message, MessageType

_MESSAGE_BYTES: Final = 128
"""What a cached message costs besides its payload: empty ones (silence) are not free."""
_MAX_HEADERS: Final = 64
"""Kinds and tracks that one stream may keep a header for."""

_SEQUENCE_HEADER: Final = 1  # MediaFlags, as in `MediaInfo.bits`.
_KEYFRAME: Final = 2
_VIDEO: Final = 32
_END: Final = 64
_KEPT: Final = 1 | 8  # Sequence headers and metadata.
_DATA_RANK: Final = 0
_VIDEO_RANK: Final = 1
_AUDIO_RANK: Final = 2
_VIDEO_METADATA_RANK: Final = 3
_AUDIO_METADATA_RANK: Final = 4
_ONE_TRACK: Final = (0,)
_SAME_CODEC = {"7": "avc1", "10": "mp4a", "12": "hvc1", "13": "av01", "14": "vvc1", "2": ".mp3"}
"""Legacy ids by FourCC, so that a stream may mix both ways of naming a codec."""

_Key = tuple[int, tuple[int, ...]]
_Cached = tuple[int, int, int, bytes, int]
"""Type id, message stream id, timestamp and payload of a message, and its number (-1: it has none). Not the message: what holds
only numbers and bytes is nothing to the garbage collector."""


class GopCache:
    """The cache of one stream: at most `limit_bytes` of messages since the keyframe (over it they are dropped until the next
    keyframe), and as many bytes of headers (over it the oldest are dropped). A stream without video keeps headers only: any
    message is a good start.

    One header is kept per kind (metadata, video, audio, video metadata, audio channels) and tracks; a newer one takes the place
    of all it covers. When a sequence header changes, so that what is cached could not be decoded with it, the cache begins anew
    at the next keyframe. Of several video tracks the lowest one decides where playback may begin.
    """

    __slots__ = (
        "_bytes",
        "_codecs",
        "_header_bytes",
        "_headers",
        "_keeps_messages",
        "_lead",
        "_limit_bytes",
        "_messages",
        "has_video",
        "headers_version",
    )

    def __init__(self, limit_bytes: int = 4 * 1024 * 1024, messages: bool = True) -> None:
        """`messages`: whether to keep any but headers."""
        self._limit_bytes, self._keeps_messages = limit_bytes, messages
        self._headers: dict[_Key, Message] = {}
        self._header_bytes = 0
        self._codecs: dict[int, str] = {}  # Of track 0, by rank.
        self._messages: list[_Cached] | None = None
        self._bytes = 0
        self._lead = -1  # The lowest video track; -1: not known.
        self.has_video = False
        self.headers_version = 0
        """Grows whenever a header changes."""

    @property
    def held_bytes(self) -> int:
        """Bytes of messages and headers held, with what each costs besides its payload."""
        return self._bytes + self._header_bytes

    def add(self, message: Message) -> MediaFlags:
        """Take the next message of the stream; returns what it is, KEYFRAME only where playback may begin."""
        info = inspect(message)
        flags = info.flags
        bits = info.bits
        if info.codec:
            self._follow_codec(info, bits)
        if bits & _KEPT:
            self._keep(_rank(message.type_id, bits), info, strip_set_data_frame(message))
            return flags
        if bits & _KEYFRAME:
            if self._lead in info.tracks:
                self._messages = [] if self._keeps_messages else None
                self._bytes = 0
            else:
                flags &= ~MediaFlags.KEYFRAME
        elif bits & _END and self._lead in info.tracks:
            self._lead = -1
        if self._messages is not None:
            number = message.number if isinstance(message, Counted) else -1
            self._messages.append(
                (message.type_id, message.stream_id, message.timestamp, message.payload, number)
            )
            self._bytes += len(message.payload) + _MESSAGE_BYTES
            if self._bytes > self._limit_bytes:
                self._drop_messages()
                self._lead = -1  # Its track may have ended without a word.
        return flags

    def _follow_codec(self, info: MediaInfo, bits: int) -> None:
        """Note the lowest video track; a codec that needs no header makes the last codec's header wrong."""
        tracks = info.tracks
        if bits & _VIDEO:
            self.has_video = True
            lowest = tracks[0] if len(tracks) == 1 else min(tracks)
            if lowest < self._lead or self._lead < 0:
                self._lead = lowest
        if tracks != _ONE_TRACK:
            return
        rank = _VIDEO_RANK if bits & _VIDEO else _AUDIO_RANK
        known = self._codecs.get(rank)
        if known != info.codec:
            self._codecs[rank] = info.codec
            if known is not None and _family(known) != _family(info.codec):
                old = self._headers.pop((rank, tracks), None)
                if old is not None:
                    self._header_bytes -= len(old.payload) + _MESSAGE_BYTES
                    self.headers_version += 1
                    self._drop_messages()

    def _keep(self, rank: int, info: MediaInfo, message: Message) -> None:
        key = (rank, info.tracks)
        headers = self._headers
        old = headers.pop(key, None)
        if old is not None and old.payload == message.payload:
            headers[key] = message  # Behind the others: the latest wins where tracks overlap.
            return
        self.headers_version += 1
        same = [known for known in headers if known[0] == rank and not set(known[1]).isdisjoint(info.tracks)]
        if (old is not None or same) and rank in (_VIDEO_RANK, _AUDIO_RANK):
            self._drop_messages()
        headers[key] = message
        covered: set[int] = set()
        for known in [known for known in reversed(headers) if known[0] == rank]:
            if covered.issuperset(known[1]):
                del headers[known]
            covered.update(known[1])
        self._header_bytes = sum(len(header.payload) + _MESSAGE_BYTES for header in headers.values())
        while len(headers) > _MAX_HEADERS or self._header_bytes > self._limit_bytes:
            self._header_bytes -= len(headers.pop(next(iter(headers))).payload) + _MESSAGE_BYTES

    def _drop_messages(self) -> None:
        self._messages = None
        self._bytes = 0

    def headers(self) -> list[Message]:
        """Metadata at time 0, as a stream begins with it (with a later time FFmpeg takes it for a stream of subtitles), then
        sequence headers at the time of the first cached message."""
        first = self._messages[0][2] if self._messages else None
        found: list[Message] = []
        for (rank, _), message in sorted(self._headers.items(), key=lambda item: item[0][0]):
            timestamp = 0 if rank == _DATA_RANK else message.timestamp if first is None else first
            found.append(Message(message.type_id, message.stream_id, timestamp, message.payload))
        return found

    @property
    def has_start(self) -> bool:
        """Whether a player can begin with what is here: there is a keyframe, or none is needed."""
        return not self.has_video or bool(self._messages)

    def snapshot(self) -> list[Message]:
        """Headers and the messages since the last keyframe, in the order in which they came."""
        found = self.headers()
        for type_id, stream_id, timestamp, payload, number in self._messages or ():
            if number < 0:
                found.append(Message(type_id, stream_id, timestamp, payload))
            else:
                found.append(Counted(type_id, stream_id, timestamp, payload, number))
        return found

    def clear(self) -> None:
        """The publisher changed: nothing of the old stream may be shown."""
        self._headers.clear()
        self._header_bytes = 0
        self._codecs.clear()
        self._drop_messages()
        self._lead = -1
        self.has_video = False
        self.headers_version += 1


def _rank(type_id: int, bits: int) -> int:
    """Metadata before sequence headers, video before audio."""
    if type_id in DATA:
        return _DATA_RANK
    if type_id == MessageType.VIDEO:
        return _VIDEO_RANK if bits & _SEQUENCE_HEADER else _VIDEO_METADATA_RANK
    return _AUDIO_RANK if bits & _SEQUENCE_HEADER else _AUDIO_METADATA_RANK


def _family(codec: str) -> str:
    return _SAME_CODEC.get(codec, codec)
