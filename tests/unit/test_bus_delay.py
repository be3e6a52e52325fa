"""A call that comes a little later."""

from functools import partial

import gevent
from headwater_bus.delay import Delay
from support.waiting import eventually


def test_it_is_called_once_however_often_it_is_asked_for_and_each_time_anew() -> None:
    calls: list[str] = []
    sooner, delay = Delay(0.001, lambda: calls.append("sooner")), Delay(0.02, lambda: calls.append("delay"))

    def called(times: int) -> bool:
        return calls == ["sooner", "delay"] * times

    for wanted in range(1, 4):
        sooner.start()
        for _ in range(5):
            delay.start()
        assert delay.running
        eventually(partial(called, wanted), 5)
        assert not delay.running
    sooner.close()
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
