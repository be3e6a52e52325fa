"""The origin: SharedObjects of other groups when links end, groups move, and others say no. No sockets."""

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event as Gate
from headwater_bus.object_traffic import ObjectReply, ObjectRequest, ObjectResync, ObjectUpdate
from headwater_bus.traffic import Routed
from headwater_origin import Access, Application, CallError, Client, ObjectUnavailable, hooks
from headwater_origin.elsewhere import remote_object
from headwater_origin.elsewhere import requests as application_requests
from headwater_origin.objects import lock as object_lock
from support.object_bench import SET, USE, user
from support.origin_bench import FakeClient, settle
from support.origins import Origins
from support.waiting import eventually


class Owner(Application):
    """Its objects are used by scopes of other applications, too."""

    allow_shared_objects = True
    allow_persistent_objects = True

    def shared_object_proxy(self, scope: str, name: str, persistent: bool) -> Access:
        if scope.startswith("own/"):
            return Access.ALL
        if name == "shown":
            return Access.READ | Access.SEND
        return Access.ALL if name == "open" else Access.NONE


class Guest(Application):
    allow_shared_objects = True
    allow_persistent_objects = True


class Spread(Guest):
    shared_objects = "spread"


APPS: dict[str, type[Application]] = {"own": Owner, "guest": Guest, "spread": Spread}


@pytest.fixture
def origins() -> Origins:
    made = Origins(APPS)
    made.place("own/room", "origin-2")
    for scope in ("own/hall", "guest/room", "spread/room"):
        made.place(scope, "origin-1")
        made.sites["origin-1"].client(made.sites["origin-1"].edge(), scope)
    settle()
    return made


def run(origins: Origins, scope: str, code: Callable[[Any], Any]) -> Any:
    """Run application code of a scope, outside of a transaction."""
    task = gevent.spawn(code, origins.group(scope).application)
    task.join(timeout=10)
    return task.get(block=False)


def owner(origins: Origins, name: str = "board") -> tuple[FakeClient, Any]:
    """A client of the scope that has the objects, and its edge."""
    site = origins.sites["origin-2"]
    edge = site.edge()
    return user(site, edge, "own/room", name), edge


def test_a_scope_uses_objects_of_another_one_of_its_application(origins: Origins) -> None:
    client, edge = owner(origins)

    def code(app: Application) -> None:
        board = app.shared_object("board", scope="own/room")
        board["x"] = 1.0
        assert app.shared_object("board", scope="own/hall").name == "board"
        assert dict(app.shared_object("board", scope="own/hall")) == {}

    run(origins, "own/hall", code)
    (update,) = edge.take(ObjectUpdate)
    assert (update.version, update.session) == (1, 0)
    client.shared("board", (SET, "y", 2.0))
    settle()
    assert run(origins, "own/hall", lambda app: dict(app.shared_object("board", scope="own/room"))) == {
        "x": 1.0,
        "y": 2.0,
    }
    # Its application is no client.
    assert run(origins, "own/room", lambda app: app.shared_object("board").users) == 1


def test_another_application_decides_what_a_scope_may_do(origins: Origins) -> None:
    owner(origins, "open")

    def code(app: Application) -> None:
        app.shared_object("open", scope="own/room")["x"] = 1.0
        with pytest.raises(ObjectUnavailable, match=r"refused: SharedObject\.ObjectCreationFailed"):
            app.shared_object("secret", scope="own/room")["x"] = 1.0
        with pytest.raises(ObjectUnavailable, match="refused"):
            dict(app.shared_object("secret", scope="own/room"))
        with pytest.raises(ObjectUnavailable, match="refused"):
            # It is not there, and may not be made.
            dict(app.shared_object("shown", scope="own/room"))

    run(origins, "guest/room", code)
    owner(origins, "shown")

    def more(app: Application) -> None:
        shown = app.shared_object("shown", scope="own/room")
        shown.send("hello")
        acts: list[Callable[[], None]] = [
            lambda: shown.update(x=1.0),
            lambda: shown.purge(1),
            lambda: shown.lock(),
        ]
        for act in acts:
            with pytest.raises(ValueError, match="this scope may not do that"):
                act()
        assert dict(shown) == {}
        target: Any = shown._target
        assert target.permitted() == Access.READ | Access.SEND

    gevent.sleep(remote_object._REFUSED_S)
    run(origins, "guest/room", more)


