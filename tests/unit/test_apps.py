"""The example applications on an origin without sockets."""

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from headwater_bus.object_traffic import ObjectAnswer, ObjectOpened, ObjectUpdate
from headwater_bus.rows import unpack_rows
from headwater_origin import Access, Application, Client, Room, SharedObjectView, Timer
from headwater_origin.commands import COMMANDS
from headwater_origin.config import OriginConfig
from headwater_origin.develop.check import check
from headwater_origin.durable.values import MOST_KEY_BYTES
from headwater_origin.objects.lock import LOCK_S
from headwater_origin.rooms import MOST_ROOMS
from headwater_rtmp.shared_object import EventType
from support.origin_bench import Bench, FakeClient, FakeLink, settle

from apps.chat import Chat
from apps.live import Live


@pytest.fixture
def bench() -> Bench:
    return Bench({"chat": Chat, "live": Live})


@pytest.fixture
def link(bench: Bench) -> FakeLink:
    return bench.edge()


def enter(bench: Bench, link: FakeLink, nick: Any) -> FakeClient:
    return bench.joined(link, "chat/lobby", arguments=(nick,))


def call(client: FakeClient, name: str, *args: Any) -> tuple[Any, ...]:
    """Result (`_result`, value) or error (`_error`, code, description); what else the client heard is dropped."""
    client.command(name, *args, transaction=9)
    settle()
    told = client.take()
    (answer,) = [part for part in told if part[0] in ("_result", "_error")]
    if answer[0] == "_error":
        return ("_error", answer[2]["code"], answer[2]["description"])
    return ("_result", answer[2])


def test_a_conversation(bench: Bench, link: FakeLink) -> None:
    ann = enter(bench, link, "ann")
    assert ann.take() == []
    bob = enter(bench, link, "  bob   b ")
    assert ann.take() == [("joined", 0.0, "bob b")]
    assert bob.take() == []
    assert call(ann, "say", " hello ") == ("_result", 1.0)
    assert bob.take() == [("said", 0.0, 1.0, "ann", "hello")]
    assert call(bob, "say", "hi") == ("_result", 2.0)
    assert call(bob, "whisper", "ann", "psst") == ("_result", None)
    assert ann.take() == [("said", 0.0, 2.0, "bob b", "hi"), ("whispered", 0.0, "bob b", "psst")]
    assert call(bob, "rename", "rob") == ("_result", "rob")
    assert ann.take() == [("renamed", 0.0, "bob b", "rob")]
    assert sorted(ann.scope.shared_object("users")) == ["ann", "rob"]
    bob.detach()
    settle()
    assert ann.take() == [("left", 0.0, "rob")]
    assert list(ann.scope.shared_object("users")) == ["ann"]
    enter(bench, link, "rob")


@pytest.mark.parametrize(
    "nick", ["", "   ", "x" * 33, "a\x00b", "\u202eann", "\u200b", None, 5.0, {}, [], True]
)
def test_bad_nicks_do_not_come_in(bench: Bench, link: FakeLink, nick: Any) -> None:
    client = bench.client(link, "chat/lobby", arguments=(nick,))
    settle()
    name, _, info = client.take()[0]
    assert (name, info["code"]) == ("_error", "NetConnection.Connect.Rejected")
    assert "nick" in info["description"]
    assert bench.origin.counters.handler_errors == 0


def test_no_nick_two_nicks_and_a_taken_one(bench: Bench, link: FakeLink) -> None:
    ann = enter(bench, link, "ann")
    for arguments in ((), ("a", "b"), ("ann",), (" ann ",)):
        client = bench.client(link, "chat/lobby", arguments=arguments)
        settle()
        assert client.take()[0][2]["code"] == "NetConnection.Connect.Rejected"
        client.detach()
    settle()
    (only,) = ann.scope.clients
    assert only.attributes["nick"] == "ann"
    assert bench.origin.counters.handler_errors == 0


@pytest.mark.parametrize(
    "nick",
    ["constructor", "__proto__", "length", "last", "1", "😀", "日本", "x" * 32, "a=b;--", "{}", "on_start"],
)
def test_odd_nicks_are_nicks(bench: Bench, link: FakeLink, nick: str) -> None:
    ann, odd = enter(bench, link, "ann"), enter(bench, link, nick)
    assert ann.take() == [("joined", 0.0, nick)]
    assert call(odd, "say", nick) == ("_result", 1.0)
    assert call(ann, "whisper", nick, "x") == ("_result", None)
    assert call(odd, "rename", nick)[1] == "Chat.NickTaken"
    assert call(odd, "rename", "other") == ("_result", "other")
    assert call(odd, "rename", nick) == ("_result", nick)
    assert sorted(ann.scope.shared_object("users")) == sorted(["ann", nick])
    odd.detach()
    settle()
    assert list(ann.scope.shared_object("users")) == ["ann"]
    assert bench.origin.counters.handler_errors == 0


