"""A socket and the RTMP state machine on it: one greenlet reads, one writes while there is something to write."""

import logging
import socket as constants
import time
from collections import deque
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.socket import socket as Socket  # noqa: N812
from headwater_rtmp.connection import Connection
from headwater_rtmp.connection import Event as RtmpEvent
from headwater_rtmp.errors import LocalProtocolError, RtmpError
from headwater_rtmp.message import Message

from headwater_client.errors import ClientError, ConnectionClosed

_RECEIVE_BYTES = 64 * 1024  # Larger ones the allocator maps and unmaps each time.
_QUEUE_BYTES = 256 * 1024
_log = logging.getLogger("headwater_client")

CLOSED_HERE = "closed here"
"""The reason when we have closed it."""


class Transport:
    """`on_event` is called in the reading greenlet, in order; while it waits, nothing is read (and no ping answered).
    `on_closed` is called once, when `reason` is set. `peer` names the server in error texts."""

    __slots__ = (
        "_closing",
        "_drained",
        "_on_closed",
        "_on_event",
        "_out",
        "_queued_bytes",
        "_reader",
        "_room",
        "_sock",
        "_writing",
        "closed",
        "peer",
        "reason",
        "rtmp",
    )

    def __init__(
        self,
        sock: Socket,
        rtmp: Connection,
        peer: str,
        on_event: Callable[[RtmpEvent], None],
        on_closed: Callable[["Transport"], None],
    ) -> None:
        self._sock = sock
        self.rtmp = rtmp
        self.peer = peer
        self._on_event, self._on_closed = on_event, on_closed
        self._out: deque[bytes] = deque()
        self._queued_bytes = 0
        self._room, self._drained = Event(), Event()
        self._writing = self._closing = False
        self._reader: gevent.Greenlet[[], None] | None = None
        self.closed = Event()
        self.reason = ""
        """Why it is closed."""

    def start(self) -> None:
        """Begin to read and send the handshake."""
        self._reader = gevent.spawn(self._read)
        self._queue(self.rtmp.data_to_send())

    # Sending

    def wait_for_room(self) -> None:
        """Wait while the socket is full and enough is queued before it. Raises ConnectionClosed."""
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

    def _queue(self, data: bytes) -> None:
        self._out.append(data)
        self._queued_bytes += len(data)
        if not self._writing:
            # A greenlet of its own: a sender that is killed or times out must not leave half a message on the wire.
            self._writing = True
            self._drained.clear()
            gevent.spawn(self._write)

    def _write(self) -> None:
        out = self._out
        try:
            while out and not self.closed.is_set():
                data = b"".join(out)
                out.clear()
                self._sock.sendall(data)
                self._queued_bytes -= len(data)
                self._room.set()
        except OSError as error:
            # What the server said before it closed may still be unread; the reader ends the connection.
            if self._reader is None or self._reader.dead:
                self._finish(_said(error))
            else:
                self._closing = True
                self.reason = self.reason or _said(error)
                out.clear()
                self._queued_bytes = 0
                self._room.set()
        finally:
            self._writing = False
            self._drained.set()

    # Receiving

    def _read(self) -> None:
        reason = "the server closed the connection"
        rtmp = self.rtmp
        try:
            while data := self._sock.recv(_RECEIVE_BYTES):
                rtmp.feed(data)
                while (event := rtmp.next_event(time.monotonic())) is not None:
                    self._on_event(event)
                answers = rtmp.data_to_send()
                if answers and not self._closing:
                    self._queue(answers)
                gevent.sleep(0)  # A socket that always has data would let nobody else run.
        except RtmpError as error:
            reason = f"the server broke the protocol: {error}"
        except OSError as error:
            reason = _said(error)
        except Exception as error:
            _log.exception("reading from %s failed", self.peer)
            reason = f"internal error: {error!r}"
        finally:
            self._finish(CLOSED_HERE if self._closing and not self.reason else reason)

    # Closing

    def close(self, drain_s: float = 0.0, linger_s: float = 0.0) -> None:
        """Send what is queued (for `drain_s` at most), tell the server, and wait for `linger_s` at most until it has closed as
        well. (Closing a socket with unread data would reset the connection: the server might lose what we sent last.)"""
        if self.closed.is_set():
            return
        self._closing = True
        try:
            if linger_s > 0 and not self.reason:
                if self._writing:
                    self._drained.wait(drain_s)
                self._sock.shutdown(constants.SHUT_WR)
                if gevent.getcurrent() is not self._reader:
                    self.closed.wait(linger_s)
        except OSError:
            pass  # It is closed already; that is what we want.
        finally:
            self._finish(CLOSED_HERE)

    def _finish(self, reason: str) -> None:
        if self.closed.is_set():
            return
        self.reason = self.reason or reason
        self.closed.set()
        self._out.clear()
        self._room.set()
        self._drained.set()
        self._sock.close()
        self._on_closed(self)


def _said(error: OSError) -> str:
    return f"connection lost: {error.strerror or error}"