def test_what_was_lost_with_a_link_comes_back(origins: Origins) -> None:
    client, _ = owner(origins)
    heard: list[Any] = []

    def code(app: Application) -> None:
        board = app.shared_object("board", scope="own/room")
        board.change({"x": 1.0, "gone": 1.0, "same": 1.0})
        board.on_change(heard.append)

    run(origins, "own/hall", code)
    origins.cut()
    client = user(origins.sites["origin-2"], origins.sites["origin-2"].edge(), "own/room")
    client.shared("board", (SET, "x", 2.0), (SET, "gone", None), (SET, "new", 3.0))
    assert run(origins, "own/hall", lambda app: dict(app.shared_object("board", scope="own/room"))) == {
        "x": 2.0,
        "new": 3.0,
        "same": 1.0,
    }
    settle()
    assert heard == [{"gone": None, "x": 2.0, "new": 3.0}]
    client.shared("board", (SET, "x", 4.0))
    settle()
    assert heard[1:] == [{"x": 4.0}]


def test_what_is_under_way_when_a_link_ends_is_sent_again(origins: Origins) -> None:
    """With a journal nothing is done twice either: see test_origin_object_guest_resume."""
    owner(origins)
    run(origins, "own/hall", lambda app: dict(app.shared_object("board", scope="own/room")))
    ((here, _),) = origins.links
    here.held = True
    task = gevent.spawn(
        run, origins, "own/hall", lambda app: app.shared_object("board", scope="own/room").update(x=1.0)
    )
    settle()
    assert origins.group("own/room").objects.view("board", False).version == 0
    origins.cut()
    task.get(timeout=10)
    assert run(origins, "own/hall", lambda app: dict(app.shared_object("board", scope="own/room"))) == {
        "x": 1.0
    }
    assert origins.group("own/room").objects.view("board", False).version == 1


