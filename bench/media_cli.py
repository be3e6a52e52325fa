"""What the commands of the media benchmarks have in common: options, preparation, what they write."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click
import psutil
from rich.console import Console

from bench.contenders import make_all, present
from bench.headwater import Headwater
from bench.media import Experiment, Timing, run_all
from bench.native_load import build
from bench.options import Decorate, flush_option, out_option, runs_option, seconds_option, three_files
from bench.plot import Panel, write_plot
from bench.processes import choose_cores, need_files
from bench.report import Report
from bench.results import Measurement
from bench.screen import ends_well, wide_console

_FILES_BESIDE_CLIENTS = 100


@dataclass(frozen=True, slots=True)
class Common:
    """The common options."""

    timing: Timing
    asked: tuple[str, ...]
    flush_ms: tuple[int, ...]
    out: Path


def common_options(
    kinds: Sequence[str], flush_ms: Sequence[int], seconds: float, runs: int, name: str
) -> Decorate:
    """The command gets them as one argument, `common`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def called(
            seconds: float, warm_up_s: float, runs: int, flush_ms: tuple[int, ...], asked: tuple[str, ...], out: Path,
            **own: Any,
        ) -> None:  # fmt: skip
            command(common=Common(Timing(seconds, warm_up_s, runs), asked, flush_ms, out), **own)

        made: Callable[..., None] = called
        for option in reversed(_options(kinds, flush_ms, seconds, runs, name)):
            made = option(made)
        return made

    return decorate


def _options(
    kinds: Sequence[str], flush_ms: Sequence[int], seconds: float, runs: int, name: str
) -> list[Decorate]:
    return [
        seconds_option(seconds, 3600),
        click.option(
            "--warm-up",
            "warm_up_s",
            type=click.FloatRange(3, 600),
            default=5,
            show_default=True,
            help="Seconds between the last player's start and the measured time; more than the 2 s between keyframes.",
        ),
        flush_option(*flush_ms),
        *plain_options(kinds, runs, name),
    ]


def plain_options(kinds: Sequence[str], runs: int, name: str) -> list[Decorate]:
    """`runs`, `asked` and `out`."""
    return [
        runs_option(runs),
        click.option(
            "--server",
            "asked",
            type=click.Choice(kinds),
            multiple=True,
            help="What to measure; may be given more than once [default: all; node-media-server where npm can install it].",
        ),
        out_option(three_files(name)),
    ]


def run_command(
    experiment: Experiment, kinds: Sequence[str], common: Common, name: str, panels: Sequence[Panel],
    remarks: Sequence[str] = (), cluster: type[Headwater] = Headwater, most_cores: int | None = None,
    conclude: Callable[[Report[Measurement]], list[str]] = lambda _: [],
) -> None:  # fmt: skip
    """Prepare, measure, write and show. `conclude`: remarks on what came out."""
    console = wide_console()
    out = common.out
    with ends_well():
        program = build()
        chosen, absent = present(common.asked, kinds)
        need_files(max(case.players + case.streams for case in experiment.cases) + _FILES_BESIDE_CLIENTS)
        cores = choose_cores(sorted(psutil.Process().cpu_affinity())[:most_cores])
        out.mkdir(parents=True, exist_ok=True)
        made = make_all(chosen, common.flush_ms, experiment.cases[0].shape, cluster)
        report = run_all(experiment, made, program, cores, common.timing, console, [*remarks, *absent])
    report.remarks.extend(conclude(report))
    deliver(report, panels, out, name, console)


def deliver(report: Report[Any], panels: Sequence[Panel], out: Path, name: str, console: Console) -> None:
    """Write it all and show the table; exit status 1 where something could not be measured."""
    report.sheet().deliver(out, name, report.data(), partial(write_plot, report, panels), console)
    if report.failures:
        raise SystemExit(1)
