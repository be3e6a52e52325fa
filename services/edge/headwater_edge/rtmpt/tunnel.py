"""One RTMPT session at this edge: its requests, one after the other, and when each is answered.

A request is worked on in four steps: its bytes go into the client, it is waited until there is something to say (or not), what
the session is then is stored together with the answer, the answer leaves. When the store says that another edge has taken the
session, all that is here of it is forgotten, and the session taken back as it is stored, if somebody still waits for an answer
here.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headwater_bus.logs import get_log
from headwater_rtmp.message import Message
from headwater_rtmp.rtmpt import PollPacing, Sequence, Verb, Verdict
from headwater_store import Taken

from headwater_edge.doors.http import HttpRequest
from headwater_edge.rtmpt.client import TunnelClient
from headwater_edge.rtmpt.record import RecordError, pack, record_of, restore, unpack
from headwater_edge.rtmpt.records import OnWritten

if TYPE_CHECKING:
    from headwater_edge.edge import Edge
    from headwater_edge.rtmpt.tunnels import Tunnels

_log = get_log("edge")
_MOST_WAITING = 16
"""Requests of one session that wait for their turn."""
_CLOSED = b"\x00"
"""The answer when the session has ended."""


class Work:
    """A request of a session: from each connection that it came by. `changes`: whether the session is another behind it."""

    __slots__ = ("at", "body", "changes", "requests", "sequence", "verb", "waits")

    def __init__(self, verb: Verb, sequence: int, request: HttpRequest, now: float) -> None:
        self.verb, self.sequence, self.body = verb, sequence, request.body
        self.requests = [request]
        self.at = now
        self.changes = False
        self.waits = False
        """Whether it waits for something to say."""

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the answer."""
        return any(not request.closed for request in self.requests)

    def answer(self, status: int, body: bytes) -> None:
        """Answer everybody who waits."""
        for request in self.requests:
            request.answer(status, body)

    def abort(self) -> None:
        """Close the connections that it came by: whoever waits there asks again, maybe another edge."""
        for request in self.requests:
            request.abort()


