"""Connections of which nothing is known yet: their first bytes say what they are."""

import time
from typing import TYPE_CHECKING, Any

from headwater_edge.doors.door import Door
from headwater_edge.doors.proxy_protocol import ProxyError, parse_header
from headwater_edge.doors.refusals import log_refusal
from headwater_edge.doors.tls_socket import TlsSocket
from headwater_edge.outbox import READ

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_RECEIVE_BYTES = 64 * 1024
_TLS = 0x16
"""The first byte within TLS: a record of the handshake (RFC 8446, 5.1)."""
_HTTP = frozenset(b"CDGHOPT")
"""The first letters of its methods (CONNECT, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, TRACE). RTMP begins with its version:
3, or 6 to 9 for what is encrypted."""


class OpeningError(Exception):
    """The connection is none that the door takes; the text is for the log."""


class Opening:
    """A connection that was accepted and is counted by the edge's admission, until it is known what it speaks: then the edge has
    it, with what was read of it. Where it must wait for that, it is one of `edge.openings` meanwhile."""

    __slots__ = (
        "_data",
        "_deadline",
        "_door",
        "_edge",
        "_proxied",
        "_secure",
        "_sock",
        "_watcher",
        "_wrapped",
        "address",
    )

    def __init__(self, edge: "Edge", sock: Any, address: str, door: Door) -> None:
        self._edge, self._sock, self._door = edge, sock, door
        self.address = address
        self._deadline = time.monotonic() + edge.config.handshake_s
        self._data = b""
        """The first part of a PROXY header."""
        self._proxied = door.proxied
        """Whether the PROXY header is still to come."""
        self._secure = self._wrapped = False
        """Whether the client speaks TLS; and it does so with us, not with a load-balancer."""
        self._watcher: Any = None
        if door.proxied and address not in door.trusted:
            self._refuse("PROXY protocol: not from a network that --trust names")
        else:
            self._readable()

    def _readable(self) -> None:
        """The loop calls this: nothing may escape."""
        try:
            data = self._sock.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            self._wait()
        except ConnectionError:
            self.close()  # As a load-balancer's health check ends.
        except OSError as error:
            self._refuse(f"socket: {error.strerror}")
        else:
            if data:
                self._take(data)
            else:
                self.close()

    def _wait(self) -> None:
        if self._watcher is None:
            self._watcher = self._edge.loop.io(self._sock.fileno(), READ)
            self._watcher.start(self._readable)
            self._edge.openings.add(self)

    def _take(self, data: bytes) -> None:
        try:
            if self._proxied:
                data = self._without_header(self._data + data)
            if not data:
                self._wait()
            elif data[0] == _TLS and not self._wrapped:
                self._wrap(data)
            else:
                self._hand_over(data)
        except OpeningError as error:
            self._refuse(str(error))
        except Exception as error:
            self._edge.counters.internal_errors += 1
            self._refuse(f"internal error: {error!r}")

    def _without_header(self, data: bytes) -> bytes:
        """What comes behind the PROXY header, which names the client. Raises OpeningError."""
        try:
            header = parse_header(data)
        except ProxyError as error:
            raise OpeningError(f"PROXY protocol: {error}") from error
        if header is None:
            self._data = data
            return b""
        self._proxied, self._data = False, b""
        self._secure = header.secure
        if header.address:
            self._become(header.address)
        return data[header.size :]

    def _become(self, address: str) -> None:
        """It is from there, and counts so. Raises OpeningError."""
        admission = self._edge.admission
        admission.leave(self.address)
        if not admission.admits(address, address in self._door.trusted):
            admission.enter(self.address)
            raise OpeningError(f"too many connections from {address}")
        admission.enter(address)
        self.address = address

    def _wrap(self, data: bytes) -> None:
        """The rest is within TLS."""
        if self._door.tls is None:
            raise OpeningError("TLS, and there is no certificate: give --tls-cert and --tls-key")
        self._sock = TlsSocket(self._edge.loop, self._sock, self._door.tls.context, data)
        self._secure = self._wrapped = True
        self._readable()

    def _hand_over(self, data: bytes) -> None:
        if not (self._wrapped or self._door.plain):
            raise OpeningError("plain bytes, expected TLS: this port takes nothing else (--rtmps-port)")
        self._stop()
        if data[0] in _HTTP:
            self._edge.open_http(self._sock, self.address, data, self._secure, self._door.trusted)
        else:
            self._edge.open_rtmp(self._sock, self.address, data, self._secure)
        self._sock = None

    def _stop(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
            self._edge.openings.discard(self)

    # The end

    def check(self, now: float) -> None:
        """Close it, if it has said nothing for too long. `now`: monotonic seconds."""
        if now > self._deadline and self._sock is not None:
            self._refuse(f"nothing to know it by within {self._edge.config.handshake_s:g} s")

    def _refuse(self, reason: str) -> None:
        self._edge.counters.connections_refused += 1
        log_refusal("connection refused", self.address, reason)
        self.close()

    def close(self) -> None:
        """Close it. It does nothing any more once it is closed, or the edge has it."""
        if self._sock is not None:
            self._stop()
            self._sock.close()
            self._sock = None
            self._edge.admission.leave(self.address)
