"""Media on its way to one edge."""

import time
from typing import TYPE_CHECKING, Any

import gevent
from headwater_bus.traffic import StreamMedia

if TYPE_CHECKING:
    from headwater_origin.edge_port import LinkLike

_MOST_INTERVAL_S = 1.0
_MOST_BYTES = 4 * 1024 * 1024
"""With so much gathered it leaves before its time."""


class MediaOut:
    """Sends the media of all streams to one edge, in one batch for each of the intervals that the edge has named (`GatherMedia`):
    who has many players sends to each of them as often as batches come, and a batch costs the same however much is in it.
    After a pause the first leaves at once, with what comes in the same turn of the loop; nothing wakes the process unless there
    is something that has to wait.

    What has to come behind media that was sent before calls `flush` first.
    """

    __slots__ = ("_due_s", "_gathered", "_interval_s", "_link", "_size_bytes", "_soon", "_timer")

    def __init__(self, link: "LinkLike") -> None:
        self._link = link
        self._interval_s = 0.0
        self._due_s = 0.0
        """When the next batch may leave, on the monotonic clock."""
        self._gathered: list[StreamMedia] = []
        self._size_bytes = 0
        self._soon = False
        """Whether what was gathered leaves by itself: at the end of this turn of the loop, or by the timer."""
        self._timer: Any = None

    def gather(self, interval_ms: int) -> None:
        """From now on for so many ms, a second at most; 0: not at all."""
        self.close()
        self._interval_s = max(0.0, min(interval_ms / 1000, _MOST_INTERVAL_S))

    def send(self, envelope: StreamMedia) -> None:
        """It leaves in its time, in order."""
        if not self._interval_s:
            self._link.send(envelope)
            return
        self._gathered.append(envelope)
        self._size_bytes += len(envelope.payload)
        if self._size_bytes > _MOST_BYTES:
            self._leave()
        elif not self._soon:
            self._soon = True
            self._wait()

    def _wait(self) -> None:
        loop = gevent.get_hub().loop
        left_s = self._due_s - time.monotonic()
        if left_s <= 0:
            loop.run_callback(self._leave)
        else:
            self._timer = loop.timer(left_s)
            self._timer.start(self._leave, update=True)

    def _leave(self) -> None:
        self._soon = False
        self._stop_timer()
        if self._gathered:
            self.flush()
            self._due_s = time.monotonic() + self._interval_s

    def flush(self) -> None:
        """What was gathered leaves now."""
        gathered, self._gathered = self._gathered, []
        self._size_bytes = 0
        for envelope in gathered:
            self._link.send(envelope)

    def close(self) -> None:
        """The link is gone, or is about to: what was gathered leaves if it still can."""
        self.flush()
        self._stop_timer()
        self._soon = False
        self._interval_s = self._due_s = 0.0

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
