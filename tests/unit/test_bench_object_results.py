"""The arithmetic and the reports of the benchmarks whose clients ask, and the options of what they start."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import calls, cost, growth, objects
from bench.errors import BenchError
from bench.figures import Figure
from bench.machine import Machine
from bench.measure import Usage
from bench.media import Timing
from bench.processes import choose_cores
from bench.request_bench import Benchmark, Experiment, RequestBench, measure_all, write_results
from bench.request_load import RequestLoad, RequestWindow
from bench.request_results import (
    FAULTS,
    HALF_P99,
    LOAD_PERCENT,
    Phase,
    RequestMeasurement,
    changes_s,
    cpu_us,
    deliveries_s,
    per_cpu_s,
    percent,
)  # fmt: skip
from bench.results import CoreUse, Measurement, Spread
from bench.screen import wide_console
from bench.store_cluster import StoreCluster, redis_command
from bench.stream_limit import StreamRow, stream_of, stream_row
from bench.tables import Case, Column, Results, Row

MACHINE = Machine("Some CPU", 2, 8.0, "6.1", "cubic", "3.11.7", "2026-11-25 12:00 UTC", 0, (1,))
WINDOW = RequestWindow(
    wall_s=10.0,
    cpu_s=3.0,
    sent=50_000,
    answered=50_000,
    messages=100_000,
    deliveries=100_000,
    latency=Spread(1.0, 5.0, 8.0, 9.0),
    lag_ms=0.5,
    missing=0,
    disordered=0,
    strange=0,
    closed=0,
    unanswered=0,
    behind=0,
)
COLUMNS: tuple[Column[RequestMeasurement], ...] = (
    Column("changes/s", changes_s, compared=True),
    percent("origin"),
    HALF_P99,
    LOAD_PERCENT,
    FAULTS,
)


def phase(rate: float | None = None, **changes: Any) -> Phase:
    usages = {
        "origin": Usage(2.0, 2.0, 40.0),
        "edge": Usage(4.0, 1.0, 40.0),
        "all": Usage(6.5, 3.0, 150.0),
    }
    return Phase(rate, 10.0, usages, "all", 0.5, 0.5, replace(WINDOW, **changes))


def measured(store: str = "none", run: int = 1, load: str = "own", **full: Any) -> RequestMeasurement:
    half = phase(2500.0, sent=25_000, answered=25_000)
    return RequestMeasurement((load, store), run, 2, phase(**full), half)


def results(*measurements: RequestMeasurement) -> Results[RequestMeasurement]:
    def reference(case: Case) -> Case:
        return (case[0], "none")

    panels = ("changes/s", "origin CPU %", "faults", "load CPU %")
    return Results(
        "Changes", ("load", "journal"), COLUMNS, list(measurements), MACHINE, {"seconds": 10}, reference, panels, -1,
        ["headwater-edge 2", "own: 200 objects"],
    )  # fmt: skip


def figure(row: Row, title: str) -> Figure:
    found = row.figures[title]
    assert found is not None
    return found


def test_rates_and_costs() -> None:
    made = measured()
    assert (made.changes_s, made.deliveries_s) == (10_000.0, 10_000.0)
    assert per_cpu_s(changes_s, "origin")(made) == pytest.approx(25_000)
    assert per_cpu_s(deliveries_s, "edge")(made) == pytest.approx(20_000)
    assert cpu_us(changes_s, "origin")(made) == pytest.approx(40)
    assert per_cpu_s(changes_s, "redis")(made) is None
    assert cpu_us(changes_s, "redis")(made) is None
    assert made.phase.cpu_percent("redis") == 0
    assert made.doubts() == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cpu_s": 9.2}, "load generator used 92 %"),
        ({"missing": 4}, "4 events or results were missing"),
        ({"disordered": 5}, "5 were out of order or doubled"),
        ({"strange": 6}, "6 were none of those that were expected"),
        ({"closed": 2}, "2 clients were closed"),
        ({"unanswered": 3}, "3 messages were not answered"),
        ({"behind": 1}, "1 last values of members are not the last that were sent"),
    ],
)
def test_doubts(change: dict[str, Any], text: str) -> None:
    (doubt,) = measured(**change).doubts()
    assert text in doubt


def test_doubts_about_the_machine_and_the_rate() -> None:
    assert "others used 12 % of the server's core" in replace(phase(), foreign_percent=12.0).doubts()[0]
    assert "others used 13 % of the load's core" in replace(phase(), load_foreign_percent=13.0).doubts()[0]
    idle = replace(phase(), core_group="origin")
    assert idle.doubts() == ["the origin used 40 % of its core: it could bear more"]
    assert replace(idle, rate=5000.0).doubts() == []
    assert phase(5000.0, lag_ms=30.0).doubts() == ["messages were up to 30 ms late"]
    assert phase(6000.0).doubts() == ["5000 messages/s were sent, 6000 were to be"]


def test_ratios_are_to_the_reference_of_the_same_run_and_load() -> None:
    made = results(
        measured("none", 1),
        measured("redis", 1, answered=25_000),
        measured("none", 2, answered=60_000),
        measured("redis", 2, answered=60_000),
        measured("none", 3),
        measured("redis", 3, answered=40_000, missing=2, behind=1),
        measured("redis", 1, load="one"),
    ).rows()
    assert [row.case for row in made] == [("own", "none"), ("own", "redis"), ("one", "redis")]
    off, redis, one = made
    assert figure(off, "changes/s") == Figure(10_000.0, 10_000.0, 12_000.0)
    assert replace(figure(redis, "changes/s"), ratio=None) == Figure(8000.0, 5000.0, 12_000.0)
    assert figure(redis, "changes/s").ratio == pytest.approx(0.8)
    assert figure(redis, "faults").greatest == 3
    assert figure(one, "changes/s").ratio is None


def test_a_value_that_is_not_there_is_an_empty_cell(tmp_path: Path) -> None:
    made = results(replace(measured(), half=None))
    assert made.rows()[0].figures[HALF_P99.title] is None
    made.draw(tmp_path / "drawn.png")


def test_the_report_names_machine_and_doubts(tmp_path: Path) -> None:
    results(measured(), measured("redis", missing=3)).write(tmp_path, "made", wide_console())
    text = (tmp_path / "made.md").read_text()
    for part in (
        "- Some CPU, 2 cores, 8.0 GB",
        "- headwater-edge 2",
        "- own: 200 objects",
        "- DOUBT own, redis, run 1: 3 events or results were missing",
        "| own | redis | 10000 (1.00×) | 40 |",
    ):
        assert part in text
    data = json.loads((tmp_path / "made.json").read_text())
    assert data["measurements"][1]["doubts"] == ["3 events or results were missing"]
    assert data["rows"][1]["figures"]["changes/s"]["ratio"] == pytest.approx(1.0)
    assert (tmp_path / "made.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


class Cluster(StoreCluster):
    """One that does not start where its journal is "redis"."""

    def start(self) -> None:
        if self.journal == "redis":
            raise BenchError("redis-server ended with status 1", failed=True)

    def settings(self) -> dict[str, object]:
        return {"version": "headwater 2"}


class NoLoad(RequestLoad):
    """Nobody asks."""

    def __init__(self) -> None:
        raise BenchError("no client can connect", failed=True)


def test_a_case_that_cannot_be_measured_does_not_cost_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noted, what the others have shown is written, and the status tells of it."""

    def answer(_: RequestBench, server: StoreCluster, experiment: Experiment, run: int) -> RequestMeasurement:
        if (server.journal, run) == ("none", 1):
            raise BenchError("nothing was answered in 5 s", failed=True)
        return measured(server.journal, run)

    monkeypatch.setattr(RequestBench, "measure", answer)
    monkeypatch.setattr("os.sched_setaffinity", lambda pid, cores: None)
    made = [
        Experiment(("own", store), partial(Cluster, journal=store, edges=1), lambda server, core: NoLoad(), 1)
        for store in ("redis", "none", "sqlite")
    ]
    cores, timing = choose_cores([0, 1]), Timing(5, 1, 2)
    found = measure_all(made, cores, timing, wide_console())
    assert [(each.case[1], each.run) for each in found.measurements] == [
        ("none", 2),
        ("sqlite", 1),
        ("sqlite", 2),
    ]
    assert found.failures == [
        "own, redis, run 1: journal on redis: redis-server ended with status 1",
        "own, none, run 1: nothing was answered in 5 s",
        "own, redis, run 2: journal on redis: redis-server ended with status 1",
    ]
    panels = ("changes/s", "origin CPU %", "faults", "load CPU %")
    benchmark = Benchmark("made", "Changes", ("load", "journal"), COLUMNS, panels, lambda case: None)
    assert write_results(benchmark, found, cores, timing, tmp_path, wide_console())
    text = (tmp_path / "made.md").read_text()
    assert "- DOUBT not measured: own, none, run 1: nothing was answered in 5 s\n" in text
    assert json.loads((tmp_path / "made.json").read_text())["failures"] == found.failures


