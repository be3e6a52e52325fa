"""Results of a benchmark of RTMPT for people and programs."""

from dataclasses import asdict, dataclass
from typing import Any

from bench.figures import Figure, cell
from bench.machine import Machine
from bench.sheet import Sheet, all_doubts, heading, with_doubts
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
        measured = (
            (f"{each.role.value}, {each.transport}, {each.store}, run {each.run}", each.doubts())
            for each in self.measurements
        )
        return found + all_doubts(measured)

    def sheet(self) -> Sheet:
        """The table and its notes."""
        return Sheet(self.title, _COLUMNS, _TEXT_COLUMNS, [_cells(row) for row in self.rows()], self.notes())

    def data(self) -> dict[str, Any]:
        """All measurements, their doubts, the rows, what each server ran with."""
        return {
            **heading(self.title, self.machine, self.parameters),
            "loads": self.loads,
            "servers": self.servers,
            "measurements": [_measured(each) for each in self.measurements],
            "rows": [{**asdict(row), "role": row.role.value} for row in self.rows()],
        }


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


def _measured(each: TunnelMeasurement) -> dict[str, Any]:
    """Percentiles instead of the latencies of all messages."""
    data = {**with_doubts(each), "role": each.role.value}
    for window in (data["seen"], data["beside"]):
        if window is not None:
            del window["latencies_ms"]
    return {**data, "latency_p50_ms": each.latency_ms(50), "latency_p99_ms": each.latency_ms(99)}
