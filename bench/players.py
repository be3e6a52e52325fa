"""The players: one process and one epoll for all of them.

A player opens with a real session. Then most only count: one read into a buffer that all share, an acknowledgement now and
then. A sample of them goes on reading whole messages, which gives latencies and shows gaps.
"""

import os
import select
import socket
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headwater_rtmp import control
from headwater_rtmp.chunk import csid_for, encode_message

from bench.client_process import serve
from bench.sampling import StampReader, sampled_numbers
from bench.session import Mode, Session, SessionError, Target

_BUFFER_BYTES = 256 * 1024
_ACKNOWLEDGE_BYTES = 2_500_000
_DEFAULT_CHUNK_BYTES = 128
_POLL_S = 0.2
_ORDERS_EVERY_S = 0.005


@dataclass(frozen=True, slots=True)
class PlayersPlan:
    """`sampled`: how many of the players read whole messages, spread evenly over the order in which they come.
    `opening`: how many open at a time. `open_s`: how long all of it may take."""

    target: Target
    players: int
    core: int
    sampled: int = 20
    opening: int = 16
    open_s: float = 90.0


@dataclass(frozen=True, slots=True)
class PlayersWindow:
    """One measured window. `bytes_each`: what each player received in it; a player that was closed has what it got.
    `latencies_ms`: of every stamped message that a sampled player received. `missing`: message numbers that sampled players
    did not get; `disordered`: those that came after a later one. `cpu_s`: of this process."""

    wall_s: float
    cpu_s: float
    bytes_each: list[int]
    latencies_ms: list[float]
    missing: int
    disordered: int
    closed: int


@dataclass(slots=True)
class _Reading:
    """A player that reads its messages: one that opens, or one of the sample."""

    sock: socket.socket
    session: Session
    stamps: StampReader
    sampled: bool
    out: bytes = b""


@dataclass(slots=True)
class _Window:
    wall_s: float
    cpu_s: float
    counts: list[int]
    missing: int
    disordered: int
    closed: int


