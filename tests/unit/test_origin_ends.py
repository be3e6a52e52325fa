"""The origin: what must hold when a client, a group or a grant of one ends at an awkward moment."""

import time
from collections.abc import Iterator
from typing import Any, ClassVar

import gevent
import pytest
from gevent.event import Event
from headwater_bus.traffic import Attached, AttachRefused
from headwater_origin import Application, Client, remote
from headwater_origin.durable.journal import pack_rows
from headwater_origin.errors import GroupLost
from headwater_origin.transaction import transaction
from headwater_rtmp.command import encode_command
from headwater_store import Append
from support.journal_bench import JournaledBench, TestJournals, answer
from support.origin_bench import ME, FakeClient, settle
from support.waiting import eventually


class App(Application):
    ran: ClassVar[list[Any]]
    gate: ClassVar[Event]
    broken: ClassVar[bool] = False

    def on_start(self) -> None:
        if self.broken:
            raise RuntimeError("not today")

    def on_connect(self, client: Client, room: str = "", waits: bool = False) -> None:
        self.ran.append(("connected", client.id))
        if room:
            self.room(room).join(client)
        if waits:
            self.gate.wait()

    def on_resume(self, client: Client) -> None:
        self.ran.append(("resumed", client.id, tuple(room.name for room in client.rooms)))

    def on_disconnect(self, client: Client) -> None:
        self.ran.append(("disconnected", client.id))

    def on_leave(self, client: Client, room: str) -> None:
        self.ran.append(("left", client.id, room))
        self.state["left"] = room

    @remote
    def put(self, client: Client, value: Any) -> None:
        self.state["value"] = value

    @remote
    def read(self, client: Client) -> Any:
        return dict(self.state)

    @remote
    def slow(self, client: Client, value: Any) -> None:
        self.state["value"] = value
        self.gate.wait()

    @remote
    def slow_join(self, client: Client, room: str) -> None:
        self.room(room).join(self.clients[0])
        self.gate.wait()

    @remote
    def join(self, client: Client, room: str) -> None:
        self.room(room).join(self.clients[0])

    @remote
    def ask(self, client: Client) -> Any:
        return client.call("what")

    @remote
    def later(self, client: Client) -> str:
        return self.schedule("fails", every_s=2**70)

    def fails(self) -> None:
        self.ran.append("job")
        self.gate.wait()
        raise RuntimeError("no")


@pytest.fixture
def app() -> type[App]:
    class Fresh(App):
        ran: ClassVar[list[Any]] = []
        gate: ClassVar[Event] = Event()

    return Fresh


@pytest.fixture
def journals() -> TestJournals:
    return TestJournals()


@pytest.fixture
def bench(app: type[App], journals: TestJournals) -> Iterator[JournaledBench]:
    made = JournaledBench(app, journals)
    yield made
    made.committing.kill()


def call(client: FakeClient, name: str, *args: Any) -> Any:
    """Call, and wait for the result."""
    client.command(name, *args, transaction=client.sent + 2)
    told = answer(client)
    assert told[:2] == ("_result", client.sent + 1.0), told
    return told[2]


def group_of(bench: JournaledBench) -> Any:
    return bench.origin.groups["app/room"]


# Members


def test_rooms_that_a_client_joined_while_it_connected_survive(bench: JournaledBench, app: type[App]) -> None:
    bench.member(bench.edge(), arguments=("lobby",))
    bench.crash()
    after = bench.successor()
    back = after.client(after.edge(), epoch=2, resumed=True)
    assert answer(back) == Attached(back.number, 0, False)
    assert app.ran[-1] == ("resumed", "session-1", ("lobby",))


def test_a_member_whose_edge_never_heard_of_it_is_one_member(bench: JournaledBench, app: type[App]) -> None:
    # The origin dies when it has committed the connect and before its answer is there: the edge connects it anew.
    bench.member(bench.edge(), arguments=("lobby",))
    bench.crash()
    after = bench.successor()
    again = after.client(after.edge(), epoch=2, session_id="session-1", arguments=("lobby",))
    assert answer(again) == Attached(again.number, 0, False)
    assert answer(again)[:2] == ("_result", 1.0)
    after.origin.tend(time.monotonic() + 100)
    assert call(again, "read") == {}
    again.detach()
    settle()
    assert app.ran == [
        ("connected", "session-1"),
        ("resumed", "session-1", ("lobby",)),
        ("left", "session-1", "lobby"),
        ("disconnected", "session-1"),
    ]
    after.committed()
    assert not group_of(after).durable.members.known
    after.committing.kill()


