"""HTTP/1 requests out of bytes: httptools' parser, and limits. No socket, no clock."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import httptools

HEAD_BYTES = 16 * 1024
"""Of a request's target and headers, those behind a chunked body included."""
_MOST_RECEIVED = 8
"""Requests that one client may send without waiting for answers."""


class BadRequest(Exception):
    """Nothing more can be read behind this. `status` is for the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(slots=True)
class Received:
    """A whole request. `forwarded_for` and `forwarded_proto` are what its headers say, whoever wrote them."""

    method: str = ""
    target: str = ""
    body: bytes = b""
    forwarded_for: str = ""
    forwarded_proto: str = ""
    keeps: bool = True
    """Whether the connection goes on after it."""


class HttpReader:
    """The requests of one connection. What a caller has to look at after each `feed`:

    `received`: whole requests. `number`: how many have begun; `begun`: the last one is not complete; `in_head`: nor its head.
    `expects`: it waits for `100 Continue`. `ended`: the last request ends the connection, what comes behind it is left unread.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_body_limit",
        "_has_body",
        "_head_bytes",
        "_heard",
        "_next",
        "_parser",
        "_silent_bytes",
        "begun",
        "ended",
        "expects",
        "in_head",
        "number",
        "received",
    )

    def __init__(self, body_limit: int) -> None:
        """`body_limit`: bytes of one request's body."""
        self._body_limit = body_limit
        self.received: deque[Received] = deque()
        self.number = 0
        self.begun = self.in_head = self.expects = self.ended = False
        self._next = Received()
        self._body: list[bytes] = []
        self._has_body = False
        self._body_bytes = self._head_bytes = 0
        self._heard = False
        self._silent_bytes = 0
        """Since the parser has said anything. It holds a header itself until the whole of it has come."""
        self._parser: Any = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        """Take bytes of the connection. Raises BadRequest, for good; requests that were received before stay."""
        while data and not self.ended:
            self._heard = False
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # Answered as if it had not asked to speak something else, which it may go on to do without.
                data = data[upgrade.args[0] :]
                continue
            except httptools.HttpParserCallbackError as error:
                if isinstance(error.__context__, BadRequest):
                    raise error.__context__ from None
                raise
            except httptools.HttpParserError as error:
                if self.ended:
                    return
                raise BadRequest(400, f"no HTTP request: {error}") from error
            self._silent_bytes = 0 if self._heard else self._silent_bytes + len(data)
            if self._silent_bytes > HEAD_BYTES:
                raise BadRequest(431, f"more than {HEAD_BYTES} bytes of headers")
            return

    # What the parser calls

    def on_message_begin(self) -> None:
        """A first byte."""
        if len(self.received) >= _MOST_RECEIVED:
            raise BadRequest(400, f"more than {_MOST_RECEIVED} requests that wait for their turn")
        self._heard = self.begun = self.in_head = True
        self.number += 1
        self._next = Received()
        self._has_body = False
        self._body_bytes = self._head_bytes = 0

    def on_url(self, part: bytes) -> None:
        """A part of the target."""
        self._heard = True
        self._count_head(len(part), 414)
        self._next.target += part.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, before the body or behind it."""
        self._heard = True
        self._count_head(len(name) + len(value) + 4, 431)
        if not self.in_head:
            return
        match name.lower():
            case b"content-length":
                self._has_body = value != b"0"
                # What is no number at all the parser finds out itself.
                if value.isdigit() and int(value) > self._body_limit:
                    raise BadRequest(413, f"a body of more than {self._body_limit} bytes")
            case b"transfer-encoding":
                self._has_body = True
            case b"expect":
                self.expects = value.lower() == b"100-continue"
            case b"x-forwarded-for":
                text = value.decode("latin-1")
                self._next.forwarded_for += f",{text}" if self._next.forwarded_for else text
            case b"x-forwarded-proto":
                self._next.forwarded_proto = value.decode("latin-1").lower()

    def _count_head(self, size: int, status: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise BadRequest(status, f"more than {HEAD_BYTES} bytes of headers")

    def on_headers_complete(self) -> None:
        """What follows is the body."""
        self._heard = True
        self.in_head = False
        self._next.method = self._parser.get_method().decode("latin-1")
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            raise BadRequest(400, f"HTTP/{self._parser.get_http_version()}, expected 1.1")
        # The parser would read the body of a request that asks for another protocol as that.
        if self._parser.should_upgrade() and (self._has_body or self._next.method == "CONNECT"):
            raise BadRequest(400, f"{self._next.method} that asks for another protocol")

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._heard = True
        self.expects = False
        self._body_bytes += len(part)
        if self._body_bytes > self._body_limit:
            raise BadRequest(413, f"a body of more than {self._body_limit} bytes")
        self._body.append(part)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._heard = True
        self.begun = self.expects = False
        received, body = self._next, self._body
        received.body = body[0] if len(body) == 1 else b"".join(body)
        received.target = _own_form(received.target)
        received.keeps = self._parser.should_keep_alive()
        self.ended = not received.keeps
        body.clear()
        self.received.append(received)


def _own_form(target: str) -> str:
    """The path of a target: clients that take us for a proxy send a whole URL."""
    scheme, separator, rest = target.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        return "/" + rest.partition("/")[2]
    return target
