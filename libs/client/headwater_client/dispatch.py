"""Runs the handlers that an application has registered: one after the other, in the order of what they hear of."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

_log = logging.getLogger("headwater_client")


class Dispatcher:
    """One greenlet runs everything that was posted; it lives while there is something to do. Handlers may wait (for calls,
    for a flush): the reading greenlet goes on. When `limit` of them wait to be run, `post` waits, and so reading stops."""

    __slots__ = ("_limit", "_queue", "_room", "_running")

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._queue: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._room = Event()
        self._running = False

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function(*args)` after what was posted before. What it raises is logged."""
        while len(self._queue) >= self._limit:
            self._room.clear()
            self._room.wait()
        self._queue.append((function, args))
        if not self._running:
            self._running = True
            gevent.spawn(self._run)

    def _run(self) -> None:
        queue = self._queue
        try:
            while queue:
                function, args = queue.popleft()
                self._room.set()
                try:
                    function(*args)
                except Exception:
                    _log.exception("handler %r failed", getattr(function, "__qualname__", function))
        finally:
            self._running = False
            if queue:  # A handler ended the greenlet; the others are still to be run.
                self._running = True
                gevent.spawn(self._run)
