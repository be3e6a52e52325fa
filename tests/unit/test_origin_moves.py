"""A group is handed over, or goes on where it was: nobody notices, and nothing is lost."""

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from headwater_bus.control import (
    Assigned,
    Done,
    EpochSeen,
    GroupLoadsRequest,
    HandOver,
    MoveGroup,
    Refused,
    Release,
)
from headwater_bus.requests import RequestError
from headwater_bus.traffic import AttachRefused
from headwater_bus.view import NodeInfo
from headwater_origin import Application, Client, remote
from support.journal_bench import JournaledBench, TestJournals, answer, quiet
from support.origin_bench import ME, FakeClient, FakeLink, settle
from support.waiting import eventually

OTHER = "origin-2"


class App(Application):
    log: list[Any] = []  # noqa: RUF012
    gate: Event | None = None

    def on_start(self) -> None:
        self.log.append("start")
        self.every(0.01, self.beat)
        self.beats = 0

    def beat(self) -> None:
        self.beats += 1

    def on_stop(self) -> None:
        self.state["stopped"] = self.state.get("stopped", 0.0) + 1
        self.log.append("stop")

    def on_resume(self, client: Client) -> None:
        self.log.append(("resume", client.id))

    def on_disconnect(self, client: Client) -> None:
        self.log.append(("disconnect", client.id))

    @remote
    def add(self, client: Client) -> float:
        self.state["n"] = self.state.get("n", 0.0) + 1
        return float(self.state["n"])

    @remote
    def slow(self, client: Client) -> float:
        assert self.gate is not None
        self.gate.wait()
        return self.add(client)


class Registry:
    """Answers HandOver as a test says."""

    def __init__(self, bench: JournaledBench) -> None:
        self.bench = bench
        self.asked: list[HandOver] = []
        self.answer: Callable[[HandOver], Any] = self.grant

    def __call__(self, request: Any) -> Any:
        if isinstance(request, EpochSeen | Release):
            return Done()
        self.asked.append(request)
        return self.answer(request)

    def grant(self, request: HandOver) -> Assigned:
        self.bench.change("group", request.group, request.origin, request.epoch + 1)
        return Assigned(request.group, request.origin, request.epoch + 1)

    def away(self, request: HandOver) -> Any:
        raise RequestError("the registry is away")

    def lost(self, request: HandOver) -> Any:
        """It has done it, and the answer is lost."""
        self.grant(request)
        raise RequestError("no answer")


class Moving:
    """An origin with a group, its registry, and another origin that is registered."""

    def __init__(self, app: type[App], journals: TestJournals, **config: Any) -> None:
        self.journals = journals
        self.bench = JournaledBench(app, journals, commit_ms=0.0, **config)
        self.registry = Registry(self.bench)
        self.bench.origin.node.request_registry = self.registry  # type: ignore[method-assign,assignment]
        row = [OTHER, "origin", "boot", "tcp://192.0.2.1:1", 1.0, {}, {}]
        self.bench.view.nodes[OTHER] = NodeInfo(*row)  # type: ignore[arg-type]

    @property
    def group(self) -> Any:
        return self.bench.origin.groups["app/room"]

    def move(self, epoch: int = 1, to: str = OTHER) -> Any:
        return self.bench.origin.moves.move(MoveGroup("app/room", epoch, to, "a test"))


@pytest.fixture
def app() -> type[App]:
    class Fresh(App):
        log: list[Any] = []  # noqa: RUF012

    return Fresh


@pytest.fixture
def moving(app: type[App]) -> Iterator[Moving]:
    made = Moving(app, TestJournals())
    yield made
    made.journals.go()
    made.bench.committing.kill()


def resumed(
    bench: JournaledBench, client: FakeClient, link: FakeLink | None = None, **how: Any
) -> FakeClient:
    back = FakeClient(bench, link or bench.edge(), client.number, client.group)
    back.attach(resumed=True, session_id=f"session-{client.number}", epoch=bench.epoch, **how)
    return back


def successor(moving: Moving) -> JournaledBench:
    made = moving.bench.successor()
    made.change("group", "app/room", ME, 2)
    return made


