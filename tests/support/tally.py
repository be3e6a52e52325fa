"""Clients that count all the time, and know what was acknowledged to them: what breaks meanwhile must lose and double nothing."""

from typing import Any

import gevent
from gevent.event import Event
from headwater_client import CallFailed, ConnectionClosed, NetConnection, SharedObject, SharedObjectError

from support.waiting import TIME_FACTOR, eventually

PACE_S = 0.005


class Counter:
    """A client of `support.tally_app`: calls `count` with one number after the other, and writes each number that was
    acknowledged into its slot of the persistent object `board`. One that is refused is tried again. `patience_s`: for each
    answer."""

    def __init__(self, url: str, name: str, patience_s: float = 20.0) -> None:
        self.name = name
        self.connection = NetConnection(url, name, timeout_s=patience_s * TIME_FACTOR)
        self.counted = self.written = 0
        """The last number that was acknowledged to a call, and to a change."""
        self.refusals: list[str] = []
        """Codes of what was refused."""
        self.heard: list[tuple[str, int]] = []
        """The broadcasts: who has counted to what."""
        self.failure: Exception | None = None
        self._going = Event()
        self._ending = False
        self.connection.connect()
        self.connection.on("counted", lambda name, number: self.heard.append((name, int(number))))
        self.board: SharedObject = self.connection.shared_object("board", persistent=True)
        self.board.wait_synced()
        self.begun_at = self.counted = int(self.totals().get(name, 0))
        self._job = gevent.spawn(self._count)
        self._going.set()

    def totals(self) -> dict[str, Any]:
        """What the application's state says."""
        return dict(self.connection.call("totals"))

    def _count(self) -> None:
        try:
            while not self._ending:
                self._going.wait()
                self._call()
                self._write()
                gevent.sleep(PACE_S)
        except ConnectionClosed:
            return
        except Exception as error:
            self.failure = error

    def _call(self) -> None:
        try:
            self.connection.call("count", self.counted + 1)
        except CallFailed as error:
            if error.code == "Tally.Order":
                raise
            self.refusals.append(error.code)
        else:
            self.counted += 1

    def _write(self) -> None:
        number = self.counted
        try:
            self.board[self.name] = number
            self.board.flush()
        except SharedObjectError as error:
            self.refusals.append(error.code)
        else:
            self.written = number

    def goes_on(self, by: int = 10, within_s: float = 20.0) -> None:
        """Wait until it has counted on, from here."""
        to = self.counted + by
        eventually(lambda: self.failure or self.written >= to, within_s, f"{self.name} counts to {to}")
        assert self.failure is None, repr(self.failure)

    def stop(self) -> None:
        """Wait for the last answer."""
        self._ending = True
        self._job.join(timeout=30 * TIME_FACTOR)
        assert self._job.dead, f"{self.name} still waits for an answer"
        assert self.failure is None, repr(self.failure)

    def close(self) -> None:
        """End it and its connection."""
        self._ending = True
        self._job.kill()
        self.connection.close()


def settled(counters: list[Counter]) -> None:
    """Stop them, all of whose connections are there: what was acknowledged happened once, nothing else did, and everybody
    has heard it in order."""
    for counter in counters:
        counter.stop()
    totals = counters[0].totals()
    assert {c.name: totals[c.name] for c in counters} == {c.name: c.counted for c in counters}
    assert totals["sum"] == sum(c.counted for c in counters)
    for watching in counters:
        for counter in counters:
            slot = counter.name
            eventually(lambda b=watching.board, s=slot, c=counter: b.get(s) == c.written, within_s=10)  # type: ignore[misc]
            eventually(
                lambda w=watching, s=slot, c=counter: numbers(w, s)[-1] == c.counted,  # type: ignore[misc]
                within_s=10,
            )
            heard = numbers(watching, slot)
            assert heard == list(range(heard[0], counter.counted + 1)), slot


def numbers(watching: Counter, name: str) -> list[int]:
    """What one has heard of another, or of itself."""
    return [number for who, number in watching.heard if who == name]
