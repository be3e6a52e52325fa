"""The fail-over benchmark without a cluster: who is where, what members note, how gaps are told, the reports."""

import itertools
import json
from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.failover_cases import CASES, Fault
from bench.failover_clients import FailoverWindow
from bench.failover_cluster import FailoverCluster
from bench.failover_feed import Times, Told
from bench.failover_gaps import Silence, Trace, again_ms, latest_ms, longest_silence
from bench.failover_layout import BUSY, MEMBERS, failover_clients, group_name
from bench.failover_plot import write_plot
from bench.failover_report import FailoverReport
from bench.failover_results import CaseResult, Gaps, Seen, case_result, case_rows
from bench.machine import Machine
from bench.measure import Usage
from bench.object_layout import ClientSpec, schedule

MS = 1_000_000
MACHINE = Machine("Some CPU", 2, 8.0, "6.1", "cubic", "3.11.7", "2026-11-28 12:00 UTC", 0, (0, 1))
KILL, _, MOVE, DRAIN, _ = CASES
WRITER, READER = ClientSpec(0, "f0003", (3,), 0), ClientSpec(1, "f0003", (3,))


# Who is where


def test_every_group_has_members_on_each_edge_and_one_writer() -> None:
    clients = failover_clients(6, 2)
    assert len(clients) == 6 * MEMBERS
    by_scope: dict[str, list[ClientSpec]] = {}
    for client in clients:
        by_scope.setdefault(client.scope, []).append(client)
    for members in by_scope.values():
        assert Counter(member.edge for member in members) == {0: 2, 1: 2}
        assert [member.requester for member in members] == [0, None, None, None]
    assert Counter(client.edge for client in clients if client.requester == 0) == {0: 3, 1: 3}


def test_the_busy_writer_sends_evenly_between_the_others() -> None:
    clients = failover_clients(5, 2, busy=10)
    order = [clients[index].scope for index in schedule(clients)]
    busy = group_name(BUSY)
    assert Counter(order) == {busy: 10} | {group_name(number): 1 for number in range(1, 5)}
    places = [place for place, scope in enumerate(order) if scope == busy]
    assert max(after - before for before, after in itertools.pairwise(places)) <= 2


# Gaps


def test_the_longest_silence_may_begin_before_and_end_after() -> None:
    arrivals = [0, 100, 130, 400, 410]
    assert longest_silence(arrivals, 200, 300) == Silence(130, 400, True)
    assert longest_silence(arrivals, 120, 125) == Silence(100, 130, True)
    assert longest_silence(arrivals, 0, 50) == Silence(0, 100, True)


def test_a_silence_that_nothing_ends_lasts_as_long_as_was_looked() -> None:
    assert longest_silence([0, 100], 50, 900) == Silence(100, 900, False)
    assert longest_silence([0, 100], 500, 900) == Silence(100, 900, False)
    assert longest_silence([], 500, 900) == Silence(500, 900, False)


def test_silences_outside_do_not_count() -> None:
    arrivals = [0, 500, 510, 525, 900]
    assert longest_silence(arrivals, 505, 515) == Silence(510, 525, True)


def sent_at(*changes: tuple[int, int]) -> Trace:
    """Of changes by the ms at which they were sent and came."""
    return Trace(
        array("q", [came * MS for _, came in changes]),
        array("q", [(came - sent) * MS for sent, came in changes]),
    )


def test_again_is_told_from_the_fault_to_the_first_change_that_was_sent_after_it() -> None:
    trace = sent_at((990, 1000), (1005, 1030), (1008, 1450), (1011, 1480), (2899, 2900))
    assert again_ms(trace, 1010 * MS, 3000 * MS) == pytest.approx(470)
    assert longest_silence(trace.arrivals_ns, 1010 * MS, 3000 * MS).length_ms == pytest.approx(1420)


def test_again_of_what_never_comes_back() -> None:
    assert again_ms(sent_at((990, 1000), (1005, 1030)), 1010 * MS, 6010 * MS) == pytest.approx(5000)


def test_the_latest_change_of_a_time() -> None:
    trace = Trace(array("q", [10, 20, 30, 40]), array("q", [9 * MS, 2 * MS, 5 * MS, 8 * MS]))
    assert latest_ms(trace, 20, 30) == pytest.approx(5)
    assert latest_ms(trace, 50, 60) == 0


