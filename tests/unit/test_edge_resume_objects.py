"""SharedObjects whose origin is lost: members are told what differs, and who asked for a change that it was made."""

from collections.abc import Iterator
from typing import Any

import pytest
from headwater_bus import traffic
from headwater_bus.rows import pack_rows
from headwater_rtmp.message import OBJECTS
from headwater_rtmp.shared_object import decode_shared_object
from support.edge import GROUP, Peer, attached, end_all, linked, lose, make_edge, say
from support.edge_object import CHANGE, CLEAR, REMOVE, SUCCESS, USED, value


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    end_all()


def content(**slots: int) -> bytes:
    return pack_rows([[key, value(at), at] for key, at in slots.items()])


def change(key: str, number: int) -> bytes:
    return pack_rows([[CHANGE, key, value(number)]])


class Two:
    """An edge with links to two origins. The group is at the first, with two members of `board`, whose slot `a` is 1."""

    def __init__(self) -> None:
        self.edge, self.node, self.first = make_edge()
        self.second = linked(self.edge, self.node, "origin-2")
        self.one, self.two = (attached(self.edge, self.first) for _ in range(2))
        say(
            self.edge,
            self.first,
            traffic.ObjectOpened(5, "board", False, 1, 0, 1, GROUP, content(a=1)),
            traffic.ObjectJoined(1, 5, -1),
            traffic.ObjectJoined(2, 5, -1),
        )
        assert self.got(self.one, 3) == self.got(self.two, 3) == [(USED, None), (CLEAR, None), (CHANGE, "a")]
        self.fanout = self.first.data.objects[5]

    def got(self, peer: Peer, count: int) -> list[tuple[int, str | None]]:
        def events() -> list[tuple[int, str | None]]:
            about = [decode_shared_object(m) for m in peer.messages if m.type_id in OBJECTS]
            return [(event.type, event.key) for message in about for event in message.events]

        peer.until(lambda: len(events()) >= count)
        found = events()
        peer.messages.clear()
        return found

    def move(self, epoch: int = 4) -> list[Any]:
        self.node.grant(GROUP, "origin-2", epoch)
        return [attach.objects for attach in self.second.of(traffic.Attach)]


@pytest.fixture
def two() -> Two:
    return Two()


def test_a_replica_that_is_good_goes_on_and_members_notice_nothing(two: Two) -> None:
    lose(two.edge, two.first)
    assert two.move() == [[["board", False, 1, 1]]] * 2
    say(
        two.edge,
        two.second,
        traffic.ObjectResumed(9, GROUP, "board", False, 1),
        traffic.ObjectJoined(1, 9, -1, resumed=True),
        traffic.Attached(1, 0, False),
        traffic.ObjectJoined(2, 9, -1, resumed=True),
        traffic.Attached(2, 0, False),
        traffic.ObjectUpdate(9, 2, 2, 2, change("b", 2)),
    )
    assert two.got(two.one, 1) == [(CHANGE, "b")]
    assert two.got(two.two, 1) == [(SUCCESS, "b")]
    assert two.second.data.objects == {9: two.fanout}
    assert two.first.data.objects == {}
    assert two.second.of(traffic.ObjectResync) == []


def test_who_asked_for_a_commit_that_comes_only_now_is_told_that_it_was_made(two: Two) -> None:
    two.move()
    say(
        two.edge,
        two.second,
        traffic.ObjectResumed(9, GROUP, "board", False, 1),
        traffic.ObjectUpdate(9, 2, 2, 1, change("mine", 2)),
        traffic.ObjectUpdate(9, 3, 3, 0, change("other", 3)),
        traffic.ObjectJoined(1, 9, -1, resumed=True),
        traffic.Attached(1, 1, False),
    )
    assert two.got(two.one, 2) == [(SUCCESS, "mine"), (CHANGE, "other")]
    # The other one is a member here already, though its session goes on only later.
    assert two.got(two.two, 2) == [(CHANGE, "mine"), (CHANGE, "other")]


def test_a_replica_that_is_sent_whole_tells_members_what_differs(two: Two) -> None:
    two.move()
    say(
        two.edge,
        two.second,
        traffic.ObjectOpened(9, "board", False, 7, 0, 8, GROUP, content(b=7)),
        traffic.ObjectJoined(1, 9, -1, resumed=True),
        traffic.Attached(1, 0, False),
        traffic.ObjectAnswer(1, 9, pack_rows([[SUCCESS, "b"]])),
    )
    assert two.got(two.two, 2) == [(REMOVE, "a"), (CHANGE, "b")]
    assert two.got(two.one, 3) == [(REMOVE, "a"), (CHANGE, "b"), (SUCCESS, "b")]
    assert (two.fanout.events, two.fanout.slots.version) == (8, 7)
    assert two.edge.counters.objects_replaced == 1


