"""The media benchmarks' parts that need no cluster: a measurement of the bare loop, who takes part, the figures' arithmetic."""

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench import contenders, idle, node_media
from bench.contenders import FANOUT_KINDS, Make, make_all, present
from bench.errors import BenchError
from bench.floor import Floor
from bench.headwater import Headwater
from bench.idle import IdleMeasurement, Plan
from bench.machine import describe
from bench.measure import Usage, UsageMeter
from bench.media import Case, Experiment, Timing, run_all
from bench.native_build import build
from bench.nginx import Nginx
from bench.processes import Program, choose_cores
from bench.publishers import SplitCluster, cpu_ms_of_a_stream, largest, ran_well, streams_of_a_core
from bench.report import Report
from bench.results import Column, CoreUse, Measurement, Spread
from bench.rooms import own_percent
from bench.stream import StreamShape

SHAPE = StreamShape()
NONE = Spread(0, 0, 0, 0)
GOOD = Measurement(
    case="100 publishers",
    server="headwater, 20 ms",
    run=1,
    streams=100,
    players=10,
    wall_s=10.0,
    usages={"edge": Usage(1.0, 1.0, 50.0), "all": Usage(2.0, 2.0, 150.0)},
    delivered_gbit=0.1,
    messages=7300,
    latency=Spread(20, 40, 50, 60),
    gap=NONE,
    lag=Spread(0, 1, 1, 1),
    missing=0,
    disordered=0,
    closed=0,
    short_players=0,
    bytes_least=1,
    bytes_median=1,
    backlog_bytes=0,
    load_percents=(20.0,),
    cores=CoreUse(0, 0, 50),
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("rtmp_load", tmp_path_factory.mktemp("build"))


CORES = choose_cores(sorted(os.sched_getaffinity(0)))


class Broken(Floor):
    """Its process ends at once."""

    def start(self) -> None:
        self._every_ms = "never"  # type: ignore[assignment]
        super().start()


class Absent(Floor):
    """Its program is not there."""

    def start(self) -> None:
        self.add(Program("nobody", [str(self.folder / "nowhere")], self.folder, self.core), "all")


def measured(program: Path, *made: Make) -> Report[Measurement]:
    columns: tuple[Column[Measurement], ...] = (Column("messages", lambda m, _: m.messages),)
    experiment = Experiment("Bare", "players", [Case("5 players", SHAPE, 1, 5)], columns)
    timing = Timing(seconds=1.0, warm_up_s=2.5, runs=1)
    before = os.sched_getaffinity(0)
    try:
        return run_all(experiment, made, program, CORES, timing, Console(file=io.StringIO()), [])
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("every_ms", [0, 20])
def test_players_of_the_bare_loop_miss_nothing(program: Path, every_ms: int) -> None:
    report = measured(program, lambda core: Floor(core, every_ms, SHAPE))
    (made,) = report.measurements
    assert (made.players, made.missing, made.disordered, made.closed) == (5, 0, 0, 0)
    assert made.messages > 0
    assert made.usages["all"].rss_mb > 1
    assert report.title == "Bare, 1 s measured, 1 run"
    assert report.failures == []


def test_a_server_that_fails_is_explained_and_the_others_are_measured(program: Path) -> None:
    report = measured(program, lambda core: Broken(core, 50, SHAPE), lambda core: Floor(core, 20, SHAPE))
    assert [each.server for each in report.measurements] == ["bare loop, 20 ms"]
    (failure,) = report.failures
    assert failure.startswith("run 1, bare loop, 50 ms, 5 players: bare-loop ended with status 1: ValueError")
    assert f"DOUBT not measured: {failure}" in report.notes()


def test_a_server_that_does_not_start_does_not_cost_what_the_others_show(program: Path) -> None:
    report = measured(program, lambda core: Absent(core, 50, SHAPE), lambda core: Floor(core, 20, SHAPE))
    assert [each.server for each in report.measurements] == ["bare loop, 20 ms"]
    (failure,) = report.failures
    assert failure.startswith("run 1, bare loop, 50 ms: nobody cannot be started: ")
    assert f"DOUBT not measured: {failure}" in report.notes()


def test_a_server_that_does_not_start_costs_idle_clients_of_the_others_nothing(program: Path) -> None:
    before = os.sched_getaffinity(0)
    plan = Plan(clients=(5,), settle_s=0.5, runs=1)
    try:
        made: list[Make] = [lambda core: Absent(core, 50, SHAPE)]
        report = idle.run_all(plan, made, program, CORES, Console(file=io.StringIO()), [])
    finally:
        os.sched_setaffinity(0, before)
    (failure,) = report.failures
    assert failure.startswith("run 1, bare loop, 50 ms: nobody cannot be started: ")


def test_everyone_takes_part_unless_somebody_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "_CHECKS", dict.fromkeys(FANOUT_KINDS, lambda: None))
    assert present((), FANOUT_KINDS) == (list(FANOUT_KINDS), [])
    assert present(("headwater",), FANOUT_KINDS) == (["headwater"], [])


