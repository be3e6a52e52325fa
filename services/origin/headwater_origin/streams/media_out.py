"""Media on its way to one edge."""

from typing import TYPE_CHECKING

import gevent
from headwater_bus.delay import Delay
from headwater_bus.traffic import StreamMedia

if TYPE_CHECKING:
    from headwater_origin.edge_port import LinkLike

_MOST_INTERVAL_S = 1.0
_MOST_BYTES = 4 * 1024 * 1024
"""With so much gathered it leaves before its time."""


class MediaOut:
    """Sends the media of all streams to one edge, in one batch for each of the intervals that the edge has named (`GatherMedia`):
    who has many players sends to each of them as often as batches come, and a batch costs the same however much is in it.
    After a pause the first leaves at once, with what comes in the same turn of the loop.

    What has to come behind media that was sent before calls `flush` first.
    """

    __slots__ = ("_delay", "_gathered", "_link", "_size_bytes", "_soon")

    def __init__(self, link: "LinkLike") -> None:
        self._link = link
        self._delay: Delay | None = None
        """Runs from one batch on until the next may leave."""
        self._gathered: list[StreamMedia] = []
        self._size_bytes = 0
        self._soon = False

    def gather(self, interval_ms: int) -> None:
        """From now on for so many ms, a second at most; 0: not at all."""
        self.close()
        interval_s = min(interval_ms / 1000, _MOST_INTERVAL_S)
        self._delay = Delay(interval_s, self._leave) if interval_s > 0 else None

    def send(self, envelope: StreamMedia) -> None:
        """It leaves in its time, in order."""
        if self._delay is None:
            self._link.send(envelope)
            return
        self._gathered.append(envelope)
        self._size_bytes += len(envelope.payload)
        if self._size_bytes > _MOST_BYTES:
            self._leave()
        elif not self._soon and not self._delay.running:
            self._soon = True
            gevent.get_hub().loop.run_callback(self._leave)

    def _leave(self) -> None:
        self._soon = False
        if self._gathered:
            self.flush()
            if self._delay is not None:
                self._delay.start()

    def flush(self) -> None:
        """What was gathered leaves now."""
        gathered, self._gathered = self._gathered, []
        self._size_bytes = 0
        for envelope in gathered:
            self._link.send(envelope)

    def close(self) -> None:
        """The link is gone, or is about to: what was gathered leaves if it still can."""
        self.flush()
        if self._delay is not None:
            self._delay.close()
            self._delay = None
