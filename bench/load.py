"""The load of a media benchmark as its parent sees it: one process on each core of the load, publishers in the last one."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.errors import BenchError
from bench.native_load import Durations, NativeLoad, NativeWindow
from bench.opening import pass_time
from bench.session import Target
from bench.stream import StreamShape

_ANSWER_S = 30.0
_LOOK_S = 0.1
_OPEN_S = 120.0
HELD_UNDER_WAY = 400
"""Idle clients that connect at a time. nginx waits for delayed acknowledgements on the way, 40 ms for each client, so it takes
many to keep it busy; and no more than the queue of its listener (511) holds."""


@dataclass(frozen=True, slots=True)
class LoadWindow:
    """What the load saw of one window. `core_percents`: what the load itself used of each of its cores."""

    of_processes: list[NativeWindow]
    core_percents: tuple[float, ...]

    def total(self, count: Callable[[NativeWindow], int]) -> int:
        """Of all processes."""
        return sum(map(count, self.of_processes))

    def durations(self, which: Callable[[NativeWindow], Durations]) -> Durations:
        """Of all processes."""
        return reduce(add, map(which, self.of_processes), Durations())

    @property
    def bytes_each(self) -> list[int]:
        """What each player received, the least first."""
        return sorted(count for window in self.of_processes for count in window.bytes_each)


def share_out(total: int, parts: int) -> list[int]:
    """`total` in `parts` numbers that differ by one at most."""
    return [total // parts + (index < total % parts) for index in range(parts)]


class MediaLoad:
    """Publishers, players and idle clients. Use as a context manager: nothing of it is left afterwards."""

    def __init__(self, program: Path, cores: Sequence[int | None], check: Callable[[], None]) -> None:
        """`check` raises when the server died."""
        self._check = check
        self._loads: list[NativeLoad] = []
        try:
            for core in cores:
                self._loads.append(NativeLoad(program, core))
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all processes."""
        for load in self._loads:
            load.stop()

    def publish(self, target: Target, shape: StreamShape, streams: int) -> None:
        """Returns when all are published."""
        load = self._loads[-1]
        load.describe(shape)
        load.publish(target, streams)
        self._opened({load: 1}, lambda _: None)

    def play(
        self,
        targets: Sequence[Target],
        players: int,
        streams: int,
        stride: int,
        progress: Callable[[float], None],
    ) -> None:
        """Player n plays stream (n * `stride`) % `streams`; they are shared out among processes and `targets`. Returns when all
        play; `progress` hears how many do."""
        places = [(load, target) for load in self._loads for target in targets]
        first = 0
        orders: dict[NativeLoad, int] = {}
        for (load, target), count in zip(places, share_out(players, len(places)), strict=True):
            if count:
                load.play(target, count, streams, stride, first * stride)
                orders[load] = orders.get(load, 0) + 1
            first += count
        self._opened(orders, progress)

    def hold(self, target: Target, clients: int, progress: Callable[[float], None]) -> float:
        """Connect so many that do nothing, as fast as the server takes them. Returns the seconds that it took."""
        begun_s = time.monotonic()
        orders: dict[NativeLoad, int] = {}
        for load, count in zip(self._loads, share_out(clients, len(self._loads)), strict=True):
            if count:
                load.hold(target, count, HELD_UNDER_WAY)
                orders[load] = 1
        self._opened(orders, progress)
        return time.monotonic() - begun_s

    def _opened(self, orders: dict[NativeLoad, int], progress: Callable[[float], None]) -> None:
        """Wait until each has carried out so many orders."""
        left = dict(orders)
        opened = dict.fromkeys(orders, 0)
        deadline = time.monotonic() + _OPEN_S
        while any(left.values()):
            self._check()
            if time.monotonic() > deadline:
                raise BenchError(
                    f"only {sum(opened.values())} clients are open after {_OPEN_S:.0f} s", failed=True
                )
            for load in [load for load, count in left.items() if count]:
                said = load.hear(_LOOK_S)
                if said is None:
                    continue
                left[load] -= "wall_s" in said
                opened[load] = said["count"]
                progress(sum(opened.values()))

    def watch(self, seconds: float, progress: Callable[[float], None]) -> None:
        """Let time pass; raises BenchError as soon as the load or the server fails."""
        pass_time(seconds, progress, self._check, *(partial(load.hear, 0) for load in self._loads))

    def begin(self) -> None:
        """A window begins."""
        for load in self._loads:
            load.tell("begin")

    def end(self) -> LoadWindow:
        """The window ends."""
        windows = [load.window(_ANSWER_S) for load in self._loads]
        return LoadWindow(windows, tuple(window.cpu_s / window.wall_s * 100 for window in windows))
