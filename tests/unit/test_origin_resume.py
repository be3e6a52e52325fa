"""Sessions that come back over another link or to another origin, and those that do not: what they and the application hear."""

import logging
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from headwater_bus.traffic import (
    Attach,
    Attached,
    AttachRefused,
    CloseSession,
    GuestIdle,
    Heard,
    SessionsGone,
    SessionTaken,
)
from headwater_origin import Application, Client, ClientGone, Reject, remote
from headwater_origin.session_state import StateError, StateOf, unpack_state
from headwater_rtmp.command import encode_command
from support.journal_bench import JournaledBench, TestJournals, answer, quiet
from support.origin_bench import ME, Bench, FakeClient, FakeLink, plain, settle
from support.waiting import eventually


class App(Application):
    log: list[Any] = []  # noqa: RUF012
    gate: Event | None = None
    allow_publish = True

    def on_connect(self, client: Client, *args: Any) -> None:
        self.log.append(("connect", client.id))

    def on_resume(self, client: Client) -> None:
        self.log.append(("resume", client.id, client.connected, len(self.clients)))

    def on_disconnect(self, client: Client) -> None:
        self.log.append(("disconnect", client.id))

    def on_stop(self) -> None:
        self.log.append(("stop",))

    @remote
    def add(self, client: Client) -> float:
        self.state["n"] = self.state.get("n", 0.0) + 1
        return float(self.state["n"])

    @remote
    def slow(self, client: Client) -> float:
        if self.gate is not None:
            self.gate.wait()
        return self.add(client)

    @remote
    def ask(self, client: Client) -> str:
        self.log.append("asked")
        answer = client.call("question")
        self.log.append(answer)
        return "done"

    @remote
    def kick(self, client: Client, other: str) -> None:
        (found,) = (one for one in self.clients if one.id == other)
        found.close("out")


@pytest.fixture
def app() -> type[App]:
    class Fresh(App):
        log: list[Any] = []  # noqa: RUF012

    return Fresh


@pytest.fixture
def journals() -> TestJournals:
    return TestJournals()


@pytest.fixture
def bench(app: type[App], journals: TestJournals) -> Iterator[JournaledBench]:
    made = JournaledBench(app, journals, resume_grace_s=10.0, group_linger_s=1000.0)
    yield made
    journals.go()
    made.committing.kill()


def cut(bench: Bench, link: FakeLink) -> None:
    bench.origin.link_down(link, "cut")  # type: ignore[arg-type]  # All that it needs of a Link.
    settle()


def again(bench: Bench, client: FakeClient, link: FakeLink | None = None, **how: Any) -> FakeClient:
    """The same session over another link."""
    back = FakeClient(bench, link or bench.edge(), client.number, client.group)
    back.sent = client.sent
    back.attach(resumed=True, session_id=f"session-{client.number}", epoch=bench.epoch, **how)
    return back


def after(bench: JournaledBench, within_s: float) -> None:
    """Time has passed."""
    (group,) = bench.origin.groups.values()
    bench.origin.tend(group.clock() + within_s)
    settle()


def test_a_member_whose_link_is_lost_is_there_for_its_time(bench: JournaledBench, app: type[App]) -> None:
    client = bench.member(bench.edge())
    cut(bench, client.link)
    (group,) = bench.origin.groups.values()
    assert group.application is not None
    assert group.health()["absent"] == 1
    assert [one.id for one in group.application.clients] == ["session-1"]
    assert group.application.clients[0].connected
    after(bench, 9.9)
    assert ("disconnect", "session-1") not in app.log
    for _ in range(2):
        after(bench, 10.1)
    assert app.log.count(("disconnect", "session-1")) == 1
    assert group.application.clients == ()


def test_a_client_is_the_same_object_over_another_link(bench: JournaledBench, app: type[App]) -> None:
    client = bench.member(bench.edge())
    known = client.session.client
    cut(bench, client.link)
    back = again(bench, client)
    eventually(lambda: answer(back) == Attached(1, 0, False), within_s=5)
    assert back.session.client is known
    assert app.log[-1] == ("resume", "session-1", True, 1)
    known.notify("hello")
    assert answer(back) == ("hello", 0.0)


def test_what_is_said_to_who_is_away_is_said_when_it_is_back(bench: JournaledBench) -> None:
    client, other = bench.member(bench.edge()), bench.member(bench.edge())
    known = client.session.client
    cut(bench, client.link)
    known.notify("alone")
    other.scope.broadcast("all")
    assert answer(other) == ("all", 0.0)
    back = again(bench, client)
    assert [answer(back) for _ in range(3)] == [Attached(1, 0, False), ("alone", 0.0), ("all", 0.0)]
    (group,) = bench.origin.groups.values()
    eventually(lambda: group.outputs.tail is None, within_s=5)
    after(bench, 0.0)
    assert len(group.outputs.said) == 0


