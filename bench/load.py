"""The load as its parent sees it: a publisher process and one process of players on each core of the load."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bench import players, publisher
from bench.players import PlayersPlan, PlayersWindow
from bench.processes import Cores
from bench.publisher import PublisherPlan, PublisherWindow
from bench.session import Target
from bench.stream import StreamShape
from bench.worker import Worker

_ANSWER_S = 30.0
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class LoadWindow:
    """What the load saw of one window. `core_percents`: what the load itself used of each of its cores."""

    players: list[PlayersWindow]
    publisher: PublisherWindow
    core_percents: list[float]


def share_out(total: int, parts: int) -> list[int]:
    """`total` in `parts` numbers that differ by one at most."""
    return [total // parts + (index < total % parts) for index in range(parts)]


class FanoutLoad:
    """One publisher, and players that are shared out among `play_targets`. Use as a context manager: nothing of it is left
    afterwards."""

    def __init__(
        self,
        target: Target,
        play_targets: Sequence[Target],
        shape: StreamShape,
        players_total: int,
        sampled: int,
        cores: Cores,
    ) -> None:
        self._target, self._play_targets, self._shape, self._cores = target, play_targets, shape, cores
        self._total, self._sampled = players_total, sampled
        self._publisher: Worker | None = None
        self._players: dict[Worker, int] = {}
        """With the core that each is on."""
        self._begun_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers():
            worker.stop()

    def _workers(self) -> list[Worker]:
        return [*self._players, *([self._publisher] if self._publisher else [])]

    def publish(self, check: Callable[[], None]) -> None:
        """Start the publisher; returns when it publishes. `check` raises when the server died."""
        plan = PublisherPlan(self._target, self._shape, self._cores.load[-1])
        self._publisher = Worker("publisher", publisher.run, plan)
        while self._publisher.hear(_LOOK_S) is None:
            check()

    def play(self, progress: Callable[[int], None], check: Callable[[], None]) -> None:
        """Start the players; returns when all play. `progress` hears how many do."""
        places = list(itertools.product(self._cores.load, self._play_targets))
        counts, sampled = share_out(self._total, len(places)), share_out(self._sampled, len(places))
        for number, (core, target) in enumerate(places):
            if counts[number]:
                plan = PlayersPlan(target, counts[number], core, max(1, sampled[number]))
                self._players[Worker(f"players {number + 1}", players.run, plan)] = core
        opened = dict.fromkeys(self._players, 0)
        waiting = list(self._players)
        while waiting:
            check()
            for worker in list(waiting):
                said = worker.hear(_LOOK_S / len(waiting))
                if said is None:
                    continue
                if said[0] == "ready":
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
        windows = [worker.window(_ANSWER_S) for worker in self._workers()]
        *of_players, of_publisher = windows
        percents = dict.fromkeys(self._cores.load, 0.0)
        for worker, window in zip(self._players, of_players, strict=True):
            percents[self._players[worker]] += window.cpu_s / window.wall_s * 100
        percents[self._cores.load[-1]] += of_publisher.cpu_s / (time.monotonic() - self._begun_s) * 100
        return LoadWindow(of_players, of_publisher, list(percents.values()))
