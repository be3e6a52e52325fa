"""Sockets whose client is closed: what was queued leaves, then our half is closed, then the client's.

Closing a socket with unread bytes at once would reset the connection and take the last status from the client.
"""

import socket
from collections.abc import Callable
from typing import Any

from headwater_edge.client import READ, WRITE, Pieces, send_pieces

_DISCARDED_BYTES = 64 * 1024


class Parting:
    """One such socket. `on_done(parting)` is called once, when the socket is closed: by the client, or by `end()`."""

    __slots__ = ("_loop", "_on_done", "_out", "_sock", "_watcher", "address", "deadline")

    def __init__(
        self,
        loop: Any,
        sock: Any,
        address: str,
        out: Pieces | None,
        on_done: "Callable[[Parting], None]",
    ) -> None:
        self._sock, self.address = sock, address
        self.deadline = 0.0
        """Monotonic seconds; the owner calls `end()` then."""
        self._out: Pieces = out if out is not None else Pieces()
        self._on_done = on_done
        self._watcher: Any = None
        self._loop = loop
        self._send()

    def _send(self) -> None:
        """Send what is left, then close our half and wait for the client's."""
        try:
            while self._out:
                send_pieces(self._sock, self._out)
            self._sock.shutdown(socket.SHUT_WR)
        except (BlockingIOError, InterruptedError):
            self._watch(READ | WRITE)
        except OSError:
            self.end()
        else:
            self._watch(READ)

    def _watch(self, events: int) -> None:
        self._unwatch()
        self._watcher = self._loop.io(self._sock.fileno(), events)
        self._watcher.start(self._ready)

    def _unwatch(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def _ready(self) -> None:
        try:
            if not self._sock.recv(_DISCARDED_BYTES):
                self.end()
                return
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.end()
            return
        if self._out:
            self._send()

    @property
    def ended(self) -> bool:
        """Whether the socket is closed."""
        return bool(self._sock.fileno() < 0)

    def end(self) -> None:
        """Close the socket now."""
        if not self.ended:
            self._unwatch()
            self._out.clear()
            self._sock.close()
            self._on_done(self)
