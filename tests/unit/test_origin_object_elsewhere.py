"""The origin: what application code sees of SharedObjects, those of its own group and those that are groups of their own at
another origin: the same. No sockets."""

import gc
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from headwater_amf import amf0
from headwater_bus.object_traffic import ObjectUpdate
from headwater_bus.traffic import FromClient, FromGuest
from headwater_origin import Application, ObjectUnavailable, SharedObjectView, hooks
from headwater_origin.objects.overlay import Overlay
from headwater_rtmp.shared_object import Event, encode_shared_object
from support.object_bench import CLEAR, DELETE, SEND, SET, USE, events_of, guest_attach
from support.origin_bench import FakeLink, settle
from support.origins import Origins

LIMITS: dict[str, Any] = {"object_slots": 8, "object_value_bytes": 100, "object_total_bytes": 400}


class Together(Application):
    allow_shared_objects = True
    allow_persistent_objects = True


class Spread(Together):
    shared_objects = "spread"


class Stage:
    """A scope, its application code, and a client that uses an object wherever that is."""

    def __init__(self, app: str) -> None:
        self.origins = Origins({"together": Together, "spread": Spread}, **LIMITS)
        self.scope = f"{app}/room"
        self.origins.place(self.scope, "origin-1")
        self.edge = self.origins.sites["origin-1"].edge()
        self.origins.sites["origin-1"].client(self.edge, self.scope)
        settle()
        self.group = self.origins.group(self.scope)

    def code(self, function: Callable[[Application], Any]) -> Any:
        """Run application code outside of a transaction."""
        task = gevent.spawn(function, self.group.application)
        task.join(timeout=5)
        return task.get(block=False)

    def hook(self, function: Callable[[Application], Any]) -> Any:
        """Run application code as a hook runs."""
        return self.code(lambda app: hooks.run(self.group, function, (app,)))

    def view(self, name: str = "board", persistent: bool = False) -> SharedObjectView:
        view: SharedObjectView = self.code(lambda app: app.shared_object(name, persistent))
        return view

    def user(self, name: str = "board", persistent: bool = False) -> "User":
        return User(self, name, persistent)


class User:
    """A client of the group that has the object."""

    def __init__(self, stage: Stage, name: str, persistent: bool) -> None:
        self._stage, self._name, self._persistent = stage, name, persistent
        group = stage.group.objects.routes.target(name, persistent) or stage.scope
        site = stage.origins.sites[stage.origins._assign(group, 1.0).origin]
        self.link: FakeLink = site.edge()
        self._guest = group != stage.scope
        self._sent = 0
        self._site = site
        if self._guest:
            self._put(guest_attach(1, f"guest-of-{self.link.peer}", group))
        else:
            client = site.joined(self.link, group)
            self._number = client.number
        self._number = 1 if self._guest else self._number
        self.ask((USE,))
        settle()
        self.link.take()

    def _put(self, envelope: Any) -> None:
        self._site.origin.batch(self.link, [envelope])  # type: ignore[arg-type]  # All that it needs of a Link.

    def ask(self, *events: tuple[Any, ...]) -> None:
        made = []
        for kind, *rest in events:
            if kind == SEND:
                made.append(Event(kind, None, amf0.encode(*rest)))
            else:
                raw = amf0.encode(rest[1]) if len(rest) > 1 else None
                made.append(Event(kind, rest[0] if rest else None, raw))
        message = encode_shared_object(self._name, 0, self._persistent, made)
        self._sent += 1
        how = (message.type_id, 0, 0, message.payload)
        if self._guest:
            self._put(FromGuest(self._number, self._sent, 31, [], *how))
        else:
            self._put(FromClient(self._number, self._sent, *how))
        settle()

    def updates(self) -> list[tuple[int, list[tuple[Any, ...]]]]:
        """Version and events of each since the last time."""
        return [
            (
                update.version,
                [(kind, key, amf0.decode_all(raw) if raw else None) for kind, key, raw in events_of(update)],
            )
            for update in self.link.take(ObjectUpdate)
        ]


