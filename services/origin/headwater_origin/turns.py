"""What waits for its turn in a session while something of it runs that may wait."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from headwater_origin.session import Session


class _Work(NamedTuple):
    """What a session does next. `waits`: it may. `always`: also when the client is gone."""

    run: Callable[[], None]
    waits: bool
    size: int
    always: bool
    number: int


class Inbox:
    """Of one session, which has none while nothing waits. A greenlet works it off, in order, and then the session is at rest. One
    that is `held` waits for `release`."""

    __slots__ = ("_session", "_size_bytes", "_waiting", "_worker")

    def __init__(self, session: "Session", held: bool = False) -> None:
        self._session = session
        self._waiting: deque[_Work] = deque()
        self._size_bytes = 0
        self._worker = None if held else session.group.run(self._work)

    def add(self, run: Callable[[], None], waits: bool, size: int, always: bool, number: int) -> None:
        """One more; see `Session.post`."""
        session, waiting = self._session, self._waiting
        config = session.group.config
        if not always and (
            len(waiting) >= config.inbox_messages or self._size_bytes + size > config.inbox_bytes
        ):
            session.close(f"{len(waiting)} messages wait for the application already")
            return
        self._size_bytes += size
        waiting.append(_Work(run, waits, size, always, number))

    def release(self) -> None:
        """It was held: what cannot wait is done here, and needs no greenlet."""
        waiting = self._waiting
        while waiting and not waiting[0].waits:
            self._next()
        if waiting:
            self._worker = self._session.group.run(self._work)
        else:
            self._session.at_rest()

    def _work(self) -> None:
        while self._waiting:
            self._next()
        self._session.at_rest()

    def _next(self) -> None:
        session, work = self._session, self._waiting.popleft()
        self._size_bytes -= work.size
        if work.always or not (session.closed or session.absent):
            session.carry_out(work.run, work.number)

    def keep_always(self) -> None:
        """Forget all but what is done in any case."""
        kept = [work for work in self._waiting if work.always]
        self._waiting.clear()
        self._waiting += kept

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()

    def wait(self) -> None:
        """Until it is worked off."""
        if self._worker is not None:
            self._worker.join()
