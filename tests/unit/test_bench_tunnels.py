"""The benchmark of RTMPT without a server: its wire against answers written by hand, its arithmetic and its reports."""

import json
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.machine import Machine
from bench.measure import Usage
from bench.session import SessionError
from bench.stream import StreamShape
from bench.tunnel_plan import Role, TunnelWindow
from bench.tunnel_plot import write_plot
from bench.tunnel_report import TunnelReport
from bench.tunnel_results import TunnelMeasurement, tunnel_rows
from bench.tunnel_wire import NEVER, TcpWire, TunnelWire
from bench.tunnels import Plan

MACHINE = Machine("Some CPU", 2, 8.0, "6.1", "cubic", "3.11.7", "2026-11-28 12:00 UTC", 0, (1,))
WINDOW = TunnelWindow(
    wall_s=10.0,
    cpu_s=2.0,
    requests=20_000,
    answer_p50_ms=1.0,
    answer_p99_ms=5.0,
    rtmp_bytes=125_000_000,
    latencies_ms=[10.0, 20.0, 30.0],
    missing=0,
    disordered=0,
    closed=0,
    lag_ms=1.0,
)


def answer(body: bytes, status: int = 200) -> bytes:
    return f"HTTP/1.1 {status} OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def opened(polite: bool = True) -> tuple[TunnelWire, "array[int]"]:
    answers_ns = array("q")
    wire = TunnelWire(answers_ns, polite)
    assert wire.take(0.0).startswith(b"POST /open/1 HTTP/1.1\r\n")
    assert wire.feed(answer(b"abc-def\n"), 0.1) == b""
    return wire, answers_ns


def target_and_body(request: bytes) -> tuple[str, bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}" in head.decode()
    return head.decode().split(" ")[1], body


def test_a_tunnel_asks_one_thing_at_a_time_and_counts_its_requests() -> None:
    wire, answers_ns = opened()
    wire.put(b"hello")
    assert target_and_body(wire.take(1.0)) == ("/send/abc-def/0", b"hello")
    wire.put(b"more")
    assert wire.take(1.1) == b""
    assert wire.due_s == NEVER
    assert wire.feed(answer(b"\x01world"), 1.5) == b"world"
    assert target_and_body(wire.take(1.6)) == ("/send/abc-def/1", b"more")
    assert wire.feed(answer(b"\x21"), 2.0) == b""
    # Politely: 0x21 units of 15 ms.
    assert wire.due_s == pytest.approx(2.495)
    assert wire.take(2.4) == b""
    assert target_and_body(wire.take(2.5)) == ("/idle/abc-def/2", b"\x00")
    assert wire.requests == 2
    assert list(answers_ns) == [500_000_000, 400_000_000]


def test_an_answer_may_come_in_any_pieces() -> None:
    wire, _ = opened()
    wire.put(b"hello")
    wire.take(1.0)
    found = [wire.feed(bytes((byte,)), 1.0) for byte in answer(b"\x01" + bytes(range(40)))]
    assert b"".join(found) == bytes(range(40))
    assert wire.requests == 1


def test_who_is_not_polite_asks_at_once() -> None:
    wire, _ = opened(polite=False)
    wire.take(1.0)
    wire.feed(answer(b"\x21"), 1.5)
    assert target_and_body(wire.take(1.5)) == ("/idle/abc-def/1", b"\x00")


@pytest.mark.parametrize("said", [answer(b"", 404), answer(b""), answer(b"\x00")])
def test_a_server_that_refuses_or_ends_is_no_measurement(said: bytes) -> None:
    wire, _ = opened()
    wire.take(1.0)
    with pytest.raises(SessionError):
        wire.feed(said, 1.1)


def test_rtmp_travels_as_it_is() -> None:
    wire = TcpWire()
    wire.put(b"a")
    wire.put(b"b")
    assert (wire.take(0.0), wire.take(0.0), wire.feed(b"c", 0.0), wire.due_s) == (b"ab", b"", b"c", NEVER)


