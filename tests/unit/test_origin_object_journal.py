"""The origin: SharedObjects and the journal's rows: what is kept, what comes back, and differences by version. No sockets."""

from collections.abc import Callable
from typing import Any

import pytest
from headwater_amf import amf0
from headwater_bus.object_traffic import ObjectJoined, ObjectOpened, ObjectResync, ObjectUpdate
from headwater_bus.rows import unpack_rows
from headwater_origin import StoreUnavailable, hooks
from headwater_origin.durable.journal import RowKind
from headwater_origin.durable.outputs import Outputs
from headwater_rtmp.shared_object import Event, encode_shared_object
from hypothesis import given, settings
from hypothesis import strategies as st
from support.object_bench import CLEAR, DELETE, RELEASE, SEND, SET, USE, Open, idle, own, slot, user
from support.origin_bench import Bench, FakeClient, settle


class Recorded(Outputs):
    """Nothing waits for the journal: its rows are the test's."""

    def begin(self) -> None:
        """No entry gathers."""

    def applied(self, session: Any, number: int, is_kept: bool = True) -> None:
        """Nobody comes back."""


class Recording(Bench):
    """One whose groups' rows are kept."""

    def __init__(self, **config: Any) -> None:
        super().__init__({"app": Open}, **config)
        self.rows: list[list[Any]] = []

    def start(self) -> FakeClient:
        """A client in a group that is recorded."""
        client = self.joined(self.edge())
        group: Any = self.origin.groups["app/room"]
        group.outputs = Recorded(group, self.origin.committer)
        group.outputs.off = False
        group.journaled = True
        group.journal = self.rows.append
        group.send, group.reply = group.outputs.send, group.outputs.reply
        return client

    @property
    def objects(self) -> Any:
        return self.origin.groups["app/room"].objects

    def again(self, rows: list[list[Any]]) -> "Recording":
        """Another origin that was given these rows."""
        other = Recording()
        other.start()
        for row in rows:
            if row[0] <= RowKind.OBJECT_GONE or row[0] == RowKind.OBJECT_RECENT:
                other.objects.restore(row)
        return other


def state(bench: Recording) -> Any:
    """All that is kept of the objects; slots of one version in any order, commits by their places among all that are
    known."""
    rows: list[list[Any]] = []
    orders: list[int] = []
    for *row, payload in bench.objects.snapshot_rows():
        if row[0] == RowKind.OBJECT_SET:
            rows.append([*row, sorted(unpack_rows(payload, str, bytes, int))])
        elif row[0] == RowKind.OBJECT_RECENT:
            commits = unpack_rows(payload, int, int, list, bytes, int)
            orders += [commit[-1] for commit in commits]
            rows.append([*row, commits])
        else:
            rows.append([*row, payload])
    orders.sort()
    for row in rows:
        if row[0] == RowKind.OBJECT_RECENT:
            row[-1] = [[*commit[:-1], orders.index(commit[-1])] for commit in row[-1]]
    return sorted(rows, key=repr)


def use(client: FakeClient, version: int, name: str = "board") -> list[Any]:
    """Use a persistent object of which the client has a version; what the edge is told."""
    client.message(encode_shared_object(name, version, True, [Event(int(USE))]))
    settle()
    told: list[Any] = client.link.take()
    return told


@pytest.fixture
def bench() -> Recording:
    return Recording()


def test_each_commit_is_a_row_with_the_updates_own_payload(bench: Recording) -> None:
    client = bench.start()
    client.shared("board", (USE,))
    client.shared("board", (SET, "x", 1.0), (SEND, "hear"))
    client.shared("board", (SEND, "hear"))
    client.shared("board", (DELETE, "never"))
    client.shared("lasting", (USE,), (SET, "y", 1.0), persistent=True)
    sent = [update.payload for update in client.link.take(ObjectUpdate)]
    assert bench.rows == [
        [1, 0, "board", 1, 1, ["session-1", 2, "edge-1", 1], sent[0]],
        [1, 0, "board", 1, 2, ["session-1", 3, "edge-1", 1], sent[1]],
        [1, 1, "lasting", 1, 1, ["session-1", 5, "edge-1", 1], sent[2]],
    ]


