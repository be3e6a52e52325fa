"""`python -m bench.cost` (`make bench-cost`): what the journal costs, and what the way from edge to origin."""

from functools import partial
from pathlib import Path

import click

from bench import hop
from bench.hop import measure_hop
from bench.media import Timing
from bench.object_layout import own_objects
from bench.object_plan import ObjectPlan
from bench.options import BATCHES, flush_option, several
from bench.request_bench import Benchmark, Experiment, measure_all, prepare, timing_options, write_results
from bench.request_load import RequestLoad, object_load
from bench.request_results import (
    FAULTS,
    LOAD_PERCENT,
    RequestMeasurement,
    changes_s,
    cpu_us,
    per_cpu_s,
    percent,
    second,
)
from bench.screen import ends_well, wide_console
from bench.store_cluster import POWER, REFERENCE, STORES, StoreCluster
from bench.tables import Case, Column

_JOURNALS = [REFERENCE, *(store + end for store in STORES if store != REFERENCE for end in ("", POWER))]
_RATE = 1000.0
"""Messages a second at which commits are timed."""
_WINDOW = 2
_COLUMNS: tuple[Column[RequestMeasurement], ...] = (
    Column("changes/s", changes_s, compared=True),
    Column("changes per origin CPU s", per_cpu_s(changes_s, "origin"), compared=True),
    Column("origin CPU µs a change", cpu_us(changes_s, "origin"), 1),
    Column("Redis CPU µs a change", cpu_us(changes_s, "redis"), 1),
    percent("origin"),
    percent("edge"),
    Column("at one rate: p50 ms", second(lambda p: p.seen.latency.p50_ms), 1, compared=True),
    Column("p99 ms", second(lambda p: p.seen.latency.p99_ms), 1, compared=True),
    Column("p99.9 ms", second(lambda p: p.seen.latency.p999_ms), 1),
    LOAD_PERCENT,
    FAULTS,
)
_PANELS = ("changes/s", "changes per origin CPU s", "at one rate: p50 ms", "p99 ms")
_REMARKS = (
    "200 objects, a requester each, a listener in each of 4 scopes; first as fast as accepted, then all journals at one rate: "
    f"{_RATE:.0f} messages/s",
    f"latency: from a change's sending to another member; what it is more than with journal {REFERENCE!r} is the commit's",
    "the origin has the server's core for itself, all others share the other core with the load; --flush-ms 0",
    f"{POWER[1:]}: what is committed survives the loss of power too (SQLite synchronous=FULL, Redis appendfsync always)",
    f"(n.nn×): to journal {REFERENCE!r} of the same run",
)


def _made_load(batch: int, server: StoreCluster, core: int) -> RequestLoad:
    target = server.target
    plan = ObjectPlan(target.host, server.edge_ports, target.app, own_objects(), _WINDOW, True, core)
    return object_load(plan, batch)


def experiments(batches: tuple[int, ...], journals: tuple[str, ...]) -> list[Experiment]:
    """Every journal with messages of so many changes."""
    return [
        Experiment(
            (str(batch), journal),
            partial(StoreCluster, journal=journal, edges=1, alone="origin", flush_ms=0),
            partial(_made_load, batch),
            len(own_objects()),
            batch,
            second_rate=_RATE,
        )
        for batch in batches
        for journal in journals
    ]


def _reference(case: Case) -> Case:
    return (*case[:-1], REFERENCE)


@click.command()
@several(
    "--what",
    kind=click.Choice(("journal", "hop")),
    default=("journal", "hop"),
    about="The journal's cost, the way's from edge to origin",
)
@BATCHES
@several(
    "--journal",
    "journals",
    kind=click.Choice(_JOURNALS),
    default=_JOURNALS,
    about="Where the journal is, and what it survives",
)
@flush_option(0, 20)
@timing_options(5, 5, "cost_journal and cost_hop")
def main(
    what: tuple[str, ...], batches: tuple[int, ...], journals: tuple[str, ...], flush_ms: tuple[int, ...], timing: Timing,
    out: Path,
) -> None:  # fmt: skip
    """Tell what durability costs, and what it costs that edge and origin are two."""
    console = wide_console()
    with ends_well():
        cores = prepare(len(own_objects()), journals if "journal" in what else ())
        out.mkdir(parents=True, exist_ok=True)
        failed = False
        if "journal" in what:
            heads = ("changes in a message", "journal")
            benchmark = Benchmark(
                "cost_journal", "The journal", heads, _COLUMNS, _PANELS, _reference, _REMARKS
            )
            found = measure_all(experiments(batches, journals), cores, timing, console)
            failed = write_results(benchmark, found, cores, timing, out, console)
        if "hop" in what:
            heads = ("what", "how")
            hops = Benchmark(
                "cost_hop", "From edge to origin and back", heads, hop.COLUMNS, hop.PANELS, lambda _: None, hop.REMARKS,
                colours=0,
            )  # fmt: skip
            ways = measure_hop(flush_ms, cores, timing, console)
            failed = write_results(hops, ways, cores, timing, out, console) or failed
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
