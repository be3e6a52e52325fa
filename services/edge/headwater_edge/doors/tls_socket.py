"""The server's side of TLS on a socket, which looks like a socket without."""

import errno
import socket
import ssl
from collections.abc import Iterable
from typing import Any

from headwater_edge.outbox import WRITE

_BLOCK_BYTES = 64 * 1024
_MOST_PENDING_BYTES = 4 * _BLOCK_BYTES
"""So much waits at most: one block of what was to be sent, and what the protocol itself has to say."""


class TlsSocket:
    """A non-blocking socket that was accepted; this owns it. `received`: what was read of it already.

    What waits in the socket shows at its file descriptor as ever: `recv` returns all that it has decrypted, more than it was
    asked for if need be, and keeps nothing back. What `send` has taken and the socket has not yet is kept here, a block at most,
    and leaves by itself. Nothing may be sent before something was received. `loop` is gevent's.
    """

    __slots__ = (
        "_failure",
        "_in",
        "_loop",
        "_out",
        "_pending",
        "_sock",
        "_tls",
        "_unread",
        "_watcher",
        "_write_ended",
    )

    def __init__(self, loop: Any, sock: Any, context: ssl.SSLContext, received: bytes = b"") -> None:
        self._loop, self._sock = loop, sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._unread = received
        self._pending = b""
        """Encrypted, for the socket; then `_watcher` waits until it takes more."""
        self._watcher: Any = None
        self._failure: OSError | None = None
        """What the next `recv` raises."""
        self._write_ended = False

    def fileno(self) -> int:
        """That of the socket."""
        return int(self._sock.fileno())

    def setsockopt(self, *option: Any) -> None:
        """Of the socket."""
        self._sock.setsockopt(*option)

    # Reading

    def recv(self, size: int) -> bytes:
        """Receive `size` bytes or less of the socket, and return what they hold, empty at the end. Raises BlockingIOError, also
        while they hold nothing yet, and OSError."""
        if self._failure is not None:
            raise self._failure
        received, self._unread = self._unread or self._sock.recv(size), b""
        if not received or self._write_ended:
            return received  # Whoever has ended its half only waits for the other's end.
        self._in.write(received)
        data, ended = self._decrypt()
        self._flush()
        if len(self._pending) > _MOST_PENDING_BYTES:
            raise OSError(errno.ENOBUFS, "TLS: it asks for more answers than it reads")
        if data:
            if ended:
                # That was in what was received, and would not show at the file descriptor again.
                self._sock.shutdown(socket.SHUT_RD)
            return data
        if self._failure is not None:
            raise self._failure
        if ended:
            return b""
        raise BlockingIOError

    def _decrypt(self) -> tuple[bytes, bool]:
        """What was received holds, and whether nothing more can come: the other half has ended, or has failed."""
        pieces: list[bytes] = []
        ended = True
        try:
            while piece := self._tls.read(_BLOCK_BYTES):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            ended = False
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError as error:
            self._failure = _failure(error)
        return b"".join(pieces), ended

    # Writing

    def send(self, data: bytes | memoryview) -> int:
        """Send as much as the socket takes, and up to a block more; returns how much. Raises BlockingIOError while a block
        waits, and OSError."""
        self._flush()
        view = memoryview(data)
        sent = 0
        while sent < len(view) and not self._pending:
            try:
                sent += self._tls.write(view[sent : sent + _BLOCK_BYTES])
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                raise _failure(error) from error
            self._flush()
        if not sent and len(view):
            raise BlockingIOError
        return sent

    def sendmsg(self, pieces: Iterable[bytes | memoryview]) -> int:
        """The same, of the first of these pieces: a block or little more."""
        block: list[bytes | memoryview] = []
        size = 0
        for piece in pieces:
            block.append(piece)
            size += len(piece)
            if size >= _BLOCK_BYTES:
                break
        return self.send(block[0] if len(block) == 1 else b"".join(block))

    def _flush(self) -> None:
        """Give the socket what is encrypted, and watch for the rest. Raises OSError."""
        if self._out.pending:
            self._pending += self._out.read()
        if not self._pending:
            return
        try:
            self._pending = self._pending[self._sock.send(self._pending) :]
        except (BlockingIOError, InterruptedError):
            pass
        if not self._pending:
            self._unwatch()
        elif self._watcher is None:
            self._watcher = self._loop.io(self._sock.fileno(), WRITE)
            self._watcher.start(self._writable)

    def _writable(self) -> None:
        try:
            self._flush()
            if self._write_ended and not self._pending:
                self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._unwatch()  # It shows at the file descriptor, too.

    def _unwatch(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    # The end

    def shutdown(self, how: int) -> None:
        """End our half (SHUT_WR) as soon as everything has left. Raises OSError."""
        if how != socket.SHUT_WR:
            raise ValueError(f"shutdown({how}): only the half that is written can be ended, SHUT_WR")
        if not self._write_ended:
            self._write_ended = True
            try:
                self._tls.unwrap()
            except (ssl.SSLError, ValueError):
                pass  # The other half has not ended, or the handshake has failed.
            self._flush()
        if not self._pending:
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket. Calling it again does nothing."""
        self._unwatch()
        self._sock.close()


def _failure(error: ssl.SSLError) -> OSError:
    reason = (error.reason or str(error)).lower().replace("_", " ")
    return OSError(errno.EPROTO, f"TLS: {reason}")
