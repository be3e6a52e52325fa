"""`python -m bench.tunnels` (`make bench-tunnels`): what RTMPT costs an edge, beside RTMP in the same run."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import psutil
from rich.console import Console

from bench import headwater, tunnel_clients
from bench.client_load import ClientLoad
from bench.errors import BenchError
from bench.machine import describe
from bench.measure import UsageMeter, core_busy_s
from bench.options import out_option, runs_option, seconds_option, several, three_files
from bench.processes import Cores, choose_cores, need_files
from bench.screen import Screen, ends_well, wide_console
from bench.session import Target
from bench.store_cluster import StoreCluster, find_redis
from bench.stream import StreamShape
from bench.tunnel_plan import Role, TunnelPlan, TunnelWindow
from bench.tunnel_plot import write_plot
from bench.tunnel_report import TunnelReport
from bench.tunnel_results import REFERENCE, TunnelMeasurement

STORES = ("sqlite", "redis")
_FILES_BESIDE_CLIENTS = 100
_MOST_CLIENTS = 900
"""An edge takes 1,000 of one address."""
_ABOUT = {
    Role.ASK: "each client asks for what there is as soon as it is answered; nothing is stored",
    Role.SAY: "each client says 16 bytes as soon as it is answered; every request is stored",
    Role.IDLE: "clients that are connected and do nothing; by RTMPT they ask when the server's poll byte says so",
    Role.PLAY: "one stream of 1 Mbit/s, published by RTMP; players by RTMPT ask again as soon as they are answered",
    Role.PUBLISH: "a stream of 1 Mbit/s each; one of them has a player, by RTMP",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, from the command line. `clients` by role."""

    clients: dict[Role, int]
    stores: tuple[str, ...]
    seconds: float
    warm_up_s: float
    runs: int
    shape: StreamShape

    def cases(self, store: str) -> Iterator[tuple[Role, str]]:
        """Loads and transports on one store: what uses none is measured on the first one only."""
        first = store == self.stores[0]
        for role in self.clients:
            if first and role not in (Role.ASK, Role.SAY):
                yield role, REFERENCE
            if first or role in (Role.SAY, Role.PLAY, Role.PUBLISH):
                yield role, "rtmpt"


class _Measuring:
    """The loads on one cluster."""

    def __init__(self, server: StoreCluster, plan: Plan, run: int, cores: Cores, screen: Screen) -> None:
        self._server, self._plan, self._run = server, plan, run
        self._cores, self._screen = cores, screen
        self._nobody_percent = 0.0

    def nobody(self) -> None:
        """Find out what the edge uses when it has no client."""
        with self._load(Role.IDLE, REFERENCE, 1, "") as load:
            load.open(lambda _: None, self._server.check)  # Then it is there.
        meter = self._meter()
        self._screen.step(f"{self._server.label}, nobody", 1)
        time.sleep(self._plan.seconds)
        wall_s, usages, _ = meter.end()
        self._nobody_percent = usages["edge"].cpu_s / wall_s * 100

    def measure(self, role: Role, transport: str) -> TunnelMeasurement:
        """One load by one transport. Raises BenchError with what the server's programs said last."""
        server = self._server
        name = f"{role.value}, {transport}, {server.journal}, run {self._run}"
        try:
            return self._measure(role, transport, name)
        except BenchError as error:
            text = "; ".join([f"{name}: {error}", *server.last_words(str(error))])
            raise BenchError(text, failed=True) from error

    def _measure(self, role: Role, transport: str, name: str) -> TunnelMeasurement:
        server, plan, screen, core = self._server, self._plan, self._screen, self._cores.load[0]
        clients = plan.clients[role]
        # A name of its own for each load, so that none finds what another has left.
        stream = f"{role.value}-{transport}-{self._run}"
        with ExitStack() as loads:
            main = self._load(role, transport, clients, stream if role is not Role.PLAY else f"{stream}-0")
            opened = [main]
            if role is Role.PLAY:
                opened.insert(0, self._load(Role.PUBLISH, REFERENCE, 1, stream))
            elif role is Role.PUBLISH:
                opened.append(self._load(Role.PLAY, REFERENCE, 1, f"{stream}-0"))
            for load in opened:
                loads.enter_context(load)
                load.open(screen.step(f"{name}: opening clients", clients), server.check)
            main.watch(plan.warm_up_s, screen.step(f"{name}: warming up, s", plan.warm_up_s), server.check)
            busy_s, meter = core_busy_s(core), self._meter()
            for load in opened:
                load.begin()
            main.watch(plan.seconds, screen.step(f"{name}: measuring, s", plan.seconds), server.check)
            for load in opened:
                load.end()
            wall_s, usages, foreign_percent = meter.end()
            busy_s = core_busy_s(core) - busy_s
            seen = {load: load.window() for load in opened}
        load_cpu_s = sum(window.cpu_s for window in seen.values())
        return TunnelMeasurement(
            role=role,
            transport=transport,
            store=server.journal,
            run=self._run,
            clients=clients,
            wall_s=wall_s,
            usages=usages,
            nobody_percent=self._nobody_percent,
            foreign_percent=foreign_percent,
            load_foreign_percent=max(0.0, (busy_s - load_cpu_s) / wall_s * 100),
            seen=seen.pop(main),
            beside=next(iter(seen.values()), None),
        )

    def _load(self, role: Role, transport: str, clients: int, stream: str) -> ClientLoad[TunnelWindow]:
        target = self._server.target
        plan = TunnelPlan(
            target=Target(target.host, target.port, target.app, stream),
            tunnelled=transport != REFERENCE,
            role=role,
            clients=clients,
            shape=self._plan.shape,
            core=self._cores.load[0],
        )
        return ClientLoad(tunnel_clients.run, plan)

    def _meter(self) -> UsageMeter:
        server = self._server
        return UsageMeter({group: server.processes(group) for group in server.groups}, self._cores.server)


