"""The origin: what a scope's next origin finds in the journal. No sockets; the former one ends as kill -9 would."""

import datetime
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from headwater_bus.traffic import Attached, CloseSession
from headwater_origin import Application, Client, remote
from headwater_origin.durable.journal import pack_rows
from headwater_store import Append
from hypothesis import given, settings
from hypothesis import strategies as st
from support.journal_bench import JournaledBench, TestJournals, answer, memory_journals, quiet
from support.origin_bench import settle
from support.waiting import TIME_FACTOR, eventually


class App(Application):
    ran: list[Any]
    gate: Event | None = None

    def on_resume(self, client: Client) -> None:
        self.ran.append(("resumed", client.id, client.address, dict(client.attributes), client.rooms))

    def on_disconnect(self, client: Client) -> None:
        self.ran.append(("disconnected", client.id, dict(client.attributes)))
        self.state["left"] = self.state.get("left", 0.0) + 1

    def on_leave(self, client: Client, room: str) -> None:
        self.ran.append(("left", client.id, room))

    @remote
    def put(self, client: Client, key: str, value: Any) -> None:
        self.state[key] = value

    @remote
    def tag(self, client: Client, value: Any) -> None:
        client.attributes["tag"] = value
        self.room("tables/1").join(client)

    @remote
    def read(self, client: Client) -> Any:
        return dict(self.state)

    @remote
    def later(self, client: Client, delay_s: float) -> str:
        return self.schedule("job", "a", 2.0, delay_s=delay_s)

    def job(self, *args: Any) -> None:
        self.ran.append(("job", *args))
        if self.gate is not None:
            self.gate.wait()
        self.state["jobs"] = self.state.get("jobs", 0.0) + 1

    @remote(retry=False)
    def pay(self, client: Client) -> str:
        self.ran.append("paid")
        if self.gate is not None:
            self.gate.wait()
        return "paid"


@pytest.fixture
def app() -> type[App]:
    class Fresh(App):
        ran: list[Any] = []  # noqa: RUF012

    return Fresh


@pytest.fixture
def journals() -> TestJournals:
    return TestJournals()


@pytest.fixture
def bench(app: type[App], journals: TestJournals) -> Iterator[JournaledBench]:
    made = JournaledBench(app, journals)
    yield made
    made.committing.kill()


def resumed(bench: JournaledBench, sent: int = 0, **how: Any) -> Any:
    """The same session on the next origin, whose edge has sent so many messages before."""
    client = bench.client(bench.edge(), epoch=bench.epoch, resumed=True, **how)
    client.sent = sent
    return client


def call(client: Any, name: str, *args: Any) -> Any:
    """Call, and wait for the result."""
    client.command(name, *args, transaction=client.sent + 2)
    told = answer(client)
    assert told[:2] == ("_result", client.sent + 1.0), told
    return told[2]


def test_a_member_that_comes_back_goes_on(bench: JournaledBench, app: type[App]) -> None:
    client = bench.member(bench.edge(), amf3=True)
    call(client, "tag", ["x", 1.0])
    bench.crash()
    after = bench.successor()
    back = resumed(after, client.sent, amf3=True, applied=1)
    assert answer(back) == Attached(back.number, 1, False)
    (what,) = app.ran
    assert what[:4] == ("resumed", "session-1", "192.0.2.7", {"tag": ["x", 1.0]})
    assert [room.name for room in what[4]] == ["tables/1"]
    assert back.session.client.connect_properties["app"] == "app/room"
    assert call(back, "read") == {}
    after.origin.tend(time.monotonic() + 100)
    back.detach()
    settle()
    assert app.ran[1:] == [
        ("left", "session-1", "tables/1"),
        ("disconnected", "session-1", {"tag": ["x", 1.0]}),
    ]


def test_messages_that_were_applied_are_not_applied_again(bench: JournaledBench) -> None:
    client = bench.member(bench.edge())
    for number in range(1, 4):
        call(client, "put", f"k{number}", number)
    bench.crash()
    after = bench.successor()
    back = resumed(after)
    for number in range(1, 6):
        back.command("put", f"k{number}", -number, transaction=number + 1)
    assert answer(back) == Attached(back.number, 3, False)
    # Nobody knows that the first three answers were heard.
    assert [answer(back)[:2] for _ in range(5)] == [("_result", float(number)) for number in range(2, 7)]
    assert call(back, "read") == {"k1": 1.0, "k2": 2.0, "k3": 3.0, "k4": -4.0, "k5": -5.0}
    assert after.origin.counters.messages_again == 3
    back.sent = 5
    back.command("put", "k1", 0, transaction=9)
    quiet(back)


