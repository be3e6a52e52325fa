"""Results of a benchmark of RTMPT for people and programs: a table on the console, the same as Markdown, everything as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.machine import Machine
from bench.report import cell, page
from bench.results import Figure
from bench.tunnel_results import TunnelMeasurement, TunnelRow, tunnel_rows

_COLUMNS = (
    "load",
    "transport, store",
    "clients",
    "requests/s",
    "requests per edge CPU s",
    "edge / all CPU %",
    "edge CPU ms/s per client",
    "edge CPU s/Gbit",
    "all CPU s/Gbit",
    "p50 ms",
    "p99 ms",
    "edge RSS MB",
    "load CPU %",
    "faults",
)
_TEXT_COLUMNS = (0, 1)


@dataclass(frozen=True, slots=True)
class TunnelReport:
    """Everything a run found. `loads`: what each is, by name."""

    title: str
    machine: Machine
    parameters: dict[str, Any]
    loads: dict[str, str]
    servers: dict[str, dict[str, object]]
    measurements: list[TunnelMeasurement]

    def rows(self) -> list[TunnelRow]:
        """Summed up over the runs."""
        return tunnel_rows(self.measurements)

    def notes(self) -> list[str]:
        """What a reader must know to believe the table."""
        found = list(self.machine.lines())
        found += dict.fromkeys(str(each["version"]) for each in self.servers.values())
        found += [f"{name}: {about}" for name, about in self.loads.items()]
        found.append(
            "all servers share one core: 'per edge CPU s' is what a core of its own would bear at this cost"
        )
        if self.machine.server_core in self.machine.load_cores:
            found.append("server and load share one core: compare nothing")
        found.append("(n.nn×): to rtmp with the same load in the same run")
        for each in self.measurements:
            where = f"{each.role.value}, {each.transport}, {each.store}, run {each.run}"
            found += [f"DOUBT {where}: {doubt}" for doubt in each.doubts()]
        return found


def _shown(figure: Figure, digits: int) -> str:
    return cell(figure, digits) if figure.greatest else "–"


def _cells(row: TunnelRow) -> list[str]:
    return [
        row.role.value,
        row.title,
        str(row.clients),
        _shown(row.requests_s, 0),
        _shown(row.requests_per_edge_cpu_s, 0),
        f"{row.edge_percent.median:.1f} / {row.all_percent.median:.1f}",
        _shown(row.edge_ms_per_client_s, 3),
        _shown(row.edge_cpu_s_per_gbit, 2),
        _shown(row.all_cpu_s_per_gbit, 2),
        _shown(row.latency_p50_ms, 1),
        _shown(row.latency_p99_ms, 1),
        _shown(row.edge_rss_mb, 1),
        f"{row.load_percent.median:.0f}",
        str(row.faults),
    ]


def table(report: TunnelReport) -> Table:
    """For the console."""
    made = Table(title=report.title)
    for number, column in enumerate(_COLUMNS):
        made.add_column(column, justify="left" if number in _TEXT_COLUMNS else "right")
    role = None
    for row in report.rows():
        if role not in (None, row.role):
            made.add_section()
        role = row.role
        made.add_row(*_cells(row))
    return made


def markdown(report: TunnelReport) -> str:
    """The table and its notes."""
    return page(report.title, _COLUMNS, map(_cells, report.rows()), report.notes())


def write_json(report: TunnelReport, path: Path) -> None:
    """All measurements, their doubts, the rows, what each server ran with."""
    data = {
        "title": report.title,
        "machine": asdict(report.machine),
        "parameters": report.parameters,
        "loads": report.loads,
        "servers": report.servers,
        "measurements": [_measured(each) for each in report.measurements],
        "rows": [{**asdict(row), "role": row.role.value} for row in report.rows()],
    }
    path.write_text(json.dumps(data, indent=1) + "\n")


def _measured(each: TunnelMeasurement) -> dict[str, Any]:
    """Percentiles instead of the latencies of all messages."""
    data = {**asdict(each), "role": each.role.value, "doubts": each.doubts()}
    for window in (data["seen"], data["beside"]):
        if window is not None:
            del window["latencies_ms"]
    return {**data, "latency_p50_ms": each.latency_ms(50), "latency_p99_ms": each.latency_ms(99)}
