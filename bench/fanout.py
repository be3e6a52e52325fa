"""`python -m bench.fanout` (`make bench`): one live stream to many players, Headwater beside nginx-rtmp in the same run."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import psutil
from rich.console import Console

from bench import headwater, nginx
from bench.errors import BenchError
from bench.headwater import Headwater
from bench.load import FanoutLoad
from bench.machine import describe
from bench.measure import UsageMeter, core_busy_s
from bench.nginx import Nginx
from bench.plot import write_plot
from bench.processes import Cores, choose_cores, need_files
from bench.report import Report, markdown, table, write_json
from bench.results import Measurement, measurement
from bench.screen import Screen, ends_well, wide_console
from bench.server import Server
from bench.stream import StreamShape

_FILES_BESIDE_PLAYERS = 100
_KINDS = ("nginx", "headwater")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, from the command line."""

    kinds: tuple[str, ...]
    players: tuple[int, ...]
    seconds: float
    warm_up_s: float
    runs: int
    flush_ms: tuple[int, ...]
    sampled: int
    shape: StreamShape

    def servers(self) -> list[Callable[[int], Server]]:
        """What makes each server on a core, nginx first."""
        made: list[Callable[[int], Server]] = []
        if "nginx" in self.kinds:
            made.append(Nginx)
        if "headwater" in self.kinds:
            made += [partial(Headwater, flush_ms=flush_ms) for flush_ms in self.flush_ms]
        return made


def measure(server: Server, plan: Plan, players: int, run: int, cores: Cores, screen: Screen) -> Measurement:
    """One measurement of a server that was started for it alone. Raises BenchError with what its programs said last."""
    try:
        return _measure(server, plan, players, run, cores, screen)
    except BenchError as error:
        text = "; ".join([f"{server.label}: {error}", *server.last_words(str(error))])
        raise BenchError(text, failed=True) from error


def _measure(server: Server, plan: Plan, players: int, run: int, cores: Cores, screen: Screen) -> Measurement:
    name = f"{server.label}, {players} players, run {run}"
    screen.step(f"{name}: starting", 1)
    with FanoutLoad(server.target, server.play_targets, plan.shape, players, plan.sampled, cores) as load:
        load.publish(server.check)
        load.play(screen.step(f"{name}: opening players", players), server.check)
        load.watch(plan.warm_up_s, screen.step(f"{name}: warming up, s", round(plan.warm_up_s)), server.check)
        busy_s = {core: core_busy_s(core) for core in cores.load}
        meter = UsageMeter({group: server.processes(group) for group in server.groups}, cores.server)
        load.begin()
        load.watch(plan.seconds, screen.step(f"{name}: measuring, s", round(plan.seconds)), server.check)
        usage = meter.end()
        seen = load.end()
        foreign = [
            max(0.0, (core_busy_s(core) - busy_s[core]) / usage[0] * 100 - own)
            for core, own in zip(cores.load, seen.core_percents, strict=True)
        ]
    try:
        return measurement(server.label, players, run, usage, seen, max(foreign))
    except ValueError as error:
        raise BenchError(str(error), failed=True) from error


def run_all(plan: Plan, cores: Cores, console: Console) -> Report:
    """Every server with every number of players, run after run, each in fresh processes."""
    os.sched_setaffinity(0, cores.load)
    made = plan.servers()
    measurements: list[Measurement] = []
    settings: dict[str, dict[str, object]] = {}
    with Screen(console, plan.runs * len(plan.players) * len(made)) as screen:
        for run in range(1, plan.runs + 1):
            for players in plan.players:
                for make in made:
                    with make(cores.server) as server:
                        settings[server.label] = server.settings()
                        measurements.append(measure(server, plan, players, run, cores, screen))
                    screen.next()
    shape = plan.shape
    parameters = {
        "players": plan.players,
        "seconds": plan.seconds,
        "warm_up_s": plan.warm_up_s,
        "runs": plan.runs,
        "bit_s": shape.bit_s,
        "messages_s": round(shape.messages_s, 2),
        "gop_frames": shape.gop_frames,
        "sampled_players": plan.sampled,
    }
    runs = "1 run" if plan.runs == 1 else f"median of {plan.runs} runs"
    title = f"Fan-out of one {shape.bit_s / 1e6:g} Mbit/s stream, {plan.seconds:g} s measured, {runs}"
    reference = Nginx.label if "nginx" in plan.kinds else None
    return Report(title, describe(cores), parameters, settings, measurements, reference)


def prepare(plan: Plan) -> Cores:
    """Check what can be checked before anything is started. Raises BenchError."""
    for kind, module in zip(_KINDS, (nginx, headwater), strict=True):
        if kind in plan.kinds:
            module.check_installed()
    need_files(max(plan.players) + _FILES_BESIDE_PLAYERS)
    return choose_cores(psutil.Process().cpu_affinity())


@click.command()
@click.option(
    "--players",
    type=click.IntRange(1),
    multiple=True,
    default=(300, 1000),
    show_default=True,
    help="Number of players; may be given more than once.",
)
@click.option(
    "--seconds", type=click.FloatRange(1, 3600), default=20, show_default=True, help="Measured time."
)
@click.option(
    "--warm-up",
    "warm_up_s",
    type=click.FloatRange(3, 600),
    default=5,
    show_default=True,
    help="Seconds between the last player's start and the measured time; more than the 2 s between keyframes.",
)
@click.option("--runs", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--flush-ms",
    type=click.IntRange(0, 1000),
    multiple=True,
    default=(20,),
    show_default=True,
    help="Headwater's --flush-ms; may be given more than once.",
)
@click.option(
    "--server",
    "kinds",
    type=click.Choice(_KINDS),
    multiple=True,
    default=_KINDS,
    show_default=True,
    help="What to measure; may be given more than once.",
)
@click.option(
    "--sampled",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="How many players read whole messages, for latencies and gaps.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bench/out"),
    show_default=True,
    help="Folder for fanout.json, fanout.md and fanout.png.",
)
def main(
    players: tuple[int, ...], seconds: float, warm_up_s: float, runs: int, flush_ms: tuple[int, ...],
    kinds: tuple[str, ...], sampled: int, out: Path,
) -> None:  # fmt: skip
    """Send one synthetic 1 Mbit/s stream to many players through Headwater and through nginx-rtmp, and compare what it costs."""
    plan = Plan(kinds, players, seconds, warm_up_s, runs, flush_ms, sampled, StreamShape())
    console = wide_console()
    with ends_well():
        cores = prepare(plan)
        out.mkdir(parents=True, exist_ok=True)
        report = run_all(plan, cores, console)
    write_json(report, out / "fanout.json")
    (out / "fanout.md").write_text(markdown(report))
    write_plot(report, out / "fanout.png")
    console.print(table(report))
    for note in report.notes():
        console.print(note, highlight=False)
    console.print(f"written: {out}/fanout.json, {out}/fanout.md, {out}/fanout.png", highlight=False)


if __name__ == "__main__":
    main()
