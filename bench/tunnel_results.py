"""Results of a benchmark of RTMPT: one measurement for each load, transport, store and run; rows sum the runs up."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.figures import Figure, over_runs
from bench.measure import Usage, gigabits, percentile, ratio
from bench.results import core_doubts
from bench.tunnel_plan import Role, TunnelWindow

REFERENCE = "rtmp"
"""The transport that others are compared to."""
_LAG_MS = 20.0
_IDLE_PERCENT = 85.0


@dataclass(frozen=True, slots=True)
class TunnelMeasurement:
    """`nobody_percent`: what the edge used of its core with no client at all. `seen`: by the clients that are measured; `beside`:
    by the publisher that they play, or by the player of one of them. For the others see `results.Measurement`."""

    role: Role
    transport: str
    store: str
    run: int
    clients: int
    wall_s: float
    usages: dict[str, Usage]
    nobody_percent: float
    foreign_percent: float
    load_foreign_percent: float
    seen: TunnelWindow
    beside: TunnelWindow | None

    def cpu_percent(self, group: str) -> float:
        """Of one core; 0 for a group that is not there."""
        return self.usages[group].cpu_s / self.wall_s * 100 if group in self.usages else 0.0

    @property
    def load_percent(self) -> float:
        """Of its core that the load used."""
        return sum(each.cpu_s / each.wall_s * 100 for each in self._windows)

    @property
    def _windows(self) -> list[TunnelWindow]:
        return [self.seen, *((self.beside,) if self.beside is not None else ())]

    @property
    def faults(self) -> int:
        """Closed clients, missing and disordered messages."""
        return sum(each.closed + each.missing + each.disordered for each in self._windows)

    @property
    def requests_s(self) -> float:
        """HTTP requests that were answered."""
        return self.seen.requests / self.seen.wall_s

    @property
    def requests_per_edge_cpu_s(self) -> float:
        """What an edge with a core of its own would answer at this cost."""
        return ratio(self.requests_s, self.cpu_percent("edge") / 100) or 0.0

    @property
    def edge_ms_per_client_s(self) -> float:
        """CPU milliseconds of the edge for each client and second, beyond what it uses with none; 0 where clients do as much as
        they may."""
        if self.role in (Role.ASK, Role.SAY):
            return 0.0
        return max(0.0, self.cpu_percent("edge") - self.nobody_percent) * 10 / self.clients

    def cpu_s_per_gbit(self, group: str) -> float:
        """For each 10^9 bits of RTMP that clients got or sent; 0 where that is nothing to speak of."""
        if self.role not in (Role.PLAY, Role.PUBLISH):
            return 0.0
        return ratio(self.cpu_percent(group) / 100, gigabits(self.seen.rtmp_bytes) / self.seen.wall_s) or 0.0

    def latency_ms(self, percent: float) -> float:
        """Of requests until they are answered or, where something is played, of messages from publisher to player; 0 where
        nothing is measured."""
        if self.role in (Role.ASK, Role.SAY):
            return self.seen.answer_p50_ms if percent == 50 else self.seen.answer_p99_ms
        latencies = [latency for each in self._windows for latency in each.latencies_ms]
        return percentile(latencies, percent) if latencies else 0.0

    def doubts(self) -> list[str]:
        """Why it should not be trusted, or what went wrong in it; empty for a good one."""
        found = core_doubts(self.load_percent, self.foreign_percent, self.load_foreign_percent, "figures")
        full = self.role in (Role.ASK, Role.SAY)
        if full and self.cpu_percent("all") + self.foreign_percent < _IDLE_PERCENT:
            found.append(f"the server used {self.cpu_percent('all'):.0f} % of its core: it could bear more")
        if (lag_ms := max(each.lag_ms for each in self._windows)) > _LAG_MS:
            found.append(f"a publisher was up to {lag_ms:.0f} ms late")
        if self.role in (Role.PLAY, Role.PUBLISH) and not self.latency_ms(50):
            found.append("nothing was played")
        for what in ("closed", "missing", "disordered"):
            if count := sum(getattr(each, what) for each in self._windows):
                found.append(f"{count} {what}")
        return found


@dataclass(frozen=True, slots=True)
class TunnelRow:
    """What a table shows of one load by one transport. A figure that means nothing for the load is 0."""

    role: Role
    transport: str
    store: str
    clients: int
    requests_s: Figure
    requests_per_edge_cpu_s: Figure
    edge_percent: Figure
    all_percent: Figure
    edge_ms_per_client_s: Figure
    edge_cpu_s_per_gbit: Figure
    all_cpu_s_per_gbit: Figure
    latency_p50_ms: Figure
    latency_p99_ms: Figure
    edge_rss_mb: Figure
    load_percent: Figure
    faults: int

    @property
    def title(self) -> str:
        """Transport and, where that matters, store."""
        return self.transport if self.transport == REFERENCE else f"{self.transport}, {self.store}"


Value = Callable[[TunnelMeasurement], float]


def tunnel_rows(measurements: Iterable[TunnelMeasurement]) -> list[TunnelRow]:
    """Sum up: a row for each load, transport and store, in the order in which they came. Ratios are to RTMP with the same load in
    the same run; its own rows have none."""
    by_place: dict[Role, dict[tuple[str, str], list[TunnelMeasurement]]] = {}
    for each in measurements:
        by_place.setdefault(each.role, {}).setdefault((each.transport, each.store), []).append(each)
    rows = []
    for places in by_place.values():
        reference = {
            m.run: m for (transport, _), runs in places.items() if transport == REFERENCE for m in runs
        }
        for (transport, _), of_runs in places.items():
            rows.append(_row(of_runs, {} if transport == REFERENCE else reference))
    return rows


def _row(of_runs: list[TunnelMeasurement], others: dict[int, TunnelMeasurement]) -> TunnelRow:
    def figure(value: Value, compared: bool = False) -> Figure:
        references = {run: value(other) for run, other in others.items()} if compared else {}
        return over_runs({own.run: value(own) for own in of_runs}, references)

    first = of_runs[0]
    return TunnelRow(
        role=first.role,
        transport=first.transport,
        store=first.store,
        clients=first.clients,
        requests_s=figure(lambda m: m.requests_s),
        requests_per_edge_cpu_s=figure(lambda m: m.requests_per_edge_cpu_s),
        edge_percent=figure(lambda m: m.cpu_percent("edge")),
        all_percent=figure(lambda m: m.cpu_percent("all")),
        edge_ms_per_client_s=figure(lambda m: m.edge_ms_per_client_s, compared=True),
        edge_cpu_s_per_gbit=figure(lambda m: m.cpu_s_per_gbit("edge"), compared=True),
        all_cpu_s_per_gbit=figure(lambda m: m.cpu_s_per_gbit("all"), compared=True),
        latency_p50_ms=figure(lambda m: m.latency_ms(50), compared=True),
        latency_p99_ms=figure(lambda m: m.latency_ms(99), compared=True),
        edge_rss_mb=figure(lambda m: m.usages["edge"].rss_mb, compared=True),
        load_percent=figure(lambda m: m.load_percent),
        faults=sum(m.faults for m in of_runs),
    )
