"""Calls that come a little later, however often they are asked for until then."""

from collections.abc import Callable
from typing import Any

import gevent


class Delay:
    """Calls `then` once, from gevent's loop, `after_s` after `start` was called first. `then` must not raise and not wait.

    Costs a third of a microsecond to start and stop; a greenlet that sleeps costs twenty.
    """

    __slots__ = ("_then", "_timer", "after_s", "running")

    def __init__(self, after_s: float, then: Callable[[], None]) -> None:
        self.after_s = after_s
        """More than 0; read when it is started for the first time."""
        self.running = False
        self._then = then
        self._timer: Any = None

    def start(self) -> None:
        """Have it called, unless it is to be called already."""
        if self.running:
            return
        self.running = True
        if self._timer is None:
            # A timer that repeats, as one that does not cannot be started again.
            self._timer = gevent.get_hub().loop.timer(0.0, self.after_s)
        self._timer.again(self._over, update=True)

    def _over(self) -> None:
        self.stop()
        self._then()

    def stop(self) -> None:
        """Have it not called."""
        if self.running:
            self.running = False
            self._timer.stop()

    def close(self) -> None:
        """For good: it holds nothing any more."""
        self.stop()
        if self._timer is not None:
            self._timer.close()
            self._timer = None


class Soon:
    """Calls `then` once, from gevent's loop at the end of its turn, however often it is asked for until then. `then` must not
    raise and not wait. A greenlet that waits for an event would do the same, for more than most of what is done then costs."""

    __slots__ = ("_asked", "_run_callback", "_then")

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self._asked = False
        self._run_callback = gevent.get_hub().loop.run_callback

    def ask(self) -> None:
        """Have it called."""
        if not self._asked:
            self._asked = True
            self._run_callback(self._call)

    def _call(self) -> None:
        self._asked = False
        self._then()
