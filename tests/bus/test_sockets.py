"""Greenlets that have much to do, and what else the loop has to see to."""

import gevent
from headwater_bus.sockets import pause


def test_between_two_slices_the_loop_looks_at_its_threads_and_timers() -> None:
    """With gevent.sleep(0) it does so once in fifty slices: commits and heartbeats then wait for a quarter of a second."""
    loop = gevent.get_hub().loop
    slices = 0
    seen: list[int] = []
    thread, timer = loop.async_(), loop.timer(0)
    thread.start(lambda: seen.append(slices))

    def work() -> None:
        nonlocal slices
        for _ in range(100):
            slices += 1
            pause()

    busy = [gevent.spawn(work) for _ in range(2)]
    gevent.sleep(0)
    thread.send()
    timer.start(lambda: seen.append(slices))
    gevent.joinall(busy)
    for watcher in (thread, timer):
        watcher.stop()
        watcher.close()
    assert len(seen) == 2
    assert max(seen) < 12
