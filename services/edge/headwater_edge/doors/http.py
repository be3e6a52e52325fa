"""HTTP/1 connections: one request after the other, each answered by whoever it is handed to, now or later."""

import time
from collections.abc import Callable
from http import HTTPStatus
from socket import SO_SNDBUF, SOL_SOCKET
from typing import TYPE_CHECKING, Any

from headwater_bus.logs import get_log
from headwater_rtmp.rtmpt import CONTENT_TYPE

from headwater_edge.doors.door import TrustedProxies
from headwater_edge.doors.http_reader import BadRequest, HttpReader, Received
from headwater_edge.doors.refusals import log_refusal
from headwater_edge.outbox import READ, Outbox

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_log = get_log("edge")
_RECEIVE_BYTES = 64 * 1024
_ROOM_BYTES = 64 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES = {int(status): status.phrase for status in HTTPStatus}
_TEXT = "text/plain"
_METHODS = "GET, HEAD, POST"


class HttpRequest:
    """A request. Whoever has it calls `answer` or `abort`, at any time; a second call does nothing."""

    __slots__ = ("_connection", "address", "body", "method", "secure", "target")

    def __init__(self, connection: "HttpConnection", received: Received, address: str, secure: bool) -> None:
        self._connection: HttpConnection | None = connection
        self.method, self.target, self.body = received.method, received.target, received.body
        self.address = address
        """The client's, as far as it can be known."""
        self.secure = secure
        """Whether the client speaks TLS."""

    @property
    def closed(self) -> bool:
        """Whether nobody waits for an answer any more: the connection is closed, or there was one."""
        return self._connection is None

    def answer(self, status: int, body: bytes, content_type: str = CONTENT_TYPE, close: bool = False) -> None:
        """Answer it. `close`: and close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.answer(status, body, content_type, close)

    def abort(self) -> None:
        """Close the connection without an answer: a load-balancer asks another edge then."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def forsake(self) -> None:
        """Its connection is closed."""
        self._connection = None


