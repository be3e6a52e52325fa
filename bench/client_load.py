"""Clients in one process, as their parent sees them."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from bench.opening import pass_time
from bench.worker import Worker

Window = TypeVar("Window")
_LOOK_S = 0.1
_ANSWER_S = 60.0
"""The clients may wait 10 s for what is under way, and then sort."""


class ClientLoad(Generic[Window]):
    """All clients of one load: `run(pipe, plan)` says ("opened", n) while they open and ("ready", None), and obeys "begin" and
    "end", which it answers with ("window", Window). Use as a context manager: nothing of it is left afterwards."""

    def __init__(self, run: Callable[[Any, Any], None], plan: Any) -> None:
        self._worker = Worker("clients", run, plan)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.stop()

    def open(self, progress: Callable[[float], None], check: Callable[[], None]) -> None:
        """Returns when every client is ready. `check` raises when the server died."""
        while True:
            said = self._worker.hear(_LOOK_S)
            if said is None:
                check()
            elif said[0] == "ready":
                return
            else:
                progress(said[1])

    def watch(self, seconds: float, progress: Callable[[float], None], check: Callable[[], None]) -> None:
        """Let time pass; raises BenchError as soon as the load or the server fails."""
        pass_time(seconds, progress, check, lambda: self._worker.hear(0))

    def begin(self) -> None:
        """A window begins."""
        self._worker.tell("begin")

    def end(self) -> None:
        """The window ends."""
        self._worker.tell("end")

    def window(self) -> Window:
        """What was seen in it, once all has come."""
        window: Window = self._worker.window(_ANSWER_S)
        return window


class RatedLoad(ClientLoad[Window]):
    """One whose clients begin when they are told. The end of a window is that of all sending."""

    def start(self, rate: float | None) -> None:
        """From now on messages are sent as fast as they are answered, or so many a second."""
        self._worker.tell(("run", rate))