def test_an_answer_to_the_former_origin_answers_no_call_of_this_one(bench: JournaledBench) -> None:
    client = bench.member(bench.edge())
    client.command("ask", transaction=2)
    name, former = answer(client)
    assert name == "what"
    bench.crash()
    after = bench.successor()
    back = after.client(after.edge(), epoch=2, resumed=True)
    assert answer(back) == Attached(back.number, 0, False)
    back.command("ask", transaction=2)
    name, asked = answer(back)
    assert asked != former
    back.message(encode_command("_result", former, None, "old"))
    back.message(encode_command("_result", asked, None, "new"))
    assert answer(back) == ("_result", 2.0, "new")
    after.committing.kill()


def test_a_client_that_goes_while_it_connects_is_in_no_room(bench: JournaledBench, app: type[App]) -> None:
    bench.member(bench.edge())
    client = bench.client(bench.edge(), arguments=("lobby", True))
    eventually(lambda: len(app.ran) == 2, within_s=10)
    client.detach()
    app.gate.set()
    eventually(
        lambda: app.ran[2:] == [("left", "session-2", "lobby"), ("disconnected", "session-2")], within_s=10
    )
    assert not group_of(bench).rooms.joined


def test_what_ends_with_its_message_leaves_no_number(journals: TestJournals) -> None:
    class Plain(Application):
        @remote
        def put(self, client: Client, value: Any) -> None:
            self.state["value"] = value

    bench = JournaledBench(Plain, journals)
    stays, goes = bench.member(bench.edge()), bench.member(bench.edge())
    call(stays, "put", 1)
    goes.command("close")
    bench.committed()
    assert len(group_of(bench).sessions) == 1
    assert list(group_of(bench).durable.members.numbers) == ["session-1"]
    bench.committing.kill()


def test_rooms_that_others_have_a_client_join_meanwhile_stay(bench: JournaledBench, app: type[App]) -> None:
    first, other = bench.member(bench.edge()), bench.member(bench.edge())
    other.command("slow_join", "a", transaction=2)
    settle()
    call(first, "join", "b")
    app.gate.set()
    assert answer(other)[:2] == ("_result", 2.0)
    assert [room.name for room in first.session.client.rooms] == ["b", "a"]


def test_who_has_gone_joins_no_room(bench: JournaledBench, app: type[App]) -> None:
    first, other = bench.member(bench.edge()), bench.member(bench.edge())
    other.command("slow_join", "a", transaction=2)
    settle()
    first.detach()
    settle()
    app.gate.set()
    assert answer(other)[:2] == ("_result", 2.0)
    assert not group_of(bench).rooms.joined


def test_who_leaves_its_rooms_while_the_store_is_away_has_left_them(
    journals: TestJournals, app: type[App]
) -> None:
    bench = JournaledBench(app, journals, store_patience_s=0.0)
    client, stays = bench.member(bench.edge(), arguments=("lobby",)), bench.member(bench.edge())
    journals.away = True
    stays.command("put", 1)
    eventually(lambda: bench.origin.committer.away, within_s=10)
    bench.origin.tend(time.monotonic() + 1)
    assert group_of(bench).stalled
    client.detach()
    settle()
    assert app.ran[-2:] == [("left", "session-1", "lobby"), ("disconnected", "session-1")]
    journals.away = False
    bench.committed()
    assert call(stays, "read") == {"left": "lobby", "value": 1.0}
    assert bench.origin.counters.handler_errors == 0
    bench.committing.kill()


def test_nobody_joins_while_changes_are_refused(journals: TestJournals, app: type[App]) -> None:
    bench = JournaledBench(app, journals, store_patience_s=0.0)
    client = bench.member(bench.edge())
    journals.away = True
    client.command("put", 1)
    eventually(lambda: bench.origin.committer.away, within_s=10)
    bench.origin.tend(time.monotonic() + 1)
    waiting = group_of(bench).outputs.pending_bytes
    for _ in range(10):
        told = answer(bench.client(bench.edge()))
        assert told[2]["code"] == "NetConnection.Connect.Failed"
    assert group_of(bench).outputs.pending_bytes == waiting
    assert len(group_of(bench).durable.members.known) == 1
    journals.away = False
    bench.committing.kill()


