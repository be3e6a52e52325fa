"""RTMPT sessions that go from edge to edge, while edges die or hang, links are lost, answers do not come through, and the journal
commits when it likes: each client has heard everything of its objects, once and in order, is told that what it asked for was done
once, has each answer once, and is not closed. In the end replicas are what the object is, and nothing is kept of who has left.

Real edges and a real origin; what is between them, and the store, moves when a step says so.
"""

from itertools import islice, product
from typing import Any

from headwater_edge.objects import ObjectFanout
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.resuming_edges import GROUP
from support.roaming_clients import Roamer
from support.roaming_steps import BETWEEN, CRASHES, MANY_TIMES, WHERE, WHO, faults, requests, step
from support.roaming_truth import Truth
from support.roaming_world import RoamingWorld, roaming

MOST_WAYS = 20
KEYS = st.sampled_from(["x", "y"])
EVENTS = st.one_of(
    st.tuples(st.just("set"), KEYS),
    st.tuples(st.just("set"), KEYS),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("clear")),
    st.tuples(st.just("say")),
)
WHAT = st.sampled_from([0, 0, 0, 1])
ASKED = (
    st.tuples(st.just("ask"), WHO, WHAT, st.lists(EVENTS, min_size=1, max_size=2)),
    st.tuples(st.just("ask"), WHO, WHAT, st.lists(EVENTS, min_size=1, max_size=2)),
    st.tuples(st.just("turn"), WHO, WHAT, st.lists(EVENTS, max_size=1)),
    st.tuples(st.just("call"), WHO, st.sampled_from(["tell", "whisper", "echo", "told"])),
)
STEPS = st.one_of(
    *ASKED, *requests(WHO), *BETWEEN, faults(WHERE), st.tuples(st.sampled_from(["time", "time"]))
)
WITH_CRASHES = st.one_of(STEPS, STEPS, STEPS, *CRASHES)


CLOSED = [
    ("turn", 0, 0, [("set", "y")]),
    ("exchange", 0, 0),
    ("rise", 0, 3),
    ("time",),
    ("ask", 1, 0, [("say",)]),
    ("exchange", 1, 0),
]
"""A replica is closed while a session takes it up that another edge had; what it is told just before is not what it has said that
it has."""
FORGOTTEN = [
    ("turn", 2, 0, [("say",)]),
    ("lose", 1),
    ("later", 1),
    ("exchange", 0, 1),
    ("hang", 1),
    ("call", 0, "echo"),
    ("exchange", 0, 1),
    ("flow", 1),
    ("call", 1, "whisper"),
    ("exchange", 0, 0),
    ("ask", 0, 0, [("say",), ("set", "x")]),
    ("exchange", 1, 1),
    ("exchange", 2, 1),
    ("post", 1, 0, True),
]
"""An edge has said that it has a replica, and forgets it with its last member, before the origin says that it goes on; a session
joins it before its content is there."""
USED_BETWEEN_COMMITS = [
    ("turn", 0, 0, []),
    ("turn", 0, 0, []),
    ("turn", 0, 0, [("set", "y")]),
    ("turn", 0, 0, []),
    ("exchange", 0, 0),
    ("ask", 0, 0, [("set", "y")]),
    ("hang", 1),
    ("exchange", 0, 1),
    ("post", 0, 0, True),
    ("serve", 0),
    ("flow", 0),
]
"""To use an object is no commit; the next message is one, and so it is not done again. Its edge knows, and has not stored it."""
OLD_COPY = [
    ("exchange", 2, 1),
    ("post", 2, 0, False),
    ("exchange", 2, 1),
    ("call", 2, "whisper"),
    ("exchange", 2, 1),
    ("call", 2, "tell"),
    ("post", 2, 1, True),
    ("exchange", 1, 0),
    ("exchange", 0, 1),
    ("call", 2, "echo"),
    ("call", 2, "tell"),
    ("exchange", 2, 0),
]
"""An old copy of a request, for which nobody waits, takes a session over; its edge loses it again before the next one comes."""
TOLD_BY_A_FORMER_EDGE = [
    ("ask", 1, 0, [("set", "y")]),
    ("exchange", 1, 0),
    ("exchange", 1, 1),
    ("rise", 1, 100),
    ("crash",),
    ("flow", 1),
]
"""A former edge tells the next origin what a session has asked for, before the one that has it."""


