"""A media benchmark's results for people and programs: a table on the console, the same as Markdown, everything as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic

from rich.table import Table

from bench.machine import Machine
from bench.results import Column, Figure, M, Row, rows


@dataclass(frozen=True, slots=True)
class Report(Generic[M]):
    """Everything a run of the benchmark found. `first`: the title of the column that says the case; `remarks`: what a reader must
    know besides; `failures`: what could not be measured."""

    title: str
    first: str
    machine: Machine
    parameters: dict[str, Any]
    servers: dict[str, dict[str, object]]
    measurements: list[M]
    columns: Sequence[Column[M]]
    remarks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def rows(self) -> list[Row]:
        """Summed up over the runs."""
        return rows(self.measurements, self.columns)

    def headings(self) -> list[str]:
        """Of the table."""
        return [self.first, "server", *(column.title for column in self.columns)]

    def cells(self, row: Row) -> list[str]:
        """Of one row."""
        figures = (row.figures[column.title] for column in self.columns)
        shown = (
            "" if figure is None else cell(figure, column.digits)
            for figure, column in zip(figures, self.columns, strict=True)
        )
        return [row.case, row.title, *shown]

    def notes(self) -> list[str]:
        """What a reader must know to believe the table."""
        found = list(self.machine.lines())
        found += dict.fromkeys(str(each["version"]) for each in self.servers.values())
        if self.machine.server_core in self.machine.load_cores:
            found.append("server and load share one core: compare nothing")
        found += self.remarks
        found += [f"DOUBT not measured: {failure}" for failure in self.failures]
        for each in self.measurements:
            where = f"{each.server}, {each.case}, run {each.run}"
            found += [f"DOUBT {where}: {doubt}" for doubt in each.doubts()]
        return found


def cell(figure: Figure, digits: int) -> str:
    """`0.21 (0.75×)`; with several runs the range too: `0.21 [0.20–0.23] (0.75×)`."""
    text = f"{figure.median:.{digits}f}"
    if figure.least != figure.greatest:
        text += f" [{figure.least:.{digits}f}–{figure.greatest:.{digits}f}]"
    return text if figure.ratio is None else f"{text} ({figure.ratio:.2f}×)"


def table(report: Report[Any]) -> Table:
    """For the console."""
    made = Table(title=report.title)
    for number, heading in enumerate(report.headings()):
        made.add_column(heading, justify="left" if number < 2 else "right", no_wrap=number < 2)
    case = None
    for row in report.rows():
        if case not in (None, row.case):
            made.add_section()
        case = row.case
        made.add_row(*report.cells(row))
    return made


def page(title: str, columns: Sequence[str], cells: Iterable[Sequence[str]], notes: Iterable[str]) -> str:
    """A table and its notes as Markdown."""
    lines = [columns, ["---"] * len(columns), *cells]
    drawn = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([title, "", *drawn, "", *(f"- {note}" for note in notes)]) + "\n"


def markdown(report: Report[Any]) -> str:
    """The table and its notes."""
    return page(report.title, report.headings(), map(report.cells, report.rows()), report.notes())


def write_json(report: Report[Any], path: Path) -> None:
    """All measurements, their doubts, the rows, what each server ran with."""
    data = {
        "title": report.title,
        "machine": asdict(report.machine),
        "parameters": report.parameters,
        "servers": report.servers,
        "measurements": [{**asdict(each), "doubts": each.doubts()} for each in report.measurements],
        "rows": [asdict(row) for row in report.rows()],
        "notes": report.notes(),
    }
    path.write_text(json.dumps(data, indent=1) + "\n")
