"""The origin: calls of clients to `@remote` methods, calls to clients, and their order. No sockets."""

import logging
from types import MethodType
from typing import Any

import gevent
import pytest
from gevent.event import Event
from headwater_amf import UNDEFINED, Date
from headwater_bus.traffic import CloseSession
from headwater_origin import (
    Application,
    CallError,
    Client,
    ClientCallError,
    ClientCallFailed,
    ClientCallTimeout,
    ClientGone,
    Reject,
    remote,
)
from support.origin_bench import Bench, FakeClient, settle
from support.waiting import eventually


class Base(Application):
    @remote
    def add(self, client: Client, a: float, b: float = 1.0) -> float:
        return a + b

    @remote
    def overridden(self, client: Client) -> str:
        return "base"


class Opaque:
    """A method that says nothing of its arguments, as what is written in C may."""

    @property
    def __signature__(self) -> object:
        raise ValueError("no signature found")

    def __get__(self, application: object, owner: type | None = None) -> Any:
        return self if application is None else MethodType(self, application)

    def __call__(self, application: Application, client: Client, word: str) -> str:
        return word


class App(Base):
    opaque = remote(Opaque())
    gate: Event
    log: list[Any]

    @remote
    def echo(self, client: Client, *args: Any) -> Any:
        return list(args)

    @remote
    def who(self, client: Client) -> str:
        return client.id

    @remote
    def nothing(self, client: Client) -> None:
        pass

    @remote
    def refuse(self, client: Client) -> None:
        raise CallError("App.No", "not today")

    @remote
    def odd_refusal(self, client: Client) -> None:
        raise CallError(7, {"x": 1})  # type: ignore[arg-type]  # the wrong type is what is tested

    @remote
    def reject(self, client: Client) -> None:
        raise Reject("no reason")

    @remote
    def crash(self, client: Client) -> None:
        raise ZeroDivisionError("1/0")

    @remote
    def bad_value(self, client: Client) -> None:
        client.attributes["x"] = object()

    @remote
    def time_out(self, client: Client) -> None:
        with gevent.Timeout(0.001):
            gevent.sleep(3600)

    @remote
    def leave(self, client: Client) -> None:
        raise SystemExit(1)

    @remote
    def no_form(self, client: Client) -> Any:
        return object()

    @remote
    def wait(self, client: Client, name: str = "") -> str:
        self.gate.wait()
        self.log.append(name)
        return name

    @remote
    def _private(self, client: Client) -> str:
        return "never"

    @remote
    def ask(self, client: Client, name: str, *args: Any) -> Any:
        return client.call(name, *args)

    @remote
    def hang_up(self, client: Client) -> str:
        client.close("bye")
        return "unheard"

    def overridden(self, client: Client) -> str:
        return "never: the mark is not inherited"

    def unmarked(self, client: Client) -> str:
        return "never"


@pytest.fixture
def app() -> type[App]:
    class Fresh(App):
        gate = Event()
        log: list[Any] = []  # noqa: RUF012

    return Fresh


@pytest.fixture
def bench(app: type[App]) -> Bench:
    return Bench({"app": app})


@pytest.fixture(params=[False, True], ids=["AMF0", "AMF3"])
def client(bench: Bench, request: pytest.FixtureRequest) -> FakeClient:
    return bench.joined(bench.edge(), amf3=request.param)


def ask(client: FakeClient, name: str, *args: Any) -> list[Any]:
    client.command(name, *args, transaction=3)
    settle()
    return client.take()


def test_results(client: FakeClient) -> None:
    assert ask(client, "add", 2.0, 3.0) == [("_result", 3.0, 5.0)]
    assert ask(client, "add", 2.0) == [("_result", 3.0, 3.0)]
    assert ask(client, "nothing") == [("_result", 3.0, None)]
    assert ask(client, "who") == [("_result", 3.0, "session-1")]
    values: list[Any] = ["x", None, True, {"a": [1.0, Date(5.0)]}, [], UNDEFINED]
    assert ask(client, "echo", *values) == [("_result", 3.0, values)]


def test_a_call_without_a_transaction_id_is_run_and_not_answered(client: FakeClient, app: type[App]) -> None:
    app.gate.set()
    client.command("wait", "x")
    client.command("refuse")
    client.command("nothing", 1.0, 2.0)
    settle()
    assert app.log == ["x"]
    assert client.take() == []


