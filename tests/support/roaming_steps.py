"""What may happen to clients that go from edge to edge, one step at a time: strategies, and how a world carries them out."""

import os
from typing import Any

from hypothesis import strategies as st

from support.origin_bench import settle
from support.roaming_world import CLIENTS, NAMES, RoamingWorld

MANY_TIMES = int(os.environ.get("HEADWATER_TEST_EXAMPLES_FACTOR", "1"))
"""To hunt: so many times more examples."""
WHO, WHERE = st.integers(0, CLIENTS - 1), st.integers(0, 1)
_MANY = st.sampled_from([1, 2, 3, 100])
BETWEEN = (
    st.tuples(st.sampled_from(["serve", "store", "hear store", "ring", "work"]), WHERE),
    st.tuples(st.just("rise"), WHERE, _MANY),
    st.tuples(st.sampled_from(["cut", "fall", "ack", "flow", "flow"]), WHERE),
    st.tuples(st.sampled_from(["flow", "flow"]), WHERE),
    st.tuples(st.just("commit"), st.sampled_from(["", "", "cut", "done"])),
    st.tuples(st.sampled_from(["lose", "sink", "later"]), WHERE),
)
"""What moves, or is lost, between clients, edges, the store and the origin."""
CRASHES = (st.tuples(st.just("crash")), st.tuples(st.just("learn"), WHERE))
"""Of the origin."""


def requests(who: st.SearchStrategy[int]) -> tuple[st.SearchStrategy[Any], ...]:
    """These clients ask one edge or the other."""
    return (
        st.tuples(st.just("exchange"), who, WHERE),
        st.tuples(st.just("exchange"), who, WHERE),
        st.tuples(st.just("exchange"), who, WHERE),
        st.tuples(st.just("post"), who, WHERE, st.booleans()),
        st.tuples(st.sampled_from(["deaf", "gone"]), who),
    )


def faults(where: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    """Of these edges."""
    return st.tuples(st.sampled_from(["die", "hang", "thaw", "doubt"]), where)


def step(world: RoamingWorld, what: str, *how: Any) -> None:
    """Have a step happen."""
    if what in ("ask", "turn"):
        getattr(world, what)(world.clients[how[0]], NAMES[how[1]], how[2])
    elif what == "call":
        world.call(world.clients[how[0]], how[1])
    elif what == "exchange":
        world.exchange(world.clients[how[0]], world.edges[how[1]])
    elif what == "post":
        world.post(world.clients[how[0]], world.edges[how[1]], how[2])
    elif what in ("deaf", "gone"):
        world.clients[how[0]].deaf(what == "gone")
    elif what == "rise":
        world.rise(world.edges[how[0]], how[1])
    elif what == "commit":
        world.commit(how[0])
    elif what == "time":
        world.pass_time()
    elif what == "crash":
        world.crash()
    elif what == "die":
        world.die(world.edges[how[0]])
    else:
        _move(world, what, how[0])
    settle()
    world.look()


def _move(world: RoamingWorld, what: str, where: int) -> None:
    edge = world.edges[where]
    wire = edge.wire
    if what == "hang":
        edge.hangs = True
    elif what == "thaw":
        world.thaw(edge)
    elif what == "sink":
        for one in world.wires_of(edge):
            one.sink()
    elif what == "cut" and wire is not None:
        wire.cut()
    elif what == "flow":
        world.flow(edge)
    elif edge.hangs:
        return
    elif what == "work":
        world.work(edge)
    elif what == "fall":
        world.fall(edge)
    elif what == "ack" and wire is not None:
        wire.acknowledge()
    elif what in ("serve", "store", "ring", "doubt", "lose", "learn"):
        getattr(edge, what)()
    elif what == "hear store":
        edge.hear_store()
    elif what == "later":
        edge.time_is_up()