def test_what_npm_cannot_install_is_left_out_but_not_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    checks = {**dict.fromkeys(FANOUT_KINDS, lambda: None), "node-media-server": node_media.check_installed}
    monkeypatch.setattr(contenders, "_CHECKS", checks)
    chosen, (remark,) = present((), FANOUT_KINDS)
    assert "node-media-server" not in chosen
    assert remark.startswith("DOUBT Node-Media-Server did not take part: no node ")
    with pytest.raises(BenchError, match="install Debian's package nodejs") as caught:
        present(("node-media-server",), FANOUT_KINDS)
    assert not caught.value.failed


def test_each_floor_stands_beside_the_headwater_that_gathers_as_long() -> None:
    made = [make(None) for make in make_all(FANOUT_KINDS, (0, 350), SHAPE)]
    labels = [server.label for server in made]
    for server in made:
        server.stop()
    assert labels == [
        "nginx-rtmp",
        "nginx-rtmp, out_cork 26",  # 350 ms of 73 messages a second.
        "Node-Media-Server",
        "bare loop, 0 ms",
        "headwater, 0 ms",
        "bare loop, 350 ms",
        "headwater, 350 ms",
    ]
    assert contenders.floor_for("headwater, 350 ms") == "bare loop, 350 ms"
    assert contenders.floor_for("nginx-rtmp") is None
    assert contenders.nginx_for("headwater, 0 ms") == "nginx-rtmp"
    assert isinstance(made[0], Nginx)
    assert isinstance(made[-1], Headwater)


def test_only_the_edge_is_on_the_servers_core() -> None:
    cluster = SplitCluster(0, 20)
    assert cluster.core_of("edge-1") == 0
    assert cluster.core_of("origin-1") is cluster.core_of("registry") is None
    assert cluster.core_group == "edge"
    cluster.stop()


def test_what_a_stream_costs() -> None:
    assert cpu_ms_of_a_stream(GOOD, "edge") == pytest.approx(2.0, rel=0.01)
    assert streams_of_a_core(GOOD, "edge") == pytest.approx(500, rel=0.01)
    # Half of what was published has come through: what was carried cost twice as much.
    assert cpu_ms_of_a_stream(replace(GOOD, messages=GOOD.messages // 2), "edge") == pytest.approx(
        4.0, rel=0.01
    )
    assert own_percent(GOOD) == pytest.approx(30)


@pytest.mark.parametrize(
    "change",
    [
        {"missing": 1},
        {"disordered": 1},
        {"closed": 1},
        {"short_players": 1},
        {"lag": Spread(0, 101, 0, 0)},
        {"latency": Spread(0, 101, 0, 0)},
    ],
)
def test_what_is_lost_or_late_did_not_run_well(change: dict[str, object]) -> None:
    assert ran_well(GOOD)
    assert not ran_well(replace(GOOD, **change))  # type: ignore[arg-type]  # a field each


def test_the_largest_that_ran_well_did_so_in_every_run() -> None:
    made = [
        replace(GOOD, streams=streams, run=run, missing=int((streams, run) in {(200, 2), (400, 1)}))
        for streams in (100, 200, 400)
        for run in (1, 2)
    ]
    report = Report("t", "publishers", describe(choose_cores([0, 1])), {}, {}, made, ())
    assert largest(report) == ["headwater, 20 ms: 100 publishers at most ran well in every run"]


def test_memory_of_an_idle_client_is_what_came_on_top() -> None:
    made = IdleMeasurement(
        case="1000 clients",
        server="nginx-rtmp",
        run=1,
        clients=1000,
        added=500,
        wall_s=0.25,
        usages={"all": Usage(0.05, 0.05, 32.0)},
        rss_before_mb={"all": 20.0},
        closed=0,
        load_percent=20,
        foreign_percent=0,
        load_foreign_percent=0,
    )
    assert made.rss_kb_each("all") == pytest.approx(12)
    assert made.connects_s("all") == pytest.approx(2000)
    assert made.connects_per_cpu_s("all") == pytest.approx(5000)
    assert made.doubts() == []
    assert replace(made, closed=3).doubts() == ["3 clients were closed"]


def test_others_are_who_is_not_of_the_group_on_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter([10.0, 14.0])
    monkeypatch.setattr("bench.measure.core_busy_s", lambda core: next(busy))
    clock = iter([0.0, 10.0])
    monkeypatch.setattr("bench.measure.time.monotonic", lambda: next(clock))
    made = UsageMeter({"edge": [], "all": []}, 0, "edge")
    _, usages, foreign_percent = made.end()
    assert foreign_percent == pytest.approx(40)
    assert usages["edge"].cpu_s == 0