def test_what_was_not_measured_at_all_is_written_too(tmp_path: Path) -> None:
    replace(results(), failures=["own, none, run 1: no"]).write(tmp_path, "made", wide_console())
    assert "- DOUBT not measured: own, none, run 1: no\n" in (tmp_path / "made.md").read_text()
    assert (tmp_path / "made.png").exists()


def test_the_journal_is_the_stores() -> None:
    names = ("none", "sqlite", "sqlite-power", "redis", "redis-power")
    made = {name: StoreCluster(0, name, 2) for name in names}
    stores = {name: cluster.store for name, cluster in made.items()}
    assert (stores["none"], stores["sqlite"]) == ("none", "")
    assert stores["sqlite-power"] == f"sqlite:{made['sqlite-power'].folder}/data?durability=power"
    assert stores["redis"].startswith("redis://127.0.0.1:")
    assert stores["redis-power"].endswith("/0?durability=power")
    assert made["none"].groups == ("origin", "edge", "all")
    assert made["redis-power"].groups == ("origin", "edge", "redis", "all")
    assert len(set(made["none"].edge_ports)) == 2
    for cluster in made.values():
        cluster.stop()


def test_one_service_may_have_the_core_for_itself() -> None:
    made = StoreCluster(3, "none", 2, alone="origin")
    assert (made.core_of("origin-1"), made.core_of("edge-1"), made.core_of("registry")) == (3, None, None)
    together = StoreCluster(3, "none", 2)
    assert together.core_of("registry") == 3
    for cluster in (made, together):
        cluster.stop()


