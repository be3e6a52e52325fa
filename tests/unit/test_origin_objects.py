"""The origin: SharedObjects (FACTS 2; RTMP 1.0, 7.1.3): every slot answered, one update per edge. No sockets."""

import logging
from typing import Any

import gevent
import pytest
from gevent.event import Event as Gate
from headwater_amf import UNDEFINED, amf0
from headwater_bus.traffic import (
    ObjectClosed,
    ObjectJoined,
    ObjectLeft,
    ObjectOpened,
    ObjectUpdate,
)
from headwater_origin import Access, Application, Client, Reject, SharedObjectView
from headwater_rtmp.shared_object import EventType
from hypothesis import given, settings
from hypothesis import strategies as st
from support.origin_bench import Bench, FakeClient, FakeLink, plain, settle

USE, RELEASE, SET, DELETE = (
    EventType.USE,
    EventType.RELEASE,
    EventType.REQUEST_CHANGE,
    EventType.REQUEST_REMOVE,
)
SEND, CLEAR = EventType.SEND_MESSAGE, EventType.REQUEST_CLEAR
CHANGED, REMOVED, CLEARED, SENT = 4, 9, 8, 6
DENIED = ("STATUS", "SharedObject.NoWriteAccess", "error")


class Open(Application):
    allow_shared_objects = True
    allow_persistent_objects = True


class Reading(Application):
    """Clients read `board`, nothing else."""

    def on_start(self) -> None:
        self.board = self.shared_object("board")
        self.board.change({"x": 1.0, "y": "two"})


@pytest.fixture
def bench() -> Bench:
    return Bench({"app": Open, "read": Reading})


def user(
    bench: Bench, link: FakeLink, group: str = "app/room", name: str = "board", **how: Any
) -> FakeClient:
    """A client that uses an object; all that it and its edge were told is taken away."""
    client = bench.joined(link, group, **how)
    client.shared(name, (USE,))
    settle()
    link.take()
    return client


def updates(link: FakeLink) -> list[tuple[int, list[tuple[Any, ...]]]]:
    """Version and events, values decoded, of every update since the last time; nothing else may have been sent."""
    assert [type(envelope) for envelope in link.log] == [ObjectUpdate] * len(link.log)
    return [
        (
            envelope.version,
            [
                (kind, key, amf0.decode_all(value) if value else None, session)
                for kind, key, value, session in envelope.events
            ],
        )
        for envelope in link.take()
    ]


def own(client: FakeClient) -> list[tuple[Any, ...]]:
    """The events of the one message that is for this client alone, behind the update if there is one."""
    kinds = [type(envelope) for envelope in client.link.log]
    assert kinds in ([kinds[-1]], [ObjectUpdate, kinds[-1]])
    ((what, _, _, events),) = client.take()
    assert what == "object"
    return list(events)


# Use and release


def test_use_is_answered_with_number_and_content(bench: Bench) -> None:
    link = bench.edge()
    one, two = bench.joined(link), bench.joined(link)
    one.shared("board", (USE,))
    opened, joined = link.take()
    assert opened == ObjectOpened(opened.shared_object, "board", False)
    assert joined == ObjectJoined(one.number, opened.shared_object, 0, [])
    one.shared("board", (SET, "x", 1.0))
    link.take()
    two.shared("board", (USE,))
    assert link.take() == [
        ObjectJoined(two.number, opened.shared_object, 1, [["x", amf0.encode(1.0)]]),
    ]
    other = bench.edge()
    third = bench.joined(other)
    third.shared("board", (USE,))
    assert [type(envelope) for envelope in other.take()] == [ObjectOpened, ObjectJoined]


def test_use_again_gives_the_content_again(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0))
    link.take()
    client.shared("board", (USE,))
    assert link.take() == [ObjectJoined(client.number, 1, 1, [["x", amf0.encode(1.0)]])]
    assert bench.origin.groups["app/room"].objects.view("board", False).users == 1


