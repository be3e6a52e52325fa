"""Jobs that an application has scheduled: journaled, so that they outlive an origin. The run of a job and its end are one
transaction."""

import math
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from headwater_amf import amf0

from headwater_origin import hooks
from headwater_origin.durable.journal import RowKind
from headwater_origin.errors import GroupLost, StoreUnavailable
from headwater_origin.transaction import current, transaction

if TYPE_CHECKING:
    from headwater_origin.group import Group

_STALLED_S = 0.25
"""While the store is away jobs wait; they look so often."""
_LONGEST_SLEEP_S = 60.0
"""The wall clock may be set: it is looked at so often."""
_MOST_ARGUMENT_BYTES = 64 * 1024


class Job:
    """One job. `due` in s since 1970, `every_s` 0: it runs once."""

    __slots__ = ("again", "args", "due", "every_s", "id", "method")

    def __init__(
        self, id_: str, due: float, every_s: float, method: str, args: bytes, again: bool = False
    ) -> None:
        self.id, self.due, self.every_s, self.method, self.args = id_, due, every_s, method, args
        self.again = again
        """Whether it has run; then it is nothing new, and may have been cancelled meanwhile."""

    def row(self) -> list[Any]:
        """Its journal row."""
        return [int(RowKind.JOB), self.id, self.due, self.every_s, self.method, self.args]


class _Pending:
    """One transaction's jobs (an Overlay); None: cancelled."""

    __slots__ = ("_jobs", "changes")
    waits = False

    def __init__(self, jobs: "Jobs") -> None:
        self._jobs = jobs
        self.changes: dict[str, Job | None] = {}

    def prepare(self) -> None:
        """Raises ValueError for too many."""
        self._jobs.check_count(sum(1 for job in self.changes.values() if job is not None and not job.again))

    def commit(self) -> None:
        """Apply and journal."""
        for id_, job in self.changes.items():
            if job is None or not job.again or id_ in self._jobs:
                self._jobs.set(id_, job)

    def abandon(self) -> None:
        """Nothing is to be undone."""


