"""A stream, its publisher and players by RTMPT, who go from edge to edge while edges die or hang, links are lost and answers do
not come through. Where only players go, each is shown every picture once and in order. Where the publisher's edge dies too, with
what it had not passed on, nothing is shown twice, and after a gap it goes on at a keyframe; and so it is where origins die.

Real edges and a real origin, as in test_roaming_properties.
"""

from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.resuming_media import HEADERS
from support.roaming_steps import BETWEEN, CRASHES, MANY_TIMES, WHERE, WHO, faults, requests, step
from support.roaming_streams import KEY_EVERY, StreamWorld, Watcher
from support.roaming_world import roaming

HOME, ELSEWHERE = 0, st.just(1)
PLAYERS = st.integers(1, 2)
SHOWN = (
    st.tuples(st.just("show"), st.integers(1, 4)),
    st.tuples(st.just("show"), st.integers(1, 4)),
    st.tuples(st.just("show_metadata")),
)
STAYING = st.one_of(
    *SHOWN,
    *requests(PLAYERS),
    *BETWEEN,
    faults(ELSEWHERE),
    st.tuples(st.just("exchange"), st.just(0), st.just(HOME)),
)
GOING = st.one_of(*SHOWN, *requests(WHO), *BETWEEN, faults(WHERE))
WITH_CRASHES = st.one_of(GOING, GOING, GOING, *CRASHES)


def run(steps: list[Any]) -> StreamWorld:
    """Returns the world when everything has arrived, a keyframe last."""
    with roaming(StreamWorld) as world:
        for what, *how in steps:
            if what in ("show", "show_metadata"):
                getattr(world.publisher, what)(*how)
            else:
                step(world, what, *how)
        world.quiet()
        for _ in range(2 * KEY_EVERY):
            world.publisher.show(1)
            world.quiet()
    assert [client.ended for client in world.clients] == ["", "", ""]
    for edge in world.edges:
        assert edge.edge.counters.internal_errors == 0
    counters = world.bench.origin.counters
    assert (counters.internal_errors, counters.handler_errors, counters.protocol_errors) == (0, 0, 0)
    return world


def pictures(player: Watcher) -> list[tuple[bool, int]]:
    return [one for one in player.shown if one not in HEADERS]


def nothing_twice(world: StreamWorld) -> None:
    """What comes behind a gap is a keyframe."""
    for player in world.players:
        shown = pictures(player)
        assert shown[0][0], player.shown
        for (_, before), (is_key, serial) in pairwise(shown):
            assert serial == before + 1 or (is_key and serial > before), player.shown
        assert shown[-1][1] == world.publisher.sent - 1, player.shown


@settings(max_examples=80 * MANY_TIMES, deadline=None)
@given(st.lists(STAYING, min_size=10, max_size=50))
def test_a_player_lacks_nothing_wherever_it_is(steps: list[Any]) -> None:
    world = run(steps)
    metadata = 1 + sum(step == ("show_metadata",) for step in steps)
    for player in world.players:
        assert [serial for _, serial in pictures(player)] == list(range(world.publisher.sent))
        assert player.shown.count(HEADERS[0]) == metadata


@settings(max_examples=60 * MANY_TIMES, deadline=None)
@given(st.lists(GOING, min_size=10, max_size=50))
def test_nothing_is_shown_twice_wherever_the_publisher_is(steps: list[Any]) -> None:
    nothing_twice(run(steps))


@settings(max_examples=60 * MANY_TIMES, deadline=None)
@given(st.lists(WITH_CRASHES, min_size=10, max_size=50))
@example([("crash",), *[("show", 1)] * 7, ("crash",), ("post", 1, 0, False)])
def test_nothing_is_shown_twice_whatever_origin_has_it(steps: list[Any]) -> None:
    nothing_twice(run(steps))
