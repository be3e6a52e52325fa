"""Connections of the balancer to the control endpoints of origins: one each, made when it is first needed."""

from typing import Any

from headwater_bus.node import Node
from headwater_bus.requests import Requester, RequestError


class Origins:
    """`ask` may be called by many greenlets at once."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._requesters: dict[str, tuple[str, Requester]] = {}

    def ask(self, origin: str, envelope: Any, timeout_s: float) -> Any:
        """Ask an origin. Raises RequestError, also where it is not in the table, and SecurityError."""
        info = self._node.view.nodes.get(origin)
        if info is None:
            raise RequestError(f"{origin} is not here")
        control = str(info.meta.get("control", ""))
        known = self._requesters.get(origin)
        if known is None or known[0] != info.boot + control:
            self.forget(origin)
            requester = Requester(self._node.context, self._node.security, control, origin)
            known = self._requesters[origin] = info.boot + control, requester
        return known[1].request(envelope, timeout_s)

    def forget(self, origin: str) -> None:
        """It is gone, or another process: whoever waits for an answer gets a RequestError."""
        known = self._requesters.pop(origin, None)
        if known is not None:
            known[1].close()

    def close(self) -> None:
        """Close all."""
        for origin in list(self._requesters):
            self.forget(origin)
