"""`python -m bench.calls` (`make bench-calls`): calls of a remote method, answered with their argument."""

from functools import partial
from pathlib import Path

import click

from bench.media import Timing
from bench.options import several, stores_option
from bench.request_bench import Benchmark, Experiment, run_command, timing_options
from bench.request_load import RequestLoad, call_load
from bench.request_results import (
    FAULTS,
    HALF_P50,
    HALF_P99,
    HALF_P999,
    LOAD_PERCENT,
    RequestMeasurement,
    changes_s,
    per_cpu_s,
    percent,
)
from bench.store_cluster import StoreCluster
from bench.tables import Case, Column

APP, METHOD = "calls", "echo"
_SERVED = ("--app", f"{APP}=bench.call_app:Echo")
_SCOPES = 4
_COLUMNS: tuple[Column[RequestMeasurement], ...] = (
    Column("calls/s", changes_s, compared=True),
    Column("calls per origin CPU s", per_cpu_s(changes_s, "origin"), compared=True),
    Column("calls per edge CPU s", per_cpu_s(changes_s, "edge"), compared=True),
    percent("origin"),
    percent("edge"),
    HALF_P50,
    HALF_P99,
    HALF_P999,
    LOAD_PERCENT,
    FAULTS,
)
_PANELS = ("calls/s", "calls per origin CPU s", "calls per edge CPU s", "half load: p99 ms")
_REMARKS = (
    f"each client has so many calls under way, of a method that returns its argument, a string of 24 bytes; {_SCOPES} scopes",
    "alone: who has the server's core for itself; all others share the other core with the load",
    "per CPU s: calls for each CPU second of the origin's or edge's own, from the operating system: what a core would bear",
    "a call changes nothing, but its answer is journaled before it leaves",
    "latency: from the call to its result, as the client sees it",
    "(n.nn×): to the first store with the same load in the same run",
)


class CallCluster(StoreCluster):
    """One that serves the method."""

    def options(self, node_id: str) -> list[str]:
        """What a node is started with."""
        return [*super().options(node_id), *(_SERVED if node_id.startswith("origin") else ())]


def made_load(clients: int, window: int, server: StoreCluster, core: int) -> RequestLoad:
    """Callers in some scopes, for a cluster."""
    return call_load(server.target, server.edge_ports, APP, METHOD, clients, _SCOPES, window, core)


def experiments(
    clients: int, windows: tuple[int, ...], stores: tuple[str, ...], alone: tuple[str, ...]
) -> list[Experiment]:
    """Every window with every store, origin and edge in turn alone on a core."""
    return [
        Experiment(
            (f"{clients} × {window}", who, store),
            partial(CallCluster, journal=store, edges=1, alone=who),
            partial(made_load, clients, window),
            clients,
        )
        for window in windows
        for who in alone
        for store in stores
    ]


@click.command()
@click.option("--clients", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Who call.")
@several(
    "--window",
    "windows",
    kind=click.IntRange(1, 500),
    default=(1, 8),
    about="Calls that each has under way",
)
@stores_option("none", "sqlite")
@several(
    "--alone",
    kind=click.Choice(("origin", "edge", "all")),
    default=("origin", "edge"),
    about="Who has the server's core for itself",
)
@timing_options(5, 5, "calls")
def main(
    clients: int, windows: tuple[int, ...], stores: tuple[str, ...], alone: tuple[str, ...], timing: Timing, out: Path
) -> None:  # fmt: skip
    """Call a method as fast as calls are answered, then half as fast, and tell what it costs."""

    def first_store(case: Case) -> Case:
        return (*case[:-1], stores[0])

    benchmark = Benchmark(
        "calls",
        "Calls of a remote method",
        ("clients × calls under way", "alone", "journal"),
        _COLUMNS,
        _PANELS,
        first_store,
        _REMARKS,
    )
    run_command(benchmark, experiments(clients, windows, stores, alone), stores, timing, out)


if __name__ == "__main__":
    main()
