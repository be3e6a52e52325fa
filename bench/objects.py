"""`python -m bench.objects` (`make bench-objects`): changes of SharedObjects, with the journal off, on SQLite and on Redis."""

import os
from dataclasses import dataclass
from pathlib import Path

import click
import psutil
from rich.console import Console

from bench import headwater
from bench.errors import BenchError
from bench.machine import describe
from bench.measure import UsageMeter, core_busy_s
from bench.object_layout import SHAPES, ObjectShape
from bench.object_load import ObjectLoad
from bench.object_plan import ObjectPlan
from bench.object_plot import write_plot
from bench.object_report import ObjectReport, markdown, table, write_json
from bench.object_results import ObjectMeasurement, Phase
from bench.object_wire import MOST_CHANGES
from bench.processes import Cores, choose_cores, need_files
from bench.screen import Screen, ends_well, wide_console
from bench.store_cluster import REFERENCE, STORES, StoreCluster, find_redis

_FILES_BESIDE_CLIENTS = 100
_SETTLE_S = 1.0
"""Between the start of the half load and its window."""
_NAMES = [shape.name for shape in SHAPES]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, from the command line."""

    shapes: tuple[ObjectShape, ...]
    batches: tuple[int, ...]
    stores: tuple[str, ...]
    seconds: float
    warm_up_s: float
    runs: int
    persistent: bool

    @property
    def loads(self) -> list[tuple[ObjectShape, int]]:
        """Shapes and batches."""
        return [(shape, batch) for shape in self.shapes for batch in self.batches]


class _Measuring:
    """One load on one cluster."""

    def __init__(
        self, server: StoreCluster, load: ObjectLoad, plan: Plan, cores: Cores, screen: Screen, name: str
    ) -> None:
        self._server, self._load, self._plan = server, load, plan
        self._core, self._server_core = cores.load[0], cores.server
        self._screen, self._name = screen, name

    def phase(self, rate: float | None, warm_up_s: float) -> Phase:
        """One window of full load, or of so many messages a second."""
        server, load, seconds = self._server, self._load, self._plan.seconds
        text = f"{self._name}, {'full' if rate is None else 'half'} load, s"
        load.start(rate)
        load.watch(warm_up_s, self._screen.step(text, seconds), server.check)
        busy_s = core_busy_s(self._core)
        meter = UsageMeter({group: server.processes(group) for group in server.groups}, self._server_core)
        load.begin()
        load.watch(seconds, self._screen.step(text, seconds), server.check)
        load.end()
        wall_s, usages, foreign_percent = meter.end()
        busy_s = core_busy_s(self._core) - busy_s
        seen = load.window()
        load_foreign_percent = max(0.0, (busy_s - seen.cpu_s) / wall_s * 100)
        return Phase(rate, wall_s, usages, foreign_percent, load_foreign_percent, seen)


def measure(
    server: StoreCluster, plan: Plan, shape: ObjectShape, batch: int, run: int, cores: Cores, screen: Screen
) -> ObjectMeasurement:
    """One load at full speed, then at half of that. Raises BenchError with what the server's programs said last."""
    clients = shape.clients()
    name = f"{server.label}, {shape.name}, {batch} in a message, run {run}"
    target = server.target
    load_plan = ObjectPlan(
        host=target.host,
        ports=server.edge_ports,
        app=target.app,
        # A scope of its own for each load, so that none finds what another has left.
        clients=[client.renamed(f"{client.scope}-{batch}") for client in clients],
        batch=batch,
        window=shape.window,
        persistent=plan.persistent,
        core=cores.load[0],
    )
    try:
        with ObjectLoad(load_plan) as load:
            load.open(screen.step(f"{name}: opening clients", len(clients)), server.check)
            measuring = _Measuring(server, load, plan, cores, screen, name)
            full = measuring.phase(None, plan.warm_up_s)
            rate = max(1.0, full.seen.changes / batch / full.seen.wall_s / 2)
            half = measuring.phase(rate, _SETTLE_S)
    except BenchError as error:
        text = "; ".join([f"{name}: {error}", *server.last_words(str(error))])
        raise BenchError(text, failed=True) from error
    return ObjectMeasurement(shape.name, batch, server.journal, run, full, half)


