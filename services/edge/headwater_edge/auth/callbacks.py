"""What an HTTP server of the operator says of clients: asked before each connect, publish or play, with nginx-rtmp's field names.

A status of 2xx allows. All else denies: other statuses, redirects (nginx-rtmp plays something else then; an edge does not), a
connection that fails, no answer in time.
"""

import http.client
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import gevent
from headwater_bus.logs import RateLimit, get_log

from headwater_edge.auth.asked import Asked
from headwater_edge.auth.http_calls import HttpCalls, Target

_log = get_log("edge")
_MOST_PARAMETERS = 64
"""Of a client's query; who sends more is denied."""


class _TimedOut(Exception):
    """The server did not answer in time."""


@dataclass(frozen=True, slots=True)
class _Job:
    asked: Asked
    target: Target
    deadline: float
    done: Callable[[str], None]


def form_of(asked: Asked) -> bytes:
    """The body of a request. The client's own parameters come first, without those that are named as ours: no server, whichever
    of two it takes, reads what a client claims as what the edge says. Raises ValueError for too many of them."""
    # None: it is not of this action; nor may a client claim it.
    ours = {
        "app": asked.app,
        "flashver": asked.flash_ver,
        "swfurl": asked.swf_url,
        "tcurl": asked.tc_url,
        "pageurl": asked.page_url,
        "addr": asked.address,
        "clientid": str(asked.number),
        "call": asked.action,
        "session": asked.session_id,
        "transport": asked.transport,
        "name": asked.stream if asked.action != "connect" else None,
        "type": asked.type if asked.action == "publish" else None,
    }
    theirs = [
        (name, value)
        for name, value in parse_qsl(asked.query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        if name.lower() not in ours
    ]
    sent = [(name, value) for name, value in ours.items() if value is not None]
    return urlencode([*theirs, *sent], errors="replace").encode()


class Callbacks:
    """`urls` by action; an action without one is allowed. At most `in_flight` requests run at a time, and `waiting` more wait, in
    order; of one address at most a quarter of both, so that nobody keeps all others out. Who is over that is denied.
    `timeout_s` is for the waiting and the request together."""

    def __init__(
        self,
        urls: Mapping[str, Target],
        http_calls: HttpCalls,
        timeout_s: float = 2.0,
        in_flight: int = 64,
        waiting: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._urls, self._http, self._timeout_s, self._clock = dict(urls), http_calls, timeout_s, clock
        self._in_flight, self._most = in_flight, in_flight + waiting
        self._most_of_one = max(1, self._most // 4)
        self._waiting: deque[_Job] = deque()
        self._pending: Counter[str] = Counter()
        """Waiting or asked, by address."""
        self._workers = 0
        self._log_limit = RateLimit(1.0)

    def ask(self, asked: Asked, done: Callable[[str], None]) -> None:
        """Calls `done(reason)` once, now or later; an empty reason: it is allowed. Waits for nothing."""
        target = self._urls.get(asked.action)
        if target is None:
            done("")
        elif self._pending.total() >= self._most or self._pending[asked.address] >= self._most_of_one:
            self._failed(target, "too many wait for it")
            done(f"too many wait to be allowed to {asked.action}; try again later")
        else:
            self._pending[asked.address] += 1
            self._waiting.append(_Job(asked, target, self._clock() + self._timeout_s, done))
            if self._workers < self._in_flight:
                self._workers += 1
                gevent.spawn(self._work)

    def close(self) -> None:
        """Let go of connections that are kept."""
        self._http.close()

    def _work(self) -> None:
        """Ask for those who wait until there are none."""
        try:
            while self._waiting:
                job = self._waiting.popleft()
                reason = self._answer(job)
                self._pending[job.asked.address] -= 1
                if not self._pending[job.asked.address]:
                    del self._pending[job.asked.address]
                try:
                    job.done(reason)
                except Exception as error:
                    _log.error("internal error", action=job.asked.action, error=type(error).__name__)
        finally:
            self._workers -= 1

    def _answer(self, job: _Job) -> str:
        """Why it is not allowed; empty: it is. Who waited until the end of its time is not asked about any more."""
        action, left_s = job.asked.action, job.deadline - self._clock()
        try:
            if left_s <= 0:
                raise _TimedOut
            body = form_of(job.asked)
            with gevent.Timeout(left_s, _TimedOut):
                status = self._http.post(job.target, body)
        except _TimedOut:
            self._failed(job.target, f"no answer within {self._timeout_s:g} s")
            return f"nobody said within {self._timeout_s:g} s whether {action} is allowed"
        except Exception as error:
            self._failed(job.target, _why(error))
            return f"nobody could be asked whether {action} is allowed"
        return "" if 200 <= status < 300 else f"{action} was refused ({status})"

    def _failed(self, target: Target, reason: str) -> None:
        if self._log_limit.passes("failed"):
            _log.warning(
                "callback failed",
                host=target.host,
                port=target.port,
                reason=reason,
                more=self._log_limit.suppressed("failed"),
            )


def _why(error: Exception) -> str:
    """What happened, without what was sent or received: either may hold a secret."""
    if isinstance(error, OSError):
        said: Any = error.strerror or getattr(error, "reason", None)
        return str(said or type(error).__name__)
    if isinstance(error, http.client.HTTPException):
        return "no HTTP answer"
    return type(error).__name__