def test_an_attachment_that_is_made_again_replaces_the_former(bench: JournaledBench) -> None:
    client = bench.member(bench.edge())
    former = client.session
    client.attach(session_id="session-1b")
    eventually(lambda: client.session.accepted, within_s=10)
    assert former.closed
    assert len(group_of(bench).sessions) == 1


# Groups


def test_what_still_runs_when_its_group_has_ended_writes_nothing(
    journals: TestJournals, app: type[App]
) -> None:
    bench = JournaledBench(app, journals, group_linger_s=0.0)
    client = bench.member(bench.edge())
    client.command("slow", "late", transaction=2)
    settle()
    group = group_of(bench)
    bench.origin.shutdown("bye", within_s=0.1)
    eventually(lambda: group.ending is not None and group.ending.dead, within_s=10)
    loaded = journals.inner.open("app/room", 2)
    # It goes on at the next owner.
    assert pack_rows([[4, "session-1"]])[2:12] in (loaded.snapshot or b"")
    before = len(journals.batches)
    app.gate.set()
    settle()
    assert group.outputs.tail is None
    assert len(journals.batches) == before
    assert ("disconnected", "session-1") not in app.ran
    bench.committing.kill()


def test_a_group_that_does_not_start_keeps_its_members_for_who_does(
    bench: JournaledBench, app: type[App]
) -> None:
    bench.member(bench.edge())
    bench.crash()
    app.broken = True
    after = bench.successor(resume_grace_s=0.0, group_linger_s=5.0)
    refused = after.client(after.edge(), epoch=2)
    assert answer(refused)[0] == "_error"
    refused.detach()
    now = time.monotonic()
    after.origin.tend(now + 1)
    settle()
    assert ("disconnected", "session-1") not in app.ran
    assert "app/room" in after.origin.groups
    after.origin.tend(now + 20)
    eventually(lambda: after.released == [("app/room", 2)], within_s=10)
    app.broken = False
    after.change("group", "app/room", ME, 3)
    after.epoch = 3
    after.member(after.edge())
    after.origin.tend(time.monotonic() + 1)
    eventually(lambda: ("disconnected", "session-1") in app.ran, within_s=10)
    after.committing.kill()


def test_a_group_that_another_origin_had_in_between_is_read_again(
    bench: JournaledBench, journals: TestJournals
) -> None:
    client = bench.member(bench.edge())
    call(client, "put", "mine")
    tail = group_of(bench).outputs.last_number
    other = journals.inner.open("app/room", 2)
    assert other.tail == tail
    # It writes, and leaves a snapshot: entries of the same numbers cannot be told apart any more.
    row = [1, 2, "state", 2, 2, b""]
    journals.inner.append([Append("app/room", 2, tail, [pack_rows([row])])])
    journals.inner.snapshot("app/room", 2, tail + 1, pack_rows([[6, "session-9", 7]]))
    bench.change("group", "app/room", ME, 3)
    client.command("put", "lost", transaction=9)
    eventually(lambda: "app/room" not in bench.origin.groups, within_s=10)
    bench.epoch = 3
    reader = bench.member(bench.edge())
    assert call(reader, "read") == {}
    assert ("_result", 9.0, None) not in client.take()


def test_a_group_that_is_granted_anew_looks_before_it_speaks(
    bench: JournaledBench, journals: TestJournals
) -> None:
    client = bench.member(bench.edge())
    group = group_of(bench)
    journals.inner.open("app/room", 2)
    bench.change("group", "app/room", ME, 3)
    client.command("read", transaction=9)
    eventually(lambda: group.outputs.lost, within_s=10)
    assert ("_result", 9.0, {}) not in client.take()


def test_a_damaged_journal_refuses_changes_also_when_the_store_comes_back(
    bench: JournaledBench, journals: TestJournals
) -> None:
    client, other = bench.member(bench.edge()), bench.member(bench.edge(), group="app/other")
    journals.broken = {"app/room"}
    client.command("put", 1)
    eventually(lambda: group_of(bench).stalled, within_s=10)
    journals.away = True
    other.command("put", 1)
    eventually(lambda: bench.origin.committer.away, within_s=10)
    journals.away = False
    eventually(lambda: not bench.origin.committer.away, within_s=10)
    assert group_of(bench).stalled
    assert not bench.origin.groups["app/other"].stalled


# Transactions and jobs


def test_a_change_stands_whatever_its_effects_meet(bench: JournaledBench) -> None:
    bench.member(bench.edge())
    group, done = group_of(bench), []

    def fails() -> None:
        raise RuntimeError("no link")

    with transaction(group) as now:
        group.durable.state["x"] = 1
        now.after(fails)
        now.after(lambda: done.append("after"))
    assert dict(group.durable.state) == {"x": 1.0}
    assert done == ["after"]
    assert bench.origin.counters.internal_errors == 1