@pytest.mark.parametrize(
    ("name", "code", "description", "logged"),
    [
        ("refuse", "App.No", "not today", 0),
        ("odd_refusal", "7", "{'x': 1}", 0),
        ("reject", "NetConnection.Call.Failed", "no reason", 0),
        ("crash", "NetConnection.Call.Failed", "the application failed", 1),
        ("time_out", "NetConnection.Call.Failed", "the application failed", 1),
        ("leave", "NetConnection.Call.Failed", "the application failed", 1),
        ("no_form", "NetConnection.Call.Failed", "the result has no AMF form", 1),
    ],
)
def test_errors(
    bench: Bench, name: str, code: str, description: str, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    client = bench.joined(bench.edge())
    client.command(name, transaction=3)
    deadline = gevent.Timeout.start_new(10)
    while not client.link.log:
        gevent.sleep(0.001)
    deadline.cancel()
    assert client.take() == [
        ("_error", 3.0, {"level": "error", "code": code, "description": description}),
    ]
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == logged
    assert bench.origin.counters.calls_failed == 1
    assert ask(client, "add", 1.0) == [("_result", 3.0, 2.0)]


def test_a_failure_is_one_line_that_names_the_place(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    ask(bench.joined(bench.edge()), "crash")
    (record,) = caplog.records
    fields = record.__dict__["fields"]
    assert fields["group"] == "app/room"
    assert fields["what"] == "crash"
    assert fields["error"] == "ZeroDivisionError('1/0')"
    assert fields["at"].startswith("test_origin_calls.py:")


@pytest.mark.parametrize("name", ["bad_value", "time_out"])
def test_the_place_is_the_applications_own_wherever_it_was_raised(
    bench: Bench, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    client = bench.joined(bench.edge())
    client.command(name, transaction=3)
    eventually(client.take, within_s=10)
    (record,) = caplog.records
    assert record.__dict__["fields"]["at"].startswith("test_origin_calls.py:")


@pytest.mark.parametrize("args", [(), (1.0, 2.0, 3.0)])
def test_bad_arguments_are_the_callers_fault(
    client: FakeClient, args: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    ((name, _, info),) = ask(client, "add", *args)
    assert (name, info["code"]) == ("_error", "NetConnection.Call.BadArguments")
    assert caplog.records == []


def test_arguments_of_what_does_not_say_which_it_takes_are_not_looked_at(
    client: FakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    ((name, _, result),) = ask(client, "opaque", "word")
    assert (name, result) == ("_result", "word")
    ((name, _, info),) = ask(client, "opaque")
    assert (name, info["description"]) == ("_error", "the application failed")
    (record,) = caplog.records
    assert "missing 1 required positional argument: 'word'" in record.__dict__["fields"]["error"]


@pytest.mark.parametrize(
    "name",
    [
        "unmarked",
        "overridden",
        "_private",
        "__init__",
        "__class__",
        "_remote",
        "on_connect",
        "on_start",
        "broadcast",
        "shared_object",
        "clients",
        "scope",
        "spawn",
        "mro",
        "allow_publish",
        "log",
        "echo.real",
        "echo\x00",
        "",
        "日本",
    ],
)
def test_what_is_not_marked_cannot_be_called(client: FakeClient, name: str, app: type[App]) -> None:
    ((what, _, info),) = ask(client, name)
    assert (what, info["code"]) == ("_error", "NetConnection.Call.Failed")


def test_a_method_that_waits_holds_up_its_own_client_only(bench: Bench, app: type[App]) -> None:
    link = bench.edge()
    slow, other = bench.joined(link), bench.joined(link)
    slow.command("wait", "first", transaction=3)
    slow.command("add", 1.0, transaction=4)
    slow.command("createStream", transaction=5)
    slow.command("unknown", transaction=6)
    slow.command("wait", "second", transaction=7)
    settle()
    assert ask(other, "add", 1.0) == [("_result", 3.0, 2.0)]
    assert slow.take() == []
    app.gate.set()
    settle()
    assert [told[:2] for told in slow.take()] == [
        ("_result", 3.0),
        ("_result", 4.0),
        ("_result", 5.0),
        ("_error", 6.0),
        ("_result", 7.0),
    ]
    assert app.log == ["first", "second"]


def test_a_client_that_leaves_stops_what_it_had_still_to_say(bench: Bench, app: type[App]) -> None:
    client = bench.joined(bench.edge())
    client.command("wait", "running", transaction=3)
    client.command("wait", "queued", transaction=4)
    settle()
    client.detach()
    app.gate.set()
    settle()
    assert app.log == ["running"]
    assert client.take() == []


def test_a_method_may_close_its_client(client: FakeClient) -> None:
    assert ask(client, "hang_up") == [
        ("onStatus", 0, "NetConnection.Connect.Closed"),
        CloseSession(1, "bye"),
    ]


@pytest.mark.parametrize("limit", [{"inbox_messages": 3}, {"inbox_bytes": 200}])
def test_a_client_too_far_ahead_of_its_application_is_closed(limit: dict[str, Any], app: type[App]) -> None:
    bench = Bench({"app": app}, **limit)
    client = bench.joined(bench.edge())
    sent = 0
    while client.session.closed is False and sent < 100:
        client.command("wait", "x" * 20, transaction=3)
        settle()
        sent += 1
    assert 4 <= sent < 10
    assert [type(told) for told in client.take()] == [tuple, CloseSession]
    app.gate.set()
    settle()
    assert app.log == ["x" * 20]


# Calls to clients


def test_a_call_to_the_caller_does_not_deadlock(client: FakeClient) -> None:
    assert ask(client, "ask", "what", 1.0, "x") == [("what", 1.0, 1.0, "x")]
    client.command("add", 1.0, transaction=4)
    client.command("_result", "this", transaction=1)
    settle()
    assert client.take() == [("_result", 3.0, "this"), ("_result", 4.0, 2.0)]


def test_each_call_gets_its_own_answer(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    (member,) = client.scope.clients
    one, two = gevent.spawn(member.call, "one"), gevent.spawn(member.call, "two", None)
    settle()
    assert client.take() == [("one", 1.0), ("two", 2.0, None)]
    client.command("_result", "second", transaction=2)
    client.command("_result", "nobody asked", transaction=3)
    client.command("_result", transaction=1)
    client.command("_result", "again", transaction=1)
    assert (one.get(timeout=10), two.get(timeout=10)) == (None, "second")
    assert client.take() == []


def test_an_error_of_the_client_is_raised(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    (member,) = client.scope.clients
    call = gevent.spawn(catching, member.call, "one")
    settle()
    client.command("_error", {"code": "X"}, transaction=1)
    error = call.get(timeout=10)
    assert isinstance(error, ClientCallFailed)
    assert error.info == {"code": "X"}
    assert "'one'" in str(error)


def catching(function: Any, *args: Any, **named: Any) -> Any:
    """What a call raises."""
    with pytest.raises(ClientCallError) as raised:
        function(*args, **named)
    return raised.value


def test_no_answer_in_time_is_raised_and_a_late_one_is_nothing(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    (member,) = client.scope.clients
    assert type(catching(member.call, "one", timeout_s=0.001)) is ClientCallTimeout
    client.command("_result", "late", transaction=1)
    assert len(client.session.calls) == 0


def test_a_timeout_of_the_application_passes_through(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    (member,) = client.scope.clients
    outer = gevent.Timeout(0.001)
    with pytest.raises(gevent.Timeout) as raised, outer:
        member.call("one", timeout_s=3600)
    assert raised.value is outer


def test_calls_to_a_client_that_goes_or_is_gone(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    (member,) = client.scope.clients
    call = gevent.spawn(catching, member.call, "one")
    settle()
    client.detach()
    assert type(call.get(timeout=10)) is ClientGone
    assert type(catching(member.call, "two")) is ClientGone


def test_no_more_calls_wait_than_the_limit_says(app: type[App]) -> None:
    bench = Bench({"app": app}, calls_pending=2)
    client = bench.joined(bench.edge())
    (member,) = client.scope.clients
    calls = [gevent.spawn(catching, member.call, "one") for _ in range(2)]
    settle()
    assert "2 calls" in str(catching(member.call, "three"))
    client.detach()
    gevent.joinall(calls, timeout=10, raise_error=True)


def test_arguments_without_an_amf_form_raise_at_the_caller(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    (member,) = client.scope.clients
    for call in (member.call, member.notify, client.scope.broadcast):
        with pytest.raises(ValueError, match="AMF"):
            call("x", object())
    assert client.take() == []
    assert len(client.session.calls) == 0


def test_on_connect_may_notify_but_not_call_its_client() -> None:
    raised: list[str] = []

    class Greeting(Application):
        def on_connect(self, client: Client, *args: Any) -> None:
            client.notify("welcome", *args)
            raised.append(str(catching(client.call, "who")))
            if args == ("no",):
                raise Reject

    bench = Bench({"app": Greeting})
    link = bench.edge()
    client, refused = bench.client(link, arguments=("hi",)), bench.client(link, arguments=("no",))
    settle()
    told = client.take()
    assert told[1][0] == "_result"
    assert told[2:] == [("welcome", 0.0, "hi")]
    assert "welcome" not in str(refused.take())
    assert all("on_connect" in text for text in raised)


def test_broadcast_reaches_every_accepted_client_in_its_amf_version(bench: Bench) -> None:
    links = [bench.edge(), bench.edge()]
    clients = [bench.joined(links[i % 2], amf3=i < 2) for i in range(4)]
    outsider = bench.joined(links[0], "app/other")
    clients[0].scope.broadcast("news", {"a": 1.0}, "x")
    types = [envelope.type_id for link in links for envelope in link.log]
    assert sorted(types) == [17, 17, 20, 20]
    for client in clients:
        assert client.take() == [("news", 0.0, {"a": 1.0}, "x")]
    assert outsider.take() == []


def test_attributes_belong_to_the_client(bench: Bench) -> None:
    link = bench.edge()
    one, _ = bench.joined(link), bench.joined(link)
    first, second = one.scope.clients
    first.attributes["x"] = 1
    assert first.attributes == {"x": 1}
    assert second.attributes == {}
    assert repr(first) == "<Client session-1 of app/room>"
