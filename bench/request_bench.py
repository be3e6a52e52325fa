"""How the benchmarks whose clients ask measure: a cluster that was started for it alone, clients, one window or two."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic

import click
import psutil
from rich.console import Console

from bench import headwater
from bench.errors import BenchError
from bench.machine import describe
from bench.measure import UsageMeter, core_busy_s
from bench.media import Timing
from bench.native_build import build
from bench.options import Decorate, out_option, runs_option, seconds_option, three_files
from bench.processes import Cores, choose_cores, need_files
from bench.request_load import RequestLoad
from bench.request_results import Phase, RequestMeasurement
from bench.screen import Screen, ends_well, wide_console
from bench.store_cluster import StoreCluster, find_redis
from bench.tables import Case, Column, M, Results

_FILES_BESIDE_CLIENTS = 100
_SETTLE_S = 1.0
"""Between the start of the half load and its window."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A case and how it is made: a cluster on the server's core, and the load (on a core) for it when it runs. `clients` of it
    ask in messages of `batch` changes: at a `rate` of them a second, or as fast as they are answered; then, where `halved`, at
    `second_rate`, or half as fast."""

    case: Case
    cluster: Callable[[int], StoreCluster]
    load: Callable[[StoreCluster, int], RequestLoad]
    clients: int
    batch: int = 1
    rate: float | None = None
    halved: bool = True
    second_rate: float | None = None


class RequestBench:
    """Measures clusters."""

    def __init__(self, cores: Cores, timing: Timing, screen: Screen) -> None:
        self._cores, self._timing, self._screen = cores, timing, screen

    def measure(self, server: StoreCluster, experiment: Experiment, run: int) -> RequestMeasurement:
        """Of a running cluster. Raises BenchError with what its programs said last."""
        try:
            return self._measure(server, experiment, run, f"{', '.join(experiment.case)}, run {run}")
        except (BenchError, psutil.Error) as error:
            text = "; ".join([str(error), *server.last_words(str(error))])
            raise BenchError(text, failed=True) from error

    def _measure(
        self, server: StoreCluster, experiment: Experiment, run: int, name: str
    ) -> RequestMeasurement:
        half = None
        with experiment.load(server, self._cores.load[0]) as load:
            load.open(self._screen.step(f"{name}: opening clients", experiment.clients), server.check)
            phase = self._phase(server, load, experiment.rate, self._timing.warm_up_s, name)
            if experiment.halved:
                rate = experiment.second_rate or max(1.0, phase.seen.answered / phase.seen.wall_s / 2)
                half = self._phase(server, load, rate, _SETTLE_S, f"{name}, half load")
        return RequestMeasurement(experiment.case, run, experiment.batch, phase, half)

    def _phase(
        self, server: StoreCluster, load: RequestLoad, rate: float | None, warm_up_s: float, name: str
    ) -> Phase:
        seconds, load_core = self._timing.seconds, self._cores.load[0]
        load.start(rate)
        load.watch(warm_up_s, self._screen.step(f"{name}: warming up, s", round(warm_up_s)), server.check)
        meter = UsageMeter(
            {group: server.processes(group) for group in server.groups}, server.core, server.core_group
        )
        busy_s = core_busy_s(load_core)
        load.begin()
        load.watch(seconds, self._screen.step(f"{name}: measuring, s", round(seconds)), server.check)
        load.end()
        wall_s, usages, foreign_percent = meter.end()
        busy_s = core_busy_s(load_core) - busy_s
        seen = load.window()
        if not seen.answered:
            raise BenchError(f"nothing was answered in {wall_s:.0f} s", failed=True)
        beside_s = usages["all"].cpu_s - usages[server.core_group].cpu_s
        load_foreign_percent = max(0.0, (busy_s - seen.cpu_s - beside_s) / wall_s * 100)
        return Phase(rate, wall_s, usages, server.core_group, foreign_percent, load_foreign_percent, seen)


@dataclass(slots=True)
class Found(Generic[M]):
    """What measuring has given: `versions` of what was measured, `failures`: what could not be."""

    measurements: list[M] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def version(self, server: StoreCluster) -> None:
        """It is measured."""
        version = str(server.settings()["version"])
        if version not in self.versions:
            self.versions.append(version)

    @contextmanager
    def noting(self, case: Case, run: int) -> Iterator[None]:
        """A case that cannot be measured must not cost what the others have shown."""
        try:
            yield
        except BenchError as error:
            self.failures.append(f"{', '.join(case)}, run {run}: {error}")


@dataclass(frozen=True, slots=True)
class Benchmark(Generic[M]):
    """What a command measures and shows; see Results."""

    name: str
    title: str
    heads: Sequence[str]
    columns: Sequence[Column[M]]
    panels: Sequence[str]
    reference: Callable[[Case], Case | None]
    remarks: Sequence[str] = ()
    colours: int = -1


def prepare(clients: int, stores: Sequence[str]) -> Cores:
    """Check what can be checked before anything is started. Raises BenchError."""
    headwater.check_installed()
    build("object_load")
    if any(store.startswith("redis") for store in stores):
        find_redis()
    need_files(clients + _FILES_BESIDE_CLIENTS)
    return choose_cores(psutil.Process().cpu_affinity())


def measure_all(
    experiments: Sequence[Experiment], cores: Cores, timing: Timing, console: Console
) -> Found[RequestMeasurement]:
    """Every case, run after run (A B A B), each on a cluster of its own."""
    os.sched_setaffinity(0, cores.load)
    found: Found[RequestMeasurement] = Found()
    with Screen(console, timing.runs * len(experiments)) as screen:
        bench = RequestBench(cores, timing, screen)
        for run in range(1, timing.runs + 1):
            for experiment in experiments:
                with found.noting(experiment.case, run), experiment.cluster(cores.server) as server:
                    found.version(server)
                    found.measurements.append(bench.measure(server, experiment, run))
                screen.next()
    # Also where a case was not measured in the first run.
    order = [experiment.case for experiment in experiments]
    found.measurements.sort(key=lambda each: order.index(each.case))
    return found


def run_command(
    benchmark: Benchmark[RequestMeasurement], experiments: Sequence[Experiment], stores: Sequence[str], timing: Timing,
    out: Path,
) -> None:  # fmt: skip
    """Measure, write and show; exit status 1 where something could not be measured."""
    console = wide_console()
    with ends_well():
        cores = prepare(max(each.clients for each in experiments), stores)
        out.mkdir(parents=True, exist_ok=True)
        found = measure_all(experiments, cores, timing, console)
    if write_results(benchmark, found, cores, timing, out, console):
        raise SystemExit(1)


def write_results(
    benchmark: Benchmark[M], found: Found[M], cores: Cores, timing: Timing, out: Path, console: Console
) -> bool:
    """Into files, and onto the console; returns whether something could not be measured."""
    results = Results(
        f"{benchmark.title}, {timing}",
        benchmark.heads,
        benchmark.columns,
        found.measurements,
        describe(cores),
        asdict(timing),
        benchmark.reference,
        benchmark.panels,
        benchmark.colours,
        [*found.versions, *benchmark.remarks],
        found.failures,
    )
    results.write(out, benchmark.name, console)
    return bool(found.failures)


def timing_options(seconds: float, runs: int, name: str) -> Decorate:
    """The command gets `timing` and `out`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def called(seconds: float, warm_up_s: float, runs: int, **own: Any) -> None:
            command(timing=Timing(seconds, warm_up_s, runs), **own)

        called.__doc__ = command.__doc__
        called.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]  # how click keeps them
        options = (
            seconds_option(seconds),
            click.option("--warm-up", "warm_up_s", type=click.FloatRange(0.5, 60), default=2, show_default=True),
            runs_option(runs),
            out_option(three_files(name)),
        )  # fmt: skip
        for option in reversed(options):
            called = option(called)
        return called

    return decorate
