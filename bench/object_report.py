"""An object benchmark's results for people and programs: a table on the console, the same as Markdown, everything as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.machine import Machine
from bench.object_results import ObjectMeasurement, ObjectRow, object_rows
from bench.report import cell, page

_COLUMNS = (
    "load",
    "changes in a message",
    "journal",
    "changes/s",
    "deliveries/s",
    "changes per origin CPU s",
    "deliveries per edge CPU s",
    "origin / edge / Redis CPU %",
    "half load: p50 ms",
    "p99 ms",
    "load CPU %",
    "faults",
)
_TEXT_COLUMNS = (0, 2)


@dataclass(frozen=True, slots=True)
class ObjectReport:
    """Everything a run found. `shapes`: what each load is, by name. `reference`: the journal that ratios are to."""

    title: str
    machine: Machine
    parameters: dict[str, Any]
    shapes: dict[str, str]
    servers: dict[str, dict[str, object]]
    measurements: list[ObjectMeasurement]
    reference: str | None

    def rows(self) -> list[ObjectRow]:
        """Summed up over the runs."""
        return object_rows(self.measurements, self.reference)

    def notes(self) -> list[str]:
        """What a reader must know to believe the table."""
        found = list(self.machine.lines())
        found += dict.fromkeys(str(each["version"]) for each in self.servers.values())
        found += [f"{name}: {about}" for name, about in self.shapes.items()]
        found.append(
            "all servers share one core: 'per CPU s' is what a core of its own would bear at this load"
        )
        if self.machine.server_core in self.machine.load_cores:
            found.append("server and load share one core: compare nothing")
        if self.reference is not None:
            found.append(f"(n.nn×): to journal {self.reference!r} of the same run")
        for each in self.measurements:
            where = f"{each.shape}, {each.batch} in a message, journal {each.store}, run {each.run}"
            found += [f"DOUBT {where}: {doubt}" for doubt in each.doubts()]
        return found


def _cells(row: ObjectRow) -> list[str]:
    shares = (row.origin_percent, row.edge_percent, row.redis_percent)
    return [
        row.shape,
        str(row.batch),
        row.store,
        cell(row.changes_s, 0),
        cell(row.deliveries_s, 0),
        cell(row.origin_changes_per_cpu_s, 0),
        cell(row.edge_deliveries_per_cpu_s, 0),
        " / ".join(f"{share.median:.0f}" for share in shares),
        cell(row.half_p50_ms, 1),
        cell(row.half_p99_ms, 1),
        f"{row.load_percent.median:.0f}",
        str(row.faults),
    ]


def table(report: ObjectReport) -> Table:
    """For the console."""
    made = Table(title=report.title)
    for number, column in enumerate(_COLUMNS):
        made.add_column(column, justify="left" if number in _TEXT_COLUMNS else "right")
    load = None
    for row in report.rows():
        if load not in (None, (row.shape, row.batch)):
            made.add_section()
        load = (row.shape, row.batch)
        made.add_row(*_cells(row))
    return made


def markdown(report: ObjectReport) -> str:
    """The table and its notes."""
    return page(report.title, _COLUMNS, map(_cells, report.rows()), report.notes())


def write_json(report: ObjectReport, path: Path) -> None:
    """All measurements, their doubts, the rows, what each server ran with."""
    data = {
        "title": report.title,
        "machine": asdict(report.machine),
        "parameters": report.parameters,
        "loads": report.shapes,
        "servers": report.servers,
        "reference": report.reference,
        "measurements": [{**asdict(each), "doubts": each.doubts()} for each in report.measurements],
        "rows": [asdict(row) for row in report.rows()],
    }
    path.write_text(json.dumps(data, indent=1) + "\n")