def measured(
    role: Role, transport: str = "rtmpt", run: int = 1, edge_s: float = 4.0, **seen: Any
) -> TunnelMeasurement:
    usages = {
        "edge": Usage(edge_s - 1, 1.0, 50.0),
        "origin": Usage(1.0, 0.0, 40.0),
        "all": Usage(edge_s, 2.0, 120.0),
    }
    return TunnelMeasurement(
        role, transport, "sqlite", run, 100, 10.0, usages, 1.0, 0.5, 0.5, replace(WINDOW, **seen), None
    )


def test_costs() -> None:
    play = measured(Role.PLAY)
    assert play.cpu_s_per_gbit("edge") == pytest.approx(4.0)
    assert play.cpu_s_per_gbit("all") == pytest.approx(6.0)
    assert play.cpu_s_per_gbit("redis") == 0
    assert play.edge_ms_per_client_s == pytest.approx((40 - 1) * 10 / 100)
    assert (play.latency_ms(50), play.doubts(), play.faults) == (20.0, [], 0)
    say = measured(Role.SAY)
    assert (say.requests_s, round(say.requests_per_edge_cpu_s)) == (2000.0, 5000)
    assert (say.latency_ms(50), say.latency_ms(99), say.cpu_s_per_gbit("edge")) == (1.0, 5.0, 0.0)
    assert say.edge_ms_per_client_s == 0


def test_doubts() -> None:
    bad = measured(Role.PLAY, closed=1, missing=2, disordered=3, lag_ms=50.0, latencies_ms=[], cpu_s=9.5)
    assert bad.doubts() == [
        "the load generator used 95 % of its core: figures are its own",
        "a publisher was up to 50 ms late",
        "nothing was played",
        "1 closed",
        "2 missing",
        "3 disordered",
    ]
    assert bad.faults == 6
    assert measured(Role.ASK).doubts() == ["the server used 60 % of its core: it could bear more"]
    beside = replace(measured(Role.PUBLISH, latencies_ms=[]), beside=replace(WINDOW, missing=1))
    assert (beside.latency_ms(50), beside.doubts(), beside.load_percent) == (20.0, ["1 missing"], 40.0)


def report() -> TunnelReport:
    made = [
        measured(Role.PLAY, "rtmp", 1, 2.0),
        measured(Role.PLAY, "rtmpt", 1, 6.0),
        measured(Role.PLAY, "rtmp", 2, 3.0),
        measured(Role.PLAY, "rtmpt", 2, 6.0, missing=1),
        measured(Role.SAY),
    ]
    settings: dict[str, object] = {"version": "headwater-edge 1"}
    return TunnelReport("RTMPT", MACHINE, {}, {"play": "players"}, {"sqlite": settings}, made)


def test_ratios_are_to_rtmp_of_the_same_run() -> None:
    rtmp, rtmpt, say = tunnel_rows(report().measurements)
    assert (rtmp.title, rtmpt.title, say.title) == ("rtmp", "rtmpt, sqlite", "rtmpt, sqlite")
    assert rtmpt.edge_cpu_s_per_gbit.ratio == pytest.approx(2.5)
    assert (rtmp.edge_cpu_s_per_gbit.ratio, say.latency_p50_ms.ratio) == (None, None)
    assert (rtmp.faults, rtmpt.faults) == (0, 1)


def test_reports(tmp_path: Path) -> None:
    made = report()
    text = made.sheet().markdown()
    for part in (
        "| play | rtmpt, sqlite | 100 | 2000 |",
        "DOUBT play, rtmpt, sqlite, run 2: 1 missing",
        "6.00 (2.50×)",
    ):
        assert part in text
    data = json.loads(json.dumps(made.data()))
    assert data["measurements"][3]["doubts"] == ["1 missing"]
    assert "latencies_ms" not in data["measurements"][0]["seen"]
    write_plot(made, tmp_path / "tunnels.png")
    assert (tmp_path / "tunnels.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_what_is_not_stored_is_measured_on_the_first_store_only() -> None:
    plan = Plan(dict.fromkeys(Role, 1), ("sqlite", "redis"), 1.0, 1.0, 1, StreamShape())
    assert list(plan.cases("redis")) == [(role, "rtmpt") for role in (Role.SAY, Role.PLAY, Role.PUBLISH)]
    first = list(plan.cases("sqlite"))
    assert first[:3] == [(Role.ASK, "rtmpt"), (Role.SAY, "rtmpt"), (Role.IDLE, "rtmp")]
    assert len(first) == 8
