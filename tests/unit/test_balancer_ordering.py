"""A command's side of an order: what is shown, asked, followed and said, with a balancer that the test plays."""

import io
import json
import time
from typing import Any

import pytest
from headwater_balancer import ordering, tables
from headwater_balancer.ordering import Operator
from headwater_bus.control import Order, Ordered, Progress, ProgressRequest, Snapshot
from headwater_bus.options import OperatorError
from headwater_bus.requests import RefusedError
from rich.console import Console

MOVES = [
    ["chat/a", "origin-1", "origin-2", 1.25, 3, "origin-1 is drained"],
    ["chat/b", "origin-1", "origin-2", 9.0, 0, "x"],
]
SPREAD = [["origin-1", 1.0, 2, 10.25, 5.1, 0, 0.0], ["origin-2", 2.0, 0, 0.0, 0.0, 2, 10.25]]


class Played(Operator):
    """Answers come from `answers`, in turn; what was asked is in `asked`."""

    def __init__(self, *answers: Any, as_json: bool = False, groups: tuple[list[Any], ...] = ()) -> None:
        self.as_json = as_json
        self.answers = list(answers)
        self.asked: list[Any] = []
        self.groups = list(groups)

    def _ask(self, envelope: Any) -> Any:
        self.asked.append(envelope)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def snapshot(self) -> Snapshot:
        return Snapshot("feed", 1, [], [list(row) for row in self.groups])


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "_AGAIN_S", 0.001)


def planned(job: str = "") -> Ordered:
    return Ordered(MOVES, SPREAD, ["something"], job)


def rows(*states: str) -> Progress:
    return Progress([[*row[:3], state, "why"] for row, state in zip(MOVES, states, strict=True)])


def test_a_dry_run_shows_the_plan_and_orders_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    operator = Played(planned())
    assert operator.order("rebalance", dry_run=True) == 0
    assert operator.asked == [Order("rebalance", [], dry_run=True)]
    shown = capsys.readouterr().out
    for part in ("chat/a", "origin-1 is drained", "fair share", "note: something"):
        assert part in shown
    assert all(len(line.rstrip()) <= 80 for line in shown.splitlines())


def test_what_was_shown_is_ordered_and_followed(capsys: pytest.CaptureFixture[str]) -> None:
    operator = Played(planned(), planned("7"), rows("moving", "waiting"), rows("moved", "moved"))
    assert operator.order("rebalance", done="kept") == 0
    assert operator.asked[1] == Order("rebalance", [], moves=[row[:3] for row in MOVES])
    assert operator.asked[2:] == [ProgressRequest("7")] * 2
    shown = capsys.readouterr().out
    assert shown.endswith("kept\n2 groups moved\n")


def test_failures_are_named_and_are_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    operator = Played(planned(), planned("7"), rows("moved", "failed"))
    assert operator.order("pin", ("chat/*", "origin-2")) == 1
    told = capsys.readouterr()
    assert told.out.endswith("1 group moved, 1 not\n")
    assert told.err == "chat/b stays on origin-1: why\n"


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    operator = Played(planned(), planned("7"), rows("moved", "failed"), as_json=True)
    assert operator.order("pin", ("chat/*", "origin-2")) == 1
    said = json.loads(capsys.readouterr().out)
    assert [(move["group"], move["state"], move["text"]) for move in said["moves"]] == [
        ("chat/a", "moved", "why"),
        ("chat/b", "failed", "why"),
    ]
    assert (said["order"], said["values"], said["dry_run"]) == ("pin", ["chat/*", "origin-2"], False)
    assert said["origins"][1]["groups_then"] == 2


def test_refusals_are_errors_unless_it_is_done_already() -> None:
    refused = RefusedError("chat/* is pinned already", "already")
    with pytest.raises(OperatorError, match="pinned already"):
        Played(refused).order("pin", ("chat/*", "origin-2"))
    assert Played(refused).order("drain", ("origin-2",), already_is_fine=True) == 0
    with pytest.raises(OperatorError, match="no such"):
        Played(RefusedError("no such", "unknown-origin")).order("drain", ("x",), already_is_fine=True)


@pytest.mark.parametrize(("answer", "status", "orders"), [("n\n", 1, 1), ("y\n", 0, 2)])
def test_on_a_terminal_it_asks(
    monkeypatch: pytest.MonkeyPatch, answer: str, status: int, orders: int
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    asked: list[str] = []

    def confirm(text: str) -> bool:
        asked.append(text)
        return answer == "y\n"

    monkeypatch.setattr("click.confirm", confirm)
    operator = Played(planned(), planned())
    assert operator.order("rebalance", yes=False) == status
    assert asked == ["rebalance: move 2 groups?"]
    assert len(operator.asked) == orders


def test_when_the_balancer_dies_meanwhile_the_table_says_what_was_moved() -> None:
    gone = RefusedError("balancer-2 knows no job 7", "unknown-job")
    groups = (["chat/a", "origin-2", 5], ["chat/b", "origin-1", 2])
    operator = Played(planned(), planned("7"), rows("moving", "waiting"), gone, groups=groups)
    assert operator.order("rebalance") == 1
    followed = Played(planned("7"), rows("moving", "waiting"), gone, groups=groups)
    assert [row[3] for row in followed._follow(followed._ask(Order("x")))] == ["moved", "dropped"]


def test_nothing_to_move_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    operator = Played(Ordered([], [], []))
    assert operator.order("rebalance") == 0
    assert (capsys.readouterr().out, len(operator.asked)) == ("no group moves\n", 1)


def test_tables_fit_80_columns() -> None:
    many = Ordered([[f"chat/room{n}", *MOVES[0][1:]] for n in range(100)], SPREAD, [])
    assert tables.moves_table(many).row_count == tables.MAX_SHOWN
    now = time.mktime((2026, 11, 28, 12, 0, 0, 0, 0, -1))
    events = [
        [now - 90_000, "node-died", "origin-1", "", "", 0, ""],
        [now, "moved", "chat/a", "origin-1", "origin-2", 12, "load: origin-1 has 133 % of its share"],
    ]
    for table in (tables.moves_table(many), tables.spread_table(many), tables.history_table(events, now)):
        out = io.StringIO()
        Console(file=out, width=80).print(table)
        assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 80
    assert "11-27 11:00:00" in out.getvalue()
    assert "\n12:00:00" in out.getvalue()
    assert tables.history_json(events[1]) == {
        "at": now, "event": "moved", "subject": "chat/a", "from": "origin-1", "to": "origin-2", "epoch": 12,
        "reason": "load: origin-1 has 133 % of its share",
    }  # fmt: skip