def test_what_nobody_answers_in_time_is_not_known_to_be_done(
    origins: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner(origins)
    run(origins, "own/hall", lambda app: dict(app.shared_object("board", scope="own/room")))
    monkeypatch.setattr(remote_object, "REPLY_S", 0.2)
    ((here, _),) = origins.links
    here.held = True

    def code(app: Application) -> None:
        with pytest.raises(ObjectUnavailable, match=r"no answer within 0\.2 s; it is not known whether"):
            app.shared_object("board", scope="own/room")["x"] = 1.0

    run(origins, "own/hall", code)


def test_who_waits_for_an_origin_is_told_after_a_while(
    origins: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_object, "OPEN_S", 0.2)
    origins.away = "the balancer is away"

    def code(app: Application) -> None:
        board = app.shared_object("board", scope="own/room")
        for act in (
            lambda: dict(board),
            lambda: board.update(x=1.0),
            lambda: board.lock(),
            lambda: board.version,
        ):
            with pytest.raises(
                ObjectUnavailable, match=r"own/room: not there within 0.2 s: .*the balancer is away"
            ):
                act()

    run(origins, "own/hall", code)
    origins.away = None
    monkeypatch.setattr(remote_object, "OPEN_S", 5.0)
    run(origins, "own/hall", lambda app: app.shared_object("board", scope="own/room").update(x=1.0))


def test_a_group_that_moves_is_found_again(origins: Origins) -> None:
    run(origins, "spread/room", lambda app: app.shared_object("board", persistent=True).update(x=1.0))
    assert origins.view.groups["spread/room#so:board"].origin == "origin-2"
    origins.place("spread/room#so:board", "origin-1", 2)
    settle()
    # The journal is off, so it begins anew at the next origin: this one itself, over a link all the same.
    run(origins, "spread/room", lambda app: app.shared_object("board", persistent=True).update(y=1.0))
    assert run(origins, "spread/room", lambda app: dict(app.shared_object("board", persistent=True))) == {
        "y": 1.0
    }
    assert origins.sites["origin-1"].origin.groups["spread/room#so:board"].objects.health() != {}


def test_a_missing_commit_is_asked_for_once(origins: Origins) -> None:
    client, _ = owner(origins)
    heard: list[Any] = []

    def code(app: Application) -> None:
        app.shared_object("board", scope="own/room").on_change(heard.append)

    run(origins, "own/hall", code)
    ((here, there),) = origins.links
    there.held = True
    for number in range(3):
        client.shared("board", (SET, f"k{number}", 1.0))
    there._queue.popleft()
    there.held = False
    there.pump()
    settle()
    assert len([sent for sent in here.sent if isinstance(sent, ObjectResync)]) == 1
    assert heard == [{"k0": 1.0, "k1": 1.0, "k2": 1.0}]
    client.shared("board", (SET, "k0", 2.0))
    settle()
    assert heard[1:] == [{"k0": 2.0}]


def test_two_scopes_share_the_replica_of_their_link(origins: Origins) -> None:
    origins.place("guest/other", "origin-1")
    origins.sites["origin-1"].client(origins.sites["origin-1"].edge(), "guest/other")
    settle()
    owner(origins, "open")
    heard: list[Any] = []
    for scope in ("guest/room", "guest/other"):
        run(
            origins,
            scope,
            lambda app: app.shared_object("open", scope="own/room").on_change(
                lambda changes: heard.append((app.scope, changes))
            ),
        )
    run(origins, "guest/room", lambda app: app.shared_object("open", scope="own/room").update(x=1.0))
    settle()
    assert heard == [("guest/other", {"x": 1.0})]
    ((here, there),) = origins.links
    assert [type(sent) for sent in there.sent].count(ObjectUpdate) == 1
    run(origins, "guest/other", lambda app: app.shared_object("open", scope="own/room").close())
    settle()
    assert here.data.replicas[1].members.keys() == {1}
    assert run(origins, "guest/room", lambda app: dict(app.shared_object("open", scope="own/room"))) == {
        "x": 1.0
    }
    (peers,) = [origins.sites["origin-1"].origin.host.peers]
    assert peers is not None
    assert peers.health() == {"origin-2": {"attachments": 1, "objects": 1, "queued_bytes": 0}}


def test_a_scope_that_stops_lets_go(origins: Origins) -> None:
    stopped: list[Any] = []

    class Stopping(Guest):
        def on_start(self) -> None:
            self.board = self.shared_object("open", scope="own/room")
            self.board["x"] = 1.0

        def on_stop(self) -> None:
            stopped.append(dict(self.board))

    for site in origins.sites.values():
        site.origin.applications["stopping"] = Stopping
    origins.place("stopping/room", "origin-1")
    origins.sites["origin-1"].client(origins.sites["origin-1"].edge(), "stopping/room")
    settle()
    group = origins.group("stopping/room")
    group.close("the test is over")
    settle()
    assert stopped == [{"x": 1.0}]
    assert origins.group("own/room").sessions == {}


def test_a_method_that_meets_it_tells_its_caller_why(origins: Origins) -> None:
    group = origins.group("guest/room")

    def method(*args: Any) -> None:
        group.application.shared_object("secret", scope="own/room")["x"] = 1.0

    task = gevent.spawn(hooks.call_remote, group, method, ())
    with pytest.raises(CallError, match=r"refused: SharedObject\.ObjectCreationFailed"):
        task.get(timeout=10)


def test_while_the_store_of_the_object_is_away_nothing_is_changed(origins: Origins) -> None:
    owner(origins)
    outputs = origins.group("own/room").outputs

    def code(app: Application) -> None:
        board = app.shared_object("board", scope="own/room")
        outputs.stalled = True
        with pytest.raises(ObjectUnavailable, match="the store cannot be reached; nothing was changed"):
            board["x"] = 1.0
        outputs.stalled = False
        board["y"] = 1.0
        assert dict(board) == {"y": 1.0}

    run(origins, "own/hall", code)


# Locks


def test_two_scopes_that_use_each_others_objects_do_not_wait_for_each_other(origins: Origins) -> None:
    owner(origins)

    def both(mine: str, other: str) -> Callable[[Any], None]:
        def code(app: Application) -> None:
            for number in range(20):
                with app.atomic():
                    app.shared_object("board")[f"{mine}{number}"] = 1.0
                    app.shared_object("board", scope=other)[f"{mine}{number}"] = 1.0

        return code

    tasks = [
        gevent.spawn(run, origins, "own/hall", both("hall", "own/room")),
        gevent.spawn(run, origins, "own/room", both("room", "own/hall")),
    ]
    gevent.joinall(tasks, timeout=10, raise_error=True)
    boards = [
        run(origins, scope, lambda app: dict(app.shared_object("board")))
        for scope in ("own/hall", "own/room")
    ]
    assert boards[0] == boards[1]
    assert len(boards[0]) == 40


def test_two_locks_taken_crosswise_end(origins: Origins, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere: one of them gives up, and both objects can be changed again."""
    monkeypatch.setattr(application_requests, "LOCK_S", 0.2)
    client, _ = owner(origins)
    outcomes: list[str] = []

    def both(other: str) -> Callable[[Any], None]:
        def code(app: Application) -> None:
            try:
                with app.shared_object("board").locked() as mine:
                    settle()
                    with app.shared_object("board", scope=other).locked() as theirs:
                        mine["x"] = theirs["x"] = 1.0
                outcomes.append("done")
            except ObjectUnavailable:
                outcomes.append("gave up")

        return code

    tasks = [
        gevent.spawn(run, origins, "own/hall", both("own/room")),
        gevent.spawn(run, origins, "own/room", both("own/hall")),
    ]
    gevent.joinall(tasks, timeout=10, raise_error=True)
    assert "gave up" in outcomes
    client.shared("board", (SET, "y", 1.0))
    settle()
    for scope in ("own/hall", "own/room"):
        assert not origins.group(scope).objects.get("board", False).lock.busy
    assert run(origins, "own/room", lambda app: app.shared_object("board")["y"]) == 1.0


class Circle(Application):
    """Each of two scopes needs the other's object to start."""

    def on_start(self) -> None:
        self.other = {"circle/a": "circle/b", "circle/b": "circle/a"}[self.scope]
        dict(self.shared_object("board", scope=self.other))


def test_scopes_whose_starts_wait_for_each_other_say_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(remote_object, "OPEN_S", 0.1)
    origins = Origins({"circle": Circle})
    origins.place("circle/a", "origin-1")
    origins.place("circle/b", "origin-2")
    site = origins.sites["origin-1"]
    client = site.client(site.edge(), "circle/a")
    eventually(lambda: not client.link.data.sessions.get(client.number) or client.session.closed, within_s=10)
    assert any("may wait for this one in its on_start" in str(vars(record)) for record in caplog.records)


def test_a_lock_is_everybodys(origins: Origins) -> None:
    """Clients, the application that has the object, and one elsewhere wait for each other."""
    client, edge = owner(origins)
    gate = Gate()

    def code(app: Application) -> None:
        with app.shared_object("board", scope="own/room").locked() as board:
            board["x"] = 1.0
            gate.wait()

    elsewhere = gevent.spawn(run, origins, "own/hall", code)
    settle()

    def here(app: Application) -> None:
        with app.shared_object("board").locked() as board:
            board["x"] += 1.0

    home = gevent.spawn(run, origins, "own/room", here)
    settle()
    client.shared("board", (SET, "last", 1.0))
    settle()
    assert edge.take(ObjectUpdate) == []
    gate.set()
    gevent.joinall([elsewhere, home], timeout=10, raise_error=True)
    settle()
    assert [update.version for update in edge.take(ObjectUpdate)] == [1, 2, 3]
    assert run(origins, "own/room", lambda app: dict(app.shared_object("board"))) == {"x": 2.0, "last": 1.0}


def test_a_lock_ends_with_the_link_of_its_holder(origins: Origins) -> None:
    client, edge = owner(origins)
    gate = Gate()

    def code(app: Application) -> None:
        board = app.shared_object("board", scope="own/room")
        board.lock()
        board["x"] = 1.0
        gate.wait()
        with pytest.raises(ObjectUnavailable):
            board.unlock()

    task = gevent.spawn(run, origins, "own/hall", code)
    settle()
    client.shared("board", (SET, "y", 1.0))
    settle()
    assert edge.take(ObjectUpdate) == []
    origins.cut()
    settle()
    assert [update.version for update in edge.take(ObjectUpdate)] == [1]
    origins.away = "away"
    gate.set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote_object, "OPEN_S", 0.1)
        task.get(timeout=10)


def test_what_was_read_under_a_lock_that_is_lost_is_not_written(origins: Origins) -> None:
    """The link ended while it was held: others have had their turn since."""
    client, _ = owner(origins)
    client.shared("board", (SET, "count", 1.0))
    gate = Gate()

    def code(app: Application) -> None:
        board = app.shared_object("board", scope="own/room")
        board.lock()
        board["count"] += 1.0
        gate.wait()
        with pytest.raises(ObjectUnavailable, match="the lock was lost"):
            board.unlock()
        with board.locked():
            board["count"] += 1.0

    task = gevent.spawn(run, origins, "own/hall", code)
    settle()
    origins.cut()
    client, _ = owner(origins)
    client.shared("board", (SET, "count", 5.0))
    settle()
    gate.set()
    task.get(timeout=10)
    assert run(origins, "own/room", lambda app: dict(app.shared_object("board"))) == {"count": 6.0}


@pytest.mark.parametrize("stalled", [False, True])
def test_who_gives_up_waiting_for_a_lock_holds_up_nobody(origins: Origins, stalled: bool) -> None:
    client, edge = owner(origins)
    gate = Gate()

    def hold(app: Application) -> None:
        with app.shared_object("board").locked():
            gate.wait()

    def code(app: Application) -> None:
        with gevent.Timeout(0.05), pytest.raises(gevent.Timeout):
            app.shared_object("board", scope="own/room").lock()

    holder = gevent.spawn(run, origins, "own/room", hold)
    settle()
    outputs = origins.group("own/room").outputs
    outputs.stalled = stalled
    run(origins, "own/hall", code)
    settle()
    outputs.stalled = False
    client.shared("board", (SET, "x", 1.0))
    gate.set()
    holder.get(timeout=10)
    settle()
    assert len(edge.take(ObjectUpdate)) == 1
    assert not origins.group("own/room").objects.get("board", False).lock.busy


def test_a_scope_that_has_stopped_uses_nothing_again(origins: Origins) -> None:
    """What still runs then is told so, and no attachment is made for it."""
    owner(origins)
    view = run(origins, "own/hall", lambda app: app.shared_object("board", scope="own/room"))
    assert run(origins, "own/hall", lambda app: dict(view)) == {}
    hall = origins.group("own/hall")
    peers = hall.host.peers
    peers.release(hall)
    with pytest.raises(ObjectUnavailable, match="has stopped"):
        dict(view)
    settle()
    assert peers.of(hall) == []
    assert len(origins.group("own/room").sessions) == 1


def test_waiting_for_a_lock_ends(origins: Origins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application_requests, "TURN_S", 0.1)
    monkeypatch.setattr(application_requests, "LOCK_S", 0.1)
    owner(origins)
    gate = Gate()

    def hold(app: Application) -> None:
        with app.shared_object("board").locked():
            gate.wait()

    def code(app: Application) -> None:
        board = app.shared_object("board", scope="own/room")
        with pytest.raises(ObjectUnavailable, match="locked by another"):
            board["x"] = 1.0
        with pytest.raises(ObjectUnavailable, match="locked by another"):
            board.lock()

    holder = gevent.spawn(run, origins, "own/room", hold)
    settle()
    run(origins, "own/hall", code)
    monkeypatch.setattr(object_lock.ObjectLock.acquire, "__defaults__", (0.1,))

    def local(app: Application) -> None:
        with pytest.raises(ObjectUnavailable, match="locked by another for too long"):
            app.shared_object("board").lock()

    run(origins, "own/room", local)
    gate.set()
    holder.get(timeout=10)
    run(origins, "own/hall", lambda app: app.shared_object("board", scope="own/room").update(x=1.0))


# What another origin might send


def test_requests_that_mean_nothing_are_answered(origins: Origins) -> None:
    run(origins, "own/hall", lambda app: dict(app.shared_object("board", scope="own/room")))
    ((here, there),) = origins.links
    (session,) = origins.group("own/room").sessions
    for number, (payload, name) in enumerate(
        (
            (b"\xc1", "board"),
            (b"\x91\x93\xcd\x03\xe8\xa0\xc4\x00", "board"),
            (b"\x90", "none"),
        ),
        50,
    ):
        there.sent.clear()
        here.send(ObjectRequest(session.number, 99, name, False, number, payload))
        settle()
        reply, applied = there.sent
        assert isinstance(reply, ObjectReply)
        assert reply.error
        assert applied.rows[:2] == [session.number, number]
    assert run(origins, "own/hall", lambda app: app.shared_object("board", scope="own/room").version) == 0


# Proxied objects of clients


class Proxying(Application):
    """Clients use `open` and `shown` of another scope, as its application allows."""

    def on_start(self) -> None:
        self.proxy_object("open", "own/room")
        self.proxy_object("shown", "own/room")
        self.proxy_object("secret", "own/room")
        for scope in ("own", "/x", "proxying/room", "own/room#so:x"):
            with pytest.raises(ValueError, match="expected another scope"):
                self.proxy_object("bad", scope)

    def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
        return Access.ALL & ~Access.DELETE


def test_clients_are_sent_to_the_scope_that_has_a_proxied_object(origins: Origins) -> None:
    for site in origins.sites.values():
        site.origin.applications["proxying"] = Proxying
    origins.place("proxying/room", "origin-1")
    owner(origins, "shown")
    edge = origins.sites["origin-1"].edge()
    client = origins.sites["origin-1"].client(edge, "proxying/room")
    settle()
    edge.take()
    client.shared("open", (USE,), (SET, "x", 1.0))
    client.shared("shown", (USE,))
    client.shared("secret", (USE,))
    for _ in range(5):  # Each right is asked for.
        settle()
    routed = edge.take(Routed)
    assert [(route.group, route.route, Access(route.access)) for route in routed] == [
        ("own/room", 0, Access.ALL & ~Access.DELETE),
        ("own/room", 0, Access.READ | Access.SEND),
    ]
    ((what, name, _, events),) = client.take()
    assert (what, name, events[0][0]) == ("object", "secret", "STATUS")
    client.shared("shown", (SET, "x", 1.0))
    settle()
    (route,) = edge.take(Routed)
    assert (route.route, Access(route.access)) == (0, Access.READ | Access.SEND)
