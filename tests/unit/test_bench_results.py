"""The benchmark's arithmetic and reports: percentiles, ratios within a run, doubts, configurations."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.headwater import arguments
from bench.load import LoadWindow
from bench.machine import Machine
from bench.measure import Usage, gigabits, percentile, ratio
from bench.nginx import find_module, render_config
from bench.players import PlayersWindow
from bench.plot import short_number, write_plot
from bench.publisher import PublisherWindow
from bench.report import Report, cell, markdown, write_json
from bench.results import Figure, Measurement, measurement, rows

MACHINE = Machine("Some CPU", 2, 8.0, "6.1", "cubic", "3.11.7", "2026-11-24 12:00 UTC", 0, (1,))


def window(**changes: Any) -> PlayersWindow:
    plain = PlayersWindow(
        wall_s=10.0,
        cpu_s=3.0,
        bytes_each=[1_250_000] * 100,
        latencies_ms=[float(value) for value in range(101)],
        missing=0,
        disordered=0,
        closed=0,
    )
    return replace(plain, **changes)


def measured(
    server: str = "nginx-rtmp", run: int = 1, cpu_s: float = 0.25, players: int = 100, **changes: Any
) -> Measurement:
    groups = {"all": Usage(cpu_s * 0.4, cpu_s * 0.6, 20.0)}
    if server != "nginx-rtmp":
        groups = {"edge": Usage(cpu_s * 0.1, cpu_s * 0.7, 40.0), **groups}
    load = LoadWindow([window(**changes)], PublisherWindow(730, 1.5, 0.2), [32.0])
    return measurement(server, players, run, (10.0, groups, 0.5), load, 0.5)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 99, 5.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.5),
        ([float(value) for value in range(101)], 99, 99.0),
        ([0.0, 10.0], 25, 2.5),
        ([1.0, 2.0], 100, 2.0),
        ([1.0, 2.0], 0, 1.0),
    ],
)
def test_percentile(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == pytest.approx(expected)


def test_the_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


def test_ratio_and_units() -> None:
    assert ratio(1.0, 4.0) == 0.25
    assert ratio(1.0, 0.0) is None
    assert gigabits(125_000_000) == 1.0


def test_a_measurement_counts_delivered_bits_and_server_seconds() -> None:
    made = measured(cpu_s=0.25)
    assert made.delivered_gbit == pytest.approx(1.0)
    assert made.cpu_s_per_gbit("all") == pytest.approx(0.25)
    assert made.cpu_percent("all") == pytest.approx(2.5)
    assert (made.latency_p50_ms, made.latency_p99_ms, made.latency_max_ms) == (50, 99, 100)
    assert made.doubts() == []


def test_a_measurement_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="received nothing"):
        measured(latencies_ms=[])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"load_percents": (91.0,)}, "load generator used 91 % of its core"),
        ({"foreign_percent": 12.0}, "others used 12 % of the server's core"),
        ({"load_foreign_percent": 13.0}, "others used 13 % of the load's core"),
        ({"publisher_lag_ms": 50.0}, "publisher was up to 50 ms late"),
        ({"closed": 2}, "2 players were closed"),
        ({"missing": 4}, "missed 4 messages"),
        ({"disordered": 5}, "5 messages out of order"),
    ],
)
def test_doubts(change: dict[str, Any], text: str) -> None:
    (doubt,) = replace(measured(), **change).doubts()
    assert text in doubt


def test_players_that_got_less_are_noticed() -> None:
    made = measured(bytes_each=[1_250_000] * 97 + [1_000_000] * 3)
    assert made.short_players == 3
    assert "3 players got less than 95% of the median's bytes" in made.doubts()[0]


def test_ratios_are_to_the_reference_of_the_same_run_and_size() -> None:
    made = rows(
        [
            measured(run=1, cpu_s=0.20),
            measured("headwater, 20 ms", run=1, cpu_s=0.30),
            measured(run=2, cpu_s=0.40),
            measured("headwater, 20 ms", run=2, cpu_s=0.20),
            measured(run=3, cpu_s=0.25),
            measured("headwater, 20 ms", run=3, cpu_s=0.25),
            measured(players=200, cpu_s=9.0),
        ],
        "nginx-rtmp",
    )
    assert [(row.players, row.title) for row in made] == [
        (100, "nginx-rtmp"),
        (100, "headwater, 20 ms, edge alone"),
        (100, "headwater, 20 ms"),
        (200, "nginx-rtmp"),
    ]
    reference, edge, whole, _ = made
    assert reference.cpu_s_per_gbit == Figure(0.25, 0.20, 0.40)
    assert whole.cpu_s_per_gbit == Figure(pytest.approx(0.25), pytest.approx(0.20), pytest.approx(0.30), 1.0)  # type: ignore[arg-type]  # an approx stands for the float
    assert edge.cpu_s_per_gbit.ratio == pytest.approx(0.8)
    assert edge.rss_mb.ratio == pytest.approx(2.0)


def test_without_the_reference_there_are_no_ratios() -> None:
    (_, whole) = rows([measured("headwater, 20 ms")], None)
    assert whole.cpu_s_per_gbit.ratio is None


def test_cells() -> None:
    assert cell(Figure(0.21, 0.21, 0.21), 2) == "0.21"
    assert cell(Figure(0.21, 0.2, 0.23, 0.754), 2) == "0.21 [0.20–0.23] (0.75×)"


def report() -> Report:
    measurements = [measured(), measured("headwater, 20 ms", missing=3)]
    servers: dict[str, dict[str, object]] = {
        "nginx-rtmp": {"version": "nginx 1"},
        "headwater, 20 ms": {"version": "headwater-edge 2", "flush_ms": 20},
        "headwater, 50 ms": {"version": "headwater-edge 2", "flush_ms": 50},
    }
    return Report("Fan-out", MACHINE, {"seconds": 10.0}, servers, measurements, "nginx-rtmp")


def test_the_report_names_machine_date_and_doubts(tmp_path: Path) -> None:
    made = report()
    text = markdown(made)
    assert "Some CPU, 2 cores, 8.0 GB, Linux 6.1, Python 3.11.7, 2026-11-24 12:00 UTC" in text
    assert "DOUBT headwater, 20 ms, 100 players, run 1: sampled players missed 3 messages" in text
    assert "| 100 | headwater, 20 ms, edge alone | 0.200 (0.80×) |" in text
    assert text.count("- nginx 1\n") == text.count("- headwater-edge 2\n") == 1
    write_json(made, tmp_path / "fanout.json")
    data = json.loads((tmp_path / "fanout.json").read_text())
    assert data["measurements"][1]["doubts"] == ["sampled players missed 3 messages"]
    assert data["rows"][2]["cpu_s_per_gbit"]["ratio"] == pytest.approx(1.0)


def test_one_core_for_both_is_said() -> None:
    assert any(
        "share one core" in note
        for note in replace(report(), machine=replace(MACHINE, load_cores=(0,))).notes()
    )


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    write_plot(report(), tmp_path / "fanout.png")
    assert (tmp_path / "fanout.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("value", "text"), [(0.2144, "0.214"), (87.22, "87.2"), (5251.4, "5251"), (177_115.0, "177k")]
)
def test_numbers_beside_bars_are_short(value: float, text: str) -> None:
    assert short_number(value) == text


def test_the_nginx_configuration() -> None:
    config = render_config(Path("/modules/ngx_rtmp_module.so"), 19350)
    assert config.count("{") == config.count("}") == 4
    for line in (
        "load_module /modules/ngx_rtmp_module.so;",
        "worker_processes 1;",
        "listen 127.0.0.1:19350;",
        "live on;",
    ):
        assert line in config


def test_a_missing_module_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="libnginx-mod-rtmp") as caught:
        find_module((str(tmp_path),))
    assert not caught.value.failed
    (tmp_path / "ngx_rtmp_module.so").touch()
    assert find_module(("/nowhere", str(tmp_path))) == tmp_path / "ngx_rtmp_module.so"


def test_headwater_options() -> None:
    common = ["serve", "--base-port", "21935", "--data", "d", "--log-level", "warning"]
    assert arguments("registry", 21935, Path("d"), 20) == common
    assert arguments("edge-2", 21935, Path("d"), 50) == [
        *common,
        "--node-id",
        "edge-2",
        "--flush-ms",
        "50",
    ]
    application = ["--app", "live=apps.live:Live"]
    of_origin = [*common, "--node-id", "origin-3", *application]
    assert arguments("origin-3", 21935, Path("d"), 20) == of_origin
    assert arguments("origin-3", 21935, Path("d"), 20, "none") == [*of_origin, "--store", "none"]