KEYS = st.sampled_from(["x", "y", "z"])
STEPS = st.one_of(
    st.tuples(st.just(SET), KEYS, st.sampled_from([1.0, "two", None])),
    st.tuples(st.just(DELETE), KEYS),
    st.tuples(st.just(CLEAR)),
    st.tuples(st.just(SEND), st.just("hear")),
    st.tuples(st.just("release")),
    st.tuples(st.just("application"), st.dictionaries(KEYS, st.sampled_from([1.0, None]))),
    st.tuples(st.just("settings"), st.integers(-1, 3)),
    st.tuples(st.just("purge")),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(STEPS, max_size=4)), max_size=12), st.data())
def test_rows_make_the_same_objects_again_from_any_snapshot_on(messages: list[Any], data: Any) -> None:
    bench = Recording()
    client = bench.start()
    cut = data.draw(st.integers(0, len(messages)))
    kept: list[list[Any]] = []
    for number, (persistent, steps) in enumerate(messages):
        if number == cut:
            kept = bench.objects.snapshot_rows()
            bench.rows.clear()
        client.shared("board", (USE,), persistent=persistent)
        for step in steps:
            view = bench.objects.view("board", persistent)
            if step[0] == "release":
                client.shared("board", (RELEASE,), persistent=persistent)
                view.close()
                idle(bench, 60.0)
            elif step[0] == "application":
                view.change(step[1])
            elif step[0] == "settings" and persistent:
                view.resync_depth = step[1]
            elif step[0] == "purge":
                view.purge(view.version)
            elif step[0] in (SET, DELETE, CLEAR, SEND):
                client.shared("board", step, persistent=persistent)
        settle()
    again = bench.again([*kept, *bench.rows])
    assert state(again) == state(bench)
    assert state(bench.again(bench.objects.snapshot_rows())) == state(bench)
    assert again.objects.durable == bench.objects.durable


def test_a_new_object_of_a_name_begins_above_the_old_ones_version(bench: Recording) -> None:
    client = bench.start()
    client.shared("board", (USE,), (SET, "x", 1.0), (DELETE, "x"), (RELEASE,), persistent=True)
    client.shared("board", (USE,), (SET, "x", 1.0), (DELETE, "x"), persistent=True)
    client.shared("board", (RELEASE,), persistent=True)
    idle(bench, 60.0)
    assert bench.objects.health() == {}
    assert bench.rows[-1] == [3, 1, "board", 2]
    for made in (bench, bench.again(bench.rows), bench.again(bench.objects.snapshot_rows())):
        assert made.objects.durable
        user = made.joined(made.edge())
        told = use(user, 2)
        assert (told[0].version, told[0].base, told[1].since) == (2, 2, 2)
        assert use(made.joined(made.edge()), 1)[1].since == -1


def test_what_nobody_needs_leaves_nothing_to_be_kept(bench: Recording) -> None:
    client = bench.start()
    client.shared("board", (USE,), (SET, "x", 1.0), (RELEASE,))
    client.shared("empty", (USE,), (RELEASE,), persistent=True)
    idle(bench, 60.0)
    assert not bench.objects.durable
    assert [row[0] for row in bench.rows] == [1, 3]


def test_without_auto_commit_only_commits_are_kept(bench: Recording) -> None:
    client = bench.start()
    view = bench.objects.view("board", True)
    view.auto_commit = False
    client.shared("board", (USE,), persistent=True)
    client.link.take()
    client.shared("board", (SET, "x", 1.0), persistent=True)
    view["y"] = 2.0
    assert [update.version for update in client.link.take(ObjectUpdate)] == [1, 2]
    # The versions that are told are reserved, once for many.
    assert [row[0] for row in bench.rows] == [2, 3]
    view.commit()
    view.commit()
    assert [row[0] for row in bench.rows] == [2, 3, 2]
    again = bench.again(bench.rows).objects.view("board", True)
    assert (dict(again), again.auto_commit) == ({"x": 1.0, "y": 2.0}, False)


@pytest.mark.parametrize("snapshot", [False, True])
def test_versions_of_what_was_not_kept_are_never_counted_again(bench: Recording, snapshot: bool) -> None:
    """Else a client that comes back would be told a difference from content that is lost."""
    client = bench.start()
    view = bench.objects.view("board", True)
    view["x"] = 1.0
    view.auto_commit = False
    if snapshot:
        view["x"] = 2.0
        bench.rows[:] = bench.objects.snapshot_rows()
    view["lost"] = 3.0
    version = view.version
    client.shared("board", (USE,), persistent=True)
    made = bench
    for _ in range(3):
        made = bench.again(bench.rows)
        again = made.objects.view("board", True)
        assert again.version > version
        for number in range(3):
            again[f"k{number}"] = 1.0
        user = made.joined(made.edge())
        assert use(user, version)[1].since == -1
        assert use(user, again.version - 1)[0].since == again.version - 1
        version = again.version
        bench.rows += made.rows
    # As soon as commits are kept again nothing is skipped any more.
    again.auto_commit = True
    again["y"] = 2.0
    bench.rows += made.rows[-2:]
    assert bench.again(bench.rows).objects.view("board", True).version == again.version