@dataclass(slots=True)
class Players:
    """All players of this process. `counts` and `acknowledge_at` are indexed by file descriptor."""

    plan: PlayersPlan
    latencies_ns: "array[int]" = field(default_factory=lambda: array("q"))
    opened: int = 0
    closed: int = 0
    _epoll: select.epoll = field(default_factory=select.epoll)
    _sockets: dict[int, socket.socket] = field(default_factory=dict)
    _reading: dict[int, _Reading] = field(default_factory=dict)
    _fds: list[int] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)
    _acknowledge_at: list[int] = field(default_factory=list)
    _sample: set[int] = field(default_factory=set)
    _stamps: list[StampReader] = field(default_factory=list)
    _buffer: bytearray = field(default_factory=lambda: bytearray(_BUFFER_BYTES))

    def __post_init__(self) -> None:
        self._sample = sampled_numbers(self.plan.players, self.plan.sampled)

    # Opening

    def open_all(self, say: Callable[[int], None]) -> None:
        """Open every player, some at a time, while those that play are read. `say` hears how many play."""
        deadline = time.monotonic() + self.plan.open_s
        while self.opened < self.plan.players:
            while len(self._fds) < min(self.plan.players, self.opened + self.plan.opening):
                self._connect()
            before = self.opened
            self.turn(_POLL_S)
            if self.closed:
                raise SessionError(f"a player was closed while {self.opened} of {self.plan.players} played")
            if self.opened != before:
                say(self.opened)
            if time.monotonic() > deadline:
                raise SessionError(
                    f"{self.opened} of {self.plan.players} players after {self.plan.open_s:.0f} s"
                )

    def _connect(self) -> None:
        target = self.plan.target
        sock = socket.create_connection((target.host, target.port), timeout=10)
        sock.setblocking(False)
        fd = sock.fileno()
        stamps = StampReader(self.latencies_ns)
        session = Session(target, Mode.PLAY, stamps.take)
        sampled = len(self._fds) in self._sample
        if sampled:
            self._stamps.append(stamps)
        self._reading[fd] = _Reading(sock, session, stamps, sampled, session.start())
        self._sockets[fd] = sock
        self._fds.append(fd)
        missing = fd + 1 - len(self._counts)
        self._counts += [0] * missing
        self._acknowledge_at += [_ACKNOWLEDGE_BYTES] * missing
        self._epoll.register(fd, select.EPOLLIN)
        self._send(self._reading[fd])

    def _send(self, reading: _Reading) -> None:
        """What a session has to say fits the socket's buffer, unless the server reads nothing at all."""
        if reading.out:
            sent = reading.sock.send(reading.out)
            if sent != len(reading.out):
                raise SessionError("the server does not read what players send")
            reading.out = b""

    # Playing

    def turn(self, timeout_s: float) -> None:
        """Wait for data and read all that is there, once for each player."""
        reading, counts, acknowledge_at = self._reading, self._counts, self._acknowledge_at
        buffers, readv = [self._buffer], os.readv
        for fd, _ in self._epoll.poll(timeout_s):
            if fd in reading:
                self._read_messages(reading[fd])
                continue
            try:
                size = readv(fd, buffers)
            except OSError:
                size = 0
            if not size:
                self._close(fd)
                continue
            counts[fd] += size
            if counts[fd] >= acknowledge_at[fd]:
                self._acknowledge(fd)

    def _read_messages(self, reading: _Reading) -> None:
        fd = reading.sock.fileno()
        try:
            data = reading.sock.recv(_BUFFER_BYTES)
        except OSError:
            data = b""
        if not data:
            self._close(fd)
            return
        reading.stamps.now_ns = time.monotonic_ns()
        self._counts[fd] += len(data)
        started = reading.session.started
        reading.out = reading.session.feed(data)
        self._send(reading)
        if reading.session.started and not started:
            self.opened += 1
            if not reading.sampled:
                del self._reading[fd]

    def _acknowledge(self, fd: int) -> None:
        self._acknowledge_at[fd] = self._counts[fd] + _ACKNOWLEDGE_BYTES
        message = control.acknowledgement(self._counts[fd])
        try:
            self._sockets[fd].send(encode_message(message, csid_for(message.type_id), _DEFAULT_CHUNK_BYTES))
        except OSError:
            self._close(fd)

    def _close(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._sockets.pop(fd).close()
        self._reading.pop(fd, None)
        self.closed += 1

    # Measuring

    def begin(self) -> _Window:
        """A window begins now."""
        del self.latencies_ns[:]
        missing, disordered = self._faults()
        counts = [self._counts[fd] for fd in self._fds]
        return _Window(time.monotonic(), time.process_time(), counts, missing, disordered, self.closed)

    def end(self, window: _Window) -> PlayersWindow:
        """The window ends now."""
        wall_s, cpu_s = time.monotonic() - window.wall_s, time.process_time() - window.cpu_s
        missing, disordered = self._faults()
        return PlayersWindow(
            wall_s=wall_s,
            cpu_s=cpu_s,
            bytes_each=[self._counts[fd] - was for fd, was in zip(self._fds, window.counts, strict=True)],
            latencies_ms=[latency / 1e6 for latency in self.latencies_ns],
            missing=missing - window.missing,
            disordered=disordered - window.disordered,
            closed=self.closed - window.closed,
        )

    def _faults(self) -> tuple[int, int]:
        return sum(each.missing for each in self._stamps), sum(each.disordered for each in self._stamps)

    def close(self) -> None:
        """Hang up."""
        for sock in self._sockets.values():
            sock.close()
        self._epoll.close()


def run(pipe: Any, plan: PlayersPlan) -> None:
    """Process, see `client_process.serve`. Orders: "begin" of a window, "end" of it, answered with ("window", PlayersWindow)."""
    serve(pipe, Players(plan), _obey, "players")


def _obey(pipe: Any, players: Players) -> None:
    window = players.begin()
    look_at = 0.0
    while True:
        players.turn(_POLL_S)
        if time.monotonic() < look_at:
            continue
        look_at = time.monotonic() + _ORDERS_EVERY_S
        if not pipe.poll():
            continue
        try:
            order = pipe.recv()
        except EOFError:
            return
        if order == "stop":
            return
        if order == "end":
            pipe.send(("window", players.end(window)))
        window = players.begin()