def test_a_handler_of_a_lost_group_says_nothing(bench: JournaledBench, app: type[App]) -> None:
    bench.member(bench.edge())
    group, done = group_of(bench), []
    group.fenced(5)
    with pytest.raises(GroupLost), transaction(group) as now:
        now.after(lambda: done.append("said"))
    assert not done


class Elsewhere:
    """Changes of an object of another group."""

    waits = True

    def __init__(self) -> None:
        self.committed = False

    def prepare(self) -> None:
        raise AssertionError("never asked")

    def commit(self) -> None:
        self.committed = True

    def abandon(self) -> None:
        pass


def test_what_a_group_has_not_committed_is_not_seen_in_another(
    bench: JournaledBench, journals: TestJournals
) -> None:
    bench.member(bench.edge())
    group, there = group_of(bench), Elsewhere()
    bench.committed()
    journals.hold()
    group.durable.state["x"] = 1

    def copy() -> None:
        with transaction(group) as now:
            now.overlay("there", lambda: there)

    copying = gevent.spawn(copy)
    eventually(lambda: journals.held, within_s=10)
    settle()
    assert not there.committed
    journals.go()
    copying.get()
    assert there.committed


def test_a_group_that_is_lost_changes_no_other(bench: JournaledBench, journals: TestJournals) -> None:
    bench.member(bench.edge())
    group, there = group_of(bench), Elsewhere()
    group.fenced(5)
    with pytest.raises(GroupLost), transaction(group) as now:
        now.overlay("there", lambda: there)
    assert not there.committed


def test_a_job_that_fails_while_the_store_is_away_has_run(journals: TestJournals, app: type[App]) -> None:
    bench = JournaledBench(app, journals, store_patience_s=0.0)
    client = bench.member(bench.edge())
    group = group_of(bench)
    id_ = group.application.schedule("fails", delay_s=0)
    eventually(lambda: "job" in app.ran, within_s=10)
    bench.committed()
    journals.away = True
    client.command("put", 1)
    eventually(lambda: bench.origin.committer.away, within_s=10)
    bench.origin.tend(time.monotonic() + 1)
    assert group.stalled
    app.gate.set()
    eventually(lambda: id_ not in group.durable.jobs, within_s=10)
    journals.away = False
    bench.committed()
    gevent.sleep(0.3)
    assert app.ran.count("job") == 1
    bench.committing.kill()


@pytest.mark.parametrize(
    "when", [{"every_s": float("inf")}, {"every_s": float("nan")}, {"delay_s": float("nan")}]
)
def test_a_job_has_a_time(bench: JournaledBench, when: dict[str, float]) -> None:
    bench.member(bench.edge())
    with pytest.raises(ValueError, match="expected"):
        group_of(bench).application.schedule("fails", **when)


def test_a_job_may_wait_for_very_long(bench: JournaledBench) -> None:
    client = bench.member(bench.edge())
    assert call(client, "later")


def test_a_session_that_is_sent_away_is_forgotten(bench: JournaledBench, journals: TestJournals) -> None:
    journals.inner.open("app/room", 7)
    client = bench.client(bench.edge())
    eventually(lambda: any(isinstance(told, AttachRefused) for told in client.link.log), within_s=10)
    assert not client.link.data.sessions


def test_a_class_that_is_taken_anew_waits_for_the_old_one_to_start(
    bench: JournaledBench, app: type[App]
) -> None:
    class Slow(app):  # type: ignore[misc, valid-type]  # of a fixture
        def on_start(self) -> None:
            self.gate.wait()
            self.ran.append("old started")

        def on_stop(self) -> None:
            self.ran.append("old stopped")

    class Next(app):  # type: ignore[misc, valid-type]
        def on_start(self) -> None:
            self.ran.append("new started")

    bench.origin.applications["app"] = Slow
    client = bench.client(bench.edge())
    settle()
    replacing = gevent.spawn(bench.origin.replace_application, "app", Next)
    settle()
    assert not app.ran
    app.gate.set()
    replacing.get()
    eventually(lambda: client.attached in client.link.log, within_s=10)
    assert app.ran[:3] in (
        ["old started", "old stopped", "new started"],
        ["old started", ("connected", "session-1"), "old stopped"],
    )
