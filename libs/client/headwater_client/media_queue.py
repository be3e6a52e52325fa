"""Media that has arrived and was not taken yet."""

from collections import deque
from enum import StrEnum

from gevent.event import Event
from headwater_rtmp.message import Message

_OVERHEAD_BYTES = 200
"""What an empty message counts, so that they too fill the queue."""


class Ending(StrEnum):
    """Why no more messages come."""

    TIMED_OUT = "nothing came in time"
    STOPPED = "the stream was stopped or is not published any more"
    CLOSED = "the stream or its connection was closed"


class MediaQueue:
    """Bounded in bytes: over `limit_bytes` the one who puts waits, and with it everything else on the connection.

    An end (`stop`) is taken in its order, like a message; what comes after it can be taken as well."""

    __slots__ = ("_bytes", "_closed", "_items", "_limit", "_ready", "_room", "_stopped")

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._items: deque[Message | None] = deque()
        self._bytes = 0
        self._ready, self._room = Event(), Event()
        self._closed = self._stopped = False

    @property
    def queued_bytes(self) -> int:
        """What waits to be taken."""
        return self._bytes

    def put(self, message: Message) -> None:
        """Add a message, when there is room for it. After `close` nothing is kept."""
        while self._bytes >= self._limit and not self._closed:
            self._room.clear()
            self._room.wait()
        if not self._closed:
            self._stopped = False
            self._bytes += len(message.payload) + _OVERHEAD_BYTES
            self._items.append(message)
            self._ready.set()

    def stop(self) -> None:
        """Nothing comes for now. Said twice in a row it counts once: servers say it in several ways."""
        if not self._stopped and not self._closed:
            self._stopped = True
            self._items.append(None)
            self._ready.set()

    def restart(self) -> None:
        """Forget what waits: another stream is played."""
        self._items.clear()
        self._bytes = 0
        self._stopped = False
        self._room.set()

    def close(self, discard: bool) -> None:
        """Nothing comes any more. What waits can still be taken, unless `discard`."""
        self._closed = True
        if discard:
            self._items.clear()
            self._bytes = 0
        self._ready.set()
        self._room.set()

    def get(self, timeout_s: float | None) -> Message | Ending:
        """The next message, or why there is none."""
        while not self._items:
            if self._closed:
                return Ending.CLOSED
            self._ready.clear()
            if not self._ready.wait(timeout_s):
                return Ending.TIMED_OUT
        message = self._items.popleft()
        if message is None:
            return Ending.STOPPED
        self._bytes -= len(message.payload) + _OVERHEAD_BYTES
        if self._bytes < self._limit:
            self._room.set()
        return message
