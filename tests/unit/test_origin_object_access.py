"""The origin: who may read, write and make SharedObjects, and the limits of them. No sockets."""

import logging
from typing import Any

import gevent
import pytest
from gevent.event import Event as Gate
from headwater_bus.object_traffic import ObjectJoined, ObjectLeft, ObjectOpened, ObjectUpdate
from headwater_origin import Access, Application, Client, Reject
from support.object_bench import (
    CLEAR,
    CONTENT,
    DELETE,
    DENIED,
    FAILED,
    NO_WRITE,
    RELEASE,
    SEND,
    SET,
    USE,
    Open,
    Reading,
    events_of,
    own,
    refused,
    slot,
    user,
)
from support.origin_bench import Bench, settle


@pytest.fixture
def bench() -> Bench:
    return Bench({"app": Open, "read": Reading})


# Access


def test_changes_of_who_may_only_read_are_taken_back(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link, "read/room")
    client.shared(
        "board", (SET, "x", 5.0), (SET, "new", 5.0), (DELETE, "y"), (SEND, "hear"), (SET, "x", b"\x05")
    )
    assert own(client) == [
        DENIED,
        slot("x"),
        slot("new"),
        slot("y"),
    ]
    client.shared("board", (CLEAR,))
    assert own(client) == [DENIED, CONTENT]
    assert dict(client.scope.board) == {"x": 1.0, "y": "two"}
    assert bench.origin.counters.object_commits == 1


def test_what_the_application_did_not_make_is_not_made_by_clients(bench: Bench) -> None:
    link = bench.edge()
    client = bench.joined(link, "read/room")
    client.shared("other", (USE,))
    assert refused(client) == [FAILED]
    client.shared("board", (USE,), persistent=True)
    assert refused(client) == [FAILED]


class Secret(Application):
    def on_start(self) -> None:
        self.shared_object("board")["x"] = "secret"

    def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
        return Access.NONE


def test_who_may_not_read_sees_nothing_of_the_content() -> None:
    bench = Bench({"app": Secret})
    link = bench.edge()
    client = bench.joined(link)
    client.shared("board", (USE,))
    settle()
    assert refused(client) == [("STATUS", "SharedObject.NoReadAccess", "error")]
    client.shared("board", (SET, "x", 1.0), (DELETE, "x"), (CLEAR,), (SEND, "hear"))
    settle()
    assert refused(client) == [NO_WRITE, ("REMOVE", "x")]
    client.shared("nothing", (SET, "x", 1.0))
    settle()
    assert refused(client) == [NO_WRITE, ("REMOVE", "x")]
    client.shared("board", (RELEASE,))
    assert link.log == []


@pytest.mark.parametrize(
    ("answer", "users", "logged"),
    [
        (Access.ALL, 1, 0),
        (Access.READ | Access.CREATE, 1, 0),
        (31, 1, 0),
        (Access.READ | Access.WRITE | Access.DELETE | Access.SEND, 0, 0),
        (Access.NONE, 0, 0),
        (Reject("no"), 0, 0),
        (None, 0, 1),
        ("all", 0, 1),
        (ValueError("x"), 0, 1),
    ],
)
def test_answers_of_shared_object_access(
    answer: Any, users: int, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Any] = []

    class Asked(Application):
        def shared_object_access(self, client: Client, name: str, persistent: bool) -> Any:
            asked.append((client.id, name, persistent))
            if isinstance(answer, ValueError):
                raise answer
            return answer

    bench = Bench({"app": Asked})
    client = bench.joined(bench.edge())
    client.shared("board", (USE,), persistent=True)
    client.shared("board", (USE,), persistent=True)
    settle()
    assert asked[0] == ("session-1", "board", True)
    assert len(asked) == (1 if users else 2)
    assert client.scope.shared_object("board", persistent=True).users == users
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == logged * 2


def test_a_raised_reject_is_no_access() -> None:
    class Rejecting(Application):
        def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
            raise Reject("no")

    bench = Bench({"app": Rejecting})
    client = bench.joined(bench.edge())
    client.shared("board", (USE,))
    settle()
    assert refused(client) == [FAILED]
    assert bench.origin.counters.handler_errors == 0


