"""When the registry told of what: its feed with the times, to tell where a fail-over's time goes."""

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import gevent
import zmq.green as zmq
from headwater_bus.control import Changed, Subscribe
from headwater_bus.requests import Requester, RequestError
from headwater_bus.security import Security

_ASK_S = 5.0
_LOOK_S = 0.02
_RENEW_S = 5.0
"""A registry forgets who has not subscribed again for half a minute."""


@dataclass(frozen=True, slots=True)
class Told:
    """One row of the feed (see Changed) and when it came, monotonic ns."""

    at_ns: int
    row: list[Any]


class Feed:
    """Follows a registry until it ends, in a thread with an event loop of its own. Use as a context manager."""

    def __init__(self, endpoint: str) -> None:
        self.told: list[Told] = []
        self._endpoint = endpoint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="feed", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        context = zmq.Context()
        requester = Requester(context, Security.plain(), self._endpoint, "", self._take)
        renew_at = 0.0
        try:
            while not self._stop.is_set():
                if time.monotonic() > renew_at:
                    # The registry may be dead, or have no time for it while all clients connect.
                    with suppress(RequestError):
                        requester.request(Subscribe("bench-follower"), _ASK_S)
                        renew_at = time.monotonic() + _RENEW_S
                gevent.sleep(_LOOK_S)
        finally:
            requester.close()
            context.destroy(linger=0)

    def _take(self, pushed: Any) -> None:
        if isinstance(pushed, Changed):
            now_ns = time.monotonic_ns()
            self.told += [Told(now_ns, row) for row in pushed.changes if row[0] != "load"]


@dataclass(frozen=True, slots=True)
class Times:
    """Of one fault, in ms after it: `known_ms` when the registry told of the first consequence, None for none; `assigned_ms`
    when it told of the last assignment of each concerned group that got one."""

    known_ms: float | None
    assigned_ms: list[float]


def times_of(told: Iterable[Told], at_ns: int, until_ns: int, groups: Iterable[str]) -> Times:
    """What the feed told of these groups between the fault and the time until which something of it may be seen."""
    concerned = set(groups)
    known_ns: int | None = None
    assigned: dict[str, int] = {}
    for each in told:
        kind, subject, *rest = each.row
        if kind != "group" or subject not in concerned or not at_ns <= each.at_ns <= until_ns:
            continue
        known_ns = known_ns or each.at_ns
        if rest[0]:
            assigned[subject] = each.at_ns
    known_ms = None if known_ns is None else (known_ns - at_ns) / 1e6
    return Times(known_ms, [(assigned_ns - at_ns) / 1e6 for assigned_ns in assigned.values()])
