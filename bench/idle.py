"""`python -m bench.idle` (`make bench-idle`): what clients cost that are connected and do nothing, and how fast they connect."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import psutil
from rich.console import Console

from bench.contenders import PEERS, Make, make_all, nginx_for, present
from bench.errors import BenchError
from bench.headwater import Headwater
from bench.load import HELD_UNDER_WAY, MediaLoad
from bench.machine import describe
from bench.measure import Usage, UsageMeter, core_busy_s
from bench.media_cli import deliver, plain_options
from bench.native_load import build
from bench.opening import wait_for
from bench.options import several
from bench.plot import Panel
from bench.processes import Cores, choose_cores, need_files
from bench.report import Report
from bench.results import Column, core_doubts
from bench.screen import Screen, ends_well, wide_console
from bench.server import Server
from bench.stream import StreamShape

_FILES_BESIDE_CLIENTS = 100
_MOST_CLIENTS = 15_000
"""So many an edge takes."""
_FLUSH_MS = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, from the command line. `settle_s`: how long memory may come to rest before it is looked at."""

    clients: tuple[int, ...]
    settle_s: float
    runs: int


@dataclass(frozen=True, slots=True)
class IdleMeasurement:
    """`clients` are connected, the last `added` of them within `wall_s`. `usages`: CPU while they connected, memory afterwards;
    `rss_before_mb`: when nobody was connected."""

    case: str
    server: str
    run: int
    clients: int
    added: int
    wall_s: float
    usages: dict[str, Usage]
    rss_before_mb: dict[str, float]
    closed: int
    load_percent: float
    foreign_percent: float
    load_foreign_percent: float

    def rss_kb_each(self, group: str) -> float:
        """KB of 1,000 bytes."""
        return (self.usages[group].rss_mb - self.rss_before_mb[group]) * 1000 / self.clients

    def connects_s(self, group: str) -> float:
        """By the clock."""
        return self.added / self.wall_s

    def connects_per_cpu_s(self, group: str) -> float:
        """Of the group's CPU seconds."""
        return self.added / max(self.usages[group].cpu_s, 0.01)

    def doubts(self) -> list[str]:
        """Why this measurement should not be trusted, or what went wrong in it; empty for a good one."""
        found = core_doubts(
            self.load_percent, self.foreign_percent, self.load_foreign_percent, "connects a second"
        )
        if self.closed:
            found.append(f"{self.closed} clients were closed")
        return found


_KB = Column("RSS KB each", IdleMeasurement.rss_kb_each, 2)
_COLUMNS: tuple[Column[IdleMeasurement], ...] = (
    _KB,
    _KB.against("× nginx", nginx_for),
    Column("RSS MB", lambda m, group: m.usages[group].rss_mb),
    Column("connects/s", IdleMeasurement.connects_s, 0),
    Column("connects per CPU s", IdleMeasurement.connects_per_cpu_s, 0),
    Column("CPU %", lambda m, group: m.usages[group].cpu_s / m.wall_s * 100, 0),
    Column("load CPU %", lambda m, _: m.load_percent, 0),
    Column("closed", lambda m, _: m.closed, 0),
)
_PANELS = (
    Panel("server memory (RSS) for each idle client, KB", "RSS KB each", of_groups=True),
    Panel("connects per CPU second", "connects per CPU s", of_groups=True),
    Panel("connects a second, by the clock", "connects/s"),
    Panel("server memory (RSS), MB", "RSS MB", of_groups=True),
)
_REMARKS = (
    "RSS each: resident memory less that of the same processes before anyone had connected; what the kernel holds for sockets is "
    "not in it",
    f"connects: TCP, handshake and connect answered, of the clients that were added to the row above, {HELD_UNDER_WAY} at a time",
    "all of a server's processes share one core, so Headwater's connects/s are those of edge and origin on one core together",
)


class IdleCluster(Headwater):
    """Edge and origin told apart."""

    groups = ("edge", "origin", "all")