def test_what_is_measured() -> None:
    of_objects = objects.experiments(("own", "group200"), (1, 20), ("sqlite",), None, True)
    assert [each.case for each in of_objects] == [
        ("own", "1", "origin", "sqlite"),
        ("own", "20", "origin", "sqlite"),
        ("group200", "1", "edge", "sqlite"),
        ("group200", "20", "edge", "sqlite"),
    ]
    of_calls = calls.experiments(100, (1, 8), ("none",), ("origin",))
    assert [each.case for each in of_calls] == [("100 × 1", "origin", "none"), ("100 × 8", "origin", "none")]
    assert [each.batch for each in cost.experiments((20,), ("none", "redis-power"))] == [20, 20]


def test_what_grows() -> None:
    made = growth.experiments(tuple(each.name for each in growth.GROWING), 2000.0, "sqlite")
    assert len(made) == 11
    assert [each.clients for each in made[:2]] == [300, 3000]
    assert growth.first_size(("clients", "3000")) == ("clients", "300")
    for growing in growth.GROWING:
        for size in growing.sizes:
            clients = growing.clients(size)
            assert {client.edge for client in clients} == set(range(growing.edges(size)))
            assert sum(client.requester == 0 for client in clients) == len({each.objects for each in clients})


def test_the_options_of_redis() -> None:
    program, *options = redis_command("redis-server", 6390, "/data")
    made = dict(zip(options[::2], options[1::2], strict=True))
    assert program == "redis-server"
    assert made["--appendonly"] == "yes"
    assert made["--appendfsync"] == "everysec"
    assert "always" in redis_command("redis-server", 6390, "/data", "always")
    assert (made["--bind"], made["--port"], made["--dir"]) == ("127.0.0.1", "6390", "/data")


def test_a_faster_stream_has_messages_of_the_same_size() -> None:
    for mbit_s in (1, 40, 160):
        shape = stream_of(mbit_s)
        assert shape.bit_s == mbit_s * 1_000_000
        assert shape.frames_s == 30 * mbit_s
        assert shape.gop_frames >= 2


def test_what_a_stream_costs_its_origin() -> None:
    def of_run(run: int, origin_s: float) -> Measurement:
        usages = {"origin": Usage(origin_s, 0.0, 40.0), "edge": Usage(4.0, 0.0, 80.0)}
        none, late = Spread(0, 0, 0, 0), Spread(10, 20, 21, 21)
        return Measurement(
            case="10 Mbit/s",
            server="headwater, 20 ms",
            run=run,
            streams=1,
            players=2,
            wall_s=10.0,
            usages=usages,
            delivered_gbit=0.2,
            messages=6860,
            latency=late,
            gap=none,
            lag=none,
            missing=1,
            disordered=0,
            closed=0,
            short_players=0,
            bytes_least=1,
            bytes_median=1,
            backlog_bytes=0,
            load_percents=(5.0,),
            cores=CoreUse(0, 0, 0),
        )

    row = stream_row(10, [of_run(1, 0.4), of_run(2, 0.5), of_run(3, 0.9)])
    messages_s = stream_of(10).messages_s
    assert row == StreamRow(10, messages_s, 5.0, 40.0, messages_s * 20, 200.0, 20.0, 3)
