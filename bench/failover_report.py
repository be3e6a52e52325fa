"""A fail-over benchmark's results for people and programs: a table on the console, the same as Markdown, everything as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.failover_cases import CASES
from bench.failover_results import CaseResult, CaseRow, Spread, case_rows
from bench.machine import Machine
from bench.report import page

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
        for each in self.results:
            where = f"{each.case}, journal {each.store}, run {each.run}"
            found += [f"DOUBT {where}: {doubt}" for doubt in each.doubts()]
        return found


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


def table(report: FailoverReport) -> Table:
    """For the console."""
    made = Table(title=report.title)
    for number, column in enumerate(_COLUMNS):
        made.add_column(column, justify="left" if number in _TEXT_COLUMNS else "right")
    case = None
    for row in report.rows():
        if case not in (None, row.case):
            made.add_section()
        case = row.case
        made.add_row(*_cells(row))
    return made


def markdown(report: FailoverReport) -> str:
    """The table and its notes."""
    return page(report.title, _COLUMNS, map(_cells, report.rows()), report.notes())


def write_json(report: FailoverReport, path: Path) -> None:
    """All results with each group's and client's gaps, their doubts, the rows, what each server ran with."""
    data = {
        "title": report.title,
        "machine": asdict(report.machine),
        "parameters": report.parameters,
        "servers": report.servers,
        "results": [{**asdict(each), "doubts": each.doubts()} for each in report.results],
        "rows": [{**asdict(row), "missed": row.missed} for row in report.rows()],
    }
    path.write_text(json.dumps(data, indent=1) + "\n")
