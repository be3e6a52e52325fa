"""TCP listeners on gevent's loop: accept what waits, hand each socket over, no greenlet."""

import _socket
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import gevent

_ACCEPTS_PER_EVENT = 64
_READ = 1

OnAccept = Callable[[_socket.socket, str], None]


class ListenError(Exception):
    """A listener that cannot be opened; the text is for the operator."""


class Listener:
    """One listening socket. `shared`: other processes of this machine may listen on the same port."""

    def __init__(
        self, host: str, port: int, on_accept: OnAccept, *, shared: bool = False, backlog: int = 4096
    ):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The bare socket type: gevent's own would add watchers and Python frames to every call.
        self._sock: Any = _socket.socket(family, socket.SOCK_STREAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            self._sock.bind((host, port))
            self._sock.listen(backlog)
        except OSError as error:
            self._sock.close()
            raise ListenError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another port (--base-port) or stop what uses it"
            ) from error
        self._sock.setblocking(False)
        self.host, self.port = host, self._sock.getsockname()[1]
        self._on_accept = on_accept
        self._watcher = gevent.get_hub().loop.io(self._sock.fileno(), _READ)
        self._watcher.start(self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_EVENT):
            try:
                fd, address = self._sock._accept()
            except OSError:
                # Nothing more waits, the client went away, or the process is out of files: the next event tries again.
                return
            sock = _socket.socket(fileno=fd)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._on_accept(sock, address[0])

    def close(self) -> None:
        """Stop listening."""
        self._watcher.stop()
        self._watcher.close()
        self._sock.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