class Tunnel:
    """See the module. `client` is None while the session is looked for in the store, and when it is not here."""

    __slots__ = (
        "_answer",
        "_answer_stored",
        "_checked",
        "_current",
        "_edge",
        "_loading",
        "_must_write",
        "_owner",
        "_pacing",
        "_sequence",
        "_timer",
        "_waiting",
        "_written",
        "_written_at",
        "address",
        "client",
        "fence",
        "heard_at",
        "key",
    )

    def __init__(self, owner: "Tunnels", edge: "Edge", key: str, address: str) -> None:
        self._owner, self._edge, self.key, self.address = owner, edge, key, address
        self.client: TunnelClient | None = None
        self.fence = 0
        self.heard_at = time.monotonic()
        """When the last request came."""
        self._sequence = Sequence()
        self._pacing = PollPacing()
        self._answer = b""
        """To the last request."""
        self._answer_stored = True
        self._current: Work | None = None
        self._waiting: list[Work] = []
        self._loading = False
        self._checked = False
        """Whether the store was asked who has the session since the last request was begun."""
        self._must_write = False
        """Whether the store does not say yet that the session is here."""
        self._written = b""
        """What the store holds, as far as we know."""
        self._written_at = self.heard_at
        self._timer: Any = None

    # A new session

    def open(self, request: HttpRequest) -> None:
        """A client has asked for a session: it is told the key when the session is stored."""
        client = self.client = self._new_client(request.address, request.secure)
        self._edge.clients[client.session] = client
        self._edge.counters.tunnels_opened += 1

        def taken(found: Taken | None) -> None:
            if found is None or client.closed:
                self._away(request)
                return
            self.fence = client.fence = found.fence
            self._write(client, b"", written)

        def written(stored: bool | None) -> None:
            if stored and not client.closed:
                request.answer(200, f"{self.key}\n".encode())
            else:
                self._away(request)

        self._owner.records.make(self.key, taken)

    def _away(self, request: HttpRequest) -> None:
        request.answer(503, b"")
        self._end(f"its session cannot be stored for {self._edge.config.tunnel_patience_s:g} s")

    def _new_client(self, address: str, secure: bool) -> TunnelClient:
        return TunnelClient(self._edge, address, secure, self._changed, self._taken)

    # Requests

    def request(self, verb: Verb, sequence: int, request: HttpRequest) -> None:
        """A request of the session."""
        self.heard_at = now = time.monotonic()
        current = self._current
        if current is not None and current.sequence == sequence and current.verb == verb:
            self._edge.counters.requests_repeated += 1
            current.requests.append(request)
            return
        if len(self._waiting) >= _MOST_WAITING:
            request.answer(409, b"")
            return
        self._waiting.append(Work(verb, sequence, request, now))
        if self.client is None and self.fence == 0:
            self._load()
        else:
            self._next()

    def _next(self) -> None:
        """Go on with what waits, if its turn has come."""
        while self._current is None and not self._loading and self._waiting:
            work = min(self._waiting, key=lambda work: self._sequence.ahead(work.sequence))
            verdict = self._sequence.judge(work.sequence)
            if verdict is Verdict.EARLY and self._checked:
                return
            self._waiting.remove(work)
            if not work.awaited and (verdict is not Verdict.NEXT or work.verb is Verb.IDLE):
                continue
            if verdict is Verdict.OLD:
                self._edge.counters.requests_refused += 1
                work.answer(409, b"")
            elif verdict is Verdict.REPEAT and not (self._answer_stored or self._checked):
                # Another edge may have answered it since, and more.
                self._waiting.insert(0, work)
                self._check()
            elif verdict is Verdict.REPEAT:
                self._edge.counters.requests_repeated += 1
                self._checked = False
                work.answer(200, self._answer)
            elif self.client is None:
                work.answer(404, b"")
            elif verdict is Verdict.NEXT and (self._checked or self._is_due(work)):
                self._begin(work)
            elif self._checked:
                self._refuse(work)
            else:
                self._waiting.insert(0, work)
                self._check()
        if not self._waiting:
            self._checked = False  # Until the next one comes another edge may have taken the session.

    def _is_due(self, work: Work) -> bool:
        """Whether a request comes right behind the last one."""
        return self._sequence.last >= 0 and self._sequence.ahead(work.sequence) == 0

    def _refuse(self, work: Work) -> None:
        reason = f"request {work.sequence}, expected {self._sequence.expected}"
        # Not before its record is gone: another edge would go on with it.
        self._end(reason, error=True, then=lambda: work.answer(409, b""))

    def _begin(self, work: Work) -> None:
        client = self.client
        assert client is not None
        self._current = work
        self._checked = False
        work.changes = self._sequence.unsure
        self._sequence.took(work.sequence, work.verb)
        self._edge.counters.requests += 1
        work.waits = True
        if client.closed:
            pass
        elif work.verb is Verb.CLOSE:
            client.close("closed by the client")
        elif work.verb is Verb.SEND:
            work.changes = True
            client.receive(work.body)
        else:
            client.heard_at = work.at
        self._answer_if_due()

    def _answer_if_due(self) -> None:
        """Answer when there is something to say, or nothing to wait for."""
        work, client = self._current, self.client
        if work is None or client is None or not work.waits:
            return
        now = time.monotonic()
        config = self._edge.config
        if not client.listens and not client.closed:
            wait_s = config.tunnel_pause_s
        elif work.verb is Verb.IDLE and not (
            client.closed or client.publishes or client.backlog_bytes or client.unstored
        ):
            wait_s = config.tunnel_hold_s
        else:
            wait_s = 0.0
        left_s = work.at + wait_s - now
        if left_s > 0.0 and not self._edge.draining:
            self._wait(left_s)
        else:
            self._finish(work, client, now)

    def _wait(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._edge.loop.timer(seconds)
            self._timer.start(self._time_is_up)

    def _time_is_up(self) -> None:
        self._stop_waiting()
        work, client = self._current, self.client
        if work is not None and client is not None and work.waits:
            self._finish(work, client, time.monotonic())

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _finish(self, work: Work, client: TunnelClient, now: float) -> None:
        """Make the answer, and store it unless nothing has changed."""
        self._stop_waiting()
        work.waits = False
        try:
            self._store(work, client, now)
        except Exception as error:
            self.fail(error)

    def _store(self, work: Work, client: TunnelClient, now: float) -> None:
        config = self._edge.config
        # Whoever has only waited, and is gone, asks another edge the same: what it is told here it would never hear.
        heard = work.awaited or work.verb is not Verb.IDLE
        output = client.take_output(config.tunnel_answer_bytes) if heard else b""
        if work.verb is Verb.CLOSE or (client.closed and not output):
            answer = _CLOSED
        else:
            answer = bytes((self._pacing.answered(len(output)),)) + output
        if output:
            self._sequence.told()
        due = now - self._written_at > config.tunnel_refresh_s
        changed = work.changes or output or client.closed or client.unstored
        if not (changed or self._must_write or due):
            self._answered(work, answer, stored=False)
            return
        marks = client.marks()

        def written(stored: bool | None) -> None:
            if self.client is not client or self._current is not work:
                return  # Another edge had it meanwhile.
            if stored:
                self._must_write = False
                self._written_at = time.monotonic()
                client.stored(marks)
                self._answered(work, answer, stored=True)
            elif stored is None:
                work.abort()
                self._end(f"its session cannot be stored for {config.tunnel_patience_s:g} s", error=True)
            else:
                client.taken()

        self._edge.counters.records_written += 1
        self._write(client, answer, written)

    def _write(self, client: TunnelClient, answer: bytes, written: OnWritten) -> None:
        """Store the session as it is now, with the answer to its last request."""
        record = record_of(client, self._edge.node.boot, self._sequence, answer, self._pacing.dump())
        self._written = pack(record)
        self._owner.records.write(self.key, self.fence, self._written, written)

    def _answered(self, work: Work, answer: bytes, stored: bool) -> None:
        self._answer, self._answer_stored, self._current = answer, stored, None
        if any(request.closed for request in work.requests):
            # Whoever asked has gone, and has asked another edge, maybe, and that one has answered more since, of which the store
            # need not know. The next answer must be stored, so that we learn who has the session.
            self._must_write = True
            self._sequence = Sequence.restored(work.sequence, self._sequence.unsure)
        work.answer(200, answer)
        client = self.client
        if client is not None and client.closed and not client.backlog_bytes:
            self._owner.forget(self)
        self._next()
        if self._edge.draining:
            self.hand_over()
        self._edge.flush_clients()

    # The client

    def _changed(self) -> None:
        """Something was queued for the client, or it may send more, or has ended."""
        self._answer_if_due()

    def _taken(self) -> None:
        """Another edge has taken the session."""
        if self.client is None:
            return
        self._stop_waiting()
        work, self._current = self._current, None
        self.client, self.fence = None, 0
        if work is not None:
            self._waiting.insert(0, work)
        self._waiting = [work for work in self._waiting if work.awaited]
        if self._waiting and not self._edge.draining:
            self._load()
            return
        for work in self._waiting:
            work.abort()
        self._waiting.clear()
        self._owner.forget(self)

    def doubt(self) -> None:
        """Another edge may have the session: ask the store with the next answer."""
        self._must_write = True
        if self._current is None and self._sequence.last >= 0:
            self._sequence = Sequence.restored(self._sequence.last, self._sequence.unsure)
            self._checked = False

    def hand_over(self) -> None:
        """Let another edge go on with the session: what waits here for an answer is asked again there."""
        if self._current is not None and not self._current.waits:
            return  # It is being stored: this comes again when it is answered.
        client = self.client
        if client is not None and not client.closed:
            client.taken()

    def check(self, now: float) -> None:
        """End a session that no request came for, and what waits for a request that does not come."""
        config = self._edge.config
        for work in [work for work in self._waiting if now - work.at > config.tunnel_early_s]:
            if self._loading or self._current is not None:
                break
            self._waiting.remove(work)
            self._refuse(work)
            return
        if now - self.heard_at > config.tunnel_idle_s and self._current is None and not self._loading:
            self._end(f"no request for {config.tunnel_idle_s:g} s")

    def _end(self, reason: str, error: bool = False, then: Callable[[], None] | None = None) -> None:
        """The session is over; `then()`, when no edge can find it any more."""
        client = self.client
        self._owner.forget(self)
        if self.fence:
            self._owner.records.drop(self.key, self.fence, then)
        if client is not None and not client.closed:
            client.close(reason, error=error, gone=True)
        for work in self._waiting:
            work.answer(404, b"")
        self._waiting.clear()

    def fail(self, error: Exception) -> None:
        """Something went wrong with this session: it ends, and others go on."""
        self._edge.counters.internal_errors += 1
        _log.error("session failed", error=repr(error))
        work, self._current = self._current, None
        if work is not None:
            work.abort()
        try:
            self._end("internal error", error=True)
        except Exception as again:
            _log.error("session not ended", error=repr(again))

    # The store

    def _check(self) -> None:
        """Another edge may have had the session since: it is still ours if the store takes what it has."""
        client = self.client
        self._loading = True

        def written(stored: bool | None) -> None:
            self._loading = False
            if self.client is not client:
                if self._waiting:
                    self._load()  # It was taken meanwhile.
            elif stored:
                self._checked = True
                self._next()
            elif stored is None:
                for work in self._waiting:
                    work.abort()
                self._waiting.clear()
            elif client is not None:
                client.taken()
            self._edge.flush_clients()

        self._owner.records.write(self.key, self.fence, self._written, written)

    def _load(self) -> None:
        """Take the session from the store, from whoever has it."""
        if not self._loading:
            self._loading = True
            self._owner.records.take(self.key, self._loaded)

    def _loaded(self, taken: Taken | None) -> None:
        self._loading = False
        self._checked = True
        if taken is None or taken.data is None:
            if taken is None:
                for work in self._waiting:
                    work.abort()
            elif taken.fence:
                self._owner.records.drop(self.key, taken.fence)
            self._gone_from_store()
            return
        self._restore(taken.data, taken.fence)
        self._next()
        self._edge.flush_clients()

    def _restore(self, data: bytes, fence: int) -> None:
        """Go on with the session as it is stored."""
        former, self.client = self.client, None
        if former is not None:
            former.taken()
        edge = self._edge
        try:
            record = unpack(data)
            client = self._new_client(record.address, record.secure)
            self.fence = client.fence = fence
            edge.clients[client.session] = client
            try:
                restore(edge, record, client)
            except RecordError:
                client.close("its record cannot be read", gone=True)
                raise
            self._sequence = Sequence.restored(record.sequence, record.unsure)
            self._pacing = PollPacing.load(record.polls)
        except RecordError as error:
            edge.counters.internal_errors += 1
            _log.error("session not restored", error=str(error))
            self._gone_from_store()
            return
        self.client, self._written, self._must_write = client, data, True
        self._answer, self._answer_stored = record.answer, True
        if client.closed:
            del edge.clients[client.session]
            return
        edge.counters.sessions_restored += 1
        _log.info(
            "session taken over", session=client.session_id, group=client.home.group, address=client.address
        )
        for attachment in client.attachments:
            if attachment.group and not (attachment.is_home and record.wants_to_connect):
                edge.cluster.attach(attachment)
        edge.router.route_again(client, [Message(*row[:4]) for row in record.gated])
        # What the former edge has read may not be taken yet.
        edge.turns.add(client)

    def _gone_from_store(self) -> None:
        client, self.client = self.client, None
        if client is not None and not client.closed:
            client.close("its record is gone", error=True, gone=True)
        for work in self._waiting:
            work.answer(404, b"")
        self._waiting.clear()
        self._owner.forget(self)
