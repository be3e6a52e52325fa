"""Publishers are read at intervals, where what they send has to wait anyway."""

from collections.abc import Callable

from headwater_bus.delay import Delay
from headwater_bus.logs import get_log

_log = get_log("edge")


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
            try:
                read()
            except Exception as error:
                # gevent stops a timer whose callback raises, and no publisher would be read again.
                _log.error("internal error", reading=repr(read), error=repr(error))