@pytest.fixture(params=["together", "spread"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.param)


def test_a_view_is_a_mapping(stage: Stage) -> None:
    view = stage.view()

    def code(app: Application) -> None:
        odd: Any = 5
        assert app.shared_object("board") == view == {}
        view["x"] = 1.0
        view.update(y={"a": [None]}, z="three")
        assert dict(view) == {"x": 1.0, "y": {"a": [None]}, "z": "three"}
        assert ("x" in view, "w" in view, odd in view, len(view), view.get("w", 5)) == (
            True,
            False,
            False,
            3,
            5,
        )
        del view["x"]
        for key in ("x", "never"):
            with pytest.raises(KeyError):
                del view[key]
            with pytest.raises(KeyError):
                view[key]
        view["y"] = None
        view["never"] = None
        assert view.pop("z") == "three"
        assert (dict(view), view.version, view.name, view.persistent) == ({}, 6, "board", False)
        assert repr(view) == "<SharedObjectView 'board' version 6>"

    stage.code(code)


def test_outside_of_a_transaction_each_operation_is_a_version(stage: Stage) -> None:
    view, user = stage.view(), stage.user()

    def code(app: Application) -> None:
        view.change({"x": 1.0, "y": 2.0, "gone": None})
        view.change({"x": None, "z": 3.0})
        view.send("hear", 5.0)
        view.clear()
        view.clear()
        view.change({})

    stage.code(code)
    assert user.updates() == [
        (1, [(4, "x", [1.0]), (4, "y", [2.0])]),
        (2, [(9, "x", None), (4, "z", [3.0])]),
        (2, [(6, "", ["hear", 5.0])]),
        (3, [(8, "", None)]),
    ]


def test_a_hook_is_one_version_and_reads_what_it_wrote(stage: Stage) -> None:
    view, user = stage.view(), stage.user()
    user.ask((SET, "old", 1.0), (SET, "kept", 1.0))
    user.updates()

    def hook(app: Application) -> None:
        board = app.shared_object("board")
        for number in range(5):
            board["x"] = float(number)
            assert view["x"] == number
        board.send("between")
        del board["old"]
        board["y"] = "why"
        board["gone"] = 1.0
        del board["gone"]
        board.mark("done", 1.0)
        board["z"] = "zed"
        assert (sorted(board), len(board), "old" in board) == (["kept", "x", "y", "z"], 4, False)
        gevent.sleep(0)
        # Nobody else sees it yet.
        assert user.updates() == []
        assert stage.group.objects is not None

    stage.hook(hook)
    settle()
    assert user.updates() == [
        (
            2,
            [
                (4, "x", [4.0]),
                (6, "", ["between"]),
                (9, "old", None),
                (4, "y", ["why"]),
                (4, "z", ["zed"]),
                (6, "", ["done", 1.0]),
            ],
        )
    ]
    assert stage.code(lambda app: dict(view)) == {"kept": 1.0, "x": 4.0, "y": "why", "z": "zed"}


def test_a_clear_in_a_hook_is_seen_at_once_and_forgets_what_came_before(stage: Stage) -> None:
    view, user = stage.view(), stage.user()
    user.ask((SET, "a", 1.0))
    user.updates()

    def hook(app: Application) -> None:
        view["b"] = 1.0
        view.clear()
        assert (dict(view), len(view)) == ({}, 0)
        view.clear()
        view["c"] = 1.0
        assert dict(view) == {"c": 1.0}
        user.ask((SET, "a", 2.0))
        assert dict(view) == {"c": 1.0}

    stage.hook(hook)
    settle()
    assert user.updates()[-1] == (3, [(8, "", None), (4, "c", [1.0])])
    assert stage.code(lambda app: dict(view)) == {"c": 1.0}


def test_a_hook_that_raises_has_changed_nothing(stage: Stage) -> None:
    view, user = stage.view(), stage.user()

    def hook(app: Application) -> None:
        view["x"] = 1.0
        view.send("hear")
        with view.locked():
            raise KeyError("no")

    with pytest.raises(KeyError):
        stage.hook(hook)
    user.ask((SET, "y", 1.0))
    assert user.updates() == [(1, [(4, "y", [1.0])])]
    assert stage.code(lambda app: dict(view)) == {"y": 1.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"a": 1.0, "b": object()},
        {"a": 1.0, "": 2.0},
        {"a": 1.0, 5: 2.0},
        {"a": 1.0, "\ud800": 2.0},
        {"a": 1.0, "k" * 257: 2.0},
        {"a": 1.0, "b": "x" * 101},
        {"a": 1.0, "b": [0.0] * 20_000},
        dict.fromkeys("abcde", "x" * 90),
        dict.fromkeys("abcdefghi", 1.0),
    ],
    ids=["no form", "empty", "number", "surrogate", "long key", "big", "many parts", "too much", "too many"],
)
@pytest.mark.parametrize("transaction", [False, True])
def test_a_change_that_is_refused_changes_nothing(stage: Stage, changes: Any, transaction: bool) -> None:
    view = stage.view()

    def code(app: Application) -> None:
        view.change({"a": "old", "z": 0.0})
        with pytest.raises(ValueError, match=r"SharedObject 'board'.*\w"):
            view.change(changes)
        assert dict(view) == {"a": "old", "z": 0.0}

    (stage.hook if transaction else stage.code)(code)
    assert stage.code(lambda app: (dict(view), view.version)) == ({"a": "old", "z": 0.0}, 1)


