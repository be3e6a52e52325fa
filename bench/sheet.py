"""What a benchmark shows: a table and its notes, on the console, as Markdown, as JSON and as a picture."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import Figure, cell
from bench.machine import Machine


@dataclass(frozen=True, slots=True)
class Sheet:
    """`words`: which columns are text, by number; the others are figures. `sections`: a rule between lines whose first cells
    differ."""

    title: str
    columns: Sequence[str]
    words: Collection[int]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str]
    sections: bool = True

    def table(self) -> Table:
        """For the console."""
        made = Table(title=self.title)
        for number, title in enumerate(self.columns):
            of_words = number in self.words
            made.add_column(title, justify="left" if of_words else "right", no_wrap=of_words)
        before = None
        for line in self.lines:
            if self.sections and before not in (None, line[0]):
                made.add_section()
            before = line[0]
            made.add_row(*line)
        return made

    def markdown(self) -> str:
        """The table and its notes."""
        rows = (self.columns, ["---"] * len(self.columns), *self.lines)
        drawn = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([self.title, "", *drawn, "", *(f"- {note}" for note in self.notes)]) + "\n"

    def deliver(
        self, folder: Path, name: str, data: dict[str, Any], draw: Callable[[Path], None] | None, console: Console
    ) -> None:  # fmt: skip
        """name.json (`data`), name.md and, if it can be drawn, name.png into the folder; the table onto the console."""
        paths = [folder / f"{name}.{ending}" for ending in ("json", "md", *(("png",) if draw else ()))]
        paths[0].write_text(json.dumps(data, indent=1) + "\n")
        paths[1].write_text(self.markdown())
        if draw:
            draw(paths[2])
        console.print(self.table())
        for note in self.notes:
            console.print(note, highlight=False)
        console.print(f"written: {', '.join(map(str, paths))}", highlight=False)


def sheet_of_figures(
    title: str,
    heads: Sequence[str],
    digits: Mapping[str, int],
    rows: Iterable[tuple[Sequence[str], Mapping[str, Figure | None]]],
    notes: Sequence[str],
) -> Sheet:
    """Columns of text under the `heads`, then one of figures, with so many `digits`, for each title there. `rows`: the words, and
    the figures by title."""
    lines = [
        [*words, *(cell(figures[column], count) for column, count in digits.items())]
        for words, figures in rows
    ]
    return Sheet(title, [*heads, *digits], range(len(heads)), lines, notes)


def all_doubts(measured: Iterable[tuple[str, list[str]]], failures: Iterable[str] = ()) -> list[str]:
    """Notes on what could not be measured, and on what should not be trusted: (what it was of, its doubts)."""
    lines = [f"DOUBT not measured: {failure}" for failure in failures]
    return lines + [f"DOUBT {where}: {doubt}" for where, doubts in measured for doubt in doubts]


def heading(title: str, machine: Machine, parameters: dict[str, Any]) -> dict[str, Any]:
    """What begins the JSON of every benchmark."""
    return {"title": title, "machine": asdict(machine), "parameters": parameters}


def with_doubts(measurement: Any) -> dict[str, Any]:
    """A measurement (a dataclass) for JSON."""
    return {**asdict(measurement), "doubts": measurement.doubts()}
