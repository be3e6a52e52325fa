"""Numbers over the runs of a benchmark: how they are summed up, and how they are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from bench.measure import ratio


@dataclass(frozen=True, slots=True)
class Figure:
    """A number over all runs: median, least, greatest, and the median ratio to the reference of the same run."""

    median: float
    least: float
    greatest: float
    ratio: float | None = None


def ratios(values: Mapping[int, float], references: Mapping[int, float]) -> dict[int, float]:
    """By run: a value in units of the reference's, where that took part and is not 0."""
    found = {run: ratio(value, references[run]) for run, value in values.items() if run in references}
    return {run: each for run, each in found.items() if each is not None}


def over_runs(values: Mapping[int, float], references: Mapping[int, float] | None = None) -> Figure:
    """Of values by run, one at least; `references`, too."""
    compared = ratios(values, references or {}).values()
    of_runs = values.values()
    return Figure(median(of_runs), min(of_runs), max(of_runs), median(compared) if compared else None)


def cell(figure: Figure | None, digits: int) -> str:
    """`0.21 (0.75×)`; with several runs the range too: `0.21 [0.20–0.23] (0.75×)`; nothing of none."""
    if figure is None:
        return ""
    text = f"{figure.median:.{digits}f}"
    if figure.least != figure.greatest:
        text += f" [{figure.least:.{digits}f}–{figure.greatest:.{digits}f}]"
    return text if figure.ratio is None else f"{text} ({figure.ratio:.2f}×)"
