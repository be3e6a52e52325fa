"""A fail-over benchmark's results for people and programs."""

from dataclasses import asdict, dataclass
from typing import Any

from bench.failover_cases import CASES
from bench.failover_results import CaseResult, CaseRow, Spread, case_rows
from bench.machine import Machine
from bench.sheet import Sheet, all_doubts, heading, with_doubts

_COLUMNS = (
    "case",
    "journal",
    "groups",
    "judged by",
    "median / p99 / worst ms",
    "bound ms",
    "held",
    "latest change ms",
    "before: p99, latest ms",
    "other groups: latest ms",
    "faults",
    "servers, load CPU %",
)
_TEXT_COLUMNS = (0, 1, 3, 6)
FIGURES = {"again": "delivered again", "silence": "longest silence", "late": "latest change"}


@dataclass(frozen=True, slots=True)
class FailoverReport:
    """Everything a run found. `servers`: what each journal's cluster ran with."""

    title: str
    machine: Machine
    parameters: dict[str, Any]
    servers: dict[str, dict[str, object]]
    results: list[CaseResult]

    def rows(self) -> list[CaseRow]:
        """Summed up over the runs."""
        return case_rows(self.results, CASES)

    def notes(self) -> list[str]:
        """What a reader must know to believe the table."""
        cpu, _ = self.machine.lines()
        found = [cpu]
        found += dict.fromkeys(str(each["version"]) for each in self.servers.values())
        found.append(
            f"all servers and the load together on {self.machine.cores} cores, loopback: no process has a core of its own"
        )
        found += [
            f"{case.name}: {case.about}"
            for case in CASES
            if any(case.name == row.case for row in self.rows())
        ]
        found += [
            f"{row.case}, journal {row.store}: the registry told of it after {_three(row.known)} ms, "
            f"of the groups' new origins after {_three(row.assigned)} ms"
            for row in self.rows()
            if row.known is not None and row.assigned is not None
        ]
        found += [
            f"MISSED {row.case}, journal {row.store}: {missed}"
            for row in self.rows()
            for missed in row.missed
        ]
        measured = (
            (f"{each.case}, journal {each.store}, run {each.run}", each.doubts()) for each in self.results
        )
        return found + all_doubts(measured)

    def sheet(self) -> Sheet:
        """The table and its notes."""
        return Sheet(self.title, _COLUMNS, _TEXT_COLUMNS, [_cells(row) for row in self.rows()], self.notes())

    def data(self) -> dict[str, Any]:
        """All results with each group's and client's gaps, their doubts, the rows, what each server ran with."""
        return {
            **heading(self.title, self.machine, self.parameters),
            "servers": self.servers,
            "results": [with_doubts(each) for each in self.results],
            "rows": [{**asdict(row), "missed": row.missed} for row in self.rows()],
        }


def _three(spread: Spread) -> str:
    return f"{spread.median:.0f} / {spread.p99:.0f} / {spread.worst:.0f}"


def _cells(row: CaseRow) -> list[str]:
    median = "" if row.median_bound_ms is None else f"median {row.median_bound_ms:.0f}, "
    return [
        row.case,
        row.store,
        str(row.concerned),
        FIGURES[row.figure],
        _three(row.judged),
        f"{median}worst {row.worst_bound_ms:.0f}",
        "MISSED" if row.missed else "yes",
        _three(row.late),
        f"{row.calm_p99_ms:.0f}, {row.calm_late.worst:.0f}",
        f"{row.others_late_ms:.0f}" if row.others_late_ms else "-",
        str(row.faults),
        f"{row.server_percent:.0f}, {row.load_percent:.0f}",
    ]