def test_who_left_while_its_edge_was_away_has_left_at_once(bench: JournaledBench, app: type[App]) -> None:
    client, other = bench.member(bench.edge()), bench.member(bench.edge())
    cut(bench, client.link)
    other.put(SessionsGone("app/room", 1, ["session-1", "session-77"]))
    settle()
    assert app.log[-1] == ("disconnect", "session-1")
    bench.committed()
    # Whoever attaches it again is told that it is over.
    back = again(bench, client)
    assert [answer(back), answer(back)] == [
        Attached(1, 0, False),
        CloseSession(1, "the session has ended at its origin"),
    ]


def test_sessions_that_are_gone_are_told_before_the_group_is_known(
    bench: JournaledBench, app: type[App]
) -> None:
    bench.member(bench.edge())
    bench.crash()
    successor = bench.successor(resume_grace_s=1000.0)
    link = successor.edge()
    successor.origin.batch(link, [SessionsGone("app/room", 2, ["session-1"])])  # type: ignore[arg-type]
    assert app.log[-1] == ("connect", "session-1")
    successor.change("group", "app/room", ME, 2)
    eventually(lambda: app.log[-1] == ("disconnect", "session-1"), within_s=5)
    successor.committing.kill()


def test_a_client_that_was_closed_hears_of_it_from_the_next_origin(bench: JournaledBench) -> None:
    link = bench.edge()
    kicker, kicked = bench.member(link), bench.member(bench.edge())
    kicker.command("kick", "session-2", transaction=2)
    assert answer(kicker)[:2] == ("_result", 2.0)
    bench.committed()
    bench.crash()
    successor = bench.successor()
    successor.change("group", "app/room", ME, 2)
    back = again(successor, kicked)
    told = [answer(back) for _ in range(3)]
    assert told == [
        Attached(2, 0, False),
        ("onStatus", 0, "NetConnection.Connect.Closed"),
        CloseSession(2, "out"),
    ]
    successor.committing.kill()


def test_a_handler_goes_on_and_its_client_waits_for_it(bench: JournaledBench, app: type[App]) -> None:
    app.gate = Event()
    client = bench.member(bench.edge())
    client.command("slow", transaction=2)
    settle()
    cut(bench, client.link)
    back = again(bench, client)
    back.sent = 0
    back.command("slow", transaction=2)
    quiet(back)
    after(bench, 100.0)
    assert ("disconnect", "session-1") not in app.log
    app.gate.set()
    assert [answer(back), answer(back)] == [Attached(1, 1, False), ("_result", 2.0, 1.0)]
    assert app.log[-1][:2] == ("resume", "session-1")


def test_a_call_to_a_client_is_made_again_over_the_next_link(bench: JournaledBench, app: type[App]) -> None:
    client = bench.member(bench.edge())
    client.command("ask", transaction=2)
    first = answer(client)
    assert first[0] == "question"
    cut(bench, client.link)
    back = again(bench, client)
    back.sent = 0
    back.command("ask", transaction=2)
    assert answer(back) == Attached(1, 0, False)
    second = answer(back)
    assert (second[0], second[1] > first[1]) == ("question", True)
    back.message(encode_command("_result", first[1], None, "old"))
    back.message(encode_command("_result", second[1], None, "new"))
    assert answer(back) == ("_result", 2.0, "done")
    assert [what for what in app.log if isinstance(what, str)] == ["asked", "asked", "new"]


def test_somebody_else_who_calls_a_client_hears_that_its_link_is_lost(bench: JournaledBench) -> None:
    client = bench.member(bench.edge())
    called = gevent.spawn(client.session.client.call, "question")
    settle()
    cut(bench, client.link)
    with pytest.raises(ClientGone, match="the link to the client is lost; it may come back"):
        called.get(timeout=5)


def test_an_attach_over_another_link_takes_the_place_of_one_that_seems_to_live(
    bench: JournaledBench, app: type[App]
) -> None:
    client = bench.member(bench.edge())
    back = again(bench, client)
    assert answer(back) == Attached(1, 0, False)
    assert bench.origin.sessions == 1
    assert client.number not in client.link.data.sessions
    assert ("disconnect", "session-1") not in app.log


