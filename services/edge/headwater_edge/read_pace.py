"""Publishers are read at intervals, where what they send has to wait anyway."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from headwater_bus.delay import Delay
from headwater_bus.logs import get_log
from headwater_bus.sockets import FIRST, SLICE_S

_log = get_log("edge")


class ReadPace:
    """Reads clients once, `interval_s` (0: there are none) after the first of them was added. So what they sent meanwhile takes
    one wake-up, one system call each and one batch, not one for each message: a stream of 30 pictures a second with sound has
    73.

    Between slices of 5 ms of that, some 200 clients, the loop has its turn: what was read leaves while the others are read, and
    what comes from origins is not kept waiting.
    """

    __slots__ = ("_delay", "_due", "_idle", "_reads")

    def __init__(self, interval_s: float) -> None:
        self._delay = Delay(interval_s, self._begin) if interval_s else None
        self._reads: deque[Callable[[], None]] = deque()
        self._due = 0
        """How many of them have their turn now; who is added meanwhile has it the next time."""
        self._idle: Any = None

    @property
    def on(self) -> bool:
        """Whether there is an interval."""
        return self._delay is not None

    def add(self, read: Callable[[], None]) -> None:
        """Have a client read, once. `read` must not raise."""
        if self._delay is not None:
            self._reads.append(read)
            self._delay.start()

    def _begin(self) -> None:
        self._due = len(self._reads)
        self._read()

    def _read(self) -> None:
        reads, until = self._reads, time.monotonic() + SLICE_S
        while self._due:
            self._due -= 1
            read = reads.popleft()
            try:
                read()
            except Exception as error:
                # gevent stops a timer whose callback raises, and no publisher would be read again.
                _log.error("internal error", reading=repr(read), error=repr(error))
            if time.monotonic() >= until:
                break
        if self._due:
            if self._idle is None:
                self._idle = gevent.get_hub().loop.idle(priority=FIRST)
            self._idle.start(self._read)
        elif self._idle is not None:
            self._idle.stop()
