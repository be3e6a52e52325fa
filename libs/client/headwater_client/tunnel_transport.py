"""RTMPT and RTMPTS: RTMP in HTTP requests, one at a time. The protocol is described in `headwater_rtmp.rtmpt`.

A request without an answer is repeated as it was, with its number: a server that keeps to the numbers takes what it brings once,
and answers it the same again, whichever of its machines does so. So nothing is lost and nothing comes twice.
"""

import logging
import re
import time
from collections import deque
from collections.abc import Callable

import gevent
from gevent.event import Event
from headwater_rtmp.connection import Connection
from headwater_rtmp.connection import Event as RtmpEvent
from headwater_rtmp.errors import RtmpError
from headwater_rtmp.rtmpt import POLL_UNIT_S, Verb, session_target

from headwater_client.http_posts import HttpPosts, NobodyThere, PostFailed, Response
from headwater_client.reconnecting import Backoff
from headwater_client.transport import CLOSED_HERE, SERVER_CLOSED, Transport

REQUEST_S = 2.5
"""How long one request waits for its answer. Servers hold none back for more than a fraction of it."""
_MOST_BODY_BYTES = 64 * 1024
_MOST_PAUSE_S = 1.0
_SAID_PAUSE_S = 0.03
"""The most that we wait after we have said something: an answer may come."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
"""Before a request is repeated: none before the first time, then this, then twice as much each time."""
_PASSING = frozenset((408, 502, 503, 504))
"""Statuses that say that nobody could answer just now, or not in time."""
_UNREAD_BYTES = 256 * 1024
"""Beyond this nothing more is asked for."""
_MOST_UNREAD_BYTES = 8 * 1024 * 1024
"""Beyond this nothing more is sent either: any answer may bring something."""
_NOTHING = b"\x00"
_SESSION_ID = re.compile(rb"[!-.0-~]{1,256}")
"""Whatever may stand between two slashes."""
_log = logging.getLogger("headwater_client")


class TunnelRefused(Exception):
    """The server has no session for us, or has it no longer."""


def _repeated(
    posts: HttpPosts, target: str, body: bytes, for_s: float, give_up: Callable[[PostFailed], bool]
) -> Response:
    """Post, over and over while nobody answers. Raises the last PostFailed when `for_s` are over or `give_up` says so."""
    backoff = Backoff(for_s, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    while True:
        try:
            answer = posts.post(target, body, min(REQUEST_S, backoff.left_s))
            if answer.status not in _PASSING:
                return answer
            posts.close()
            failure = PostFailed(_refused(answer, target))
        except PostFailed as error:
            failure = error
        if give_up(failure) or not backoff.pause():
            raise failure


def _refused(answer: Response, target: str) -> str:
    """Without the session's id: who has it has the session."""
    verb = target.split("/")[1]
    return f"the server answers {verb} with HTTP status {answer.status}"


def open_tunnel(posts: HttpPosts, timeout_s: float) -> str:
    """Ask for a session; returns its id. While the server does not answer it is asked again; a session whose id got lost on its
    way ends by itself. Raises NobodyThere at once where there is no server, PostFailed, TunnelRefused."""
    target = "/open/1"
    answer = _repeated(posts, target, _NOTHING, timeout_s, lambda failure: isinstance(failure, NobodyThere))
    if answer.status != 200:
        raise TunnelRefused(_refused(answer, target))
    session_id = answer.body.strip()
    if not _SESSION_ID.fullmatch(session_id):
        raise TunnelRefused(f"expected the id of a session, got {len(answer.body)} bytes {session_id[:32]!r}")
    return session_id.decode()


