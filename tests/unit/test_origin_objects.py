"""The origin: SharedObjects (FACTS 2; RTMP 1.0, 7.1.3): every slot answered, one update per edge. No sockets.

Where it matters what clients end with, the edge's own `ObjectFanout` carries out what the origin says.
"""

import logging
from typing import Any

import gevent
import pytest
from gevent.event import Event as Gate
from headwater_amf import UNDEFINED, amf0
from headwater_bus.codec import Codec
from headwater_bus.rows import pack_rows, unpack_rows
from headwater_bus.traffic import (
    TRAFFIC,
    ObjectAnswer,
    ObjectClosed,
    ObjectJoined,
    ObjectLeft,
    ObjectOpened,
    ObjectUpdate,
)
from headwater_edge.counters import Counters
from headwater_edge.objects import ObjectFanout
from headwater_origin import Access, Application, Client, Reject, SharedObjectView, shared_object
from headwater_rtmp.shared_object import EventType, decode_shared_object
from hypothesis import given, settings
from hypothesis import strategies as st
from support.edge import CHUNK_SIZE, messages_in
from support.origin_bench import Bench, FakeClient, FakeLink, plain_event, settle

USE, RELEASE, SET, DELETE = (
    EventType.USE,
    EventType.RELEASE,
    EventType.REQUEST_CHANGE,
    EventType.REQUEST_REMOVE,
)
SEND, CLEAR = EventType.SEND_MESSAGE, EventType.REQUEST_CLEAR
CHANGED, REMOVED, CLEARED, SENT = 4, 9, 8, 6
DENIED = ("STATUS", "SharedObject.NoWriteAccess")
CONTENT = ("CONTENT",)
"""Clear and all slots, as the edge has them."""
FAILED = ("STATUS", "SharedObject.ObjectCreationFailed", "error")
NO_WRITE = (*DENIED, "error")
MIB = 1024 * 1024


def slot(key: str) -> tuple[str, str]:
    """An answer: the slot as the edge has it."""
    return ("SLOT", key)


def rows(*made: tuple[Any, ...]) -> bytes:
    return pack_rows(made)


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
                (kind, key, amf0.decode_all(value) if value else None, envelope.session)
                for kind, key, value in events_of(envelope)
            ],
        )
        for envelope in link.take()
    ]


def events_of(update: ObjectUpdate) -> list[list[Any]]:
    return unpack_rows(update.payload, int, str, bytes)


def own(client: FakeClient) -> list[tuple[Any, ...]]:
    """The one answer that is for this client alone, behind the update if there is one."""
    kinds = [type(envelope) for envelope in client.link.log]
    assert kinds in ([ObjectAnswer], [ObjectUpdate, ObjectAnswer])
    (answer,) = client.link.take(ObjectAnswer)
    client.take()
    assert answer.session == client.number
    words = {7: "STATUS", 5: "SUCCESS", 9: "SLOT", 8: "CONTENT"}
    return [
        (words[kind], text) if text or kind != 8 else CONTENT
        for kind, text in unpack_rows(answer.payload, int, str)
    ]


def refused(client: FakeClient) -> list[tuple[Any, ...]]:
    """The events of the one message to a client that does not use the object."""
    ((what, _, _, events),) = client.take()
    assert what == "object"
    return list(events)


def content(bench: Bench, group: str = "app/room", name: str = "board") -> dict[str, bytes]:
    """What an edge that opens the object is told."""
    link = bench.edge()
    client = bench.joined(link, group)
    client.shared(name, (USE,))
    settle()
    (opened,) = link.take(ObjectOpened)
    return dict(unpack_rows(opened.payload, str, bytes))


def idle(bench: Bench, seconds: float, group: str = "app/room") -> None:
    """So much time passes for the objects of a group."""
    made = bench.origin.groups[group]
    made.objects.tick(made.clock() + seconds)


def link_bytes(envelopes: list[Any]) -> int:
    return sum(map(len, Codec(TRAFFIC).pack(envelopes)))


# Use and release


