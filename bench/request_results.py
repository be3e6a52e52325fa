"""Results of the benchmarks whose clients ask: windows at full load, at a rate, and at half of what full load gave."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.measure import Usage
from bench.request_load import RequestWindow
from bench.results import core_doubts
from bench.tables import Case, Column

_LAG_MS = 20.0
_ACCEPTED = 0.95
_IDLE_PERCENT = 85.0


@dataclass(frozen=True, slots=True)
class Phase:
    """One window. `rate`: messages a second that were to be sent, None for as fast as they were answered. `usages` by process
    group, of `wall_s` seconds; `core_group`: the one that has the server's core for itself. `foreign_percent`,
    `load_foreign_percent`: what others used of the server's core and the load's."""

    rate: float | None
    wall_s: float
    usages: dict[str, Usage]
    core_group: str
    foreign_percent: float
    load_foreign_percent: float
    seen: RequestWindow

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
        busy_percent = self.cpu_percent(self.core_group)
        if self.rate is None and busy_percent + self.foreign_percent < _IDLE_PERCENT:
            found.append(f"the {self.core_group} used {busy_percent:.0f} % of its core: it could bear more")
        if self.rate is not None and seen.sent < self.rate * seen.wall_s * _ACCEPTED:
            found.append(f"{seen.sent / seen.wall_s:.0f} messages/s were sent, {self.rate:.0f} were to be")
        if self.rate is not None and seen.lag_ms > _LAG_MS:
            found.append(f"messages were up to {seen.lag_ms:.0f} ms late")
        for count, text in (
            (seen.closed, "clients were closed"),
            (seen.missing, "events or results were missing"),
            (seen.disordered, "were out of order or doubled"),
            (seen.strange, "were none of those that were expected"),
            (seen.unanswered, "messages were not answered"),
            (seen.behind, "last values of members are not the last that were sent"),
        ):
            if count:
                found.append(f"{count} {text}")
        return found


@dataclass(frozen=True, slots=True)
class RequestMeasurement:
    """One case in one run, messages of `batch` changes (or a call): the window that counts and, where there was one, that at
    another rate: `half` of what the first gave, if the benchmark does not say otherwise."""

    case: Case
    run: int
    batch: int
    phase: Phase
    half: Phase | None = None

    @property
    def changes_s(self) -> float:
        """Changes, or calls, that were answered."""
        return self.phase.seen.answered * self.batch / self.phase.seen.wall_s

    @property
    def deliveries_s(self) -> float:
        """Events, or results, that clients got."""
        return self.phase.seen.deliveries / self.phase.seen.wall_s

    def doubts(self) -> list[str]:
        """Of both windows."""
        found = self.phase.doubts()
        if self.half is not None:
            found += [f"at {self.half.rate:.0f} messages/s: {doubt}" for doubt in self.half.doubts()]
        return found


def per_cpu_s(
    count: Callable[[RequestMeasurement], float], group: str
) -> Callable[[RequestMeasurement], float | None]:
    """What a group does for each CPU second of its own; None where it used none."""

    def found(m: RequestMeasurement) -> float | None:
        used = m.phase.cpu_percent(group) / 100
        return count(m) / used if used > 0 else None

    return found


def cpu_us(
    count: Callable[[RequestMeasurement], float], group: str
) -> Callable[[RequestMeasurement], float | None]:
    """CPU microseconds that a group uses for each; None of a group that is not there."""

    def found(m: RequestMeasurement) -> float | None:
        return m.phase.cpu_percent(group) * 1e4 / count(m) if count(m) and group in m.phase.usages else None

    return found


def percent(group: str) -> Column[RequestMeasurement]:
    """A column: of one core that a group used."""
    return Column(f"{group} CPU %", lambda m: m.phase.cpu_percent(group))


def second(value: Callable[[Phase], float]) -> Callable[[RequestMeasurement], float | None]:
    """Of the second window; None where there was none."""
    return lambda m: None if m.half is None else value(m.half)


def changes_s(m: RequestMeasurement) -> float:
    """Changes, or calls, a second."""
    return m.changes_s


def deliveries_s(m: RequestMeasurement) -> float:
    """Deliveries a second."""
    return m.deliveries_s


HALF_P50: Column[RequestMeasurement] = Column(
    "half load: p50 ms", second(lambda p: p.seen.latency.p50_ms), 1, True
)
HALF_P99: Column[RequestMeasurement] = Column(
    "half load: p99 ms", second(lambda p: p.seen.latency.p99_ms), 1, True
)
HALF_P999: Column[RequestMeasurement] = Column(
    "half load: p99.9 ms", second(lambda p: p.seen.latency.p999_ms), 1
)
LOAD_PERCENT: Column[RequestMeasurement] = Column(
    "load CPU %", lambda m: max(each.load_percent for each in (m.phase, m.half) if each is not None)
)
FAULTS: Column[RequestMeasurement] = Column(
    "faults", lambda m: sum(each.seen.faults for each in (m.phase, m.half) if each is not None)
)
