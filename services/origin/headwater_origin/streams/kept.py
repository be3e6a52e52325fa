"""Messages of a stream that an origin keeps for edges and players that lack them."""

import math
from collections import deque
from collections.abc import Iterator

from headwater_rtmp.message import Message

MESSAGE_BYTES = 128
"""What a message costs beside its payload."""


class Kept:
    """Messages by their numbers, in order: at most `limit_bytes` and `most` of them, over either the oldest go. `until`: in
    monotonic seconds."""

    __slots__ = ("_limit_bytes", "_messages", "_most", "_size_bytes", "first", "last", "until")

    def __init__(self, first: int, limit_bytes: int, until: float = math.inf, most: float = math.inf) -> None:
        self.first, self.last, self.until = first, first - 1, until
        """The numbers of the oldest and the newest; `last` is below `first` while there is none."""
        self._limit_bytes, self._most = limit_bytes, most
        self._size_bytes = 0
        self._messages: deque[tuple[int, Message]] = deque()

    def add(self, number: int, message: Message) -> None:
        """The next message; one that is kept already means nothing."""
        if number <= self.last:
            return
        self.last = number
        self._messages.append((number, message))
        self._size_bytes += len(message.payload) + MESSAGE_BYTES
        while self._size_bytes > self._limit_bytes or len(self._messages) > self._most:
            self.first, message = self._messages.popleft()
            self.first += 1
            self._size_bytes -= len(message.payload) + MESSAGE_BYTES

    def behind(self, number: int) -> Iterator[tuple[int, Message]]:
        """Messages with higher numbers than this one."""
        return (kept for kept in self._messages if kept[0] > number)
