"""The object load as its parent sees it."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bench import object_clients
from bench.object_plan import ObjectPlan, ObjectWindow
from bench.worker import Worker

_LOOK_S = 0.1
_ANSWER_S = 60.0
"""The clients may wait 10 s for what is under way, and then sort."""


class ObjectLoad:
    """All clients of one load, in one process. Use as a context manager: nothing of it is left afterwards."""

    def __init__(self, plan: ObjectPlan) -> None:
        self._worker = Worker("clients", object_clients.run, plan)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.stop()

    def open(self, progress: Callable[[float], None], check: Callable[[], None]) -> None:
        """Returns when every client uses its objects. `check` raises when the server died."""
        while True:
            said = self._worker.hear(_LOOK_S)
            if said is None:
                check()
            elif said[0] == "ready":
                return
            else:
                progress(said[1])

    def start(self, rate: float | None) -> None:
        """From now on messages are sent as fast as they are answered, or so many a second."""
        self._worker.tell(("run", rate))

    def watch(self, seconds: float, progress: Callable[[float], None], check: Callable[[], None]) -> None:
        """Let time pass; raises BenchError as soon as the load or the server fails."""
        start_s = time.monotonic()
        while (left_s := start_s + seconds - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_S))
            progress(time.monotonic() - start_s)
            check()
            self._worker.hear(0)

    def begin(self) -> None:
        """A window begins."""
        self._worker.tell("begin")

    def end(self) -> None:
        """The window and all sending end."""
        self._worker.tell("end")

    def window(self) -> ObjectWindow:
        """What was seen in it, once all has come."""
        window: ObjectWindow = self._worker.window(_ANSWER_S)
        return window