def test_use_and_changes_in_one_message_keep_their_order(bench: Bench) -> None:
    link = bench.edge()
    client = bench.joined(link)
    client.shared("board", (USE,), (SET, "x", 1.0), (RELEASE,), (SET, "y", 1.0))
    settle()
    kinds = [type(envelope).__name__ for envelope in link.log]
    assert kinds == ["ObjectOpened", "ObjectJoined", "ObjectUpdate", "ObjectLeft", "ObjectClosed", "ToClient"]
    assert own_of(client) == [DENIED, ("REMOVE", "y")]


def own_of(client: FakeClient) -> list[Any]:
    return list(next(told for told in client.take() if isinstance(told, tuple))[3])


def test_release_and_the_last_user(bench: Bench) -> None:
    link = bench.edge()
    one, two = user(bench, link), user(bench, link)
    one.shared("board", (RELEASE,))
    assert link.take() == [ObjectLeft(one.number, 1)]
    one.shared("board", (RELEASE,))
    assert link.take() == []
    two.shared("board", (RELEASE,))
    assert link.take() == [ObjectLeft(two.number, 1), ObjectClosed(1)]


def test_leaving_is_a_release_that_the_edge_knows(bench: Bench) -> None:
    link = bench.edge()
    one, two = user(bench, link), user(bench, link)
    one.detach()
    assert link.take() == []
    two.detach()
    assert link.take() == [ObjectClosed(1)]
    three = bench.joined(link)
    three.shared("board", (USE,))
    assert link.take(ObjectOpened) == [ObjectOpened(2, "board", False)]


# Changes


def test_a_change_goes_once_to_every_edge_and_names_the_requester_on_its_own(bench: Bench) -> None:
    here, there = bench.edge(), bench.edge()
    one, _, _, _ = user(bench, here), user(bench, here), user(bench, there), user(bench, there)
    one.shared("board", (SET, "x", 1.0))
    assert updates(here) == [(1, [(CHANGED, "x", [1.0], one.number)])]
    assert updates(there) == [(1, [(CHANGED, "x", [1.0], 0)])]
    counters = bench.origin.counters
    assert (counters.object_commits, counters.object_updates_out) == (1, 2)


def test_a_message_is_one_commit_in_the_order_of_its_events(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    me = client.number
    client.shared(
        "board", (SET, "x", 1.0), (SEND, "hear", 5.0), (SET, "x", 2.0), (DELETE, "x"), (SET, "y", 3.0)
    )
    assert updates(link) == [
        (
            1,
            [
                (CHANGED, "x", [1.0], me),
                (SENT, "", ["hear", 5.0], me),
                (CHANGED, "x", [2.0], me),
                (REMOVED, "x", None, me),
                (CHANGED, "y", [3.0], me),
            ],
        )
    ]


def test_several_pairs_in_one_event(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    pair = b"\x00\x01y" + amf0.encode(2.0)
    client.shared("board", (SET, "x", amf0.encode(1.0) + pair))
    ((_, events),) = updates(link)
    assert [event[1:3] for event in events] == [("x", [1.0]), ("y", [2.0])]


@pytest.mark.parametrize("nothing", [b"\x05", b"\x06", b"\x11\x00", b"\x11\x01"])
def test_setting_to_nothing_deletes(bench: Bench, nothing: bytes) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0))
    link.take()
    client.shared("board", (SET, "x", nothing))
    # The value tells the edge to answer its requester with Success instead of Remove.
    (update,) = link.take()
    assert update == ObjectUpdate(1, 2, [[REMOVED, "x", nothing, client.number]])
    assert update.events[0][2]
    client.shared("board", (SET, "x", nothing))
    assert own(client) == [("SUCCESS", "x")]


def test_a_delete_has_no_value_so_that_its_requester_gets_remove(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0))
    link.take()
    client.shared("board", (DELETE, "x"))
    assert link.take() == [ObjectUpdate(1, 2, [[REMOVED, "x", b"", client.number]])]