@pytest.mark.parametrize("value", ["", "  ", "x" * 2001, None, 5.0, {}, [], True])
def test_lines_that_are_none(bench: Bench, link: FakeLink, value: Any) -> None:
    ann = enter(bench, link, "ann")
    assert call(ann, "say", value)[:2] == ("_error", "Chat.BadLine")
    assert call(ann, "whisper", "ann", value)[:2] == ("_error", "Chat.BadLine")
    assert len(ann.scope.shared_object("log", persistent=True)) == 0


@pytest.mark.parametrize("value", ["", "x" * 33, "a\nb\x00", None, 5.0, {}, [], True])
def test_nicks_that_are_none_in_calls(bench: Bench, link: FakeLink, value: Any) -> None:
    ann = enter(bench, link, "ann")
    assert call(ann, "whisper", value, "x")[0] == "_error"
    assert call(ann, "rename", value)[0] == "_error"
    assert call(ann, "whisper", "nobody", "x")[:2] == ("_error", "Chat.NoSuchUser")
    assert list(ann.scope.shared_object("users")) == ["ann"]
    assert bench.origin.counters.handler_errors == 0


def test_the_log_keeps_the_last_lines(bench: Bench, link: FakeLink) -> None:
    ann = enter(bench, link, "ann")
    for number in range(1, 131):
        assert call(ann, "say", "ä" * 2000) == ("_result", float(number))
    log = ann.scope.shared_object("log", persistent=True)
    assert sorted(log, key=lambda key: (key == "last", key.zfill(9))) == [*map(str, range(31, 131)), "last"]
    assert log["last"] == 130
    assert log["130"]["nick"] == "ann"
    assert log["130"]["text"] == "ä" * 2000


def test_clients_read_users_and_log_and_write_neither(bench: Bench, link: FakeLink) -> None:
    ann = enter(bench, link, "ann")
    for name in ("users", "log"):
        ann.shared(name, (EventType.USE,), persistent=name == "log")
    contents = [unpack_rows(opened.payload, str, bytes, int) for opened in link.take(ObjectOpened)]
    assert [[key for key, *_ in slots] for slots in contents] == [["ann"], []]
    link.take()
    ann.shared("users", (EventType.REQUEST_CHANGE, "eve", 1.0), (EventType.REQUEST_REMOVE, "ann"))
    (answer,) = link.take()
    assert isinstance(answer, ObjectAnswer)
    assert unpack_rows(answer.payload, int, str) == [
        [EventType.STATUS, "SharedObject.NoWriteAccess"],
        [EventType.REMOVE, "eve"],
        [EventType.REMOVE, "ann"],
    ]
    ann.shared("mine", (EventType.USE,))
    assert ann.take()[0][3] == [("STATUS", "SharedObject.ObjectCreationFailed", "error")]


def test_nobody_publishes_in_a_chat(bench: Bench, link: FakeLink) -> None:
    ann = enter(bench, link, "ann")
    ann.command("createStream", transaction=2)
    ann.command("publish", "a", stream_id=1)
    assert ann.codes() == ["NetStream.Publish.Denied"]


def test_rooms_are_apart(bench: Bench, link: FakeLink) -> None:
    ann = enter(bench, link, "ann")
    other = bench.joined(link, "chat/other", arguments=("ann",))
    assert call(other, "whisper", "bob", "x")[1] == "Chat.NoSuchUser"
    assert ann.take() == []


def test_in_live_everything_is_allowed(bench: Bench, link: FakeLink) -> None:
    client = bench.joined(link, "live/_definst_")
    client.command("createStream", transaction=2)
    client.command("publish", "a", "live", stream_id=1)
    assert client.codes() == ["NetStream.Publish.Start"]
    for persistent in (False, True):
        client.shared("any", (EventType.USE,), (EventType.REQUEST_CHANGE, "x", 1.0), persistent=persistent)
        (update,) = link.take(ObjectUpdate)
        assert [event[:2] for event in unpack_rows(update.payload, int, str, bytes)] == [
            [EventType.CHANGE, "x"]
        ]


# The author's page

