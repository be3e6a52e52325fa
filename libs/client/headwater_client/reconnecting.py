"""A connection that is lost is made again: how often that is tried, and when no more."""

import time
from collections.abc import Callable

import gevent

from headwater_client.errors import ConnectError

_LASTED_S = 3.0
_ENDED_BY_THE_APPLICATION = frozenset(
    f"NetConnection.Connect.{what}" for what in ("Closed", "Rejected", "InvalidApp")
)


def worth_while(last_code: str) -> bool:
    """Whether to connect again to a server that has said this last: not when the application has ended the connection."""
    return last_code not in _ENDED_BY_THE_APPLICATION


class Backoff:
    """Tries that are made at once, then after `first_s`, then after twice as much each time, after `longest_s` at most, until
    `for_s` have passed since the beginning."""

    __slots__ = ("_first_s", "_longest_s", "_pause_s", "_until")

    def __init__(self, for_s: float, first_s: float = 0.05, longest_s: float = 1.0) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._pause_s = 0.0
        self._until = time.monotonic() + for_s

    @property
    def left_s(self) -> float:
        """Until it is over."""
        return max(0.0, self._until - time.monotonic())

    def pause(self) -> bool:
        """Wait before the next try, the first time for nothing; False: there is none."""
        if self._pause_s >= self.left_s:
            return False
        gevent.sleep(self._pause_s)
        self._pause_s = min(max(self._first_s, self._pause_s * 2), self._longest_s)
        return True


class Reconnecting:
    """Connects again, for `for_s` (0: never). `connect` tries once, until a moment (monotonic seconds), and raises
    ConnectError; `connected` is called when it did, `given_up` with the reason when it did not."""

    __slots__ = ("_backoff", "_connect", "_connected", "_connected_at", "_given_up", "_job", "for_s")

    def __init__(
        self,
        for_s: float,
        connect: Callable[[float], None],
        connected: Callable[[], None],
        given_up: Callable[[str], None],
    ) -> None:
        self.for_s = for_s
        self._connect, self._connected, self._given_up = connect, connected, given_up
        self._job: gevent.Greenlet[..., None] | None = None
        self._backoff: Backoff | None = None
        self._connected_at = 0.0

    @property
    def enabled(self) -> bool:
        """Whether lost connections are made again."""
        return self.for_s > 0

    def begin(self, reason: str) -> None:
        """A connection is lost, for that reason. One that did not last counts as none: who is thrown out at once each time does
        not knock for ever."""
        if self._backoff is None or time.monotonic() - self._connected_at > _LASTED_S:
            self._backoff = Backoff(self.for_s)
        self._job = gevent.spawn(self._run, reason)

    def stop(self) -> None:
        """Give up without a word."""
        job, self._job = self._job, None
        if job is not None and job is not gevent.getcurrent():
            job.kill()

    def _run(self, reason: str) -> None:
        backoff = self._backoff or Backoff(self.for_s)
        last: ConnectError | None = None
        while backoff.pause():
            try:
                self._connect(time.monotonic() + backoff.left_s)
            except ConnectError as error:
                last = error
            else:
                self._connected_at = time.monotonic()
                self._connected()
                return
        self._given_up(f"{reason}; not back within {self.for_s:g} s" + (f": {last}" if last else ""))