def test_deleting_a_missing_slot_is_answered_and_no_commit(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (DELETE, "x"), (DELETE, "y"))
    assert own(client) == [("REMOVE", "x"), ("REMOVE", "y")]
    assert bench.origin.counters.object_commits == 0


def test_clear(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (CLEAR,))
    assert own(client) == [("CLEAR",)]
    client.shared("board", (SET, "x", 1.0), (SET, "y", 1.0))
    link.take()
    client.shared("board", (CLEAR,))
    assert updates(link) == [(2, [(CLEARED, "", None, client.number)])]
    client.shared("board", (USE,))
    assert link.take(ObjectJoined)[0].slots == []


def test_send_goes_to_all_and_is_no_version(bench: Bench) -> None:
    here, there = bench.edge(), bench.edge()
    client, _ = user(bench, here), user(bench, there)
    client.shared("board", (SEND, "hear", 1.0, {"a": None}))
    for link in (here, there):
        ((version, events),) = updates(link)
        assert version == 0
        assert events[0][:3] == (SENT, "", ["hear", 1.0, {"a": None}])


def test_answers_that_are_for_the_requester_alone_fit_what_is_committed_with_them() -> None:
    """Set to something denied and then to something allowed, in one message: the client must end with what the object has."""
    bench = Bench({"app": Open}, object_value_bytes=20)
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", "y" * 50), (DELETE, "z"), (SET, "x", 1.0), (SET, "z", 2.0))
    ((_, events),) = [(u.version, u.events) for u in link.take(ObjectUpdate)]
    assert [event[1] for event in events] == ["x", "z"]
    assert own(client) == [DENIED, ("CHANGE", "x", 1.0), ("CHANGE", "z", 2.0)]
    fresh = user(bench, link, name="other")
    fresh.shared("other", (CLEAR,), (SET, "x", 1.0))
    link.take(ObjectUpdate)
    assert own(fresh) == [("CLEAR",), ("CHANGE", "x", 1.0)]


