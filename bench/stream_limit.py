"""`python -m bench.stream_limit`: what one stream costs its single origin, at more and more Mbit/s, with players on two edges."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil
from rich.console import Console

from bench import headwater
from bench.headwater import Headwater
from bench.machine import Machine, describe
from bench.media import Case, MediaBench, Timing
from bench.native_load import build
from bench.options import out_option, runs_option, seconds_option, several
from bench.processes import Cores, choose_cores
from bench.results import Measurement
from bench.screen import Screen, ends_well, wide_console
from bench.session import Target
from bench.sheet import Sheet, all_doubts
from bench.stream import StreamShape

_EDGES = 2
_FLUSH_MS = 20
_WARM_UP_S = 3.0
_GOPS_PER_S = 4
"""Short ones: what joining players get must fit the cache at every rate."""
_COLUMNS = (
    "Mbit/s", "messages/s", "origin CPU %", "edges CPU %", "messages per origin CPU s", "Mbit per origin CPU s", "p99 ms",
    "missing",
)  # fmt: skip


class StreamCluster(Headwater):
    """One origin, two edges: the publisher is on the first, players on both."""

    groups = ("origin", "edge", "all")

    def __init__(self, core: int) -> None:
        super().__init__(core, _FLUSH_MS, _EDGES)

    @property
    def play_targets(self) -> tuple[Target, ...]:
        """Both edges."""
        return tuple(Target("127.0.0.1", port) for port in self.edge_ports)


def stream_of(mbit_s: int) -> StreamShape:
    """The usual stream with as many times the frames: messages stay as large as they are at 1 Mbit/s."""
    frames_s = 30 * mbit_s
    return StreamShape(
        bit_s=mbit_s * 1_000_000, frames_s=frames_s, gop_frames=max(2, frames_s // _GOPS_PER_S)
    )


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One rate, medians over the runs. The capacities are what the origin would bear with a core of its own at this cost."""

    mbit_s: int
    messages_s: float
    origin_percent: float
    edge_percent: float
    messages_per_origin_cpu_s: float
    mbit_per_origin_cpu_s: float
    latency_p99_ms: float
    missing: int


def stream_row(mbit_s: int, of_runs: list[Measurement]) -> StreamRow:
    """Sum up the runs of one rate."""
    messages_s = stream_of(mbit_s).messages_s
    origin = median(each.cpu_percent("origin") for each in of_runs)
    share = max(origin, 0.01) / 100
    return StreamRow(
        mbit_s=mbit_s,
        messages_s=messages_s,
        origin_percent=origin,
        edge_percent=median(each.cpu_percent("edge") for each in of_runs),
        messages_per_origin_cpu_s=messages_s / share,
        mbit_per_origin_cpu_s=mbit_s / share,
        latency_p99_ms=median(each.latency.p99_ms for each in of_runs),
        missing=sum(each.missing for each in of_runs),
    )


def notes(machine: Machine, measured: dict[int, list[Measurement]], version: str) -> list[str]:
    """What a reader must know to believe the table."""
    found = [*machine.lines(), version, f"one player on each of {_EDGES} edges; all servers share one core"]
    return found + all_doubts(
        (f"{mbit_s} Mbit/s, run {each.run}", each.doubts()) for mbit_s, of_runs in measured.items() for each in of_runs
    )  # fmt: skip


def _cells(row: StreamRow) -> list[str]:
    return [
        str(row.mbit_s), f"{row.messages_s:.0f}", f"{row.origin_percent:.1f}", f"{row.edge_percent:.1f}",
        f"{row.messages_per_origin_cpu_s:.0f}", f"{row.mbit_per_origin_cpu_s:.0f}", f"{row.latency_p99_ms:.1f}",
        str(row.missing),
    ]  # fmt: skip


def run_all(
    rates: tuple[int, ...], seconds: float, runs: int, cores: Cores, console: Console
) -> tuple[dict[int, list[Measurement]], str]:
    """Every rate, run after run, each in fresh processes; and the server's version."""
    os.sched_setaffinity(0, cores.load)
    measured: dict[int, list[Measurement]] = {rate: [] for rate in rates}
    version = ""
    program = build()
    with Screen(console, runs * len(rates)) as screen:
        bench = MediaBench(program, cores, Timing(seconds, _WARM_UP_S, runs), screen)
        for run in range(1, runs + 1):
            for rate in rates:
                with StreamCluster(cores.server) as server:
                    server.label = f"{rate} Mbit/s"
                    version = str(server.settings()["version"])
                    case = Case(f"{rate} Mbit/s", stream_of(rate), 1, _EDGES)
                    measured[rate].append(bench.measure(server, case, run))
                screen.next()
    return measured, version


@click.command()
@several(
    "--mbit-s",
    "rates",
    kind=click.IntRange(1, 1000),
    default=(1, 10, 40, 80, 160),
    about="Rate of the stream",
)
@seconds_option(5)
@runs_option(3)
@out_option("stream_limit.json and stream_limit.md")
def main(rates: tuple[int, ...], seconds: float, runs: int, out: Path) -> None:
    """Send one stream faster and faster, and tell what it costs its origin."""
    console = wide_console()
    with ends_well():
        headwater.check_installed()
        cores = choose_cores(psutil.Process().cpu_affinity())
        out.mkdir(parents=True, exist_ok=True)
        measured, version = run_all(rates, seconds, runs, cores, console)
    machine = describe(cores)
    made = [stream_row(rate, of_runs) for rate, of_runs in measured.items()]
    said = notes(machine, measured, version)
    title = f"One stream through one origin, {seconds:g} s measured, median of {runs} runs"
    data: dict[str, Any] = {
        "title": title,
        "machine": asdict(machine),
        "rows": [asdict(row) for row in made],
        "measurements": [asdict(each) for of_runs in measured.values() for each in of_runs],
        "notes": said,
    }
    sheet = Sheet(title, _COLUMNS, (), [_cells(row) for row in made], said, sections=False)
    sheet.deliver(out, "stream_limit", data, None, console)


if __name__ == "__main__":
    main()
