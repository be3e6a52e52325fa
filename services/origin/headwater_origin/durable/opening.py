"""Opens the journals of groups, many together: an origin that takes over another's groups gets them all at once.

Those that most sessions wait for come first. Between two such steps what is to be committed has its turn.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import gevent
from gevent.event import AsyncResult
from headwater_bus.store_thread import StoreThread
from headwater_store import Journals, Loaded, StoreAway, StoreError

if TYPE_CHECKING:
    from headwater_origin.group import Group

_FIRST, _MOST = 8, 64
"""Journals that are read together: few at first, whose sessions are served while the next are read, then twice as many each time,
as a transaction of the store costs as much as some journals."""
_AGAIN_S = 0.1


class _Wanted:
    __slots__ = ("again_at", "answer", "group", "until")

    def __init__(self, group: "Group", until: float) -> None:
        self.group, self.until = group, until
        self.again_at = 0.0
        self.answer: AsyncResult[tuple[int, Loaded]] = AsyncResult()


class Opening:
    """See the module. A store that is away is tried again for `patience_s`."""

    def __init__(
        self,
        journals: Journals,
        thread: StoreThread,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journals, self._thread, self._patience_s, self._clock = journals, thread, patience_s, clock
        self._wanted: list[_Wanted] = []
        self._job: gevent.Greenlet[..., None] | None = None

    def open(self, group: "Group") -> tuple[int, Loaded]:
        """Fence older epochs, and load; returns the epoch with it. Waits. Raises StoreError, Fenced among them."""
        wanted = _Wanted(group, self._clock() + self._patience_s)
        self._wanted.append(wanted)
        if self._job is None:
            self._job = gevent.spawn(self._work)
        opened: tuple[int, Loaded] = wanted.answer.get()  # type: ignore[assignment]  # gevent: None where it times out
        return opened

    def _work(self) -> None:
        # Whoever is asked for in the same moment belongs to the first step.
        gevent.sleep(0)
        at_once = _FIRST
        while self._wanted:
            now = self._clock()
            due = [wanted for wanted in self._wanted if wanted.again_at <= now]
            due.sort(key=lambda wanted: -len(wanted.group.sessions))
            if due:
                self._open(due[:at_once])
                at_once = min(2 * at_once, _MOST)
            else:
                gevent.sleep(_AGAIN_S)
        self._job = None

    def _open(self, batch: list[_Wanted]) -> None:
        asked = {wanted.group.name: wanted.group.epoch for wanted in batch}
        outcomes: list[Loaded | StoreError]
        try:
            outcomes = self._thread.call(self._journals.open_many, list(asked.items()))
        except StoreError as error:
            outcomes = [error] * len(asked)
        by_name = dict(zip(asked, outcomes, strict=True))
        now = self._clock()
        for wanted in batch:
            outcome = by_name[wanted.group.name]
            if isinstance(outcome, StoreAway) and now + _AGAIN_S <= wanted.until:
                wanted.again_at = now + _AGAIN_S
                continue
            self._wanted.remove(wanted)
            if isinstance(outcome, StoreError):
                wanted.answer.set_exception(outcome)
            else:
                wanted.answer.set((asked[wanted.group.name], outcome))
                # This one is served before the next.
                gevent.sleep(0)
