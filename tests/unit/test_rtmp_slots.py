"""The versioned content of a SharedObject against a plain model: what a difference says, at any point, is what is missing."""

from typing import Any

import pytest
from headwater_rtmp import slots as module
from headwater_rtmp.shared_object import EventType
from headwater_rtmp.slots import Slots
from hypothesis import given
from hypothesis import strategies as st

CHANGE, REMOVE, CLEAR = EventType.CHANGE, EventType.REMOVE, EventType.CLEAR
KEYS = st.sampled_from(["a", "b", "c", "ä", "long" * 20])
EVENTS = st.one_of(
    st.tuples(st.just(int(CHANGE)), KEYS, st.binary(min_size=1, max_size=6)),
    st.tuples(st.just(int(REMOVE)), KEYS, st.just(b"")),
    st.just((int(CLEAR), "", b"")),
    st.just((int(EventType.SEND_MESSAGE), "", b"x")),
)
COMMITS = st.lists(st.lists(EVENTS, min_size=1, max_size=4), max_size=12)


def commit(slots: Slots, *events: tuple[int, str, bytes]) -> None:
    slots.apply(slots.next_version(), events)


def size(values: dict[str, bytes]) -> int:
    return sum(len(key.encode()) + len(value) for key, value in values.items())


def model_apply(model: dict[str, bytes], events: list[tuple[int, str, bytes]]) -> None:
    for kind, key, value in events:
        if kind == CHANGE:
            model[key] = value
        elif kind == REMOVE:
            model.pop(key, None)
        elif kind == CLEAR:
            model.clear()


@given(COMMITS)
def test_every_earlier_version_gets_what_it_lacks(commits: list[list[tuple[int, str, bytes]]]) -> None:
    slots = Slots()
    model: dict[str, bytes] = {}
    earlier: list[tuple[int, dict[str, bytes]]] = [(0, {})]
    for events in commits:
        slots.apply(slots.next_version(), events)
        model_apply(model, events)
        earlier.append((slots.version, dict(model)))
    assert slots.values == model
    assert slots.size_bytes == size(model)
    for version, content in earlier:
        keys = slots.since(version)
        assert keys is not None
        assert len(keys) == len(set(keys))
        for key in keys:
            if key in slots.values:
                content[key] = slots.values[key]
            else:
                content.pop(key, None)
        assert content == model


@given(COMMITS)
def test_rows_make_the_same_again(commits: list[list[Any]]) -> None:
    slots = Slots(7)
    for events in commits:
        slots.apply(slots.next_version(), events)
    again = Slots.from_rows(slots.version, slots.base, slots.rows())
    assert again.values == slots.values
    assert (again.version, again.base, again.size_bytes) == (slots.version, slots.base, slots.size_bytes)
    assert [again.since(at) for at in range(slots.version + 2)] == [
        slots.since(at) for at in range(slots.version + 2)
    ]
    assert again.rows() == slots.rows()


def test_a_version_from_before_or_from_the_future_needs_everything() -> None:
    slots = Slots(10)
    commit(slots, (CHANGE, "a", b"1"))
    assert slots.since(9) is None
    assert slots.since(10) == ["a"]
    assert slots.since(11) == []
    assert slots.since(12) is None


def test_purge_forgets_tombstones_and_who_needs_them() -> None:
    slots = Slots()
    for key in "abc":
        commit(slots, (CHANGE, key, b"1"))
    commit(slots, (REMOVE, "a", b""))
    commit(slots, (REMOVE, "b", b""))
    slots.purge(5)
    assert slots.tombstones == 1
    assert slots.since(4) is None
    assert slots.since(5) == []
    slots.purge(1000)
    assert slots.tombstones == 0
    assert slots.since(5) == []


def test_tombstones_are_bounded_and_the_base_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOMBSTONES", 8)
    slots = Slots()
    for number in range(10):
        commit(slots, (CHANGE, str(number), b"1"))
    for number in range(8):
        commit(slots, (REMOVE, str(number), b""))
    assert slots.tombstones == 8
    assert slots.since(10) == [str(number) for number in range(8)]
    commit(slots, (REMOVE, "8", b""))
    assert slots.tombstones == 7
    assert slots.since(11) is None
    assert slots.since(12) == [str(number) for number in range(2, 9)]


def test_one_commit_that_clears_and_sets_is_one_version() -> None:
    slots = Slots()
    commit(slots, (CHANGE, "a", b"1"), (CHANGE, "b", b"1"))
    commit(slots, (CLEAR, "", b""), (CHANGE, "a", b"2"))
    assert slots.version == 2
    assert slots.since(1) == ["b", "a"]
    assert slots.values == {"a": b"2"}


def test_the_version_wraps_as_the_wire_does() -> None:
    assert Slots(0xFFFFFFFF).next_version() == 0
