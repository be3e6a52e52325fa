"""Results of the benchmarks whose clients ask, for people and programs: a row for each case with figures over the runs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console

from bench.figures import Figure, over_runs
from bench.machine import Machine
from bench.plot import finish, grouped_bars
from bench.sheet import Sheet, all_doubts, heading, sheet_of_figures, with_doubts

Case = tuple[str, ...]
"""What a measurement was of: a word for each of the first columns."""
_COLOURS = ("#6b7280", "#1d4ed8", "#b45309", "#15803d", "#93c5fd", "#fcd34d")


class Measured(Protocol):
    """One case in one run."""

    @property
    def case(self) -> Case: ...

    @property
    def run(self) -> int: ...

    def doubts(self) -> list[str]:
        """Why it should not be trusted, or what went wrong in it; empty for a good one."""


M = TypeVar("M", bound=Measured)


@dataclass(frozen=True, slots=True)
class Column(Generic[M]):
    """What it shows of a measurement (None: nothing), with so many `digits`; `compared`: its ratio to the reference, too."""

    title: str
    value: Callable[[M], float | None]
    digits: int = 0
    compared: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A case, and a figure for each column by its title."""

    case: Case
    figures: dict[str, Figure | None]


@dataclass(frozen=True, slots=True)
class Results(Generic[M]):
    """Everything a benchmark has found. `heads`: titles of the columns that say the case; `reference`: whom a case is compared
    with, None for nobody. `panels`: columns that are drawn, for which the `colours`th word of a case gives the colour.
    `failures`: what could not be measured."""

    title: str
    heads: Sequence[str]
    columns: Sequence[Column[M]]
    measurements: list[M]
    machine: Machine
    parameters: dict[str, Any]
    reference: Callable[[Case], Case | None]
    panels: Sequence[str]
    colours: int = -1
    remarks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def rows(self) -> list[Row]:
        """Summed up over the runs, in the order in which the cases came."""
        by_case: dict[Case, dict[int, M]] = {}
        for each in self.measurements:
            by_case.setdefault(each.case, {})[each.run] = each
        return [
            Row(case, {column.title: self._figure(column, case, by_case) for column in self.columns})
            for case in by_case
        ]

    def _figure(self, column: Column[M], case: Case, by_case: dict[Case, dict[int, M]]) -> Figure | None:
        reference = self.reference(case) if column.compared else None
        others = by_case.get(reference, {}) if reference is not None and reference != case else {}
        values = _values(column, by_case[case])
        return over_runs(values, _values(column, others)) if values else None

    def notes(self) -> list[str]:
        """What a reader must know to believe the table."""
        measured = ((f"{', '.join(each.case)}, run {each.run}", each.doubts()) for each in self.measurements)
        return [*self.machine.lines(), *self.remarks, *all_doubts(measured, self.failures)]

    def sheet(self) -> Sheet:
        """The table and its notes."""
        digits = {column.title: column.digits for column in self.columns}
        cells = ((row.case, row.figures) for row in self.rows())
        return sheet_of_figures(self.title, self.heads, digits, cells, self.notes())

    def data(self) -> dict[str, Any]:
        """All measurements, their doubts, the rows."""
        return {
            **heading(self.title, self.machine, self.parameters),
            "remarks": self.remarks,
            "measurements": [with_doubts(each) for each in self.measurements],
            "rows": [asdict(row) for row in self.rows()],
            "failures": self.failures,
        }

    def write(self, folder: Path, name: str, console: Console) -> None:
        """name.json, name.md and name.png into the folder; the table onto the console."""
        self.sheet().deliver(folder, name, self.data(), self.draw, console)

    def draw(self, path: Path) -> None:
        """A PNG: bars of one colour share a word of their cases, groups of bars the others."""
        rows = self.rows()
        words = list(dict.fromkeys(row.case[self.colours] for row in rows))
        colours = {word: _COLOURS[number % len(_COLOURS)] for number, word in enumerate(words)}
        groups = list(dict.fromkeys(self._group(row) for row in rows))
        figure, axes = plt.subplots(2, 2, figsize=(16, 9), layout="constrained")
        for axis, title in zip(axes.flat, self.panels, strict=True):
            bars: dict[str, dict[str, Figure]] = {}
            for row in rows:
                shown = row.figures[title]
                if shown is not None:
                    bars.setdefault(row.case[self.colours], {})[self._group(row)] = shown
            if bars:
                grouped_bars(axis, groups, bars, colours)
            axis.set_xticks(range(len(groups)), groups, fontsize=7)
            axis.set_title(title, fontsize=10)
        finish(figure, [self.title, *self.machine.lines()], path)

    def _group(self, row: Row) -> str:
        number = self.colours % len(row.case)
        return "\n".join(word for place, word in enumerate(row.case) if place != number) or row.case[number]


def _values(column: Column[M], of_runs: dict[int, M]) -> dict[int, float]:
    """By run, where there is one."""
    found = {run: column.value(each) for run, each in of_runs.items()}
    return {run: value for run, value in found.items() if value is not None}
