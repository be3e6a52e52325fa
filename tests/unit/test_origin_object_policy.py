"""The origin: applications that look at each change of a SharedObject, and what single rights allow. No sockets."""

from typing import Any

import pytest
from gevent.event import Event as Gate
from headwater_bus.object_traffic import ObjectAnswer, ObjectUpdate
from headwater_origin import Access, Application, Client, Reject
from support.object_bench import (
    CHANGED,
    CLEAR,
    CONTENT,
    DELETE,
    DENIED,
    REMOVED,
    SEND,
    SENT,
    SET,
    Open,
    own,
    slot,
    updates,
    user,
)
from support.origin_bench import Bench, settle


class Rights(Open):
    """May do with an object what its name says."""

    def on_start(self) -> None:
        for name in ("write", "delete", "send", "read"):
            self.shared_object(name)["x"] = 1.0

    def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
        return Access[name.upper()]


@pytest.mark.parametrize(
    ("name", "done"),
    [
        ("write", [(CHANGED, "y")]),
        ("delete", [(REMOVED, "x")]),
        ("send", [(SENT, "")]),
        ("read", []),
    ],
)
def test_each_right_allows_its_own(name: str, done: list[Any]) -> None:
    bench = Bench({"app": Rights})
    link = bench.edge()
    client = user(bench, link, name=name)
    seen: list[Any] = []
    refused: list[Any] = []
    for event in ((SET, "y", 1.0), (DELETE, "x"), (SEND, "hear"), (CLEAR,), (SET, "y", None)):
        client.shared(name, event)
        settle()
        if link.log and isinstance(link.log[0], ObjectUpdate):
            ((_, events),) = updates(link)
            seen += [event[:2] for event in events]
        else:
            refused.append(own(client))
    # The last one sets a slot to nothing, which is to delete it: allowed, as it is not there any more.
    answers = {
        "y": [DENIED, slot("y")],
        "x": [DENIED, slot("x")],
        "": [DENIED],
        "clear": [DENIED, CONTENT],
        "nothing": [("SUCCESS", "y")],
        "emptied": [CONTENT],
    }
    expected = {
        "write": ["x", "", "clear", "y"],
        "delete": ["y", "", "emptied", "nothing"],
        "send": ["y", "x", "clear", "y"],
        "read": ["y", "x", "", "clear", "y"],
    }
    assert seen == done
    assert refused == [answers[which] for which in expected[name]]


class Looking(Open):
    """Numbers must not be negative, `fixed` stays, nobody shouts; all questions are kept."""

    def on_start(self) -> None:
        self.asked: list[Any] = []
        self.gate = Gate()
        self.gate.set()

    def shared_object_write(
        self, client: Client, name: str, persistent: bool, key: str, value: Any
    ) -> Reject | bool | None:
        self.asked.append(("write", client.id, name, persistent, key, value))
        self.gate.wait()
        if value == "raise":
            raise KeyError(key)
        if value == "reject":
            raise Reject("no")
        return Reject("negative") if isinstance(value, float) and value < 0 else None

    def shared_object_delete(self, client: Client, name: str, persistent: bool, key: str) -> bool:
        self.asked.append(("delete", key))
        return key not in ("fixed", "")

    def shared_object_send(
        self, client: Client, name: str, persistent: bool, handler: str, *args: Any
    ) -> bool:
        self.asked.append(("send", handler, *args))
        return handler != "shout"


@pytest.fixture
def bench() -> Bench:
    return Bench({"app": Looking})


def test_each_change_is_asked_for_with_its_value(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared(
        "board",
        (SET, "x", {"a": 1.0}),
        (SET, "x", None),
        (DELETE, "fixed"),
        (SEND, "hear", 1.0, "b"),
        (CLEAR,),
    )
    settle()
    assert client.scope.asked == [
        ("write", "session-1", "board", False, "x", {"a": 1.0}),
        ("delete", "x"),
        ("delete", "fixed"),
        ("send", "hear", 1.0, "b"),
        ("delete", ""),
    ]
    (update,) = link.take(ObjectUpdate)
    assert update.version == 1
    assert own(client) == [DENIED, slot("fixed"), CONTENT]


@pytest.mark.parametrize(("value", "logged"), [(-1.0, 0), ("reject", 0), ("raise", 1)])
def test_what_is_refused_is_taken_back_and_the_rest_is_one_version(
    bench: Bench, value: Any, logged: int
) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "good", 1.0), (SET, "bad", value), (SEND, "shout"), (SEND, "whisper"))
    settle()
    assert len(link.take(ObjectUpdate)) == 1
    assert own(client) == [DENIED, slot("bad")]
    assert dict(client.scope.shared_object("board")) == {"good": 1.0}
    assert bench.origin.counters.handler_errors == logged
    client.shared("board", (SET, "good", 2.0))
    settle()
    assert updates(link) == [(2, [(CHANGED, "good", [2.0], client.number)])]


def test_a_message_is_applied_at_once_when_all_of_it_is_allowed(bench: Bench) -> None:
    link = bench.edge()
    one, two = user(bench, link), user(bench, link)
    gate = one.scope.gate
    gate.clear()
    one.shared("board", (SET, "x", 1.0), (SET, "y", 1.0))
    one.shared("board", (SET, "z", 1.0))
    settle()
    assert link.log == []
    two.shared("board", (DELETE, "x"), (SEND, "hear"))
    settle()
    # Another client does not wait.
    assert [type(envelope) for envelope in link.take()] == [ObjectUpdate, ObjectAnswer]
    gate.set()
    settle()
    assert [[event[1] for event in events] for _, events in updates(link)] == [["x", "y"], ["z"]]


def test_who_leaves_while_it_is_asked_changes_nothing(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.scope.gate.clear()
    client.shared("board", (SET, "x", 1.0))
    settle()
    scope = client.scope
    client.detach()
    scope.gate.set()
    settle()
    assert dict(scope.shared_object("board")) == {}


def test_an_application_that_asks_for_nothing_is_not_asked() -> None:
    class Plain(Application):
        allow_shared_objects = True

    bench = Bench({"app": Plain})
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0))
    # At once, without a greenlet.
    assert len(link.take(ObjectUpdate)) == 1