def run_all(plan: Plan, cores: Cores, console: Console) -> TunnelReport:
    """Every load by every transport, run after run, each run and store in fresh processes."""
    os.sched_setaffinity(0, cores.load)
    measurements: list[TunnelMeasurement] = []
    settings: dict[str, dict[str, object]] = {}
    total = plan.runs * sum(len(list(plan.cases(store))) for store in plan.stores)
    with Screen(console, total) as screen:
        for run in range(1, plan.runs + 1):
            for store in plan.stores:
                with StoreCluster(cores.server, store, 1) as server:
                    settings[store] = server.settings()
                    measuring = _Measuring(server, plan, run, cores, screen)
                    measuring.nobody()
                    for role, transport in plan.cases(store):
                        measurements.append(measuring.measure(role, transport))
                        screen.next()
    roles = list(plan.clients)
    measurements.sort(key=lambda each: roles.index(each.role))
    parameters = {
        "clients": {role.value: count for role, count in plan.clients.items()},
        "stores": plan.stores,
        "seconds": plan.seconds,
        "warm_up_s": plan.warm_up_s,
        "runs": plan.runs,
    }
    runs = "1 run" if plan.runs == 1 else f"median of {plan.runs} runs"
    return TunnelReport(
        f"RTMPT beside RTMP, {plan.seconds:g} s measured, {runs}",
        describe(cores),
        parameters,
        {role.value: _ABOUT[role] for role in plan.clients},
        settings,
        measurements,
    )


def prepare(plan: Plan) -> Cores:
    """Check what can be checked before anything is started. Raises BenchError."""
    headwater.check_installed()
    if "redis" in plan.stores:
        find_redis()
    need_files(max(plan.clients.values()) + _FILES_BESIDE_CLIENTS)
    return choose_cores(psutil.Process().cpu_affinity())


def _count(role: Role, default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option; 0 leaves the load out."""
    return click.option(
        f"--{role.value}",
        type=click.IntRange(0, _MOST_CLIENTS),
        default=default,
        show_default=True,
        help=f"Clients of this load, 0 leaves it out: {_ABOUT[role]}.",
    )


@click.command()
@_count(Role.ASK, 50)
@_count(Role.SAY, 50)
@_count(Role.IDLE, 500)
@_count(Role.PLAY, 40)
@_count(Role.PUBLISH, 20)
@several("--store", "stores", kind=click.Choice(STORES), default=STORES, about="Where RTMPT sessions are")
@seconds_option(5)
@click.option("--warm-up", "warm_up_s", type=click.FloatRange(0.5, 60), default=3, show_default=True)
@runs_option(3)
@out_option(three_files("tunnels"))
def main(
    stores: tuple[str, ...], seconds: float, warm_up_s: float, runs: int, out: Path, **counts: int
) -> None:
    """Say what the requests, the idle clients and the streams of RTMPT cost an edge, and the same by RTMP."""
    clients = {role: counts[role.value] for role in Role if counts[role.value]}
    plan = Plan(clients, stores, seconds, warm_up_s, runs, StreamShape())
    console = wide_console()
    with ends_well():
        if not clients:
            raise BenchError("every load has 0 clients: there is nothing to measure")
        cores = prepare(plan)
        out.mkdir(parents=True, exist_ok=True)
        report = run_all(plan, cores, console)
    report.sheet().deliver(out, "tunnels", report.data(), partial(write_plot, report), console)


if __name__ == "__main__":
    main()
