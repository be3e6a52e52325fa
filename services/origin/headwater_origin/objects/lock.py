"""Who holds the lock of a SharedObject, and who waits for it, in order.

Clients' changes wait behind a lock as well, so that they come in the order in which they would have come. Who has waited has its
turn alone: whoever comes meanwhile waits behind.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import gevent
from gevent.event import Event

LOCK_S = 30.0
"""So long application code waits for a lock at most."""


class LockTimeout(Exception):
    """The lock was not to be had in time."""


class ObjectLock:
    """The lock of one object. Holders are compared by identity: a transaction, a greenlet, or a session of another origin's
    application."""

    __slots__ = ("_turn", "_unwatch", "_waiting", "depth", "holder")

    def __init__(self) -> None:
        self.holder: object | None = None
        self.depth = 0
        """How often the holder has taken it."""
        self._waiting: deque[Event] = deque()
        self._turn = False
        """Whether somebody who has waited has its turn now."""
        self._unwatch: Callable[[], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether who wants to change the object has to wait."""
        return self.holder is not None or self._turn or bool(self._waiting)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @contextmanager
    def turn(self, timeout_s: float | None = None) -> Iterator[None]:
        """Wait until nobody holds the lock and all who came before have had their turn; within, it is the caller's alone.
        Raises LockTimeout."""
        waited = self._enter(timeout_s)
        try:
            yield
        finally:
            if waited:
                self._turn = False
                self._next()

    def acquire(self, holder: object, timeout_s: float = LOCK_S) -> None:
        """Take the lock, once more if `holder` has it already. Raises LockTimeout."""
        if self.holder is not holder:
            if self._enter(timeout_s):
                self._turn = False
            self.holder = holder
        self.depth += 1

    def nest(self, holder: object) -> None:
        """The holder gives it back once, and keeps it."""
        if self.holder is holder:
            self.depth = max(1, self.depth - 1)

    def release(self, holder: object) -> None:
        """Give the lock back, however often it was taken; nothing happens when `holder` does not have it."""
        if self.holder is holder:
            self.holder, self.depth = None, 0
            unwatch, self._unwatch = self._unwatch, None
            if unwatch is not None:
                unwatch()
            self._next()

    def watch(self, greenlet: object, act: Callable[[], None]) -> None:
        """Have something done when a greenlet ends before the holder has given the lock back; the main one does not end."""
        if isinstance(greenlet, gevent.Greenlet):

            def ended(_: object) -> None:
                act()

            greenlet.rawlink(ended)
            self._unwatch = partial(greenlet.unlink, ended)

    def _enter(self, timeout_s: float | None) -> bool:
        """Wait for a turn; returns whether there was anything to wait for."""
        if not self.busy:
            return False
        turn = Event()
        self._waiting.append(turn)
        try:
            # Not inside a gevent.Timeout: one of the application's own must pass through.
            turn.wait(timeout=timeout_s)
            if not turn.is_set():
                raise LockTimeout
        except BaseException:
            if turn.is_set():
                self._turn = False
                self._next()
            else:
                self._waiting.remove(turn)
            raise
        return True

    def _next(self) -> None:
        if self.holder is None and not self._turn and self._waiting:
            self._turn = True
            self._waiting.popleft().set()