def test_what_no_longer_fits_when_a_hook_returns_is_refused(stage: Stage) -> None:
    view, user = stage.view(), stage.user()

    def hook(app: Application) -> None:
        view.change(dict.fromkeys("abc", "x" * 80))
        user.ask(*[(SET, key, "y" * 80) for key in "def"])

    with pytest.raises(ValueError, match="at most 400 bytes"):
        stage.hook(hook)
    assert stage.code(lambda app: sorted(view)) == ["d", "e", "f"]


def test_a_full_object_can_be_filled_anew(stage: Stage) -> None:
    view = stage.view()

    def hook(app: Application) -> None:
        view.change(dict.fromkeys("abcd", "x" * 90))
        view.change({**dict.fromkeys("abcd"), **dict.fromkeys("efgh", "y" * 90)})
        assert sorted(view) == ["e", "f", "g", "h"]
        view.clear()
        view.change(dict.fromkeys("abcd", "x" * 90))

    stage.hook(hook)
    assert stage.code(lambda app: sorted(view)) == ["a", "b", "c", "d"]


def test_sends_have_limits(stage: Stage) -> None:
    view = stage.view()

    def code(app: Application) -> None:
        for arguments in ((object(),), ([0.0] * 20_000,), ("x" * 60, "y" * 60)):
            with pytest.raises(ValueError, match=r"SharedObject 'board'"):
                view.send("hear", *arguments)
            with pytest.raises(ValueError, match=r"SharedObject 'board'"):
                view.mark("hear", *arguments)
        with pytest.raises(ValueError, match="expected str"):
            view.send(5)  # type: ignore[arg-type]  # That is what is tested.

    stage.code(code)


def test_handlers_hear_what_others_do(stage: Stage) -> None:
    view, user = stage.view(), stage.user()
    heard: list[Any] = []

    def watch(app: Application) -> None:
        view.on_change(lambda changes: heard.append(changes))
        view.on_message("wave", lambda *args: heard.append(args))
        view["own"] = 1.0

    stage.hook(watch)
    user.ask((SET, "x", 1.0), (SEND, "wave", 1.0, "a"), (SET, "x", [2.0]), (SET, "y", None), (DELETE, "own"))
    user.ask((SEND, "nobody hears that", 1.0), (SEND, "wave"))
    user.ask((CLEAR,))
    stage.code(lambda app: view.send("wave", "by myself"))
    settle()
    assert heard == [{"x": 1.0}, (1.0, "a"), {"x": [2.0], "own": None}, (), {"x": None}]
    stage.code(lambda app: view.close())
    user.ask((SET, "x", 1.0))
    settle()
    assert len(heard) == 5


def test_a_view_that_is_closed_is_closed_until_it_is_asked_for_again(stage: Stage) -> None:
    view = stage.view()

    def code(app: Application) -> None:
        view["x"] = 1.0
        view.close()
        view.close()
        acts: list[Callable[[], object]] = [
            lambda: view["x"],
            lambda: view.update(x=1.0),
            lambda: view.send("hear"),
            lambda: view.lock(),
            lambda: view.on_change(print),
            lambda: view.version,
        ]
        for act in acts:
            with pytest.raises(ObjectUnavailable, match="closed; ask for it again"):
                act()
        assert dict(app.shared_object("board")) == {"x": 1.0}

    stage.code(code)


