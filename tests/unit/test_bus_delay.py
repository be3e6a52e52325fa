"""A call that comes a little later."""

import time
from functools import partial

import gevent
from headwater_bus.delay import Delay
from support.waiting import eventually


def test_it_is_called_once_however_often_it_is_asked_for_and_each_time_anew() -> None:
    calls: list[float] = []
    delay = Delay(0.02, lambda: calls.append(time.monotonic()))

    def called(times: int) -> bool:
        return len(calls) == times

    for wanted in range(1, 4):
        began = time.monotonic()
        for _ in range(5):
            delay.start()
        assert delay.running
        eventually(partial(called, wanted), 5)
        # The loop's clock is in ms.
        assert calls[-1] - began >= 0.018
        assert not delay.running
    delay.close()


def test_stopped_and_closed_it_is_not_called() -> None:
    calls: list[str] = []
    stopped, closed = (
        Delay(0.001, lambda: calls.append("stopped")),
        Delay(0.001, lambda: calls.append("closed")),
    )
    other = Delay(0.01, lambda: calls.append("other"))
    for delay in (stopped, closed, other):
        delay.start()
    stopped.stop()
    closed.close()
    closed.close()
    eventually(lambda: bool(calls), 5)
    assert calls == ["other"]
    stopped.start()
    eventually(lambda: len(calls) == 2, 5)
    assert calls == ["other", "stopped"]
    gevent.sleep(0)
    stopped.close()
    other.close()
