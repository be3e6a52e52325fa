"""Results of a fan-out benchmark: one measurement for each server, number of players and run; rows sum the runs up."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol, TypeVar

from bench.load import LoadWindow
from bench.measure import Usage, gigabits, percentile, ratio

SATURATED_PERCENT = 90.0
_FOREIGN_PERCENT = 5.0
_SHORT = 0.95
_LAG_MS = 20.0


def core_doubts(
    load_percent: float, foreign_percent: float, load_foreign_percent: float, figures: str
) -> list[str]:
    """What disturbed a window: the load (its `figures` are no server's then), or others on the server's and the load's core."""
    found = []
    if load_percent >= SATURATED_PERCENT:
        found.append(f"the load generator used {load_percent:.0f} % of its core: {figures} are its own")
    if foreign_percent > _FOREIGN_PERCENT:
        found.append(f"others used {foreign_percent:.0f} % of the server's core")
    if load_foreign_percent > _FOREIGN_PERCENT:
        found.append(f"others used {load_foreign_percent:.0f} % of the load's core")
    return found


@dataclass(frozen=True, slots=True)
class Measurement:
    """One server with so many players in one run. `usages`: by process group, of `wall_s` seconds. `load_percents`: what the
    load used of each of its cores; `foreign_percent`, `load_foreign_percent`: what others used of the server's core and, at
    most, of one of the load's. `bytes_least` and `bytes_median`: what players received."""

    server: str
    players: int
    run: int
    wall_s: float
    usages: dict[str, Usage]
    delivered_gbit: float
    samples: int
    latency_p50_ms: float
    latency_p99_ms: float
    latency_max_ms: float
    missing: int
    disordered: int
    closed: int
    short_players: int
    bytes_least: int
    bytes_median: int
    load_percents: tuple[float, ...]
    foreign_percent: float
    load_foreign_percent: float
    publisher_lag_ms: float

    def cpu_s_per_gbit(self, group: str) -> float:
        """Server CPU seconds for each 10^9 bits that players received."""
        return self.usages[group].cpu_s / self.delivered_gbit

    def cpu_percent(self, group: str) -> float:
        """Of one core."""
        return self.usages[group].cpu_s / self.wall_s * 100

    def doubts(self) -> list[str]:
        """Why this measurement should not be trusted, or what went wrong in it; empty for a good one."""
        found = core_doubts(
            max(self.load_percents), self.foreign_percent, self.load_foreign_percent, "latencies"
        )
        if self.publisher_lag_ms > _LAG_MS:
            found.append(f"the publisher was up to {self.publisher_lag_ms:.0f} ms late")
        if self.closed:
            found.append(f"{self.closed} players were closed")
        if self.missing:
            found.append(f"sampled players missed {self.missing} messages")
        if self.disordered:
            found.append(f"sampled players got {self.disordered} messages out of order")
        if self.short_players:
            found.append(f"{self.short_players} players got less than {_SHORT:.0%} of the median's bytes")
        return found


def measurement(
    server: str,
    players: int,
    run: int,
    usage: tuple[float, dict[str, Usage], float],
    load: LoadWindow,
    load_foreign_percent: float,
) -> Measurement:
    """Put together what was measured of one window. Raises ValueError when nothing was delivered."""
    wall_s, usages, foreign_percent = usage
    each = sorted(count for window in load.players for count in window.bytes_each)
    latencies = [latency for window in load.players for latency in window.latencies_ms]
    if not latencies:
        raise ValueError(f"{server}: sampled players received nothing in {wall_s:.0f} s")
    middle = each[len(each) // 2]
    return Measurement(
        server=server,
        players=players,
        run=run,
        wall_s=wall_s,
        usages=usages,
        delivered_gbit=gigabits(sum(each)),
        samples=len(latencies),
        latency_p50_ms=percentile(latencies, 50),
        latency_p99_ms=percentile(latencies, 99),
        latency_max_ms=max(latencies),
        missing=sum(window.missing for window in load.players),
        disordered=sum(window.disordered for window in load.players),
        closed=sum(window.closed for window in load.players),
        short_players=sum(count < middle * _SHORT for count in each),
        bytes_least=each[0],
        bytes_median=middle,
        load_percents=tuple(load.core_percents),
        foreign_percent=foreign_percent,
        load_foreign_percent=load_foreign_percent,
        publisher_lag_ms=load.publisher.lag_ms,
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """A number over all runs: median, least, greatest, and the median ratio to the reference of the same run."""

    median: float
    least: float
    greatest: float
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What a table shows of one process group of a server with so many players."""

    players: int
    server: str
    group: str
    cpu_s_per_gbit: Figure
    latency_p50_ms: Figure
    latency_p99_ms: Figure
    rss_mb: Figure
    cpu_percent: Figure
    load_percent: Figure
    missing: int
    closed: int

    @property
    def title(self) -> str:
        """Server and, where it has several, group."""
        return self.server if self.group == "all" else f"{self.server}, {self.group} alone"


class _OfRun(Protocol):
    @property
    def run(self) -> int: ...


Run = TypeVar("Run", bound=_OfRun)


def figure_over(
    of_runs: Sequence[Run], others: Mapping[int, Run], value: Callable[[Run], float], compared: bool
) -> Figure:
    """A value over all runs; `compared` to that of the `others`, by run, where they have taken part."""
    values = [value(own) for own in of_runs]
    ratios = [
        found
        for own in of_runs
        if compared and own.run in others and (found := ratio(value(own), value(others[own.run]))) is not None
    ]
    return Figure(median(values), min(values), max(values), median(ratios) if ratios else None)


Value = Callable[[Measurement, str], float]


def _figure(value: Value, group: str, pairs: list[tuple[Measurement, Measurement | None]]) -> Figure:
    values = [value(own, group) for own, _ in pairs]
    ratios = [
        found
        for own, other in pairs
        if other is not None and (found := ratio(value(own, group), value(other, "all"))) is not None
    ]
    return Figure(median(values), min(values), max(values), median(ratios) if ratios else None)


def rows(measurements: Iterable[Measurement], reference: str | None) -> list[Row]:
    """Sum up: a row for each number of players, server and group, in the order in which they came. Ratios are to the server
    `reference` with as many players in the same run; its own rows have none."""
    by_place: dict[tuple[int, str], list[Measurement]] = {}
    for each in measurements:
        by_place.setdefault((each.players, each.server), []).append(each)
    made = []
    for (players, server), of_runs in sorted(by_place.items(), key=lambda item: item[0][0]):
        others = (
            {} if server == reference else {m.run: m for m in by_place.get((players, reference or ""), [])}
        )
        pairs = [(own, others.get(own.run)) for own in of_runs]
        for group in of_runs[0].usages:
            made.append(
                Row(
                    players=players,
                    server=server,
                    group=group,
                    cpu_s_per_gbit=_figure(Measurement.cpu_s_per_gbit, group, pairs),
                    latency_p50_ms=_figure(lambda m, _: m.latency_p50_ms, group, pairs),
                    latency_p99_ms=_figure(lambda m, _: m.latency_p99_ms, group, pairs),
                    rss_mb=_figure(lambda m, g: m.usages[g].rss_mb, group, pairs),
                    cpu_percent=_figure(Measurement.cpu_percent, group, pairs),
                    load_percent=_figure(lambda m, _: max(m.load_percents), group, pairs),
                    missing=sum(m.missing for m in of_runs),
                    closed=sum(m.closed for m in of_runs),
                )
            )
    return made
