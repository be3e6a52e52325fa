"""Which nodes are dead, found out at once where that can be known: nobody listens any more where the node did. A machine that
answers so is there, and its process is not. No answer says nothing, and the node's lease decides.
"""

import re
from collections.abc import Callable

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool
from headwater_bus.view import NodeInfo

CONNECT_S = 0.2
SWEEP_S = 0.05
"""At most so often is a suspect looked at."""
_LOOKS = (0.0, 0.02, 0.03, 0.05, 0.1, 0.1, 0.2, 0.2, 0.3, 0.5)
"""Pauses before looks: a process that was killed needs a core to die, and closes its sockets one after the other; where cores are
busy it was seen to listen for half a second more. From then on the lease decides."""
_AT_ONCE = 100
_TCP = re.compile(r"tcp://(\[[^\]]+\]|[^:/]+):(\d+)")


def control_endpoint(node: NodeInfo) -> str:
    """Where to look for a node; empty where there is nothing to connect to by TCP."""
    control = node.meta.get("control")
    endpoint = control if isinstance(control, str) and control else node.endpoint
    return endpoint if _TCP.fullmatch(endpoint) else ""


def listens(endpoint: str) -> bool | None:
    """Whether somebody accepts connections at a TCP endpoint; None: no answer."""
    found = _TCP.fullmatch(endpoint)
    if found is None:
        return None
    address = found.group(1).strip("[]"), int(found.group(2))
    try:
        connection = socket.create_connection(address, timeout=CONNECT_S)
    except ConnectionRefusedError:
        return False
    except (OSError, UnicodeError):
        return None
    with connection:
        # A port that nobody listens on, and that the kernel has just given to this very connection, is connected to itself.
        return bool(connection.getsockname() != connection.getpeername())


class Deaths:
    """`suspect` and `reach` return at once; `died` or `reached` is called with the node, when and if that turns out."""

    def __init__(self, died: Callable[[NodeInfo], None], reached: Callable[[NodeInfo], None]) -> None:
        self._died, self._reached = died, reached
        self._suspects: dict[str, NodeInfo] = {}
        self._looked_at: set[str] = set()
        self._new: dict[str, NodeInfo] = {}
        self._wake = Event()
        self._pool = Pool(_AT_ONCE)

    def suspect(self, node: NodeInfo) -> None:
        """Somebody has lost a connection to it."""
        if control_endpoint(node):
            self._suspects[node.node_id] = node
            self._wake.set()

    def reach(self, node: NodeInfo) -> None:
        """It is new: can it be reached?"""
        if control_endpoint(node):
            self._new[node.node_id] = node
            self._wake.set()

    def forget(self) -> None:
        """Nobody wants to know any more."""
        self._suspects.clear()
        self._new.clear()

    def run(self) -> None:
        """Job: look, for ever."""
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._new:
                self._pool.spawn(self._look_first, self._new.popitem()[1])
            # Who is looked at already is looked at once more when that is over.
            for node in [node for name, node in self._suspects.items() if name not in self._looked_at]:
                del self._suspects[node.node_id]
                self._looked_at.add(node.node_id)
                self._pool.spawn(self._look, node)
            gevent.sleep(SWEEP_S)

    def _look(self, node: NodeInfo) -> None:
        try:
            for pause_s in _LOOKS:
                gevent.sleep(pause_s)
                if listens(control_endpoint(node)) is False:
                    self._died(node)
                    break
        finally:
            self._looked_at.discard(node.node_id)
            if self._suspects:
                self._wake.set()

    def _look_first(self, node: NodeInfo) -> None:
        if listens(control_endpoint(node)):
            self._reached(node)
