"""The origin: what applications do besides answering: rooms, timers, state, attributes, atomic blocks, redirects. No sockets."""

import datetime
import logging
from typing import Any

import gevent
import pytest
from headwater_bus.traffic import Attach, CloseSession, FromClient, GuestIdle
from headwater_origin import Application, Client, Redirect, Reject, remote
from headwater_rtmp.command import encode_command
from support.origin_bench import Bench, plain, settle
from support.waiting import eventually


class Scope(Application):
    def __init__(self, group: Any) -> None:
        super().__init__(group)
        self.log: list[Any] = []

    def on_join(self, client: Client, room: str) -> Reject | None:
        self.log.append(("join", client.id, room))
        client.notify("joined", room)
        return Reject("full") if room == "full" else None

    def on_leave(self, client: Client, room: str) -> None:
        self.log.append(("leave", client.id, room))

    @remote
    def enter(self, client: Client, path: str) -> list[str]:
        self.room(path).join(client)
        return [room.name for room in client.rooms]

    @remote
    def exit(self, client: Client, path: str) -> None:
        self.room(path).leave(client)

    @remote
    def shout(self, client: Client, path: str) -> None:
        self.room(path).broadcast("shouted", path)
        client.notify("done")

    @remote
    def fail(self, client: Client) -> None:
        self.room("lost").join(client)
        client.close("never")
        self.spawn(self.log.append, "never")
        self.after(0.0, self.log.append, "never")
        self.schedule("run", delay_s=0)
        raise ValueError("x")

    def run(self, *args: Any) -> None:
        self.log.append(("run", *args))


def scope(bench: Bench) -> Scope:
    made = bench.origin.groups["app/room"].application
    assert isinstance(made, Scope)
    return made


@pytest.fixture
def bench() -> Bench:
    return Bench({"app": Scope})


def test_redirect_is_a_refusal_that_names_a_place() -> None:
    class Elsewhere(Application):
        def on_connect(self, client: Client, *args: Any) -> Reject | None:
            return Redirect("rtmp://example.com/app")

    bench = Bench({"app": Elsewhere})
    client = bench.client(bench.edge())
    settle()
    refused, closed = client.take()
    assert refused[0] == "_error"
    assert refused[2]["code"] == "NetConnection.Connect.Rejected"
    assert refused[2]["ex"] == {"code": 302.0, "redirect": "rtmp://example.com/app"}
    assert isinstance(closed, CloseSession)


def test_rooms(bench: Bench) -> None:
    link = bench.edge()
    ann, bob, eve = (bench.joined(link) for _ in range(3))
    for client, path in ((ann, "tables/1"), (bob, "tables/2"), (bob, "tables/2")):
        client.command("enter", path, transaction=2)
        settle()
    assert ann.take() == [("joined", 0.0, "tables/1"), ("_result", 2.0, ["tables/1"])]
    assert bob.take()[1:] == [("_result", 2.0, ["tables/2"]), ("_result", 2.0, ["tables/2"])]
    eve.command("shout", "tables")
    settle()
    assert ann.take() == bob.take() == [("shouted", 0.0, "tables")]
    assert eve.take() == [("done", 0.0)]
    eve.command("enter", "full", transaction=3)
    settle()
    ((answer, _, info),) = eve.take()
    assert (answer, info["description"]) == ("_error", "full")
    bob.command("exit", "tables/2")
    ann.detach()
    settle()
    assert scope(bench).room("tables").clients == ()
    assert scope(bench).log[-2:] == [("leave", "session-2", "tables/2"), ("leave", "session-1", "tables/1")]


