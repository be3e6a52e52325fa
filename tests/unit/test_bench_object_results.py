"""The object benchmark's arithmetic and reports, and the options of what it starts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.machine import Machine
from bench.measure import Usage
from bench.object_plan import ObjectWindow
from bench.object_plot import write_plot
from bench.object_report import ObjectReport, markdown, write_json
from bench.object_results import ObjectMeasurement, Phase, object_rows
from bench.results import Figure, Measurement
from bench.store_cluster import StoreCluster, redis_command
from bench.stream_limit import StreamRow, stream_of, stream_row

MACHINE = Machine("Some CPU", 2, 8.0, "6.1", "cubic", "3.11.7", "2026-11-25 12:00 UTC", 0, (1,))
WINDOW = ObjectWindow(
    wall_s=10.0,
    cpu_s=3.0,
    sent=50_000,
    changes=50_000,
    deliveries=100_000,
    samples=50_000,
    latency_p50_ms=1.0,
    latency_p99_ms=5.0,
    latency_max_ms=9.0,
    lag_ms=0.5,
    missing=0,
    disordered=0,
    strange=0,
    closed=0,
    unanswered=0,
    behind=0,
)


def phase(rate: float | None = None, **changes: Any) -> Phase:
    usages = {
        "origin": Usage(2.0, 2.0, 40.0),
        "edge": Usage(4.0, 1.0, 40.0),
        "all": Usage(6.5, 3.0, 150.0),
    }
    return Phase(rate, 10.0, usages, 0.5, 0.5, replace(WINDOW, **changes))


def measured(store: str = "none", run: int = 1, shape: str = "own", **full: Any) -> ObjectMeasurement:
    return ObjectMeasurement(shape, 1, store, run, phase(**full), phase(2500.0, sent=25_000, changes=25_000))


def test_rates_and_costs() -> None:
    made = measured()
    assert (made.changes_s, made.deliveries_s) == (5000.0, 10_000.0)
    assert made.changes_per_cpu_s("origin") == pytest.approx(12_500)
    assert made.deliveries_per_cpu_s("edge") == pytest.approx(20_000)
    assert made.changes_per_cpu_s("redis") == 0
    assert made.full.cpu_percent("redis") == 0
    assert made.doubts() == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cpu_s": 9.2}, "load generator used 92 %"),
        ({"missing": 4}, "4 messages were missing"),
        ({"disordered": 5}, "5 messages were out of order"),
        ({"strange": 6}, "6 messages were not the Change or Success"),
        ({"closed": 2}, "2 clients were closed"),
        ({"unanswered": 3}, "3 messages were not answered"),
        ({"behind": 1}, "1 members do not have the last value"),
    ],
)
def test_doubts(change: dict[str, Any], text: str) -> None:
    (doubt,) = measured(**change).doubts()
    assert doubt.startswith("full load: ")
    assert text in doubt


def test_doubts_about_the_machine_and_the_rate() -> None:
    assert "others used 12 % of the server's core" in replace(phase(), foreign_percent=12.0).doubts()[0]
    assert "others used 13 % of the load's core" in replace(phase(), load_foreign_percent=13.0).doubts()[0]
    idle = replace(phase(), usages={"all": Usage(2.0, 2.0, 1.0)})
    assert idle.doubts() == ["the server used 40 % of its core: it could bear more"]
    assert replace(idle, rate=5000.0).doubts() == []
    assert phase(5000.0, lag_ms=30.0).doubts() == ["messages were up to 30 ms late"]
    assert phase(6000.0).doubts() == ["5000 messages/s were sent, 6000 were to be"]


def test_ratios_are_to_the_reference_of_the_same_run_and_load() -> None:
    made = object_rows(
        [
            measured("none", 1),
            measured("redis", 1, changes=25_000),
            measured("none", 2, changes=60_000),
            measured("redis", 2, changes=60_000),
            measured("none", 3),
            measured("redis", 3, changes=40_000, missing=2, behind=1),
            measured("redis", 1, shape="large"),
        ],
        "none",
    )
    assert [(row.shape, row.store) for row in made] == [("own", "none"), ("own", "redis"), ("large", "redis")]
    off, redis, large = made
    assert off.changes_s == Figure(5000.0, 5000.0, 6000.0)
    assert redis.changes_s == Figure(4000.0, 2500.0, 6000.0, pytest.approx(0.8))  # type: ignore[arg-type]  # an approx stands for the float
    assert redis.faults == 3
    assert large.changes_s.ratio is None


def report() -> ObjectReport:
    measurements = [measured(), measured("redis", missing=3)]
    servers: dict[str, dict[str, object]] = {
        "none": {"version": "headwater-edge 2"},
        "redis": {"version": "headwater-edge 2, redis 7"},
    }
    shapes = {"own": "200 objects"}
    return ObjectReport("Changes", MACHINE, {"seconds": 10.0}, shapes, servers, measurements, "none")


def test_the_report_names_machine_loads_and_doubts(tmp_path: Path) -> None:
    made = report()
    text = markdown(made)
    for part in (
        "- Some CPU, 2 cores, 8.0 GB",
        "- headwater-edge 2, redis 7",
        "- own: 200 objects",
        "- DOUBT own, 1 in a message, journal redis, run 1: full load: 3 messages were missing",
        "| own | 1 | redis | 5000 (1.00×) | 10000 |",
        "| 40 / 50 / 0 |",
    ):
        assert part in text
    write_json(made, tmp_path / "objects.json")
    data = json.loads((tmp_path / "objects.json").read_text())
    assert data["measurements"][1]["doubts"] == ["full load: 3 messages were missing"]
    assert data["rows"][1]["changes_s"]["ratio"] == pytest.approx(1.0)


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    write_plot(report(), tmp_path / "objects.png")
    assert (tmp_path / "objects.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_journal_is_the_stores() -> None:
    off, sqlite, redis = (StoreCluster(0, store, 2) for store in ("none", "sqlite", "redis"))
    assert (off.store, sqlite.store) == ("none", "")
    assert redis.store.startswith("redis://127.0.0.1:")
    assert (off.groups, redis.groups) == (("origin", "edge", "all"), ("origin", "edge", "redis", "all"))
    assert len(set(off.edge_ports)) == 2
    for made in (off, sqlite, redis):
        made.stop()


def test_the_options_of_redis() -> None:
    program, *options = redis_command("redis-server", 6390, "/data")
    made = dict(zip(options[::2], options[1::2], strict=True))
    assert program == "redis-server"
    assert made["--appendonly"] == "yes"
    assert made["--appendfsync"] == "everysec"
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
        return Measurement(
            "10 Mbit/s", 2, run, 10.0, usages, 0.2, 6860, 10.0, 20.0, 21.0, 1, 0, 0, 0, 1, 1, (5.0,), 0.0, 0.0, 0.0
        )  # fmt: skip

    row = stream_row(10, [of_run(1, 0.4), of_run(2, 0.5), of_run(3, 0.9)])
    messages_s = stream_of(10).messages_s
    assert row == StreamRow(10, messages_s, 5.0, 40.0, messages_s * 20, 200.0, 20.0, 3)
