"""Results of an object benchmark: one measurement for each load, journal and run, at full and half load; rows sum up."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.measure import Usage, ratio
from bench.object_plan import ObjectWindow
from bench.results import Figure, core_doubts, figure_over

_LAG_MS = 20.0
_ACCEPTED = 0.95
_IDLE_PERCENT = 85.0


@dataclass(frozen=True, slots=True)
class Phase:
    """One window. `rate`: messages a second that were to be sent, None for as fast as they were answered. `usages` by process
    group, of `wall_s` seconds; `foreign_percent`, `load_foreign_percent`: what others used of the server's core and the
    load's."""

    rate: float | None
    wall_s: float
    usages: dict[str, Usage]
    foreign_percent: float
    load_foreign_percent: float
    seen: ObjectWindow

    @property
    def load_percent(self) -> float:
        """Of its core that the load used."""
        return self.seen.cpu_s / self.seen.wall_s * 100

    def cpu_percent(self, group: str) -> float:
        """Of one core; 0 for a group that is not there."""
        return self.usages[group].cpu_s / self.wall_s * 100 if group in self.usages else 0.0

    def doubts(self) -> list[str]:
        """Why it should not be trusted, or what went wrong in it; empty for a good one."""
        seen = self.seen
        found = core_doubts(self.load_percent, self.foreign_percent, self.load_foreign_percent, "figures")
        if self.rate is None and self.cpu_percent("all") + self.foreign_percent < _IDLE_PERCENT:
            found.append(f"the server used {self.cpu_percent('all'):.0f} % of its core: it could bear more")
        if self.rate is not None and seen.sent < self.rate * seen.wall_s * _ACCEPTED:
            found.append(f"{seen.sent / seen.wall_s:.0f} messages/s were sent, {self.rate:.0f} were to be")
        if self.rate is not None and seen.lag_ms > _LAG_MS:
            found.append(f"messages were up to {seen.lag_ms:.0f} ms late")
        for count, text in (
            (seen.closed, "clients were closed"),
            (seen.missing, "messages were missing"),
            (seen.disordered, "messages were out of order"),
            (seen.strange, "messages were not the Change or Success that was expected"),
            (seen.unanswered, "messages were not answered"),
            (seen.behind, "members do not have the last value"),
        ):
            if count:
                found.append(f"{count} {text}")
        return found


@dataclass(frozen=True, slots=True)
class ObjectMeasurement:
    """One load (`shape`, messages of `batch` changes) with one journal (`store`) in one run."""

    shape: str
    batch: int
    store: str
    run: int
    full: Phase
    half: Phase

    @property
    def changes_s(self) -> float:
        """Answered with Success."""
        return self.full.seen.changes / self.full.seen.wall_s

    @property
    def deliveries_s(self) -> float:
        """Messages that members got, answers too."""
        return self.full.seen.deliveries / self.full.seen.wall_s

    def changes_per_cpu_s(self, group: str) -> float:
        """For each CPU second of a process group; 0 where it used none."""
        return ratio(self.full.seen.changes / self.full.seen.wall_s, self._load(group)) or 0.0

    def deliveries_per_cpu_s(self, group: str) -> float:
        """Likewise, messages that members got."""
        return ratio(self.full.seen.deliveries / self.full.seen.wall_s, self._load(group)) or 0.0

    def _load(self, group: str) -> float:
        return self.full.cpu_percent(group) / 100

    def doubts(self) -> list[str]:
        """Of both windows."""
        return [
            f"{name}: {doubt}"
            for name, phase in (("full load", self.full), ("half load", self.half))
            for doubt in phase.doubts()
        ]


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """What a table shows of one load with one journal. `faults` of every kind, in all runs."""

    shape: str
    batch: int
    store: str
    changes_s: Figure
    deliveries_s: Figure
    origin_changes_per_cpu_s: Figure
    edge_deliveries_per_cpu_s: Figure
    origin_percent: Figure
    edge_percent: Figure
    redis_percent: Figure
    half_p50_ms: Figure
    half_p99_ms: Figure
    load_percent: Figure
    faults: int


Value = Callable[[ObjectMeasurement], float]


def _faults(phase: Phase) -> int:
    seen = phase.seen
    return seen.closed + seen.missing + seen.disordered + seen.strange + seen.unanswered + seen.behind


def object_rows(measurements: Iterable[ObjectMeasurement], reference: str | None) -> list[ObjectRow]:
    """Sum up: a row for each load and journal, in the order in which they came. Ratios are to the journal `reference` with the
    same load in the same run; its own rows have none."""
    by_place: dict[tuple[str, int], dict[str, list[ObjectMeasurement]]] = {}
    for each in measurements:
        by_place.setdefault((each.shape, each.batch), {}).setdefault(each.store, []).append(each)
    return [
        _row(of_runs, {} if store == reference else {m.run: m for m in stores.get(reference or "", [])})
        for stores in by_place.values()
        for store, of_runs in stores.items()
    ]


def _row(of_runs: list[ObjectMeasurement], others: dict[int, ObjectMeasurement]) -> ObjectRow:
    def figure(value: Value, compared: bool = False) -> Figure:
        return figure_over(of_runs, others, value, compared)

    first = of_runs[0]
    return ObjectRow(
        shape=first.shape,
        batch=first.batch,
        store=first.store,
        changes_s=figure(lambda m: m.changes_s, compared=True),
        deliveries_s=figure(lambda m: m.deliveries_s),
        origin_changes_per_cpu_s=figure(lambda m: m.changes_per_cpu_s("origin"), compared=True),
        edge_deliveries_per_cpu_s=figure(lambda m: m.deliveries_per_cpu_s("edge")),
        origin_percent=figure(lambda m: m.full.cpu_percent("origin")),
        edge_percent=figure(lambda m: m.full.cpu_percent("edge")),
        redis_percent=figure(lambda m: m.full.cpu_percent("redis")),
        half_p50_ms=figure(lambda m: m.half.seen.latency_p50_ms, compared=True),
        half_p99_ms=figure(lambda m: m.half.seen.latency_p99_ms, compared=True),
        load_percent=figure(lambda m: max(m.full.load_percent, m.half.load_percent)),
        faults=sum(_faults(phase) for m in of_runs for phase in (m.full, m.half)),
    )
