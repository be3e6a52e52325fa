"""Moves under way: which begin, in what order, how many at a time, and until when a group counts as moving."""

from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event
from headwater_balancer import mover
from headwater_balancer.board import Move, Why
from headwater_balancer.mover import Mover
from headwater_bus.control import Assigned, MoveGroup, Refused
from headwater_bus.view import ClusterView
from support.waiting import eventually


class Origins:
    """Origins that hand groups over when their gate is open. The table changes when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.gates: dict[str, Event] = {}
        self.answer: Refused | None = None

    def ask(self, origin: str, request: MoveGroup, timeout_s: float) -> Any:
        self.asked.append((origin, request.group))
        self.gates.setdefault(origin, Event()).wait()
        return self.answer or Assigned(request.group, request.origin, request.epoch + 1)


class Moving:
    """A mover with a table in which `one` and `two` have ten groups each."""

    def __init__(self) -> None:
        self.origins, self.view = Origins(), ClusterView()
        self.ended = 0
        self.table([(f"chat/{origin}-{n}", origin, 1) for origin in ("one", "two") for n in range(10)])
        node: Any = SimpleNamespace(view=self.view)
        origins: Any = self.origins
        self.mover = Mover(node, origins, lambda move: "", self._done)

    def _done(self) -> None:
        self.ended += 1

    def table(self, rows: list[tuple[str, str, int]]) -> None:
        self.view._apply([["group", *row] for row in rows])

    def start(self, why: Why, *groups: str) -> None:
        self.mover.start(
            Move(f"chat/{name}", name.partition("-")[0], "three", 1.0, 0, why, "") for name in groups
        )

    def asked(self, origin: str) -> list[str]:
        return [group.partition("/")[2] for name, group in self.origins.asked if name == origin]


@pytest.fixture
def moving() -> Any:
    made = Moving()
    job = gevent.spawn(made.mover.work)
    yield made
    job.kill()


def test_a_few_at_a_time_from_each_origin(moving: Moving) -> None:
    moving.start(Why.DRAIN, *(f"one-{n}" for n in range(10)), "two-1")
    eventually(lambda: len(moving.origins.asked) == mover.AT_ONCE + 1, within_s=10)
    assert moving.asked("one") == ["one-0", "one-1", "one-2"]
    assert moving.asked("two") == ["two-1"]


def test_orders_come_first_then_drains_and_loads_last(moving: Moving) -> None:
    moving.start(Why.LOAD, *(f"one-{n}" for n in range(5)))
    eventually(lambda: len(moving.origins.asked) == mover.AT_ONCE, within_s=10)
    moving.start(Why.PIN, "one-5")
    moving.start(Why.DRAIN, "one-6", "one-7")
    moving.start(Why.ORDER, "one-8")
    moving.origins.gates["one"].set()
    eventually(lambda: len(moving.origins.asked) == 9, within_s=10)
    assert moving.asked("one")[3:] == ["one-8", "one-6", "one-7", "one-5", "one-3", "one-4"]


def test_a_group_that_has_moved_counts_as_moving_until_the_table_says_so(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the next plan has it on its old origin, and moves it again."""
    monkeypatch.setattr(mover, "_SEEN_S", 600.0)
    moving.start(Why.DRAIN, "one-0", "one-1")
    eventually(lambda: len(moving.origins.asked) == 2, within_s=10)
    moving.origins.gates["one"].set()
    # Both have moved as far as their origin knows: there is room for another.
    moving.start(Why.DRAIN, "one-2", "one-3", "one-4")
    eventually(lambda: len(moving.origins.asked) == 5, within_s=10)
    assert moving.mover.ticket("chat/one-0") is not None
    assert moving.ended == 0
    moving.table([("chat/one-0", "three", 2)])
    eventually(lambda: moving.ended == 1, within_s=10)
    assert moving.mover.ticket("chat/one-0") is None
    assert moving.mover.ticket("chat/one-1") is not None


def test_what_waits_is_dropped_and_what_has_failed_rests(moving: Moving) -> None:
    moving.start(Why.DRAIN, *(f"one-{n}" for n in range(5)))
    eventually(lambda: len(moving.origins.asked) == mover.AT_ONCE, within_s=10)
    moving.mover.drop_waiting("another balancer leads")
    assert [row.move.group for row in moving.mover.under_way()] == [f"chat/one-{n}" for n in range(3)]
    moving.origins.answer = Refused("not-mine", "it is not here")
    moving.origins.gates["one"].set()
    eventually(lambda: moving.ended == 3, within_s=10)
    assert moving.mover.failed == 3
    assert len(moving.mover.resting(0.0)) == 3
    assert len(moving.origins.asked) == mover.AT_ONCE