def test_a_group_is_handed_over_and_its_sessions_hear_nothing(moving: Moving, app: type[App]) -> None:
    link = moving.bench.edge()
    client = moving.bench.member(link)
    client.command("add", transaction=2)
    assert answer(client) == ("_result", 2.0, 1.0)
    assert moving.move() == Assigned("app/room", OTHER, 2)
    assert moving.registry.asked == [HandOver("app/room", 1, OTHER, "a test")]
    assert app.log == ["start", "stop"]
    assert moving.bench.origin.groups == {}
    assert client.take() == []
    applied = link.applied()
    assert applied[1][0] == 1
    assert moving.bench.origin.counters.groups_handed_over == 1
    # All is in the snapshot.
    loaded = moving.journals.inner.open("app/room", 1)
    assert (loaded.entries, loaded.tail) == ([], applied[1][1])
    other = successor(moving)
    back = resumed(other, client, applied=1, heard=applied[1][1])
    assert answer(back).number == 1
    back.sent = 1
    back.command("add", transaction=3)
    assert answer(back) == ("_result", 3.0, 2.0)
    assert app.log == ["start", "stop", "start", ("resume", "session-1")]
    assert other.origin.groups["app/room"].durable.state["stopped"] == 1.0
    other.committing.kill()


def test_what_edges_say_meanwhile_is_not_carried_out_here(moving: Moving, app: type[App]) -> None:
    client = moving.bench.member(moving.bench.edge())

    def grant(request: HandOver) -> Assigned:
        client.command("add", transaction=2)
        late = moving.bench.client(client.link, epoch=1)
        settle()
        assert client.take() == late.take() == []
        return moving.registry.grant(request)

    moving.registry.answer = grant
    moving.move()
    settle()
    told = client.link.take(AttachRefused)
    assert told == [AttachRefused(2, "app/room", "not the owner at this epoch")]
    other = successor(moving)
    back = resumed(other, client)
    back.command("add", transaction=2)
    answer(back)
    assert answer(back) == ("_result", 2.0, 1.0)
    other.committing.kill()


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (lambda registry: lambda request: Refused("unknown-node", "origin-2 is gone"), "unknown-node"),
        (lambda registry: registry.away, "registry-away"),
    ],
    ids=["refused", "registry away"],
)
def test_a_group_that_cannot_be_handed_over_goes_on(
    moving: Moving, app: type[App], refusal: Callable[[Registry], Any], code: str
) -> None:
    client = moving.bench.member(moving.bench.edge())
    known = client.session.client
    refuse = refusal(moving.registry)

    def answered(request: HandOver) -> Any:
        if client.sent == 0:
            client.command("add", transaction=2)
            client.command("createStream", transaction=3)
        return refuse(request)

    moving.registry.answer = answered
    assert moving.move().code == code
    assert [answer(client), answer(client)] == [("_result", 2.0, 1.0), ("_result", 3.0, 1.0)]
    assert app.log == ["start", "stop", "start", ("resume", "session-1")]
    assert client.session.client is known
    assert client.scope.clients == (known,)
    before = client.scope.beats
    eventually(lambda: client.scope.beats > before, within_s=5)
    moving.bench.committed()
    assert moving.bench.origin.counters.moves_failed == 1
    # And can be moved when that is possible again.
    moving.registry.answer = moving.registry.grant
    assert moving.move() == Assigned("app/room", OTHER, 2)


def test_an_answer_of_the_registry_that_is_lost_is_asked_for_again(moving: Moving) -> None:
    answers = [moving.registry.away, moving.registry.grant]
    moving.registry.answer = lambda request: answers.pop(0)(request)
    moving.bench.member(moving.bench.edge())
    assert moving.move() == Assigned("app/room", OTHER, 2)
    assert len(moving.registry.asked) == 2


def test_a_hand_over_that_is_only_heard_of_from_the_feed_is_one(moving: Moving, app: type[App]) -> None:
    client = moving.bench.member(moving.bench.edge())
    moving.registry.answer = moving.registry.lost
    assert moving.move().code == "registry-away"
    assert moving.bench.origin.groups == {}
    assert client.take() == []
    assert app.log == ["start", "stop"]


def test_what_is_not_here_is_not_moved(moving: Moving) -> None:
    assert moving.move().code == "not-mine"
    moving.bench.member(moving.bench.edge())
    assert moving.move(epoch=2).code == "not-mine"
    assert moving.move(to="origin-9").code == "unknown-node"
    moving.bench.view.nodes["edge-1"] = NodeInfo("edge-1", "edge", "boot", "", 1.0, {}, {})
    assert moving.move(to="edge-1").code == "not-an-origin"
    assert moving.move(to=ME) == Assigned("app/room", ME, 1)
    assert moving.registry.asked == []


def test_a_group_is_moved_once_at_a_time(moving: Moving) -> None:
    moving.bench.member(moving.bench.edge())
    gate = Event()

    def slow(request: HandOver) -> Assigned:
        gate.wait()
        return moving.registry.grant(request)

    moving.registry.answer = slow
    first = gevent.spawn(moving.move)
    eventually(lambda: moving.registry.asked, within_s=5)
    assert moving.move().code == "busy"
    gate.set()
    assert first.get(timeout=5) == Assigned("app/room", OTHER, 2)