class HttpConnection:
    """A connection that was accepted and speaks HTTP; it owns the socket. `data` is what was read of it already.

    Each POST is handed to `on_request` when the one before is answered and that answer has left; requests for `/health` are
    answered here. gevent's watchers end when a callback raises: nothing may escape from one here.
    """

    __slots__ = (
        "_bad",
        "_begun_at",
        "_begun_number",
        "_current",
        "_draining",
        "_edge",
        "_head_only",
        "_keeps",
        "_on_request",
        "_outbox",
        "_reader",
        "_since",
        "_sock",
        "_trusted",
        "_watcher",
        "address",
        "secure",
    )

    def __init__(
        self,
        edge: "Edge",
        sock: Any,
        address: str,
        data: bytes,
        secure: bool,
        on_request: Callable[[HttpRequest], None],
        trusted: TrustedProxies,
    ) -> None:
        self._edge, self._sock, self._on_request = edge, sock, on_request
        self.address, self.secure, self._trusted = address, secure, trusted
        self._reader = HttpReader(edge.config.http_body_bytes)
        self._current: HttpRequest | None = None
        self._keeps = True
        """Whether the connection goes on after the current request; so too `_head_only`: its answer has no body."""
        self._head_only = False
        self._bad: BadRequest | None = None
        """Answered behind the requests before it."""
        self._draining = False
        self._outbox: Outbox | None = None
        self._since = self._begun_at = time.monotonic()
        """`_since`: when the last answer left, in whole or in part; `_begun_at`: when the last request began to come."""
        self._begun_number = 0
        # So that a whole answer fits. What the kernel has leaves also when this process is killed; with an answer that has left
        # in part a load-balancer cannot ask another edge any more.
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, edge.config.tunnel_answer_bytes + _ROOM_BYTES)
        self._watcher: Any = edge.loop.io(sock.fileno(), READ)
        edge.requests.add(self)
        self._take(data)

    @property
    def _ended(self) -> bool:
        return self._watcher is None

    # Reading

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end(gone=True)
            return
        if data:
            self._take(data)
        else:
            self._end(gone=True)

    def _take(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
        except BadRequest as error:
            self._bad = error
        except Exception as error:
            self._edge.counters.internal_errors += 1
            self._bad = BadRequest(500, f"internal error: {error!r}")
        if reader.number != self._begun_number:
            self._begun_number = reader.number
            self._begun_at = time.monotonic()
        self._advance()

    def _advance(self) -> None:
        """Go on as far as possible. An answer that is given while its request is handed over calls this within this: not deeper
        than requests may wait."""
        reader = self._reader
        while self._current is None and self._outbox is None and not self._ended:
            if reader.received:
                self._begin(reader.received.popleft())
            elif self._bad is not None:
                self._refuse(self._bad)
            else:
                break
        if self._ended:
            return
        if self._current is None and self._outbox is None and reader.expects:
            reader.expects = False
            self._send(_CONTINUE)
            if self._ended:
                return
        # With the reader a closed connection is noticed, also while a request is pending.
        if reader.received or self._bad is not None:
            self._watcher.stop()
        elif not self._watcher.active:
            self._watcher.start(self._readable)

    def _begin(self, received: Received) -> None:
        address = self._trusted.client_of(self.address, received.forwarded_for)
        secure = self.secure or (received.forwarded_proto == "https" and self.address in self._trusted)
        self._keeps, self._head_only = received.keeps, received.method == "HEAD"
        request = self._current = HttpRequest(self, received, address, secure)
        if request.method == "POST":
            try:
                self._on_request(request)
            except Exception as error:
                self._edge.counters.internal_errors += 1
                _log.error("internal error", address=address, error=repr(error))
                request.answer(500, b"", close=True)
        elif request.method not in ("GET", "HEAD"):
            request.answer(405, b"", _TEXT)
        elif request.target.partition("?")[0] != "/health":
            request.answer(404, b"not found\n", _TEXT)
        elif self._edge.draining:
            request.answer(503, b"draining\n", _TEXT)
        else:
            request.answer(200, b"ok\n", _TEXT)

    def _refuse(self, bad: BadRequest) -> None:
        self._edge.counters.protocol_errors += 1
        log_refusal("request refused", self.address, str(bad))
        self._head_only = False
        self.answer(bad.status, f"{bad}\n".encode(), _TEXT, close=True)

    # Writing

    def answer(self, status: int, body: bytes, content_type: str, close: bool) -> None:
        """Answer the current request, for HttpRequest."""
        self._current = None
        closes = close or self._draining or self._edge.draining or not self._keeps
        # librtmp takes no other way to write this: not the status line, nor the names of the headers.
        allow = f"Allow: {_METHODS}\r\n" if status == 405 else ""
        head = (
            f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: {'close' if closes else 'keep-alive'}\r\n"
            f"Cache-Control: no-cache\r\n{allow}\r\n"
        ).encode()
        self._send(head if self._head_only else head + body)
        if closes:
            self.close()
        else:
            self._advance()

    def _send(self, data: bytes) -> None:
        self._since = time.monotonic()
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._end(gone=True)
            return
        if sent < len(data):
            self._outbox = Outbox(self._edge.loop, self._sock, self._writable)
            self._outbox.put_rest(data, sent)

    def _writable(self) -> None:
        outbox = self._outbox
        if outbox is None:
            return
        try:
            if outbox.send():
                self._since = time.monotonic()
        except OSError:
            self._end(gone=True)
            return
        if not outbox.backlog_bytes:
            self._outbox = None
            self._advance()

    # The end

    def check(self, now: float) -> None:
        """End it, if its client has kept us waiting for too long. `now`: monotonic seconds."""
        config, reader = self._edge.config, self._reader
        if self._outbox is not None:
            if now - self._since > config.http_request_s:
                self._end(gone=True)
        elif self._current is not None:
            pass  # Its client waits for us.
        elif reader.begun:
            limit_s = config.handshake_s if reader.in_head else config.http_request_s
            if now - max(self._begun_at, self._since) > limit_s:
                self._refuse(
                    BadRequest(
                        408, f"{'head of a ' if reader.in_head else ''}request not there within {limit_s:g} s"
                    )
                )
        elif now - max(self._begun_at, self._since) > config.http_idle_s:
            self.close()

    def drain(self) -> None:
        """Close it when nothing is under way; the answer to what is says so."""
        self._draining = True
        if self._current is None and self._outbox is None and not self._reader.begun:
            self.close()

    def close(self) -> None:
        """Close it; what was answered still leaves. Calling it again does nothing."""
        self._end(gone=False)

    def _end(self, gone: bool) -> None:
        if self._ended:
            return
        self._watcher.stop()
        self._watcher.close()
        self._watcher = None
        self._edge.requests.discard(self)
        current, self._current = self._current, None
        if current is not None:
            current.forsake()
        outbox, self._outbox = self._outbox, None
        if gone and outbox is not None:
            outbox.stop()
            outbox = None
        self._edge.linger(self._sock, self.address, outbox, gone)