def test_a_member_that_does_not_come_back_leaves_once(
    bench: JournaledBench, app: type[App], journals: TestJournals
) -> None:
    client = bench.member(bench.edge())
    call(client, "tag", "t")
    bench.crash()
    after = bench.successor(resume_grace_s=5.0)
    other = after.member(after.edge(), properties={"x": 1})
    other.session.session_id = "other"
    after.origin.tend(time.monotonic() + 4)
    settle()
    assert app.ran == []
    for _ in range(2):
        after.origin.tend(time.monotonic() + 6)
        settle()
    gone = [("left", "session-1", "tables/1"), ("disconnected", "session-1", {"tag": "t"})]
    assert app.ran == gone
    after.committed()
    after.crash()
    third = after.successor(resume_grace_s=0.0)
    reader = third.member(third.edge())
    assert call(reader, "read")["left"] >= 1.0
    third.origin.tend(time.monotonic() + 1)
    settle()
    assert [what for what in app.ran if what[1] == "session-1" and what[0] == "left"] == gone[:1]


def test_a_session_that_the_journal_does_not_know_has_ended(bench: JournaledBench, app: type[App]) -> None:
    back = resumed(bench, applied=3)
    assert answer(back) == Attached(back.number, 3, False)
    assert answer(back) == CloseSession(back.number, "the session has ended at its origin")
    assert app.ran == []


def test_a_call_that_must_not_run_twice_does_not(bench: JournaledBench, app: type[App]) -> None:
    app.gate = Event()
    client = bench.member(bench.edge())
    client.command("pay", transaction=2)
    eventually(lambda: app.ran == ["paid"], within_s=5)
    bench.crash()
    after = bench.successor()
    back = resumed(after)
    assert answer(back) == Attached(back.number, 0, False)
    back.command("pay", transaction=2)
    told = answer(back)
    assert told[:2] == ("_error", 2.0)
    assert told[2]["code"] == "NetConnection.Call.Interrupted"
    assert [what for what in app.ran if what == "paid"] == ["paid"]
    app.gate.set()
    assert call(back, "pay") == "paid"
    after.committed()
    after.crash()
    third = resumed(after.successor(), sent=2)
    assert answer(third) == Attached(third.number, 2, False)
    assert call(third, "pay") == "paid"


def test_a_call_that_must_not_run_twice_begins_when_that_is_committed(
    bench: JournaledBench, app: type[App], journals: TestJournals
) -> None:
    client = bench.member(bench.edge())
    bench.committed()
    journals.hold()
    client.command("pay", transaction=2)
    settle()
    assert app.ran == []
    journals.go()
    assert answer(client) == ("_result", 2.0, "paid")


def test_a_job_survives_and_runs_once(bench: JournaledBench, app: type[App]) -> None:
    client = bench.member(bench.edge())
    call(client, "later", 0.2)
    bench.crash()
    after = bench.successor()
    reader = after.member(after.edge())
    eventually(lambda: ("job", "a", 2.0) in app.ran, within_s=5)
    eventually(lambda: call(reader, "read").get("jobs") == 1.0, within_s=5)
    assert len(after.origin.groups["app/room"].durable.jobs) == 0
    after.committed()
    after.crash()
    third = after.successor()
    assert call(third.member(third.edge()), "read")["jobs"] == 1.0
    gevent.sleep(0.05)
    assert app.ran.count(("job", "a", 2.0)) == 1


def test_a_job_that_was_cut_short_runs_again_and_counts_once(bench: JournaledBench, app: type[App]) -> None:
    app.gate = Event()
    client = bench.member(bench.edge())
    call(client, "later", 0.0)
    eventually(lambda: app.ran.count(("job", "a", 2.0)) == 1, within_s=5)
    bench.crash()
    app.gate.set()
    after = bench.successor()
    reader = after.member(after.edge())
    eventually(lambda: call(reader, "read").get("jobs") == 1.0, within_s=5)
    assert app.ran.count(("job", "a", 2.0)) == 2


