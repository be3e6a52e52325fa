"""The picture of a fan-out benchmark: CPU, memory and latency."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.report import Report
from bench.results import Figure, Row

_PANELS = (
    ("server CPU seconds per Gbit delivered", "cpu_s_per_gbit", False),
    ("server memory (RSS), MB", "rss_mb", False),
    ("delivery latency p50, ms", "latency_p50_ms", True),
    ("delivery latency p99, ms", "latency_p99_ms", True),
)
"""Title, field of Row, and whether it is the server's as a whole, so that its process groups do not differ."""
_COLOURS = ("#6b7280", "#93c5fd", "#1d4ed8", "#86efac", "#15803d", "#fcd34d", "#b45309")


def write_plot(report: Report, path: Path) -> None:
    """A PNG. Bars of one colour are one server (and process group); groups of bars are numbers of players."""
    made = report.rows()
    titles = list(dict.fromkeys(row.title for row in made))
    colours = {title: _COLOURS[number % len(_COLOURS)] for number, title in enumerate(titles)}
    figure, axes = plt.subplots(2, 2, figsize=(13, 8.5), layout="constrained")
    for axis, (title, name, whole) in zip(axes.flat, _PANELS, strict=True):
        _panel(axis, [row for row in made if row.group == "all" or not whole], name, colours)
        axis.set_title(title, fontsize=10)
    finish(figure, [report.title, *report.machine.lines()], path)


def _panel(axis: Any, shown: list[Row], name: str, colours: dict[str, str]) -> None:
    players = [str(count) for count in sorted({row.players for row in shown})]
    bars: dict[str, dict[str, Figure]] = {}
    for row in shown:
        bars.setdefault(row.title, {})[str(row.players)] = getattr(row, name)
    grouped_bars(axis, players, bars, colours)
    axis.set_xticks(range(len(players)), [f"{count} players" for count in players])


def grouped_bars(
    axis: Any, groups: Sequence[str], bars: Mapping[str, Mapping[str, Figure]], colours: Mapping[str, str]
) -> None:
    """Medians by title and group, with whiskers from the least to the greatest where there were several runs."""
    width = 0.8 / len(bars)
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
