"""The origin's commits: what waits for the journal, what does not, and what a store that misbehaves does to it. No sockets."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from headwater_bus.traffic import AttachRefused, ToClient
from headwater_origin import Application, CallError, Client, Reject, StoreUnavailable, remote
from headwater_store import Append, Fenced, WentBack
from support.journal_bench import JournaledBench, TestJournals, answer, quiet
from support.origin_bench import ME, plain, settle
from support.waiting import eventually


class App(Application):
    gate: Event | None = None

    @remote
    def add(self, client: Client, by: float) -> float:
        self.state["n"] = self.state.get("n", 0.0) + by
        return float(self.state["n"])

    @remote
    def add_slowly(self, client: Client, by: float) -> float:
        self.state["n"] = self.state.get("n", 0.0) + by
        if self.gate is not None:
            self.gate.wait()
        self.state["slow"] = by
        return float(self.state["n"])

    @remote
    def add_and_fail(self, client: Client, how: str) -> float:
        self.state["n"] = -1.0
        client.attributes["failed"] = True
        client.notify("never")
        self.broadcast("never")
        raise {"call": CallError("x", "y"), "reject": Reject("z"), "bug": ValueError("b")}[how]

    @remote
    def read(self, client: Client) -> Any:
        return dict(self.state)


@pytest.fixture
def journals() -> TestJournals:
    return TestJournals()


@pytest.fixture
def bench(journals: TestJournals) -> Iterator[JournaledBench]:
    made = JournaledBench(App, journals)
    yield made
    journals.away = False
    journals.go()
    made.committing.kill()


def stored(bench: JournaledBench) -> Any:
    """What a successor finds in `state`."""
    bench.crash()
    after = bench.successor(App)
    client = after.member(after.edge())
    client.command("read", transaction=2)
    return answer(client)[2]


def fields(record: logging.LogRecord) -> Any:
    """What a log line says beside its text."""
    return record.fields  # type: ignore[attr-defined]  # headwater_bus.logs sets them


def test_an_answer_is_released_when_its_effects_are_committed(
    bench: JournaledBench, journals: TestJournals
) -> None:
    client = bench.member(bench.edge())
    journals.hold()
    client.command("add", 1, transaction=2)
    quiet(client)
    journals.go()
    assert answer(client) == ("_result", 2.0, 1.0)
    assert stored(bench) == {"n": 1.0}


def test_what_a_client_is_told_keeps_its_order_and_what_depends_on_nothing_does_not_wait(
    bench: JournaledBench, journals: TestJournals
) -> None:
    link = bench.edge()
    one, two = bench.member(link), bench.member(link)
    journals.hold()
    one.command("add", 1, transaction=2)
    one.command("createStream", transaction=3)
    settle()
    two.command("createStream", transaction=2)
    assert answer(two) == ("_result", 2.0, 1.0)
    quiet(one)
    journals.go()
    assert [answer(one), answer(one)] == [("_result", 2.0, 1.0), ("_result", 3.0, 1.0)]


def test_what_comes_while_a_commit_is_under_way_is_one_commit(
    bench: JournaledBench, journals: TestJournals
) -> None:
    link = bench.edge()
    clients = [bench.member(link) for _ in range(5)]
    bench.committed()
    journals.batches.clear()
    journals.hold()
    clients[0].command("add", 1, transaction=2)
    eventually(lambda: journals.held, within_s=5)
    for client in clients[1:]:
        client.command("add", 1, transaction=2)
    settle()
    journals.go()
    assert [answer(client)[2] for client in clients] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(journals.batches) == 2


def test_the_effects_of_a_handler_that_waits_are_one_entry_and_seen_by_itself_alone(
    bench: JournaledBench, journals: TestJournals
) -> None:
    App.gate = Event()
    link = bench.edge()
    slow, other = bench.member(link), bench.member(link)
    slow.command("add_slowly", 5, transaction=2)
    settle()
    other.command("read", transaction=2)
    assert answer(other) == ("_result", 2.0, {})
    other.command("add", 1, transaction=3)
    assert answer(other) == ("_result", 3.0, 1.0)
    bench.committed()
    before = len(journals.batches)
    App.gate.set()
    # It read before the other wrote, so its own write wins: the last one does.
    assert answer(slow) == ("_result", 2.0, 5.0)
    assert len(journals.batches) == before + 1
    assert stored(bench) == {"n": 5.0, "slow": 5.0}


@pytest.mark.parametrize("how", ["call", "reject", "bug"])
def test_nothing_of_a_handler_that_raises_takes_effect(bench: JournaledBench, how: str) -> None:
    client = bench.member(bench.edge())
    client.command("add_and_fail", how, transaction=2)
    assert answer(client)[0] == "_error"
    quiet(client)
    assert dict(client.session.client.attributes) == {}
    assert bench.origin.groups["app/room"].outputs.tail is None
    assert stored(bench) == {}


def test_nothing_of_a_handler_that_was_cut_short_is_there(bench: JournaledBench) -> None:
    App.gate = Event()
    client = bench.member(bench.edge())
    client.command("add_slowly", 5, transaction=2)
    settle()
    assert stored(bench) == {}


def test_a_store_that_is_away_delays_and_loses_nothing(
    bench: JournaledBench, journals: TestJournals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = bench.member(bench.edge())
    journals.away = True
    client.command("add", 1, transaction=2)
    eventually(lambda: bench.origin.counters.commits_failed >= 2, within_s=5)
    quiet(client)
    client.command("add", 1, transaction=3)
    journals.away = False
    assert [answer(client), answer(client)] == [("_result", 2.0, 1.0), ("_result", 3.0, 2.0)]
    told = [record.getMessage() for record in caplog.records if "store" in record.getMessage()]
    assert len(told) == 2
    assert "store away" in told[0]
    assert "store back" in told[1]


def test_an_append_whose_answer_was_lost_counts_once(bench: JournaledBench, journals: TestJournals) -> None:
    client = bench.member(bench.edge())
    bench.committed()
    journals.lost_answers = 2
    client.command("add", 1, transaction=2)
    assert answer(client) == ("_result", 2.0, 1.0)
    assert stored(bench) == {"n": 1.0}


def test_after_a_while_without_the_store_changes_are_refused_and_the_rest_goes_on(
    bench: JournaledBench, journals: TestJournals
) -> None:
    link = bench.edge()
    client, reader = bench.member(link), bench.member(link)
    group = bench.origin.groups["app/room"]
    journals.away = True
    client.command("add", 1, transaction=2)
    eventually(lambda: bench.origin.committer.away, within_s=5)
    bench.origin.tend(time.monotonic() + 4)
    assert not group.stalled
    bench.origin.tend(time.monotonic() + 6)
    assert group.stalled
    reader.command("add", 1, transaction=2)
    refused = answer(reader)
    assert refused[:2] == ("_error", 2.0)
    assert refused[2]["code"] == "NetConnection.Call.Failed"
    assert refused[2]["description"] == "the store cannot be reached; nothing was changed"
    reader.command("createStream", transaction=3)
    assert answer(reader) == ("_result", 3.0, 1.0)
    journals.away = False
    # What was taken in before is not given up.
    assert answer(client) == ("_result", 2.0, 1.0)
    assert not group.stalled
    reader.command("add", 1, transaction=4)
    assert answer(reader) == ("_result", 4.0, 2.0)


def test_a_store_that_hangs_is_a_store_that_is_away(bench: JournaledBench, journals: TestJournals) -> None:
    client = bench.member(bench.edge())
    bench.committed()
    journals.hold()
    client.command("add", 1, transaction=2)
    eventually(lambda: journals.held, within_s=5)
    bench.origin.tend(time.monotonic() + 6)
    assert bench.origin.groups["app/room"].stalled
    journals.go()
    assert answer(client) == ("_result", 2.0, 1.0)
    assert not bench.origin.groups["app/room"].stalled


def test_too_much_that_waits_is_refused_too(journals: TestJournals) -> None:
    bench = JournaledBench(App, journals, pending_bytes=2000)
    client = bench.member(bench.edge())
    journals.away = True
    client.command("add", 1, transaction=2)
    eventually(lambda: bench.origin.committer.away, within_s=5)
    for number in range(3, 30):
        client.command("add", 1, transaction=number)
    settle()
    group = bench.origin.groups["app/room"]
    assert group.stalled
    journals.away = False
    heard = [answer(client) for _ in range(28)]
    accepted = [told for told in heard if told[0] == "_result"]
    assert 1 <= len(accepted) < 28
    assert [told[2] for told in accepted] == [float(number + 1) for number in range(len(accepted))]
    assert stored(bench) == {"n": float(len(accepted))}


def test_a_group_that_another_origin_has_says_nothing_more(
    bench: JournaledBench, journals: TestJournals, caplog: pytest.LogCaptureFixture
) -> None:
    left: list[str] = []

    class Watching(App):
        def on_disconnect(self, client: Client) -> None:
            left.append(client.id)

    bench = JournaledBench(Watching, journals)
    client = bench.member(bench.edge())
    bench.committed()
    journals.hold()
    client.command("add", 1, transaction=2)
    settle()
    journals.inner.open("app/room", 7)
    journals.go()
    eventually(lambda: not bench.origin.groups, within_s=5)
    settle()
    assert client.take() == []
    assert left == []  # It goes on there.
    assert bench.epochs_seen == [("app/room", 7)]
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_who_attaches_to_a_group_that_another_origin_has_is_sent_on(
    journals: TestJournals, bench: JournaledBench
) -> None:
    journals.inner.open("app/room", 7)
    client = bench.client(bench.edge())
    refused = answer(client)
    assert isinstance(refused, AttachRefused)
    quiet(client)
    assert bench.epochs_seen == [("app/room", 7)]
    assert bench.origin.groups == {}


def test_a_store_that_went_back_is_written_anew_and_named(
    bench: JournaledBench, journals: TestJournals, caplog: pytest.LogCaptureFixture
) -> None:
    client = bench.member(bench.edge())
    for number in range(2, 5):
        client.command("add", 1, transaction=number)
        answer(client)
    number = bench.origin.groups["app/room"].outputs.last_number
    journals.outcome = WentBack("app/room", number - 2, number)
    client.command("add", 1, transaction=5)
    assert answer(client) == ("_result", 5.0, 4.0)
    (error,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert fields(error) == {"group": "app/room", "entries_lost": f"{number - 1} to {number}"}
    client.command("add", 1, transaction=6)
    assert answer(client) == ("_result", 6.0, 5.0)
    assert stored(bench) == {"n": 5.0}


def test_a_fence_while_the_store_went_back_loses_the_group(
    bench: JournaledBench, journals: TestJournals
) -> None:
    client = bench.member(bench.edge())
    bench.committed()
    journals.outcome = WentBack("app/room", 0, 1)
    journals.inner.open("app/room", 9)
    client.command("add", 1, transaction=2)
    eventually(lambda: not bench.origin.groups, within_s=5)
    assert not [part for part in client.take() if isinstance(part, tuple) and part[0] == "_result"]


def test_a_lost_outcome_of_a_fence_is_told_once(bench: JournaledBench, journals: TestJournals) -> None:
    client = bench.member(bench.edge())
    bench.committed()
    journals.outcome = Fenced("app/room", 3)
    client.command("add", 1, transaction=2)
    eventually(lambda: bench.epochs_seen == [("app/room", 3)], within_s=5)
    assert bench.origin.counters.groups_lost == 1


def test_a_long_tail_becomes_a_snapshot(journals: TestJournals) -> None:
    bench = JournaledBench(App, journals, snapshot_entries=10)
    client = bench.member(bench.edge())
    for number in range(2, 40):
        client.command("add", 1, transaction=number)
        answer(client)
    assert journals.calls.count("snapshot") >= 2
    group = bench.origin.groups["app/room"]
    assert group.health()["journal"]["tail_entries"] < 20
    loaded = journals.inner.open("app/room", 1)
    assert loaded.snapshot is not None
    assert len(loaded.entries) == group.outputs.tail_entries
    assert stored(bench) == {"n": 38.0}


def test_a_group_that_stops_leaves_a_snapshot_or_nothing(journals: TestJournals) -> None:
    bench = JournaledBench(App, journals, group_linger_s=0.0)
    link = bench.edge()
    kept, empty = bench.member(link), bench.member(link, group="app/empty")
    kept.command("add", 1, transaction=2)
    answer(kept)
    for client in (kept, empty):
        client.detach()
    bench.committed()

    def given_back() -> bool:
        bench.origin.tend(time.monotonic() + 1)
        return len(bench.released) == 2

    eventually(given_back, within_s=5)
    assert journals.groups() == ["app/room"]
    loaded = journals.inner.open("app/room", 1)
    assert loaded.snapshot is not None
    assert loaded.entries == []


def test_a_group_is_given_back_only_when_everything_is_committed(journals: TestJournals) -> None:
    class Ending(App):
        def on_stop(self) -> None:
            self.state["stopped"] = True

    bench = JournaledBench(Ending, journals, group_linger_s=0.0)
    link = bench.edge()
    bench.member(link).detach()
    bench.committed()
    journals.hold()
    bench.origin.tend(time.monotonic() + 1)
    settle()
    assert bench.released == []
    back = bench.client(link)  # It waits: the group is still being committed.
    quiet(back)
    journals.go()
    assert answer(back) == back.attached
    assert back.session.group.application.state["stopped"] is True


def test_shutdown_waits_for_what_is_not_committed_yet(journals: TestJournals) -> None:
    class Leaving(App):
        def on_disconnect(self, client: Client) -> None:
            self.state["left"] = client.id

    bench = JournaledBench(Leaving, journals)
    client = bench.member(bench.edge())
    bench.committed()
    client.command("add", 1, transaction=2)
    journals.hold()
    settle()
    gevent.spawn_later(0.05, journals.go)
    bench.origin.shutdown("bye", within_s=5)
    assert bench.origin.groups == {}
    assert plain(next(told for told in client.link.log if isinstance(told, ToClient)))[:2] == ("_result", 2.0)
    assert stored(bench) == {"n": 1.0}  # It has not left.


def test_shutdown_does_not_wait_longer_than_it_may(journals: TestJournals, bench: JournaledBench) -> None:
    client = bench.member(bench.edge())
    bench.committed()
    journals.away = True
    client.command("add", 1, transaction=2)
    settle()
    started = time.monotonic()
    bench.origin.shutdown("bye", within_s=0.05)
    assert time.monotonic() - started < 3
    assert not [part for part in client.take() if isinstance(part, tuple) and part[0] == "_result"]


def test_a_journal_that_cannot_be_read_refuses_its_clients(
    journals: TestJournals, bench: JournaledBench, caplog: pytest.LogCaptureFixture
) -> None:
    journals.inner.open("app/room", 1)
    journals.inner.append([Append("app/room", 1, 0, [b"\x91\x92\xcc\xc8\x01"])])  # A row of kind 200.
    client = bench.client(bench.edge())
    told = answer(client)
    assert told[0] == "_error"
    assert told[2]["code"] == "NetConnection.Connect.Failed"
    (error,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "entry 1 of the journal" in str(fields(error)["error"])
    assert "200" in str(fields(error)["error"])


def test_a_group_that_is_granted_anew_to_the_same_origin_goes_on(
    bench: JournaledBench, journals: TestJournals
) -> None:
    client = bench.member(bench.edge())
    bench.change("group", "app/room", ME, 4)
    client.command("add", 1, transaction=2)
    assert answer(client) == ("_result", 2.0, 1.0)
    assert journals.inner.open("app/room", 4).epoch == 4


def test_a_group_that_is_granted_anew_at_an_older_epoch_goes_on_and_the_registry_is_told(
    bench: JournaledBench, journals: TestJournals
) -> None:
    """Its table went back in time."""
    client = bench.member(bench.edge())
    (group,) = bench.origin.groups.values()
    epoch = group.epoch
    bench.change("group", "app/room", ME, epoch - 1)
    client.command("add", 1, transaction=2)
    assert answer(client) == ("_result", 2.0, 1.0)
    assert group.epoch == epoch
    assert bench.epochs_seen == [("app/room", epoch)]
    assert journals.inner.open("app/room", epoch).epoch == epoch


def test_a_client_that_asks_on_while_the_store_is_away_is_closed(journals: TestJournals) -> None:
    bench = JournaledBench(App, journals, pending_bytes=2000, inbox_messages=100)
    client = bench.member(bench.edge())
    journals.away = True
    client.command("add", 1, transaction=2)
    eventually(lambda: bench.origin.committer.away, within_s=5)
    for number in range(3, 200):
        client.command("add", 1, transaction=number)
        settle()
    assert client.session.closed
    assert bench.origin.groups["app/room"].outputs.pending_bytes < 60_000


def test_what_application_code_does_by_itself_is_refused_or_waits_as_well(
    bench: JournaledBench, journals: TestJournals
) -> None:
    left: list[str] = []

    class Busy(App):
        def on_disconnect(self, client: Client) -> None:
            self.state["left"] = client.id

    bench = JournaledBench(Busy, journals)
    client = bench.member(bench.edge())
    bench.committed()
    application = bench.origin.groups["app/room"].application
    assert application is not None
    journals.away = True
    client.command("add", 1, transaction=2)
    eventually(lambda: bench.origin.committer.away, within_s=5)
    bench.origin.tend(time.monotonic() + 6)
    with pytest.raises(StoreUnavailable):
        application.state["x"] = 1
    application.after(0.0, left.append, "timer")
    client.detach()
    gevent.sleep(0.05)
    assert left == []
    journals.away = False
    eventually(lambda: left == ["timer"], within_s=5)
    bench.committed()
    assert stored(bench) == {"n": 1.0, "left": "session-1"}


def test_a_journal_that_is_damaged_holds_up_its_group_alone(
    bench: JournaledBench, journals: TestJournals, caplog: pytest.LogCaptureFixture
) -> None:
    link = bench.edge()
    one, two = bench.member(link), bench.member(link, group="app/other")
    bench.committed()
    journals.broken = {"app/room"}
    for client in (one, two):
        client.command("add", 1, transaction=2)
    assert answer(two) == ("_result", 2.0, 1.0)
    eventually(lambda: bench.origin.groups["app/room"].stalled, within_s=5)
    two.command("add", 1, transaction=3)
    assert answer(two) == ("_result", 3.0, 2.0)
    quiet(one)
    journals.broken = set()
    bench.origin.tend(time.monotonic() + 6)
    assert answer(one) == ("_result", 2.0, 1.0)
    assert not bench.origin.groups["app/room"].stalled
    one.command("add", 1, transaction=3)
    assert answer(one) == ("_result", 3.0, 2.0)
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_what_an_application_lacks_when_everything_stops_is_no_fault(
    caplog: pytest.LogCaptureFixture, journals: TestJournals
) -> None:
    class Ending(App):
        def on_stop(self) -> None:
            raise StoreUnavailable

    bench = JournaledBench(Ending, journals)
    bench.member(bench.edge())
    bench.origin.shutdown("bye", within_s=5)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