class Jobs:
    """Of one group."""

    def __init__(self, group: "Group", wall_clock: Callable[[], float] = time.time) -> None:
        self._group, self._wall_clock = group, wall_clock
        self._jobs: dict[str, Job] = {}
        self._changed = Event()
        self._running: set[str] = set()
        self._begun = False
        self._runner: gevent.Greenlet[..., None] | None = None
        """Runs what is due, while there is any job at all: most groups have none."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._jobs

    def schedule(
        self,
        method: str,
        args: tuple[Any, ...],
        delay_s: float | None,
        at: datetime | None,
        every_s: float | None,
    ) -> str:
        """See Application.schedule."""
        group = self._group
        function = getattr(group.policy, method, None) if isinstance(method, str) else None
        if not callable(function):
            raise ValueError(
                f"schedule {method!r:.80}: expected the name of a method of {group.policy.__name__}"
            )
        problem = hooks.arguments_problem(getattr(group.application, method), args)
        if problem is not None:
            raise ValueError(f"schedule {method!r}: {problem}")
        if delay_s is not None and at is not None:
            raise ValueError(f"schedule {method!r}: expected delay_s= or at=, not both")
        if every_s is not None and not 1 <= every_s < math.inf:
            raise ValueError(f"schedule {method!r}: every_s={every_s}: expected 1 or more")
        if delay_s is not None and not -math.inf < delay_s < math.inf:
            raise ValueError(f"schedule {method!r}: delay_s={delay_s}: expected a number of seconds")
        encoded = amf0.encode(*args) if args else b""
        if len(encoded) > _MOST_ARGUMENT_BYTES:
            raise ValueError(f"schedule {method!r}: its arguments have at most {_MOST_ARGUMENT_BYTES} bytes")
        first_s = delay_s if delay_s is not None else every_s or 0.0
        due = at.timestamp() if at is not None else self._wall_clock() + first_s
        job = Job(secrets.token_hex(8), due, float(every_s or 0), method, encoded)
        with transaction(group) as now:
            pending = now.overlay(self, lambda: _Pending(self))
            pending.changes[job.id] = job
            try:
                pending.prepare()
            except ValueError:
                del pending.changes[job.id]
                raise
        return job.id

    def cancel(self, id_: str) -> bool:
        """See Application.cancel."""
        now = current()
        pending = now.peek(self) if now is not None else None
        known = (
            pending.changes[id_]
            if isinstance(pending, _Pending) and id_ in pending.changes
            else self._jobs.get(id_)
        )
        if known is None:
            return False
        with transaction(self._group) as now:
            now.overlay(self, lambda: _Pending(self)).changes[id_] = None
        return True

    def check_count(self, more: int) -> None:
        """Raises ValueError where there would be too many jobs."""
        limit = self._group.config.jobs_per_group
        if len(self._jobs) + more > limit:
            raise ValueError(f"a scope has at most {limit} jobs")

    def set(self, id_: str, job: Job | None) -> None:
        """A commit: a job is new, is due another time, or is gone."""
        if job is not None:
            self._jobs[id_] = job
            self._group.journal(job.row())
        elif self._jobs.pop(id_, None) is not None:
            self._group.journal([int(RowKind.JOB_GONE), id_])
        self._look()

    def restore(self, row: list[Any]) -> None:
        """A row of the journal."""
        if row[0] == RowKind.JOB:
            self._jobs[row[1]] = Job(*row[1:6])
        else:
            self._jobs.pop(row[1], None)

    def rows(self) -> list[list[Any]]:
        """What rebuilds them."""
        return [job.row() for job in self._jobs.values()]

    # Running

    def begin(self) -> None:
        """Run what is due, from now on: beside each other, and each once."""
        self._begun = True
        self._look()

    def end(self) -> None:
        """Begin no more of them."""
        self._begun = False
        if self._runner is not None:
            self._runner.kill(block=False)
            self._runner = None

    def _look(self) -> None:
        if self._runner is not None:
            self._changed.set()
        elif self._begun and self._jobs:
            self._runner = gevent.spawn(self._work)

    def _work(self) -> None:
        while self._jobs:
            while self._group.stalled:
                gevent.sleep(_STALLED_S)
            self._changed.clear()
            now = self._wall_clock()
            next_due = now + _LONGEST_SLEEP_S
            for job in list(self._jobs.values()):
                if job.id in self._running:
                    continue
                if job.due <= now:
                    self._running.add(job.id)
                    self._group.run(lambda job=job: self._run(job))  # type: ignore[misc]  # mypy: lambda with a default
                else:
                    next_due = min(next_due, job.due)
            self._changed.wait(timeout=max(0.0, next_due - now))
        self._runner = None

    def _run(self, job: Job) -> None:
        group = self._group
        try:
            with transaction(group):
                self._done(job)
                method = getattr(group.application, job.method)
                method(*(amf0.decode_all(job.args) if job.args else ()))
        except (GroupLost, StoreUnavailable):
            return  # It is still to be done.
        except hooks.FAILURES as error:
            hooks.failed(group, job.method, error)
            if self._jobs.get(job.id) is job and not group.outputs.lost:
                # It has run: also while the store is away.
                with transaction(group, must=True):
                    self._done(job)
        finally:
            self._running.discard(job.id)
            self._look()

    def _done(self, job: Job) -> None:
        """It has run; its next time is after now, however many were missed."""
        following = None
        if job.every_s:
            missed = max(0.0, self._wall_clock() - job.due) // job.every_s
            due = job.due + (missed + 1) * job.every_s
            following = Job(job.id, due, job.every_s, job.method, job.args, again=True)
        with transaction(self._group) as now:
            now.overlay(self, lambda: _Pending(self)).changes[job.id] = following
