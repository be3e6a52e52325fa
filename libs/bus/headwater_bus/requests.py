"""Requests and answers over DEALER and ROUTER: `[request id]` as msgpack, then a batch of one envelope (`headwater_bus.codec`).

Request id 0 marks what a server sends unasked. One greenlet reads a socket, one writes it.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import gevent
import msgpack
import zmq.green as zmq
from gevent.event import AsyncResult
from gevent.queue import SimpleQueue
from zmq.utils.monitor import parse_monitor_message

from headwater_bus.codec import Codec, EnvelopeError, UnknownEnvelope
from headwater_bus.control import CONTROL, Refused
from headwater_bus.logs import RateLimit, get_log
from headwater_bus.security import Security
from headwater_bus.sockets import SLICE_S, BindError, bind, connect, pause, until_closed, user_of

__all__ = [
    "BindError",
    "Caller",
    "Handler",
    "NoAnswerError",
    "RefusedError",
    "RequestError",
    "RequestServer",
    "Requester",
    "ask",
]

CODEC = Codec(CONTROL)
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_WAITING = 10_000
"""Requests of one Requester that wait for their answer."""
_LOST = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
_log = get_log("requests")


class RequestError(Exception):
    """No answer, or not the expected one; the text says what was asked of whom."""


class NoAnswerError(RequestError):
    """The time was over. All other RequestErrors say that there was nobody to wait for."""


class RefusedError(RequestError):
    """The answer was Refused, with this `code`."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


def _pack(request_id: int, envelope: Any) -> list[bytes]:
    return [msgpack.packb([request_id]), *CODEC.pack([envelope])]


