"""Parts of the origin's SharedObjects alone: the lock, a transaction's changes, what waits for the application."""

import logging
from typing import Any

import gevent
import pytest
from headwater_amf import amf0
from headwater_bus.object_traffic import ObjectUpdate
from headwater_origin.objects.lock import LockTimeout, ObjectLock
from headwater_origin.objects.operations import CLEAR, REMOVE, SEND, SET, Row
from headwater_origin.objects.overlay import Overlay
from headwater_origin.objects.slot_values import SlotLimits
from headwater_rtmp.slots import Slots
from hypothesis import given
from hypothesis import strategies as st
from support import object_bench as bench_module
from support.object_bench import Open, own, user
from support.origin_bench import Bench, settle

# The lock


def test_a_lock_goes_round_in_order_and_nobody_overtakes() -> None:
    lock, log = ObjectLock(), list[str]()

    def holds(name: str) -> None:
        lock.acquire(name)
        log.append(f"{name} has it")
        gevent.sleep(0)
        lock.release(name)

    def passes(name: str) -> None:
        with lock.turn():
            log.append(name)

    lock.acquire("first")
    for number in range(2):
        gevent.spawn(holds, f"holder {number}")
        gevent.spawn(passes, f"a{number}")
        gevent.spawn(passes, f"b{number}")
    settle()
    assert (log, lock.waiting) == ([], 6)
    lock.release("nobody")
    lock.release("first")
    gevent.spawn(passes, "late")
    settle()
    assert log == ["holder 0 has it", "a0", "b0", "holder 1 has it", "a1", "b1", "late"]
    assert not lock.busy


def test_a_lock_is_taken_again_by_its_holder() -> None:
    lock = ObjectLock()
    lock.acquire("me")
    lock.acquire("me")
    assert lock.depth == 2
    lock.nest("other")
    lock.nest("me")
    lock.nest("me")
    assert (lock.depth, lock.holder) == (1, "me")
    lock.release("me")
    assert not lock.busy


def test_who_gives_up_does_not_keep_the_others_waiting() -> None:
    lock, log = ObjectLock(), list[str]()

    def waits(name: str, timeout_s: float | None) -> None:
        try:
            with lock.turn(timeout_s):
                log.append(name)
        except LockTimeout:
            log.append(f"{name} gave up")

    lock.acquire("holder")
    gevent.spawn(waits, "short", 0.02)
    killed = gevent.spawn(waits, "killed", None)
    gevent.spawn(waits, "long", None)
    settle()
    gevent.sleep(0.1)
    assert log == ["short gave up"]
    # Killed when it has been given its turn already.
    killed.kill(block=False)
    lock.release("holder")
    settle()
    assert log == ["short gave up", "long"]
    assert not lock.busy


def test_too_many_who_wait_for_a_lock_are_refused() -> None:
    bench = Bench({"app": Open}, inbox_messages=1)
    clients = [user(bench, bench.edge()) for _ in range(2)]
    view = clients[0].scope.shared_object("board")

    def hold() -> None:
        with view.locked():
            gevent.sleep(0)
            gevent.sleep(0)
            gevent.sleep(0)

    holder = gevent.spawn(hold)
    gevent.sleep(0)
    for client in clients:
        client.shared("board", (bench_module.SET, "x", 1.0), (bench_module.DELETE, "y"))
        gevent.sleep(0)
    assert own(clients[1]) == [("STATUS", "SharedObject.Busy"), ("SLOT", "x"), ("SLOT", "y")]
    holder.join(timeout=5)
    settle()
    assert len(clients[0].link.take(ObjectUpdate)) == 1
    assert dict(view) == {"x": 1.0}


# A transaction's changes


class Target:
    """An object that does what it is told."""

    waits = False
    name = "board"

    def __init__(self, slots: dict[str, bytes]) -> None:
        self.content = Slots()
        self.content.apply(1, [(SET, key, value) for key, value in slots.items()])
        self.limits = SlotLimits(4, 8, 40)
        self.rows: list[Row] = []

    def carry_out(self, rows: list[Row], holder: object | None) -> None:
        self.rows += rows
        self.content.apply(self.content.next_version(), rows)

    def unlock(self, holder: object) -> None:
        """It is never locked."""


