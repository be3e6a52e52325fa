"""The origin: who gets in, and how the session of one client ends. No sockets."""

import logging
import time
from typing import Any

import gevent
import pytest
from gevent.event import Event
from headwater_bus.traffic import Attach, Attached, AttachRefused, CloseSession, Detach, ToClient
from headwater_origin import Application, Client, Reject
from headwater_rtmp.message import Message
from support.attach_bench import OPEN, Noting, raw_command, refused_with
from support.origin_bench import ME, Bench, plain, settle


@pytest.fixture
def noting() -> type[Noting]:
    class Fresh(Noting):
        log: list[tuple[Any, ...]] = []  # noqa: RUF012

    return Fresh


def test_an_accepted_connect_is_answered_with_attached_and_success() -> None:
    bench = Bench(OPEN)
    client = bench.client(bench.edge())
    attached, answer = client.link.take()
    assert attached == Attached(1, 0, False)
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
    assert bench.origin.sessions == 0


def test_an_attach_is_held_until_the_feed_has_told() -> None:
    bench = Bench(OPEN, owned=False)
    bench.change("group", "app/room", ME, 3)
    early, other = bench.client(bench.edge(), epoch=7), bench.client(bench.edge(), epoch=7)
    assert early.take() == other.take() == []
    other.detach()
    bench.change("group", "app/else", ME, 4)
    assert early.take() == []
    bench.change("group", "app/room", ME, 7)
    assert early.take()[0] == early.attached
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
    bench = Bench(OPEN, owned=False, attach_hold_bytes=500)
    link = bench.edge()
    clients = [bench.client(link) for _ in range(3)]
    assert [len(client.take()) for client in clients] == [0, 0, 1]


def test_what_comes_behind_an_attach_that_is_held_is_held_too() -> None:
    bench = Bench(OPEN, owned=False)
    client = bench.client(bench.edge())
    client.command("createStream", transaction=2)
    assert client.take() == []
    bench.change("group", "app/room", ME, 1)
    settle()
    assert client.take()[-1] == ("_result", 2.0, 1.0)
    assert bench.origin.counters.stray_messages == 0


def test_an_attach_behind_which_too_much_comes_is_refused_as_a_whole() -> None:
    """The edge sends all of it again."""
    bench = Bench(OPEN, owned=False, attach_hold_bytes=500)
    client = bench.client(bench.edge())
    for _ in range(4):
        client.command("createStream", transaction=2)
    bench.change("group", "app/room", ME, 1)
    settle()
    assert [type(told) for told in client.take()] == [AttachRefused]
    assert bench.origin.sessions == 0


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
    client.put(
        Attach(
            77,
            "broken",
            "app/room",
            1,
            "192.0.2.7",
            0,
            False,
            20,
            0,
            0,
            b"",
            [],
            [],
            [],
            payload=b"\x02\x00\x07conn",
        )
    )
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
    assert one.take()[0] == one.attached
    assert two.take()[0] == two.attached
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
    # When it was granted, and when somebody came.
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 2


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
    client.message(Message(20, 0, 0, b"\xff\xff"))
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

    monkeypatch.setattr("headwater_origin.inbound.run_command", fail)
    client.command("createStream", transaction=2)
    monkeypatch.undo()
    other.command("createStream", transaction=2)
    assert client.take() == [CloseSession(1, "internal error")]
    assert other.take() == [("_result", 2.0, 1.0)]
    assert bench.origin.counters.internal_errors == 1


def test_detach_of_nobody_is_nothing() -> None:
    bench = Bench(OPEN)
    link = bench.edge()
    bench.origin.batch(link, [Detach(5, "x")])  # type: ignore[arg-type]  # all that it needs of a Link
    assert link.log == []
