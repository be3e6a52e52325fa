"""A ZeroMQ socket on gevent's loop, for one greenlet that reads and one that writes.

`zmq.green` does this for any number of greenlets, and asks the socket for its state at every call: measured, a batch that comes
and one that goes cost three times as much by it. Here the descriptor is watched only while the reader waits.
"""

from collections.abc import Sequence
from typing import Any

import gevent
import zmq
from gevent.hub import Waiter

# Plain ints: each `&` or `|` of an IntFlag costs a look-up of the member it gives.
_NOBLOCK, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
_READ = 1
"""Event of gevent's io watchers."""


class PolledSocket:
    """`raw` is the socket: to set options, bind and connect."""

    __slots__ = ("_waiter", "_watcher", "raw", "waited")

    def __init__(self, context: zmq.Context[Any], kind: int) -> None:
        self.raw: zmq.Socket[Any] = context.socket(kind, socket_class=zmq.Socket)
        self._watcher: Any = None
        self._waiter: Any = None
        self.waited = False
        """Whether the last message had to be waited for: the other greenlets have had their turn."""

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self.raw.closed

    def receive(self) -> list[zmq.Frame]:
        """The frames of the next message; the greenlet waits for it. Raises zmq.ZMQError once the socket is closed."""
        receive = self.raw.recv
        self.waited = False
        # To ask first costs a quarter of what the error costs that says that there is none.
        while not self._readable:
            self._wait()
        frame = receive(_NOBLOCK, copy=False)
        frames = [frame]
        # All frames of a message come at once (ZeroMQ's guide, "multipart messages").
        while frame.more:
            frame = receive(_NOBLOCK, copy=False)
            frames.append(frame)
        return frames

    def _wait(self) -> None:
        """Until its descriptor, which was looked at just now, says that something has happened."""
        if self._watcher is None:
            self._watcher = gevent.get_hub().loop.io(int(self.raw.get(zmq.FD)), _READ)
        watcher = self._watcher
        waiter: Any = Waiter()
        watcher.start(waiter.switch, None)
        self._waiter = waiter
        self.waited = True
        try:
            waiter.get()
        finally:
            self._waiter = None
            watcher.stop()

    @property
    def _readable(self) -> bool:
        return bool(int(self.raw.get(_EVENTS)) & _POLLIN)

    def send(self, frames: Sequence[bytes]) -> None:
        """Send a message, at once: raises zmq.Again where the socket's high-water mark is reached, or ZeroMQ has given up what it
        was connected to; zmq.ZMQError where it is closed. Never waits: it may be called from the loop itself."""
        send = self.raw.send
        *others, last = frames
        # Copied: for what ZeroMQ shares pyzmq has a thread and locks, which can wait; and it pays from some 400 KB a frame on.
        for frame in others:
            send(frame, _MORE)
        send(last, _NOBLOCK)
        waiter = self._waiter
        if waiter is not None and self._readable:
            # Sending has looked at what came, and the descriptor does not tell it again (zmq_getsockopt, ZMQ_FD).
            gevent.get_hub().loop.run_callback(waiter.switch, None)

    def close(self, linger_ms: int) -> None:
        """Close it; what was sent has so long to leave. A greenlet that waits for a message goes on, and finds it closed."""
        waiter, watcher, self._watcher = self._waiter, self._watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()
        self.raw.close(linger=linger_ms)
        if waiter is not None:
            gevent.get_hub().loop.run_callback(waiter.switch, None)
