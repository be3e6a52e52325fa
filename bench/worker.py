"""A process of the load and the pipe to it."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import Any

from bench.errors import BenchError

_SPAWN = multiprocessing.get_context("spawn")
_STOP_S = 5.0


class Worker:
    """Runs `target(pipe, plan)` in a process of its own. What it says are pairs: ("failed", text) means that it cannot go on.
    It ends at the order "stop" or when the pipe closes."""

    def __init__(self, name: str, target: Callable[[Any, Any], None], plan: Any) -> None:
        self.name = name
        self.pipe: Pipe
        self.pipe, theirs = _SPAWN.Pipe()
        self.process: BaseProcess = _SPAWN.Process(target=target, args=(theirs, plan), name=name, daemon=True)
        self.process.start()
        theirs.close()

    def hear(self, timeout_s: float) -> tuple[str, Any] | None:
        """The next thing it says, or None. Raises BenchError when it failed or died."""
        try:
            if not self.pipe.poll(timeout_s):
                return None
            kind, value = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise BenchError(f"the load's process {self.name} died", failed=True) from error
        if kind == "failed":
            raise BenchError(str(value), failed=True)
        return kind, value

    def window(self, timeout_s: float) -> Any:
        """What it says of the window that has just ended. Raises BenchError."""
        said = self.hear(timeout_s)
        if said is None or said[0] != "window":
            raise BenchError(f"{self.name} did not report within {timeout_s:.0f} s", failed=True)
        return said[1]

    def tell(self, order: object) -> None:
        """Give it an order."""
        try:
            self.pipe.send(order)
        except OSError:
            self.hear(0)  # What it said before it ended is better than what we know.
            raise BenchError(f"the load's process {self.name} is gone", failed=True) from None

    def stop(self) -> None:
        """End it, kindly and then not."""
        try:
            self.pipe.send("stop")
        except OSError:
            pass
        self.process.join(_STOP_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()