KEYS = st.sampled_from(["a", "b", "c", "d", "e", "ä"])
SLOTS = st.dictionaries(KEYS, st.binary(min_size=1, max_size=8), max_size=3)
WRITES = st.lists(
    st.one_of(
        st.dictionaries(KEYS, st.one_of(st.none(), st.binary(min_size=1, max_size=10)), max_size=4),
        st.just("clear"),
        st.just("send"),
        st.just("mark"),
    ),
    max_size=10,
)


def too_much(slots: dict[str, bytes]) -> bool:
    size = sum(len(key.encode()) + len(value) for key, value in slots.items())
    return len(slots) > 4 or size > 40 or any(len(value) > 8 for value in slots.values())


@given(SLOTS, WRITES, st.dictionaries(KEYS, st.binary(min_size=1, max_size=3), max_size=1))
def test_an_overlay_shows_and_becomes_what_was_written(
    slots: dict[str, bytes], writes: list[Any], meanwhile: dict[str, bytes]
) -> None:
    target = Target(slots)
    overlay, model, sent, touched = Overlay(target), dict(slots), 0, set[str]()
    for write in writes:
        if write == "clear":
            overlay.clear()
            model.clear()
        elif write in ("send", "mark"):
            overlay.send(b"m", mark=write == "mark")
            sent += 1
        else:
            wanted = {key: value for key, value in {**model, **write}.items() if value is not None}
            try:
                overlay.change(write)
            except ValueError:
                # Never for what fits; for what does not, only where it shrinks what was too large before.
                assert too_much(wanted)
            else:
                touched |= {key for key, value in write.items() if value is not None or key in model}
                model = wanted
        keys = overlay.keys()
        assert {key: overlay.get(key) for key in keys} == model
        assert len(overlay) == len(model)
        assert overlay.get("never") is None
    assert dict(target.content.values) == slots
    if meanwhile and "clear" not in writes:
        target.content.apply(2, [(SET, key, value) for key, value in meanwhile.items()])
        model.update((key, value) for key, value in meanwhile.items() if key not in touched)
    size = target.content.size_bytes
    try:
        overlay.prepare()
    except ValueError:
        assert too_much(model)
        overlay.abandon()
        assert target.rows == []
        return
    assert not too_much(model) or sum(len(k.encode()) + len(v) for k, v in model.items()) <= size
    overlay.commit()
    assert dict(target.content.values) == model
    assert sum(row[0] == SEND for row in target.rows) == sent
    if "send" not in writes:
        # Without messages between, each slot is told once.
        told = [row for row in target.rows if row[0] in (SET, REMOVE)]
        assert len(told) == len({row[1] for row in told})
        assert [row[0] for row in target.rows].count(CLEAR) <= 1
    overlay.commit()
    assert sum(row[0] == SEND for row in target.rows) == sent


# What waits for the application


def test_an_application_that_does_not_keep_up_is_told_less_often(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    class Slow(Open):
        def on_start(self) -> None:
            board = self.shared_object("board")
            board.on_change(heard.append)
            board.on_message("hear", lambda number: heard.append(number))

    bench = Bench({"app": Slow}, inbox_messages=4)
    client = user(bench, bench.edge())
    for number in range(6):
        client.shared("board", (bench_module.SET, f"k{number}", 1.0))
    for number in range(6):
        client.shared("board", (bench_module.SEND, "hear", float(number)))
    settle()
    changes = [told for told in heard if isinstance(told, dict)]
    assert {key for told in changes for key in told} == {f"k{number}" for number in range(6)}
    assert len(changes) < 6
    assert len([told for told in heard if isinstance(told, float)]) < 6
    dropped = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert dropped
    assert bench.origin.counters.handler_errors == len(dropped)
    assert amf0.decode(client.scope.shared_object("board")._target.content.values["k0"])[0] == 1.0


def test_another_class_of_the_application_is_told_and_the_former_no_more() -> None:
    heard: list[Any] = []

    class Watching(Open):
        def on_start(self) -> None:
            board = self.shared_object("board")
            board.on_change(lambda changes: heard.append((type(self).__name__, changes)))

    class Later(Watching):
        """The same again."""

    bench = Bench({"app": Watching})
    client = user(bench, bench.edge())
    client.shared("board", (bench_module.SET, "x", 1.0))
    settle()
    bench.origin.groups["app/room"].app.replace(Later)
    client.shared("board", (bench_module.SET, "x", 2.0))
    settle()
    assert heard == [("Watching", {"x": 1.0}), ("Later", {"x": 2.0})]
