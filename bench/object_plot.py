"""The picture of an object benchmark: changes, deliveries and latencies, by load and journal."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.object_report import ObjectReport
from bench.plot import finish, grouped_bars
from bench.results import Figure

_PANELS = (
    ("changes/s, all servers on one core", "changes_s"),
    ("deliveries/s, all servers on one core", "deliveries_s"),
    ("latency at half load, p50, ms", "half_p50_ms"),
    ("latency at half load, p99, ms", "half_p99_ms"),
)
_COLOURS = ("#6b7280", "#1d4ed8", "#b45309")


def write_plot(report: ObjectReport, path: Path) -> None:
    """A PNG. Bars of one colour are one journal; groups of bars are loads."""
    made = report.rows()
    loads = list(dict.fromkeys(f"{row.shape}\n{row.batch} a message" for row in made))
    titles = dict.fromkeys(f"journal: {row.store}" for row in made)
    colours = dict(zip(titles, _COLOURS, strict=False))
    figure, axes = plt.subplots(2, 2, figsize=(13, 8.5), layout="constrained")
    for axis, (title, name) in zip(axes.flat, _PANELS, strict=True):
        bars: dict[str, dict[str, Figure]] = {title: {} for title in titles}
        for row in made:
            bars[f"journal: {row.store}"][f"{row.shape}\n{row.batch} a message"] = getattr(row, name)
        grouped_bars(axis, loads, bars, colours)
        axis.set_xticks(range(len(loads)), loads, fontsize=8)
        axis.set_title(title, fontsize=10)
    finish(figure, [report.title, *report.machine.lines()], path)
