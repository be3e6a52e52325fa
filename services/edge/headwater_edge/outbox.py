"""What waits to be sent on a socket: the queue, and the watcher that waits until the socket takes more."""

import _socket
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

READ, WRITE = 1, 2
"""Events of gevent's io watchers."""
_PIECES_PER_SEND = 64


class Outbox:
    """Bytes that wait for a non-blocking socket, whole chunks at a time. The socket is its owner's.

    Once `send` has found the socket full, the loop calls `on_writable()` whenever it takes more: that is to call `send`, and
    must not raise. `backlog_bytes` is 0 exactly when nothing waits; then nothing is watched either.
    """

    __slots__ = ("_loop", "_pieces", "_sock", "_watcher", "backlog_bytes", "on_writable")

    def __init__(self, loop: Any, sock: _socket.socket, on_writable: Callable[[], None]) -> None:
        self._loop, self._sock = loop, sock
        self.on_writable = on_writable
        self.backlog_bytes = 0
        self._pieces: deque[bytes | memoryview] = deque()
        self._watcher: Any = None

    @property
    def full(self) -> bool:
        """Whether the socket took no more when it was last asked; `on_writable` is due."""
        return self._watcher is not None

    def put(self, data: bytes) -> int:
        """Queue whole chunks (at least one byte); nothing is sent yet. Returns how many bytes wait now."""
        self._pieces.append(data)
        waiting = self.backlog_bytes = self.backlog_bytes + len(data)
        return waiting

    def put_rest(self, data: bytes, sent: int) -> None:
        """Queue what is left of whole chunks of which the owner has sent `sent` bytes by itself. Only into an empty queue."""
        self._pieces.append(memoryview(data)[sent:] if sent else data)
        self.backlog_bytes += len(data) - sent
        self._watch()

    def send(self) -> int:
        """Send what the socket takes at once; returns the bytes. What is left is watched for. Raises OSError: the socket is
        broken, and nothing more will be sent."""
        try:
            sent = self._send_pieces()
        except (BlockingIOError, InterruptedError):
            sent = 0
        self.backlog_bytes -= sent
        if self.backlog_bytes:
            self._watch()
        elif self._watcher is not None:
            self.stop()
        return sent

    def _send_pieces(self) -> int:
        pieces = self._pieces
        if len(pieces) == 1:
            total = self._sock.send(pieces[0])
        else:
            total = self._sock.sendmsg(list(islice(pieces, _PIECES_PER_SEND)))
        if total == self.backlog_bytes:
            pieces.clear()
            return total
        left = total
        while pieces:
            first = pieces[0]
            if left < len(first):
                if left:
                    pieces[0] = memoryview(first)[left:]
                break
            left -= len(first)
            pieces.popleft()
        return total

    def drop(self) -> None:
        """Forget what is queued behind the piece that is under way, so that what comes next begins a chunk."""
        pieces = self._pieces
        # Only the first piece can be sent in part, and is a view then.
        started = pieces[0] if pieces and type(pieces[0]) is memoryview else None
        pieces.clear()
        self.backlog_bytes = 0
        if started is not None:
            pieces.append(started)
            self.backlog_bytes = len(started)

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = self._loop.io(self._sock.fileno(), WRITE)
            self._watcher.start(self.on_writable)

    def stop(self) -> None:
        """Watch no more: before the socket is closed (its number may be another's at once), or has another owner, who sets
        `on_writable` and sends."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
