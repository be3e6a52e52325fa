"""The clients of a load of RTMPT, or of the same over RTMP: one process and one epoll for all of them."""

import heapq
import select
import socket
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from headwater_rtmp import control
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message

from bench.client_process import serve
from bench.measure import percentile
from bench.sampling import StampReader
from bench.session import Mode, Session, SessionError, Target
from bench.stream import Frame, Stamp, Stamper, frames, header_messages
from bench.tunnel_plan import Role, TunnelPlan, TunnelWindow
from bench.tunnel_wire import NEVER, TcpWire, TunnelWire, Wire

_RECEIVE_BYTES = 256 * 1024
_POLL_S = 0.2
_RETRY_S = 0.1
_ACKNOWLEDGE_BYTES = 1_000_000
_SPREAD_S = 1 / 30
"""Publishers begin this much apart, together."""
_MODES = {Role.PLAY: Mode.PLAY, Role.PUBLISH: Mode.PUBLISH, Role.ASK: Mode.PUBLISH}


@dataclass(slots=True)
class Client:
    """One of them. `frames` of a publisher: those that are to come, after `began_s`."""

    number: int
    sock: socket.socket
    wire: Wire
    session: Session
    stamps: StampReader
    rtmp_bytes: int = 0
    unacknowledged: int = 0
    timer_s: float = -1.0
    frames: Iterator[Frame] | None = None
    frame: Frame | None = None
    count: int = 0
    began_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Begun:
    at_s: float
    cpu_s: float
    requests: int
    rtmp_bytes: int
    missing: int
    disordered: int
    closed: int


