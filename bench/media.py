"""How the media benchmarks measure: a server that was started for it alone, publishers, players, one window."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console

from bench.contenders import Make
from bench.errors import BenchError
from bench.load import LoadWindow, MediaLoad
from bench.machine import describe
from bench.measure import UsageMeter, core_busy_s
from bench.opening import wait_for
from bench.processes import Cores
from bench.report import Report
from bench.results import Column, CoreUse, Measurement, measurement
from bench.screen import Screen
from bench.server import Server
from bench.stream import StreamShape


@dataclass(frozen=True, slots=True)
class Case:
    """So many streams of a shape and players of them: player n plays stream (n * `stride`) % `streams`. `floating`: nothing is
    pinned, server and load share all cores that the benchmark has."""

    title: str
    shape: StreamShape
    streams: int
    players: int
    stride: int = 1
    floating: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """Of each measurement; `warm_up_s` counts from the last player's start."""

    seconds: float
    warm_up_s: float
    runs: int

    def __str__(self) -> str:
        runs = "1 run" if self.runs == 1 else f"median of {self.runs} runs"
        return f"{self.seconds:g} s measured, {runs}"


class MediaBench:
    """Measures servers; `program` is the load's."""

    def __init__(self, program: Path, cores: Cores, timing: Timing, screen: Screen) -> None:
        self._program, self._cores, self._timing, self._screen = program, cores, timing, screen

    def measure(self, server: Server, case: Case, run: int) -> Measurement:
        """Of a running server. Raises BenchError with what its programs said last."""
        try:
            return self._measure(server, case, run)
        except (BenchError, ValueError, psutil.Error) as error:
            text = "; ".join([f"{server.label}, {case.title}: {error}", *server.last_words(str(error))])
            raise BenchError(text, failed=True) from error

    def _measure(self, server: Server, case: Case, run: int) -> Measurement:
        name = f"{server.label}, {case.title}, run {run}"
        screen, timing = self._screen, self._timing
        screen.step(f"{name}: starting", 1)
        for target in dict.fromkeys((server.target, *server.play_targets)):
            wait_for(target, server.check)
        load_cores = (None,) if case.floating else self._cores.load
        with MediaLoad(self._program, load_cores, server.check) as load:
            if not server.makes_stream:
                load.publish(server.target, case.shape, case.streams)
            progress = screen.step(f"{name}: opening players", case.players)
            load.play(server.play_targets, case.players, case.streams, case.stride, progress)
            load.watch(timing.warm_up_s, screen.step(f"{name}: warming up, s", round(timing.warm_up_s)))
            groups = {group: server.processes(group) for group in server.groups}
            meter = UsageMeter(groups, server.core, server.core_group)
            busy_s = {core: core_busy_s(core) for core in (self._cores.server, *self._cores.load)}
            load.begin()
            load.watch(timing.seconds, screen.step(f"{name}: measuring, s", round(timing.seconds)))
            wall_s, usages, foreign_percent = meter.end()
            percents = {core: (core_busy_s(core) - was) / wall_s * 100 for core, was in busy_s.items()}
            seen = load.end()
        beside_s = usages["all"].cpu_s - usages[server.core_group].cpu_s
        use = self._core_use(case, seen, percents, foreign_percent, beside_s / wall_s * 100)
        return measurement(case.title, server.label, run, case.streams, (wall_s, usages), seen, use)

    def _core_use(
        self,
        case: Case,
        seen: LoadWindow,
        busy: dict[int, float],
        foreign_percent: float,
        beside_percent: float,
    ) -> CoreUse:
        """`beside_percent`: what the server used on the load's core."""
        total = sum(busy.values()) / len(busy)
        if case.floating:
            return CoreUse(max(0.0, foreign_percent - sum(seen.core_percents)), 0.0, total)
        others = (
            busy[core] - own - (beside_percent if core == self._cores.load[0] else 0.0)
            for core, own in zip(self._cores.load, seen.core_percents, strict=True)
        )
        return CoreUse(foreign_percent, max(0.0, *others), total)


@dataclass(frozen=True, slots=True)
class Experiment:
    """What a media benchmark is about. `first`: the title of the column with the cases."""

    title: str
    first: str
    cases: Sequence[Case]
    columns: Sequence[Column[Measurement]]


def run_all(
    experiment: Experiment, made: Sequence[Make], program: Path, cores: Cores, timing: Timing, console: Console,
    remarks: list[str],
) -> Report[Measurement]:  # fmt: skip
    """Every server in every case, run after run (A B A B), each in fresh processes."""
    measurements: list[Measurement] = []
    settings: dict[str, dict[str, object]] = {}
    failures: list[str] = []
    with Screen(console, timing.runs * len(experiment.cases) * len(made)) as screen:
        bench = MediaBench(program, cores, timing, screen)
        for run in range(1, timing.runs + 1):
            for case in experiment.cases:
                os.sched_setaffinity(0, {cores.server, *cores.load} if case.floating else cores.load)
                for make in made:
                    try:
                        with make(None if case.floating else cores.server) as server:
                            settings[server.label] = server.settings()
                            measurements.append(bench.measure(server, case, run))
                    except BenchError as error:
                        # A server that does not start, or cannot bear a case, must not cost what the others have shown.
                        failures.append(f"run {run}, {error}")
                    screen.next()
    order = [case.title for case in experiment.cases]
    measurements.sort(key=lambda each: order.index(each.case))
    parameters = {**asdict(timing), "cases": [asdict(case) for case in experiment.cases]}
    return Report(
        title=f"{experiment.title}, {timing}",
        first=experiment.first,
        machine=describe(cores),
        parameters=parameters,
        servers=settings,
        measurements=measurements,
        columns=experiment.columns,
        remarks=remarks,
        failures=failures,
    )