@pytest.mark.parametrize("refuses", [False, True])
def test_without_a_journal_who_was_connected_connects_anew_and_does_not_notice(refuses: bool) -> None:
    asked: list[str] = []

    class Asked(Application):
        def on_connect(self, client: Client, *args: Any) -> Reject | None:
            asked.append(client.id)
            return Reject("full") if refuses else None

    bench = Bench({"app": Asked})
    back = bench.client(bench.edge(), resumed=True, applied=5)
    settle()
    told = back.take()
    assert asked == ["session-1"]
    if refuses:
        assert told == [
            Attached(1, 0, False),
            ("onStatus", 0, "NetConnection.Connect.Rejected"),
            CloseSession(1, "full"),
        ]
    else:
        assert told == [Attached(1, 5, False)]
        back.sent = 4
        back.command("createStream", transaction=2)
        assert back.take() == []  # It was answered where the client was before.
        back.command("createStream", transaction=3)
        assert back.take() == [("_result", 3.0, 1.0)]


def test_a_store_that_went_back_is_found_by_what_edges_have_heard(
    bench: JournaledBench, journals: TestJournals, app: type[App], caplog: pytest.LogCaptureFixture
) -> None:
    bench.change("group", "app/room", ME, 1)
    back = bench.client(bench.edge(), resumed=True, applied=7, heard=40)
    assert answer(back) == Attached(1, 7, False)
    assert app.log == [("connect", "session-1")]
    back.sent = 7
    back.command("add", transaction=2)
    assert answer(back) == ("_result", 2.0, 1.0)
    bench.committed()
    assert min(number for batch in journals.batches for _, number, _ in batch) > 40
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.fields["entries_lost"] for record in errors] == ["1 to 40", "1 to 40"]  # type: ignore[attr-defined]
    eventually(lambda: back.link.applied() == {1: (8, 42)}, within_s=5)


def test_a_group_that_cannot_be_read_sends_who_comes_back_away(
    bench: JournaledBench, journals: TestJournals
) -> None:
    client = bench.member(bench.edge())
    bench.committed()
    bench.crash()
    journals.away = True
    successor = bench.successor(store_patience_s=0.0)
    successor.change("group", "app/room", ME, 2)
    back = again(successor, client)
    assert isinstance(answer(back), AttachRefused)
    journals.away = False
    back = again(successor, client)
    assert answer(back) == Attached(1, 0, False)
    successor.committing.kill()


def test_a_guest_comes_back_with_what_it_was_told(bench: JournaledBench) -> None:
    link = bench.edge()
    bench.member(link)

    def guest(link: FakeLink, resumed: bool, applied: int = 0) -> FakeClient:
        made = FakeClient(bench, link, 9, "app/room")
        made.put(Attach(9, "guest", "app/room", 1, "192.0.2.7", 0, resumed, 0, applied, 0, b"", [], [], []))
        return made

    first = guest(link, False)
    assert answer(first) == Attached(9, 0, False)
    link.taken = 0
    first.command("add", transaction=2)
    assert answer(first) == ("_result", 2.0, 1.0)
    assert answer(first) == GuestIdle(9, 1)
    cut(bench, link)
    back = guest(bench.edge(), True)
    assert [answer(back) for _ in range(3)] == [Attached(9, 1, False), ("_result", 2.0, 1.0), GuestIdle(9, 1)]
    cut(bench, back.link)
    after(bench, 10.1)
    (group,) = bench.origin.groups.values()
    assert "guest" not in group.durable.members.numbers
    last = guest(bench.edge(), True, applied=1)
    assert answer(last) == Attached(9, 1, False)


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\x00",
        b"\x90",
        b"\x95\x91\x90\x90\x90\x90\xc3",
        b"\x95\x90\x91\x93\xa1a\xc3\xa1b\x90\x90\xc3",
    ],
    ids=["no msgpack", "no list", "too short", "an empty row", "a wrong type"],
)
def test_a_state_that_cannot_be_read_is_no_state(
    bench: JournaledBench, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StateError):
        unpack_state(data)
    client = bench.member(bench.edge())
    cut(bench, client.link)
    back = again(bench, client, state=data)
    assert answer(back) == Attached(1, 0, False)
    back.command("createStream", transaction=2)
    assert answer(back) == ("_result", 2.0, 1.0)
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_a_state_is_told_when_it_changes_and_given_back(bench: JournaledBench) -> None:
    client = bench.member(bench.edge())
    client.command("createStream", transaction=2)
    client.command("publish", "cam", "live", stream_id=1)
    settle()
    state = client.link.states[1]
    assert unpack_state(state) == StateOf(streams=[[1, "cam", "", True, True, False, ""]])
    bench.committed()
    bench.crash()
    successor = bench.successor()
    successor.change("group", "app/room", ME, 2)
    back = again(successor, client, state=state, applied=2)
    assert answer(back) == Attached(1, 2, False)
    told = [answer(back)]
    assert [type(one).__name__ for one in told] == ["PublishStarted"]
    assert back.link.states == {}  # It knows it.
    back.command("createStream", transaction=3)
    assert answer(back) == ("_result", 3.0, 2.0)
    successor.committing.kill()