def test_a_handler_is_a_transaction_and_may_fail(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    view, user = stage.view(), stage.user()
    other = stage.view("other")

    def copy(changes: dict[str, Any]) -> None:
        other.change(changes)
        if "bad" in changes:
            raise KeyError("bad")

    stage.code(lambda app: view.on_change(copy))
    user.ask((SET, "x", 1.0))
    user.ask((SET, "bad", 1.0))
    user.ask((SET, "y", 1.0))
    settle()
    assert stage.code(lambda app: dict(other)) == {"x": 1.0, "y": 1.0}
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "on_change of 'board'" in str(record.__dict__)


# Locks


def test_clients_wait_for_a_lock_and_come_in_order(stage: Stage) -> None:
    view, one, two = stage.view(), stage.user(), stage.user()

    def code(app: Application) -> None:
        view.lock()
        with view.locked():
            view["x"] = 1.0
            one.ask((SET, "by", "one"))
            two.ask((SET, "by", "two"), (SET, "x", 2.0))
            one.ask((SET, "last", "one"))
            assert dict(view) == {"x": 1.0}
            view["y"] = 1.0
        assert one.updates() == []
        view.unlock()

    stage.code(code)
    settle()
    assert one.updates() == [
        (1, [(4, "x", [1.0]), (4, "y", [1.0])]),
        (2, [(4, "by", ["one"])]),
        (3, [(4, "by", ["two"]), (4, "x", [2.0])]),
        (4, [(4, "last", ["one"])]),
    ]


def test_counting_under_a_lock_loses_nothing(stage: Stage) -> None:
    view = stage.view()

    def count(app: object) -> float:
        with view.locked():
            number = view.get("count", 0.0) + 1.0
            gevent.sleep(0)
            view["count"] = number
        return float(number)

    jobs: list[Any] = [gevent.spawn(hooks.run, stage.group, count, (None,)) for _ in range(10)]
    jobs += [gevent.spawn(count, stage) for _ in range(10)]
    gevent.joinall(jobs, timeout=10, raise_error=True)
    assert sorted(job.value for job in jobs) == [float(number) for number in range(1, 21)]
    assert stage.code(lambda app: view["count"]) == 20.0


def test_a_lock_is_taken_again_in_a_transaction_of_its_holder(stage: Stage) -> None:
    view = stage.view()

    def code(app: Application) -> None:
        with view.locked():
            view["x"] = 1.0
            with app.atomic(), view.locked():
                view["y"] = view["x"] + 1
            assert view["y"] == 2.0

    stage.code(code)
    assert dict(view) == {"x": 1.0, "y": 2.0}
    assert view.version == 1


def test_a_lock_outside_of_a_transaction_takes_back_what_fails(stage: Stage) -> None:
    view, user = stage.view(), stage.user()

    def code(app: Application) -> None:
        with view.locked():
            view["x"] = 1.0
            raise KeyError("no")

    with pytest.raises(KeyError):
        stage.code(code)
    user.ask((SET, "y", 1.0))
    assert user.updates() == [(1, [(4, "y", [1.0])])]
    with pytest.raises(RuntimeError, match="unlock without lock"):
        stage.code(lambda app: view.unlock())


def test_locks_that_were_given_back_leave_nothing_behind(stage: Stage) -> None:
    """Of a greenlet that lives on."""
    view = stage.view()
    kept: list[int] = []

    def code(app: Application) -> None:
        for times in (1, 19):
            for number in range(times):
                with view.locked():
                    view["x"] = float(number)
            # Of all that the process has, so not often: after many tests that takes long.
            kept.append(sum(isinstance(made, Overlay) for made in gc.get_objects()))

    stage.code(code)
    first, last = kept
    assert last <= first


def test_a_greenlet_that_ends_gives_its_lock_back(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    view, user = stage.view(), stage.user()

    def code(app: Application) -> None:
        view.lock()
        view["x"] = 1.0

    stage.code(code)
    settle()
    user.ask((SET, "y", 1.0))
    assert user.updates() == [(1, [(4, "y", [1.0])])]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


# Persistence


def test_settings_of_persistent_objects(stage: Stage) -> None:
    view, temporary = stage.view(persistent=True), stage.view()

    def code(app: Application) -> None:
        assert (view.resync_depth, view.auto_commit, view.persistent) == (-1, True, True)
        view.resync_depth = 5
        view.auto_commit = False
        view["x"] = 1.0
        view.commit()
        view.purge(view.version)
        assert (view.resync_depth, view.auto_commit) == (5, False)
        with pytest.raises(ValueError, match="temporary"):
            temporary.resync_depth = 1
        with pytest.raises(ValueError, match="temporary"):
            temporary.auto_commit = False
        with pytest.raises(ValueError, match="temporary"):
            temporary.commit()

    stage.code(code)
    target = stage.group.objects.routes.target("board", True) or stage.scope
    shared = stage.origins.group(target).objects.get("board", True)
    assert (shared.resync_depth, shared.auto_commit, shared.content.base) == (5, False, 1)


@pytest.mark.parametrize("name", ["", "a*", "..", 5, "\ud800"])
def test_bad_names_are_refused(stage: Stage, name: Any) -> None:
    with pytest.raises(ValueError, match="name"):
        stage.view(name)
