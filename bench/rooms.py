"""`python -m bench.rooms` (`make bench-rooms`): many small rooms on two cores, as this field quotes them: how even the video is
with 15 publishers of 1 Mbit/s and 2 players each, and whether 20 publishers of 6 Mbit/s with 3 players each fit."""

import click

from bench.contenders import PEERS, nginx_for
from bench.media import Case, Experiment
from bench.media_cli import Common, common_options, run_command
from bench.plot import Panel
from bench.results import Column, Measurement
from bench.stream import StreamShape

_MBIT = 1_000_000
_CORES = 2
_CPU = Column("CPU s/Gbit", Measurement.cpu_s_per_gbit, 3)


def own_percent(measurement: Measurement) -> float:
    """What servers and load used of the two cores, percent of both."""
    return (measurement.cpu_percent("all") + sum(measurement.load_percents)) / _CORES


_COLUMNS: tuple[Column[Measurement], ...] = (
    Column("gap p50 ms", lambda m, _: m.gap.p50_ms),
    Column("gap p99 ms", lambda m, _: m.gap.p99_ms),
    Column("gap p99.9 ms", lambda m, _: m.gap.p999_ms),
    Column("gap max ms", lambda m, _: m.gap.max_ms),
    Column("latency p99 ms", lambda m, _: m.latency.p99_ms),
    Column("missing", lambda m, _: m.missing, 0),
    _CPU,
    _CPU.against("× nginx", nginx_for),
    Column("CPU %", Measurement.cpu_percent, 0),
    Column("load CPU %", lambda m, _: max(m.load_percents), 0),
    Column("both cores %", lambda m, _: own_percent(m), 0),
    Column("all busy %", lambda m, _: m.cores.busy_percent, 0),
)
_PANELS = (
    Panel("gap between video messages p99.9, ms", "gap p99.9 ms"),
    Panel("gap between video messages, the longest, ms", "gap max ms"),
    Panel("server CPU, % of one core", "CPU %", of_groups=True),
    Panel("both cores: servers and load together, %", "both cores %"),
)
_REMARKS = (
    "1 Mbit/s: server on one core, load on the other. 6 Mbit/s: nothing is pinned, servers and load share two cores",
    "both cores: what servers and load used of the two; all busy: with whatever else ran, as the system counts it",
    "gap: between two video messages as a player reads them; 33.3 ms as they are sent",
)


@click.command()
@common_options(PEERS, (0, 20), 30, 5, "rooms")
def main(common: Common) -> None:
    """Send many streams to a few players each, and tell how even the video is and what it takes."""
    cases = [
        Case("15 × 2 at 1 Mbit/s", StreamShape(), 15, 30),
        Case("20 × 3 at 6 Mbit/s", StreamShape(bit_s=6 * _MBIT), 20, 60, floating=True),
    ]
    experiment = Experiment("Rooms: publishers × players", "rooms", cases, _COLUMNS)
    run_command(experiment, PEERS, common, "rooms", _PANELS, _REMARKS, most_cores=_CORES)


if __name__ == "__main__":
    main()