@dataclass(slots=True)
class TunnelClients:
    """All clients of this process."""

    plan: TunnelPlan
    latencies_ns: "array[int]" = field(default_factory=lambda: array("q"))
    answers_ns: "array[int]" = field(default_factory=lambda: array("q"))
    closed: int = 0
    lag_s: float = 0.0
    failure: str = ""
    _epoll: select.epoll = field(default_factory=select.epoll)
    _clients: dict[int, Client] = field(default_factory=dict)
    _all: list[Client] = field(default_factory=list)
    _due: list[tuple[float, int, Client]] = field(default_factory=list)
    _stamper: Stamper = field(init=False)
    _acknowledgement: Message = field(default_factory=lambda: control.acknowledgement(0))

    def __post_init__(self) -> None:
        self._stamper = Stamper(self.plan.shape)

    # Opening

    def open_all(self, say: Callable[[int], None]) -> None:
        """Open every client, some at a time; the first alone, which waits until the server is there. `say` hears how many are
        open. Raises SessionError."""
        plan = self.plan
        deadline = time.monotonic() + plan.wait_s
        opened = 0
        while opened < plan.clients:
            many = plan.opening if opened else 1
            while len(self._all) < min(plan.clients, opened + many):
                try:
                    self._open(len(self._all))
                except OSError as error:
                    self._again(str(error), deadline)
            self.turn(_POLL_S)
            if self.failure:
                if opened:
                    raise SessionError(f"client {opened + 1}: {self.failure}")
                self._again(self.failure, deadline)
            now_open = sum(client.session.started for client in self._all)
            if now_open != opened:
                opened = now_open
                say(opened)
            elif time.monotonic() > deadline + plan.wait_s:
                raise SessionError(f"{opened} of {plan.clients} clients after {2 * plan.wait_s:.0f} s")
        self._begin_to_publish()

    def _again(self, failure: str, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise SessionError(failure)
        self.failure, self.closed = "", 0
        self._all.clear()
        time.sleep(_RETRY_S)

    def _open(self, number: int) -> None:
        plan = self.plan
        target, role = plan.target, plan.role
        name = f"{target.stream}-{number}" if role in (Role.PUBLISH, Role.ASK) else target.stream
        sock = socket.create_connection((target.host, target.port), timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        stamps = StampReader(self.latencies_ns)
        named = Target(target.host, target.port, target.app, name)
        session = Session(named, _MODES.get(role, Mode.CONNECT), stamps.take)
        wire = TunnelWire(self.answers_ns, role is not Role.ASK) if plan.tunnelled else TcpWire()
        client = Client(number, sock, wire, session, stamps)
        self._clients[sock.fileno()] = client
        self._all.append(client)
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        wire.put(session.start())
        self._write(client)

    def _begin_to_publish(self) -> None:
        if self.plan.role is Role.PUBLISH:
            now_s = time.monotonic()
            for client in self._all:
                for message in header_messages(self.plan.shape, client.session.stream_id):
                    client.wire.put(client.session.send(message))
                client.began_s = now_s + client.number * _SPREAD_S / len(self._all)
                client.frames = frames(self.plan.shape)
                client.frame = next(client.frames)
                self._write(client)

    def watch(self, fd: int) -> None:
        """`turn` also returns when this becomes readable."""
        self._epoll.register(fd, select.EPOLLIN)

    # Turns

    def turn(self, timeout_s: float) -> bool:
        """Say what is due, wait and read; returns whether the watched descriptor is readable."""
        ordered = False
        for fd, _ in self._epoll.poll(min(timeout_s, self._work_off())):
            client = self._clients.get(fd)
            if client is None:
                ordered = True
                continue
            try:
                data = client.sock.recv(_RECEIVE_BYTES)
            except OSError:
                data = b""
            try:
                if not data:
                    raise SessionError("closed by the server")
                self._read(client, data)
                self._write(client)
            except (SessionError, RemoteProtocolError, OSError) as error:
                self._close(client, str(error))
        return ordered

    def _work_off(self) -> float:
        """Do what is due; returns the seconds until more is."""
        due = self._due
        while due:
            left_s = due[0][0] - time.monotonic()
            if left_s > 0:
                # Epoll counts in milliseconds and rounds up.
                return max(0.0, left_s - 0.001)
            due_s, _, client = heapq.heappop(due)
            if due_s != client.timer_s or client.sock.fileno() < 0:
                continue  # There was something to do before.
            client.timer_s = -1.0
            try:
                self._write(client)
            except (SessionError, OSError) as error:
                self._close(client, str(error))
        return _POLL_S

    def _read(self, client: Client, data: bytes) -> None:
        now_s = time.monotonic()
        rtmp = client.wire.feed(data, now_s)
        client.stamps.now_ns = round(now_s * 1e9)
        if rtmp:
            client.rtmp_bytes += len(rtmp)
            client.unacknowledged += len(rtmp)
            if client.unacknowledged > _ACKNOWLEDGE_BYTES:
                client.unacknowledged = 0
                client.wire.put(client.session.send(self._acknowledgement))
            client.wire.put(client.session.feed(rtmp))
        if self.plan.role is Role.SAY and client.session.started:
            client.wire.put(client.session.send(self._acknowledgement))

    def _write(self, client: Client) -> None:
        now_s = time.monotonic()
        if client.frame is not None:
            self._put_frames(client, now_s)
        out = client.wire.take(now_s)
        if out and client.sock.send(out) != len(out):
            raise SessionError("the server does not read what clients send")
        due_s = client.wire.due_s
        if client.frame is not None:
            due_s = min(due_s, client.began_s + client.frame.due_s)
        if due_s != NEVER and due_s != client.timer_s:
            client.timer_s = due_s
            heapq.heappush(self._due, (due_s, id(client), client))

    def _put_frames(self, client: Client, now_s: float) -> None:
        """What a publisher has to say by now."""
        assert client.frames is not None
        while client.frame is not None and (late_s := now_s - client.began_s - client.frame.due_s) >= 0:
            frame = client.frame
            client.count += 1
            payload = self._stamper.payload(frame, Stamp(client.count, time.monotonic_ns()))
            data = client.session.send(
                Message(frame.type_id, client.session.stream_id, frame.timestamp, payload)
            )
            client.rtmp_bytes += len(data)
            client.wire.put(data)
            self.lag_s = max(self.lag_s, late_s)
            client.frame = next(client.frames)

    def _close(self, client: Client, reason: str) -> None:
        fd = client.sock.fileno()
        if fd >= 0:
            self._epoll.unregister(fd)
            del self._clients[fd]
            client.sock.close()
        self.closed += 1
        self.failure = self.failure or reason

    def order(self, order: Any) -> None:
        """None but those of every load."""
        raise ValueError(f"{order!r} is no order")

    # Measuring

    def begin(self) -> _Begun:
        """A window begins now."""
        del self.latencies_ns[:]
        del self.answers_ns[:]
        self.lag_s = 0.0
        return _Begun(time.monotonic(), time.process_time(), *self._counts())

    def _counts(self) -> tuple[int, int, int, int, int]:
        every = self._all
        return (
            sum(client.wire.requests for client in every),
            sum(client.rtmp_bytes for client in every),
            sum(client.stamps.missing for client in every),
            sum(client.stamps.disordered for client in every),
            self.closed,
        )

    def end(self, begun: _Begun) -> TunnelWindow:
        """The window ends now."""
        wall_s, cpu_s = time.monotonic() - begun.at_s, time.process_time() - begun.cpu_s
        requests, rtmp_bytes, missing, disordered, closed = self._counts()
        answers = sorted(self.answers_ns) or [0]
        return TunnelWindow(
            wall_s=wall_s,
            cpu_s=cpu_s,
            requests=requests - begun.requests,
            answer_p50_ms=percentile(answers, 50) / 1e6,
            answer_p99_ms=percentile(answers, 99) / 1e6,
            rtmp_bytes=rtmp_bytes - begun.rtmp_bytes,
            latencies_ms=[latency / 1e6 for latency in self.latencies_ns],
            missing=missing - begun.missing,
            disordered=disordered - begun.disordered,
            closed=closed - begun.closed,
            lag_ms=self.lag_s * 1000,
        )

    def close(self) -> None:
        """Hang up."""
        for client in self._all:
            client.sock.close()
        self._epoll.close()


def run(pipe: Any, plan: TunnelPlan) -> None:
    """Process, see `client_process.serve`; a window is a TunnelWindow."""
    serve(pipe, TunnelClients(plan))
