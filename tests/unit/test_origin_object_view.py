"""The origin: kinds of SharedObjects, how long they stay, and the application's view. No sockets."""

from typing import Any

import pytest
from headwater_amf import UNDEFINED, amf0
from headwater_bus.object_traffic import ObjectClosed, ObjectJoined, ObjectOpened, ObjectUpdate
from headwater_origin import SharedObjectView
from support.object_bench import (
    CHANGED,
    CLEARED,
    RELEASE,
    REMOVED,
    SENT,
    SET,
    USE,
    Open,
    Reading,
    application,
    content,
    rows,
    updates,
    user,
)
from support.origin_bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench({"app": Open, "read": Reading})


# Kinds and time


def test_persistent_and_temporary_objects_of_one_name_are_two(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (USE,), persistent=True)
    assert [type(told) for told in link.take()] == [ObjectOpened, ObjectJoined]
    client.shared("board", (SET, "x", 1.0), persistent=True)
    assert link.take() == [ObjectUpdate(2, 1, 1, client.number, rows((CHANGED, "x", amf0.encode(1.0))))]
    assert len(client.scope.shared_object("board")) == 0


def test_a_temporary_object_without_users_is_forgotten_after_a_while(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0))
    objects = bench.origin.groups["app/room"].objects
    shared = objects._objects["board", False]
    objects.tick(shared._group.clock() + 1000)
    assert len(objects._objects) == 1
    client.shared("board", (RELEASE,))
    assert shared.idle_since is not None
    objects.tick(shared.idle_since + 4.9)
    assert len(objects._objects) == 1
    objects.tick(shared.idle_since + 5.0)
    assert len(objects._objects) == 0
    link.take()
    client.shared("board", (USE,))
    assert link.take() == [
        ObjectOpened(2, "board", False, 1, 1, 0, "app/room", rows()),
        ObjectJoined(client.number, 2, -1),
    ]


def test_who_comes_back_in_time_finds_the_content(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0), (RELEASE,), (USE,))
    objects = bench.origin.groups["app/room"].objects
    objects.tick(objects._group.clock() + 1000)
    assert ObjectClosed not in map(type, link.take())
    assert content(bench) == {"x": amf0.encode(1.0)}


def test_persistent_objects_with_content_stay_and_keep_their_group(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    client.shared("board", (USE,), (SET, "x", 1.0), persistent=True)
    client.shared("empty", (USE,), persistent=True)
    client.detach()
    group = bench.origin.groups["app/room"]
    bench.origin.tend(group.clock() + 1000)
    assert bench.origin.groups == {"app/room": group}
    assert list(group.objects._objects) == [("board", True)]


# The application's view


@pytest.fixture
def view(bench: Bench) -> SharedObjectView:
    bench.joined(bench.edge())
    made: SharedObjectView = application(bench).shared_object("board")
    return made


def test_the_view_is_a_mapping(view: SharedObjectView) -> None:
    assert dict(view) == {}
    view["x"] = 1.0
    view["y"] = {"a": [None]}
    view.update(z="three")
    assert dict(view) == {"x": 1.0, "y": {"a": [None]}, "z": "three"}
    assert ("x" in view, "w" in view, len(view), view.get("w", 5)) == (True, False, 3, 5)
    del view["x"]
    with pytest.raises(KeyError):
        del view["x"]
    with pytest.raises(KeyError):
        view["x"]
    view["y"] = None
    view["z"] = UNDEFINED
    assert dict(view) == {}
    view["never"] = None
    assert (view.version, view.name, view.users) == (6, "board", 0)
    assert repr(view) == "<SharedObjectView 'board' version 6>"


def test_changes_of_the_application_reach_every_user(bench: Bench) -> None:
    here, there = bench.edge(), bench.edge()
    client, _ = user(bench, here), user(bench, there)
    view = client.scope.shared_object("board")
    view.change({"x": 1.0, "y": 2.0, "gone": None})
    view.change({"x": None, "z": 3.0})
    view.send("hear", 5.0)
    view.clear()
    view.clear()
    view.change({})
    for link in (here, there):
        assert updates(link) == [
            (1, [(CHANGED, "x", [1.0], 0), (CHANGED, "y", [2.0], 0)]),
            (2, [(REMOVED, "x", None, 0), (CHANGED, "z", [3.0], 0)]),
            (2, [(SENT, "", ["hear", 5.0], 0)]),
            (3, [(CLEARED, "", None, 0)]),
        ]
    assert view.users == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"a": 1.0, "b": object()},
        {"a": 1.0, "": 2.0},
        {"a": 1.0, 5: 2.0},
        {"a": 1.0, "\ud800": 2.0},
        {"a": 1.0, "k" * 257: 2.0},
        {"a": 1.0, "b": "x" * 70_000},
        {"a": 1.0, "b": [0.0] * 20_000},
    ],
    ids=["no form", "empty", "number", "surrogate", "long key", "big", "many parts"],
)
def test_a_change_that_is_refused_changes_nothing(view: SharedObjectView, changes: Any) -> None:
    view.change({"a": "old", "z": 0.0})
    with pytest.raises(ValueError, match=r"\w"):
        view.change(changes)
    assert dict(view) == {"a": "old", "z": 0.0}
    assert view.version == 1


def test_a_refused_change_of_a_nearly_full_object_is_taken_back() -> None:
    bench = Bench({"app": Open}, object_total_bytes=100)
    bench.joined(bench.edge())
    view = application(bench).shared_object("board")
    view.change({"a": "x" * 60, "b": 1.0})
    with pytest.raises(ValueError, match="at most 100 bytes"):
        view.change({"a": None, "c": "x" * 60, "d": "x" * 60})
    assert dict(view) == {"a": "x" * 60, "b": 1.0}
    assert view._target.content.size_bytes == 1 + 63 + 1 + 9
    view.change({"a": None, "c": "x" * 60})
    assert sorted(view) == ["b", "c"]


def test_a_send_that_edges_could_not_write_is_refused(view: SharedObjectView) -> None:
    for arguments in ((object(),), ([0.0] * 20_000,), ("x" * 65_500, "y" * 100)):
        with pytest.raises(ValueError, match=r"\w"):
            view.send("hear", *arguments)


@pytest.mark.parametrize("name", ["", "a*", "..", 5, "\ud800"])
def test_the_application_cannot_make_objects_with_bad_names(
    view: SharedObjectView, name: Any, bench: Bench
) -> None:
    with pytest.raises(ValueError, match="name"):
        application(bench).shared_object(name)


def test_objects_of_the_application_are_kept_without_users(view: SharedObjectView, bench: Bench) -> None:
    view["x"] = 1.0
    objects = bench.origin.groups["app/room"].objects
    objects.tick(objects._group.clock() + 1000)
    assert application(bench).shared_object("board")["x"] == 1.0


def test_iteration_bears_changes(view: SharedObjectView) -> None:
    view.change({"a": 1.0, "b": 2.0})
    for key in view:
        del view[key]
    assert len(view) == 0