def check(world: RoamingWorld) -> None:
    """Everything has arrived."""
    truth = Truth(world.journals.entries)
    said = [
        event[1] for done in truth.done.values() for one in done for event in one.events if event[0] == "send"
    ]
    made = [
        event[2]
        for done in truth.done.values()
        for one in done
        for event in one.events
        if event[0] == "change"
    ]
    assert sorted(said) == world.said
    assert sorted(made) == world.made
    assert sorted({word for _, word, _ in truth.words}) == world.words
    for client in world.clients:
        check_client(world, truth, client)
    for edge in world.edges:
        assert edge.edge.counters.internal_errors == 0
        group = edge.edge.cluster.groups.get(GROUP)
        for fanout in group.objects.values() if group is not None else ():
            check_replica(world, fanout)
    sessions = [client.session_id for edge in world.edges for client in edge.edge.clients.values()]
    assert len(set(sessions)) == len(sessions), "a session is at two edges"
    counters = world.bench.origin.counters
    assert (counters.internal_errors, counters.handler_errors, counters.protocol_errors) == (0, 0, 0)


def check_client(world: RoamingWorld, truth: Truth, client: Roamer) -> None:
    who = client.number
    assert client.ended == "", who
    assert client.answers == [(value, value) for value in client.asked], who
    assert client.words == truth.words_of(client), who
    for name in client.using:
        assert client.segments.get(name), f"{who} has not heard that it uses {name}"
    for name, segments in client.segments.items():
        assert len(segments) <= client.uses[name]
    ways = [truth.ways(client, name, segments, world.merges) for name, segments in client.segments.items()]
    orders = [truth.order(client, places) for places in product(*(islice(way, MOST_WAYS) for way in ways))]
    assert any(order == sorted(order) for order in orders), (who, orders)


def check_replica(world: RoamingWorld, fanout: ObjectFanout) -> None:
    if not fanout.members:
        return
    shared = world.bench.origin.groups[GROUP].objects.get(fanout.name, fanout.persistent)
    assert not fanout.stale
    assert fanout.number
    assert (fanout.events, fanout.slots.values) == (shared.events, shared.content.values)
    assert (fanout._away, fanout._restored, fanout._missed, len(fanout._held)) == ({}, {}, {}, 0)


def leave(world: RoamingWorld) -> None:
    """All clients go."""
    for edge in world.edges:
        edge.ring()
    world.quiet()
    for client in world.clients:
        edge = world.edge_of(client)
        edge.ring()
        world.work(edge)
        world.look()
        client.bye(edge)
        world.work(edge)
        world.look()
        assert client.ended == "closed"
    world.quiet()
    for edge in world.edges:
        edge.much_later()
    world.quiet()
    for _ in range(2):
        world.pass_time()
        world.quiet()
    group = world.bench.origin.groups[GROUP]
    assert (group.sessions, group.by_id, group.roaming, len(group.absent)) == ({}, {}, {}, 0)
    assert [shared._users for shared in group.objects._objects.values() if shared._users] == []
    for edge in world.edges:
        assert edge.edge.clients == {}
        assert len(edge.edge.tunnels) == 0
        assert edge.edge.cluster.groups == {}
        assert edge.edge.cluster.resuming.sessions == 0


def run(steps: list[Any], **how: Any) -> None:
    with roaming(RoamingWorld, **how) as world:
        for one in steps:
            step(world, *one)
        world.quiet()
        check(world)
        leave(world)


@settings(max_examples=120 * MANY_TIMES, deadline=None)
@given(st.lists(STEPS, min_size=15, max_size=60))
@example(CLOSED)
@example(FORGOTTEN)
@example(USED_BETWEEN_COMMITS)
@example(OLD_COPY)
def test_a_client_notices_nothing_of_the_edges_that_it_is_at(steps: list[Any]) -> None:
    run(steps)


@settings(max_examples=60 * MANY_TIMES, deadline=None)
@given(st.lists(STEPS, min_size=15, max_size=60))
def test_a_slow_client_lacks_nothing_but_changes_that_others_have_changed_again(steps: list[Any]) -> None:
    run(steps, object_queue_bytes=100, tunnel_answer_bytes=700)


@settings(max_examples=60 * MANY_TIMES, deadline=None)
@given(st.lists(WITH_CRASHES, min_size=15, max_size=60))
@example(TOLD_BY_A_FORMER_EDGE)
def test_a_client_notices_nothing_of_origins_either(steps: list[Any]) -> None:
    run(steps)


def test_who_waits_no_more_is_told_nothing() -> None:
    """Whoever has asked another edge meanwhile may have heard there that there is nothing, and asks on."""
    with roaming(RoamingWorld) as world:
        step(world, "call", 1, "told")
        step(world, "post", 2, 1, True)
        step(world, "work", 1)
        client = world.clients[2]
        client.deaf(gone=True)
        client.post(world.edges[0])
        world.work(world.edges[0])
        world.edges[0].ring()
        world.work(world.edges[0])
        world.look()
        world.quiet()
        check(world)
        leave(world)