def test_a_handler_that_takes_too_long_runs_again_at_the_other_origin(app: type[App]) -> None:
    app.gate = Event()
    moving = Moving(app, TestJournals(), move_work_s=0.01)
    client = moving.bench.member(moving.bench.edge())
    client.command("slow", transaction=2)
    settle()
    assert moving.move() == Assigned("app/room", OTHER, 2)
    app.gate.set()
    settle()
    assert client.take() == []
    other = successor(moving)
    back = resumed(other, client)
    back.command("slow", transaction=2)
    answer(back)
    assert answer(back) == ("_result", 2.0, 1.0)
    moving.bench.committing.kill()
    other.committing.kill()


def test_a_handler_that_was_cut_short_by_a_move_that_fails_runs_again_here(app: type[App]) -> None:
    app.gate = Event()
    moving = Moving(app, TestJournals(), move_work_s=0.01)
    client = moving.bench.member(moving.bench.edge())
    client.command("slow", transaction=2)
    settle()

    def refuse(request: HandOver) -> Refused:
        assert app.gate is not None
        app.gate.set()
        settle()
        return Refused("unknown-node", "it is gone")

    moving.registry.answer = refuse
    assert moving.move().code == "unknown-node"
    # Its edge sends again what is not done.
    assert client.take() == [AttachRefused(1, "app/room", "what it asked for was interrupted by a move")]
    back = resumed(moving.bench, client, client.link)
    back.command("slow", transaction=2)
    assert [answer(back).number, answer(back)] == [0, ("_result", 2.0, 1.0)]
    moving.bench.committing.kill()


def test_a_group_that_the_store_cannot_take_goes_on_here(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater_origin.moves._COMMIT_S", 0.05)
    client = moving.bench.member(moving.bench.edge())
    moving.journals.away = True
    client.command("add", transaction=2)
    settle()
    assert moving.move().code == "store-away"
    moving.journals.away = False
    assert answer(client) == ("_result", 2.0, 1.0)


def test_who_says_too_much_while_its_group_moves_is_sent_away(app: type[App]) -> None:
    moving = Moving(app, TestJournals(), move_held_bytes=1000)
    talks, other = moving.bench.member(moving.bench.edge()), moving.bench.member(moving.bench.edge())

    def refuse(request: HandOver) -> Refused:
        if len(moving.registry.asked) == 1:
            other.command("add", transaction=2)
            for _ in range(20):
                talks.command("add", transaction=2)
        return Refused("busy", "no")

    moving.registry.answer = refuse
    moving.move()
    assert answer(other)[:2] == ("_result", 2.0)
    (told,) = talks.link.take(AttachRefused)
    assert told.reason == "its group is being moved"
    back = resumed(moving.bench, talks, talks.link)
    for number in range(20):
        back.command("add", transaction=number + 2)
    eventually(lambda: moving.group.durable.state.get("n") == 21.0, within_s=5)
    moving.bench.committing.kill()


def test_a_group_whose_origin_has_lost_it_is_not_handed_over(moving: Moving) -> None:
    client = moving.bench.member(moving.bench.edge())
    moving.journals.hold()
    client.command("add", transaction=2)
    settle()
    moved = gevent.spawn(moving.move)
    settle()
    moving.journals.inner.open("app/room", 7)
    moving.journals.go()
    assert moved.get(timeout=5).code == "not-mine"
    assert moving.registry.asked == []
    assert moving.bench.origin.groups == {}
    assert moving.bench.epochs_seen == []  # The registry of this test is another one.


def test_the_loads_of_groups_grow_with_what_they_carry(moving: Moving) -> None:
    moves = moving.bench.origin.moves
    assert moves.loads(GroupLoadsRequest()).rows == []
    client = moving.bench.member(moving.bench.edge())
    ((name, epoch, members, messages, size),) = moves.loads(GroupLoadsRequest()).rows
    assert (name, epoch, members) == ("app/room", 1, 1)
    client.command("add", transaction=2)
    answer(client)
    ((*_, after, size_after),) = moves.loads(GroupLoadsRequest()).rows
    assert after - messages == 2
    assert size_after > size
    quiet(client)


def test_a_detach_meanwhile_counts_when_the_group_stays(moving: Moving, app: type[App]) -> None:
    client = moving.bench.member(moving.bench.edge())

    def refuse(request: HandOver) -> Refused:
        if ("disconnect", "session-1") not in app.log:
            client.detach()
        return Refused("busy", "no")

    moving.registry.answer = refuse
    moving.move()
    settle()
    assert app.log[-1] == ("disconnect", "session-1")
    assert moving.bench.origin.sessions == 0
