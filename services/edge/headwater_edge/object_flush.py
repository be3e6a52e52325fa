"""When SharedObjects tell their members what they have gathered.

The first change after a quiet time leaves at the end of its batch. As long as more come, one timer has all such objects tell
what each has gathered, every `object_flush_ms`.
"""

from typing import TYPE_CHECKING

from headwater_bus.delay import Delay
from headwater_bus.logs import get_log

from headwater_edge.objects import ObjectFanout

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_log = get_log("edge")


class ObjectFlush:
    """The objects of an edge that have something pending. `_due`: until the end of the batch; `_busy`: those that told something
    since the timer last came, or will when it comes."""

    def __init__(self, edge: "Edge") -> None:
        self._edge = edge
        interval_s = edge.config.object_flush_ms / 1000
        self._delay = Delay(interval_s, self._time) if interval_s else None
        self._due: dict[ObjectFanout, None] = {}
        self._busy: dict[ObjectFanout, None] = {}

    def arrange(self, shared_object: ObjectFanout) -> None:
        """An object has something pending."""
        if shared_object in self._busy:
            return
        self._due[shared_object] = None
        if self._delay is not None:
            self._busy[shared_object] = None
            self._delay.start()

    def end_batch(self) -> None:
        """A batch of an origin has been carried out."""
        if self._due:
            due, self._due = self._due, {}
            self._tell(due)

    def flush(self) -> None:
        """Have all objects tell what is pending now."""
        self._tell({**self._due, **self._busy})
        self._due = {}

    def _tell(self, objects: dict[ObjectFanout, None]) -> None:
        for shared_object in objects:
            try:
                shared_object.flush()
            except Exception as error:
                self._edge.counters.internal_errors += 1
                _log.error("internal error", object=shared_object.name, error=repr(error))

    def _time(self) -> None:
        self._busy = {shared_object: None for shared_object in self._busy if shared_object.gathered}
        if self._busy and self._delay is not None:
            self._delay.start()
        self._tell(self._busy)
        self._edge.flush_clients()