def test_use_is_answered_with_number_and_content(bench: Bench) -> None:
    link = bench.edge()
    one, two = bench.joined(link), bench.joined(link)
    one.shared("board", (USE,))
    opened, joined = link.take()
    assert opened == ObjectOpened(opened.shared_object, "board", False, 0, rows())
    assert joined == ObjectJoined(one.number, opened.shared_object)
    one.shared("board", (SET, "x", 1.0))
    link.take()
    two.shared("board", (USE,))
    assert link.take() == [ObjectJoined(two.number, opened.shared_object)]
    other = bench.edge()
    third, fourth = bench.joined(other), bench.joined(other)
    third.shared("board", (USE,))
    fourth.shared("board", (USE,))
    opened, *joined = other.take()
    assert opened == ObjectOpened(opened.shared_object, "board", False, 1, rows(("x", amf0.encode(1.0))))
    assert joined == [ObjectJoined(client.number, opened.shared_object) for client in (third, fourth)]


def test_use_again_is_a_join_again(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0))
    link.take()
    client.shared("board", (USE,))
    assert link.take() == [ObjectJoined(client.number, 1)]
    assert bench.origin.groups["app/room"].objects.view("board", False).users == 1


def test_many_uses_in_one_message_are_one(bench: Bench) -> None:
    link = bench.edge()
    filled(bench)
    client = bench.joined(link)
    client.shared("board", *[(USE,)] * 200, (SET, "x", 1.0), *[(USE,)] * 50)
    assert [type(envelope) for envelope in link.log] == [ObjectOpened, ObjectJoined, ObjectUpdate]
    link.take()
    client.shared("board", *[(USE,)] * 200)
    assert link.take() == [ObjectJoined(client.number, 1)]


