"""Turns: a client that has sent very much goes on after the loop has looked at all others."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater_edge.client import Client


class Turns:
    """The clients that wait for their next turn. A timer that is due at once comes behind what the loop has found ready."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._waiting: list[Client] = []
        self._timer: Any = None

    def add(self, client: "Client") -> None:
        """Have `client.go_on()` called once; it must not raise."""
        self._waiting.append(client)
        if self._timer is None:
            self._timer = self._loop.timer(0.0)
            self._timer.start(self._give)

    def _give(self) -> None:
        self._timer.stop()
        self._timer.close()
        self._timer = None
        waiting, self._waiting = self._waiting, []
        for client in waiting:
            client.go_on()
