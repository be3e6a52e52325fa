"""The origin: what clients end with, the edge's own `ObjectFanout` carrying out what the origin says."""

from typing import Any

from headwater_bus.rows import unpack_rows
from headwater_bus.traffic import (
    ObjectAnswer,
    ObjectJoined,
    ObjectOpened,
    ObjectUpdate,
)
from headwater_edge.counters import Counters
from headwater_edge.objects import ObjectFanout
from headwater_rtmp.shared_object import decode_shared_object
from hypothesis import given, settings
from hypothesis import strategies as st
from support.edge import CHUNK_SIZE, messages_in
from support.object_bench import CLEAR, DELETE, SEND, SET, USE, Open, events_of
from support.origin_bench import Bench, FakeClient, FakeLink, plain_event

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
