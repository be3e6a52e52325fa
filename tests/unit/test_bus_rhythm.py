"""Jobs that come again and again share their instants."""

import time

import pytest
from headwater_bus import rhythm
from headwater_bus.rhythm import Alarm, until_next
from support.waiting import eventually


def test_all_jobs_of_a_process_come_at_multiples_of_their_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rhythm, "_PHASE_S", 0.25)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    assert (until_next(1.0), until_next(0.5)) == (0.75, 0.25)


def test_a_timer_that_was_a_little_early_does_not_come_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rhythm, "_PHASE_S", 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 99.9995)
    assert until_next(1.0) == pytest.approx(1.0005)


def test_an_alarm_rings_once_at_the_time_that_was_asked_for_last() -> None:
    rung: list[float] = []
    alarm = Alarm(lambda: rung.append(time.monotonic()))
    now = time.monotonic()
    for after_s in (0.0, 60.0, 0.2):
        alarm.set(now + after_s)
    eventually(lambda: bool(rung), 10)
    assert rung[0] >= now + 0.199
    # A time that is over: at once.
    alarm.set(now)
    eventually(lambda: len(rung) == 2, 10)


def test_a_stopped_alarm_does_not_ring_until_it_is_asked_for_again() -> None:
    rung: list[str] = []
    stopped, other = Alarm(lambda: rung.append("stopped")), Alarm(lambda: rung.append("other"))
    now = time.monotonic()
    stopped.set(now + 0.01)
    stopped.stop()
    other.set(now + 0.1)
    eventually(lambda: bool(rung), 10)
    assert rung == ["other"]
    stopped.set(time.monotonic())
    eventually(lambda: rung == ["other", "stopped"], 10)