def _unpack(frames: list[bytes]) -> tuple[int, Any]:
    """(request id, envelope). Raises EnvelopeError."""
    try:
        header = msgpack.unpackb(frames[0])
        request_id = header[0]
    except (ValueError, IndexError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise EnvelopeError(f"request header not readable: {error}") from error
    if type(request_id) is not int:
        raise EnvelopeError("request header: expected [request id]")
    envelopes = CODEC.unpack(frames[1:])
    if len(envelopes) != 1:
        raise EnvelopeError(f"expected one envelope, got {len(envelopes)}")
    return request_id, envelopes[0]


@dataclass(slots=True)
class _Question:
    answer: "AsyncResult[Any]"
    then: Callable[[Any], None] | None


class Requester:
    """A DEALER that asks one server. Raises SecurityError for an endpoint or a server whose key will not do, and RequestError
    for what is no endpoint. `on_push` is called with what comes unasked, in the reading greenlet; it must not block.

    With `on_lost` it is for one connection only: when that is refused, or goes, the requester closes, whoever waits for an answer
    gets a RequestError, and `on_lost` is called. Without, ZeroMQ connects again and again."""

    def __init__(
        self,
        context: Any,
        security: Security,
        endpoint: str,
        server: str,
        on_push: Callable[[Any], None] | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._on_push, self._on_lost = on_push, on_lost
        self._waiting: dict[int, _Question] = {}
        self._next_id = 1
        self._closed = ""
        self._out: SimpleQueue[tuple[int, list[bytes]]] = SimpleQueue()
        self._jobs: list[gevent.Greenlet[..., None]] = []
        self._socket = context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RECONNECT_IVL, 50)
        self._socket.set(zmq.RECONNECT_IVL_MAX, 500)
        self._socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self._monitor: Any = self._socket.get_monitor_socket(_LOST) if on_lost is not None else None
        try:
            connect(self._socket, security, endpoint, server)
        except zmq.ZMQError as error:
            self._close_socket()
            raise RequestError(f"{endpoint}: no endpoint to connect to: {error}") from error
        except Exception:
            self._close_socket()
            raise
        jobs = [self._read, self._write, *([self._watch] if self._monitor is not None else [])]
        self._jobs = [gevent.spawn(until_closed(self._socket, job)) for job in jobs]

    def request(self, envelope: Any, timeout_s: float, then: Callable[[Any], None] | None = None) -> Any:
        """Ask and wait for the answer, which may be Refused. `then` is called with it by the reading greenlet before anything
        behind it is read. Raises NoAnswerError after `timeout_s`, and RequestError when the requester is closed meanwhile."""
        name = type(envelope).__name__
        if self._socket.closed:
            raise RequestError(f"{name}: {self._closed}")
        if len(self._waiting) >= MAX_WAITING:
            raise RequestError(f"{name}: {MAX_WAITING} requests to {self.endpoint} wait for an answer")
        request_id, self._next_id = self._next_id, self._next_id + 1
        frames = _pack(request_id, envelope)
        question = self._waiting[request_id] = _Question(AsyncResult(), then)
        self._out.put((request_id, frames))
        try:
            return question.answer.get(timeout=timeout_s)
        except gevent.Timeout as error:
            raise NoAnswerError(f"{name}: no answer from {self.endpoint} within {timeout_s:g} s") from error
        finally:
            self._waiting.pop(request_id, None)

    def _read(self) -> None:
        paused_at = time.monotonic()
        while True:
            frames = self._socket.recv_multipart()
            try:
                request_id, envelope = _unpack(frames)
                self._take(request_id, envelope)
            except EnvelopeError as error:
                _log.warning("answer not readable", endpoint=self.endpoint, error=error)
            except Exception as error:
                _log.error("internal error: answer not taken", endpoint=self.endpoint, error=repr(error))
            if time.monotonic() - paused_at > SLICE_S:
                pause()
                paused_at = time.monotonic()

    def _take(self, request_id: int, envelope: Any) -> None:
        if request_id == 0:
            if self._on_push is not None:
                self._on_push(envelope)
            return
        question = self._waiting.get(request_id)
        if question is not None:
            question.answer.set(envelope)
            if question.then is not None:
                question.then(envelope)

    def _write(self) -> None:
        while True:
            request_id, frames = self._out.get()
            # Nobody waits for an answer that comes too late.
            if request_id in self._waiting:
                self._socket.send_multipart(frames)

    def _watch(self) -> None:
        event = parse_monitor_message(self._monitor.recv_multipart())["event"]
        lost = event == zmq.EVENT_DISCONNECTED
        self._end(
            f"the connection to {self.endpoint} is lost" if lost else f"nobody listens at {self.endpoint}"
        )
        if self._on_lost is not None:
            self._on_lost()

    def close(self) -> None:
        """Close the socket; what waits for an answer gets a RequestError."""
        self._end(f"the connection to {self.endpoint} was closed")

    def _end(self, text: str) -> None:
        if self._socket.closed:
            return
        gevent.killall([job for job in self._jobs if job is not gevent.getcurrent()], block=False)
        self._close_socket()
        self._closed = text
        for question in list(self._waiting.values()):
            question.answer.set_exception(RequestError(text))

    def _close_socket(self) -> None:
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close()
        self._socket.close()


@dataclass(slots=True, frozen=True)
class Caller:
    """Who asked: `identity` for answers, `user` the name on its key (None on plain sockets), `connection` the number that
    `on_disconnect` is called with when that goes (a later connection may have it again)."""

    identity: bytes
    user: str | None
    request_id: int
    connection: int = -1


Handler = Callable[[Caller, Any], Any]


class RequestServer:
    """A ROUTER that answers. A handler returns the answer, or None and calls `answer` later; it must not block. Bad requests
    and unknown kinds get Refused; nothing that arrives ends the server. `on_disconnect` is called with each connection (see
    Caller) that goes."""

    def __init__(
        self,
        context: Any,
        security: Security,
        handlers: dict[type, Handler],
        on_disconnect: Callable[[int], None] | None = None,
    ) -> None:
        self._security = security
        self._on_disconnect = on_disconnect
        self._handlers = dict(handlers)
        self._out: SimpleQueue[list[bytes]] = SimpleQueue()
        self._unknown: set[int] = set()
        self._limit = RateLimit(10.0)
        self.refused = 0
        self._socket = context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self._monitor: Any = (
            self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) if on_disconnect is not None else None
        )
        security.apply_server(self._socket)

    def bind(self, endpoint: str) -> str:
        """Bind; returns the endpoint with its actual port. Raises SecurityError or BindError (a zmq.ZMQError)."""
        return bind(self._socket, self._security, endpoint)

    def add(self, kind: type, handler: Handler) -> None:
        """Answer one more kind of request."""
        self._handlers[kind] = handler

    def answer(self, caller: Caller, envelope: Any) -> None:
        """Send an answer."""
        self.answer_all([caller], envelope)

    def answer_all(self, callers: Iterable[Caller], envelope: Any) -> None:
        """Send the same answer to several, packed once."""
        try:
            frames = CODEC.pack([envelope])
        except EnvelopeError as error:
            _log.error("answer not packable", kind=type(envelope).__name__, error=error)
            frames = CODEC.pack([Refused("internal", f"internal error: {error}")])
        for caller in callers:
            self._out.put([caller.identity, msgpack.packb([caller.request_id]), *frames])

    def push(self, identities: Iterable[bytes], envelope: Any) -> None:
        """Send something unasked to each, packed once. Raises EnvelopeError for what cannot be packed."""
        frames = _pack(0, envelope)
        for identity in identities:
            self._out.put([identity, *frames])

    def read(self) -> None:
        """Job: take requests for ever."""
        paused_at = time.monotonic()
        while True:
            parts = self._socket.recv_multipart(copy=False)
            user = user_of(parts[-1]) if self._security.encrypted else None
            connection = parts[-1].get(zmq.SRCFD) if self._monitor is not None else -1
            self._take([part.bytes for part in parts], user, connection)
            if time.monotonic() - paused_at > SLICE_S:
                pause()
                paused_at = time.monotonic()

    def _take(self, frames: list[bytes], user: str | None, connection: int) -> None:
        try:
            request_id, envelope = _unpack(frames[1:])
        except EnvelopeError as error:
            self.refused += 1
            if self._limit.passes("unreadable"):
                _log.warning(
                    "request not readable",
                    user=user,
                    error=error,
                    not_shown=self._limit.suppressed("unreadable"),
                )
            self.answer(Caller(frames[0], user, 0), Refused("bad-request", str(error)))
            return
        caller = Caller(frames[0], user, request_id, connection)
        handler = self._handlers.get(type(envelope))
        if handler is None:
            self._refuse_kind(caller, envelope)
            return
        try:
            answer = handler(caller, envelope)
        except Exception as error:
            _log.error("request failed", kind=type(envelope).__name__, error=repr(error))
            answer = Refused("internal", f"{type(envelope).__name__}: internal error")
        if answer is not None:
            self.answer(caller, answer)

    def _refuse_kind(self, caller: Caller, envelope: Any) -> None:
        self.refused += 1
        if isinstance(envelope, UnknownEnvelope):
            if envelope.kind not in self._unknown and len(self._unknown) < 100:
                self._unknown.add(envelope.kind)
                _log.warning("unknown kind of request", kind=envelope.kind)
            text = f"kind {envelope.kind} is not known here"
        else:
            text = f"{type(envelope).__name__} is not for this node"
        self.answer(caller, Refused("unknown-kind", text))

    def write(self) -> None:
        """Job: send answers for ever."""
        while True:
            self._socket.send_multipart(self._out.get())

    def jobs(self) -> list[tuple[str, Callable[[], None]]]:
        """Named jobs to spawn; each runs until it is killed or the server is closed."""
        named = [("requests-read", self.read), ("requests-write", self.write)]
        if self._monitor is not None:
            named.append(("requests-watch", self._watch))
        return [(name, until_closed(self._socket, job)) for name, job in named]

    def _watch(self) -> None:
        while True:
            event = parse_monitor_message(self._monitor.recv_multipart())
            if self._on_disconnect is not None:
                self._on_disconnect(int(event["value"]))

    def close(self) -> None:
        """Close the socket."""
        if self._monitor is not None and not self._socket.closed:
            self._socket.disable_monitor()
            self._monitor.close()
        self._socket.close()


def _nothing() -> None:
    """The answer to a question says it all."""


def ask(
    context: Any,
    security: Security,
    endpoint: str,
    server: str,
    envelope: Any,
    timeout_s: float = 3.0,
    *,
    patient: bool = True,
) -> Any:
    """One question on a connection of its own, for command lines. Raises SecurityError, and RequestError, of which
    RefusedError is the answer Refused. Who is not `patient` does not wait for somebody to listen there."""
    requester = Requester(context, security, endpoint, server, on_lost=None if patient else _nothing)
    try:
        answer = requester.request(envelope, timeout_s)
    finally:
        requester.close()
    if isinstance(answer, Refused):
        raise RefusedError(f"{endpoint}: {answer.text}", answer.code)
    return answer
