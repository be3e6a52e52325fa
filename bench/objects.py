"""`python -m bench.objects` (`make bench-objects`): changes of SharedObjects, in objects with few and with many members."""

from functools import partial
from pathlib import Path

import click

from bench.media import Timing
from bench.object_layout import SHAPES, ObjectShape
from bench.object_plan import ObjectPlan
from bench.options import BATCHES, several, stores_option
from bench.request_bench import Benchmark, Experiment, run_command, timing_options
from bench.request_load import RequestLoad, object_load
from bench.request_results import (
    FAULTS,
    HALF_P50,
    HALF_P99,
    HALF_P999,
    LOAD_PERCENT,
    RequestMeasurement,
    changes_s,
    deliveries_s,
    per_cpu_s,
    percent,
)  # fmt: skip
from bench.store_cluster import StoreCluster
from bench.tables import Case, Column

_NAMES = [shape.name for shape in SHAPES]
_COLUMNS: tuple[Column[RequestMeasurement], ...] = (
    Column("changes/s", changes_s, compared=True),
    Column("deliveries/s", deliveries_s),
    Column("changes per origin CPU s", per_cpu_s(changes_s, "origin"), compared=True),
    Column("deliveries per edge CPU s", per_cpu_s(deliveries_s, "edge"), compared=True),
    percent("origin"),
    percent("edge"),
    Column("events in a message", lambda m: m.phase.seen.deliveries / max(1, m.phase.seen.messages), 1),
    HALF_P50,
    HALF_P99,
    HALF_P999,
    LOAD_PERCENT,
    FAULTS,
)
_PANELS = ("changes/s", "changes per origin CPU s", "deliveries per edge CPU s", "half load: p99 ms")
_REMARKS = (
    "alone: who has the server's core for itself; all others share the other core with the load ('all': all servers on one core)",
    "per CPU s: work for each CPU second of the origin's or edge's own, from the operating system: what a core would bear",
    "deliveries: changes that members got, the requester's Success included; events in a message: so many of them came at once",
    "(n.nn×): to the first store with the same load in the same run",
)


def made_load(
    shape: ObjectShape, batch: int, persistent: bool, server: StoreCluster, core: int
) -> RequestLoad:
    """The clients of a shape, for a cluster."""
    target = server.target
    plan = ObjectPlan(
        target.host, server.edge_ports, target.app, shape.clients(), shape.window, persistent, core
    )
    return object_load(plan, batch)


def experiments(
    names: tuple[str, ...],
    batches: tuple[int, ...],
    stores: tuple[str, ...],
    alone: str | None,
    persistent: bool,
) -> list[Experiment]:
    """Every load with every store."""
    made = []
    for shape in (shape for shape in SHAPES if shape.name in names):
        for batch in batches:
            for store in stores:
                who = alone or shape.alone
                made.append(
                    Experiment(
                        (shape.name, str(batch), who, store),
                        partial(StoreCluster, journal=store, edges=shape.edges, alone=who),
                        partial(made_load, shape, batch, persistent),
                        len(shape.clients()),
                        batch,
                    )
                )
    return made


@click.command()
@several(
    "--load",
    "names",
    kind=click.Choice(_NAMES),
    default=_NAMES,
    about="; ".join(f"{shape.name}: {shape.about}" for shape in SHAPES),
)
@BATCHES
@stores_option("sqlite")
@click.option(
    "--alone",
    type=click.Choice(("origin", "edge", "all")),
    help="Who has the server's core for itself [default: whom the load is for].",
)
@click.option("--persistent/--temporary", default=True, show_default=True, help="Kind of the objects.")
@timing_options(5, 5, "objects")
def main(
    names: tuple[str, ...], batches: tuple[int, ...], stores: tuple[str, ...], alone: str | None, persistent: bool,
    timing: Timing, out: Path,
) -> None:  # fmt: skip
    """Change SharedObjects as fast as the changes are accepted, then half as fast, and tell what it costs."""

    def first_store(case: Case) -> Case:
        return (*case[:-1], stores[0])

    abouts = [f"{shape.name}: {shape.about}" for shape in SHAPES if shape.name in names]
    kind = "persistent" if persistent else "temporary"
    benchmark = Benchmark(
        "objects",
        f"Changes of {kind} SharedObjects",
        ("load", "changes in a message", "alone", "journal"),
        _COLUMNS,
        _PANELS,
        first_store,
        [*_REMARKS, *abouts],
        colours=1,
    )
    run_command(benchmark, experiments(names, batches, stores, alone, persistent), stores, timing, out)


if __name__ == "__main__":
    main()
