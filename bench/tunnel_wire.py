"""How a client's RTMP travels: as it is, or in the HTTP requests of RTMPT. Sans-IO."""

from abc import ABC, abstractmethod
from array import array

from headwater_rtmp.rtmpt import CONTENT_TYPE, POLL_UNIT_S, Verb, session_target
from httptools import HttpResponseParser

from bench.session import SessionError

_NOTHING = b"\x00"
NEVER = float("inf")


class Wire(ABC):
    """One connection. `put` what is to be said, write what `take` returns, give what comes to `feed`. `due_s`: by when `take` is
    to be called even if nothing comes. Times are monotonic seconds."""

    __slots__ = ("due_s", "requests")

    def __init__(self) -> None:
        self.due_s = NEVER
        self.requests = 0
        """HTTP requests that were answered."""

    @abstractmethod
    def put(self, rtmp: bytes) -> None:
        """The client says this."""

    @abstractmethod
    def take(self, now_s: float) -> bytes:
        """What goes out now."""

    @abstractmethod
    def feed(self, data: bytes, now_s: float) -> bytes:
        """Received bytes; returns the RTMP in them. Raises SessionError when the server refuses."""


class TcpWire(Wire):
    """RTMP as it is."""

    __slots__ = ("_out",)

    def __init__(self) -> None:
        super().__init__()
        self._out = b""

    def put(self, rtmp: bytes) -> None:
        """See Wire."""
        self._out += rtmp

    def take(self, now_s: float) -> bytes:
        """See Wire."""
        out, self._out = self._out, b""
        return out

    def feed(self, data: bytes, now_s: float) -> bytes:
        """See Wire."""
        return data


class TunnelWire(Wire):
    """RTMPT: one request at a time, the next as soon as there is something to say, or right behind an answer that said something;
    behind an empty one when the poll byte says so (`polite`), or at once.

    `answers_ns`: how long each request took to be answered goes there."""

    __slots__ = (
        "_answers_ns",
        "_asked_s",
        "_body",
        "_out",
        "_parser",
        "_polite",
        "_sequence",
        "_session_id",
        "_under_way",
    )

    def __init__(self, answers_ns: "array[int]", polite: bool) -> None:
        super().__init__()
        self._answers_ns, self._polite = answers_ns, polite
        self._out = b""
        self._session_id = ""
        self._sequence = 0
        self._under_way = False
        self._asked_s = 0.0
        self._parser = HttpResponseParser(self)
        self._body: list[bytes] = []
        self.due_s = 0.0

    def put(self, rtmp: bytes) -> None:
        """See Wire."""
        self._out += rtmp

    def take(self, now_s: float) -> bytes:
        """See Wire."""
        if self._under_way:
            return b""
        if not self._session_id:
            return self._post("/open/1", _NOTHING, now_s)
        if self._out:
            body, self._out = self._out, b""
            return self._post(session_target(Verb.SEND, self._session_id, self._sequence), body, now_s)
        if now_s < self.due_s:
            return b""
        return self._post(session_target(Verb.IDLE, self._session_id, self._sequence), _NOTHING, now_s)

    def _post(self, target: str, body: bytes, now_s: float) -> bytes:
        self._under_way, self._asked_s, self.due_s = True, now_s, NEVER
        head = f"POST {target} HTTP/1.1\r\nHost: bench\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def feed(self, data: bytes, now_s: float) -> bytes:
        """See Wire."""
        self._parser.feed_data(data)
        if self._under_way:
            return b""  # More is to come.
        body = b"".join(self._body)
        self._body.clear()
        status = self._parser.get_status_code()
        if status != 200 or not body:
            raise SessionError(f"HTTP status {status}, {len(body)} bytes")
        if not self._session_id:
            self._session_id = body.decode().strip()
            return b""
        self._sequence += 1
        self.requests += 1
        self._answers_ns.append(round((now_s - self._asked_s) * 1e9))
        poll, rtmp = body[0], body[1:]
        if not poll:
            raise SessionError("the server has ended the session")
        self.due_s = now_s + (poll * POLL_UNIT_S if self._polite and not rtmp else 0.0)
        return rtmp

    def on_body(self, data: bytes) -> None:
        """The parser calls this."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Likewise."""
        self._under_way = False
