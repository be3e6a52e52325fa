"""Bandwidth check, as Flash Media Server does it: `onBWCheck` calls of growing size, timed, then `onBWDone` with the result."""

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gevent.event import Event
from headwater_rtmp.command import Command

from headwater_origin.errors import ClientCallError, ClientCallFailed

if TYPE_CHECKING:
    from headwater_origin.session import Session

_BUDGET_S = 2.0
"""No payload is sent after this time."""
_ANSWER_S = 5.0
"""A payload that takes longer is not waited for."""
_FIRST_BYTES = 4 * 1024
_GROWTH = 4
_LAST_BYTES = 256 * 1024
_PART = 16 * 1024
"""A payload is an array of strings of this length: there are clients that read no longer ones."""
_LAST_ROUNDS = 2
"""Payloads of the greatest size."""
_ROUND_S = 0.5
"""A payload is no larger than what the client is expected to take in this time: its other messages wait behind it."""
_PINGS = 3


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """From the server to the client. `kbps`: thousand bits a second, 0 when that is not known. `latency_ms`: of a call
    and its answer."""

    kbps: float
    latency_ms: float


class Measurement:
    """Of one client, and what is known by now."""

    __slots__ = ("announced", "done", "error", "latency_s", "seconds", "sent_bytes")

    def __init__(self) -> None:
        self.latency_s = 0.0
        self.sent_bytes = 0
        self.seconds = 0.0
        """That the payloads took, without latency."""
        self.error: ClientCallError | None = None
        """Why it is not complete."""
        self.done = Event()
        self.announced = False
        """Whether the client will be told."""

    @property
    def bandwidth(self) -> Bandwidth:
        """As it is known by now."""
        kbps = self.sent_bytes * 8 / 1000 / self.seconds if self.seconds else 0.0
        return Bandwidth(round(kbps, 1), round(self.latency_s * 1000, 1))

    def run(self, session: "Session") -> None:
        """Measure."""
        self.error = ClientCallError("the measurement was ended")
        try:
            self._measure(session)
            self.error = None
        except ClientCallError as error:
            self.error = error
        finally:
            session.bandwidth = None
            self.done.set()

    def _measure(self, session: "Session") -> None:
        clock = session.group.clock
        start = clock()
        for _ in range(_PINGS):
            self._ping(session)
        size, rounds = _FIRST_BYTES, 0
        while rounds < _LAST_ROUNDS and clock() - start < _BUDGET_S:
            payload = secrets.token_hex(size // 2)
            took_s = _called(session, [payload[at : at + _PART] for at in range(0, size, _PART)])
            self.sent_bytes += len(payload)
            # What little is left of a fast one may be less than the latency varies by.
            self.seconds += max(took_s - self.latency_s, took_s / 10, 1e-6)
            rounds += size == _LAST_BYTES
            expected = int(self.sent_bytes / self.seconds * _ROUND_S)
            size = max(_FIRST_BYTES, min(size * _GROWTH, expected, _LAST_BYTES))

    def _ping(self, session: "Session") -> None:
        clock = session.group.clock
        start = clock()
        try:
            _called(session, [])
        except ClientCallFailed:
            self._answered_after(clock() - start)  # An answer all the same.
            raise
        self._answered_after(clock() - start)

    def _answered_after(self, took_s: float) -> None:
        self.latency_s = min(took_s, self.latency_s or took_s)


def _called(session: "Session", payload: list[str]) -> float:
    """Seconds until the client has answered."""
    clock = session.group.clock
    start = clock()
    session.calls.call("onBWCheck", (payload,), _ANSWER_S)
    return clock() - start


def measure(session: "Session") -> Bandwidth:
    """Measure, or wait for the measurement that is under way: two would measure each other. Raises ClientCallError: the client
    has no `onBWCheck`, does not answer, or is gone."""
    measurement = session.bandwidth
    if measurement is None:
        measurement = session.bandwidth = Measurement()
        measurement.run(session)
    else:
        measurement.done.wait()
    if measurement.error is not None:
        raise measurement.error
    return measurement.bandwidth


def check_bandwidth(session: "Session", command: Command) -> None:
    """checkBandwidth: a measurement beside the client's messages; then it is told what is known, with `onBWDone(kbps, kbit,
    seconds, latency_ms)`: what the measurement is of, too."""
    if command.transaction_id:
        session.reply_command("_result", command.transaction_id, None, None)
    measurement = session.bandwidth
    begins = measurement is None
    if measurement is None:
        measurement = session.bandwidth = Measurement()
    if not measurement.announced:
        measurement.announced = True
        session.group.run(lambda: _announce(session, measurement, begins))


def _announce(session: "Session", measurement: Measurement, begins: bool) -> None:
    if begins:
        measurement.run(session)
    else:
        measurement.done.wait()
    if not session.closed:
        session.bandwidth_done = True
        found = measurement.bandwidth
        sent_kbit = measurement.sent_bytes * 8 / 1000
        session.reply_command(
            "onBWDone", 0, None, found.kbps, sent_kbit, round(measurement.seconds, 3), found.latency_ms
        )
