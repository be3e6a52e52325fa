"""A media benchmark's results for people and programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic

from bench.machine import Machine
from bench.results import Column, M, Row, rows
from bench.sheet import Sheet, all_doubts, heading, sheet_of_figures, with_doubts


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

    def sheet(self) -> Sheet:
        """The table and its notes."""
        digits = {column.title: column.digits for column in self.columns}
        cells = (((row.case, row.title), row.figures) for row in self.rows())
        return sheet_of_figures(self.title, (self.first, "server"), digits, cells, self.notes())

    def data(self) -> dict[str, Any]:
        """All measurements, their doubts, the rows, what each server ran with."""
        return {
            **heading(self.title, self.machine, self.parameters),
            "servers": self.servers,
            "measurements": [with_doubts(each) for each in self.measurements],
            "rows": [asdict(row) for row in self.rows()],
            "notes": self.notes(),
        }

    def notes(self) -> list[str]:
        """What a reader must know to believe the table."""
        found = list(self.machine.lines())
        found += dict.fromkeys(str(each["version"]) for each in self.servers.values())
        if self.machine.server_core in self.machine.load_cores:
            found.append("server and load share one core: compare nothing")
        found += self.remarks
        measured = (
            (f"{each.server}, {each.case}, run {each.run}", each.doubts()) for each in self.measurements
        )
        return found + all_doubts(measured, self.failures)
