"""A stream, its publisher and players on three edges, while origins die and links are lost at any point. With a ring that is long
enough each edge gets every message once and in order, whatever happens. With a short one it may miss some: then it goes on at a
keyframe, behind the headers, and gets nothing twice.

Origins one after the other on one journal, and the edge's own ring, without sockets.
"""

from typing import Any

from headwater_origin import Application
from headwater_rtmp.message import Message
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.fanout_bench import AVC, META
from support.journal_bench import JournaledBench, memory_journals
from support.origin_bench import ME, settle
from support.resuming_edges import GROUP
from support.resuming_media import HEADERS, MediaEdge, command, picture
from support.waiting import eventually

EDGES = 3
KEY_EVERY = 7
WHERE = st.integers(0, EDGES - 1)
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 5)),
    st.tuples(st.just("publish"), st.integers(1, 5)),
    st.tuples(st.just("deliver"), WHERE),
    st.tuples(st.just("deliver"), WHERE),
    st.tuples(st.just("cut"), WHERE),
    st.tuples(st.just("connect"), WHERE),
    st.tuples(st.just("connect"), WHERE),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("wait"), st.just(0)),
)


class Stage(Application):
    allow_publish = True
    wait_for_publisher = True


class World:
    """The publisher is on the first edge, a player on each; `ring_bytes` of the publisher's edge."""

    def __init__(self, ring_bytes: int) -> None:
        self.bench = JournaledBench(Stage, memory_journals())
        self.edges = [MediaEdge(f"edge-{number}", ring_bytes) for number in range(EDGES)]
        self.serial = 0
        self.now = 0.0
        self._begin()
        for edge in self.edges:
            self._connect(edge)
        self.publisher = self.edges[0].join(100)
        self.players = [edge.join(number + 1) for number, edge in enumerate(self.edges)]
        self.quiet()
        for player in self.players:
            command(player, "createStream", stream_id=0)
            command(player, "play", "a")
        command(self.publisher, "createStream", stream_id=0)
        self.quiet()

    def publish(self) -> None:
        """The publisher begins, and does not wait for an answer."""
        command(self.publisher, "publish", "a", "live")
        settle()
        for payload in (META, AVC):
            self._publish(Message(18 if payload is META else 9, 1, 0, payload))

    def publish_calmly(self) -> None:
        """The publisher waits for the answer, and every player has the headers."""
        command(self.publisher, "publish", "a", "live")
        self.quiet()
        for payload in (META, AVC):
            self._publish(Message(18 if payload is META else 9, 1, 0, payload))
        self.quiet()

    def _begin(self) -> None:
        self.bench.committing.kill()
        self.bench.change("group", GROUP, ME, self.bench.epoch)

    def _connect(self, edge: MediaEdge) -> None:
        if edge.link is None:
            edge.connect(self.bench.origin, self.bench.epoch)
            self._settled()

    def _settled(self) -> None:
        settle()
        group = self.bench.origin.groups.get(GROUP)
        if group is not None:
            eventually(group.started.is_set, within_s=10)
            settle()

    def _publish(self, message: Message) -> None:
        self.now += 0.01
        self.edges[0].publish(self.publisher, message, self.now)
        settle()

    def quiet(self) -> None:
        """Everything that is under way arrives."""
        for edge in self.edges:
            self._connect(edge)
        moved = True
        while moved:
            self._settled()
            self.bench.origin.committer._commit()
            moved = False
            for edge in self.edges:
                moved = edge.deliver() or moved
                edge.link.ack()  # type: ignore[union-attr]  # It is connected.

    def step(self, kind: str, what: int) -> None:
        edge = self.edges[what % EDGES]
        if kind == "publish":
            for _ in range(what):
                self._publish(picture(self.serial, self.serial % KEY_EVERY == 0))
                self.serial += 1
        elif kind == "deliver":
            edge.deliver()
        elif kind == "cut":
            edge.cut()
        elif kind == "connect":
            self._connect(edge)
        elif kind == "crash":
            self.bench.crash()
            for edge in self.edges:
                edge.forget_link()
            self.bench = self.bench.successor()
            self._begin()
        elif kind == "wait":
            self._time_passes()
        settle()

    def _time_passes(self) -> None:
        """So much that nothing is kept for late edges any more, but members are still waited for."""
        group = self.bench.origin.groups.get(GROUP)
        if group is not None:
            for stream in group.streams.by_name.values():
                stream._kept = None


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_with_a_ring_nothing_is_missed_or_doubled(steps: list[Any]) -> None:
    world = World(1 << 20)
    world.publish_calmly()
    for step in steps:
        world.step(*step)
    world.quiet()
    world.step("publish", 3)
    world.quiet()
    for edge in world.edges:
        begun = [part for part in edge.got if part]
        (got,) = begun
        assert [one for one in got if one in HEADERS] == [META, AVC]
        assert [serial for _, serial in got[2:]] == list(range(world.serial))
    assert world.bench.origin.counters.internal_errors == 0


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40))
@example([("publish", 8), ("cut", 0), ("connect", 1), ("connect", 0), ("publish", 5)])
@example(
    [("publish", 3), ("wait", 0), ("publish", 5), ("cut", 0), ("connect", 1), ("connect", 0), ("publish", 5)]
)
def test_with_a_short_ring_a_stream_goes_on_at_a_keyframe(steps: list[Any]) -> None:
    world = World(3 * 135)
    world.publish_calmly()
    for step in steps:
        world.step(*step)
    world.quiet()
    for _ in range(3):
        world.step("publish", 5)
        world.quiet()
    for edge in world.edges:
        last = -1
        for part in edge.got:
            pictures = [one for one in part if one not in HEADERS]
            if not pictures:
                continue
            assert set(part[:2]) == {META, AVC}
            serials = [serial for _, serial in pictures]
            assert pictures[0][0], "a keyframe"
            assert serials == list(range(serials[0], serials[-1] + 1))
            assert serials[0] > last
            last = serials[-1]
        assert last == world.serial - 1
    assert world.bench.origin.counters.internal_errors == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=20), st.lists(STEPS, max_size=20))
def test_media_that_did_not_wait_for_the_answer_begins_at_a_keyframe(
    before: list[Any], after: list[Any]
) -> None:
    """What comes before the publisher's edge knows of the publication has no numbers: who has only such, or nothing, begins
    anew."""
    world = World(1 << 20)
    for step in before:
        if step[0] != "publish":
            world.step(*step)
    world.publish()
    for step in after:
        world.step(*step)
    world.quiet()
    world.step("publish", 3)
    world.quiet()
    for edge in world.edges:
        begun = [part for part in edge.got if part]
        for part in begun:
            assert part[:2] == [META, AVC][: len(part)]
            serials = [serial for _, serial in part[2:]]
            if serials:
                assert serials[0] % KEY_EVERY == 0
                assert serials == list(range(serials[0], serials[-1] + 1))
        assert begun[-1][-1][1] == world.serial - 1
    assert world.bench.origin.counters.internal_errors == 0
