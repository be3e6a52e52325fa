"""The origin: applications that use SharedObjects of other groups, while these groups' origins die or their links are lost: each
request is done once and answered once, and what others say is heard once. No sockets."""

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from headwater_bus import object_traffic, traffic
from headwater_origin import Application, ObjectUnavailable
from headwater_origin.elsewhere import scope_guest
from support.journal_bench import memory_journals
from support.object_bench import SEND, SET, USE
from support.origin_bench import FakeClient, settle
from support.origins import Origins
from support.waiting import eventually


class Own(Application):
    """Hears what clients of the other scope say and change."""

    allow_shared_objects = True

    def on_start(self) -> None:
        self.heard: list[Any] = []
        if self.instance == "hall":
            board = self.shared_object("board", scope="own/room")
            board.on_message("hear", self.heard.append)
            board.on_change(lambda changes: self.heard.append(changes))


@pytest.fixture
def origins() -> Origins:
    made = Origins({"own": Own}, count=3, journals=memory_journals())
    made.place("own/room", "origin-2")
    made.place("own/hall", "origin-1")
    site = made.sites["origin-1"]
    site.client(site.edge(), "own/hall")
    eventually(lambda: "own/room" in made.sites["origin-2"].origin.groups, within_s=10)
    eventually(lambda: dict(run(made, lambda app: board(app))) == {}, within_s=10)
    return made


def board(app: Application) -> Any:
    return app.shared_object("board", scope="own/room")


def start(origins: Origins, code: Callable[[Any], Any]) -> Any:
    """Run code of the scope that uses the other's object, outside of a transaction."""
    return gevent.spawn(code, origins.group("own/hall").application)


def run(origins: Origins, code: Callable[[Any], Any]) -> Any:
    """And wait for it."""
    return start(origins, code).get(timeout=20)


def move(origins: Origins, epoch: int) -> None:
    """The origin of the object dies, and another one has its group."""
    origins.crash(origins.view.groups["own/room"].origin)
    origins.place("own/room", "origin-3", epoch)


def committed(origins: Origins) -> None:
    eventually(lambda: origins.group("own/room").outputs.tail is None, within_s=10)


def member(origins: Origins) -> FakeClient:
    """A client of the scope that has the object, who uses it."""
    site = origins.sites["origin-2"]
    client = site.client(site.edge(), "own/room")
    eventually(lambda: client.attached in client.link.log, within_s=10)
    client.shared("board", (USE,))
    return client


def versions(origins: Origins) -> int:
    shared = origins.group("own/room").objects.get("board", False)
    return int(shared.version)


def test_a_request_that_its_origin_did_not_commit_is_done_by_the_next(origins: Origins) -> None:
    origins._committing["origin-2"].kill()
    change = start(origins, lambda app: board(app).update(x=1.0))
    eventually(lambda: versions(origins) == 1, within_s=10)
    move(origins, 2)
    change.get(timeout=20)
    assert versions(origins) == 1
    assert run(origins, lambda app: dict(board(app))) == {"x": 1.0}


def test_a_request_that_was_committed_and_not_answered_is_not_done_again(origins: Origins) -> None:
    ((_, there),) = origins.links
    there.held = True
    change = start(origins, lambda app: board(app).update(x=1.0))
    eventually(lambda: versions(origins) == 1, within_s=10)
    committed(origins)
    move(origins, 2)
    change.get(timeout=20)
    assert versions(origins) == 1
    assert run(origins, lambda app: dict(board(app))) == {"x": 1.0}
    # What it had not heard came once, as its own: no handler was told.
    assert run(origins, lambda app: app.heard) == []


def test_over_another_link_to_the_same_origin_it_is_the_same(origins: Origins) -> None:
    ((_, there),) = origins.links
    there.held = True
    change = start(origins, lambda app: board(app).update(x=1.0))
    eventually(lambda: versions(origins) == 1, within_s=10)
    origins.cut()
    change.get(timeout=20)
    assert versions(origins) == 1
    assert run(origins, lambda app: dict(board(app))) == {"x": 1.0}


def test_what_others_say_meanwhile_is_heard_once_and_in_order(origins: Origins) -> None:
    ((_, there),) = origins.links
    client = member(origins)
    client.shared("board", (SEND, "hear", 1.0))
    eventually(lambda: run(origins, lambda app: app.heard) == [1.0], within_s=10)
    there.held = True
    client.shared("board", (SET, "x", 1.0), (SEND, "hear", 2.0))
    client.shared("board", (SEND, "hear", 3.0))
    eventually(lambda: origins.group("own/room").objects.get("board", False).events == 3, within_s=10)
    committed(origins)
    opened = sum(
        isinstance(sent, object_traffic.ObjectOpened) for _, end in origins.links for sent in end.sent
    )
    assert opened == 1
    move(origins, 2)
    eventually(lambda: run(origins, lambda app: app.heard) == [1.0, {"x": 1.0}, 2.0, 3.0], within_s=10)
    ((_, there),) = origins.links
    kinds = [type(sent) for sent in there.sent]
    assert object_traffic.ObjectResumed in kinds
    assert object_traffic.ObjectOpened not in kinds


def test_a_lock_is_lost_with_the_link_and_who_waits_for_one_gets_it(origins: Origins) -> None:
    holding, go = gevent.event.Event(), gevent.event.Event()

    def hold(app: Application) -> str:
        view = board(app)
        view.lock()
        view["x"] = 1.0
        holding.set()
        go.wait()
        try:
            view.unlock()
        except ObjectUnavailable as error:
            return str(error)
        return "done"

    held = start(origins, hold)
    assert holding.wait(10)
    move(origins, 2)
    settle()
    go.set()
    assert "the lock was lost meanwhile" in held.get(timeout=20)
    assert versions(origins) == 0

    def count(app: Application) -> None:
        with board(app).locked():
            board(app)["x"] = 2.0

    run(origins, count)
    assert versions(origins) == 1


def test_who_waits_for_a_lock_when_the_origin_dies_asks_again(origins: Origins) -> None:
    shared = origins.group("own/room").objects.get("board", False)
    shared.lock.acquire(object())

    def count(app: Application) -> None:
        with board(app).locked():
            board(app)["x"] = 2.0

    waits = start(origins, count)
    eventually(lambda: shared.lock.waiting == 1, within_s=10)
    ((_, there),) = origins.links
    eventually(lambda: any(isinstance(sent, traffic.Applied) for sent in there.sent), within_s=10)
    move(origins, 2)
    waits.get(timeout=20)
    assert run(origins, lambda app: dict(board(app))) == {"x": 2.0}


def test_a_group_that_is_moved_is_followed_although_the_link_lives(origins: Origins) -> None:
    run(origins, lambda app: board(app).update(x=1.0))
    ((here, _),) = origins.links
    origins.place("own/room", "origin-3", 2)
    run(origins, lambda app: board(app).update(y=1.0))
    assert here.failure is None
    assert len(origins.links) == 2
    assert run(origins, lambda app: dict(board(app))) == {"x": 1.0, "y": 1.0}
    # What the former owner still says is nobody's.
    assert here.data.replicas == here.data.attachments == {}


def test_what_waits_for_an_origin_has_a_limit(origins: Origins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope_guest, "_MOST_SENT", 3)
    ((here, _),) = origins.links
    here.held = True
    waiting = [start(origins, lambda app: board(app).update(x=1.0)) for _ in range(3)]
    settle()
    with pytest.raises(ObjectUnavailable, match="3 messages wait for its origin"):
        run(origins, lambda app: board(app).update(x=2.0))
    here.held = False
    here.pump()
    for change in waiting:
        change.get(timeout=20)
