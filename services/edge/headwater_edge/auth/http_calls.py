"""Requests to HTTP servers of the operator, from greenlets.

The standard library's `http.client` on gevent's sockets: it takes a socket that it is given (urllib3 and requests wait for gevent
only where the whole process is patched), and brings nothing along. It follows no redirects, and no proxy settings of the
environment. Names are resolved by gevent's threads, so a name server that hangs holds up nobody else.
"""

import http.client
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent.select
import gevent.socket
import gevent.ssl

_PORTS = {"http": 80, "https": 443}
_IDLE_S = 4.0
"""Servers close connections that are idle for longer; the usual least is 5 s."""
_MOST_IDLE = 16
"""Connections to one server that are kept; more are closed after their request."""
_ANSWER_BYTES = 64 * 1024
"""A connection whose answer is longer is closed instead of read on."""


class UrlError(ValueError):
    """An address that cannot be asked; the text is for the operator, and holds no query."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. `path` has the query, which may hold a secret."""

    secure: bool
    host: str
    port: int
    path: str = field(repr=False)

    @property
    def server(self) -> tuple[bool, str, int]:
        """What one connection leads to."""
        return self.secure, self.host, self.port


def parse_target(url: str) -> Target:
    """`http[s]://HOST[:PORT][/PATH][?QUERY]`. Raises UrlError."""
    form = "expected http[s]://HOST[:PORT]/PATH"
    if not url.isascii() or not url.isprintable() or " " in url:
        raise UrlError(f"a character that has to be written as %XX; {form}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UrlError(f"{error}; {form}") from error
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise UrlError(form)
    if "@" in parts.netloc:
        raise UrlError(f"user and password are not sent; {form}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", parts.hostname, port or _PORTS[parts.scheme], path)


def tls_context(authorities: Path | None = None) -> ssl.SSLContext:
    """For servers whose certificates are verified, by the system's authorities or by those in a file (PEM). Raises OSError."""
    context: ssl.SSLContext = gevent.ssl.create_default_context(
        cafile=None if authorities is None else str(authorities)
    )
    return context


class _Connection(http.client.HTTPConnection):
    def __init__(self, target: Target, context: ssl.SSLContext | None) -> None:
        super().__init__(target.host, target.port)
        self._context = context

    def connect(self) -> None:
        sock: Any = gevent.socket.create_connection((self.host, self.port))
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    @property
    def ended(self) -> bool:
        """Whether the server has closed it, or said what nobody asked: some say 408 before they close."""
        # Not select(), which takes no file over 1024.
        looking = gevent.select.poll()
        looking.register(self.sock, select.POLLIN)
        return bool(looking.poll(0))


class HttpCalls:
    """Posts forms, and keeps connections for those to come. `context`: for https."""

    def __init__(self, context: ssl.SSLContext, clock: Callable[[], float] = time.monotonic) -> None:
        self._context, self._clock = context, clock
        self._idle: dict[tuple[bool, str, int], list[tuple[_Connection, float]]] = {}

    def post(self, target: Target, body: bytes) -> int:
        """The status that the server answers with. Waits for it, without an end: the caller has a timeout. A kept connection that
        the server has closed meanwhile costs a second try on a new one. Raises OSError, HTTPException."""
        kept = self._kept(target)
        if kept is not None:
            try:
                return self._exchange(kept, target, body)
            except OSError:
                pass
        context = self._context if target.secure else None
        return self._exchange(_Connection(target, context), target, body)

    def close(self) -> None:
        """Close the connections that are kept."""
        for kept in self._idle.values():
            for connection, _ in kept:
                connection.close()
        self._idle.clear()

    def _exchange(self, connection: _Connection, target: Target, body: bytes) -> int:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "headwater-edge"}
        try:
            connection.request("POST", target.path, body, headers)
            response = connection.getresponse()
            response.read(_ANSWER_BYTES)
        except BaseException:
            # A timeout, too: what comes later would be taken for the next answer.
            connection.close()
            raise
        if response.isclosed() and not response.will_close:
            self._keep(target, connection)
        else:
            response.close()
            connection.close()
        return response.status

    def _kept(self, target: Target) -> _Connection | None:
        kept = self._idle.get(target.server, [])
        while kept:
            connection, since = kept.pop()
            if self._clock() - since <= _IDLE_S and not connection.ended:
                return connection
            connection.close()
        return None

    def _keep(self, target: Target, connection: _Connection) -> None:
        kept = self._idle.setdefault(target.server, [])
        kept.append((connection, self._clock()))
        if len(kept) > _MOST_IDLE:
            # The one that was idle for the longest.
            kept.pop(0)[0].close()