def filled(bench: Bench, total: int = 900_000) -> FakeClient:
    """A user, on an edge of its own, of an object with so much content."""
    client = user(bench, bench.edge())
    for number in range(total // 60_000):
        client.shared("board", (SET, f"big{number}", "b" * 59_900))
    client.link.take()
    return client


def test_the_content_crosses_a_link_once_however_many_join(bench: Bench) -> None:
    filled(bench)
    link = bench.edge()
    clients = [bench.joined(link) for _ in range(70)]
    for client in clients:
        client.shared("board", (USE,))
    assert link_bytes(link.take()) < 1_000_000


def test_coming_and_going_does_not_send_the_content_again(bench: Bench) -> None:
    filled(bench)
    link = bench.edge()
    client = bench.joined(link)
    for _ in range(20):
        client.shared("board", *[(USE,), (RELEASE,)] * 100)
    assert len(link.take(ObjectOpened)) == 1
    assert ObjectClosed not in map(type, link.take())


def test_an_edge_that_has_much_to_take_gets_no_more_content(bench: Bench) -> None:
    filled(bench)
    link = bench.edge()
    one, two = bench.joined(link), bench.joined(link)
    link.queued_bytes = 64 * MIB - 800_000
    one.shared("board", (USE,))
    assert refused(one) == [FAILED]
    link.queued_bytes = 64 * MIB - 1_000_000
    one.shared("board", (USE,))
    assert [type(envelope) for envelope in link.take()] == [ObjectOpened, ObjectJoined]
    link.queued_bytes = 100 * MIB
    two.shared("board", (USE,))
    assert link.take() == [ObjectJoined(two.number, 1)]


def test_use_and_changes_in_one_message_keep_their_order(bench: Bench) -> None:
    link = bench.edge()
    client = bench.joined(link)
    client.shared("board", (USE,), (SET, "x", 1.0), (RELEASE,), (SET, "y", 1.0))
    settle()
    kinds = [type(envelope).__name__ for envelope in link.log]
    assert kinds == ["ObjectOpened", "ObjectJoined", "ObjectUpdate", "ObjectLeft", "ToClient"]
    assert refused_in(client) == [NO_WRITE, ("REMOVE", "y")]


def refused_in(client: FakeClient) -> list[Any]:
    return list(next(told for told in client.take() if isinstance(told, tuple))[3])


def test_release_and_the_last_user(bench: Bench) -> None:
    link = bench.edge()
    one, two = user(bench, link), user(bench, link)
    one.shared("board", (RELEASE,))
    assert link.take() == [ObjectLeft(one.number, 1)]
    one.shared("board", (RELEASE,))
    assert link.take() == []
    two.shared("board", (RELEASE,))
    assert link.take() == [ObjectLeft(two.number, 1)]
    idle(bench, 4.5)
    assert link.take() == []
    idle(bench, 5.5)
    assert link.take() == [ObjectClosed(1)]
    idle(bench, 50.0)
    assert link.take() == []


def test_leaving_is_a_release_that_the_edge_knows(bench: Bench) -> None:
    link, other = bench.edge(), bench.edge()
    one, two, _ = user(bench, link), user(bench, link), user(bench, other)
    one.detach()
    two.detach()
    assert link.take() == []
    three = bench.joined(link)
    three.shared("board", (USE,))
    assert link.take() == [ObjectJoined(three.number, 1)]
    idle(bench, 50.0)
    assert link.take() == []
    three.detach()
    idle(bench, 50.0)
    assert link.take() == [ObjectClosed(1)]
    assert other.take() == []
    four = bench.joined(link)
    four.shared("board", (USE,))
    assert link.take(ObjectOpened) == [ObjectOpened(2, "board", False, 0, rows())]


def test_an_edge_whose_users_left_gets_the_updates_until_its_replica_is_freed(bench: Bench) -> None:
    link = bench.edge()
    one, two = user(bench, link), user(bench, bench.edge())
    one.detach()
    two.shared("board", (SET, "x", 1.0))
    assert updates(link) == [(1, [(CHANGED, "x", [1.0], 0)])]
    idle(bench, 50.0)
    link.take()
    two.shared("board", (SET, "x", 2.0))
    assert link.take() == []


def test_a_group_that_stops_leaves_no_replica_behind(bench: Bench) -> None:
    here, there = bench.edge(), bench.edge()
    one, _ = user(bench, here), user(bench, there)
    one.shared("board", (RELEASE,))
    here.take()
    bench.origin.groups["app/room"].close("moved")
    settle()
    assert here.take(ObjectClosed) == there.take(ObjectClosed) == [ObjectClosed(1)]


def test_replicas_are_freed_before_their_group_is_dropped() -> None:
    bench = Bench({"app": Open}, object_linger_s=60.0, group_linger_s=10.0)
    link = bench.edge()
    client = user(bench, link)
    client.detach()
    group = bench.origin.groups["app/room"]
    bench.origin.tend(group.clock() + 10.5)
    assert bench.origin.groups == {}
    assert link.take() == [ObjectClosed(1)]


def test_a_commit_is_packed_once_for_all_edges(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = user(bench, bench.edge()), [user(bench, bench.edge()) for _ in range(3)]
    packed: list[Any] = []
    monkeypatch.setattr(shared_object, "pack_rows", lambda made: (packed.append(made), pack_rows(made))[1])  # type: ignore[func-returns-value]  # an act and a value in one expression
    client.shared("board", (SET, "x", 1.0))
    assert packed == [[(CHANGED, "x", amf0.encode(1.0))]]


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
    assert update == ObjectUpdate(1, 2, client.number, rows((REMOVED, "x", nothing)))
    client.shared("board", (SET, "x", nothing))
    assert own(client) == [("SUCCESS", "x")]


def test_a_delete_has_no_value_so_that_its_requester_gets_remove(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0))
    link.take()
    client.shared("board", (DELETE, "x"))
    assert link.take() == [ObjectUpdate(1, 2, client.number, rows((REMOVED, "x", b"")))]


def test_deleting_a_missing_slot_is_answered_and_no_commit(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (DELETE, "x"), (DELETE, "y"))
    assert own(client) == [slot("x"), slot("y")]
    assert bench.origin.counters.object_commits == 0


def test_clear(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (CLEAR,))
    assert own(client) == [CONTENT]
    client.shared("board", (SET, "x", 1.0), (SET, "y", 1.0))
    link.take()
    client.shared("board", (CLEAR,))
    assert updates(link) == [(2, [(CLEARED, "", None, client.number)])]
    assert content(bench) == {}


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
    (update,) = link.take(ObjectUpdate)
    assert [event[1] for event in events_of(update)] == ["x", "z"]
    assert own(client) == [DENIED, slot("x"), slot("z")]
    fresh = user(bench, link, name="other")
    fresh.shared("other", (CLEAR,), (SET, "x", 1.0))
    link.take(ObjectUpdate)
    assert own(fresh) == [CONTENT]


def test_no_success_follows_a_commit_that_a_client_could_take_for_another_answer(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", None), (SET, "x", 1.0), (CLEAR,))
    assert own(client) == [slot("x")]
    link.take()
    client.shared("board", (SET, "x", None), (SET, "x", 1.0))
    assert own(client) == [slot("x")]


def test_what_says_how_a_slot_is_comes_last() -> None:
    bench = Bench({"app": Open}, object_value_bytes=20)
    client = user(bench, bench.edge())
    client.shared("board", (SET, "y", "y" * 50), (SET, "y", None), (CLEAR,), (SET, "z", None))
    assert own(client) == [DENIED, ("SUCCESS", "y"), ("SUCCESS", "z"), slot("y"), CONTENT]


def test_a_message_is_answered_once_for_each_slot_and_never_with_content(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link, "read/room")
    made = bench.origin.groups["read/room"].application.shared_object("board")
    made.change({f"big{number}": "b" * 59_000 for number in range(15)})
    link.take()
    client.shared("board", *[(CLEAR,)] * 200)
    assert link_bytes(link.log) < 200
    assert own(client) == [DENIED, CONTENT]
    client.shared("board", *[(SET, f"big{number % 15}", 1.0) for number in range(200)], (DELETE, "big3"))
    assert link_bytes(link.log) < 400
    assert own(client) == [DENIED, *(slot(f"big{number}") for number in range(15))]
    assert bench.origin.counters.object_changes_refused == 401


def test_who_does_not_use_the_object_is_answered_once_for_each_slot(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    client.shared("board", *[(SET, key, 1.0) for key in "xyxyxyxy"], (DELETE, "x"), (CLEAR,))
    assert refused(client) == [NO_WRITE, ("REMOVE", "x"), ("REMOVE", "y")]


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
    assert list(content(bench).values()) == raw


# What a client does and sees, as the envelopes' docstrings say it

KEYS = ("x", "y", "z")
STEPS = st.one_of(
    st.tuples(st.just(SET), st.sampled_from(KEYS), st.sampled_from([1.0, 2.0, "long" * 10, None])),
    st.tuples(st.just(DELETE), st.sampled_from(KEYS)),
    st.tuples(st.just(CLEAR)),
    st.tuples(st.just(SEND), st.just("hear")),
)


class Replica:
    """A client and its copy of an object. Success makes what it asked for true, the oldest first; whether answers behind an
    update settle what it asked for is left to the client (`settles`)."""

    def __init__(self, settles: bool, session: int, amf3: bool) -> None:
        self.settles, self.session, self.amf3 = settles, session, amf3
        self.closed = self.objects_full = False
        self.slots: dict[str, Any] = {}
        self.asked: dict[str, list[Any]] = {}
        self.answered: set[str] = set()
        self.in_update = False

    def enqueue(self, data: bytes) -> None:
        (message,) = messages_in(data)
        for event in decode_shared_object(message).events:
            kind, *rest = plain_event(event)
            if kind not in ("STATUS", "SEND_MESSAGE"):
                self.take(kind, *rest)

    def take(self, kind: str, key: str | None = None, value: Any = None) -> None:
        if kind == "CLEAR":
            self.slots.clear()
        elif key is not None:
            self.answered.add(key)
            asked = self.asked.get(key)
            if kind == "SUCCESS":
                if not asked:
                    return
                value = asked.pop(0)
            elif asked and (self.settles or self.in_update):
                asked.pop(0)
            if kind == "REMOVE" or value is None:
                self.slots.pop(key, None)
            else:
                self.slots[key] = value


class EdgeSide:
    """The edge's end of a link, as far as one object is concerned."""

    def __init__(self, link: FakeLink) -> None:
        self.link = link
        self.clients: dict[int, Replica] = {}
        self.fanout: ObjectFanout | None = None

    def carry_out(self) -> None:
        for envelope in self.link.take():
            if isinstance(envelope, ObjectOpened):
                slots = dict(unpack_rows(envelope.payload, str, bytes))
                self.fanout = ObjectFanout("board", False, envelope.version, slots, CHUNK_SIZE, Counters())
                continue
            assert self.fanout is not None
            if isinstance(envelope, ObjectJoined):
                self.fanout.join(envelope.session, self.clients[envelope.session])  # type: ignore[arg-type]  # all that it needs of a Client
            elif isinstance(envelope, ObjectUpdate):
                if envelope.session:
                    self.clients[envelope.session].in_update = True
                self.fanout.update(envelope.version, envelope.session, events_of(envelope))
                if envelope.session:
                    self.clients[envelope.session].in_update = False
            else:
                assert isinstance(envelope, ObjectAnswer)
                self.fanout.answer(envelope.session, unpack_rows(envelope.payload, int, str))


@settings(max_examples=150, deadline=None)
@given(
    st.booleans(), st.lists(st.tuples(st.integers(0, 3), st.lists(STEPS, min_size=1, max_size=6)), max_size=8)
)
def test_every_client_ends_with_what_the_object_holds_and_every_slot_is_answered(
    settles: bool,
    messages: list[tuple[int, list[Any]]],
) -> None:
    bench = Bench({"app": Open}, object_value_bytes=20, object_slots=2)
    edges = [EdgeSide(bench.edge()), EdgeSide(bench.edge())]
    clients: list[FakeClient] = []
    replicas: list[Replica] = []

    def join(number: int) -> None:
        edge = edges[number % 2]
        client = bench.joined(edge.link, amf3=number > 1)
        edge.carry_out()
        clients.append(client)
        replicas.append(Replica(settles, client.number, number > 1))
        edge.clients[client.number] = replicas[-1]
        client.shared("board", (USE,))

    join(0)
    join(1)
    shared = clients[0].scope.shared_object("board")
    for who, steps in messages:
        if who >= len(clients):
            join(len(clients))
            who = len(clients) - 1
        me = replicas[who]
        for edge in edges:
            edge.carry_out()
        me.asked = {}
        me.answered.clear()
        for kind, *rest in steps:
            if kind in (SET, DELETE):
                me.asked.setdefault(rest[0], []).append(rest[1] if kind == SET else None)
        keys = set(me.asked)
        clients[who].shared("board", *steps)
        for edge in edges:
            edge.carry_out()
        assert keys <= me.answered
        for replica in replicas:
            assert replica.slots == dict(shared)
    for edge in edges:
        edge.carry_out()
        assert edge.fanout is not None
        assert (edge.fanout.version, edge.fanout.slots) == (shared.version, shared._shared.slots)
    sizes = [len(key) + len(value) for key, value in shared._shared.slots.items()]
    assert shared._shared.size_bytes == sum(sizes)


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


# Kinds and time


def test_persistent_and_temporary_objects_of_one_name_are_two(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (USE,), persistent=True)
    assert [type(told) for told in link.take()] == [ObjectOpened, ObjectJoined]
    client.shared("board", (SET, "x", 1.0), persistent=True)
    assert link.take() == [ObjectUpdate(2, 1, client.number, rows((CHANGED, "x", amf0.encode(1.0))))]
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
    assert link.take() == [ObjectOpened(2, "board", False, 0, rows()), ObjectJoined(client.number, 2)]


def test_who_comes_back_in_time_finds_the_content(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0), (RELEASE,), (USE,))
    objects = bench.origin.groups["app/room"].objects
    objects.tick(objects._group.clock() + 1000)
    assert ObjectClosed not in map(type, link.take())
    assert content(bench) == {"x": amf0.encode(1.0)}


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
    for arguments in ((object(),), ([0.0] * 20_000,), ("x" * 65_500, "y" * 100)):
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
