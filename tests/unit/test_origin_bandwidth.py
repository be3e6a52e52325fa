"""The origin: the bandwidth check. The client is a number on a link whose speed the test sets, the clock its own. No sockets."""

from typing import Any

import gevent
import pytest
from headwater_origin import (
    Application,
    Bandwidth,
    Client,
    ClientCallFailed,
    ClientCallTimeout,
    ClientGone,
    remote,
)
from support.origin_bench import Bench, FakeClient, settle


class Measuring(Application):
    found: list[Any] = []  # noqa: RUF012

    @remote
    def measure(self, client: Client) -> float:
        return client.measure_bandwidth().kbps

    @remote
    def hello(self, client: Client) -> str:
        return "hello"


class Line:
    """A client behind a line of `kbps` with a round trip of `latency_s`. It answers when the test says so."""

    def __init__(self, kbps: float, latency_s: float) -> None:
        self.kbps, self.latency_s = kbps, latency_s
        self.now = 100.0
        self.bench = Bench({"app": Measuring})
        self.client = self.bench.joined(self.bench.edge())
        self.bench.origin.groups["app/room"].clock = lambda: self.now
        self.sizes: list[int] = []
        self.told: list[Any] = []

    def answer(self, most: int = 1000, name: str = "_result") -> None:
        """Answer every onBWCheck, one after the other; `most`: so many."""
        for _ in range(most):
            settle()
            taken = self.client.take()
            calls = [told for told in taken if told[0] == "onBWCheck"]
            self.told += [told for told in taken if told[0] != "onBWCheck"]
            if not calls:
                return
            assert len(calls) == 1, "two measurements at a time"
            _, transaction, payload = calls[0]
            size = sum(map(len, payload))
            self.sizes.append(size)
            self.now += self.latency_s + size * 8 / 1000 / self.kbps
            self.client.command(name, None, transaction=transaction)

    def check(self, transaction: float = 0) -> None:
        self.client.command("checkBandwidth", transaction=transaction)

    @property
    def session(self) -> Any:
        return self.client.session


@pytest.mark.parametrize("kbps", [64, 800, 20_000, 900_000])
@pytest.mark.parametrize("latency_s", [0.001, 0.3])
def test_what_is_measured(kbps: float, latency_s: float) -> None:
    line = Line(kbps, latency_s)
    line.check(5)
    line.answer()
    assert line.told[0] == ("_result", 5.0, None)
    ((name, transaction, told_kbps, kbit, seconds, latency_ms),) = line.told[1:]
    assert (name, transaction) == ("onBWDone", 0.0)
    if latency_s * kbps < 5000:  # A line that takes everything within its latency cannot be measured as well.
        assert told_kbps == pytest.approx(kbps, rel=0.1)
    assert latency_ms == pytest.approx(latency_s * 1000, abs=0.1)
    assert kbit == sum(line.sizes) * 8 / 1000
    assert kbit / max(seconds, 0.001) == pytest.approx(told_kbps, rel=0.6)


def test_payloads_grow_and_end() -> None:
    fast, slow = Line(900_000, 0.001), Line(64, 0.05)
    for line in (fast, slow):
        line.check()
        line.answer()
        assert line.sizes[:3] == [0, 0, 0]
        assert line.sizes[3:] == sorted(line.sizes[3:])
        # Nothing is begun after two seconds, and nothing takes a second.
        assert line.now - 100 < 3
    assert fast.sizes[3:] == [4096, 16384, 65536, 262144, 262144]
    assert max(slow.sizes) == 4096


def test_a_client_without_the_method() -> None:
    line = Line(1000, 0.05)
    line.check(2)
    line.answer(name="_error")
    assert line.told == [("_result", 2.0, None), ("onBWDone", 0.0, 0.0, 0.0, 0.0, 50.0)]
    assert line.sizes == [0]


def test_a_client_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater_origin.bandwidth._ANSWER_S", 0.001)
    line = Line(1000, 0.05)
    line.check()
    line.answer(3)  # Three empty ones; the first payload gets no answer.
    settle()
    gevent.sleep(0.02)
    line.answer(0)
    settle()
    told = [told for told in line.client.take() if told[0] == "onBWDone"]
    assert told == [("onBWDone", 0.0, 0.0, 0.0, 0.0, 50.0)]
    assert line.session.bandwidth is None


def test_one_at_a_time() -> None:
    line = Line(1000, 0.01)
    line.check(2)
    line.check(3)
    line.answer()
    line.check(4)
    line.answer()
    assert [told[:2] for told in line.told] == [
        ("_result", 2.0),
        ("_result", 3.0),
        ("onBWDone", 0.0),
        ("_result", 4.0),
        ("onBWDone", 0.0),
    ]


def test_the_client_s_other_messages_do_not_wait() -> None:
    line = Line(1000, 0.01)
    line.check()
    settle()
    line.client.command("hello", transaction=7)
    settle()
    assert ("_result", 7.0, "hello") in line.client.take()


def test_after_a_check_the_other_one_is_over_at_once() -> None:
    line = Line(1000, 0.01)
    line.check()
    line.answer()
    line.client.command("_checkbw", transaction=3)
    assert line.client.take() == [("_result", 3.0, None)]


def test_an_application_measures() -> None:
    line = Line(1000, 0.02)
    line.client.command("measure", transaction=9)
    line.answer()
    ((name, transaction, kbps),) = line.told
    assert (name, transaction) == ("_result", 9.0)
    assert kbps == pytest.approx(1000, rel=0.1)


def test_an_application_and_the_client_share_a_measurement() -> None:
    line = Line(1000, 0.02)
    task = gevent.spawn(line.session.client.measure_bandwidth)
    settle()
    line.check(2)
    line.answer()
    found = task.get()
    assert isinstance(found, Bandwidth)
    assert line.told == [
        ("_result", 2.0, None),
        ("onBWDone", 0.0, found.kbps, sum(line.sizes) * 8 / 1000, line.told[1][4], found.latency_ms),
    ]


def failing(client: FakeClient) -> Any:
    """A task that measures, at the point where it waits for the client."""
    task = gevent.spawn(client.session.client.measure_bandwidth)
    settle()
    return task


def test_what_an_application_gets_when_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(1000, 0.02)
    task = failing(line.client)
    line.answer(name="_error")
    with pytest.raises(ClientCallFailed):
        task.get()
    one, two = failing(line.client), failing(line.client)
    line.client.detach()
    for task in (one, two):
        with pytest.raises(ClientGone):
            task.get()
    monkeypatch.setattr("headwater_origin.bandwidth._ANSWER_S", 0.001)
    with pytest.raises(ClientCallTimeout):
        Line(1000, 0.02).session.client.measure_bandwidth()


def test_a_client_that_leaves_meanwhile_is_told_nothing() -> None:
    line = Line(1000, 0.02)
    line.check()
    line.answer(2)
    line.client.detach()
    line.client.link.take()
    settle()
    assert line.client.link.take() == []
    assert line.bench.origin.counters.handler_errors == 0
