"""The load as its parent sees it: a publisher process and one process of players on each core of the load."""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

from bench import players, publisher
from bench.errors import BenchError
from bench.players import PlayersPlan, PlayersWindow
from bench.processes import Cores
from bench.publisher import PublisherPlan, PublisherWindow
from bench.session import Target
from bench.stream import StreamShape

_SPAWN = multiprocessing.get_context("spawn")
_ANSWER_S = 30.0
_STOP_S = 5.0
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class LoadWindow:
    """What the load saw of one window. `core_percents`: what the load itself used of each of its cores."""

    players: list[PlayersWindow]
    publisher: PublisherWindow
    core_percents: list[float]


class _Worker:
    """A load process and the pipe to it."""

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

    def tell(self, order: str) -> None:
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


def share_out(total: int, parts: int) -> list[int]:
    """`total` in `parts` numbers that differ by one at most."""
    return [total // parts + (index < total % parts) for index in range(parts)]


class FanoutLoad:
    """One publisher and its players. Use as a context manager: nothing of it is left afterwards."""

    def __init__(
        self, target: Target, shape: StreamShape, players_total: int, sampled: int, cores: Cores
    ) -> None:
        self._target, self._shape, self._cores = target, shape, cores
        self._total, self._sampled = players_total, sampled
        self._publisher: _Worker | None = None
        self._players: list[_Worker] = []
        self._begun_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers():
            worker.stop()

    def _workers(self) -> list[_Worker]:
        return [*self._players, *([self._publisher] if self._publisher else [])]

    def publish(self, check: Callable[[], None]) -> None:
        """Start the publisher; returns when it publishes. `check` raises when the server died."""
        plan = PublisherPlan(self._target, self._shape, self._cores.load[-1])
        self._publisher = _Worker("publisher", publisher.run, plan)
        while self._publisher.hear(_LOOK_S) is None:
            check()

    def play(self, progress: Callable[[int], None], check: Callable[[], None]) -> None:
        """Start the players; returns when all play. `progress` hears how many do."""
        cores = self._cores.load
        shares = zip(
            cores, share_out(self._total, len(cores)), share_out(self._sampled, len(cores)), strict=True
        )
        for number, (core, count, sampled) in enumerate(shares, 1):
            if count:
                plan = PlayersPlan(self._target, count, core, max(1, sampled))
                self._players.append(_Worker(f"players {number}", players.run, plan))
        opened = dict.fromkeys(self._players, 0)
        waiting = list(self._players)
        while waiting:
            check()
            for worker in list(waiting):
                said = worker.hear(_LOOK_S / len(waiting))
                if said is None:
                    continue
                if said[0] == "playing":
                    waiting.remove(worker)
                else:
                    opened[worker] = said[1]
                    progress(sum(opened.values()))

    def watch(self, seconds: float, progress: Callable[[float], None], check: Callable[[], None]) -> None:
        """Let time pass; raises BenchError as soon as the load or the server fails."""
        start_s = time.monotonic()
        while (left_s := start_s + seconds - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_S))
            progress(time.monotonic() - start_s)
            check()
            for worker in self._workers():
                worker.hear(0)

    def begin(self) -> None:
        """A window begins."""
        self._begun_s = time.monotonic()
        for worker in self._workers():
            worker.tell("begin")

    def end(self) -> LoadWindow:
        """The window ends."""
        for worker in self._workers():
            worker.tell("end")
        windows = [self._window(worker) for worker in self._workers()]
        *of_players, of_publisher = windows
        percents = [window.cpu_s / window.wall_s * 100 for window in of_players]
        percents[-1] += of_publisher.cpu_s / (time.monotonic() - self._begun_s) * 100
        return LoadWindow(of_players, of_publisher, percents)

    @staticmethod
    def _window(worker: _Worker) -> Any:
        said = worker.hear(_ANSWER_S)
        if said is None or said[0] != "window":
            raise BenchError(f"{worker.name} did not report within {_ANSWER_S:.0f} s", failed=True)
        return said[1]
