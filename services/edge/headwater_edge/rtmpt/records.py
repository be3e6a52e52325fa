"""The stored records of RTMPT sessions: taken, written and dropped beside the event loop, all that has gathered at once."""

import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from headwater_bus.logs import RateLimit, get_log
from headwater_bus.store_thread import StoreThread
from headwater_store import Leases, LeaseWrite, StoreError, Taken

_log = get_log("edge")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_AT_ONCE = 256
_AT_ONCE_BYTES = 4 * 1024 * 1024

OnTaken = Callable[[Taken | None], None]
OnWritten = Callable[[bool | None], None]
OnFailed = Callable[[str, Exception], None]
NOTHING = Taken(None, 0)
"""What was taken where there is no record."""
_Drop = tuple[str, int, Callable[[], None] | None]


class _Job:
    """A record to be written, made (`write` None) or taken over. `until`: monotonic seconds, before which it is tried again while
    the store is away."""

    __slots__ = ("done", "key", "makes", "until", "write")

    def __init__(
        self, key: str, write: LeaseWrite | None, makes: bool, until: float, done: Callable[[Any], None]
    ) -> None:
        self.key, self.write, self.makes, self.until, self.done = key, write, makes, until, done


class Records:
    """In `leases`, the caller's, of which only the thread here is to use anything; `holder` is this process. Callbacks run in
    the greenlet of `run`, in order. One that raises costs its session only: `on_failed(key, error)` is called then. While the
    store is away all is tried again, for `patience_s`."""

    def __init__(self, leases: Leases | None, holder: str, patience_s: float, on_failed: OnFailed) -> None:
        self._leases, self._holder, self._patience_s = leases, holder, patience_s
        self._on_failed = on_failed
        self._thread = StoreThread()
        self._jobs: list[_Job] = []
        self._drops: list[_Drop] = []
        self._wake = Event()
        self._log_limit = RateLimit(10.0)

    def __len__(self) -> int:
        return len(self._jobs)

    def make(self, key: str, done: OnTaken) -> None:
        """Have a new record: `done(taken)`, or `done(None)` where the store stays away."""
        self._add(_Job(key, None, True, self._until(), done))

    def take(self, key: str, done: OnTaken) -> None:
        """Take a record from whoever has it: `done(taken)`, `done(NOTHING)` where there is none, or `done(None)` where the store
        stays away."""
        self._add(_Job(key, None, False, self._until(), done))

    def write(self, key: str, fence: int, data: bytes, done: OnWritten) -> None:
        """Write a record: `done(True)` when it is committed, `done(False)` when another edge has taken it, `done(None)` where the
        store stays away (then it may be written or not)."""
        self._add(_Job(key, LeaseWrite(key, fence, data), False, self._until(), done))

    def drop(self, key: str, fence: int, done: Callable[[], None] | None = None) -> None:
        """Forget a record: then `done()`. Should the store be away, it is forgotten by itself some time later."""
        self._drops.append((key, fence, done))
        self._wake.set()

    def _until(self) -> float:
        return time.monotonic() + self._patience_s

    def _add(self, job: _Job) -> None:
        self._jobs.append(job)
        self._wake.set()

    def run(self) -> None:
        """Job: carry out what has gathered, for ever."""
        pause_s = _FIRST_PAUSE_S
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._jobs or self._drops:
                jobs, drops = self._cut()
                try:
                    outcomes = self._thread.call(self._carry_out, jobs, drops)
                except StoreError as error:
                    self._tell(drops)
                    if self._log_limit.passes("away"):
                        _log.error("store away", error=str(error), sessions=len(jobs))
                    self._try_again(jobs)
                    gevent.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                    continue
                pause_s = _FIRST_PAUSE_S
                self._tell(drops)
                for job, outcome in zip(jobs, outcomes, strict=True):
                    self._finish(job, outcome)

    def _cut(self) -> tuple[list[_Job], list[_Drop]]:
        size, count = 0, 0
        for job in self._jobs[:_AT_ONCE]:
            size += len(job.write.data) if job.write is not None else 0
            if count and size > _AT_ONCE_BYTES:
                break
            count += 1
        jobs, self._jobs = self._jobs[:count], self._jobs[count:]
        drops, self._drops = self._drops, []
        return jobs, drops

    def _try_again(self, jobs: list[_Job]) -> None:
        now = time.monotonic()
        self._jobs = [job for job in jobs if job.until > now] + self._jobs
        for job in [job for job in jobs if job.until <= now]:
            self._finish(job, None)

    def _finish(self, job: _Job, outcome: Any) -> None:
        try:
            job.done(outcome)
        except Exception as error:
            self._on_failed(job.key, error)

    def _tell(self, drops: list[_Drop]) -> None:
        for key, _, done in drops:
            if done is not None:
                try:
                    done()
                except Exception as error:
                    self._on_failed(key, error)

    def _carry_out(self, jobs: list[_Job], drops: list[_Drop]) -> list[Any]:
        """In the thread: outcomes of the jobs. Raises StoreError; all of it may be done again then."""
        leases = self._leases
        assert leases is not None
        for key, fence, _ in drops:
            leases.drop(key, fence)
        writes = [job.write for job in jobs if job.write is not None]
        written = iter(leases.write_many(writes, 0.0) if writes else ())
        keys = [job.key for job in jobs if job.write is None and not job.makes]
        taken = iter(leases.take_over(keys, self._holder) if keys else ())
        outcomes: list[Any] = []
        for job in jobs:
            if job.write is not None:
                outcomes.append(next(written))
            elif job.makes:
                outcomes.append(leases.take(job.key, self._holder, 0.0))
            else:
                outcomes.append(next(taken) or NOTHING)
        return outcomes

    def close(self) -> None:
        """Let go of the store."""
        leases = self._leases
        if leases is not None:
            self._thread.end_with(leases.close)
