"""`python -m bench.growth` (`make bench-growth`): what grows with clients, edges and origins, and what does not."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from bench.media import Timing
from bench.object_layout import ClientSpec
from bench.object_plan import ObjectPlan
from bench.request_bench import Benchmark, Experiment, run_command, timing_options
from bench.request_load import RequestLoad, object_load
from bench.request_results import (
    FAULTS,
    LOAD_PERCENT,
    RequestMeasurement,
    changes_s,
    cpu_us,
    deliveries_s,
    percent,
)
from bench.store_cluster import STORES, StoreCluster
from bench.tables import Case, Column

_SCOPES = 40
"""So many groups are shared out among origins."""
_COUNTS = (1, 2, 4)
_CLIENTS = (300, 3000)
_UPDATED = 100
"""Objects that are changed at the given rate."""


@dataclass(frozen=True, slots=True)
class Growing:
    """One of the questions, and its sizes: how many clients, edges or origins. `paced`: at the given rate, the origin alone on
    a core; otherwise as fast as changes are accepted, all servers on one core, a requester with `window` messages under way."""

    name: str
    about: str
    sizes: tuple[int, ...]
    clients: Callable[[int], list[ClientSpec]]
    edges: Callable[[int], int]
    origins: Callable[[int], int]
    paced: bool
    window: int = 1


def members(
    objects: int, each: int, edge_of: Callable[[int, int], int], changing: int = 1
) -> list[ClientSpec]:
    """Objects of `each` members, the first of which change it; `edge_of` object and member."""
    return [
        ClientSpec(
            edge_of(number, member),
            f"grown{number % _SCOPES}",
            (number,),
            member if member < changing else None,
        )
        for number in range(objects)
        for member in range(each)
    ]


def _one(_: int) -> int:
    return 1


def _itself(size: int) -> int:
    return size


GROWING = (
    Growing(
        "clients",
        f"1 origin, 1 edge with so many clients, in {_UPDATED} objects that are changed at one and the same rate",
        _CLIENTS,
        lambda clients: members(_UPDATED, clients // _UPDATED, lambda number, member: 0),
        _one,
        _one,
        paced=True,
    ),
    Growing(
        "edges-of-objects",
        f"1 origin, 300 clients on each edge, {_UPDATED} objects that are used on all edges, changed at one and the same rate",
        _COUNTS,
        lambda edges: members(_UPDATED, 3 * edges, lambda number, member: member % edges),
        _itself,
        _one,
        paced=True,
    ),
    Growing(
        "edges",
        "1 origin, 48 objects of 20 members, 10 of which change it, each object on one edge, as fast as accepted",
        _COUNTS,
        lambda edges: members(48, 20, lambda number, member: number % edges, changing=10),
        _itself,
        _one,
        paced=False,
    ),
    Growing(
        "origins",
        f"1 edge, 200 objects of 2 members in {_SCOPES} scopes, one changes it with 8 messages under way, as fast as accepted",
        _COUNTS,
        lambda origins: members(200, 2, lambda number, member: 0),
        _one,
        _itself,
        paced=False,
        window=8,
    ),
)


class GrowingCluster(StoreCluster):
    """Every node is also counted alone."""

    def __init__(self, core: int | None, journal: str, edges: int, origins: int, alone: str) -> None:
        super().__init__(core, journal, edges, origins, alone)
        *services, everything = self.groups
        self.groups = (*services, *self.origins, everything)

    def start_node(self, node_id: str) -> None:
        """Start one of them."""
        super().start_node(node_id)
        if node_id in self.origins:
            self.add(self.program(node_id), node_id)


def made_load(growing: Growing, size: int, server: StoreCluster, core: int) -> RequestLoad:
    """Its clients, for a cluster."""
    target = server.target
    clients = growing.clients(size)
    return object_load(
        ObjectPlan(target.host, server.edge_ports, target.app, clients, growing.window, True, core)
    )


def experiments(names: tuple[str, ...], rate: float, store: str) -> list[Experiment]:
    """Every size of every question."""
    return [
        Experiment(
            (growing.name, str(size)),
            partial(
                GrowingCluster,
                journal=store,
                edges=growing.edges(size),
                origins=growing.origins(size),
                alone="origin" if growing.paced else "all",
            ),
            partial(made_load, growing, size),
            len(growing.clients(size)),
            rate=rate if growing.paced else None,
            halved=False,
        )
        for growing in GROWING
        if growing.name in names
        for size in growing.sizes
    ]


def first_size(case: Case) -> Case:
    """What the other sizes are compared with."""
    name, _ = case
    return name, next(str(growing.sizes[0]) for growing in GROWING if growing.name == name)


def uneven(m: RequestMeasurement) -> float | None:
    """CPU of the origin with most to do, to that of the one with least."""
    shares = [usage.cpu_s for group, usage in m.phase.usages.items() if group.startswith("origin-")]
    return max(shares) / min(shares) if min(shares) > 0 else None


_COLUMNS: tuple[Column[RequestMeasurement], ...] = (
    Column("changes/s", changes_s),
    Column("deliveries/s", deliveries_s),
    percent("origin"),
    percent("edge"),
    Column("origin CPU µs a change", cpu_us(changes_s, "origin"), 1, compared=True),
    Column("all CPU µs a change", cpu_us(changes_s, "all"), 1, compared=True),
    Column("all CPU µs a delivery", cpu_us(deliveries_s, "all"), 2, compared=True),
    Column("p99 ms", lambda m: m.phase.seen.latency.p99_ms, 1),
    Column("busiest origin to idlest", uneven, 2),
    LOAD_PERCENT,
    FAULTS,
)
_PANELS = (
    "origin CPU µs a change",
    "all CPU µs a change",
    "all CPU µs a delivery",
    "origin CPU %",
)
_REMARKS = (
    "(n.nn×): to the first row of the same question in the same run",
    "one rate: the origin has the server's core for itself, all others share the other core with the load",
    "as fast as accepted: all servers share one core; all: registry and balancer, too",
)
_NAMES = [growing.name for growing in GROWING]


@click.command()
@click.option(
    "--what",
    "names",
    type=click.Choice(_NAMES),
    multiple=True,
    default=_NAMES,
    show_default=True,
    help="; ".join(f"{growing.name}: {growing.about}" for growing in GROWING)
    + ". May be given more than once.",
)
@click.option(
    "--rate",
    type=click.FloatRange(1),
    default=1000,
    show_default=True,
    help="Changes a second where it is one rate.",
)
@click.option(
    "--store", type=click.Choice(STORES), default="sqlite", show_default=True, help="Where the journal is."
)
@timing_options(15, 5, "growth")
def main(names: tuple[str, ...], rate: float, store: str, timing: Timing, out: Path) -> None:
    """Add clients, edges and origins, and tell what a change and a delivery cost."""
    abouts = [f"{growing.name}: {growing.about}" for growing in GROWING if growing.name in names]
    benchmark = Benchmark(
        "growth",
        f"What grows, {rate:g} changes/s where it is one rate",
        ("what is added", "how many"),
        _COLUMNS,
        _PANELS,
        first_size,
        [*_REMARKS, *abouts],
        colours=0,
    )
    run_command(benchmark, experiments(names, rate, store), [store], timing, out)


if __name__ == "__main__":
    main()
