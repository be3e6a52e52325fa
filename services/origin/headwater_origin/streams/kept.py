"""Messages of a stream that an origin keeps for edges and players that lack them."""

import math
from collections import deque
from collections.abc import Iterator

from headwater_rtmp.message import Message

MESSAGE_BYTES = 128
"""What a message costs beside its payload."""
_Message = tuple[int, int, int, bytes]
"""Number, type id, timestamp and payload. What holds only numbers and bytes is nothing to the garbage collector, which the
messages of 400 streams made stop an origin for a quarter of a second, again and again."""


class Kept:
    """Messages by their numbers, in order: at most `limit_bytes` and `most` of them, over either the oldest go. `until`: in
    monotonic seconds."""

    __slots__ = ("_limit_bytes", "_messages", "_most", "_size_bytes", "first", "last", "until")

    def __init__(self, first: int, limit_bytes: int, until: float = math.inf, most: float = math.inf) -> None:
        self.first, self.last, self.until = first, first - 1, until
        """The numbers of the oldest and the newest; `last` is below `first` while there is none."""
        self._limit_bytes, self._most = limit_bytes, most
        self._size_bytes = 0
        self._messages: deque[_Message] = deque()

    def add(self, number: int, message: Message | None) -> None:
        """The next message; one that is kept already means nothing. None: players do not get what has this number."""
        if number <= self.last:
            return
        self.last = number
        if message is None:
            return
        self._messages.append((number, message.type_id, message.timestamp, message.payload))
        self._size_bytes += len(message.payload) + MESSAGE_BYTES
        while self._size_bytes > self._limit_bytes or len(self._messages) > self._most:
            self._drop()

    def fade(self, most: int) -> bool:
        """Have so many of the oldest go: all at once those of 400 streams take 0.3 s, in which no media goes on. Returns whether
        any is left."""
        for _ in range(min(most, len(self._messages))):
            self._drop()
        return bool(self._messages)

    def _drop(self) -> None:
        number, _, _, payload = self._messages.popleft()
        self.first = number + 1
        self._size_bytes -= len(payload) + MESSAGE_BYTES

    def behind(self, number: int) -> Iterator[tuple[int, Message]]:
        """Messages with higher numbers than this one."""
        return (
            (at, Message(type_id, 0, timestamp, payload))
            for at, type_id, timestamp, payload in self._messages
            if at > number
        )
