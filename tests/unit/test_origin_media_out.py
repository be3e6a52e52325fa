"""Media for one edge, gathered as long as the edge wants it."""

from typing import Any

import gevent
import pytest
from headwater_bus import traffic
from headwater_origin.streams.media_out import MediaOut
from support.origin_bench import FakeLink
from support.waiting import eventually


def media(number: int, size: int = 10, stream: int = 1) -> traffic.StreamMedia:
    return traffic.StreamMedia(stream, number, 9, number, b"m" * size)


@pytest.fixture
def link() -> FakeLink:
    return FakeLink("edge-1")


@pytest.fixture
def out(link: FakeLink) -> Any:
    out = MediaOut(link)
    yield out
    out.close()


def numbers(link: FakeLink) -> list[int]:
    return [envelope.number for envelope in link.take()]


def test_as_long_as_nobody_asks_nothing_is_gathered(link: FakeLink, out: MediaOut) -> None:
    out.send(media(1))
    assert numbers(link) == [1]
    out.gather(0)
    out.send(media(2))
    assert numbers(link) == [2]
    out.gather(-5)
    out.send(media(3))
    assert numbers(link) == [3]


def test_after_a_pause_it_leaves_at_once_and_then_what_has_gathered(link: FakeLink, out: MediaOut) -> None:
    out.gather(50)
    out.send(media(1))
    out.send(media(2, stream=2))
    assert not link.log, "what comes in the same turn of the loop leaves with it"
    gevent.sleep(0)
    assert numbers(link) == [1, 2]
    out.send(media(3))
    gevent.sleep(0)
    out.send(media(4))
    gevent.sleep(0)
    assert not link.log
    eventually(lambda: bool(link.log), 5)
    assert numbers(link) == [3, 4]
    gevent.sleep(0.05)
    out.send(media(5))
    gevent.sleep(0)
    assert numbers(link) == [5]


def test_nothing_is_timed_while_nothing_waits(link: FakeLink, out: MediaOut) -> None:
    out.gather(100)
    out.send(media(1))
    gevent.sleep(0)
    assert numbers(link) == [1]
    assert out._timer is None
    out.send(media(2))
    timer = out._timer
    assert timer is not None
    out.send(media(3))
    assert out._timer is timer
    eventually(lambda: bool(link.log), 5)
    assert numbers(link) == [2, 3]
    assert out._timer is None


def test_what_left_before_its_time_leaves_nothing_behind(link: FakeLink, out: MediaOut) -> None:
    out.gather(20)
    for number in (1, 2):
        out.send(media(number))
        gevent.sleep(0)
    out.flush()
    assert numbers(link) == [1, 2]
    out.send(media(3))
    eventually(lambda: bool(link.log), 5)
    assert numbers(link) == [3]
    gevent.sleep(0.05)
    assert not link.log


def test_what_has_to_come_behind_it_has_it_leave_at_once(link: FakeLink, out: MediaOut) -> None:
    out.gather(1000)
    out.send(media(1))
    out.flush()
    assert numbers(link) == [1]
    out.flush()
    assert not link.log


def test_too_much_does_not_wait(link: FakeLink, out: MediaOut) -> None:
    out.gather(1000)
    for number in range(1, 6):
        out.send(media(number, 1024 * 1024))
    assert numbers(link) == [1, 2, 3, 4, 5]


def test_another_interval_counts_from_now_on_and_at_the_end_nothing_waits(
    link: FakeLink, out: MediaOut
) -> None:
    out.gather(100_000)
    out.send(media(1))
    out.gather(1)
    assert numbers(link) == [1]
    out.send(media(2))
    eventually(lambda: bool(link.log), 5)
    assert numbers(link) == [2]
    out.gather(100_000)
    out.send(media(3))
    out.close()
    assert numbers(link) == [3]
