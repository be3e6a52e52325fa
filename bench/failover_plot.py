"""The picture of a fail-over benchmark: the gap that each client saw, in each case."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.failover_cases import CASES, Case
from bench.failover_report import FIGURES, FailoverReport
from bench.plot import finish

_COLOURS = {"sqlite": "#1d4ed8", "redis": "#b45309", "none": "#15803d"}
_COLUMNS = 3
_BEFORE, _BOUND = "#9ca3af", "#b91c1c"


def write_plot(report: FailoverReport, path: Path) -> None:
    """A PNG: for each case the share of clients whose gap, as the case is judged, was not longer than so much, beside that before
    the fault, and the promised bounds."""
    shown = [case for case in CASES if any(each.case == case.name for each in report.results)]
    columns = min(len(shown), _COLUMNS)
    rows = -(-len(shown) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(max(7, 4.6 * columns), 1 + 3.4 * rows),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axis, case in zip(axes.flat, shown, strict=False):
        _panel(axis, case, report)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("share of clients")
    finish(
        figure,
        [report.title, "the gap that each client saw", *report.machine.lines()[:1]],
        path,
    )


def _panel(axis: Any, case: Case, report: FailoverReport) -> None:
    of_case = [each for each in report.results if each.case == case.name]
    before = [ms for each in of_case for ms in each.clients_calm_ms]
    axis.ecdf(before, color=_BEFORE, label="before")
    for store in dict.fromkeys(each.store for each in of_case):
        values = [ms for each in of_case if each.store == store for ms in each.clients_ms]
        axis.ecdf(values, color=_COLOURS[store], label=f"journal: {store}")
    for bound, style, name in (
        (case.median_ms, ":", "promised median"),
        (case.worst_ms, "--", "promised worst"),
    ):
        if bound is not None:
            axis.axvline(bound, color=_BOUND, linestyle=style, linewidth=1, label=name)
    axis.set_xscale("log")
    axis.set_xlim(5, 10_000)
    axis.set_xticks([10, 100, 1000, 10_000], ["10 ms", "100 ms", "1 s", "10 s"])
    axis.set_title(f"{case.name}: {case.about}", fontsize=8, wrap=True)
    axis.set_xlabel(FIGURES[case.figure])
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
