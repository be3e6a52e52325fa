"""Publishers are read at intervals, where what they send has to wait anyway."""

from collections.abc import Callable

from headwater_bus.delay import Delay


class ReadPace:
    """Reads clients once, `interval_s` (0: there are none) after the first of them was added. So what they sent meanwhile takes
    one wake-up, one system call each and one batch, not one for each message: a stream of 30 pictures a second with sound has
    73."""

    __slots__ = ("_delay", "_reads")

    def __init__(self, interval_s: float) -> None:
        self._delay = Delay(interval_s, self._read) if interval_s else None
        self._reads: list[Callable[[], None]] = []

    @property
    def on(self) -> bool:
        """Whether there is an interval."""
        return self._delay is not None

    def add(self, read: Callable[[], None]) -> None:
        """Have a client read, once. `read` must not raise."""
        if self._delay is not None:
            self._reads.append(read)
            self._delay.start()

    def _read(self) -> None:
        reads, self._reads = self._reads, []
        for read in reads:
            read()
