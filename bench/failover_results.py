"""Results of a fail-over benchmark: what the clients of one case saw, and rows that sum up the runs."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.failover_cases import Case, Fault, Figure
from bench.failover_clients import FailoverWindow
from bench.failover_feed import Times, Told, times_of
from bench.failover_gaps import Trace, again_ms, latest_ms, longest_silence
from bench.measure import Usage, percentile
from bench.object_layout import ClientSpec

_FOREIGN_PERCENT = 10.0
_LAG_MS = 100.0
_BUSY_MS = 50.0
"""A cluster whose changes take longer has a queue before anything happens, and fails over into it."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """In ms. Of each group that a fault concerned, the worst of those who read it: `again_ms` from the fault until a change came
    that was sent after it, `silence_ms` the longest time without a delivery, `late_ms` the delay of its latest change."""

    again_ms: list[float]
    silence_ms: list[float]
    late_ms: list[float]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case with one journal in one run. `concerned`: how many groups faults concerned, each as often as one did. `calm`: the
    same of as much time before the first fault, or of as much as there was, `calm_p99_ms` of all that took from a writer to the
    others then. `others_late_ms`: the latest change in any group that no fault concerned, 0 where there is none. `clients_ms`:
    the case's figure for each client of a concerned group, writers (whose answers count) too, for each fault; `clients_calm_ms`
    likewise before (the latest change in place of `again`). `usages` by service, over the calm time of `calm_s`. `times` of each
    fault."""

    case: str
    store: str
    run: int
    groups: int
    sessions: int
    concerned: int
    gaps: Gaps
    calm: Gaps
    calm_p99_ms: float
    others_late_ms: float
    clients_ms: list[float]
    clients_calm_ms: list[float]
    calm_s: float
    usages: dict[str, Usage]
    foreign_percent: float
    times: list[Times]
    took_s: float
    lag_ms: float
    load_percent: float
    changes: int
    deliveries: int
    missing: int
    disordered: int
    strange: int
    closed: int
    unanswered: int
    behind: int

    @property
    def faults(self) -> int:
        """Of every kind: what a client must never see."""
        wrong = self.missing + self.disordered + self.strange
        return wrong + self.closed + self.unanswered + self.behind

    def server_percent(self) -> float:
        """Of one core, of all servers together, while nothing happened."""
        return self.usages["all"].cpu_s / self.calm_s * 100

    def doubts(self) -> list[str]:
        """What went wrong in it, and why it should not be trusted; empty for a good one."""
        found = []
        if self.foreign_percent > _FOREIGN_PERCENT:
            found.append(f"others used {self.foreign_percent:.0f} % of one core")
        if self.calm_p99_ms > _BUSY_MS:
            found.append(f"changes took {self.calm_p99_ms:.0f} ms (p99) before anything was done")
        if self.lag_ms > _LAG_MS:
            found.append(f"writers were up to {self.lag_ms:.0f} ms late")
        for count, text in (
            (self.closed, "clients were closed"),
            (self.missing, "changes never came to a member"),
            (self.disordered, "changes came twice or out of order"),
            (self.strange, "messages were neither a Change nor a Success that was expected"),
            (self.unanswered, "changes were not answered"),
            (self.behind, "members do not have the last value"),
        ):
            if count:
                found.append(f"{count} {text}")
        return found


Clients = Sequence[tuple[ClientSpec, Trace]]


def by_scope(
    specs: Sequence[ClientSpec], traces: Sequence[Trace]
) -> dict[str, list[tuple[ClientSpec, Trace]]]:
    """The clients of each scope with what they saw."""
    made: dict[str, list[tuple[ClientSpec, Trace]]] = {}
    for spec, trace in zip(specs, traces, strict=True):
        made.setdefault(spec.scope, []).append((spec, trace))
    return made


def group_gaps(groups: Iterable[Clients], since_ns: int, until_ns: int) -> Gaps:
    """What the readers of these groups saw in this time."""
    readers = [[trace for spec, trace in clients if spec.requester is None] for clients in groups]

    def worst(figure: Figure) -> list[float]:
        return [max(_figure_ms(figure, trace, since_ns, until_ns) for trace in traces) for traces in readers]

    return Gaps(worst("again"), worst("silence"), worst("late"))


def _figure_ms(figure: Figure, trace: Trace, since_ns: int, until_ns: int) -> float:
    if figure == "again":
        return again_ms(trace, since_ns, until_ns)
    if figure == "late":
        return latest_ms(trace, since_ns, until_ns)
    return longest_silence(trace.arrivals_ns, since_ns, until_ns).length_ms


def _p99_ms(groups: Iterable[Clients], since_ns: int) -> float:
    """Of all changes that their readers have got since then; 0 for none."""
    delays_ns = [
        delay_ns
        for clients in groups
        for spec, trace in clients
        if spec.requester is None
        for delay_ns in trace.delays_ns[bisect_left(trace.arrivals_ns, since_ns) :]
    ]
    return percentile(delays_ns, 99) / 1e6 if delays_ns else 0.0


def joined(all_gaps: Iterable[Gaps]) -> Gaps:
    """One after the other."""
    made = Gaps([], [], [])
    for gaps in all_gaps:
        made.again_ms.extend(gaps.again_ms)
        made.silence_ms.extend(gaps.silence_ms)
        made.late_ms.extend(gaps.late_ms)
    return made


@dataclass(frozen=True, slots=True)
class Seen:
    """What was measured of a case beside what its clients saw: see CaseResult. `begun_ns`: of the window; `told` by the
    registry."""

    begun_ns: int
    faults: Sequence[Fault]
    told: Sequence[Told]
    calm_s: float
    usages: dict[str, Usage]
    foreign_percent: float


