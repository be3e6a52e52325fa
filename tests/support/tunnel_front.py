"""RTMPT before a server of a test: HTTP requests become what a socket would have brought. Requests and answers get lost as a test
says."""

from collections.abc import Callable
from enum import Enum
from typing import Any

import gevent
from gevent.event import Event
from gevent.queue import Queue
from gevent.server import StreamServer
from headwater_rtmp.rtmpt import (
    Open,
    PollPacing,
    Sequence,
    SessionRequest,
    Verb,
    Verdict,
    new_session_id,
    parse_target,
)

_HOLD_S = 0.02
_SOON_S = 0.002


class Fault(Enum):
    """What becomes of a request."""

    LOST = "lost"
    """The connection breaks before it is read."""
    UNANSWERED = "unanswered"
    """It is carried out, and the connection breaks before the answer."""
    CUT = "cut"
    """It is carried out, and the connection breaks inside the answer."""
    AWAY = "away"
    """A balancer says that nobody is there: 503."""
    GATEWAY_TIMEOUT = "timeout"
    """It is carried out, and a balancer has not waited for it: 504."""
    HUNG = "hung"
    """Nothing comes, until the client gives up."""
    GONE = "gone"
    """404."""
    WRONG = "wrong"
    """409."""
    NO_POLL_BYTE = "no poll byte"
    NO_HTTP = "no http"


class TunnelSocket:
    """What a session is to a server."""

    def __init__(self) -> None:
        self._arrived: Queue[bytes] = Queue()
        self.out = bytearray()
        self.closed = False
        self.said = Event()

    def recv(self, _: int) -> bytes:
        """The next bytes; none at the end."""
        return b"" if self.closed else self._arrived.get()

    def put(self, data: bytes) -> None:
        """Bytes of the client."""
        self._arrived.put(data)

    def sendall(self, data: bytes) -> None:
        """Bytes for the client."""
        if self.closed:
            raise OSError("closed")
        self.out += data
        self.said.set()

    def close(self) -> None:
        """The server ends the session."""
        self.closed = True
        self._arrived.put(b"")
        self.said.set()

    def shutdown(self, _: int) -> None:
        """As close."""
        self.close()


class Session:
    """One session of the front."""

    def __init__(self, sock: TunnelSocket) -> None:
        self.sock = sock
        self.sequence = Sequence()
        self.pacing = PollPacing()
        self.answer = b""


class TunnelFront:
    """`accept` is called with the socket of each new session. `fault` with each request's target says what becomes of it (None:
    nothing)."""

    def __init__(self, accept: Callable[[Any], None], **tls: Any) -> None:
        self._accept = accept
        self.fault: Callable[[str], Fault | None] = lambda _: None
        self.targets: list[str] = []
        """All that came, in order."""
        self.repeats = 0
        self.connections = 0
        self.sessions: dict[str, Session] = {}
        self._server: Any = StreamServer(("127.0.0.1", 0), self._serve, **tls)
        self._server.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def stop(self) -> None:
        """End it."""
        for session in self.sessions.values():
            session.sock.close()
        self._server.stop(timeout=1)

    def _serve(self, sock: Any, _: Any) -> None:
        self.connections += 1
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    more = sock.recv(65_536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
                }
                size = int(headers["content-length"])
                while len(data) < size:
                    data += sock.recv(65_536)
                body, data = data[:size], data[size:]
                method, target, _ = lines[0].split(" ")
                assert method == "POST"
                assert headers["content-type"] == "application/x-fcs"
                if not self._request(sock, target, body):
                    return
        except OSError:
            pass
        finally:
            sock.close()

    def _request(self, sock: Any, target: str, body: bytes) -> bool:
        """Whether the connection goes on."""
        self.targets.append(target)
        fault = self.fault(target)
        if fault is Fault.LOST:
            return False
        if fault is Fault.HUNG:
            sock.recv(1)
            return False
        if fault is Fault.NO_HTTP:
            sock.sendall(b"\x03" + bytes(1536))
            return False
        statuses = {Fault.AWAY: "503 Away", Fault.GONE: "404 Gone", Fault.WRONG: "409 Wrong"}
        if fault in statuses:
            return self._say(sock, statuses[fault], b"")
        status, answer = self._carry_out(target, body)
        if fault is Fault.UNANSWERED:
            return False
        if fault is Fault.GATEWAY_TIMEOUT:
            return self._say(sock, "504 Timeout", b"nothing")
        if fault is Fault.CUT:
            sock.sendall(_http(status, answer)[:-1])
            return False
        return self._say(sock, status, b"" if fault is Fault.NO_POLL_BYTE else answer)

    def _say(self, sock: Any, status: str, answer: bytes) -> bool:
        sock.sendall(_http(status, answer))
        return True

    def _carry_out(self, target: str, body: bytes) -> tuple[str, bytes]:
        asked = parse_target(target)
        if isinstance(asked, Open):
            session = Session(TunnelSocket())
            key = new_session_id()
            self.sessions[key] = session
            gevent.spawn(self._accept, session.sock)
            return "200 OK", f"{key}\n".encode()
        if not isinstance(asked, SessionRequest) or asked.session_id not in self.sessions:
            return "404 Not Found", b""
        session = self.sessions[asked.session_id]
        verdict = session.sequence.judge(asked.sequence)
        if verdict is Verdict.REPEAT:
            self.repeats += 1
            return "200 OK", session.answer
        if verdict is not Verdict.NEXT:
            return "409 Conflict", b""
        session.sequence.took(asked.sequence, asked.verb)
        session.answer = self._next(session, asked.verb, body)
        return "200 OK", session.answer

    def _next(self, session: Session, verb: Verb, body: bytes) -> bytes:
        sock = session.sock
        if verb is Verb.CLOSE:
            sock.close()
            return b"\0"
        sock.said.clear()
        if verb is Verb.SEND:
            sock.put(body)
        if not sock.out and not sock.closed:
            sock.said.wait(_HOLD_S if verb is Verb.IDLE else _SOON_S)
        out, sock.out = bytes(sock.out), bytearray()
        if sock.closed and not out:
            return b"\0"
        return bytes((session.pacing.answered(len(out)),)) + out


def _http(status: str, answer: bytes) -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/x-fcs\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
        + answer
    )