def test_a_replica_that_lacks_something_is_not_offered(two: Two) -> None:
    say(two.edge, two.first, traffic.ObjectUpdate(5, 9, 9, 0, change("x", 9)))
    assert two.first.of(traffic.ObjectResync) == [traffic.ObjectResync(5)]
    assert two.move() == [[], []]
    # The answer of the old owner is too late.
    say(two.edge, two.first, traffic.ObjectOpened(5, "board", False, 9, 0, 9, GROUP, content(x=9)))
    assert two.fanout.stale
    say(two.edge, two.second, traffic.ObjectOpened(9, "board", False, 9, 0, 9, GROUP, content(x=9)))
    assert two.got(two.one, 2) == [(REMOVE, "a"), (CHANGE, "x")]
    assert not two.fanout.stale


def test_a_replica_of_which_the_origin_thinks_otherwise_is_asked_for(two: Two) -> None:
    two.move()
    say(two.edge, two.second, traffic.ObjectResumed(9, GROUP, "board", False, 4))
    assert two.second.of(traffic.ObjectResync) == [traffic.ObjectResync(9)]
    say(two.edge, two.second, traffic.ObjectUpdate(9, 5, 5, 0, change("x", 5)))
    assert two.second.of(traffic.ObjectResync) == [traffic.ObjectResync(9)]
    say(two.edge, two.second, traffic.ObjectOpened(9, "board", False, 5, 0, 5, GROUP, content(a=1, x=5)))
    assert two.got(two.one, 1) == [(CHANGE, "x")]


def test_an_object_that_is_not_here_any_more_is_asked_for(two: Two) -> None:
    stays = attached(two.edge, two.first)
    lose(two.edge, two.first)
    for peer in (two.one, two.two):
        assert peer.client is not None
        peer.client.close("done", gone=True)
    assert two.edge.cluster.groups[GROUP].objects == {}
    two.move()
    say(two.edge, two.second, traffic.ObjectResumed(9, GROUP, "board", False, 1))
    assert two.second.of(traffic.ObjectResync) == [traffic.ObjectResync(9)]
    say(
        two.edge,
        two.second,
        traffic.ObjectOpened(9, "board", False, 1, 0, 1, GROUP, content(a=1)),
        traffic.ObjectJoined(3, 9, -1),
    )
    assert two.got(stays, 3) == [(USED, None), (CLEAR, None), (CHANGE, "a")]


def test_a_member_that_only_the_origin_knows_of_joins(two: Two) -> None:
    newcomer = attached(two.edge, two.first)
    two.move()
    say(
        two.edge,
        two.second,
        traffic.ObjectResumed(9, GROUP, "board", False, 1),
        traffic.ObjectJoined(3, 9, -1, resumed=True),
        traffic.Attached(3, 0, False),
    )
    assert two.got(newcomer, 3) == [(USED, None), (CLEAR, None), (CHANGE, "a")]


def test_persistent_and_temporary_objects_of_one_name_are_two(two: Two) -> None:
    say(
        two.edge,
        two.first,
        traffic.ObjectOpened(6, "board", True, 3, 0, 3, GROUP, content(p=3)),
        traffic.ObjectJoined(1, 6, -1),
    )
    objects, _ = two.move()
    assert sorted(objects) == [["board", False, 1, 1], ["board", True, 3, 3]]
    say(two.edge, two.second, traffic.ObjectResumed(1, GROUP, "board", True, 3))
    assert two.second.data.objects[1] is not two.fanout


def test_what_the_old_origin_still_says_of_an_object_is_ignored(two: Two) -> None:
    two.move()
    say(
        two.edge,
        two.first,
        traffic.ObjectUpdate(5, 2, 2, 0, change("x", 2)),
        traffic.ObjectLeft(1, 5),
        traffic.ObjectClosed(5),
        traffic.ObjectResumed(5, GROUP, "board", False, 1),
    )
    assert two.first.sent[-1] != traffic.ObjectResync(5)
    assert two.first.data.objects == {}
    assert (two.fanout.events, sorted(two.fanout.members)) == (1, [1, 2])


def test_an_object_that_its_origin_closes_leaves_nothing(two: Two) -> None:
    say(two.edge, two.first, traffic.ObjectLeft(1, 5), traffic.ObjectLeft(2, 5))
    assert two.edge.health()["objects"] == 1
    say(two.edge, two.first, traffic.ObjectClosed(5))
    assert two.edge.health()["objects"] == 0
    assert two.edge.cluster.groups[GROUP].objects == {}


def test_an_object_that_nobody_uses_is_not_taken_along(two: Two) -> None:
    say(two.edge, two.first, traffic.ObjectLeft(1, 5), traffic.ObjectLeft(2, 5))
    assert two.move() == [[], []]
    say(two.edge, two.second, traffic.Attached(1, 0, False), traffic.Attached(2, 0, False))
    assert two.edge.cluster.groups[GROUP].objects == {}
