"""HTTP clients of an edge in this process, on socket pairs."""

import socket
from dataclasses import dataclass
from typing import Any

from headwater_edge.doors.door import TrustedProxies
from headwater_edge.doors.http import HttpConnection, HttpRequest
from headwater_edge.edge import Edge

from support.waiting import eventually

_peers: list["HttpPeer"] = []


@dataclass
class Answer:
    """One answer, the names of its headers as they were written."""

    status_line: str
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.status_line.split(" ")[1])


def answers_in(data: bytes, heads_only: bool = False) -> list[Answer]:
    """All answers, each of which has to be whole. `heads_only`: to HEAD requests."""
    found = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, head
        status_line, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        size = 0 if heads_only else int(headers.get("Content-Length", 0))
        assert len(data) >= size
        found.append(Answer(status_line, headers, data[:size]))
        data = data[size:]
    return found


def post(target: str, body: bytes = b"", *headers: str, version: str = "1.1") -> bytes:
    """A request as RTMPT clients send them."""
    lines = [f"POST {target} HTTP/{version}", "Host: edge", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class HttpPeer:
    """A client whose connection is known to speak HTTP. `requests`: what was handed over; `data`: what was read of it already."""

    def __init__(
        self,
        edge: Edge,
        data: bytes = b"",
        address: str = "203.0.113.5",
        secure: bool = False,
        trusted: TrustedProxies | None = None,
        buffer_bytes: int = 0,
        on_request: Any = None,
    ) -> None:
        self.sock, theirs = socket.socketpair()
        if buffer_bytes:
            for sock in (self.sock, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        self.sock.setblocking(False)
        theirs.setblocking(False)
        edge.admission.enter(address)
        self.requests: list[HttpRequest] = []
        self.received = b""
        self.ended = False
        self.connection = HttpConnection(
            edge,
            theirs,
            address,
            data,
            secure,
            on_request or self.requests.append,
            trusted or TrustedProxies(),
        )
        _peers.append(self)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def pump(self) -> bool:
        """Take what has come; returns whether the edge has closed its half."""
        while not self.ended:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                break
            self.received += data
            self.ended = not data
        return self.ended

    def request(self, data: bytes) -> HttpRequest:
        """Send a request; returns what was handed over."""
        count = len(self.requests)
        self.send(data)
        eventually(lambda: len(self.requests) > count, 10, "request")
        return self.requests[-1]

    def answers(self, count: int, heads_only: bool = False) -> list[Answer]:
        """Wait for so many answers, to all requests so far; they are taken."""

        def whole() -> list[Answer] | None:
            self.pump()
            try:
                found = answers_in(self.received, heads_only)
            except AssertionError:
                return None
            return found if len(found) >= count else None

        found: list[Answer] = eventually(whole, 10, f"{count} answers", every_s=0.0002)
        assert len(found) == count
        self.received = b""
        return found

    def until_ended(self) -> None:
        eventually(self.pump, 10, "closed by the edge")


def end_peers() -> None:
    """Close what a test has opened, before it ends its edges."""
    for peer in _peers:
        peer.sock.close()
    _peers.clear()