# Results


def every(step_ms: int, until_ms: int, gap: tuple[int, int] = (0, 0), delay_ms: int = 1) -> Trace:
    """An arrival every few ms, none inside the gap."""
    arrivals = [at * MS for at in range(0, until_ms, step_ms) if not gap[0] < at < gap[1]]
    return Trace(array("q", arrivals), array("q", [delay_ms * MS] * len(arrivals)))


def seen_by(traces: list[Trace], **changes: int) -> FailoverWindow:
    counts: dict[str, Any] = dict.fromkeys(
        ("missing", "disordered", "strange", "closed", "unanswered", "behind"), 0
    )
    return FailoverWindow(
        wall_s=10.0, cpu_s=2.0, sent=50, answered=50, delivered=200, lag_ms=1.0, traces=traces, **counts | changes
    )  # fmt: skip


TOLD = [
    Told(4000 * MS, ["group", "live/f0000", "origin-3", 1]),
    Told(5040 * MS, ["node-gone", "origin-1"]),
    Told(5040 * MS, ["group", "live/f0000", "", 1]),
    Told(5060 * MS, ["group", "live/f0001", "origin-2", 3]),
    Told(5070 * MS, ["group", "live/f0000", "origin-2", 2]),
    Told(9000 * MS, ["group-gone", "live/f0000"]),
]
USAGES = {"origin": Usage(1.0, 0.5, 100.0), "all": Usage(2.0, 1.0, 300.0)}


def result(**changes: int) -> CaseResult:
    """Group 0 is silent for 400 ms from 4,980 on at one reader, 300 at the others; group 1 is not concerned. Killed at 5,000."""
    specs = failover_clients(2, 2)
    gaps = ((4980, 5280), (4980, 5380), (4980, 5280), (4980, 5280))
    traces = [every(20, 9000, gap) for gap in gaps] + [every(20, 9000)] * MEMBERS
    faults = [Fault(5000 * MS, 8000 * MS, frozenset({group_name(0)}))]
    seen = Seen(1000 * MS, faults, TOLD, 4.0, USAGES, 0.5)
    return case_result(KILL, "sqlite", 1, "live", specs, seen, seen_by(traces, **changes))


def test_a_group_counts_with_its_worst_reader() -> None:
    made = result()
    assert (made.groups, made.sessions, made.concerned) == (2, 2 * MEMBERS, 1)
    assert made.gaps == Gaps([380.0], [400.0], [1.0])
    assert made.calm == Gaps([20.0], [20.0], [1.0])
    assert (made.calm_p99_ms, made.others_late_ms) == (1.0, 1.0)
    assert made.clients_ms == [280.0, 380.0, 280.0, 280.0]
    assert made.clients_calm_ms == [1.0] * MEMBERS
    assert (made.server_percent(), made.load_percent) == (75.0, 20.0)
    assert made.times == [Times(40.0, [70.0])]
    assert made.doubts() == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"closed": 2}, "2 clients were closed"),
        ({"missing": 3}, "3 changes never came"),
        ({"disordered": 4}, "4 changes came twice or out of order"),
        ({"strange": 5}, "5 messages were neither"),
        ({"unanswered": 6}, "6 changes were not answered"),
        ({"behind": 7}, "7 members do not have the last value"),
    ],
)
def test_faults_are_doubts_and_miss_the_promise(change: dict[str, int], text: str) -> None:
    made = result(**change)
    (doubt,) = made.doubts()
    assert doubt.startswith(text)
    (row,) = case_rows([made], CASES)
    assert row.missed == [f"{next(iter(change.values()))} faults, promised 0"]


def test_doubts_about_the_machine() -> None:
    assert replace(result(), foreign_percent=40.0).doubts() == ["others used 40 % of one core"]
    assert replace(result(), calm_p99_ms=80.0).doubts() == [
        "changes took 80 ms (p99) before anything was done"
    ]
    assert replace(result(), lag_ms=300.0).doubts() == ["writers were up to 300 ms late"]


