"""The origin: who gets in, which groups it has, and how they end. No sockets."""

import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from headwater_bus.control import Refused
from headwater_bus.requests import RequestError
from headwater_bus.traffic import Attach, Attached, AttachRefused, CloseSession, Detach, FromClient, ToClient
from headwater_origin import Application, Client, Reject
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import EventType
from support.origin_bench import ME, Bench, plain, settle

OPEN = {"app": Application}


def raw_command(envelope: ToClient) -> Any:
    return decode_command(Message(envelope.type_id, envelope.stream_id, 0, envelope.payload))


def refused_with(told: list[Any]) -> str:
    """The code of `_error`, which must be followed by CloseSession and by nothing else."""
    assert [type(part) for part in told] == [tuple, CloseSession]
    assert told[0][:2] == ("_error", 1.0)
    assert told[0][2]["level"] == "error"
    return str(told[0][2]["code"])


class Noting(Application):
    """Notes every hook."""

    log: list[tuple[Any, ...]] = []  # noqa: RUF012
    gate: Event | None = None

    def on_start(self) -> None:
        self.note("on_start")
        if self.gate is not None:
            self.gate.wait()

    def on_stop(self) -> None:
        self.note("on_stop")

    def on_connect(self, client: Client, *args: Any) -> None:
        self.note("on_connect", *args)

    def on_disconnect(self, client: Client) -> None:
        self.note("on_disconnect")

    def note(self, *what: Any) -> None:
        type(self).log.append(what)


@pytest.fixture
def noting() -> type[Noting]:
    class Fresh(Noting):
        log: list[tuple[Any, ...]] = []  # noqa: RUF012

    return Fresh


def test_an_accepted_connect_is_answered_with_attached_and_success() -> None:
    bench = Bench(OPEN)
    client = bench.client(bench.edge())
    attached, answer = client.link.take()
    assert attached == Attached(1)
    command = raw_command(answer)
    assert (command.name, command.transaction_id, command.amf3) == ("_result", 1.0, False)
    assert command.command_object == {"fmsVer": "FMS/3,5,7,7009", "capabilities": 31.0, "mode": 1.0}
    assert command.args == [
        {
            "level": "status",
            "code": "NetConnection.Connect.Success",
            "description": "connected",
            "objectEncoding": 0.0,
            "clientid": "session-1",
        }
    ]
    assert bench.origin.counters.connects_accepted == 1
    assert bench.origin.load() == {"groups": 1, "sessions": 1}


def test_the_answer_to_connect_is_amf0_for_amf3_clients_too_and_names_the_encoding() -> None:
    bench = Bench(OPEN)
    client = bench.client(bench.edge(), amf3=True)
    answer = client.link.take(ToClient)[0]
    assert answer.type_id == 20
    assert raw_command(answer).args[0]["objectEncoding"] == 3.0


@pytest.mark.parametrize(
    "offered", [{"fourCcList": ["hvc1"]}, {"capsEx": 1.0}, {"videoFourCcInfoMap": {"*": 4.0}}]
)
def test_enhanced_rtmp_fields_are_there_when_the_client_offered_some(offered: dict[str, Any]) -> None:
    bench = Bench(OPEN)
    command = raw_command(bench.client(bench.edge(), properties=offered).link.take(ToClient)[0])
    for told in (command.command_object, command.args[0]):
        assert told["fourCcList"] == ["*"]
        assert told["videoFourCcInfoMap"] == told["audioFourCcInfoMap"] == {"*": 4.0}
        assert told["capsEx"] == 15.0


class Choosy(Application):
    disconnected = 0

    def on_connect(self, client: Client, name: Any = "", *more: Any) -> Reject | None:
        if name == "raise":
            raise Reject("not you")
        if name == "return":
            return Reject("not you")
        if name == "crash":
            raise ZeroDivisionError
        if name == "timeout":
            raise gevent.Timeout(1)
        if name == "exit":
            raise SystemExit(3)
        return False if name == "false" else None  # type: ignore[return-value]  # the wrong type is what is tested

    def on_disconnect(self, client: Client) -> None:
        type(self).disconnected += 1


