"""The picture of a benchmark of RTMPT."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.figures import Figure
from bench.plot import finish, grouped_bars
from bench.tunnel_plan import Role
from bench.tunnel_report import TunnelReport

_PANELS = (
    ("edge CPU seconds per Gbit of RTMP", "edge_cpu_s_per_gbit", (Role.PLAY, Role.PUBLISH)),
    ("latency from publisher to player, p99, ms", "latency_p99_ms", (Role.PLAY, Role.PUBLISH)),
    ("requests per CPU second of the edge", "requests_per_edge_cpu_s", (Role.ASK, Role.SAY)),
    ("edge CPU of an idle client, ms/s", "edge_ms_per_client_s", (Role.IDLE,)),
)
"""The first shows every transport and store: its legend is that of all."""
_COLOURS = ("#6b7280", "#1d4ed8", "#b45309")


def write_plot(report: TunnelReport, path: Path) -> None:
    """A PNG. Bars of one colour are one transport and store; groups of bars are loads."""
    made = report.rows()
    titles = sorted(dict.fromkeys(row.title for row in made), key=len)
    colours = dict(zip(titles, _COLOURS, strict=False))
    figure, axes = plt.subplots(2, 2, figsize=(13, 8.5), layout="constrained")
    for axis, (title, name, roles) in zip(axes.flat, _PANELS, strict=True):
        bars: dict[str, dict[str, Figure]] = {title: {} for title in titles}
        for row in made:
            if row.role in roles:
                bars[row.title][row.role.value] = getattr(row, name)
        groups = [role.value for role in roles if any(row.role is role for row in made)]
        grouped_bars(axis, groups, bars, colours)
        axis.set_xticks(range(len(groups)), groups)
        axis.set_title(title, fontsize=10)
    finish(figure, [report.title, *report.machine.lines()], path)
