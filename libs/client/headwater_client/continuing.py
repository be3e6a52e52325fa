"""Streams that go on over another connection."""

from headwater_rtmp.gop import GopCache
from headwater_rtmp.media import MediaFlags, add_set_data_frame, inspect
from headwater_rtmp.message import DATA, Message, MessageType

_MASK32 = 0xFFFFFFFF
_TWICE_MS = 30_000
"""How far back a server's cache may reach, when it begins again for a player."""
_HEADER_BYTES = 256 * 1024
_NO_FRAME = MediaFlags.SEQUENCE_HEADER | MediaFlags.METADATA


class Published:
    """What a publisher has sent, as far as the next connection needs it."""

    __slots__ = ("_cache", "_waits")

    def __init__(self) -> None:
        self._cache = GopCache(_HEADER_BYTES)
        self._waits = False

    def takes(self, message: Message) -> bool:
        """Note a message; whether it is to be sent: video is not, from `again` to the next keyframe: nobody could show it."""
        flags = self._cache.add(message)
        if self._waits and message.type_id == MessageType.VIDEO and not flags & _NO_FRAME:
            if not flags & MediaFlags.KEYFRAME:
                return False
            self._waits = False
        return True

    def again(self) -> list[Message]:
        """Metadata and sequence headers, which come first on a new connection."""
        self._waits = self._cache.has_video
        return [add_set_data_frame(message) for message in self._cache.headers()]


class Played:
    """What a player has got, so that it gets nothing twice when the server begins again with the last seconds."""

    __slots__ = ("_comes_again", "_last_ms")

    def __init__(self) -> None:
        self._last_ms: dict[int, int] = {}
        self._comes_again: set[int] = set()

    def again(self) -> None:
        """What comes from here on is of a new connection."""
        self._comes_again = set(self._last_ms)

    def takes(self, message: Message) -> bool:
        """Note a message; whether it is new. Headers and data always are."""
        type_id = message.type_id
        if type_id in DATA:
            return True
        if type_id in self._comes_again:
            if inspect(message).flags & _NO_FRAME:
                return True
            if (self._last_ms[type_id] - message.timestamp) & _MASK32 <= _TWICE_MS:
                return False
            self._comes_again.discard(type_id)
        self._last_ms[type_id] = message.timestamp
        return True
