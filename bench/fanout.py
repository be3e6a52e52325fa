"""`python -m bench.fanout` (`make bench-fanout`): one live stream to many players, beside peers and the bare loop."""

import click

from bench.contenders import FANOUT_KINDS, floor_for, nginx_for
from bench.media import Case, Experiment
from bench.media_cli import Common, common_options, run_command
from bench.options import several
from bench.plot import Panel
from bench.results import Column, Measurement
from bench.stream import StreamShape

FLUSH_MS = (0, 20, 50, 100, 350)
_CPU = Column("CPU s/Gbit", Measurement.cpu_s_per_gbit, 3)
_COLUMNS: tuple[Column[Measurement], ...] = (
    _CPU,
    _CPU.against("× nginx", nginx_for),
    _CPU.against("× bare loop", floor_for),
    Column("p50 ms", lambda m, _: m.latency.p50_ms),
    Column("p99 ms", lambda m, _: m.latency.p99_ms),
    Column("p99.9 ms", lambda m, _: m.latency.p999_ms),
    Column("RSS MB", lambda m, group: m.usages[group].rss_mb),
    Column("CPU %", Measurement.cpu_percent, 0),
    Column("load CPU %", lambda m, _: max(m.load_percents), 0),
    Column("missing", lambda m, _: m.missing, 0),
)
_PANELS = (
    Panel("server CPU seconds per Gbit delivered", "CPU s/Gbit", of_groups=True),
    Panel("server memory (RSS), MB", "RSS MB", of_groups=True),
    Panel("delivery latency p50, ms", "p50 ms"),
    Panel("delivery latency p99, ms", "p99 ms"),
)
_REMARKS = (
    "× nginx and × bare loop: CPU per Gbit to theirs in the same run, the loop that gathers as long; below 1 is less",
    "bare loop: one shared buffer to all sockets, nothing parsed, no cluster: the floor of Python on this machine",
    "nginx-rtmp's out_cork holds video until the next audio message (23 ms at most), and joins no writes (bench/nginx.py)",
)


@click.command()
@several("--players", kind=click.IntRange(1), default=(100, 1000, 3000), about="Number of players")
@common_options(FANOUT_KINDS, FLUSH_MS, 15, 5, "fanout")
def main(players: tuple[int, ...], common: Common) -> None:
    """Send one synthetic 1 Mbit/s stream to many players through each server, and compare what it costs."""
    shape = StreamShape()
    cases = [Case(f"{count} players", shape, 1, count) for count in players]
    experiment = Experiment(f"Fan-out of one {shape.bit_s / 1e6:g} Mbit/s stream", "players", cases, _COLUMNS)
    run_command(experiment, FANOUT_KINDS, common, "fanout", _PANELS, _REMARKS)


if __name__ == "__main__":
    main()