def run_all(plan: Plan, cores: Cores, console: Console) -> ObjectReport:
    """Every journal with every load, run after run, each run and journal in fresh processes."""
    os.sched_setaffinity(0, cores.load)
    measurements: list[ObjectMeasurement] = []
    settings: dict[str, dict[str, object]] = {}
    edges = max(shape.edges for shape in plan.shapes)
    with Screen(console, plan.runs * len(plan.stores) * len(plan.loads)) as screen:
        for run in range(1, plan.runs + 1):
            for store in plan.stores:
                with StoreCluster(cores.server, store, edges) as server:
                    settings[store] = server.settings()
                    for shape, batch in plan.loads:
                        measurements.append(measure(server, plan, shape, batch, run, cores, screen))
                        screen.next()
    order = {load: number for number, load in enumerate((shape.name, batch) for shape, batch in plan.loads)}
    measurements.sort(key=lambda each: order[each.shape, each.batch])
    parameters = {
        "stores": plan.stores,
        "batches": plan.batches,
        "seconds": plan.seconds,
        "warm_up_s": plan.warm_up_s,
        "runs": plan.runs,
        "persistent": plan.persistent,
        "windows": {shape.name: shape.window for shape in plan.shapes},
    }
    runs = "1 run" if plan.runs == 1 else f"median of {plan.runs} runs"
    kind = "persistent" if plan.persistent else "temporary"
    return ObjectReport(
        f"Changes of {kind} SharedObjects, {plan.seconds:g} s measured, {runs}",
        describe(cores),
        parameters,
        {shape.name: shape.about for shape in plan.shapes},
        settings,
        measurements,
        REFERENCE if REFERENCE in plan.stores else None,
    )


def prepare(plan: Plan) -> Cores:
    """Check what can be checked before anything is started. Raises BenchError."""
    headwater.check_installed()
    if "redis" in plan.stores:
        find_redis()
    need_files(max(len(shape.clients()) for shape in plan.shapes) + _FILES_BESIDE_CLIENTS)
    return choose_cores(psutil.Process().cpu_affinity())


@click.command()
@click.option(
    "--load",
    "names",
    type=click.Choice(_NAMES),
    multiple=True,
    default=_NAMES,
    show_default=True,
    help="; ".join(f"{shape.name}: {shape.about}" for shape in SHAPES) + ". May be given more than once.",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1, MOST_CHANGES),
    multiple=True,
    default=(1, 20),
    show_default=True,
    help="Changes in one message; may be given more than once.",
)
@click.option(
    "--store",
    "stores",
    type=click.Choice(STORES),
    multiple=True,
    default=STORES,
    show_default=True,
    help="Where the journal is; may be given more than once.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 60),
    default=5,
    show_default=True,
    help="Measured time, at full and again at half load.",
)
@click.option("--warm-up", "warm_up_s", type=click.FloatRange(0.5, 30), default=2, show_default=True)
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--persistent/--temporary", default=True, show_default=True, help="Kind of the objects.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bench/out"),
    show_default=True,
    help="Folder for objects.json, objects.md and objects.png.",
)
def main(
    names: tuple[str, ...], batches: tuple[int, ...], stores: tuple[str, ...], seconds: float,
    warm_up_s: float, runs: int, persistent: bool, out: Path,
) -> None:  # fmt: skip
    """Change SharedObjects as fast as the changes are accepted, then at half of that, and tell what it costs."""
    shapes = tuple(shape for shape in SHAPES if shape.name in names)
    plan = Plan(shapes, batches, stores, seconds, warm_up_s, runs, persistent)
    console = wide_console()
    with ends_well():
        cores = prepare(plan)
        out.mkdir(parents=True, exist_ok=True)
        report = run_all(plan, cores, console)
    write_json(report, out / "objects.json")
    (out / "objects.md").write_text(markdown(report))
    write_plot(report, out / "objects.png")
    console.print(table(report))
    for note in report.notes():
        console.print(note, highlight=False)
    console.print(f"written: {out}/objects.json, {out}/objects.md, {out}/objects.png", highlight=False)


if __name__ == "__main__":
    main()