def case_result(
    case: Case,
    store: str,
    run: int,
    app: str,
    specs: Sequence[ClientSpec],
    seen: Seen,
    window: FailoverWindow,
) -> CaseResult:
    """Put together what was measured. `app`: of all scopes."""
    scopes = by_scope(specs, window.traces)
    faults = seen.faults
    first_ns, last_ns = faults[0].at_ns, faults[-1].until_ns
    concerned = sorted(frozenset().union(*(fault.scopes for fault in faults)))
    others = [clients for scope, clients in scopes.items() if scope not in set(concerned)]
    calm_from_ns = max(seen.begun_ns, first_ns - (last_ns - first_ns))
    calm = [[(spec, trace.before(first_ns)) for spec, trace in scopes[scope]] for scope in concerned]
    return CaseResult(
        case=case.name,
        store=store,
        run=run,
        groups=len(scopes),
        sessions=len(specs),
        concerned=sum(len(fault.scopes) for fault in faults),
        gaps=joined(
            group_gaps((scopes[scope] for scope in sorted(fault.scopes)), fault.at_ns, fault.until_ns)
            for fault in faults
        ),
        calm=group_gaps(calm, calm_from_ns, first_ns),
        calm_p99_ms=_p99_ms(calm, calm_from_ns),
        others_late_ms=max(group_gaps(others, first_ns, last_ns).late_ms, default=0.0),
        clients_ms=[
            _figure_ms(case.figure, trace, fault.at_ns, fault.until_ns)
            for fault in faults
            for scope in sorted(fault.scopes)
            for _, trace in scopes[scope]
        ],
        clients_calm_ms=[
            _figure_ms("late" if case.figure == "again" else case.figure, trace, calm_from_ns, first_ns)
            for clients in calm
            for _, trace in clients
        ],
        calm_s=seen.calm_s,
        usages=seen.usages,
        foreign_percent=seen.foreign_percent,
        times=[
            times_of(seen.told, fault.at_ns, fault.until_ns, (f"{app}/{scope}" for scope in fault.scopes))
            for fault in faults
        ],
        took_s=(last_ns - first_ns) / 1e9,
        lag_ms=window.lag_ms,
        load_percent=window.cpu_s / window.wall_s * 100,
        changes=window.answered,
        deliveries=window.delivered,
        missing=window.missing,
        disordered=window.disordered,
        strange=window.strange,
        closed=window.closed,
        unanswered=window.unanswered,
        behind=window.behind,
    )


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, 99th percentile and worst of values in ms."""

    median: float
    p99: float
    worst: float


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError for none."""
    return Spread(percentile(values, 50), percentile(values, 99), max(values))


@dataclass(frozen=True, slots=True)
class CaseRow:
    """What a table shows of one case with one journal: every group of every run counts once for each fault. `judged`: the figure
    that the bounds are about; `calm_p99_ms` of the worst run; `known`, `assigned`: see Times."""

    case: str
    store: str
    figure: str
    concerned: int
    judged: Spread
    late: Spread
    calm_p99_ms: float
    calm_late: Spread
    known: Spread | None
    assigned: Spread | None
    others_late_ms: float
    median_bound_ms: float | None
    worst_bound_ms: float
    faults: int
    server_percent: float
    load_percent: float

    @property
    def missed(self) -> list[str]:
        """The bounds that do not hold."""
        found = []
        if self.median_bound_ms is not None and self.judged.median >= self.median_bound_ms:
            found.append(f"median {self.judged.median:.0f} ms, promised < {self.median_bound_ms:.0f}")
        if self.judged.worst >= self.worst_bound_ms:
            found.append(f"worst {self.judged.worst:.0f} ms, promised < {self.worst_bound_ms:.0f}")
        if self.faults:
            found.append(f"{self.faults} faults, promised 0")
        return found


def case_rows(results: Iterable[CaseResult], cases: Sequence[Case]) -> list[CaseRow]:
    """A row for each case and journal, in the order of the cases."""
    by_place: dict[tuple[str, str], list[CaseResult]] = {}
    for each in results:
        by_place.setdefault((each.case, each.store), []).append(each)
    return [
        _row(case, store, of_runs)
        for case in cases
        for (name, store), of_runs in by_place.items()
        if name == case.name
    ]


def _row(case: Case, store: str, of_runs: list[CaseResult]) -> CaseRow:
    gaps, calm = joined(each.gaps for each in of_runs), joined(each.calm for each in of_runs)
    figures: dict[str, list[float]] = {
        "again": gaps.again_ms,
        "silence": gaps.silence_ms,
        "late": gaps.late_ms,
    }

    times = [each for result in of_runs for each in result.times]
    known = [each.known_ms for each in times if each.known_ms is not None]
    assigned = [ms for each in times for ms in each.assigned_ms]

    def mean(value: Callable[[CaseResult], float]) -> float:
        return sum(map(value, of_runs)) / len(of_runs)

    return CaseRow(
        case=case.name,
        store=store,
        figure=case.figure,
        concerned=len(gaps.again_ms),
        judged=spread(figures[case.figure]),
        late=spread(gaps.late_ms),
        calm_p99_ms=max(each.calm_p99_ms for each in of_runs),
        calm_late=spread(calm.late_ms),
        known=spread(known) if known else None,
        assigned=spread(assigned) if assigned else None,
        others_late_ms=max(each.others_late_ms for each in of_runs),
        median_bound_ms=case.median_ms,
        worst_bound_ms=case.worst_ms,
        faults=sum(each.faults for each in of_runs),
        server_percent=mean(CaseResult.server_percent),
        load_percent=mean(lambda each: each.load_percent),
    )
