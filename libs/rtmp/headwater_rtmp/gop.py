"""What a player who joins now needs first: metadata, sequence headers, and the messages since the last keyframe."""

from headwater_rtmp.media import MediaFlags, inspect, strip_set_data_frame
from headwater_rtmp.message import Message, MessageType


class GopCache:
    """The cache of one stream, at most `limit_bytes` of messages since the keyframe; over it they are dropped until the next
    keyframe. A stream without video keeps headers only: any message is a good start."""

    __slots__ = ("_bytes", "_headers", "_limit_bytes", "_messages", "has_video", "headers_version")

    def __init__(self, limit_bytes: int = 8 * 1024 * 1024) -> None:
        self._limit_bytes = limit_bytes
        self._headers: dict[tuple[int, int, tuple[int, ...], str], Message] = {}
        self._messages: list[Message] | None = None
        self._bytes = 0
        self.has_video = False
        self.headers_version = 0
        """Grows whenever a header changes."""

    def add(self, message: Message) -> MediaFlags:
        """Take the next message of the stream; returns what it is."""
        info = inspect(message)
        flags = info.flags
        if flags & MediaFlags.VIDEO:
            self.has_video = True
        if flags & (MediaFlags.SEQUENCE_HEADER | MediaFlags.METADATA):
            key = (
                _rank(message.type_id, flags),
                info.packet_type,
                info.tracks,
                info.codec if info.tracks != (0,) else "",
            )
            self._headers[key] = strip_set_data_frame(message)
            self.headers_version += 1
            return flags
        if flags & MediaFlags.KEYFRAME:
            self._messages = [message]
            self._bytes = len(message.payload)
        elif self._messages is not None and self.has_video:
            self._messages.append(message)
            self._bytes += len(message.payload)
        if self._bytes > self._limit_bytes:
            self._messages = None
            self._bytes = 0
        return flags

    def headers(self) -> list[Message]:
        """Metadata, then sequence headers, at the time of the first cached message."""
        timestamp = self._messages[0].timestamp if self._messages else None
        return [
            message
            if timestamp is None
            else Message(message.type_id, message.stream_id, timestamp, message.payload)
            for _, message in sorted(self._headers.items(), key=lambda item: item[0][0])
        ]

    def snapshot(self) -> list[Message]:
        """Headers and the messages since the last keyframe, in the order in which they came."""
        return self.headers() + (self._messages or [])

    def clear(self) -> None:
        """The publisher changed: nothing of the old stream may be shown."""
        self._headers.clear()
        self._messages = None
        self._bytes = 0
        self.has_video = False
        self.headers_version += 1


def _rank(type_id: int, flags: MediaFlags) -> int:
    """Metadata before sequence headers, video before audio."""
    if type_id in (MessageType.DATA_AMF0, MessageType.DATA_AMF3):
        return 0
    if flags & MediaFlags.METADATA:
        return 3
    return 1 if type_id == MessageType.VIDEO else 2
