"""Sockets whose client is closed: what was queued leaves, then our half is closed, then the client's.

Closing a socket with unread bytes at once would reset the connection and take the last status from the client.
"""

import socket
from collections.abc import Callable
from typing import Any

from headwater_edge.outbox import READ, Outbox

_DISCARDED_BYTES = 64 * 1024


class LingeringSocket:
    """One such socket. `on_done(lingering)` is called once, when the socket is closed: by the client, or by `end()`; this may
    be before the constructor returns. `deadline` is monotonic seconds; the owner calls `end()` then."""

    __slots__ = ("_on_done", "_outbox", "_reader", "_sock", "address", "deadline")

    def __init__(
        self,
        loop: Any,
        sock: Any,
        address: str,
        outbox: Outbox | None,
        deadline: float,
        on_done: "Callable[[LingeringSocket], None]",
    ) -> None:
        self._sock, self.address, self.deadline = sock, address, deadline
        self._on_done = on_done
        self._outbox = outbox
        if outbox is not None:
            outbox.on_writable = self._send
        self._reader: Any = loop.io(sock.fileno(), READ)
        self._reader.start(self._discard)
        self._send()

    def _send(self) -> None:
        """Send what is left, then close our half and wait for the client's."""
        try:
            if self._outbox is not None:
                self._outbox.send()
                if self._outbox.backlog_bytes:
                    return
                self._outbox = None
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.end()

    def _discard(self) -> None:
        try:
            if not self._sock.recv(_DISCARDED_BYTES):
                self.end()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.end()

    @property
    def ended(self) -> bool:
        """Whether the socket is closed."""
        return bool(self._sock.fileno() < 0)

    def end(self) -> None:
        """Close the socket now. Calling it again does nothing."""
        if self.ended:
            return
        self._reader.stop()
        self._reader.close()
        if self._outbox is not None:
            self._outbox.stop()
            self._outbox = None
        self._sock.close()
        self._on_done(self)
