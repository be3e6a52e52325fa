"""An RTMPT client behind a hostile proxy: its requests come twice, late, in another order, cut off, at any edge.

What the session says is a row of calls, numbered from 1, cut into requests anywhere: one byte that is consumed twice, or not, and
the calls that follow it are not what was sent.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gevent
from gevent.socket import create_connection
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.rtmpt import Verb, session_target

from support.balancers import Address
from support.posting import post
from support.proxy import reset
from support.waiting import TIME_FACTOR

_MASK = 0xFFFFFFFF
_PATIENCE_S = 20.0 * TIME_FACTOR
_LATE_S = 0.05
"""How late a copy of a request comes at most. Edges wait 1.5 s for those that are missing."""
_POLLS = 200
_POLL_S = 0.02


class SessionClosed(Exception):
    """The server has ended the session; `status` of the answer that says so."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    sequence: int
    target: str
    body: bytes


class HostileClient:
    """One session. `edges`: where requests may go. `first`: the number of its first request. `strays`: whether copies of which
    nobody hears the answer may arrive anywhere, also when others were answered since: then it may be ended, with a reason.
    `overlap`: whether several requests may be under way."""

    def __init__(
        self,
        edges: Sequence[Address],
        scope: str,
        name: str,
        first: int,
        seed: int,
        strays: bool = False,
        overlap: bool = True,
    ) -> None:
        self.name = name
        self._overlap = overlap
        self._strays: list[gevent.Greenlet[..., None]] | None = [] if strays else None
        self._edges, self._scope = list(edges), scope
        self._chance = random.Random(seed)
        self._rtmp = Connection.client()
        self._next = first & _MASK
        self._here = self._chance.choice(self._edges)
        """The edge that has answered last."""
        self._answers: dict[int, bytes] = {}
        self._calls = 0
        self.sent = 0
        """So many calls were sent whole."""
        self.offence = -1
        """The number of the request that `offend` made."""
        self.results: list[float] = []
        """Numbers of the calls that were answered, as the answers came."""
        self.done: list[str] = []
        """What was done to it."""
        self._connected = False
        self._key = ""

    @property
    def expected(self) -> int:
        """The number of the next request."""
        return self._next

    # The session

    def connect(self) -> None:
        """Open it, and connect to the application. Raises SessionClosed."""
        with create_connection(self._here, timeout=_PATIENCE_S) as sock:
            status, _, body = post(sock, "/open/1", b"\0")
        assert status.startswith("HTTP/1.1 200 "), status
        self._key = body.decode().removesuffix("\n")
        self._say(self._rtmp.data_to_send())
        self._until(lambda: self._rtmp.handshaken, "the handshake")
        properties = {"app": self._scope, "tcUrl": f"rtmpt://127.0.0.1/{self._scope}"}
        connect = encode_command("connect", 1, properties, self.name)
        self._say(self._rtmp.data_to_send() + self._rtmp.send(connect))
        self._until(lambda: self._connected, "the answer to connect")

    def call(self, how_often: int) -> None:
        """Make so many calls and wait for the results. Raises SessionClosed."""
        data = self._rtmp.data_to_send()
        for _ in range(how_often):
            self._calls += 1
            data += self._rtmp.send(encode_command("count", self._calls + 1, None, float(self._calls)))
        self._say(data)
        self.sent = self._calls
        self._until(lambda: len(self.results) == self._calls, "results")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        for _ in range(_POLLS):
            if condition():
                return
            data = self._rtmp.data_to_send()
            if data:
                self._say(data)
            else:
                self._deliver(Verb.IDLE, [b"\0"])
            gevent.sleep(_POLL_S)
        raise AssertionError(f"{self.name}: {what}: not within {_POLLS} requests, after {self.done[-10:]}")

    def _say(self, data: bytes) -> None:
        """Bytes of the client, in one to five requests."""
        cuts = sorted(self._chance.randrange(1, len(data)) for _ in range(self._chance.randrange(5)))
        pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        self._deliver(Verb.SEND, [piece for piece in pieces if piece])

    def _ask(self, verb: Verb, body: bytes) -> Asked:
        number, self._next = self._next, (self._next + 1) & _MASK
        return Asked(number, session_target(verb, self._key, number), body)

    def _take(self, requests: list[Asked]) -> None:
        """The answers, in the order of the requests."""
        for request in requests:
            self._rtmp.feed(self._answers.pop(request.sequence)[1:])
            while (event := self._rtmp.next_event()) is not None:
                if isinstance(event, Message) and event.type_id == MessageType.COMMAND_AMF0:
                    self._command(event)

    def _command(self, message: Message) -> None:
        command = decode_command(message)
        if command.name == "_result" and command.transaction_id == 1:
            self._connected = True
        elif command.name == "_result":
            result = command.args[0]
            assert (result["runs"], result["mine"]) == (1, result["number"]), f"{self.name}: {result}"
            self.results.append(result["number"])
        else:
            raise AssertionError(f"{self.name} is told {command}")

    # What the proxy does

    def _deliver(self, verb: Verb, bodies: list[bytes]) -> None:
        """Let requests arrive, each in some way that must do no harm, and take the answers."""
        one = [self._once, self._repeated, self._again, self._cut_off, self._unread]
        if self._strays is not None:
            one += [self._astray] * 3
        while bodies:
            if self._overlap and len(bodies) > 2 and self._chance.random() < 0.5:
                # The first alone: an edge that takes a session over cannot know that one before what comes is missing.
                requests = [self._ask(verb, body) for body in bodies]
                bodies = []
                self._post(requests[0], self._here)
                self._shuffled(requests[1:])
            else:
                requests = [self._ask(verb, bodies.pop(0))]
                self._chance.choice(one)(requests[0])
            self._take(requests)

    def _once(self, request: Asked) -> None:
        self._note("once", request)
        self._post(request, self._anywhere())

    def _repeated(self, request: Asked) -> None:
        """Several times, at about the same time, at any edges."""
        copies = self._chance.randrange(2, 5)
        self._note(f"{copies} times", request)
        edges = self._edges_for_copies(request, copies)
        self._all([(request, edge, self._late()) for edge in edges])

    def _again(self, request: Asked) -> None:
        """Once more when it has been answered."""
        self._note("again", request)
        for edge in self._edges_for_copies(request, 2):
            self._post(request, edge)

    def _cut_off(self, request: Asked) -> None:
        """A part of it, then all."""
        self._note("cut off", request)
        for _ in range(self._chance.randrange(1, 3)):
            self._post_part(request, self._anywhere())
        self._post(request, self._anywhere())

    def _unread(self, request: Asked) -> None:
        """Whole, but nobody reads the answer; then again."""
        self._note("unread", request)
        self._post_unread(request, self._anywhere())
        if self._chance.random() < 0.5:
            gevent.sleep(self._late())
        self._post(request, self._anywhere())

    def _astray(self, request: Asked) -> None:
        """Once, and a copy of it arrives somewhere, some time."""
        assert self._strays is not None
        self._note("a copy astray", request)
        copy = gevent.Greenlet(self._post_stray, request, self._chance.choice(self._edges))
        copy.start_later(self._chance.uniform(0, 3 * _LATE_S))
        self._strays.append(copy)
        self._post(request, self._anywhere())

    def end_strays(self) -> None:
        """Wait for the copies that are under way."""
        gevent.joinall(self._strays or (), raise_error=True)

    def _shuffled(self, requests: list[Asked]) -> None:
        """In any order, at the edge that has the session."""
        self._note(f"{len(requests)} in another order", requests[0])
        self._all([(request, self._here, self._late()) for request in requests])

    def _anywhere(self) -> Address:
        return self._chance.choice([self._here, *self._edges])

    def _edges_for_copies(self, request: Asked, copies: int) -> list[Address]:
        """Where copies go that are all answered. An answer that says nothing is stored nowhere: only the edge that has given it
        to an idle request knows it."""
        if request.target.startswith("/idle/"):
            return [self._anywhere()] * copies
        return [self._anywhere() for _ in range(copies)]

    def _late(self) -> float:
        return self._chance.uniform(0, _LATE_S)

    def _note(self, what: str, request: Asked) -> None:
        self.done.append(f"{what}: {request.target} {len(request.body)} bytes")

    def _all(self, copies: list[tuple[Asked, Address, float]]) -> None:
        posts = [gevent.Greenlet(self._post, request, edge) for request, edge, _ in copies]
        for job, (_, _, late_s) in zip(posts, copies, strict=True):
            job.start_later(late_s)
        gevent.joinall(posts, raise_error=True)

    def _post(self, request: Asked, edge: Address) -> None:
        """Post it until it is answered. Edges close connections on which they must not answer: whoever asks there asks again."""
        while True:
            try:
                with create_connection(edge, timeout=_PATIENCE_S) as sock:
                    status, _, answer = post(sock, request.target, request.body)
                break
            except ConnectionError:
                gevent.sleep(_POLL_S)
                edge = self._anywhere()
        if not status.startswith("HTTP/1.1 200 "):
            raise SessionClosed(status)
        if answer == b"\0":
            raise SessionClosed("poll byte 0")
        known = self._answers.setdefault(request.sequence, answer)
        assert known == answer, f"{self.name}: two answers to {request.target}: {known!r}, {answer!r}"
        self._here = edge

    def _post_stray(self, request: Asked, edge: Address) -> None:
        with create_connection(edge, timeout=_PATIENCE_S) as sock:
            try:
                post(sock, request.target, request.body)
            except ConnectionError:
                pass  # Nobody waits for it.

    def _post_part(self, request: Asked, edge: Address) -> None:
        data = _encoded(request)
        with create_connection(edge, timeout=_PATIENCE_S) as sock:
            sock.sendall(data[: self._chance.randrange(1, len(data))])
            gevent.sleep(self._late())
            if self._chance.random() < 0.5:
                reset(sock)

    def _post_unread(self, request: Asked, edge: Address) -> None:
        with create_connection(edge, timeout=_PATIENCE_S) as sock:
            sock.sendall(_encoded(request))
            gevent.sleep(self._late())
            if self._chance.random() < 0.5:
                reset(sock)

    # What no session survives

    def offend(self, how: str) -> str:
        """Do what the proxy must not: `far`, a request that is too far ahead; `hole`, one is missing for good. Returns the
        status of the answer."""
        for _ in range(2):
            # Twice here: after a take-over an edge cannot know the number of the next request.
            last = self._ask(Verb.IDLE, b"\0")
            self._post(last, self._here)
            self._take([last])
        steps = {"far": 50, "hole": 1}[how]
        data = self._rtmp.send(encode_command("count", self._calls + 2, None, float(self._calls + 1)))
        number = self.offence = (self._next + steps) & _MASK
        try:
            self._post(Asked(number, session_target(Verb.SEND, self._key, number), data), self._here)
        except SessionClosed as closed:
            return closed.status
        raise AssertionError(f"{self.name}: answered, after {self.done[-10:]}")

    def after(self) -> str:
        """The status of the answer to one more request."""
        try:
            self._post(self._ask(Verb.IDLE, b"\0"), self._anywhere())
        except SessionClosed as closed:
            return closed.status
        raise AssertionError(f"{self.name}: goes on, after {self.done[-10:]}")


def _encoded(request: Asked) -> bytes:
    head = f"POST {request.target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(request.body)}\r\n\r\n"
    return head.encode() + request.body
