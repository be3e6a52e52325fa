"""When a process does what it does again and again: at instants that its jobs share.

A wake-up of a process that has nothing else to do costs some 200 µs of CPU time, whatever there is to do. So periodic jobs and
alarms come at multiples of the same steps, and those that fall together are one wake-up.
"""

import math
import random
import time
from collections.abc import Callable
from typing import Any

import gevent

_STEP_S = 0.05
"""Alarms come so much later at most."""
_PHASE_S = random.random()
"""Each process has its own, so that those of one machine do not all wake at once."""


def until_next(interval_s: float) -> float:
    """Seconds to sleep until the next multiple of an interval: a tenth of it at least, a tenth more than it at most."""
    left_s = interval_s - (time.monotonic() + _PHASE_S) % interval_s
    # A timer may be a little early.
    return left_s if left_s > interval_s / 10 else left_s + interval_s


class Alarm:
    """Calls `then`, once, from gevent's loop when the time has come that it was last asked for. It must not raise and not wait.
    To ask for another time of the same step costs nothing."""

    __slots__ = ("_step", "_then", "_timer")

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self._step = 0
        """At which it rings, 0: it does not."""
        self._timer: Any = None

    def set(self, at: float) -> None:
        """Have it called at this time of the monotonic clock, or up to a step later."""
        step = math.ceil((at + _PHASE_S) / _STEP_S)
        if step == self._step:
            return
        self.stop()
        self._step = step
        after_s = step * _STEP_S - _PHASE_S - time.monotonic()
        self._timer = gevent.get_hub().loop.timer(max(0.0, after_s))
        self._timer.start(self._ring, update=True)

    def _ring(self) -> None:
        self.stop()
        self._then()

    def stop(self) -> None:
        """Have it not called; it may be asked for again."""
        self._step = 0
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