# Differences


def test_who_comes_back_with_a_version_is_told_a_difference(bench: Recording) -> None:
    client = bench.start()
    view = bench.objects.view("board", True)
    for number in range(5):
        view[f"k{number}"] = 1.0
    assert use(client, 3)[1] == ObjectJoined(client.number, 1, 3)
    assert use(client, 5) == [ObjectJoined(client.number, 1, 5)]
    for version in (0, 6, 0xFFFFFFFF):
        assert use(client, version) == [ObjectJoined(client.number, 1, -1)]
    view.resync_depth = 2
    assert [use(client, version)[0].since for version in (2, 3)] == [-1, 3]
    view.resync_depth = 0
    assert [use(client, version)[0].since for version in (4, 5)] == [-1, 5]
    view.resync_depth = -1
    view.purge(4)
    assert [use(client, version)[0].since for version in (3, 4)] == [-1, 4]


def test_without_a_journal_everything_is_told() -> None:
    """Versions begin anew with the group, so one that a client has may be of another content."""
    bench = Bench({"app": Open})
    client = bench.joined(bench.edge())
    view = bench.origin.groups["app/room"].objects.view("board", True)
    for number in range(5):
        view[f"k{number}"] = 1.0
    assert use(client, 3)[1].since == -1


def test_a_temporary_object_is_always_told_whole(bench: Recording) -> None:
    client = bench.start()
    bench.objects.view("board", False).change({"x": 1.0})
    client.message(encode_shared_object("board", 1, False, [Event(int(USE))]))
    assert client.link.take(ObjectJoined) == [ObjectJoined(client.number, 1, -1)]


def test_an_edge_that_lacks_a_commit_gets_the_content_again(bench: Recording) -> None:
    client = bench.start()
    client.shared("board", (USE,), (SET, "x", 1.0))
    client.shared("other", (USE,))
    client.link.take()
    client.put(ObjectResync(1))
    (opened,) = client.link.take()
    assert isinstance(opened, ObjectOpened)
    assert (opened.shared_object, opened.name, opened.version, opened.events) == (1, "board", 1, 1)
    client.put(ObjectResync(5))
    assert client.link.take() == []
    assert bench.origin.counters.stray_messages == 1


# The store is away


def test_while_the_store_is_away_changes_are_refused_and_answered(bench: Recording) -> None:
    one = user(bench, bench.edge())
    outputs = bench.origin.groups["app/room"].outputs
    outputs.stalled = True
    one.shared("board", (SET, "x", 1.0), (DELETE, "y"), (SEND, "hear"))
    unavailable = ("STATUS", "SharedObject.StoreUnavailable")
    assert own(one) == [unavailable, slot("x"), slot("y")]
    view = bench.objects.view("board", False)
    group = bench.origin.groups["app/room"]

    def locked() -> None:
        with view.locked():
            view["x"] = 1.0

    acts: list[Callable[[], object]] = [
        lambda: view.update(x=1.0),
        locked,
        lambda: hooks.run(group, lambda: view.update(x=1.0), ()),
    ]
    for act in acts:
        with pytest.raises(StoreUnavailable, match="the store cannot be reached; nothing was changed"):
            act()
    assert dict(view) == {}
    assert not view._target.lock.busy
    outputs.stalled = False
    one.shared("board", (SET, "x", 1.0))
    assert dict(view) == {"x": 1.0}


def test_values_of_both_amf_versions_are_kept_as_they_came(bench: Recording) -> None:
    client = bench.start()
    raw = [amf0.encode_avmplus({"a": [1, 2]}), amf0.encode({"a": 1.0})]
    client.shared("board", (USE,), *((SET, f"k{number}", value) for number, value in enumerate(raw)))
    again = bench.again(bench.rows)
    assert list(again.objects.get("board", False).content.values.values()) == raw