def test_rows_take_every_group_of_every_run_and_keep_to_the_bounds() -> None:
    slow = replace(result(), run=2, gaps=Gaps([600.0, 1600.0], [610.0, 1610.0], [605.0, 1605.0]))
    (row,) = case_rows([result(), slow], CASES)
    assert (row.concerned, row.judged.median, row.judged.worst) == (3, 600.0, 1600.0)
    assert row.missed == ["median 600 ms, promised < 500", "worst 1600 ms, promised < 1500"]
    (held,) = case_rows([result()], CASES)
    assert held.missed == []


def test_each_case_is_judged_by_its_own_figure() -> None:
    gaps = Gaps([1.0], [2.0], [3.0])
    judged = {
        case.name: case_rows([replace(result(), case=case.name, gaps=gaps)], CASES)[0].judged.worst
        for case in CASES
    }
    assert judged == {"kill": 1.0, "hang": 1.0, "move": 2.0, "drain": 3.0, "control": 3.0}


def test_a_fault_that_comes_again_counts_each_time() -> None:
    specs = failover_clients(1, 2)
    traces = [every(20, 9000, (5000, 5100))] * MEMBERS
    scope = frozenset({group_name(0)})
    faults = [Fault(at * MS, (at + 1000) * MS, scope) for at in (5000, 6000, 7000)]
    seen = Seen(0, faults, [], 4.0, USAGES, 0.0)
    made = case_result(MOVE, "sqlite", 1, "live", specs, seen, seen_by(traces))
    assert made.concerned == 3
    assert made.gaps.silence_ms == [100.0, 20.0, 20.0]
    assert made.others_late_ms == 0.0


# Reports


def report() -> FailoverReport:
    results = [result(), replace(result(missing=3), store="redis"), replace(result(), case="move")]
    servers: dict[str, dict[str, object]] = {"sqlite": {"version": "headwater-edge 2"}}
    return FailoverReport("Fail-over", MACHINE, {"groups": 2}, servers, results)


def test_the_report_names_machine_cases_misses_and_doubts() -> None:
    made = report()
    text = made.sheet().markdown()
    for part in (
        "- Some CPU, 2 cores, 8.0 GB",
        "- all servers and the load together on 2 cores",
        f"- kill: {KILL.about}",
        "- kill, journal sqlite: the registry told of it after 40 / 40 / 40 ms, of the groups' new origins after 70 / 70 / 70 ms",
        "- MISSED kill, journal redis: 3 faults, promised 0",
        "- MISSED move, journal sqlite: worst 400 ms, promised < 200",
        "- DOUBT kill, journal redis, run 1: 3 changes never came to a member",
        "| kill | sqlite | 1 | delivered again | 380 / 380 / 380 | median 500, worst 1500 | yes |",
        "| move | sqlite | 1 | longest silence | 400 / 400 / 400 | worst 200 | MISSED |",
    ):
        assert part in text
    assert f"- drain: {DRAIN.about}" not in text
    data = json.loads(json.dumps(made.data()))
    assert data["results"][0]["clients_ms"] == [280.0, 380.0, 280.0, 280.0]
    assert data["rows"][1]["missed"] == ["3 faults, promised 0"]


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    write_plot(report(), tmp_path / "failover.png")
    assert (tmp_path / "failover.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_what_the_cluster_is_started_with(tmp_path: Path) -> None:
    quiet, told = FailoverCluster("sqlite"), FailoverCluster("redis", tmp_path)
    try:
        assert quiet.options("registry")[-2:] == ["--log-level", "warning"]
        assert told.options("registry")[-4:] == ["--log-level", "info", "--store", told.store]
        assert ["--store", told.store] == told.options("origin-3")[-2:]
        assert "--max-per-address" in quiet.options("edge-2")
        assert quiet.origins == ["origin-1", "origin-2", "origin-3"]
    finally:
        quiet.stop()
        told.stop()


@pytest.mark.parametrize("names", [("kill",), ("kill", "move", "drain", "hang", "control")])
def test_the_plot_has_a_panel_for_each_case(names: tuple[str, ...], tmp_path: Path) -> None:
    made = replace(report(), results=[replace(result(), case=name) for name in names])
    write_plot(made, tmp_path / "failover.png")
    assert (tmp_path / "failover.png").stat().st_size > 10_000
