"""What a window cost and brought: CPU and memory of process groups, percentiles, ratios."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process group in one window: CPU seconds (user, system) and resident memory at its end, in MB of 10^6 bytes."""

    user_s: float
    system_s: float
    rss_mb: float

    @property
    def cpu_s(self) -> float:
        """User and system."""
        return self.user_s + self.system_s


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    user_s: dict[str, float]
    system_s: dict[str, float]
    rss_mb: dict[str, float]
    core_busy_s: float


class UsageMeter:
    """CPU and memory of process groups between two looks, and what others used of the same core (None: of all) meanwhile.

    `on_core` is the group of everything that this benchmark runs on `core`; the largest where it is not named.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[psutil.Process]], core: int | None, on_core: str | None = None
    ) -> None:
        self._groups, self._core, self._on_core = groups, core, on_core
        self._first = self._look()

    def _look(self) -> _Sample:
        user, system, rss = {}, {}, {}
        for name, processes in self._groups.items():
            times = [process.cpu_times() for process in processes]
            user[name] = sum(each.user for each in times)
            system[name] = sum(each.system for each in times)
            rss[name] = sum(process.memory_info().rss for process in processes) / _MB
        return _Sample(time.monotonic(), user, system, rss, core_busy_s(self._core))

    def end(self) -> tuple[float, dict[str, Usage], float]:
        """(wall seconds, usage of each group, percent of the core that went to others)."""
        first, last = self._first, self._look()
        usages = {
            name: Usage(
                last.user_s[name] - first.user_s[name],
                last.system_s[name] - first.system_s[name],
                last.rss_mb[name],
            )
            for name in self._groups
        }
        wall_s = last.at_s - first.at_s
        counted = usages if self._on_core is None else {self._on_core: usages[self._on_core]}
        own_s = max((usage.cpu_s for usage in counted.values()), default=0.0)
        foreign_s = max(0.0, last.core_busy_s - first.core_busy_s - own_s)
        return wall_s, usages, foreign_s / wall_s * 100


def core_busy_s(core: int | None) -> float:
    """Seconds that a core, or all together, was not idle since the machine started."""
    times = psutil.cpu_times() if core is None else psutil.cpu_times(percpu=True)[core]
    return float(sum(times[:8]) - times.idle - times.iowait)


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear between the two nearest ranks, as numpy's default. Raises ValueError for no values."""
    if not values:
        raise ValueError("the percentile of nothing")
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def ratio(value: float, reference: float) -> float | None:
    """`value` in units of `reference`; None where that has no meaning."""
    return value / reference if reference > 0 else None


def gigabits(bytes_count: int) -> float:
    """10^9 bits."""
    return bytes_count * 8 / 1e9
