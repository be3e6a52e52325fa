"""The origin: what clients end with, the edge's own `ObjectFanout` carrying out what the origin says."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.object_bench import CLEAR, DELETE, SEND, SET, USE, Open
from support.object_edges import Copy, EdgeSide
from support.origin_bench import Bench, FakeClient

# What a client does and sees, as the envelopes' docstrings say it

KEYS = ("x", "y", "z")
STEPS = st.one_of(
    st.tuples(st.just(SET), st.sampled_from(KEYS), st.sampled_from([1.0, 2.0, "long" * 10, None])),
    st.tuples(st.just(DELETE), st.sampled_from(KEYS)),
    st.tuples(st.just(CLEAR)),
    st.tuples(st.just(SEND), st.just("hear")),
)


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
    replicas: list[Copy] = []

    def join(number: int) -> None:
        edge = edges[number % 2]
        client = bench.joined(edge.link, amf3=number > 1)
        edge.carry_out()
        clients.append(client)
        replicas.append(Copy(client, settles, number > 1))
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
        assert edge.fanout.slots.rows() == shared._target.content.rows()
    content = shared._target.content
    assert content.size_bytes == sum(len(key) + len(value) for key, value in content.values.items())
