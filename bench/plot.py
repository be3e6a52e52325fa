"""The picture of a fan-out benchmark: CPU, memory and latency."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.report import Report
from bench.results import Row

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
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle("\n".join([report.title, *report.machine.lines()]), fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axis: Any, shown: list[Row], name: str, colours: dict[str, str]) -> None:
    """Medians, with whiskers from the least to the greatest where there were several runs."""
    players = sorted({row.players for row in shown})
    titles = list(dict.fromkeys(row.title for row in shown))
    width = 0.8 / len(titles)
    for number, title in enumerate(titles):
        own = [row for row in shown if row.title == title]
        at = [players.index(row.players) + (number - (len(titles) - 1) / 2) * width for row in own]
        figures = [getattr(row, name) for row in own]
        heights = [each.median for each in figures]
        spread = [
            [each.median - each.least for each in figures],
            [each.greatest - each.median for each in figures],
        ]
        bars = axis.bar(
            at,
            heights,
            width * 0.92,
            color=colours[title],
            label=title,
            yerr=spread if any(map(any, spread)) else None,
        )
        axis.bar_label(bars, fmt="%.3g", fontsize=7, padding=1)
    axis.set_xticks(range(len(players)), [f"{count} players" for count in players])
    axis.spines[["top", "right"]].set_visible(False)
