"""The pictures of the media benchmarks: some columns of the table as bars; and what other plots share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.figures import Figure
from bench.report import Report
from bench.results import Row

_FAMILIES = {"headwater": "Blues", "bare loop": "Greens", "nginx": "Greys", "": "Oranges"}
"""Colours by what a server's title begins with; later ones are darker."""
_BAR_INCHES = 0.2


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of a column. `of_groups`: whether process groups of a server differ in it; otherwise there is one bar for all."""

    title: str
    column: str
    of_groups: bool = False


def _colours(titles: Sequence[str]) -> dict[str, Any]:
    found = {}
    families = [next(family for family in _FAMILIES if title.startswith(family)) for title in titles]
    for number, (title, family) in enumerate(zip(titles, families, strict=True)):
        shade = 0.35 + 0.6 * families[:number].count(family) / max(1, families.count(family) - 1)
        found[title] = plt.get_cmap(_FAMILIES[family])(shade)
    return found


def write_plot(report: Report[Any], panels: Sequence[Panel], path: Path) -> None:
    """A PNG. Bars of one colour are one server (and process group); groups of bars are cases."""
    made = report.rows()
    cases = list(dict.fromkeys(row.case for row in made))
    colours = _colours(list(dict.fromkeys(row.title for row in made)))
    width = max(16, 2 * _BAR_INCHES * len(made))
    figure, axes = plt.subplots(2, 2, figsize=(width, 9), layout="constrained")
    for axis, panel in zip(axes.flat, panels, strict=True):
        _draw(
            axis, [row for row in made if row.group == "all" or panel.of_groups], panel.column, cases, colours
        )
        axis.set_title(panel.title, fontsize=10)
    finish(figure, [report.title, *report.machine.lines()], path)


def _draw(axis: Any, shown: list[Row], column: str, cases: Sequence[str], colours: dict[str, Any]) -> None:
    bars: dict[str, dict[str, Figure]] = {}
    for row in shown:
        figure = row.figures[column]
        if figure is not None:
            bars.setdefault(row.title, {})[row.case] = figure
    grouped_bars(axis, cases, bars, colours)
    axis.set_xticks(range(len(cases)), cases)


def grouped_bars(
    axis: Any, groups: Sequence[str], bars: Mapping[str, Mapping[str, Figure]], colours: Mapping[str, Any]
) -> None:
    """Medians by title and group, with whiskers from the least to the greatest where there were several runs."""
    width = 0.8 / max(1, len(bars))
    for number, (title, by_group) in enumerate(bars.items()):
        at = [groups.index(group) + (number - (len(bars) - 1) / 2) * width for group in by_group]
        figures = list(by_group.values())
        spread = [
            [each.median - each.least for each in figures],
            [each.greatest - each.median for each in figures],
        ]
        drawn = axis.bar(
            at,
            [each.median for each in figures],
            width * 0.92,
            color=colours[title],
            label=title,
            yerr=spread if any(map(any, spread)) else None,
        )
        axis.bar_label(drawn, fmt=short_number, fontsize=7, padding=1)
    axis.spines[["top", "right"]].set_visible(False)


def short_number(value: float) -> str:
    """Three digits: 0.214, 87.2, 5250, 177k."""
    return f"{value / 1000:.3g}k" if value >= 10_000 else f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def finish(figure: Any, title: Sequence[str], path: Path) -> None:
    """A legend for all panels, a title, the PNG."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle("\n".join(title), fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