def test_no_success_follows_a_commit_that_a_client_could_take_for_another_answer(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", None), (SET, "x", 1.0), (CLEAR,))
    assert own(client) == [("REMOVE", "x")]
    link.take()
    client.shared("board", (SET, "x", None), (SET, "x", 1.0))
    assert own(client) == [("CHANGE", "x", 1.0)]


def test_what_says_how_a_slot_is_comes_last() -> None:
    bench = Bench({"app": Open}, object_value_bytes=20)
    client = user(bench, bench.edge())
    client.shared("board", (SET, "y", "y" * 50), (SET, "y", None), (CLEAR,), (SET, "z", None))
    assert own(client) == [DENIED, ("SUCCESS", "y"), ("SUCCESS", "z"), ("REMOVE", "y"), ("CLEAR",)]


def test_a_value_that_no_message_may_hold_ends_its_client(bench: Bench) -> None:
    link = bench.edge()
    client, other = user(bench, link), user(bench, link)
    client.shared("board", (SET, "y", "y" * 70_000))
    assert client.codes() == ["NetConnection.Connect.Closed"]
    other.shared("board", (SET, "y", 1.0))
    assert len(link.take(ObjectUpdate)) == 1


def test_values_are_kept_as_they_came(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link, amf3=True)
    raw = [
        amf0.encode_avmplus({"a": [1, 2]}),
        amf0.encode({"a": 1.0}),
        amf0.encode("x" * 70_000)[:0] or b"\x01\x01",
    ]
    client.shared("board", *((SET, f"k{i}", value) for i, value in enumerate(raw)))
    link.take()
    user(bench, link)
    client.shared("board", (USE,))
    assert [value for _, value in link.take(ObjectJoined)[0].slots] == raw


def test_own_answers_come_in_the_clients_amf_version(bench: Bench) -> None:
    bench = Bench({"app": Open}, object_value_bytes=40)
    link = bench.edge()
    old, new = user(bench, link), user(bench, link, amf3=True)
    new.shared("board", (SET, "x", amf0.encode_avmplus([1, 2])))
    link.take()
    for client, type_id, value in (
        (old, 19, amf0.encode([1.0, 2.0])),
        (new, 16, amf0.encode_avmplus([1, 2])),
    ):
        client.shared("board", (SET, "x", "y" * 50))
        (told,) = link.take()
        assert told.type_id == type_id
        assert told.payload.endswith(b"\x00\x01x" + value)


# What a client does and sees, as the envelopes' docstrings say it

KEYS = ("x", "y", "z")
STEPS = st.one_of(
    st.tuples(st.just(SET), st.sampled_from(KEYS), st.sampled_from([1.0, 2.0, "long" * 10, None])),
    st.tuples(st.just(DELETE), st.sampled_from(KEYS)),
    st.tuples(st.just(CLEAR)),
    st.tuples(st.just(SEND), st.just("hear")),
)


class Replica:
    """A client's copy of an object. Success makes what it asked for true, the oldest first; whether answers behind an
    update settle what it asked for is left to the client (`settles`)."""

    def __init__(self, settles: bool) -> None:
        self.settles = settles
        self.slots: dict[str, Any] = {}
        self.asked: dict[str, list[Any]] = {}
        self.answers = 0

    def take(self, kind: str, key: str | None = None, value: Any = None) -> None:
        if kind == "CLEAR":
            self.slots.clear()
        elif key is not None:
            self.answers += 1
            asked = self.asked.get(key)
            if kind == "SUCCESS":
                if not asked:
                    return
                value = asked.pop(0)
            elif asked and self.settles:
                asked.pop(0)
            if kind == "REMOVE" or value is None:
                self.slots.pop(key, None)
            else:
                self.slots[key] = value


@settings(max_examples=150, deadline=None)
@given(
    st.booleans(), st.lists(st.tuples(st.integers(0, 3), st.lists(STEPS, min_size=1, max_size=6)), max_size=8)
)
def test_every_client_ends_with_what_the_object_holds_and_every_slot_is_answered(
    settles: bool,
    messages: list[tuple[int, list[Any]]],
) -> None:
    bench = Bench({"app": Open}, object_value_bytes=20, object_slots=2)
    links = [bench.edge(), bench.edge()]
    clients = [user(bench, links[i % 2], amf3=i > 1) for i in range(4)]
    replicas = {client.number: Replica(settles) for client in clients}
    shared = clients[0].scope.shared_object("board")
    for who, steps in messages:
        me = replicas[clients[who].number]
        me.answers, me.asked = 0, {}
        for kind, *rest in steps:
            if kind in (SET, DELETE):
                me.asked.setdefault(rest[0], []).append(rest[1] if kind == SET else None)
        clients[who].shared("board", *steps)
        for link in links:
            for envelope in link.take():
                if isinstance(envelope, ObjectUpdate):
                    for client in clients:
                        if client.link is link:
                            for kind, key, value, by in envelope.events:
                                deliver(replicas[client.number], kind, key, value, by == client.number)
                else:
                    assert envelope.session == clients[who].number
                    for event in plain(envelope)[3]:
                        if event[0] != "STATUS":
                            me.take(*event)
        assert me.answers >= sum(kind in (SET, DELETE) for kind, *_ in steps)
        for replica in replicas.values():
            assert replica.slots == dict(shared)
    sizes = [len(key) + len(value) for key, value in shared._shared.slots.items()]
    assert shared._shared.size_bytes == sum(sizes)


def deliver(replica: Replica, kind: int, key: str, value: bytes, mine: bool) -> None:
    """One event of an update, as the edge hands it on."""
    if kind == SENT:
        return
    if mine and (kind == CHANGED or (kind == REMOVED and value)):
        replica.take("SUCCESS", key)
    elif kind == CLEARED:
        replica.take("CLEAR")
    else:
        if mine and not replica.settles and replica.asked[key]:
            replica.asked[key].pop(0)
        replica.take("CHANGE" if kind == CHANGED else "REMOVE", key, amf0.decode(value)[0] if value else None)


# Access


def test_changes_of_who_may_only_read_are_taken_back(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link, "read/room")
    client.shared(
        "board", (SET, "x", 5.0), (SET, "new", 5.0), (DELETE, "y"), (SEND, "hear"), (SET, "x", b"\x05")
    )
    assert own(client) == [
        DENIED,
        ("CHANGE", "x", 1.0),
        ("REMOVE", "new"),
        ("CHANGE", "y", "two"),
        ("CHANGE", "x", 1.0),
    ]
    client.shared("board", (CLEAR,))
    assert own(client) == [DENIED, ("CLEAR",), ("CHANGE", "x", 1.0), ("CHANGE", "y", "two")]
    assert dict(client.scope.board) == {"x": 1.0, "y": "two"}
    assert bench.origin.counters.object_commits == 1


def test_what_the_application_did_not_make_is_not_made_by_clients(bench: Bench) -> None:
    link = bench.edge()
    client = bench.joined(link, "read/room")
    client.shared("other", (USE,))
    assert own(client) == [("STATUS", "SharedObject.ObjectCreationFailed", "error")]
    client.shared("board", (USE,), persistent=True)
    assert own(client) == [("STATUS", "SharedObject.ObjectCreationFailed", "error")]


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
    assert own(client) == [("STATUS", "SharedObject.NoReadAccess", "error")]
    client.shared("board", (SET, "x", 1.0), (DELETE, "x"), (CLEAR,), (SEND, "hear"))
    settle()
    assert own(client) == [DENIED, ("REMOVE", "x"), ("REMOVE", "x")]
    client.shared("nothing", (SET, "x", 1.0))
    settle()
    assert own(client) == [DENIED, ("REMOVE", "x")]
    client.shared("board", (RELEASE,))
    assert link.log == []


@pytest.mark.parametrize(
    ("answer", "users", "logged"),
    [
        (Access.WRITE, 1, 0),
        (Access.READ, 1, 0),
        (2, 1, 0),
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
        def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
            asked.append((client.id, name, persistent))
            if isinstance(answer, ValueError):
                raise answer
            return answer  # type: ignore[no-any-return]

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
    assert own(client) == [("STATUS", "SharedObject.ObjectCreationFailed", "error")]
    assert bench.origin.counters.handler_errors == 0


def test_a_hook_that_waits_holds_up_its_client_only_and_nobody_joins_twice() -> None:
    gate = Gate()

    class Slow(Application):
        def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
            if name == "slow":
                gate.wait()
            return Access.WRITE

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
        ObjectClosed,
        ObjectOpened,
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
            return Access.WRITE

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
    assert len(link.take(ObjectUpdate)[0].events) == 2
    assert own(client) == [DENIED, ("REMOVE", "c")]
    client.shared("board", (SET, "a", "x" * 18))  # 21 bytes
    assert own(client) == [DENIED, ("CHANGE", "a", 1.0)]
    client.shared("board", (SET, "a", "x" * 17))
    assert len(link.take(ObjectUpdate)) == 1
    client.shared("board", (SET, "b", "x" * 17))  # 2 keys and 2 x 20 bytes
    assert own(client) == [DENIED, ("CHANGE", "b", 2.0)]
    client.shared("board", (SET, "b", "x" * 15))
    assert len(link.take(ObjectUpdate)) == 1
    client.shared("board", (SET, "", 1.0))
    assert own(client) == [DENIED, ("REMOVE", "")]


def test_limits_of_a_session_and_of_a_group() -> None:
    bench = Bench({"app": Open}, objects_per_session=2, objects_per_group=3)
    link = bench.edge()
    failed = ("STATUS", "SharedObject.ObjectCreationFailed", "error")
    one, two = bench.joined(link), bench.joined(link)
    for name in ("a", "b", "c"):
        one.shared(name, (USE,))
    assert [told[3] for told in one.take() if isinstance(told, tuple)] == [[failed]]
    two.shared("c", (USE,))
    two.shared("d", (USE,))
    assert [told[3] for told in two.take() if isinstance(told, tuple)] == [[failed]]
    two.shared("a", (USE,))
    assert [type(told) for told in two.take()] == [ObjectJoined]


@pytest.mark.parametrize("name", ["", "a/../b", "a\x00", "a<b>", "a*", "a\nb"])
def test_bad_names_are_not_made(bench: Bench, name: str) -> None:
    client = bench.joined(bench.edge())
    client.shared(name, (USE,), (SET, "x", 1.0))
    assert [told[3] for told in client.take()] == [
        [("STATUS", "SharedObject.ObjectCreationFailed", "error")],
        [DENIED, ("REMOVE", "x")],
    ]


@pytest.mark.parametrize("name", ["users", "a/b", "größe", "constructor", "__proto__", "length", "x" * 256])
def test_good_names(bench: Bench, name: str) -> None:
    client = bench.joined(bench.edge())
    client.shared(name, (USE,), (SET, name, 1.0))
    assert [type(told) for told in client.link.take()] == [ObjectOpened, ObjectJoined, ObjectUpdate]


# Kinds and time


def test_persistent_and_temporary_objects_of_one_name_are_two(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (USE,), persistent=True)
    assert [type(told) for told in link.take()] == [ObjectOpened, ObjectJoined]
    client.shared("board", (SET, "x", 1.0), persistent=True)
    assert link.take() == [ObjectUpdate(2, 1, [[CHANGED, "x", amf0.encode(1.0), client.number]])]
    assert len(client.scope.shared_object("board")) == 0


def test_a_temporary_object_without_users_is_forgotten_after_a_while(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0))
    objects = bench.origin.groups["app/room"].objects
    shared = objects._objects["board", False]
    objects.tick(shared._group.clock() + 1000)
    assert len(objects._objects) == 1
    client.shared("board", (RELEASE,))
    assert shared.idle_since is not None
    objects.tick(shared.idle_since + 4.9)
    assert len(objects._objects) == 1
    objects.tick(shared.idle_since + 5.0)
    assert len(objects._objects) == 0
    link.take()
    client.shared("board", (USE,))
    assert link.take(ObjectJoined) == [ObjectJoined(client.number, 2, 0, [])]


def test_who_comes_back_in_time_finds_the_content(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0), (RELEASE,), (USE,))
    objects = bench.origin.groups["app/room"].objects
    objects.tick(objects._group.clock() + 1000)
    assert link.take(ObjectJoined)[0].slots == [["x", amf0.encode(1.0)]]


def test_persistent_objects_with_content_stay_and_keep_their_group(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    client.shared("board", (USE,), (SET, "x", 1.0), persistent=True)
    client.shared("empty", (USE,), persistent=True)
    client.detach()
    group = bench.origin.groups["app/room"]
    bench.origin.tend(group.clock() + 1000)
    assert bench.origin.groups == {"app/room": group}
    assert list(group.objects._objects) == [("board", True)]


# The application's view


@pytest.fixture
def view(bench: Bench) -> SharedObjectView:
    bench.joined(bench.edge())
    made: SharedObjectView = bench.origin.groups["app/room"].application.shared_object("board")
    return made


def test_the_view_is_a_mapping(view: SharedObjectView) -> None:
    assert dict(view) == {}
    view["x"] = 1.0
    view["y"] = {"a": [None]}
    view.update(z="three")
    assert dict(view) == {"x": 1.0, "y": {"a": [None]}, "z": "three"}
    assert ("x" in view, "w" in view, len(view), view.get("w", 5)) == (True, False, 3, 5)
    del view["x"]
    with pytest.raises(KeyError):
        del view["x"]
    with pytest.raises(KeyError):
        view["x"]
    view["y"] = None
    view["z"] = UNDEFINED
    assert dict(view) == {}
    view["never"] = None
    assert (view.version, view.name, view.users) == (6, "board", 0)
    assert repr(view) == "<SharedObjectView 'board' version 6>"


def test_changes_of_the_application_reach_every_user(bench: Bench) -> None:
    here, there = bench.edge(), bench.edge()
    client, _ = user(bench, here), user(bench, there)
    view = client.scope.shared_object("board")
    view.change({"x": 1.0, "y": 2.0, "gone": None})
    view.change({"x": None, "z": 3.0})
    view.send("hear", 5.0)
    view.clear()
    view.clear()
    view.change({})
    for link in (here, there):
        assert updates(link) == [
            (1, [(CHANGED, "x", [1.0], 0), (CHANGED, "y", [2.0], 0)]),
            (2, [(REMOVED, "x", None, 0), (CHANGED, "z", [3.0], 0)]),
            (2, [(SENT, "", ["hear", 5.0], 0)]),
            (3, [(CLEARED, "", None, 0)]),
        ]
    assert view.users == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"a": 1.0, "b": object()},
        {"a": 1.0, "": 2.0},
        {"a": 1.0, 5: 2.0},
        {"a": 1.0, "\ud800": 2.0},
        {"a": 1.0, "k" * 257: 2.0},
        {"a": 1.0, "b": "x" * 70_000},
        {"a": 1.0, "b": [0.0] * 20_000},
    ],
    ids=["no form", "empty", "number", "surrogate", "long key", "big", "many parts"],
)
def test_a_change_that_is_refused_changes_nothing(view: SharedObjectView, changes: Any) -> None:
    view.change({"a": "old", "z": 0.0})
    with pytest.raises(ValueError, match=r"\w"):
        view.change(changes)
    assert dict(view) == {"a": "old", "z": 0.0}
    assert view.version == 1