def test_a_hook_that_waits_holds_up_its_client_only_and_nobody_joins_twice() -> None:
    gate = Gate()

    class Slow(Application):
        def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
            if name == "slow":
                gate.wait()
            return Access.ALL

    bench = Bench({"app": Slow})
    link = bench.edge()
    one, gone = bench.joined(link), bench.joined(link)
    one.shared("slow", (USE,), (RELEASE,), (USE,), (SET, "x", 1.0))
    one.shared("slow", (SET, "y", 1.0))
    gone.shared("slow", (USE,))
    settle()
    other = user(bench, link)
    other.shared("board", (SET, "x", 1.0))
    assert len(link.take(ObjectUpdate)) == 1
    assert link.log == []
    gone.detach()
    gate.set()
    settle()
    assert [type(envelope) for envelope in link.take()] == [
        ObjectOpened,
        ObjectJoined,
        ObjectLeft,
        ObjectJoined,
        ObjectUpdate,
        ObjectUpdate,
    ]


def test_using_an_object_anew_asks_anew_and_does_not_hold_up_the_link() -> None:
    link_greenlet = gevent.getcurrent()
    asked: list[bool] = []

    class Asked(Application):
        def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
            asked.append(gevent.getcurrent() is link_greenlet)
            return Access.ALL

    bench = Bench({"app": Asked})
    client = user(bench, bench.edge())
    client.shared("board", (RELEASE,), (USE,))
    settle()
    assert asked == [False, False]


# Limits


def test_limits_of_an_object_deny_the_slot_and_keep_the_rest() -> None:
    bench = Bench({"app": Open}, object_slots=2, object_value_bytes=20, object_total_bytes=40)
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "a", 1.0), (SET, "b", 2.0), (SET, "c", 3.0))
    assert len(events_of(link.take(ObjectUpdate)[0])) == 2
    assert own(client) == [DENIED, slot("c")]
    client.shared("board", (SET, "a", "x" * 18))  # 21 bytes
    assert own(client) == [DENIED, slot("a")]
    client.shared("board", (SET, "a", "x" * 17))
    assert len(link.take(ObjectUpdate)) == 1
    client.shared("board", (SET, "b", "x" * 17))  # 2 keys and 2 x 20 bytes
    assert own(client) == [DENIED, slot("b")]
    client.shared("board", (SET, "b", "x" * 15))
    assert len(link.take(ObjectUpdate)) == 1
    client.shared("board", (SET, "", 1.0))
    assert own(client) == [DENIED, slot("")]


def test_limits_of_a_session_and_of_a_group() -> None:
    bench = Bench({"app": Open}, objects_per_session=2, objects_per_group=3)
    link = bench.edge()
    one, two = bench.joined(link), bench.joined(link)
    for name in ("a", "b", "c"):
        one.shared(name, (USE,))
    assert [told[3] for told in one.take() if isinstance(told, tuple)] == [[FAILED]]
    two.shared("c", (USE,))
    two.shared("d", (USE,))
    assert [told[3] for told in two.take() if isinstance(told, tuple)] == [[FAILED]]
    two.shared("a", (USE,))
    assert [type(told) for told in two.take()] == [ObjectJoined]


@pytest.mark.parametrize("name", ["", "a/../b", "a\x00", "a<b>", "a*", "a\nb"])
def test_bad_names_are_not_made(bench: Bench, name: str) -> None:
    client = bench.joined(bench.edge())
    client.shared(name, (USE,), (SET, "x", 1.0))
    assert [told[3] for told in client.take()] == [
        [FAILED],
        [NO_WRITE, ("REMOVE", "x")],
    ]


@pytest.mark.parametrize("name", ["users", "a/b", "größe", "constructor", "__proto__", "length", "x" * 256])
def test_good_names(bench: Bench, name: str) -> None:
    client = bench.joined(bench.edge())
    client.shared(name, (USE,), (SET, name, 1.0))
    assert [type(told) for told in client.link.take()] == [ObjectOpened, ObjectJoined, ObjectUpdate]
