"""RTMP and RTMPS: a socket, one greenlet that reads, and one that writes while there is something to write."""

import logging
import socket as constants
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.socket import socket as Socket  # noqa: N812
from headwater_rtmp.connection import Connection
from headwater_rtmp.connection import Event as RtmpEvent
from headwater_rtmp.errors import RtmpError

from headwater_client.dialing import error_text
from headwater_client.transport import CLOSED_HERE, SERVER_CLOSED, Transport

_RECEIVE_BYTES = 64 * 1024  # Larger ones the allocator maps and unmaps each time.
_log = logging.getLogger("headwater_client")


class TcpTransport(Transport):
    """See the module. The socket is connected, and within TLS where it shall be."""

    __slots__ = ("_drained", "_reader", "_sock", "_writing")

    def __init__(
        self,
        sock: Socket,
        rtmp: Connection,
        peer: str,
        on_event: Callable[[Transport, RtmpEvent], None],
        on_closed: Callable[[Transport], None],
    ) -> None:
        super().__init__(rtmp, peer, on_event, on_closed)
        self._sock = sock
        self._drained = Event()
        self._writing = False
        self._reader: gevent.Greenlet[[], None] | None = None

    def start(self) -> None:
        self._reader = gevent.spawn(self._read)
        self._queue(self.rtmp.data_to_send())

    # Sending

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
                self._queued_bytes = max(0, self._queued_bytes - len(data))
                self._room.set()
        except OSError as error:
            # What the server said before it closed may still be unread; the reader ends the connection.
            if self._reader is None or self._reader.dead:
                self._finish(_lost(error))
            else:
                self._closing = True
                self.reason = self.reason or _lost(error)
                out.clear()
                self._queued_bytes = 0
                self._room.set()
        finally:
            self._writing = False
            self._drained.set()

    # Receiving

    def _read(self) -> None:
        reason = SERVER_CLOSED
        try:
            while data := self._sock.recv(_RECEIVE_BYTES):
                self._received(data)
                gevent.sleep(0)  # A socket that always has data would let nobody else run.
        except RtmpError as error:
            reason = f"the server broke the protocol: {error}"
        except OSError as error:
            reason = _lost(error)
        except Exception as error:
            _log.exception("reading from %s failed", self.peer)
            reason = f"internal error: {error!r}"
        finally:
            self._finish(CLOSED_HERE if self._closing and not self.reason else reason)

    # Closing

    def close(self, drain_s: float = 0.0, linger_s: float = 0.0) -> None:
        """Closing a socket with unread data would reset the connection: the server might lose what we sent last. So only our
        direction is ended at first."""
        if self.closed.is_set():
            return
        self._closing = True
        try:
            if linger_s > 0 and not self.reason:
                if self._writing:
                    self._drained.wait(drain_s)
                # Of the socket below TLS: what the server still sends is to be understood.
                Socket.shutdown(self._sock, constants.SHUT_WR)
                if gevent.getcurrent() is not self._reader:
                    self.closed.wait(linger_s)
        except OSError:
            pass  # It is closed already; that is what we want.
        finally:
            self._finish(CLOSED_HERE)

    def _release(self) -> None:
        self._drained.set()
        self._sock.close()


def _lost(error: OSError) -> str:
    return f"connection lost: {error_text(error)}"
