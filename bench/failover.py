"""`python -m bench.failover` (`make bench-failover`): what clients see while origins die, hang and move."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import psutil
from rich.console import Console

from bench import headwater
from bench.errors import BenchError
from bench.failover_cases import CASES, Case, Stage
from bench.failover_cluster import EDGES, ORIGINS, FailoverCluster
from bench.failover_feed import Feed
from bench.failover_layout import MEMBERS, failover_clients
from bench.failover_load import FailoverLoad
from bench.failover_plot import write_plot
from bench.failover_report import FailoverReport
from bench.failover_results import CaseResult, Seen, case_result
from bench.machine import describe
from bench.measure import UsageMeter
from bench.object_layout import ClientSpec, schedule
from bench.object_plan import ObjectPlan
from bench.options import out_option, runs_option, several, three_files
from bench.processes import Cores, need_files
from bench.screen import Screen, ends_well, wide_console
from bench.store_cluster import STORES, find_redis

_FILES_BESIDE_CLIENTS = 200
_WARM_UP_S = 3.0
_CALM_S = 4.0
"""Of the window, before something is done."""
_NAMES = [case.name for case in CASES]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, from the command line. `logs`: see FailoverCluster."""

    cases: tuple[Case, ...]
    stores: tuple[str, ...]
    groups: int
    interval_ms: float
    runs: int
    logs: Path | None

    def pace(self, case: Case) -> int:
        """Messages of the busy writer for one of any other."""
        return 1 if case.busy_hz is None else max(1, round(case.busy_hz * self.interval_ms / 1000))

    def rate(self, clients: list[ClientSpec]) -> float:
        """Messages a second of all writers together."""
        return len(schedule(clients)) / self.interval_ms * 1000


def play(cluster: FailoverCluster, plan: Plan, case: Case, run: int, screen: Screen) -> CaseResult:
    """One case on a cluster that was started for it. Raises BenchError with what its programs said last."""
    clients = failover_clients(plan.groups, EDGES, plan.pace(case))
    name = f"{cluster.label}, {case.name}, run {run}"
    target = cluster.target
    load_plan = ObjectPlan(
        host=target.host, ports=cluster.edge_ports, app=target.app, clients=clients, window=1,
        persistent=True, core=None,
    )  # fmt: skip
    try:
        cluster.await_registered("balancer")
        cluster.await_registered("origin", ORIGINS)
        everything = f"{target.app}/*"
        if case.gathered:
            cluster.order("pin", everything, cluster.origins[0])
        with FailoverLoad(load_plan) as load, Feed(cluster.registry) as feed:
            load.open(screen.step(f"{name}: opening clients", len(clients)), cluster.check)
            # From here on nothing moves but what the case moves.
            cluster.order("pause")
            if case.gathered:
                cluster.order("unpin", everything)
            load.start(plan.rate(clients))
            load.watch(_WARM_UP_S, screen.step(f"{name}: warming up, s", _WARM_UP_S), cluster.check)
            meter = UsageMeter({group: cluster.processes(group) for group in cluster.groups}, None)
            begun_ns = time.monotonic_ns()
            load.begin()
            load.watch(_CALM_S, screen.step(f"{name}: before, s", _CALM_S), cluster.check)
            calm_s, usages, foreign_percent = meter.end()
            stage = Stage(
                cluster,
                target.app,
                lambda seconds: load.watch(seconds, screen.step(name, seconds), cluster.check),
                load.send_each,
            )
            case.play(stage)
            load.end()
            window = load.window()
    except BenchError as error:
        text = "; ".join([f"{name}: {error}", *cluster.last_words(str(error))])
        raise BenchError(text, failed=True) from error
    foreign_percent = max(0.0, foreign_percent - window.cpu_s / window.wall_s * 100)
    seen = Seen(begun_ns, stage.faults, feed.told, calm_s, usages, foreign_percent)
    return case_result(case, cluster.journal, run, target.app, clients, seen, window)


def run_all(plan: Plan, console: Console) -> FailoverReport:
    """Every case with every journal, run after run, each in fresh processes."""
    results: list[CaseResult] = []
    settings: dict[str, dict[str, object]] = {}
    with Screen(console, plan.runs * len(plan.stores) * len(plan.cases)) as screen:
        for run in range(1, plan.runs + 1):
            for store in plan.stores:
                for case in plan.cases:
                    logs = plan.logs and plan.logs / f"{case.name}-{store}-{run}"
                    with FailoverCluster(store, logs) as cluster:
                        settings[store] = cluster.settings()
                        results.append(play(cluster, plan, case, run, screen))
                    screen.next()
    parameters = {
        "cases": [case.name for case in plan.cases],
        "stores": plan.stores,
        "groups": plan.groups,
        "members": MEMBERS,
        "interval_ms": plan.interval_ms,
        "runs": plan.runs,
    }
    cores = psutil.Process().cpu_affinity()
    runs = "1 run" if plan.runs == 1 else f"{plan.runs} runs"
    return FailoverReport(
        f"Fail-over of {plan.groups} groups with {plan.groups * MEMBERS} sessions on {ORIGINS} origins and {EDGES} edges, "
        f"a change every {plan.interval_ms:g} ms in each group, {runs}",
        describe(Cores(cores[0], tuple(cores))),
        parameters,
        settings,
        results,
    )


def prepare(plan: Plan) -> None:
    """Check what can be checked before anything is started. Raises BenchError."""
    headwater.check_installed()
    if "redis" in plan.stores:
        find_redis()
    need_files(plan.groups * MEMBERS + _FILES_BESIDE_CLIENTS)


@click.command()
@several(
    "--case",
    "names",
    kind=click.Choice(_NAMES),
    default=_NAMES,
    about="; ".join(f"{case.name}: {case.about}" for case in CASES),
)
@several(
    "--store",
    "stores",
    kind=click.Choice([store for store in STORES if store != "none"]),
    default=("sqlite",),
    about="Where the journal is",
)
@click.option("--groups", type=click.IntRange(ORIGINS, 10_000), default=500, show_default=True)
@click.option(
    "--interval-ms",
    type=click.FloatRange(1, 10_000),
    default=1000,
    show_default=True,
    help="Between two changes of one group.",
)
@runs_option(3)
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder in which to leave what the servers say, at level info.",
)
@out_option(three_files("failover"))
def main(
    names: tuple[str, ...], stores: tuple[str, ...], groups: int, interval_ms: float, runs: int, logs: Path | None,
    out: Path,
) -> None:  # fmt: skip
    """Break a cluster under load and tell what each client saw of it. Exit status 1 when a bound was missed."""
    plan = Plan(tuple(case for case in CASES if case.name in names), stores, groups, interval_ms, runs, logs)
    console = wide_console()
    with ends_well():
        prepare(plan)
        out.mkdir(parents=True, exist_ok=True)
        report = run_all(plan, console)
    report.sheet().deliver(out, "failover", report.data(), partial(write_plot, report), console)
    if any(row.missed for row in report.rows()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