def test_nothing_of_a_method_that_raises_happens_later_either(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    client.command("fail", transaction=2)
    settle()
    assert [told[0] for told in client.take()] == ["_error"]
    assert not client.session.closed
    assert client.session.client.rooms == ()
    gevent.sleep(0.02)
    assert scope(bench).log == [("join", "session-1", "lost")]
    assert len(bench.origin.groups["app/room"].durable.jobs) == 0


def test_timers_run_and_are_cancelled(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.joined(bench.edge())
    application = scope(bench)
    once = application.after(0.01, application.run, "once")
    often = application.every(0.01, application.run, "often")
    never = application.after(60, application.run, "never")
    never.cancel()
    failing = application.every(0.01, lambda: 1 / 0)
    eventually(lambda: application.log.count(("run", "often")) >= 3, within_s=5)
    often.cancel()
    failing.cancel()
    settle()
    count = len(application.log)
    gevent.sleep(0.05)
    assert len(application.log) == count
    assert application.log.count(("run", "once")) == 1
    assert [timer.active for timer in (once, often, never)] == [False, False, False]
    assert any(record.levelno >= logging.ERROR for record in caplog.records)
    with pytest.raises(ValueError, match="every 0"):
        application.every(0, application.run)


def test_timers_end_with_the_scope(bench: Bench) -> None:
    bench.joined(bench.edge())
    application = scope(bench)
    application.every(0.01, application.run, "often")
    bench.change("group", "app/room", "origin-2", 2)
    settle()
    gevent.sleep(0.05)
    assert application.log == []


def test_jobs(bench: Bench) -> None:
    bench.joined(bench.edge())
    application = scope(bench)
    repeated = application.schedule("run", "again", every_s=1, delay_s=0)
    application.schedule("run", {"a": [1.0]}, at=datetime.datetime.now() - datetime.timedelta(days=1))
    cancelled = application.schedule("run", "never", delay_s=0.05)
    assert application.cancel(cancelled)
    assert not application.cancel(cancelled)
    eventually(lambda: len(application.log) == 2, within_s=5)
    assert sorted(map(str, application.log)) == ["('run', 'again')", "('run', {'a': [1.0]})"]
    jobs = bench.origin.groups["app/room"].durable.jobs
    assert len(jobs) == 1
    assert repeated in jobs
    eventually(lambda: application.log.count(("run", "again")) == 2, within_s=5)
    assert application.cancel(repeated)


@pytest.mark.parametrize(
    ("method", "options", "problem"),
    [
        ("nothing", {}, "expected the name of a method"),
        ("run", {"delay_s": 1, "at": datetime.datetime(2030, 1, 1)}, "not both"),
        ("run", {"every_s": 0.1}, "expected 1 or more"),
        ("exit", {}, "missing a required argument"),
    ],
)
def test_jobs_that_cannot_be(bench: Bench, method: str, options: dict[str, Any], problem: str) -> None:
    bench.joined(bench.edge())
    with pytest.raises(ValueError, match=problem):
        scope(bench).schedule(method, **options)


def test_state_and_attributes_are_mappings_of_amf_values(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    for values in (scope(bench).state, client.session.client.attributes):
        values["list"] = [1, "two", None]
        values["none"] = None
        values["list"].append("a copy")
        assert dict(values) == {"list": [1.0, "two", None], "none": None}
        assert values == {"list": [1.0, "two", None], "none": None}
        assert "none" in values
        assert len(values) == 2
        for bad in (object(), {1: 2}.keys()):
            with pytest.raises(ValueError, match="AMF form"):
                values["bad"] = bad
        for key in ("", 5, "k" * 2000):
            with pytest.raises(ValueError, match="expected text of 1 to 1024 bytes"):
                values[key] = 1  # type: ignore[index]
        with pytest.raises(KeyError):
            del values["missing"]
        del values["none"]
        assert list(values) == ["list"]
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        client.session.client.attributes["big"] = "x" * 70_000
    assert "big" not in client.session.client.attributes


def test_a_block_is_atomic(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    application = scope(bench)
    with application.atomic():
        application.state["a"] = 1
        application.state["b"] = 2
        del application.state["a"]
        application.broadcast("told")
        assert dict(application.state) == {"b": 2.0}
        assert gevent.spawn(lambda: dict(application.state)).get() == {}
        assert client.take() == []
    assert client.take() == [("told", 0.0)]
    with pytest.raises(ZeroDivisionError), application.atomic():
        application.state["b"] = 1 / 0
    assert dict(application.state) == {"b": 2.0}


def test_what_begins_in_a_transaction_begins_at_its_end(bench: Bench) -> None:
    bench.joined(bench.edge())
    application = scope(bench)
    with application.atomic():
        application.spawn(application.log.append, dict(application.state))
        application.state["x"] = 1
        settle()
        assert application.log == []
        spawned = application.spawn(lambda: application.log.append(dict(application.state)))
    spawned.join(timeout=5)
    assert application.log == [{}, {"x": 1.0}]


def test_another_class_takes_over_with_its_clients(bench: Bench) -> None:
    link = bench.edge()
    client = bench.joined(link)
    old = scope(bench)
    old.state["kept"] = 1
    old.every(0.01, old.run, "old")

    class Newer(Scope):
        def on_start(self) -> None:
            self.log.append(("start", dict(self.state), len(self.clients)))

        def on_resume(self, client: Client) -> None:
            self.log.append(("resume", client.id))

        @remote
        def new(self, client: Client) -> str:
            return "new"

    bench.origin.replace_application("app", Newer)
    settle()
    made = scope(bench)
    assert made.log == [("start", {"kept": 1.0}, 1), ("resume", "session-1")]
    client.command("new", transaction=2)
    settle()
    assert client.take() == [("_result", 2.0, "new")]
    ran = len(old.log)
    gevent.sleep(0.05)
    assert len(old.log) == ran


def test_a_class_that_does_not_start_takes_nothing_over(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    client = bench.joined(bench.edge())
    old = scope(bench)

    class Broken(Scope):
        def on_start(self) -> None:
            self.state["broken"] = True
            raise ValueError("x")

    bench.origin.replace_application("app", Broken)
    assert scope(bench) is old
    assert dict(old.state) == {}
    client.command("enter", "r", transaction=2)
    settle()
    assert client.take()[-1] == ("_result", 2.0, ["r"])
    # Why, and in which scope.
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 2
    assert "scope keeps the old code" in caplog.text


def test_application_classes_are_started_and_stopped_once() -> None:
    log: list[str] = []

    class Whole(Application):
        @classmethod
        def on_app_start(cls) -> None:
            log.append("start")

        @classmethod
        def on_app_stop(cls) -> None:
            log.append("stop")
            raise ValueError("x")

    bench = Bench({"a": Whole, "b": Whole})
    bench.origin.start_applications()
    bench.joined(bench.edge(), "a/room")
    bench.origin.shutdown("bye")
    bench.origin.stop_applications()
    assert log == ["start", "stop"]
    assert bench.origin.counters.handler_errors == 1


def test_a_message_with_a_number_that_was_seen_is_dropped(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    command = encode_command("createStream", 2, None)
    for number in (1, 1, 3, 2, 4):
        client.put(FromClient(client.number, number, command.type_id, 0, 0, command.payload))
    assert [told[2] for told in client.take()] == [1.0, 2.0, 3.0]
    assert bench.origin.counters.messages_again == 2


def test_a_guest_is_no_member_and_is_told_when_it_uses_nothing(bench: Bench) -> None:
    link = bench.edge()
    member = bench.joined(link)
    guest = bench.client(link)
    guest.put(
        Attach(
            77,
            "guest",
            "app/room",
            1,
            "192.0.2.7",
            0,
            False,
            0,
            0,
            0,
            b"",
            [],
            [],
            [],
            payload=b"other/scope",
        )
    )
    settle()
    session = link.data.sessions[77]
    assert session.guest
    assert session.scope == "other/scope"
    assert scope(bench).clients == (member.session.client, guest.session.client)
    command = encode_command("createStream", 2, None)
    link.take()
    guest.put(FromClient(77, 1, command.type_id, 0, 0, command.payload))
    answered, idle = link.take()
    assert plain(answered) == ("_result", 2.0, 1.0)
    assert idle == GuestIdle(77, 1)