class _Measuring:
    def __init__(self, program: Path, plan: Plan, cores: Cores, screen: Screen) -> None:
        self._program, self._plan, self._cores, self._screen = program, plan, cores, screen

    def measure(self, server: Server, run: int) -> list[IdleMeasurement]:
        """More and more clients on one server. Raises BenchError with what its programs said last."""
        try:
            return self._measure(server, run)
        except (BenchError, psutil.Error) as error:
            text = "; ".join([f"{server.label}: {error}", *server.last_words(str(error))])
            raise BenchError(text, failed=True) from error

    def _measure(self, server: Server, run: int) -> list[IdleMeasurement]:
        plan, screen, load_core = self._plan, self._screen, self._cores.load[0]
        screen.step(f"{server.label}, run {run}: starting", 1)
        wait_for(server.target, server.check)
        made: list[IdleMeasurement] = []
        with MediaLoad(self._program, (load_core,), server.check) as load:
            load.watch(plan.settle_s, screen.step(f"{server.label}: settling", plan.settle_s))
            before = self._rss_mb(server)
            connected = 0
            for clients in sorted(plan.clients):
                added = clients - connected
                meter, busy_s = self._meter(server), core_busy_s(load_core)
                load.begin()
                progress = screen.step(f"{server.label}, run {run}: connecting", added)
                wall_s = load.hold(server.target, added, progress)
                _, usages, foreign_percent = meter.end()
                (load_percent,) = load.end().core_percents
                busy_percent = (core_busy_s(load_core) - busy_s) / wall_s * 100
                load.begin()
                load.watch(plan.settle_s, screen.step(f"{server.label}: settling", plan.settle_s))
                closed = load.end().total(lambda window: window.closed)
                after = self._rss_mb(server)
                connected = clients
                made.append(
                    IdleMeasurement(
                        case=f"{clients} clients",
                        server=server.label,
                        run=run,
                        clients=clients,
                        added=added,
                        wall_s=wall_s,
                        usages={
                            group: Usage(used.user_s, used.system_s, after[group])
                            for group, used in usages.items()
                        },
                        rss_before_mb=before,
                        closed=closed,
                        load_percent=load_percent,
                        foreign_percent=foreign_percent,
                        load_foreign_percent=max(0.0, busy_percent - load_percent),
                    )
                )
        return made

    def _meter(self, server: Server) -> UsageMeter:
        return UsageMeter({group: server.processes(group) for group in server.groups}, server.core)

    def _rss_mb(self, server: Server) -> dict[str, float]:
        return {group: usage.rss_mb for group, usage in self._meter(server).end()[1].items()}


def run_all(
    plan: Plan, made: Sequence[Make], program: Path, cores: Cores, console: Console, remarks: list[str]
) -> Report[IdleMeasurement]:
    """Every server, run after run (A B A B), each in fresh processes."""
    os.sched_setaffinity(0, cores.load)
    measurements: list[IdleMeasurement] = []
    settings: dict[str, dict[str, object]] = {}
    failures: list[str] = []
    with Screen(console, plan.runs * len(made)) as screen:
        measuring = _Measuring(program, plan, cores, screen)
        for run in range(1, plan.runs + 1):
            for make in made:
                try:
                    with make(cores.server) as server:
                        settings[server.label] = server.settings()
                        measurements += measuring.measure(server, run)
                except BenchError as error:
                    failures.append(f"run {run}, {error}")
                screen.next()
    measurements.sort(key=lambda each: each.clients)
    runs = "1 run" if plan.runs == 1 else f"median of {plan.runs} runs"
    return Report(
        title=f"Clients that are connected and do nothing, {runs}",
        first="clients",
        machine=describe(cores),
        parameters=asdict(plan),
        servers=settings,
        measurements=measurements,
        columns=_COLUMNS,
        remarks=remarks,
        failures=failures,
    )


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(plain_options(PEERS, 5, "idle")):
        command = option(command)
    return command


@click.command()
@several(
    "--clients",
    kind=click.IntRange(1, _MOST_CLIENTS),
    default=(1000, 5000, 15_000),
    about="Number of clients",
)
@click.option("--settle", "settle_s", type=click.FloatRange(0.5, 60), default=3, show_default=True)
@_options
def main(clients: tuple[int, ...], settle_s: float, runs: int, asked: tuple[str, ...], out: Path) -> None:
    """Connect more and more clients that do nothing, and tell what they cost."""
    console = wide_console()
    with ends_well():
        program = build()
        chosen, absent = present(asked, PEERS)
        need_files(max(clients) + _FILES_BESIDE_CLIENTS)
        cores = choose_cores(psutil.Process().cpu_affinity())
        out.mkdir(parents=True, exist_ok=True)
        made = make_all(chosen, (_FLUSH_MS,), StreamShape(), IdleCluster)
        report = run_all(Plan(clients, settle_s, runs), made, program, cores, console, [*_REMARKS, *absent])
    deliver(report, _PANELS, out, "idle", console)


if __name__ == "__main__":
    main()
