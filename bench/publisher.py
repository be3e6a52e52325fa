"""The publisher: a process that sends the synthetic stream on time, until it is told to stop."""

import select
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message

from bench.errors import BenchError
from bench.processes import enter_load_process
from bench.session import Mode, Session, SessionError, Target
from bench.stream import Stamp, Stamper, StreamShape, frames, header_messages

_OPEN_S = 5.0
_SEND_S = 5.0
_RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class PublisherPlan:
    """`wait_s`: how long the server may take until it lets us publish."""

    target: Target
    shape: StreamShape
    core: int
    wait_s: float = 30.0


@dataclass(frozen=True, slots=True)
class PublisherWindow:
    """One measured window. `lag_ms`: by how much the latest message left after it was due."""

    messages: int
    lag_ms: float
    cpu_s: float


def run(pipe: Any, plan: PublisherPlan) -> None:
    """Process: says ("published", None), answers "begin" and "end" of a window, stops at "stop" or when the pipe closes;
    ("failed", text) when it cannot go on."""
    enter_load_process(plan.core)
    try:
        session, sock = _open(plan)
        with sock:
            _publish(pipe, plan, session, sock)
    except (BenchError, OSError, SessionError, RemoteProtocolError) as error:
        _say(pipe, ("failed", f"publisher: {error}"))


def _say(pipe: Pipe, message: tuple[str, object]) -> None:
    try:
        pipe.send(message)
    except OSError:
        pass  # The parent is gone; so are we, in a moment.


def _open(plan: PublisherPlan) -> tuple[Session, socket.socket]:
    """Publish, trying again until the server is there and has found out who it is."""
    deadline = time.monotonic() + plan.wait_s
    while True:
        try:
            return _open_once(plan.target)
        except (OSError, SessionError) as error:
            if time.monotonic() > deadline:
                raise BenchError(
                    f"cannot publish within {plan.wait_s:.0f} s: {error}", failed=True
                ) from error
            time.sleep(_RETRY_S)


def _open_once(target: Target) -> tuple[Session, socket.socket]:
    sock = socket.create_connection((target.host, target.port), timeout=_OPEN_S)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = Session(target, Mode.PUBLISH)
        sock.sendall(session.start())
        while not session.started:
            data = sock.recv(65536)
            if not data:
                raise SessionError("closed by the server")
            sock.sendall(session.feed(data))
        sock.settimeout(_SEND_S)
    except BaseException:
        sock.close()
        raise
    return session, sock


class _Window:
    def __init__(self) -> None:
        self.messages, self.lag_s, self._cpu_s = 0, 0.0, time.process_time()

    def result(self) -> PublisherWindow:
        return PublisherWindow(self.messages, self.lag_s * 1000, time.process_time() - self._cpu_s)


def _publish(pipe: Pipe, plan: PublisherPlan, session: Session, sock: socket.socket) -> None:
    stamper = Stamper(plan.shape)
    for message in header_messages(plan.shape, session.stream_id):
        sock.sendall(session.send(message))
    _say(pipe, ("published", None))
    window = _Window()
    sources: list[Any] = [sock, pipe]
    start_s = time.monotonic()
    for number, frame in enumerate(frames(plan.shape), 1):
        due_s = start_s + frame.due_s
        while (left_s := due_s - time.monotonic()) > 0:
            readable, _, _ = select.select(sources, (), (), left_s)
            if sock in readable:
                _obey(session, sock)
            if pipe in readable:
                try:
                    order = pipe.recv()
                except EOFError:
                    return
                if order == "stop":
                    return
                if order == "end":
                    _say(pipe, ("window", window.result()))
                window = _Window()
        stamp = Stamp(number, time.monotonic_ns())
        payload = stamper.payload(frame, stamp)
        sock.sendall(session.send(Message(frame.type_id, session.stream_id, frame.timestamp, payload)))
        window.messages += 1
        window.lag_s = max(window.lag_s, time.monotonic() - due_s)


def _obey(session: Session, sock: socket.socket) -> None:
    data = sock.recv(65536)
    if not data:
        raise BenchError("the server closed the connection", failed=True)
    answer = session.feed(data)
    if answer:
        sock.sendall(answer)
