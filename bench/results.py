"""Results of a media benchmark: one measurement for each case, server and run; rows sum the runs up, a figure for each column."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, Self, TypeVar

from bench.figures import Figure, over_runs, ratios
from bench.load import LoadWindow
from bench.measure import Usage, gigabits
from bench.native_load import Durations

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
class Spread:
    """Of durations, in ms."""

    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float

    @classmethod
    def of(cls, durations: Durations) -> Self:
        """All 0 of none."""
        p50_ms, p99_ms, p999_ms = (durations.percentile_ms(percent) for percent in (50, 99, 99.9))
        return cls(p50_ms, p99_ms, p999_ms, durations.max_ms)


@dataclass(frozen=True, slots=True)
class CoreUse:
    """What others than server and load used of the server's core and, at most, of one of the load's; what all used of the cores
    that the benchmark has. Percent of one core, the last of them all."""

    foreign_percent: float
    load_foreign_percent: float
    busy_percent: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One server in one case and run. `usages`: by process group, of `wall_s` seconds. `load_percents`: what the load used of
    each of its cores. `bytes_least` and `bytes_median`: what players received. `gap`: between video messages of a player;
    `lag`: from when a publisher's message was due to when it left; `backlog_bytes`: the most that was left in a publisher."""

    case: str
    server: str
    run: int
    streams: int
    players: int
    wall_s: float
    usages: dict[str, Usage]
    delivered_gbit: float
    messages: int
    latency: Spread
    gap: Spread
    lag: Spread
    missing: int
    disordered: int
    closed: int
    short_players: int
    bytes_least: int
    bytes_median: int
    backlog_bytes: int
    load_percents: tuple[float, ...]
    cores: CoreUse

    def cpu_s_per_gbit(self, group: str) -> float:
        """Server CPU seconds for each 10^9 bits that players received."""
        return self.usages[group].cpu_s / self.delivered_gbit

    def cpu_percent(self, group: str) -> float:
        """Of one core."""
        return self.usages[group].cpu_s / self.wall_s * 100

    def doubts(self) -> list[str]:
        """Why this measurement should not be trusted, or what went wrong in it; empty for a good one."""
        use = self.cores
        found = core_doubts(
            max(self.load_percents), use.foreign_percent, use.load_foreign_percent, "latencies"
        )
        if self.lag.p99_ms > _LAG_MS:
            found.append(f"1 % of what was published left more than {self.lag.p99_ms:.0f} ms late")
        if self.closed:
            found.append(f"{self.closed} players were closed")
        if self.missing:
            found.append(f"players missed {self.missing} messages")
        if self.disordered:
            found.append(f"players got {self.disordered} messages out of order")
        if self.short_players:
            found.append(f"{self.short_players} players got less than {_SHORT:.0%} of the median's bytes")
        return found


def measurement(
    case: str, server: str, run: int, streams: int, usage: tuple[float, dict[str, Usage]], load: LoadWindow, cores: CoreUse
) -> Measurement:  # fmt: skip
    """Put together what was measured of one window. Raises ValueError when nothing was delivered."""
    wall_s, usages = usage
    each = load.bytes_each
    messages = load.total(lambda window: window.messages)
    if not messages:
        raise ValueError(f"{server}: players received nothing in {wall_s:.0f} s")
    middle = each[len(each) // 2]
    return Measurement(
        case=case,
        server=server,
        run=run,
        streams=streams,
        players=len(each),
        wall_s=wall_s,
        usages=usages,
        delivered_gbit=gigabits(sum(each)),
        messages=messages,
        latency=Spread.of(load.durations(lambda window: window.latency)),
        gap=Spread.of(load.durations(lambda window: window.gap)),
        lag=Spread.of(load.durations(lambda window: window.lag)),
        missing=load.total(lambda window: window.missing),
        disordered=load.total(lambda window: window.disordered),
        closed=load.total(lambda window: window.closed),
        short_players=sum(count < middle * _SHORT for count in each),
        bytes_least=each[0],
        bytes_median=middle,
        backlog_bytes=max(window.backlog_bytes for window in load.of_processes),
        load_percents=load.core_percents,
        cores=cores,
    )


class Measured(Protocol):
    """What rows are made of: a Measurement, or what another benchmark has instead."""

    @property
    def case(self) -> str: ...
    @property
    def server(self) -> str: ...
    @property
    def run(self) -> int: ...
    @property
    def usages(self) -> dict[str, Usage]: ...
    def doubts(self) -> list[str]: ...


M = TypeVar("M", bound=Measured)


@dataclass(frozen=True, slots=True)
class Column(Generic[M]):
    """A column of a table: what it shows of a measurement and process group, with so many `digits`. `ratio_to`: which server, of
    the same case and run, it is divided by, as a function of its own server's label; such a column shows ratios only."""

    title: str
    value: Callable[[M, str], float]
    digits: int = 1
    ratio_to: Callable[[str], str | None] | None = None

    def against(self, title: str, ratio_to: Callable[[str], str | None]) -> "Column[M]":
        """This one, divided by another server's."""
        return replace(self, title=title, digits=2, ratio_to=ratio_to)


@dataclass(frozen=True, slots=True)
class Row:
    """What a table shows of one process group of a server in a case. `figures` by column; None: nothing to compare with."""

    case: str
    server: str
    group: str
    figures: dict[str, Figure | None]

    @property
    def title(self) -> str:
        """Server and, where it has several, group."""
        if self.group == "all":
            return self.server
        return f"{self.server}, {self.group}" + ("" if " + " in self.group else " alone")


def rows(measurements: Iterable[M], columns: Sequence[Column[M]]) -> list[Row]:
    """Sum up: a row for each case, server and group, in the order in which they came, cases together."""
    by_place: dict[str, dict[str, list[M]]] = {}
    for each in measurements:
        by_place.setdefault(each.case, {}).setdefault(each.server, []).append(each)
    return [
        Row(
            case,
            server,
            group,
            {column.title: _figure(column, group, of_runs, servers) for column in columns},
        )
        for case, servers in by_place.items()
        for server, of_runs in servers.items()
        for group in of_runs[0].usages
    ]


def _figure(column: Column[M], group: str, of_runs: list[M], servers: Mapping[str, list[M]]) -> Figure | None:
    values = {own.run: column.value(own, group) for own in of_runs}
    if column.ratio_to is None:
        return over_runs(values)
    reference = servers.get(column.ratio_to(of_runs[0].server) or "", [])
    found = ratios(values, {other.run: column.value(other, "all") for other in reference})
    return over_runs(found) if found else None
