"""Timers and greenlets of an application: in memory, ended with the scope. What must outlive an origin is a job (`durable`)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent

from headwater_origin import hooks
from headwater_origin.errors import GroupLost
from headwater_origin.transaction import current

if TYPE_CHECKING:
    from headwater_origin.group import Group


_STALLED_S = 0.25
"""While the store is away, timers wait; they look so often."""


class Timer:
    """What `after` and `every` give."""

    __slots__ = ("_busy", "_cancelled", "_task")

    def __init__(self) -> None:
        self._cancelled = self._busy = False
        self._task: gevent.Greenlet[..., None] | None = None

    @property
    def active(self) -> bool:
        """Whether it is going to run (again)."""
        return not self._cancelled and (self._task is None or not self._task.dead)

    def cancel(self) -> None:
        """No further run; one that is under way goes on. A second call does nothing."""
        self._cancelled = True
        if self._task is not None and not self._busy:
            self._task.kill(block=False)


class Tasks:
    """The greenlets of one application object. In a transaction they begin when that is committed."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self._running: set[gevent.Greenlet[..., None]] = set()

    def spawn(
        self, function: Callable[..., object], args: tuple[Any, ...], delay_s: float
    ) -> "gevent.Greenlet[..., None]":
        """A greenlet that is no transaction by itself."""

        def run() -> None:
            try:
                function(*args)
            except GroupLost:
                pass  # So is what it was for.
            except hooks.FAILURES as error:
                hooks.failed(self._group, _named(function), error)

        task = gevent.Greenlet(run)
        self._begin(task, delay_s)
        return task

    def timer(
        self, first_s: float, interval_s: float | None, function: Callable[..., object], args: tuple[Any, ...]
    ) -> Timer:
        """Run a function after a while, and then every so often; each run is one transaction. Runs that were missed, as one
        took longer, are left out."""
        timer = Timer()
        clock = self._group.clock

        def run() -> None:
            due = clock() + first_s
            while not timer._cancelled:
                gevent.sleep(max(0.0, due - clock()))
                while self._group.stalled:
                    gevent.sleep(_STALLED_S)
                timer._busy = True
                try:
                    hooks.run(self._group, function, args)
                except GroupLost:
                    return
                except hooks.FAILURES as error:
                    hooks.failed(self._group, _named(function), error)
                finally:
                    timer._busy = False
                if interval_s is None:
                    return
                due = max(due + interval_s, clock())

        timer._task = task = gevent.Greenlet(run)
        self._begin(task, 0.0)
        return timer

    def _begin(self, task: "gevent.Greenlet[..., None]", delay_s: float) -> None:
        def begin() -> None:
            if task.dead or self._group.stopped:
                return
            self._running.add(task)
            task.link(self._running.discard)
            if delay_s > 0:
                task.start_later(delay_s)
            else:
                task.start()

        now = current()
        if now is None:
            begin()
        else:
            now.after(begin)

    def end(self) -> None:
        """End them all, but for the one that runs this."""
        gevent.killall([task for task in self._running if task is not gevent.getcurrent()], block=False)


def _named(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "task")
