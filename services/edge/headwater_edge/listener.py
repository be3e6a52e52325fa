"""TCP listeners on gevent's loop: accept what waits, hand each socket over, no greenlet."""

import _socket
import errno
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import gevent
from headwater_bus.logs import get_log

_log = get_log("edge")
_ACCEPTS_PER_EVENT = 64
_READ = 1
_REST_S = 0.1
_LOG_EVERY_S = 10.0
_PORTS = "--base-port, --rtmp-port, --own-port, --rtmpt-port, --rtmps-port, --proxy-port"
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

OnAccept = Callable[[Any, str], None]


class ListenError(Exception):
    """A listener that cannot be opened; the text is for the operator."""


def shown(host: str, port: int) -> str:
    """HOST:PORT as in URLs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Listener:
    """One listening socket on an IP address. `shared`: other processes of this machine may listen on the same port.
    Raises ListenError."""

    def __init__(
        self, host: str, port: int, on_accept: OnAccept, *, shared: bool = False, backlog: int = 4096
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The bare socket type: gevent's own would add watchers and Python frames to every call.
        self._sock: Any = _socket.socket(family, socket.SOCK_STREAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # So that `::` and `0.0.0.0` can be given both, and addresses of clients have one form each.
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Those that are accepted have it from this one.
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._sock.bind((host, port))
            self._sock.listen(backlog)
        except OSError as error:
            self._sock.close()
            raise ListenError(f"cannot listen on {shown(host, port)}: {_reason(error)}") from error
        self._sock.setblocking(False)
        self.host, self.port = host, int(self._sock.getsockname()[1])
        self._on_accept = on_accept
        self._loop: Any = gevent.get_hub().loop
        self._watcher: Any = self._loop.io(self._sock.fileno(), _READ)
        self._watcher.start(self._accept)
        self._rest: Any = None
        self._logged_at = -_LOG_EVERY_S

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_EVENT):
            try:
                fd, address = self._sock._accept()
            except OSError as error:
                # Nothing more waits, or a client went away before its turn; the next event tries again.
                if error.errno in _EXHAUSTED:
                    self._exhausted(error)
                return
            try:
                # What is not told here it would ask the system for.
                sock = _socket.socket(self._sock.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fd)
            except OSError:
                os.close(fd)
                continue
            try:
                self._on_accept(sock, address[0])
            except Exception as error:
                # gevent stops a watcher whose callback raises, and nobody could connect any more.
                _log.error("internal error", accepting=address[0], error=repr(error))
                sock.close()

    def _exhausted(self, error: OSError) -> None:
        """The process is out of files or memory. Who waits stays in the queue and the watcher, level-triggered, would fire
        without end: look away for a moment."""
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            _log.error("cannot accept", listener=shown(self.host, self.port), error=error.strerror)
        self._watcher.stop()
        self._rest = self._loop.timer(_REST_S)
        self._rest.start(self._rested)

    def _rested(self) -> None:
        self._stop_rest()
        self._watcher.start(self._accept)

    def _stop_rest(self) -> None:
        if self._rest is not None:
            self._rest.stop()
            self._rest.close()
            self._rest = None

    def close(self) -> None:
        """Stop listening. Calling it again does nothing."""
        if self._watcher is not None:
            self._stop_rest()
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
            self._sock.close()


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"another program listens there; choose another port ({_PORTS}) or stop it"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; give one that it has to --listen"
    if error.errno == errno.EACCES:
        return f"ports below 1024 need privileges; choose another port ({_PORTS})"
    return f"{error.strerror}; give another address to --listen"


def resolve(host: str) -> str:
    """The IP address that an operator means by a name or an address (IPv6 also in brackets). Raises ListenError."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        if not bare:
            raise UnicodeError  # getaddrinfo would take it for every address.
        # Not gevent's: its threads print a traceback for a name that has no form as bytes.
        found = _socket.getaddrinfo(bare, None, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ListenError(
            f"--listen {host}: this machine knows no such name; give an IP address or a name that it knows"
        ) from None
    # IPv4 first: what `localhost` means to most programs.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return str(found[0][4][0])
