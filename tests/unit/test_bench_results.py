"""The benchmark's arithmetic and reports: percentiles, ratios within a run, doubts, configurations."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.contenders import floor_for, nginx_for
from bench.errors import BenchError
from bench.figures import Figure, cell, over_runs
from bench.headwater import arguments
from bench.load import LoadWindow
from bench.machine import Machine
from bench.measure import Usage, gigabits, percentile, ratio
from bench.native_load import Durations, NativeWindow
from bench.nginx import find_module, render_config
from bench.plot import Panel, short_number, write_plot
from bench.report import Report
from bench.results import Column, CoreUse, Measurement, Spread, measurement, rows
from bench.sheet import Sheet

MACHINE = Machine("Some CPU", 2, 8.0, "6.1", "cubic", "3.11.7", "2026-11-24 12:00 UTC", 0, (1,))
QUIET = CoreUse(0.5, 0.5, 40.0)


def window(**changes: Any) -> NativeWindow:
    latency = Durations(100_000_000, {count * 1_000_000: 1 for count in range(1, 101)})
    plain = NativeWindow(
        wall_s=10.0,
        cpu_s=3.2,
        messages=73_000,
        missing=0,
        disordered=0,
        closed=0,
        sent=730,
        backlog_bytes=0,
        latency=latency,
        gap=Durations(40_000_000, {33_000_000: 999, 40_000_000: 1}),
        lag=Durations(1_500_000, {100_000: 730}),
        bytes_each=[1_250_000] * 100,
    )
    return replace(plain, **changes)


def measured(
    server: str = "nginx-rtmp", run: int = 1, cpu_s: float = 0.25, case: str = "100 players", **changes: Any
) -> Measurement:
    groups = {"all": Usage(cpu_s * 0.4, cpu_s * 0.6, 20.0)}
    if server.startswith("headwater"):
        groups = {"edge": Usage(cpu_s * 0.1, cpu_s * 0.7, 40.0), **groups}
    load = LoadWindow([window(**changes)], (32.0,))
    return measurement(case, server, run, 1, (10.0, groups), load, QUIET)


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
    assert made.players == 100
    assert made.cpu_s_per_gbit("all") == pytest.approx(0.25)
    assert made.cpu_percent("all") == pytest.approx(2.5)
    assert made.latency == Spread(50, 99, 100, 100)
    assert made.gap == Spread(33, 33, 33, 40)
    assert made.doubts() == []


def test_a_measurement_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="received nothing"):
        measured(messages=0)


def test_what_several_processes_of_the_load_saw_adds_up() -> None:
    load = LoadWindow([window(missing=1), window(missing=2, bytes_each=[5])], (20.0, 30.0))
    made = measurement("some", "nginx-rtmp", 1, 1, (10.0, {"all": Usage(1, 1, 1)}), load, QUIET)
    assert (made.players, made.missing, made.messages, made.bytes_least) == (101, 3, 146_000, 5)
    assert made.latency.p50_ms == 50
    assert made.load_percents == (20.0, 30.0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"load_percents": (91.0,)}, "load generator used 91 % of its core"),
        ({"cores": CoreUse(12.0, 0, 40)}, "others used 12 % of the server's core"),
        ({"cores": CoreUse(0, 13.0, 40)}, "others used 13 % of the load's core"),
        ({"lag": Spread(1, 50, 60, 70)}, "1 % of what was published left more than 50 ms late"),
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


CPU: Column[Measurement] = Column("CPU s/Gbit", Measurement.cpu_s_per_gbit, 3)
MISSING: Column[Measurement] = Column("missing", lambda m, _: m.missing, 0)
COLUMNS = (
    CPU,
    CPU.against("× nginx", nginx_for),
    CPU.against("× bare loop", floor_for),
    MISSING,
)


def test_ratios_are_to_the_reference_of_the_same_run_and_case() -> None:
    made = rows(
        [
            measured(run=1, cpu_s=0.20),
            measured("headwater, 20 ms", run=1, cpu_s=0.30),
            measured("bare loop, 20 ms", run=1, cpu_s=0.10),
            measured(run=2, cpu_s=0.40),
            measured("headwater, 20 ms", run=2, cpu_s=0.20),
            measured("bare loop, 50 ms", run=2, cpu_s=0.10),
            measured(run=3, cpu_s=0.25),
            measured("headwater, 20 ms", run=3, cpu_s=0.25),
            measured(case="200 players", cpu_s=9.0),
        ],
        COLUMNS,
    )
    assert [(row.case, row.title) for row in made] == [
        ("100 players", "nginx-rtmp"),
        ("100 players", "headwater, 20 ms, edge alone"),
        ("100 players", "headwater, 20 ms"),
        ("100 players", "bare loop, 20 ms"),
        ("100 players", "bare loop, 50 ms"),
        ("200 players", "nginx-rtmp"),
    ]
    reference, edge, whole, loop, *_ = made
    assert reference.figures["CPU s/Gbit"] == Figure(0.25, 0.20, 0.40)
    assert reference.figures["× nginx"] is None
    ratios = [row.figures["× nginx"] for row in (whole, edge, loop)]
    assert [figure and figure.median for figure in ratios] == pytest.approx([1.0, 0.8, 0.5])
    against_loop = whole.figures["× bare loop"]
    assert against_loop is not None
    assert against_loop.median == pytest.approx(3.0)


def test_without_the_reference_there_are_no_ratios() -> None:
    (_, whole) = rows([measured("headwater, 20 ms")], COLUMNS)
    assert whole.figures["× nginx"] is None


def test_cells() -> None:
    assert cell(Figure(0.21, 0.21, 0.21), 2) == "0.21"
    assert cell(Figure(0.21, 0.2, 0.23, 0.754), 2) == "0.21 [0.20–0.23] (0.75×)"


def test_runs_are_compared_with_the_same_runs() -> None:
    values = {1: 2.0, 2: 4.0, 3: 6.0}
    assert over_runs(values) == Figure(4.0, 2.0, 6.0)
    assert over_runs(values, {1: 4.0, 2: 0.0, 4: 1.0}) == Figure(4.0, 2.0, 6.0, 0.5)


def test_a_sheet_is_written_with_what_can_be_drawn(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    sheet = Sheet("Title", ("case", "ms"), (0,), [["a", "1.5"], ["b", ""]], ["a note"])
    sheet.deliver(tmp_path, "made", {"rows": []}, None, console)
    assert (tmp_path / "made.md").read_text() == (
        "Title\n\n| case | ms |\n| --- | --- |\n| a | 1.5 |\n| b |  |\n\n- a note\n"
    )
    assert json.loads((tmp_path / "made.json").read_text()) == {"rows": []}
    assert not (tmp_path / "made.png").exists()
    sheet.deliver(tmp_path, "made", {}, lambda path: path.touch(), console)
    assert (tmp_path / "made.png").exists()


def report() -> Report[Measurement]:
    measurements = [measured(), measured("headwater, 20 ms", missing=3)]
    servers: dict[str, dict[str, object]] = {
        "nginx-rtmp": {"version": "nginx 1"},
        "headwater, 20 ms": {"version": "headwater-edge 2", "flush_ms": 20},
        "headwater, 50 ms": {"version": "headwater-edge 2", "flush_ms": 50},
    }
    return Report(
        "Fan-out", "players", MACHINE, {"seconds": 10.0}, servers, measurements, COLUMNS, ["a remark"]
    )


def test_the_report_names_machine_date_and_doubts() -> None:
    made = report()
    text = made.sheet().markdown()
    assert "Some CPU, 2 cores, 8.0 GB, Linux 6.1, Python 3.11.7, 2026-11-24 12:00 UTC" in text
    assert "- a remark\n" in text
    assert "DOUBT headwater, 20 ms, 100 players, run 1: players missed 3 messages" in text
    assert "| 100 players | headwater, 20 ms, edge alone | 0.200 | 0.80 |  | 3 |" in text
    assert text.count("- nginx 1\n") == text.count("- headwater-edge 2\n") == 1
    data = json.loads(json.dumps(made.data()))
    assert data["measurements"][1]["doubts"] == ["players missed 3 messages"]
    assert data["rows"][2]["figures"]["× nginx"]["median"] == pytest.approx(1.0)


def test_one_core_for_both_is_said() -> None:
    assert any(
        "share one core" in note
        for note in replace(report(), machine=replace(MACHINE, load_cores=(0,))).notes()
    )


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    panels = [Panel(column.title, column.title, of_groups=True) for column in COLUMNS]
    write_plot(report(), panels, tmp_path / "fanout.png")
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


def test_nginx_gathers_only_where_a_buffer_is_set() -> None:
    config = render_config(Path("/modules/ngx_rtmp_module.so"), 19350, out_cork=26)
    assert "out_cork 26;" in config
    assert "buffer 1s;" in config
    assert "buffer" not in render_config(Path("/modules/ngx_rtmp_module.so"), 19350)


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
