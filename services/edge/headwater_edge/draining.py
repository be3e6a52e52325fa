"""An edge that is to end lets go of its clients: those of RTMPT go on at another edge at once, those that understand it are
asked to connect elsewhere, the rest has time until a deadline."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import gevent
from headwater_bus.control import DrainEdge, EdgeDrain
from headwater_bus.logs import get_log
from headwater_bus.requests import Caller
from headwater_rtmp.capabilities import CapsEx, parse_capabilities
from headwater_rtmp.command import decode_command

from headwater_edge.client import Client, Phase

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_log = get_log("edge")
_LOOK_S = 0.1


class Draining:
    """`stop_listening()` closes the listeners; `stop()` ends the process, when nobody is left, where that was asked for."""

    def __init__(self, edge: "Edge", stop_listening: Callable[[], None], stop: Callable[[], None]) -> None:
        self._edge = edge
        self._stop_listening, self._stop = stop_listening, stop
        self._stops = self._waits = False
        self._total = 0
        self._until: float | None = None
        """Monotonic seconds; None: it is not being drained."""

    def answer(self, caller: Caller, request: DrainEdge) -> EdgeDrain:
        """An operator's request."""
        now = time.monotonic()
        if request.deadline_s >= 0:
            if self._until is None:
                self._begin()
            self._until = now + request.deadline_s
            self._stops = self._stops or request.stop
            if not self._waits:
                self._waits = True
                gevent.spawn(self._wait)
        left_s = -1.0 if self._until is None else max(0.0, self._until - now)
        return EdgeDrain(self._left, self._total, left_s)

    @property
    def _left(self) -> int:
        return len(self._edge.clients)

    def _begin(self) -> None:
        self._total = self._left
        _log.info("draining", clients=self._total)
        self._stop_listening()
        self._edge.let_go()

    def _wait(self) -> None:
        """Greenlet: until nobody is left, or the time is over: who is left then is closed."""
        edge = self._edge
        while self._left and self._until is not None and time.monotonic() < self._until:
            gevent.sleep(_LOOK_S)
        left = list(edge.clients.values())
        edge.close_clients(left, "this edge ends")
        _log.info("drained", closed=sum(client.closed for client in left))
        self._waits = False
        if self._stops:
            self._stop()


def can_reconnect(client: Client) -> bool:
    """Whether a client does as a ReconnectRequest asks (Enhanced RTMP v2); one by RTMPT need not."""
    if client.holds or client.phase != Phase.CONNECTED or client.connect is None:
        return False
    capabilities = parse_capabilities(decode_command(client.connect).command_object)
    return bool(capabilities.caps_ex & CapsEx.RECONNECT)