def test_a_refused_change_of_a_nearly_full_object_is_taken_back() -> None:
    bench = Bench({"app": Open}, object_total_bytes=100)
    bench.joined(bench.edge())
    view = bench.origin.groups["app/room"].application.shared_object("board")
    view.change({"a": "x" * 60, "b": 1.0})
    with pytest.raises(ValueError, match="at most 100 bytes"):
        view.change({"a": None, "c": "x" * 60, "d": "x" * 60})
    assert dict(view) == {"a": "x" * 60, "b": 1.0}
    assert view._shared.size_bytes == 1 + 63 + 1 + 9
    view.change({"a": None, "c": "x" * 60})
    assert sorted(view) == ["b", "c"]


def test_a_send_that_edges_could_not_write_is_refused(view: SharedObjectView) -> None:
    for arguments in ((object(),), ([0.0] * 20_000,)):
        with pytest.raises(ValueError, match=r"\w"):
            view.send("hear", *arguments)


@pytest.mark.parametrize("name", ["", "a*", "..", 5, "\ud800"])
def test_the_application_cannot_make_objects_with_bad_names(
    view: SharedObjectView, name: Any, bench: Bench
) -> None:
    with pytest.raises(ValueError, match="name"):
        bench.origin.groups["app/room"].application.shared_object(name)


def test_objects_of_the_application_are_kept_without_users(view: SharedObjectView, bench: Bench) -> None:
    view["x"] = 1.0
    objects = bench.origin.groups["app/room"].objects
    objects.tick(objects._group.clock() + 1000)
    assert bench.origin.groups["app/room"].application.shared_object("board")["x"] == 1.0


def test_iteration_bears_changes(view: SharedObjectView) -> None:
    view.change({"a": 1.0, "b": 2.0})
    for key in view:
        del view[key]
    assert len(view) == 0
