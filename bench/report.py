"""A fan-out benchmark's results for people and programs: a table on the console, the same as Markdown, everything as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.machine import Machine
from bench.results import Figure, Measurement, Row, rows

_COLUMNS = (
    "players",
    "server",
    "CPU s/Gbit",
    "p50 ms",
    "p99 ms",
    "RSS MB",
    "CPU %",
    "load CPU %",
    "missing",
)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a run of the benchmark found. `reference`: the server that ratios are to, if it took part."""

    title: str
    machine: Machine
    parameters: dict[str, Any]
    servers: dict[str, dict[str, object]]
    measurements: list[Measurement]
    reference: str | None

    def rows(self) -> list[Row]:
        """Summed up over the runs."""
        return rows(self.measurements, self.reference)

    def notes(self) -> list[str]:
        """What a reader must know to believe the table."""
        found = list(self.machine.lines())
        found += dict.fromkeys(str(each["version"]) for each in self.servers.values())
        if self.machine.server_core in self.machine.load_cores:
            found.append("server and load share one core: compare nothing")
        if self.reference is not None:
            found.append(f"(n.nn×): to {self.reference} of the same run; below 1 is less")
        for each in self.measurements:
            where = f"{each.server}, {each.players} players, run {each.run}"
            found += [f"DOUBT {where}: {doubt}" for doubt in each.doubts()]
        return found


def cell(figure: Figure, digits: int) -> str:
    """`0.21 (0.75×)`; with several runs the range too: `0.21 [0.20–0.23] (0.75×)`."""
    text = f"{figure.median:.{digits}f}"
    if figure.least != figure.greatest:
        text += f" [{figure.least:.{digits}f}–{figure.greatest:.{digits}f}]"
    return text if figure.ratio is None else f"{text} ({figure.ratio:.2f}×)"


def _cells(row: Row) -> list[str]:
    return [
        str(row.players),
        row.title,
        cell(row.cpu_s_per_gbit, 3),
        cell(row.latency_p50_ms, 1),
        cell(row.latency_p99_ms, 1),
        cell(row.rss_mb, 1),
        f"{row.cpu_percent.median:.0f}",
        f"{row.load_percent.median:.0f}",
        str(row.missing),
    ]


def table(report: Report) -> Table:
    """For the console."""
    made = Table(title=report.title)
    for number, column in enumerate(_COLUMNS):
        made.add_column(column, justify="left" if number == 1 else "right")
    players = None
    for row in report.rows():
        if players not in (None, row.players):
            made.add_section()
        players = row.players
        made.add_row(*_cells(row))
    return made


def page(title: str, columns: Sequence[str], cells: Iterable[Sequence[str]], notes: Iterable[str]) -> str:
    """A table and its notes as Markdown."""
    lines = [columns, ["---"] * len(columns), *cells]
    drawn = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([title, "", *drawn, "", *(f"- {note}" for note in notes)]) + "\n"


def markdown(report: Report) -> str:
    """The table and its notes."""
    return page(report.title, _COLUMNS, map(_cells, report.rows()), report.notes())


def write_json(report: Report, path: Path) -> None:
    """All measurements, their doubts, the rows, what each server ran with."""
    data = {
        "title": report.title,
        "machine": asdict(report.machine),
        "parameters": report.parameters,
        "servers": report.servers,
        "reference": report.reference,
        "measurements": [{**asdict(each), "doubts": each.doubts()} for each in report.measurements],
        "rows": [asdict(row) for row in report.rows()],
    }
    path.write_text(json.dumps(data, indent=1) + "\n")