def test_a_group_whose_job_waits_does_not_stop(bench: JournaledBench) -> None:
    client = bench.member(bench.edge())
    job = call(client, "later", 3600)
    client.detach()
    settle()
    bench.committed()
    bench.origin.tend(time.monotonic() + 1000)
    assert "app/room" in bench.origin.groups
    application = bench.origin.groups["app/room"].application
    assert application is not None
    assert application.cancel(job)
    bench.committed()
    bench.origin.tend(time.monotonic() + 1000)
    assert "app/room" not in bench.origin.groups


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abc"), st.none() | st.floats(-5, 5) | st.text(max_size=3)),
        st.tuples(st.just("delete"), st.sampled_from("abc"), st.none()),
        st.tuples(st.just("attribute"), st.sampled_from("ab"), st.integers(0, 3)),
        st.tuples(st.just("join"), st.sampled_from(["r", "r/1", "s"]), st.none()),
        st.tuples(st.just("leave"), st.sampled_from(["r", "r/1", "s"]), st.none()),
        st.tuples(st.just("schedule"), st.sampled_from("abc"), st.none()),
        st.tuples(st.just("cancel"), st.integers(0, 5), st.none()),
        st.tuples(st.just("object"), st.sampled_from("abc"), st.none() | st.integers(0, 3)),
        st.tuples(st.just("commit"), st.none(), st.none()),
    ),
    max_size=30,
)


class Scripted(Application):
    def play(self, client: Client, operations: list[Any]) -> None:
        jobs: list[str] = []
        for what, key, value in operations:
            if what == "put":
                self.state[key] = value
            elif what == "delete":
                self.state.pop(key, None)
            elif what == "attribute":
                client.attributes[key] = value
            elif what == "join":
                self.room(key).join(client)
            elif what == "leave":
                self.room(key).leave(client)
            elif what == "schedule":
                jobs.append(self.schedule("job", key, at=datetime.datetime(2100, 1, 1)))
            elif what == "cancel" and key < len(jobs):
                self.cancel(jobs[key])
            elif what == "object":
                self.shared_object("o", persistent=True).change({key: value})
            elif what == "commit":
                self._group.flushed()

    def job(self, key: str) -> None:
        raise AssertionError("it is not due")


def everything(bench: JournaledBench, client: Client) -> Any:
    group = bench.origin.groups["app/room"]
    assert group.application is not None
    board = group.application.shared_object("o", persistent=True)
    return (
        dict(group.application.state),
        dict(client.attributes),
        sorted(room.name for room in client.rooms),
        sorted(job.row() for job in group.durable.jobs._jobs.values()),
        (dict(board), board.version),
        sorted(map(repr, group.durable.rows())),
    )


@given(OPERATIONS, st.integers(1, 5), st.booleans())
@settings(max_examples=40)
def test_what_is_read_again_is_what_was_there(
    operations: list[Any], snapshot_entries: int, atomic: bool
) -> None:
    bench = JournaledBench(Scripted, memory_journals(), snapshot_entries=snapshot_entries, commit_ms=0.0)
    client = bench.member(bench.edge())
    application = bench.origin.groups["app/room"].application
    assert isinstance(application, Scripted)

    def play() -> None:
        if atomic:
            with application.atomic():
                application.play(client.session.client, [one for one in operations if one[0] != "commit"])
        else:
            application.play(client.session.client, operations)

    gevent.spawn(play).get(timeout=30 * TIME_FACTOR)
    bench.committed()
    before = everything(bench, client.session.client)
    bench.crash()
    after = bench.successor()
    back = resumed(after)
    assert isinstance(answer(back), Attached)
    assert everything(after, back.session.client) == before
    after.crash()


def test_ten_thousand_entries_are_read_in_two_seconds(app: type[App]) -> None:
    journals = memory_journals()
    bench = JournaledBench(app, journals)
    client = bench.member(bench.edge())
    call(client, "put", "key", "value" * 10)
    bench.crash()
    loaded = journals.open("app/room", 1)
    last = loaded.entries[-1]
    journals.append([Append("app/room", 1, loaded.tail, [last] * 10_000)])
    journals.append([Append("app/room", 1, loaded.tail + 10_000, [pack_rows([])])])
    started = time.process_time()
    after = bench.successor()
    back = resumed(after)
    assert isinstance(answer(back, within_s=60), Attached)
    assert time.process_time() - started < 2 * TIME_FACTOR
    assert after.origin.groups["app/room"].health()["journal"]["tail_entries"] > 10_000
