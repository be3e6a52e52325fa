"""What carries RTMP: the part that all ways have in common."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from gevent.event import Event
from headwater_rtmp.connection import Connection
from headwater_rtmp.connection import Event as RtmpEvent
from headwater_rtmp.errors import LocalProtocolError
from headwater_rtmp.message import Message

from headwater_client.errors import ClientError, ConnectionClosed

_QUEUE_BYTES = 256 * 1024

CLOSED_HERE = "closed here"
"""The reason when we have closed it."""
SERVER_CLOSED = "the server closed the connection"


class Transport(ABC):
    """The RTMP state machine, and what waits to be sent. `on_event` is called in one greenlet, in order; while it waits, nothing
    is read (and no ping answered). `on_closed` is called once, when `reason` is set. `peer` names the server in error texts."""

    __slots__ = (
        "_closing",
        "_on_closed",
        "_on_event",
        "_out",
        "_queued_bytes",
        "_room",
        "closed",
        "peer",
        "reason",
        "rtmp",
    )

    def __init__(
        self,
        rtmp: Connection,
        peer: str,
        on_event: Callable[["Transport", RtmpEvent], None],
        on_closed: Callable[["Transport"], None],
    ) -> None:
        self.rtmp = rtmp
        self.peer = peer
        self._on_event, self._on_closed = on_event, on_closed
        self._out: deque[bytes] = deque()
        self._queued_bytes = 0
        self._room = Event()
        self._closing = False
        self.closed = Event()
        self.reason = ""
        """Why it is closed."""

    @abstractmethod
    def start(self) -> None:
        """Begin to read and send the handshake."""

    @abstractmethod
    def close(self, drain_s: float = 0.0, linger_s: float = 0.0) -> None:
        """Send what is queued (for `drain_s` at most), tell the server, and wait for `linger_s` at most until it knows."""

    @abstractmethod
    def _queue(self, data: bytes) -> None:
        """Have bytes sent."""

    @abstractmethod
    def _release(self) -> None:
        """It is over: free what is held."""

    # Sending

    def wait_for_room(self) -> None:
        """Wait while the server takes nothing and enough is queued. Raises ConnectionClosed."""
        self._check_open()
        while self._queued_bytes > _QUEUE_BYTES:
            self._room.clear()
            self._room.wait()
            self._check_open()

    def enqueue(self, message: Message) -> None:
        """Queue a message without waiting: its place in the order is taken when this returns. Raises ConnectionClosed, and
        ClientError for a message that RTMP has no form for."""
        self._check_open()
        try:
            data = self.rtmp.send(message)
        except LocalProtocolError as error:
            raise ClientError(f"message to {self.peer}: {error}") from error
        self._queue(data)

    def send(self, message: Message) -> None:
        """Queue a message when there is room. Raises as `wait_for_room` and `enqueue` do."""
        self.wait_for_room()
        self.enqueue(message)

    def _check_open(self) -> None:
        if self._closing or self.closed.is_set():
            raise ConnectionClosed(f"{self.peer}: the connection is closed: {self.reason or CLOSED_HERE}")

    # Receiving

    def _received(self, data: bytes) -> None:
        """Give bytes to the state machine, and what comes of them to the owner. Raises RtmpError."""
        rtmp = self.rtmp
        rtmp.feed(data)
        while (event := rtmp.next_event(time.monotonic())) is not None:
            self._on_event(self, event)
        answers = rtmp.data_to_send()
        if answers and not self._closing:
            self._queue(answers)

    # Closing

    def _finish(self, reason: str) -> None:
        """It is over. A second call does nothing."""
        if self.closed.is_set():
            return
        self.reason = self.reason or reason
        self.closed.set()
        self._out.clear()
        self._queued_bytes = 0
        self._room.set()
        self._release()
        self._on_closed(self)
