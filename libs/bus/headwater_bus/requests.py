"""Requests and answers over DEALER and ROUTER: `[request id]` as msgpack, then a batch of one envelope (`headwater_bus.codec`).

Request id 0 marks what a server sends unasked. One greenlet reads a socket, one writes it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent
import msgpack
import zmq.green as zmq
from gevent.event import AsyncResult
from gevent.queue import SimpleQueue

from headwater_bus.codec import Codec, EnvelopeError, UnknownEnvelope
from headwater_bus.control import CONTROL, Refused
from headwater_bus.logs import get_log
from headwater_bus.security import Security

CODEC = Codec(CONTROL)
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_log = get_log("requests")


class RequestError(Exception):
    """No answer, or not the expected one; the text says what was asked of whom."""


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


class Requester:
    """A DEALER that asks one server."""

    def __init__(
        self,
        context: Any,
        security: Security,
        endpoint: str,
        server: str,
        on_push: Callable[[Any], None] | None = None,
    ) -> None:
        security.check_endpoint(endpoint)
        self.endpoint = endpoint
        self._on_push = on_push
        self._waiting: dict[int, AsyncResult] = {}
        self._next_id = 1
        self._out: SimpleQueue[list[bytes]] = SimpleQueue()
        self._socket = context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RECONNECT_IVL, 50)
        self._socket.set(zmq.RECONNECT_IVL_MAX, 500)
        self._socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        security.apply_client(self._socket, server)
        self._socket.connect(endpoint)
        self._jobs = [gevent.spawn(self._read), gevent.spawn(self._write)]

    def request(self, envelope: Any, timeout_s: float) -> Any:
        """Ask and wait for the answer, which may be Refused. Raises RequestError after `timeout_s`."""
        request_id, self._next_id = self._next_id, self._next_id + 1
        answer: AsyncResult = AsyncResult()
        self._waiting[request_id] = answer
        self._out.put(_pack(request_id, envelope))
        try:
            return answer.get(timeout=timeout_s)
        except gevent.Timeout as error:
            raise RequestError(
                f"{type(envelope).__name__}: no answer from {self.endpoint} within {timeout_s:g} s"
            ) from error
        finally:
            self._waiting.pop(request_id, None)

    def _read(self) -> None:
        while True:
            frames = self._socket.recv_multipart()
            try:
                request_id, envelope = _unpack(frames)
            except EnvelopeError as error:
                _log.warning("answer not readable", endpoint=self.endpoint, error=error)
                continue
            if request_id == 0:
                if self._on_push is not None:
                    self._on_push(envelope)
                continue
            answer = self._waiting.get(request_id)
            if answer is not None:
                answer.set(envelope)

    def _write(self) -> None:
        while True:
            self._socket.send_multipart(self._out.get())

    def close(self) -> None:
        """Close the socket; what waits for an answer runs into its timeout."""
        gevent.killall(self._jobs, block=False)
        self._socket.close()


@dataclass(slots=True, frozen=True)
class Caller:
    """Who asked: `identity` for answers, `user` the name on its key (None on plain sockets)."""

    identity: bytes
    user: str | None
    request_id: int


Handler = Callable[[Caller, Any], Any]


class RequestServer:
    """A ROUTER that answers. A handler returns the answer, or None and calls `answer` later. Bad requests and unknown kinds get
    Refused; nothing that arrives ends the server."""

    def __init__(self, context: Any, security: Security, handlers: dict[type, Handler]) -> None:
        self._security = security
        self._handlers = handlers
        self._out: SimpleQueue[list[bytes]] = SimpleQueue()
        self._unknown: set[int] = set()
        self.refused = 0
        self._socket = context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.ROUTER_HANDOVER, 1)
        self._socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        security.apply_server(self._socket)

    def bind(self, endpoint: str) -> str:
        """Bind; returns the endpoint with its actual port. Raises SecurityError or zmq.ZMQError."""
        self._security.check_endpoint(endpoint)
        self._socket.bind(endpoint)
        actual: bytes = self._socket.get(zmq.LAST_ENDPOINT)
        return actual.decode().rstrip("\0")

    def answer(self, caller: Caller, envelope: Any) -> None:
        """Send an answer."""
        self._out.put([caller.identity, *_pack(caller.request_id, envelope)])

    def push(self, identity: bytes, envelope: Any) -> None:
        """Send something unasked."""
        self._out.put([identity, *_pack(0, envelope)])

    def read(self) -> None:
        """Job: take requests for ever."""
        while True:
            parts = self._socket.recv_multipart(copy=False)
            user: str | None = None
            if self._security.encrypted:
                user = parts[-1].get("User-Id")
            self._take([part.bytes for part in parts], user)

    def _take(self, frames: list[bytes], user: str | None) -> None:
        try:
            request_id, envelope = _unpack(frames[1:])
        except EnvelopeError as error:
            self.refused += 1
            _log.debug("request not readable", error=error)
            self.answer(Caller(frames[0], user, 0), Refused("bad-request", str(error)))
            return
        caller = Caller(frames[0], user, request_id)
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
        """Named jobs to spawn."""
        return [("requests-read", self.read), ("requests-write", self.write)]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def ask(
    context: Any, security: Security, endpoint: str, server: str, envelope: Any, timeout_s: float = 3.0
) -> Any:
    """One question on a connection of its own, for command lines. Raises RequestError, also when it is Refused."""
    requester = Requester(context, security, endpoint, server)
    try:
        answer = requester.request(envelope, timeout_s)
    finally:
        requester.close()
    if isinstance(answer, Refused):
        raise RequestError(f"{endpoint}: {answer.text}")
    return answer
