"""A TCP proxy that a test puts between two processes, to cut what runs through it: loudly, or without a word."""

import socket as constants
import struct
from collections.abc import Callable
from enum import StrEnum

import gevent
from gevent.event import Event
from gevent.server import StreamServer
from gevent.socket import create_connection, socket

_RECEIVE_BYTES = 64 * 1024
_BACKLOG = 256
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with 0 s: closing sends RST, whatever is on its way."""
Address = tuple[str, int]


class Cut(StrEnum):
    """How a link fails."""

    RESET = "reset"
    """Connections are reset, new ones are refused: the machine is there, and nobody listens."""
    SILENT = "silent"
    """Nothing passes, and nobody is told: a cable is pulled. What was sent arrives when it is put back."""


class Proxy:
    """Passes on to `target` whatever connects to `listen` (port 0: any). `before` runs for each new connection, before
    anything passes, and may wait. It listens from `open` to `close`."""

    def __init__(self, listen: Address, target: Address, before: Callable[[], None] | None = None) -> None:
        self._listen, self.target, self._before = listen, target, before
        self._pairs: set[tuple[socket, socket]] = set()
        self._flowing = Event()
        self._flowing.set()
        self._server: StreamServer | None = None
        self.passed_bytes = 0

    def open(self) -> "Proxy":
        """Listen."""
        listener = _listener(self._listen)
        self._listen = listener.getsockname()
        self._server = StreamServer(listener, self._accept)
        self._server.start()
        return self

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._listen

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._pairs)

    def cut(self, how: Cut) -> None:
        """Fail from now on, until `heal`."""
        if how == Cut.SILENT:
            self._flowing.clear()
        else:
            self._stop_listening()
            self._reset()

    def heal(self) -> None:
        """Work again."""
        self._flowing.set()
        if self._server is None:
            self.open()

    def close(self) -> None:
        """End it, and every connection."""
        self._stop_listening()
        self._reset()
        self._flowing.set()

    def _stop_listening(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _reset(self) -> None:
        pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                reset(end)

    def _accept(self, near: socket, _: object) -> None:
        self._flowing.wait()
        if self._before is not None:
            self._before()
        try:
            far = create_connection(self.target)
        except OSError:
            reset(near)
            return
        for end in (near, far):
            end.setsockopt(constants.IPPROTO_TCP, constants.TCP_NODELAY, 1)
        pair = (near, far)
        self._pairs.add(pair)
        pumps = [gevent.spawn(self._pump, near, far), gevent.spawn(self._pump, far, near)]
        gevent.joinall(pumps)
        self._pairs.discard(pair)
        near.close()
        far.close()

    def _pump(self, source: socket, sink: socket) -> None:
        try:
            while data := source.recv(_RECEIVE_BYTES):
                self._flowing.wait()
                sink.sendall(data)
                self.passed_bytes += len(data)
            sink.shutdown(constants.SHUT_WR)
        except OSError:
            # One side was reset, by its owner or by us: so is the other.
            reset(source)
            reset(sink)


def _listener(address: Address) -> socket:
    listener = socket()
    listener.setsockopt(constants.SOL_SOCKET, constants.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(_BACKLOG)
    return listener


def reset(end: socket) -> None:
    """Close a connection with RST; what was not sent yet is lost."""
    try:
        end.setsockopt(constants.SOL_SOCKET, constants.SO_LINGER, _RESET_AT_CLOSE)
    except OSError:
        return  # It is closed already.
    end.close()
