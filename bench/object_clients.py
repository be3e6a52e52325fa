"""Members of SharedObjects in Python, one process and one epoll for all of them: for a load that has to know more of each than
`native/object_load.c` tells.

Requesters send their next message when the last is answered, or all together at a rate; every member checks what it gets.
"""

import select
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from headwater_rtmp import control
from headwater_rtmp.chunk import csid_for, encode_message

from bench.object_layout import ClientSpec, schedule
from bench.object_plan import ObjectPlan
from bench.object_session import open_member
from bench.object_wire import CHUNK_BYTES, Member, Tally, encode_request, object_name, sender_key, senders
from bench.session import SessionError, Target

_RECEIVE_BYTES = 32 * 1024  # More would be mapped and unmapped by each call.
_ACKNOWLEDGE_BYTES = 1_000_000
_RETRY_S = 0.1
_OPENING = 16
"""So many clients open at a time."""
_DRAIN_S = 10.0
_DRAIN_LOOK_S = 0.05


@dataclass(slots=True)
class Client:
    """One of them. `key` is its sender_key where it is a requester."""

    sock: socket.socket
    member: Member
    spec: ClientSpec
    key: bytes
    sent: int = 0
    unacknowledged: int = 0


@dataclass(frozen=True, slots=True)
class Begun:
    """When and with what a window began."""

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
    _clients: dict[int, Client] = field(default_factory=dict)
    _all: list[Client] = field(default_factory=list)
    _requesters: list[Client] = field(default_factory=list)
    _schedule: list[Client] = field(default_factory=list)
    base_ns: int = field(default_factory=time.monotonic_ns)
    _sending: bool = False
    _rate: float | None = None
    _next: int = 0
    _rate_from_s: float = 0.0
    lag_s: float = 0.0
    _faults: tuple[int, int, int, int] = (0, 0, 0, 0)

    # Opening

    def open_all(self, say: Callable[[int], None]) -> None:
        """Connect every client and have it use its objects: the first of each edge alone, which waits until that is there. `say`
        hears how many do."""
        specs = self.plan.clients
        known = senders(specs)
        first = {spec.edge: index for index, spec in reversed(list(enumerate(specs)))}
        alone = {index: self._open_first(index) for index in sorted(first.values())}
        with ThreadPoolExecutor(_OPENING) as pool:
            others = {
                index: pool.submit(self._open, spec) for index, spec in enumerate(specs) if index not in alone
            }
            for index, spec in enumerate(specs):
                try:
                    sock = alone.pop(index) if index in alone else others.pop(index).result()
                except (OSError, SessionError) as error:
                    pool.shutdown(cancel_futures=True)
                    _close_all([*alone.values(), *_opened(others.values())])
                    raise SessionError(f"client {index + 1}: {error}") from error
                self._add(spec, sock, Member(spec, known, self.tally))
                say(index + 1)
        self._schedule = [self._all[index] for index in schedule(specs)]

    def _open_first(self, index: int) -> socket.socket:
        deadline = time.monotonic() + self.plan.wait_s
        while True:
            try:
                return self._open(self.plan.clients[index])
            except (OSError, SessionError) as error:
                if time.monotonic() > deadline:
                    raise SessionError(f"client {index + 1}: {error}") from error
                time.sleep(_RETRY_S)

    def _open(self, spec: ClientSpec) -> socket.socket:
        plan = self.plan
        target = Target(plan.host, plan.ports[spec.edge], f"{plan.app}/{spec.scope}")
        return open_member(target, [object_name(number) for number in spec.objects], plan.persistent)

    def _add(self, spec: ClientSpec, sock: socket.socket, member: Member) -> None:
        key = b""
        if spec.requester is not None:
            key = sender_key(spec.objects[0], spec.requester)
        client = Client(sock, member, spec, key)
        sock.setblocking(False)
        self._clients[sock.fileno()] = client
        self._all.append(client)
        if key:
            self._requesters.append(client)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def watch(self, fd: int) -> None:
        """`turn` also returns when this becomes readable."""
        self._epoll.register(fd, select.EPOLLIN)

    def now_ns(self) -> int:
        """Since these clients began."""
        return time.monotonic_ns() - self.base_ns

    # Sending

    def start(self, rate: float | None) -> None:
        """From now on send as fast as answers come, or so many messages a second."""
        for client in self._all:
            self._acknowledge(client)
        self._sending, self._rate = True, rate
        self._next, self._rate_from_s = 0, time.monotonic()
        if rate is None:
            for _ in range(self.plan.window):
                self.send_each()

    def send_each(self) -> None:
        """A message of every requester now, beside those that are due."""
        for client in self._requesters:
            self._send(client)

    def stop(self) -> None:
        """Send no more."""
        self._sending = False

    def _send(self, client: Client) -> None:
        if not client.key or client.sock.fileno() < 0:
            return
        client.sent += 1
        self.sent += 1
        message = encode_request(client.spec, client.sent, self.now_ns(), self.plan.persistent)
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
            self.lag_s = max(self.lag_s, -left_s)
            self._send(self._schedule[self._next % len(self._schedule)])
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
            for _ in range(client.member.take(data, self.now_ns())):
                if answers_send:
                    self._send(client)
            client.unacknowledged += len(data)
            if client.unacknowledged > _ACKNOWLEDGE_BYTES:
                self._acknowledge(client)
        return ordered

    def _acknowledge(self, client: Client) -> None:
        """The edge closes who is silent for 90 s, and a listener has nothing else to say."""
        if client.sock.fileno() < 0:
            return
        client.unacknowledged = 0
        message = control.acknowledgement(0)
        try:
            client.sock.send(encode_message(message, csid_for(message.type_id), CHUNK_BYTES))
        except OSError:
            self._close(client)

    def _close(self, client: Client) -> None:
        fd = client.sock.fileno()
        if fd >= 0:
            self._epoll.unregister(fd)
            del self._clients[fd]
            client.sock.close()
            self.closed += 1

    def order(self, order: Any) -> None:
        """("run", rate), see `start`, or "each", see `send_each`."""
        if order == "each":
            self.send_each()
        else:
            self.start(order[1])

    # Measuring

    def begin(self) -> Begun:
        """A window begins now."""
        self.lag_s = 0.0
        return Begun(time.monotonic(), time.process_time(), self._counts())

    def end(self, begun: Begun) -> Any:
        """The window ends now, and so does sending; what was seen in it."""
        raise NotImplementedError

    def used(self, begun: Begun) -> tuple[float, float]:
        """Since then: seconds, and those of this process's CPU."""
        return time.monotonic() - begun.at_s, time.process_time() - begun.cpu_s

    def counted(self, begun: Begun) -> tuple[int, int, int]:
        """Since then: messages that were sent, that were answered, that came to members."""
        sent, answered, delivered = (now - was for now, was in zip(self._counts(), begun.counts, strict=True))
        return sent, answered, delivered

    def new_faults(self) -> tuple[int, int, int, int]:
        """Since the last call: missing, disordered, strange, closed."""
        before, self._faults = self._faults, self._all_faults()
        missing, disordered, strange, closed = (
            now - was for now, was in zip(self._faults, before, strict=True)
        )
        return missing, disordered, strange, closed

    def _counts(self) -> tuple[int, int, int]:
        return self.sent, self.tally.answered, self.tally.delivered

    def _all_faults(self) -> tuple[int, int, int, int]:
        tally = self.tally
        return tally.missing, tally.disordered, tally.strange, self.closed

    def drain(self) -> tuple[int, int]:
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


def _opened(others: Iterable[Future[socket.socket]]) -> list[socket.socket]:
    """Those that were opened, of what is done or cancelled."""
    done = (other for other in others if not other.cancelled() and other.exception() is None)
    return [other.result() for other in done]


def _close_all(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
