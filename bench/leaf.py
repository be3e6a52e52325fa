"""`python -m bench.leaf`: the leaf modules of libs/amf and libs/rtmp, as pure Python and compiled, turn and turn about."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median

import click
import psutil

from bench.errors import BenchError
from bench.machine import describe
from bench.options import out_option, runs_option
from bench.processes import choose_cores, on_core
from bench.screen import Screen, ends_well, wide_console
from bench.sheet import Sheet

_ROOT = Path(__file__).parents[1]
_COMPILED = _ROOT / "build" / "compiled"
_COLUMNS = ("operation", "pure Python, ns", "compiled, ns", "times as fast")


def measure(compiled: bool, seconds: float, core: int) -> dict[str, float]:
    """Nanoseconds by operation, in a process of its own. Raises BenchError when that is another build."""
    build = "compiled" if compiled else "pure Python"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if compiled:
        env["PYTHONPATH"] = str(_COMPILED)
    command = [sys.executable, "-m", "bench.leaf_cases", str(seconds)]
    with on_core(core):
        ran = subprocess.run(command, cwd=_ROOT, env=env, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise BenchError(
            f"the measuring process ended with status {ran.returncode}: {ran.stderr}", failed=True
        )
    found = json.loads(ran.stdout)
    if found["build"] != build:
        raise BenchError(f"the build that runs is {found['build']}, expected {build}: make compiled")
    times: dict[str, float] = found["ns"]
    return times


def cells(name: str, runs: list[dict[str, dict[str, float]]]) -> tuple[str, ...]:
    """Of one operation: medians over the runs, and the median of each run's ratio."""
    pure = [run["pure"][name] for run in runs]
    compiled = [run["compiled"][name] for run in runs]
    ratio = median(slow / fast for slow, fast in zip(pure, compiled, strict=True))
    return name, f"{median(pure):,.0f}", f"{median(compiled):,.0f}", f"{ratio:.1f}"


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(0.01, 10), default=0.1, show_default=True, help="Of each measurement."
)
@runs_option(5)
@out_option("leaf.json and leaf.md")
def main(seconds: float, runs: int, out: Path) -> None:
    """Time what runs for each message, in both builds."""
    console = wide_console()
    cores = choose_cores(psutil.Process().cpu_affinity())
    found: list[dict[str, dict[str, float]]] = []
    with ends_well(), Screen(console, runs * 2) as screen:
        for _ in range(runs):
            found.append({})
            for name in ("pure", "compiled"):
                screen.step(name, 1)
                found[-1][name] = measure(name == "compiled", seconds, cores.server)
                screen.next()
    machine = describe(cores)
    title = f"CPU time of one operation, medians of {runs} runs"
    rows = [cells(name, found) for name in found[0]["pure"]]
    out.mkdir(parents=True, exist_ok=True)
    sheet = Sheet(title, _COLUMNS, (0,), rows, machine.lines()[:1], sections=False)
    sheet.deliver(out, "leaf", {"machine": asdict(machine), "runs": found}, None, console)


if __name__ == "__main__":
    main()
