"""The clients of an object load: one process and one epoll for all of them.

Requesters send their next message when the last is answered, or all together at a rate; every member checks what it gets.
"""

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headwater_rtmp import control
from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.errors import RemoteProtocolError

from bench.measure import percentile
from bench.object_layout import ClientSpec, sampled_clients
from bench.object_plan import ObjectPlan, ObjectWindow
from bench.object_session import open_member
from bench.object_wire import CHUNK_BYTES, Expected, Member, Requests, Tally, object_name, sender_key
from bench.processes import enter_load_process
from bench.session import SessionError, Target

_RECEIVE_BYTES = 32 * 1024  # More would be mapped and unmapped by each call.
_ACKNOWLEDGE_BYTES = 1_000_000
_RETRY_S = 0.1
_POLL_S = 0.2
_DRAIN_S = 10.0
_DRAIN_LOOK_S = 0.05


@dataclass(slots=True)
class _Client:
    sock: socket.socket
    member: Member
    requests: Requests | None
    key: bytes
    sent: int = 0
    unacknowledged: int = 0


@dataclass(frozen=True, slots=True)
class _Begun:
    at_s: float
    cpu_s: float
    counts: tuple[int, int, int]


@dataclass(slots=True)
class ObjectClients:
    """All clients of this process."""

    plan: ObjectPlan
    tally: Tally = field(default_factory=Tally)
    closed: int = 0
    sent: int = 0
    _epoll: select.epoll = field(default_factory=select.epoll)
    _clients: dict[int, _Client] = field(default_factory=dict)
    _all: list[_Client] = field(default_factory=list)
    _requesters: list[_Client] = field(default_factory=list)
    _base_ns: int = field(default_factory=time.monotonic_ns)
    _sending: bool = False
    _rate: float | None = None
    _next: int = 0
    _rate_from_s: float = 0.0
    _lag_s: float = 0.0
    _faults: tuple[int, int, int, int] = (0, 0, 0, 0)

    # Opening

    def open_all(self, say: Callable[[int], None]) -> None:
        """Connect every client and have it use its objects, one after the other. `say` hears how many do."""
        expected = Expected(self.plan.clients, self.plan.batch, self.plan.persistent)
        sampled = sampled_clients(self.plan.clients)
        deadline = time.monotonic() + self.plan.wait_s
        for number, spec in enumerate(self.plan.clients, 1):
            while True:
                try:
                    sock = self._open(spec)
                    break
                except (OSError, SessionError) as error:
                    if number > 1 or time.monotonic() > deadline:
                        raise SessionError(f"client {number}: {error}") from error
                    time.sleep(_RETRY_S)
            self._add(spec, sock, Member(spec, expected, self.tally, number - 1 in sampled))
            say(number)

    def _open(self, spec: ClientSpec) -> socket.socket:
        plan = self.plan
        target = Target(plan.host, plan.ports[spec.edge], f"{plan.app}/{spec.scope}")
        return open_member(target, [object_name(number) for number in spec.objects], plan.persistent)

    def _add(self, spec: ClientSpec, sock: socket.socket, member: Member) -> None:
        requests, key = None, b""
        if spec.requester is not None:
            requests = Requests(spec.objects[0], spec.requester, self.plan.batch, self.plan.persistent)
            key = sender_key(spec.objects[0], spec.requester)
        client = _Client(sock, member, requests, key)
        sock.setblocking(False)
        self._clients[sock.fileno()] = client
        self._all.append(client)
        if requests is not None:
            self._requesters.append(client)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def watch(self, fd: int) -> None:
        """`turn` also returns when this becomes readable."""
        self._epoll.register(fd, select.EPOLLIN)

    # Sending

    def start(self, rate: float | None) -> None:
        """From now on send as fast as answers come, or so many messages a second."""
        for client in self._all:
            self._acknowledge(client)
        self._sending, self._rate = True, rate
        self._next, self._rate_from_s = 0, time.monotonic()
        if rate is None:
            for client in self._requesters:
                for _ in range(self.plan.window):
                    self._send(client)

    def stop(self) -> None:
        """Send no more."""
        self._sending = False

    def _send(self, client: _Client) -> None:
        if client.requests is None or client.sock.fileno() < 0:
            return
        client.sent += 1
        self.sent += 1
        message = client.requests.message(client.sent, time.monotonic_ns() - self._base_ns)
        try:
            sent = client.sock.send(message)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(client)
            return
        if sent != len(message):
            raise SessionError("the server does not read what clients send")

    def _send_due(self, rate: float) -> float:
        """Send what is due; returns the seconds until the next."""
        while (left_s := self._rate_from_s + self._next / rate - time.monotonic()) <= 0:
            self._lag_s = max(self._lag_s, -left_s)
            self._send(self._requesters[self._next % len(self._requesters)])
            self._next += 1
        return left_s

    # Receiving

    def turn(self, timeout_s: float) -> bool:
        """Send what is due, wait for data and read it; returns whether the watched descriptor is readable."""
        if self._sending and self._rate is not None:
            # Finer than epoll's milliseconds.
            timeout_s = min(timeout_s, self._send_due(self._rate))
            select.select((self._epoll,), (), (), timeout_s)
            timeout_s = 0
        ordered = False
        clients, answers_send = self._clients, self._sending and self._rate is None
        for fd, _ in self._epoll.poll(timeout_s):
            client = clients.get(fd)
            if client is None:
                ordered = True
                continue
            try:
                data = client.sock.recv(_RECEIVE_BYTES)
            except OSError:
                data = b""
            if not data:
                self._close(client)
                continue
            for _ in range(client.member.take(data, time.monotonic_ns() - self._base_ns)):
                if answers_send:
                    self._send(client)
            client.unacknowledged += len(data)
            if client.unacknowledged > _ACKNOWLEDGE_BYTES:
                self._acknowledge(client)
        return ordered

    def _acknowledge(self, client: _Client) -> None:
        """The edge closes who is silent for 90 s, and a listener has nothing else to say."""
        if client.sock.fileno() < 0:
            return
        client.unacknowledged = 0
        message = control.acknowledgement(0)
        try:
            client.sock.send(encode_message(message, csid_for(message.type_id), CHUNK_BYTES))
        except OSError:
            self._close(client)

    def _close(self, client: _Client) -> None:
        fd = client.sock.fileno()
        if fd >= 0:
            self._epoll.unregister(fd)
            del self._clients[fd]
            client.sock.close()
            self.closed += 1

    # Measuring

    def begin(self) -> _Begun:
        """A window begins now."""
        del self.tally.latencies_ns[:]
        self._lag_s = 0.0
        return _Begun(time.monotonic(), time.process_time(), self._counts())

    def end(self, begun: _Begun) -> ObjectWindow:
        """The window ends now, and so does sending. Raises SessionError when nothing came."""
        wall_s, cpu_s = time.monotonic() - begun.at_s, time.process_time() - begun.cpu_s
        sent, answered, delivered = (now - was for now, was in zip(self._counts(), begun.counts, strict=True))
        latencies, lag_s = sorted(latency / 1e6 for latency in self.tally.latencies_ns), self._lag_s
        if not latencies:
            raise SessionError(f"no change came to another member in {wall_s:.0f} s")
        self.stop()
        unanswered, behind = self._drain()
        before, self._faults = self._faults, self._all_faults()
        missing, disordered, strange, closed = (
            now - was for now, was in zip(self._faults, before, strict=True)
        )
        return ObjectWindow(
            wall_s=wall_s,
            cpu_s=cpu_s,
            sent=sent,
            changes=answered * self.plan.batch,
            deliveries=delivered,
            samples=len(latencies),
            latency_p50_ms=percentile(latencies, 50),
            latency_p99_ms=percentile(latencies, 99),
            latency_max_ms=latencies[-1],
            lag_ms=lag_s * 1000,
            missing=missing,
            disordered=disordered,
            strange=strange,
            closed=closed,
            unanswered=unanswered,
            behind=behind,
        )

    def _counts(self) -> tuple[int, int, int]:
        return self.sent, self.tally.answered, self.tally.delivered

    def _all_faults(self) -> tuple[int, int, int, int]:
        tally = self.tally
        return tally.missing, tally.disordered, tally.strange, self.closed

    def _drain(self) -> tuple[int, int]:
        """Read on until all is there that was sent; returns what is not there after 10 s: (unanswered, behind)."""
        deadline = time.monotonic() + _DRAIN_S
        while True:
            look_at = time.monotonic() + _DRAIN_LOOK_S
            while time.monotonic() < look_at:
                self.turn(_DRAIN_LOOK_S)
            left = self._lacking()
            if not any(left) or time.monotonic() > deadline:
                return left

    def _lacking(self) -> tuple[int, int]:
        unanswered = sum(client.sent - client.member.answered for client in self._requesters)
        last = {client.key: client.sent for client in self._requesters}
        behind = sum(
            number != last[key]
            for client in self._all
            for key, number in client.member.last.items()
            if key != client.key
        )
        return unanswered, behind

    def close(self) -> None:
        """Hang up."""
        for client in self._all:
            client.sock.close()
        self._epoll.close()


def run(pipe: Any, plan: ObjectPlan) -> None:
    """Process: says ("opened", n) while it opens and ("ready", None). Orders: ("run", rate), see `ObjectClients.start`; "begin"
    of a window, "end" of it and of sending, answered with ("window", ObjectWindow); "stop", or the pipe closes. Says
    ("failed", text) when it cannot go on."""
    enter_load_process(plan.core)
    clients = ObjectClients(plan)
    try:
        clients.open_all(lambda count: pipe.send(("opened", count)))
        clients.watch(pipe.fileno())
        pipe.send(("ready", None))
        _serve(pipe, clients)
    except (OSError, SessionError, RemoteProtocolError) as error:
        try:
            pipe.send(("failed", f"clients: {error}"))
        except OSError:
            pass  # The parent is gone.
    finally:
        clients.close()


def _serve(pipe: Any, clients: ObjectClients) -> None:
    begun = clients.begin()
    while True:
        if not clients.turn(_POLL_S):
            continue
        try:
            order = pipe.recv()
        except EOFError:
            return
        if order == "stop":
            return
        if order == "begin":
            begun = clients.begin()
        elif order == "end":
            pipe.send(("window", clients.end(begun)))
        else:
            clients.start(order[1])
