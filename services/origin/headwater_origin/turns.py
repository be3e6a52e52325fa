"""What waits for its turn in a session while something of it runs that may wait, and the greenlets that work it off."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent
from gevent.event import Event
from headwater_bus.sockets import SLICE_S, pause

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
    """Of one session, which has none while nothing waits. The group's crew works it off, in order, and then the session is at
    rest. One that is `held` waits for `release`."""

    __slots__ = ("_held", "_session", "_size_bytes", "_waiting", "_worked_off")

    def __init__(self, session: "Session", held: bool = False) -> None:
        self._session, self._held = session, held
        self._waiting: deque[_Work] = deque()
        self._size_bytes = 0
        self._worked_off: Event | None = None
        if not held:
            session.group.crew.take(self)

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
        self._held = False
        while waiting and not waiting[0].waits:
            self._next()
        if waiting:
            self._session.group.crew.take(self)
        else:
            self._rest()

    def work_off(self) -> None:
        """Do all that waits. Where a greenlet ends half-way, the crew takes it again for the rest."""
        try:
            while self._waiting:
                self._next()
        finally:
            if self._waiting:
                self._session.group.crew.take(self)
            else:
                self._rest()

    def _rest(self) -> None:
        self._session.at_rest()
        if self._worked_off is not None:
            self._worked_off.set()

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
        """Until it is worked off; one that is held does nothing that could be waited for."""
        if self._held:
            return
        if self._worked_off is None:
            self._worked_off = Event()
        self._worked_off.wait()


class Crew:
    """The greenlets that work off the inboxes of one group. Most of what may wait does not: so one of them goes from inbox to
    inbox, which costs much less than a greenlet for each, and when it does wait another one goes on with the rest. What an
    application leaves behind in its greenlet, such as a gevent.Timeout that it has not closed, is gone at the end of a round."""

    __slots__ = ("_at_rest", "_called", "_ready", "_runner", "_working")

    def __init__(self) -> None:
        self._ready: deque[Inbox] = deque()
        self._working = 0
        """How many inboxes are not worked off."""
        self._at_rest: Event | None = None
        self._called = False
        """Whether a greenlet is about to begin."""
        self._runner: gevent.Greenlet[..., None] | None = None
        """The one that goes from inbox to inbox, as long as it does not wait."""

    def take(self, inbox: Inbox) -> None:
        """One more to be worked off, when those before it are or wait."""
        self._working += 1
        self._ready.append(inbox)
        self._call()

    def _call(self) -> None:
        # Where another greenlet is here, the runner waits.
        if not self._called and self._runner is not gevent.getcurrent():
            self._called = True
            gevent.spawn(self._round)

    def _round(self) -> None:
        me: Any = gevent.getcurrent()
        ready, loop = self._ready, gevent.get_hub().loop
        self._called, self._runner = False, me
        try:
            while ready:
                waits = loop.run_callback(self._left)
                until = time.monotonic() + SLICE_S
                while ready and self._runner is me and time.monotonic() < until:
                    self._work_off(ready.popleft())
                if self._runner is not me:
                    return  # It has waited, and another one goes on.
                waits.stop()
                if ready:
                    pause()
        finally:
            if self._runner is me:
                self._left()

    def _work_off(self, inbox: Inbox) -> None:
        try:
            inbox.work_off()
        finally:
            self._working -= 1
            if self._at_rest is not None and not self._working:
                self._at_rest.set()
                self._at_rest = None

    def _left(self) -> None:
        """Whoever went from inbox to inbox waits, or has ended."""
        self._runner = None
        if self._ready:
            self._call()

    def wait(self, within_s: float) -> None:
        """Until all is worked off, but not longer than so."""
        if self._working:
            if self._at_rest is None:
                self._at_rest = Event()
            self._at_rest.wait(within_s)