def test_too_much_that_is_kept_for_absent_members_ends_their_time(
    app: type[App], journals: TestJournals
) -> None:
    bench = JournaledBench(app, journals, resume_grace_s=1000.0, said_bytes=20_000)
    client, other = bench.member(bench.edge()), bench.member(bench.edge())
    cut(bench, client.link)
    for _ in range(100):
        other.scope.broadcast("all", "x" * 300)
    bench.committed()
    bench.origin.tend(0.0)
    settle()
    assert app.log[-1] == ("disconnect", "session-1")
    bench.committed()
    bench.origin.tend(0.0)
    (group,) = bench.origin.groups.values()
    assert group.outputs.said.size_bytes == 0
    bench.committing.kill()


def test_who_is_told_nothing_plain(bench: JournaledBench) -> None:
    """An edge learns how far a session is also where nothing else is said."""
    client = bench.member(bench.edge())
    client.link.applied()
    client.command("nothing")
    settle()
    assert client.link.applied() == {1: (1, bench.origin.groups["app/room"].outputs.committed_number)}
    assert client.link.applied() == {}
    assert plain(client.take()) == []


def test_a_member_whose_edge_lives_is_waited_for_longer(bench: JournaledBench, app: type[App]) -> None:
    """It looks for the group's origin longer than the grace of a session that has lost its edge."""
    client = bench.member(bench.edge())
    # Session ids begin with the boot id of their edge.
    bench.view._apply([["node", ["edge-1", "edge", "session", "", 1.0, {}, {}]]])
    cut(bench, client.link)
    after(bench, 11)
    after(bench, 44)
    assert ("disconnect", "session-1") not in app.log
    after(bench, 46)
    assert app.log.count(("disconnect", "session-1")) == 1


# Sessions that may go from edge to edge


def test_the_edge_with_the_newer_fence_has_the_session(bench: JournaledBench, app: type[App]) -> None:
    first = bench.member(bench.edge(), fence=5)
    known = first.session.client
    second = again(bench, first, fence=7)
    settle()
    assert [told for told in first.link.log if isinstance(told, SessionTaken)] == [SessionTaken(1, 7)]
    assert second.session.client is known
    # The former edge means nothing any more: not its messages, not its end, not another attach.
    first.command("nothing")
    first.detach()
    first.attach(resumed=True, session_id="session-1", fence=5)
    settle()
    assert [told for told in first.link.log if isinstance(told, SessionTaken)][1:] == [SessionTaken(1, 7)]
    assert second.session.client.connected
    assert ("disconnect", "session-1") not in app.log
    second.detach()
    settle()
    assert app.log.count(("disconnect", "session-1")) == 1


def test_what_is_acknowledged_and_not_stored_is_said_again(bench: JournaledBench) -> None:
    """The edge has received it, and dies before a request has fetched it."""
    client, other = bench.member(bench.edge(), fence=5), bench.member(bench.edge())
    client.link.taken = client.link.position
    other.scope.broadcast("all", "words")
    bench.committed()
    client.link.applied()
    client.link.taken = None
    bench.origin.tend(0.0)
    back = again(bench, client, fence=7)
    settle()
    assert ("all", 0.0, "words") in back.take()
    # Now it is stored, and need not be kept.
    entry = bench.origin.groups["app/room"].outputs.committed_number
    back.put(Heard([1, 0, entry]))
    last = again(bench, back, fence=8, heard=entry)
    settle()
    assert ("all", 0.0, "words") not in last.take()


def test_what_an_edge_knows_and_has_not_stored_outlives_it(bench: JournaledBench) -> None:
    """The edge attaches the session again, with what it has in memory, and dies before it has written that."""
    client, other = bench.member(bench.edge(), fence=5), bench.member(bench.edge())

    def say(member: FakeClient, what: str) -> None:
        """In a batch that is acknowledged, as a link does it, behind its last envelope."""
        member.link.taken = member.link.position
        other.scope.broadcast("all", what)
        bench.committed()
        member.link.applied()
        member.link.taken = None
        bench.origin.tend(0.0)

    say(client, "words")
    entry = bench.origin.groups["app/room"].outputs.committed_number
    cut(bench, client.link)
    link = bench.edge()
    link.taken = 0
    back = again(bench, client, link, fence=5, heard=entry)
    settle()
    link.applied()
    link.taken = None
    say(back, "later")
    cut(bench, link)
    last = again(bench, back, fence=7)
    settle()
    told = [one for one in last.take() if isinstance(one, tuple)]
    assert told == [("all", 0.0, "words"), ("all", 0.0, "later")]