@pytest.mark.parametrize(
    ("name", "reason", "logged"),
    [
        ("raise", "not you", 0),
        ("return", "not you", 0),
        ("false", "refused by the application", 0),
        ("crash", "the application failed", 1),
        ("timeout", "the application failed", 1),
        ("exit", "the application failed", 1),
    ],
)
def test_on_connect_refuses(name: str, reason: str, logged: int, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench({"app": Choosy})
    client = bench.client(bench.edge(), arguments=(name,))
    settle()
    told = client.take()
    assert refused_with(told) == "NetConnection.Connect.Rejected"
    assert told[0][2]["description"] == reason
    assert reason in told[1].reason
    assert client.link.log == []
    assert bench.origin.sessions == 0
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == logged
    client.detach()
    settle()
    assert Choosy.disconnected == 0
    assert bench.origin.counters.connects_rejected == 1


def test_arguments_that_on_connect_does_not_take_are_the_clients_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class One(Application):
        def on_connect(self, client: Client, nick: str) -> None:
            raise AssertionError

    bench = Bench({"app": One})
    client = bench.client(bench.edge(), arguments=("a", "b"))
    settle()
    told = client.take()
    assert refused_with(told) == "NetConnection.Connect.Rejected"
    assert "argument" in told[0][2]["description"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_connect_arguments_and_properties_reach_the_application() -> None:
    seen: list[Any] = []

    class Seeing(Application):
        def on_connect(self, client: Client, *args: Any) -> None:
            seen.append((args, client.connect_properties["pageUrl"], client.address, client.id))
            seen.append((self.scope, self.app, self.instance, self.clients))

    bench = Bench({"app": Seeing})
    bench.joined(bench.edge(), arguments=("a", 2.0, None), properties={"pageUrl": "p"})
    assert seen == [(("a", 2.0, None), "p", "192.0.2.7", "session-1"), ("app/room", "app", "room", ())]


@pytest.mark.parametrize(("owner", "owned_at", "asked"), [("origin-2", 1, 1), (ME, 5, 4), ("origin-2", 6, 5)])
def test_another_owner_or_a_newer_epoch_is_refused_at_once(owner: str, owned_at: int, asked: int) -> None:
    bench = Bench(OPEN, owned=False)
    bench.change("group", "app/room", owner, owned_at)
    client = bench.client(bench.edge(), epoch=asked)
    (told,) = client.take()
    assert told == AttachRefused(1, "app/room", "not the owner at this epoch")
    assert bench.origin.groups == {}


def test_an_attach_is_held_until_the_feed_has_told() -> None:
    bench = Bench(OPEN, owned=False)
    bench.change("group", "app/room", ME, 3)
    early, other = bench.client(bench.edge(), epoch=7), bench.client(bench.edge(), epoch=7)
    assert early.take() == other.take() == []
    other.detach()
    bench.change("group", "app/else", ME, 4)
    assert early.take() == []
    bench.change("group", "app/room", ME, 7)
    assert early.take()[0] == Attached(early.number)
    assert other.take() == []
    assert bench.origin.groups["app/room"].epoch == 7


def test_a_held_attach_is_refused_when_the_feed_names_another_owner() -> None:
    bench = Bench(OPEN, owned=False)
    client = bench.client(bench.edge())
    bench.change("group", "app/room", "origin-2", 1)
    assert client.take() == [AttachRefused(1, "app/room", "not the owner at this epoch")]


def test_a_held_attach_is_refused_when_the_feed_stays_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("headwater_origin.origin.time.monotonic", lambda: now[0])
    bench = Bench(OPEN, owned=False, attach_hold_s=2.0)
    client = bench.client(bench.edge(), epoch=9)
    now[0] = 101.0
    bench.change("group", "app/room", ME, 5)  # Newer, but not new enough: that does not make it wait longer.
    bench.origin.tend(101.9)
    assert client.take() == []
    bench.origin.tend(102.0)
    assert client.take() == [AttachRefused(1, "app/room", "the registry has not told of this epoch")]
    bench.change("group", "app/room", ME, 9)
    assert client.take() == []


def test_no_more_attaches_are_held_than_the_limit_says() -> None:
    bench = Bench(OPEN, owned=False, attach_hold_count=2)
    link = bench.edge()
    clients = [bench.client(link) for _ in range(3)]
    assert [len(client.take()) for client in clients] == [0, 0, 1]


def test_an_unknown_application_is_named_and_the_group_given_back() -> None:
    bench = Bench(OPEN)
    client = bench.client(bench.edge(), "other/room")
    told = client.take()
    assert refused_with(told) == "NetConnection.Connect.InvalidApp"
    assert "'other'" in told[0][2]["description"]
    bench.origin.tend(time.monotonic())
    settle()
    assert bench.released == [("other/room", 1)]
    client.detach()


def test_a_connect_that_cannot_be_read_closes_the_client_alone() -> None:
    bench = Bench(OPEN)
    link = bench.edge()
    other = bench.joined(link)
    client = bench.client(link, "app/room")
    client.take()
    client.put(Attach(77, "broken", "app/room", 1, "192.0.2.7", 0, 20, b"\x02\x00\x07conn"))
    answer, closed = [envelope for envelope in link.take() if getattr(envelope, "session", 0) == 77]
    assert refused_with([plain(answer), closed]) == "NetConnection.Connect.Failed"
    assert bench.origin.counters.protocol_errors == 1
    assert bench.origin.sessions == 2
    assert other.take() == []


def test_clients_wait_for_on_start_and_then_come_in_order(noting: type[Noting]) -> None:
    noting.gate = Event()
    bench = Bench({"app": noting})
    one, two = bench.client(bench.edge(), arguments=("one",)), bench.client(bench.edge(), arguments=("two",))
    settle()
    assert noting.log == [("on_start",)]
    assert one.take() == two.take() == []
    noting.gate.set()
    settle()
    assert noting.log == [("on_start",), ("on_connect", "one"), ("on_connect", "two")]
    assert one.take()[0] == Attached(1)
    assert two.take()[0] == Attached(2)
    assert len(bench.origin.groups) == 1


def test_a_client_that_goes_while_on_start_waits_is_never_seen(noting: type[Noting]) -> None:
    noting.gate = Event()
    bench = Bench({"app": noting})
    client = bench.client(bench.edge())
    client.detach()
    noting.gate.set()
    settle()
    assert noting.log == [("on_start",)]
    assert client.take() == []


def test_a_client_that_goes_while_on_connect_waits_is_disconnected_once() -> None:
    log: list[str] = []
    gate = Event()

    class Slow(Application):
        def on_connect(self, client: Client, *args: Any) -> None:
            gate.wait()
            log.append("connected" if client.connected else "came too late")

        def on_disconnect(self, client: Client) -> None:
            log.append("disconnected")

    bench = Bench({"app": Slow})
    client = bench.client(bench.edge())
    settle()
    client.detach()
    gate.set()
    settle()
    assert log == ["came too late", "disconnected"]
    assert client.take() == []


def test_when_on_start_fails_clients_are_refused_and_the_next_one_tries_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    started: list[int] = []

    class Moody(Application):
        def on_start(self) -> None:
            started.append(1)
            gevent.sleep(0)
            if len(started) == 1:
                raise OSError("no database")

        def on_stop(self) -> None:
            started.append(-1)

    bench = Bench({"app": Moody})
    link = bench.edge()
    first, second = bench.client(link), bench.client(link)
    settle()
    for client in (first, second):
        assert refused_with(client.take()) == "NetConnection.Connect.Failed"
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    bench.joined(link)
    assert started == [1, 1]  # And no on_stop of what never started.


def test_an_application_object_that_cannot_be_made_is_one_refusal(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Application):
        def __init__(self, group: Any) -> None:
            raise RuntimeError("no")

    bench = Bench({"app": Broken})
    client = bench.client(bench.edge())
    assert refused_with(client.take()) == "NetConnection.Connect.Failed"
    bench.origin.tend(time.monotonic())
    settle()
    assert bench.released == [("app/room", 1)]
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_disconnect_is_told_once_and_what_comes_afterwards_is_stray(noting: type[Noting]) -> None:
    bench = Bench({"app": noting})
    client = bench.joined(bench.edge())
    client.detach()
    client.detach()
    client.command("createStream", transaction=2)
    settle()
    assert noting.log[-1] == ("on_disconnect",)
    assert noting.log.count(("on_disconnect",)) == 1
    assert bench.origin.counters.stray_messages == 1
    assert client.take() == []


def test_a_client_closed_by_the_application_is_told_why() -> None:
    bench = Bench(OPEN)
    client = bench.joined(bench.edge())
    (member,) = client.scope.clients
    member.close("go away")
    assert client.take() == [
        ("onStatus", 0, "NetConnection.Connect.Closed"),
        CloseSession(1, "go away"),
    ]
    assert not member.connected
    member.close("again")
    member.notify("x")
    client.command("createStream", transaction=2)
    client.command("close")
    assert client.take() == []
    assert client.scope.clients == ()


def test_a_close_reason_that_is_not_unicode_does_not_break_the_link() -> None:
    class Rude(Application):
        def on_connect(self, client: Client, *args: Any) -> None:
            client.close("\ud800" * 2000)

    bench = Bench({"app": Rude})
    client = bench.client(bench.edge())
    settle()
    told = client.take()
    assert refused_with(told) == "NetConnection.Connect.Failed"
    assert told[0][2]["description"] == "?" * 500
    assert set(told[1].reason.removeprefix("connect refused: ")) == {"?"}


def test_the_same_for_one_that_is_accepted() -> None:
    bench = Bench(OPEN)
    client = bench.joined(bench.edge())
    (member,) = client.scope.clients
    member.close("\ud800" * 2000)
    assert client.take() == [
        ("onStatus", 0, "NetConnection.Connect.Closed"),
        CloseSession(1, "?" * 500),
    ]


def test_the_close_command_ends_the_session(noting: type[Noting]) -> None:
    bench = Bench({"app": noting})
    client = bench.joined(bench.edge())
    client.command("close")
    settle()
    assert client.take() == [CloseSession(1, "closed by the client")]
    assert noting.log[-1] == ("on_disconnect",)


def test_a_broken_message_closes_its_client_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(OPEN)
    link = bench.edge()
    client, other = bench.joined(link), bench.joined(link)
    client.put(FromClient(client.number, 20, 0, 0, b"\xff\xff"))
    assert [type(part) for part in client.take()] == [tuple, CloseSession]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    other.command("createStream", transaction=2)
    assert other.take() == [("_result", 2.0, 1.0)]


def test_unknown_envelopes_are_counted() -> None:
    bench = Bench(OPEN)
    client = bench.joined(bench.edge())
    client.put(AttachRefused(1, "x", "y"), object())
    assert bench.origin.counters.stray_messages == 2
    assert client.take() == []


def test_a_fault_of_the_origin_ends_one_session(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(OPEN)
    link = bench.edge()
    client, other = bench.joined(link), bench.joined(link)

    def fail(*args: Any) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr("headwater_origin.origin.run_command", fail)
    client.command("createStream", transaction=2)
    monkeypatch.undo()
    other.command("createStream", transaction=2)
    assert client.take() == [CloseSession(1, "internal error")]
    assert other.take() == [("_result", 2.0, 1.0)]
    assert bench.origin.counters.internal_errors == 1


# Groups


def test_a_group_without_clients_lingers_stops_and_is_released(noting: type[Noting]) -> None:
    bench = Bench({"app": noting}, group_linger_s=10.0)
    client = bench.joined(bench.edge())
    group = bench.origin.groups["app/room"]
    bench.origin.tend(group.clock() + 100)
    assert "app/room" in bench.origin.groups
    client.detach()
    settle()
    assert group.idle_since is not None
    bench.origin.tend(group.idle_since + 9.9)
    assert "app/room" in bench.origin.groups
    bench.origin.tend(group.idle_since + 10.0)
    settle()
    assert bench.origin.groups == {}
    assert noting.log[-1] == ("on_stop",)
    assert bench.released == [("app/room", 1)]
    bench.origin.tend(group.idle_since + 1000)
    settle()
    assert bench.released == [("app/room", 1)]


def test_a_granted_group_that_nobody_attaches_is_released_after_the_linger_time() -> None:
    bench = Bench(OPEN, group_linger_s=10.0)
    started = time.monotonic()
    bench.change("group", "app/mine", ME, 3)
    bench.change("group", "app/theirs", "origin-2", 4)
    bench.change("group", "app/moved", ME, 5)
    bench.change("group", "app/moved", "origin-2", 6)
    bench.change("group", "app/gone", ME, 7)
    bench.change("group-gone", "app/gone")
    bench.joined(bench.edge())
    bench.origin.tend(started + 9.9)
    settle()
    assert bench.released == []
    bench.origin.tend(time.monotonic() + 10.0)
    settle()
    assert bench.released == [("app/mine", 3)]
    assert bench.origin.health()["unused"] == 0


def test_a_group_that_moves_here_anew_has_its_time_anew() -> None:
    bench = Bench(OPEN, group_linger_s=10.0)
    bench.change("group", "app/room", ME, 1)
    bench.origin._releases._unused["app/room"].due = 0.0
    bench.change("group", "app/room", ME, 2)
    bench.origin.tend(time.monotonic())
    settle()
    assert bench.released == []


def test_who_comes_before_the_release_is_served_and_the_group_stays() -> None:
    bench = Bench(OPEN, group_linger_s=10.0)
    bench.change("group", "app/room", ME, 1)
    bench.joined(bench.edge())
    bench.origin.tend(time.monotonic() + 1000)
    settle()
    assert bench.released == []


def test_who_comes_while_the_group_is_being_released_is_sent_away_until_it_is_ours_again() -> None:
    bench = Bench(OPEN, group_linger_s=0.0)
    link = bench.edge()
    answered = Event()
    bench.on_release = lambda name, epoch: answered.wait() and None
    bench.joined(link).detach()
    bench.origin.tend(time.monotonic())
    settle()
    early = bench.client(link)
    assert [type(part) for part in early.take()] == [AttachRefused]
    answered.set()
    settle()
    late = bench.client(link)  # The change feed is slower than the answer.
    assert [type(part) for part in late.take()] == [AttachRefused]
    bench.change("group-gone", "app/room")
    bench.change("group", "app/room", ME, 2)
    late.attach(epoch=2)
    settle()
    assert late.take()[0] == Attached(late.number)
    assert bench.released == [("app/room", 1)]


def test_a_release_whose_change_came_inside_a_snapshot_does_not_block_the_next_epoch() -> None:
    bench = Bench(OPEN, group_linger_s=0.0)
    link = bench.edge()
    bench.on_release = lambda name, epoch: None
    bench.joined(link).detach()
    bench.origin.tend(time.monotonic())
    settle()
    bench.change("group", "app/room", ME, 2)  # "group-gone" was between the two.
    client = bench.client(link, epoch=2)
    settle()
    assert client.take()[0] == Attached(client.number)


def test_while_the_registry_is_away_groups_are_served_on_and_later_released(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(OPEN, group_linger_s=0.0)
    link = bench.edge()

    def away(name: str, epoch: int) -> None:
        raise RequestError("the registry is away")

    back, bench.on_release = bench.on_release, away
    for name in ("app/one", "app/two"):
        bench.joined(link, name).detach()
    for later_s in (0.0, 0.5, 2.0, 4.0):
        bench.origin.tend(time.monotonic() + later_s)
        settle()
    # One is tried at a time, and not at every tick.
    assert bench.released == [("app/one", 1)] * 3
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    guest = bench.joined(link, "app/one")
    bench.on_release = back
    bench.origin.tend(time.monotonic() + 6.0)
    settle()
    assert bench.released[3:] == [("app/two", 1)]
    guest.detach()
    bench.origin.tend(time.monotonic() + 7.0)
    settle()
    assert bench.released[4:] == [("app/one", 1)]
    assert bench.view.groups == {}


def test_a_release_that_the_feed_does_not_confirm_is_said_again() -> None:
    bench = Bench(OPEN, group_linger_s=0.0)
    back, bench.on_release = bench.on_release, lambda name, epoch: None
    bench.joined(bench.edge()).detach()
    bench.origin.tend(time.monotonic())
    settle()
    bench.origin.tend(time.monotonic() + 4)
    settle()
    assert bench.released == [("app/room", 1)]
    bench.on_release = back
    bench.origin.tend(time.monotonic() + 6)
    settle()
    assert bench.released == [("app/room", 1)] * 2
    assert bench.view.groups == {}


def test_a_group_that_the_registry_refuses_to_take_back_is_served_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(OPEN, group_linger_s=0.0)
    link = bench.edge()
    bench.on_release = lambda name, epoch: Refused("not-yours", "not yours")
    bench.joined(link).detach()
    bench.origin.tend(time.monotonic())
    settle()
    assert bench.released == [("app/room", 1)]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    bench.joined(link)


def test_an_on_start_that_never_returns_ends_with_its_group(noting: type[Noting]) -> None:
    noting.gate = Event()
    bench = Bench({"app": noting}, group_linger_s=0.0)
    clients = [bench.client(bench.edge(), arguments=("x",)) for _ in range(2)]
    settle()
    group = bench.origin.groups["app/room"]
    assert len(group._workers) == 3
    clients[0].detach()
    bench.change("group", "app/room", "origin-2", 2)
    settle()
    assert group._workers == set()
    assert group.started.is_set()
    assert group.failure is not None
    assert clients[0].take() == []
    assert refused_with(clients[1].take()) == "NetConnection.Connect.Failed"
    noting.gate.set()
    settle()
    assert noting.log == [("on_start",)]  # It never started, so it does not stop, and nobody connected.


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda bench: bench.change("group", "app/room", "origin-2", 2), "NetConnection.Connect.Failed"),
        (lambda bench: bench.origin.shutdown("bye"), "NetConnection.Connect.AppShutdown"),
    ],
)
def test_who_still_connects_when_the_group_ends_gets_the_answer_to_its_connect(
    end: Callable[[Bench], None], code: str
) -> None:
    log: list[str] = []
    gate = Event()

    class Slow(Application):
        def on_connect(self, client: Client, *args: Any) -> None:
            gate.wait()

        def on_disconnect(self, client: Client) -> None:
            log.append("disconnected")

    bench = Bench({"app": Slow})
    client = bench.client(bench.edge())
    settle()
    end(bench)
    told = client.take()
    assert refused_with(told) == code
    gate.set()
    settle()
    assert client.take() == []
    assert log == ["disconnected"]
    assert bench.origin.counters.connects_rejected == 1


def test_the_answer_has_the_transaction_of_the_connect() -> None:
    class Slow(Application):
        def on_connect(self, client: Client, *args: Any) -> None:
            Event().wait()

    bench = Bench({"app": Slow})
    client = bench.client(bench.edge())
    message = encode_command("connect", 7, {"app": "app/room"})
    client.put(Attach(9, "other", "app/room", 1, "192.0.2.7", 0, message.type_id, message.payload))
    settle()
    client.link.log.clear()
    bench.origin.shutdown("bye")
    (answer,) = [told for told in client.link.take(ToClient) if told.session == 9]
    assert plain(answer)[:2] == ("_error", 7.0)


def test_a_group_that_moved_away_closes_its_sessions_and_stops(noting: type[Noting]) -> None:
    bench = Bench({"app": noting})
    link = bench.edge()
    clients = [bench.joined(link), bench.joined(link)]
    bench.change("group", "app/room", "origin-2", 2)
    settle()
    for client in clients:
        closed = CloseSession(client.number, "the application instance is at origin-2 now")
        assert client.take() == [("onStatus", 0, "NetConnection.Connect.Closed"), closed]
    assert noting.log[-3:] == [("on_disconnect",), ("on_disconnect",), ("on_stop",)]
    assert bench.origin.groups == {}
    assert bench.released == []


def test_on_stop_comes_after_hooks_that_take_their_time() -> None:
    log: list[str] = []
    gate = Event()

    class Slow(Application):
        def on_disconnect(self, client: Client) -> None:
            gate.wait()
            log.append("on_disconnect")

        def on_stop(self) -> None:
            log.append("on_stop")

    bench = Bench({"app": Slow})
    bench.joined(bench.edge())
    bench.origin.shutdown("bye")
    settle()
    assert log == []
    gate.set()
    settle()
    assert log == ["on_disconnect", "on_stop"]


def test_tasks_end_with_the_scope_and_their_faults_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []

    class Busy(Application):
        def on_start(self) -> None:
            self.spawn(self.work, "soon")
            self.spawn(self.work, "never", delay_s=3600)
            self.spawn(self.fail)

        def work(self, name: str) -> None:
            ran.append(name)
            try:
                gevent.sleep(3600)
            finally:
                ran.append("ended")

        def fail(self) -> None:
            raise ValueError("x")

    bench = Bench({"app": Busy})
    bench.joined(bench.edge())
    settle()
    assert ran == ["soon"]
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    bench.change("group", "app/room", "origin-2", 2)
    settle()
    assert ran == ["soon", "ended"]


def test_a_lost_edge_takes_its_sessions_along(noting: type[Noting]) -> None:
    bench = Bench({"app": noting}, owned=False)
    one, two = bench.edge(), bench.edge()
    bench.change("group", "app/room", ME, 1)
    bench.joined(one)
    kept = bench.joined(two)
    held = bench.client(one, epoch=5)
    one.log.clear()
    bench.origin.link_down(one, "nothing heard")  # type: ignore[arg-type]  # all that it needs of a Link
    settle()
    assert noting.log.count(("on_disconnect",)) == 1
    assert bench.origin.sessions == 1
    bench.change("group", "app/room", ME, 5)
    settle()
    assert held.take() == []
    kept.command("createStream", transaction=2)
    assert kept.take() == [("_result", 2.0, 1.0)]


def test_shutdown_tells_everyone_and_answers_nobody_new(noting: type[Noting]) -> None:
    bench = Bench({"app": noting})
    link = bench.edge()
    client, held = bench.joined(link), bench.client(link, epoch=9)
    bench.origin.shutdown("the origin is stopping", within_s=5)
    assert client.take() == [
        ("onStatus", 0, "NetConnection.Connect.AppShutdown"),
        CloseSession(1, "the origin is stopping"),
    ]
    assert held.take() == []
    assert noting.log[-2:] == [("on_disconnect",), ("on_stop",)]
    late = bench.client(link)
    bench.change("group", "app/room", ME, 9)
    bench.origin.tend(float("inf"))
    settle()
    assert late.take() == held.take() == []
    assert bench.origin.groups == {}


def test_health_names_everything() -> None:
    bench = Bench({"app": Application, "other": Application})
    link = bench.edge()
    bench.joined(link)
    link.data.sessions[1].group.objects.view("board", False)["x"] = 1
    health = bench.origin.health()
    assert health["applications"] == ["app", "other"]
    assert health["groups"]["app/room"] == {
        "epoch": 1,
        "sessions": 1,
        "streams": {},
        "objects": {"board": {"users": 0, "slots": 1, "version": 1}},
    }
    assert health["counters"]["attaches"] == 1
    assert health["links"] == [{"edge": "edge-1", "sessions": 1, "queued_bytes": 0}]
    bench.origin.link_down(link, "gone")  # type: ignore[arg-type]  # all that it needs of a Link
    assert bench.origin.health()["links"] == []


# A client that sends too much


def test_a_client_that_sends_too_many_messages_is_closed_with_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(OPEN, messages_per_s=8, messages_burst=16)
    link = bench.edge()
    client, other = bench.joined(link), bench.joined(link)
    now = [1000.0]
    client.session.group.clock = lambda: now[0]
    for number in range(16):
        client.command("createStream" if number % 2 else "nothing")
    now[0] += 1.0
    client.take()
    for _ in range(8):
        client.shared("board", (EventType.RELEASE,))
    assert CloseSession not in [type(part) for part in client.take()]
    # Media has limits of its own.
    client.put(*(FromClient(client.number, kind, 1, 0, b"") for kind in (8, 9, 15, 18) for _ in range(50)))
    client.command("nothing")
    client.command("nothing")
    assert client.take() == [
        ("onStatus", 0, "NetConnection.Connect.Closed"),
        CloseSession(client.number, "over 8 messages a second"),
    ]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    other.command("createStream", transaction=2)
    assert other.take() == [("_result", 2.0, 1.0)]


def test_after_a_pause_there_is_one_burst_and_no_more() -> None:
    bench = Bench(OPEN, messages_per_s=8, messages_burst=16)
    client = bench.joined(bench.edge())
    now = [1000.0]
    session = client.session
    session.group.clock = lambda: now[0]
    assert [session.too_fast() for _ in range(17)] == [False] * 16 + [True]
    now[0] += 3600
    assert [session.too_fast() for _ in range(17)] == [False] * 16 + [True]


def test_large_messages_count_for_more_and_answers_to_calls_for_nothing() -> None:
    bench = Bench(OPEN, messages_per_s=8, messages_burst=16)
    client = bench.joined(bench.edge())
    session = client.session
    session.group.clock = lambda: 1000.0
    asking = gevent.spawn(session.client.call, "who")
    settle()
    (call,) = client.take()
    for _ in range(100):
        session.too_fast(0)
    client.command("_result", "me", transaction=call[1])
    assert asking.get(timeout=10) == "me"
    # 1 for the message, 10 for its 80 events, 1 for its KiB: the second such message is over 16.
    events = [(EventType.REQUEST_CHANGE, f"slot{number}", 1.0) for number in range(80)]
    client.shared("board", (EventType.USE,))
    client.shared("board", *events)
    assert not session.closed
    client.shared("board", *events)
    assert session.closed
    client = bench.joined(bench.edge())
    client.session.group.clock = lambda: 1000.0
    client.command("nothing", "x" * 17_000)
    assert client.session.closed


def test_a_group_granted_anew_while_others_are_released_has_its_time_anew() -> None:
    bench = Bench(OPEN, group_linger_s=10.0)
    for number, name in enumerate(("app/a", "app/b"), 1):
        bench.change("group", name, ME, number)
    answered = Event()
    bench.on_release = lambda name, epoch: answered.wait() and None
    bench.origin.tend(time.monotonic() + 11.0)
    settle()
    assert bench.released == [("app/a", 1)]
    bench.change("group-gone", "app/b")
    bench.change("group", "app/b", ME, 3)
    answered.set()
    settle()
    assert bench.released == [("app/a", 1)]


def test_detach_of_nobody_is_nothing() -> None:
    bench = Bench(OPEN)
    link = bench.edge()
    bench.origin.batch(link, [Detach(5, "x")])  # type: ignore[arg-type]  # all that it needs of a Link
    assert link.log == []
