"""`python -m bench.publishers` (`make bench-publishers`): how many streams of 1 Mbit/s a core of edge and of origin bear."""

import click

from bench.contenders import PEERS
from bench.headwater import Headwater
from bench.media import Case, Experiment
from bench.media_cli import Common, common_options, run_command
from bench.options import several
from bench.plot import Panel
from bench.report import Report
from bench.results import Column, Measurement
from bench.stream import StreamShape

_STREAMS_OF_A_PLAYER = 10
_LATE_MS = 100.0
_SHAPE = StreamShape()


class SplitCluster(Headwater):
    """The edge alone on the server's core; origin, registry and balancer on the load's, so that each one's cost is its own."""

    groups = ("edge", "origin", "all")
    core_group = "edge"

    def core_of(self, node_id: str) -> int | None:
        """Where a node runs; None: where the benchmark itself does, which is on the load's."""
        return self.core if node_id.startswith("edge") else None


def carried(measurement: Measurement) -> float:
    """Streams that were really carried: as many as their players got the messages of. A server that falls behind has done less
    work than there was."""
    due = measurement.players * measurement.wall_s * _SHAPE.messages_s
    return measurement.streams * min(1.0, measurement.messages / due)


def cpu_ms_of_a_stream(measurement: Measurement, group: str) -> float:
    """CPU ms a second that each carried stream costs."""
    return measurement.usages[group].cpu_s * 1000 / measurement.wall_s / carried(measurement)


def streams_of_a_core(measurement: Measurement, group: str) -> float:
    """What a core would bear at this cost."""
    return 1000 / max(cpu_ms_of_a_stream(measurement, group), 0.001)


def ran_well(measurement: Measurement) -> bool:
    """Nothing was lost and nothing was late, neither on the way in nor on the way out."""
    return not (
        measurement.missing
        or measurement.disordered
        or measurement.closed
        or measurement.short_players
        or measurement.lag.p99_ms > _LATE_MS
        or measurement.latency.p99_ms > _LATE_MS
    )


_COLUMNS: tuple[Column[Measurement], ...] = (
    Column("CPU %", Measurement.cpu_percent, 0),
    Column("CPU ms/s a stream", cpu_ms_of_a_stream, 2),
    Column("streams a core", streams_of_a_core, 0),
    Column("load CPU %", lambda m, _: max(m.load_percents), 0),
    Column("sent late p99 ms", lambda m, _: m.lag.p99_ms),
    Column("latency p99 ms", lambda m, _: m.latency.p99_ms),
    Column("unsent KB", lambda m, _: m.backlog_bytes / 1000, 0),
    Column("missing", lambda m, _: m.missing, 0),
    Column("ran well", lambda m, _: ran_well(m), 0),
)


def largest(report: Report[Measurement]) -> list[str]:
    """What each server bore, for the notes."""
    by_server: dict[str, dict[int, bool]] = {}
    for each in report.measurements:
        sizes = by_server.setdefault(each.server, {})
        sizes[each.streams] = sizes.get(each.streams, True) and ran_well(each)
    return [
        f"{server}: {max((size for size, well in sizes.items() if well), default=0)} publishers at most ran well in every run"
        for server, sizes in by_server.items()
    ]


_PANELS = (
    Panel("CPU, % of one core", "CPU %", of_groups=True),
    Panel("streams that a core would bear at this cost", "streams a core", of_groups=True),
    Panel("delivery latency p99, ms", "latency p99 ms"),
    Panel("CPU of the load, % of its core", "load CPU %"),
)
_REMARKS = (
    "Headwater's edge has the server's core for itself; its origin, registry and balancer share the other core with the load",
    f"one player for every {_STREAMS_OF_A_PLAYER} streams; streams a core: what one would bear at this cost",
    f"ran well: 1 where nothing was missing and 99 % was sent and delivered within {_LATE_MS:.0f} ms; unsent: the most that a "
    "server left in one publisher",
)


@click.command()
@several(
    "--publishers", kind=click.IntRange(1), default=(20, 50, 100, 200, 400), about="Number of publishers"
)
@common_options(PEERS, (20,), 15, 5, "publishers")
def main(publishers: tuple[int, ...], common: Common) -> None:
    """Publish more and more streams of 1 Mbit/s, and tell what they cost."""
    cases = [
        Case(
            f"{count} publishers",
            _SHAPE,
            count,
            max(1, count // _STREAMS_OF_A_PLAYER),
            min(count, _STREAMS_OF_A_PLAYER),
        )
        for count in publishers
    ]
    experiment = Experiment("Publishers of 1 Mbit/s each", "publishers", cases, _COLUMNS)
    run_command(
        experiment,
        PEERS,
        common,
        "publishers",
        _PANELS,
        _REMARKS,
        SplitCluster,
        most_cores=2,
        conclude=largest,
    )


if __name__ == "__main__":
    main()