PAGE = (Path(__file__).parents[2] / "docs" / "applications.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ROWS = dict(re.findall(r"^\| ([^|]+?) \| ([^|]*?) \|", PAGE, re.MULTILINE))


def hooks_of(application: type[Application]) -> dict[str, str]:
    """Name to parameters, as the page writes them."""
    found = {}
    for name in vars(application):
        if name.startswith(("on_", "shared_object_")):
            parameters = inspect.signature(getattr(application, name)).parameters.values()
            found[name] = ", ".join(
                f"*{parameter.name}" if parameter.kind == parameter.VAR_POSITIONAL else parameter.name
                for parameter in parameters
                if parameter.name != "self"
            )
    return found


def test_the_example_of_the_page_works() -> None:
    names: dict[str, Any] = {"__name__": "rooms"}
    exec(EXAMPLES[0], names)
    assert check(names["Rooms"], "rooms:Rooms").problems == []
    bench = Bench({"rooms": names["Rooms"]})
    link = bench.edge()
    ann, bob = (bench.joined(link, "rooms/one", arguments=(nick,)) for nick in ("ann", "bob"))
    assert call(ann, "say", "hello") == ("_result", 1.0)
    assert call(ann, "say", 5.0)[:2] == ("_error", "Rooms.BadText")
    for number in range(2, 103):
        assert call(bob, "say", "again") == ("_result", float(number))
    assert dict(ann.scope.log) == {str(n): {"nick": "bob", "text": "again"} for n in range(3, 103)}
    assert sorted(ann.scope.users.values()) == ["ann", "bob"]
    bob.detach()
    settle()
    assert list(ann.scope.users.values()) == ["ann"]


def test_the_pages_examples_are_python() -> None:
    assert len(EXAMPLES) >= 6
    for example in EXAMPLES:
        compile(textwrap.dedent(example), "applications.md", "exec")


def test_the_page_names_every_hook_with_its_parameters() -> None:
    table = PAGE.split("## The life of a scope")[1].split("\n## ")[0]
    written = dict(re.findall(r"^\| `(\w+)\((.*?)\)`", table, re.MULTILINE))
    assert written == hooks_of(Application)


def test_the_page_names_every_command_attribute_and_tool() -> None:
    for name in COMMANDS:
        assert f"`{name}`" in PAGE
    defaults = {
        name: value
        for name, value in vars(Application).items()
        if isinstance(value, bool | str) and name[0] != "_"
    }
    assert len(defaults) == 7
    for name, value in defaults.items():
        shown = f'"{value}"' if isinstance(value, str) else value
        assert ROWS[f"`{name}`"] == f"`{shown}`"
    for one in (Application, Client, Room, SharedObjectView, Timer):
        for name in vars(one):
            if name[0] != "_":
                assert re.search(rf"\b{name}\b", PAGE), f"{one.__name__}.{name}"


def test_the_page_names_the_rights() -> None:
    rights = re.findall(r"^\| `([A-Z]+)` \|", PAGE, re.MULTILINE)
    assert rights == list(Access.__members__)


def test_the_page_states_the_limits() -> None:
    config = OriginConfig()
    rows = ROWS
    assert rows["message streams of a client"] == str(config.streams_per_session)
    assert rows["SharedObjects that a client uses / of a scope"] == (
        f"{config.objects_per_session} / {config.objects_per_group:,}"
    )
    assert rows["slots of an object / bytes of a value / keys and values of an object"] == (
        f"{config.object_slots:,} / {config.object_value_bytes >> 10} KiB / {config.object_total_bytes >> 20} MiB"
    )
    assert rows["keys and values of a scope's state / of a client's attributes"] == (
        f"{config.state_bytes >> 20} MiB / {config.attributes_bytes >> 10} KiB"
    )
    assert rows["jobs of a scope"] == f"{config.jobs_per_group:,}"
    assert rows["rooms that a client has joined"] == str(MOST_ROOMS)
    assert rows["a key of state or attributes"] == f"{MOST_KEY_BYTES:,} bytes"
    assert rows["changes of a scope that wait for a store that is away"] == (
        f"{config.store_patience_s:.0f} s, and {config.pending_bytes >> 20} MiB"
    )
    assert rows["calls to one client that wait for an answer"] == str(config.calls_pending)
    assert rows["messages of a client that wait for its application code"] == (
        f"{config.inbox_messages:,}, and {config.inbox_bytes >> 20} MiB"
    )
    assert f"had no client for {config.group_linger_s:.0f} s" in PAGE
    assert f"{config.resume_grace_s:.0f} s after the scope has begun elsewhere" in PAGE
    assert f"is forgotten {config.object_linger_s:.0f} s after its last user" in PAGE
    assert f"At most {LOCK_S:.0f} s are waited for a lock" in PAGE