class TunnelTransport(Transport):
    """See the module. `session_id` is that of `open_tunnel`. A request is repeated for `patience_s` before the connection is
    given up. One greenlet asks, another gives what comes to `on_event`: while that waits, what is queued is still sent."""

    __slots__ = (
        "_arrived",
        "_asking",
        "_end",
        "_feeder",
        "_inbox",
        "_patience_s",
        "_pause_s",
        "_posts",
        "_sequence",
        "_session_id",
        "_unread_bytes",
        "_wake",
    )

    def __init__(
        self,
        posts: HttpPosts,
        session_id: str,
        rtmp: Connection,
        peer: str,
        on_event: Callable[[Transport, RtmpEvent], None],
        on_closed: Callable[[Transport], None],
        patience_s: float,
    ) -> None:
        super().__init__(rtmp, peer, on_event, on_closed)
        self._posts, self._session_id, self._patience_s = posts, session_id, patience_s
        self._sequence = 0
        self._pause_s = 0.0
        """How long we wait at most, where the server would have us wait longer."""
        self._wake = Event()
        """There may be something to ask, or to send."""
        self._inbox: deque[bytes] = deque()
        self._unread_bytes = 0
        self._arrived = Event()
        self._end = ""
        """Why nothing comes any more."""
        self._asking: gevent.Greenlet[[], None] | None = None
        self._feeder: gevent.Greenlet[[], None] | None = None

    def start(self) -> None:
        self._queue(self.rtmp.data_to_send())
        self._asking = gevent.spawn(self._ask)
        self._feeder = gevent.spawn(self._feed)

    def _queue(self, data: bytes) -> None:
        self._out.append(data)
        self._queued_bytes += len(data)
        self._wake.set()

    # Asking

    def _ask(self) -> None:
        """Greenlet: one request after the other, until there is no connection any more."""
        end = CLOSED_HERE
        began, wait_s = time.monotonic(), 0.0
        try:
            while not self.closed.is_set():
                if self._unread_bytes > _MOST_UNREAD_BYTES:
                    self._wait(None)
                elif body := self._body():
                    began = time.monotonic()
                    wait_s = self._answered(self._request(Verb.SEND, body), said=True)
                elif self._closing:
                    break
                elif self._unread_bytes > _UNREAD_BYTES:
                    self._wait(None)
                elif (left_s := began + wait_s - time.monotonic()) > 0:
                    self._wait(left_s)
                else:
                    began = time.monotonic()
                    wait_s = self._answered(self._request(Verb.IDLE, _NOTHING), said=False)
            self._say_goodbye()
        except _Ended as ended:
            end = str(ended)
        except Exception as error:
            _log.exception("asking %s failed", self.peer)
            end = f"internal error: {error!r}"
        finally:
            self._posts.close()
            self._end = end
            self._arrived.set()

    def _wait(self, seconds: float | None) -> None:
        self._wake.clear()
        self._wake.wait(seconds)

    def _body(self) -> bytes:
        """Take what is queued, or the first part of it."""
        out = self._out
        parts: list[bytes] = []
        room = _MOST_BODY_BYTES
        while out and room > 0:
            part = out.popleft()
            if len(part) > room:
                out.appendleft(part[room:])
                part = part[:room]
            room -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _request(self, verb: Verb, body: bytes) -> bytes:
        """The answer to the next request. Raises _Ended when there is none."""
        target = session_target(verb, self._session_id, self._sequence)
        try:
            answer = _repeated(self._posts, target, body, self._patience_s, lambda _: self.closed.is_set())
        except PostFailed as failure:
            raise _Ended(f"connection lost: asked again for {self._patience_s:g} s: {failure}") from None
        if answer.status != 200:
            raise _Ended(_refused(answer, target))
        if not answer.body:
            raise _Ended("the server broke the protocol: an answer without a poll byte")
        self._sequence += 1
        if verb is Verb.SEND:
            self._queued_bytes = max(0, self._queued_bytes - len(body))
            self._room.set()
        return answer.body

    def _answered(self, answer: bytes, said: bool) -> float:
        """Take an answer apart; returns how long after its request the next may be made. `said`: the request brought something.
        Raises _Ended at the end."""
        poll, data = answer[0], answer[1:]
        if data:
            self._inbox.append(data)
            self._unread_bytes += len(data)
            self._arrived.set()
        if not poll:
            raise _Ended(SERVER_CLOSED)
        polite_s = min(poll * POLL_UNIT_S, _MOST_PAUSE_S)
        if data:
            # Not at once: what is said in reply should find no request under way, which the server may hold back.
            self._pause_s = 0.0
            return polite_s
        # Who publishes says much and hears nothing, and need not ask in between; others wait for an answer.
        pause_s, self._pause_s = self._pause_s, max(POLL_UNIT_S, min(self._pause_s * 2, _MOST_PAUSE_S))
        return min(polite_s, pause_s, _SAID_PAUSE_S if said else _MOST_PAUSE_S)

    def _say_goodbye(self) -> None:
        target = session_target(Verb.CLOSE, self._session_id, self._sequence)
        try:
            self._posts.post(target, _NOTHING, REQUEST_S)
        except PostFailed:
            pass  # Then the server ends the session when nobody asks any more.

    # Receiving

    def _feed(self) -> None:
        """Greenlet: give what has come to the owner, and end the connection behind it."""
        reason = ""
        inbox = self._inbox
        try:
            while not self.closed.is_set():
                self._arrived.clear()
                while inbox:
                    data = inbox.popleft()
                    self._received(data)
                    self._unread_bytes -= len(data)
                    self._wake.set()
                    gevent.sleep(0)
                if self._end:
                    break
                self._arrived.wait()
        except RtmpError as error:
            reason = f"the server broke the protocol: {error}"
        except Exception as error:
            _log.exception("reading from %s failed", self.peer)
            reason = f"internal error: {error!r}"
        finally:
            self._finish(reason or self._end or CLOSED_HERE)

    # Closing

    def close(self, drain_s: float = 0.0, linger_s: float = 0.0) -> None:
        if self.closed.is_set():
            return
        self._closing = True
        self._wake.set()
        if linger_s > 0 and not self._end and gevent.getcurrent() is not self._feeder:
            self.closed.wait((drain_s if self._queued_bytes else 0.0) + linger_s)
        self._finish(CLOSED_HERE)

    def _release(self) -> None:
        self._closing = True
        self._wake.set()
        self._arrived.set()


class _Ended(Exception):
    """There will be no more answers; says why."""
