"""SharedObjects whose origin is lost: members are told what differs, and who asked for a change that it was made."""

from collections.abc import Iterator
from typing import Any

import pytest
from headwater_bus import object_traffic, traffic
from headwater_bus.rows import pack_rows
from headwater_edge import object_held
from headwater_edge.object_members import restore_member
from headwater_rtmp.message import OBJECTS, Message
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


def word(session: int, payload: bytes) -> traffic.ToClient:
    return traffic.ToClient(session, 20, 0, 0, payload)


def heard(message: Message) -> Any:
    """A slot, or a word."""
    return (
        decode_shared_object(message).events[0].key if message.type_id in OBJECTS else bytes(message.payload)
    )


class Two:
    """An edge with links to two origins. The group is at the first, with two members of `board`, whose slot `a` is 1."""

    def __init__(self) -> None:
        self.edge, self.node, self.first = make_edge()
        self.second = linked(self.edge, self.node, "origin-2")
        self.one, self.two = (attached(self.edge, self.first) for _ in range(2))
        say(
            self.edge,
            self.first,
            object_traffic.ObjectOpened(5, "board", False, 1, 0, 1, GROUP, content(a=1)),
            object_traffic.ObjectJoined(1, 5, -1),
            object_traffic.ObjectJoined(2, 5, -1),
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

    def ping(self, peer: Peer) -> None:
        """It hears this, and has heard nothing since it was looked at last."""
        assert peer.client is not None
        peer.client.send(Message(20, 0, 0, b"ping"))
        self.edge.flush_clients()
        peer.until(lambda: peer.messages)
        assert [bytes(message.payload) for message in peer.messages] == [b"ping"]
        peer.messages.clear()

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
        object_traffic.ObjectResumed(9, GROUP, "board", False, 1),
        traffic.Attached(1, 0, False),
        object_traffic.ObjectJoined(1, 9, -1, resumed=True),
        traffic.Attached(2, 0, False),
        object_traffic.ObjectJoined(2, 9, -1, resumed=True),
        object_traffic.ObjectUpdate(9, 2, 2, 2, change("b", 2)),
    )
    assert two.got(two.one, 1) == [(CHANGE, "b")]
    assert two.got(two.two, 1) == [(SUCCESS, "b")]
    assert two.second.data.objects == {9: two.fanout}
    assert two.first.data.objects == {}
    assert two.second.of(object_traffic.ObjectResync) == []


def test_who_asked_for_a_commit_that_comes_only_now_is_told_that_it_was_made(two: Two) -> None:
    two.move()
    say(
        two.edge,
        two.second,
        object_traffic.ObjectResumed(9, GROUP, "board", False, 1),
        object_traffic.ObjectUpdate(9, 2, 2, 1, change("mine", 2)),
        object_traffic.ObjectUpdate(9, 3, 3, 0, change("other", 3)),
        traffic.Attached(1, 1, False),
        object_traffic.ObjectJoined(1, 9, -1, resumed=True),
    )
    assert two.got(two.one, 2) == [(SUCCESS, "mine"), (CHANGE, "other")]
    # The other one is a member here already, but its session goes on only later.
    two.ping(two.two)
    say(two.edge, two.second, object_traffic.ObjectUpdate(9, 4, 4, 2, change("late", 4)))
    assert two.got(two.one, 1) == [(CHANGE, "late")]
    two.ping(two.two)
    say(
        two.edge,
        two.second,
        traffic.Attached(2, 1, False),
        object_traffic.ObjectJoined(2, 9, -1, resumed=True),
    )
    assert two.got(two.two, 3) == [(CHANGE, "mine"), (CHANGE, "other"), (SUCCESS, "late")]


def test_what_a_member_has_missed_is_let_out_in_its_place_among_other_things(two: Two) -> None:
    two.move()
    say(
        two.edge,
        two.second,
        object_traffic.ObjectResumed(9, GROUP, "board", False, 1),
        *(
            object_traffic.ObjectUpdate(9, at, at, 0, change(key, at))
            for at, key in ((2, "b"), (3, "c"), (4, "d"))
        ),
        # Said when this origin had it before.
        object_traffic.ObjectJoined(1, 9, -1, resumed=True),
        traffic.Attached(1, 0, False),
        word(1, b"first"),
        object_traffic.ObjectJoined(1, 9, 3, resumed=True),
        word(1, b"then"),
        object_traffic.ObjectJoined(1, 9, -1, resumed=True),
        object_traffic.ObjectUpdate(9, 5, 5, 0, change("e", 5)),
        word(1, b"last"),
    )
    two.one.until(lambda: len(two.one.messages) >= 7)
    assert [heard(message) for message in two.one.messages] == [
        b"first",
        "b",
        "c",
        b"then",
        "d",
        "e",
        b"last",
    ]
    # Each with the version that the object had then.
    assert [decode_shared_object(m).version for m in two.one.messages if m.type_id in OBJECTS] == [2, 3, 4, 5]


def test_a_link_that_is_lost_before_a_member_was_told_loses_nothing(two: Two) -> None:
    two.move()
    say(
        two.edge,
        two.second,
        object_traffic.ObjectResumed(9, GROUP, "board", False, 1),
        object_traffic.ObjectUpdate(9, 2, 2, 2, change("b", 2)),
        traffic.Attached(1, 0, False),
        object_traffic.ObjectJoined(1, 9, -1, resumed=True),
    )
    lose(two.edge, two.second)
    third = linked(two.edge, two.node, "origin-3")
    two.node.grant(GROUP, "origin-3", 5)
    objects = {attach.session: attach.objects for attach in third.of(traffic.Attach)}
    assert objects == {1: [["board", False, 2, 2]], 2: [["board", False, 2, 2, 1, 1]]}
    say(
        two.edge,
        third,
        object_traffic.ObjectResumed(7, GROUP, "board", False, 2),
        object_traffic.ObjectUpdate(7, 3, 3, 0, change("c", 3)),
        traffic.Attached(2, 0, False),
        object_traffic.ObjectJoined(2, 7, -1, resumed=True),
        traffic.Attached(1, 0, False),
        object_traffic.ObjectJoined(1, 7, -1, resumed=True),
    )
    assert two.got(two.two, 2) == [(SUCCESS, "b"), (CHANGE, "c")]
    assert two.got(two.one, 2) == [(CHANGE, "b"), (CHANGE, "c")]


def test_an_answer_shows_what_the_object_held_in_its_place(two: Two) -> None:
    two.move()
    say(
        two.edge,
        two.second,
        object_traffic.ObjectResumed(9, GROUP, "board", False, 1),
        object_traffic.ObjectUpdate(9, 2, 2, 0, change("a", 2)),
        object_traffic.ObjectUpdate(9, 3, 3, 0, pack_rows([[CLEAR, "", b""], [CHANGE, "b", value(3)]])),
        traffic.Attached(1, 0, False),
        object_traffic.ObjectAnswer(1, 9, pack_rows([[REMOVE, "a"]])),
        object_traffic.ObjectJoined(1, 9, 2, resumed=True),
        object_traffic.ObjectAnswer(1, 9, pack_rows([[REMOVE, "b"], [CLEAR, ""]])),
        object_traffic.ObjectJoined(1, 9, -1, resumed=True),
        object_traffic.ObjectAnswer(1, 9, pack_rows([[REMOVE, "a"]])),
    )
    two.one.until(lambda: len(two.one.messages) >= 5)
    told = [
        [(event.type, event.key, event.value) for event in decode_shared_object(message).events]
        for message in two.one.messages
    ]
    assert told == [
        [(CHANGE, "a", value(1))],
        [(CHANGE, "a", value(2))],
        [(REMOVE, "b", None), (CLEAR, None, None), (CHANGE, "a", value(2))],
        [(CLEAR, None, None), (CHANGE, "b", value(3))],
        [(REMOVE, "a", None)],
    ]


def test_more_than_can_be_held_back_is_told_at_once(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_held, "_MOST_HELD", 2)
    two.move()
    updates = [object_traffic.ObjectUpdate(9, at, at, 0, change(f"k{at}", at)) for at in range(2, 7)]
    say(two.edge, two.second, object_traffic.ObjectResumed(9, GROUP, "board", False, 1), *updates)
    assert two.got(two.one, 3) == [(CHANGE, "k2"), (CHANGE, "k3"), (CHANGE, "k4")]
    say(
        two.edge,
        two.second,
        traffic.Attached(1, 0, False),
        object_traffic.ObjectJoined(1, 9, -1, resumed=True),
    )
    assert two.got(two.one, 2) == [(CHANGE, "k5"), (CHANGE, "k6")]


def test_members_that_end_while_they_are_away_leave_nothing(two: Two) -> None:
    two.move()
    say(
        two.edge,
        two.second,
        object_traffic.ObjectResumed(9, GROUP, "board", False, 1),
        object_traffic.ObjectUpdate(9, 2, 2, 0, change("b", 2)),
    )
    assert len(two.fanout._held) == 1
    for peer in (two.one, two.two):
        assert peer.client is not None
        peer.client.close("done", gone=True)
    assert (two.fanout._away, len(two.fanout._held), two.fanout._held._size_bytes) == ({}, 0, 0)


def test_a_slow_member_catches_up_when_it_is_back(two: Two) -> None:
    assert two.one.client is not None
    two.fanout._fall_behind(1, two.one.client, 0)
    say(two.edge, two.first, object_traffic.ObjectUpdate(5, 2, 2, 0, change("b", 2)))
    two.move()
    say(
        two.edge,
        two.second,
        object_traffic.ObjectResumed(9, GROUP, "board", False, 2),
        object_traffic.ObjectUpdate(9, 3, 3, 1, change("b", 3)),
    )
    two.one.client.behind = None
    two.fanout.catch_up(1, two.one.client)  # Its queue has drained.
    two.ping(two.one)
    say(
        two.edge,
        two.second,
        traffic.Attached(1, 0, False),
        object_traffic.ObjectJoined(1, 9, -1, resumed=True),
    )
    assert two.got(two.one, 3) == [(SUCCESS, "b"), (CHANGE, "a"), (CHANGE, "b")]
    assert two.fanout._missed == {}


def test_a_replica_that_is_sent_whole_tells_members_that_are_away_nothing(two: Two) -> None:
    two.move()
    say(
        two.edge,
        two.second,
        object_traffic.ObjectOpened(9, "board", False, 7, 0, 8, GROUP, content(b=7)),
        object_traffic.ObjectUpdate(9, 8, 9, 1, change("b", 8)),
        traffic.Attached(1, 0, False),
        object_traffic.ObjectJoined(1, 9, -1, resumed=True),
        object_traffic.ObjectAnswer(1, 9, pack_rows([[CLEAR, ""]])),
    )
    assert two.got(two.one, 3) == [(SUCCESS, "b"), (CLEAR, None), (CHANGE, "b")]
    two.ping(two.two)  # It is told when it is back.
    lose(two.edge, two.second)
    third = linked(two.edge, two.node, "origin-3")
    two.node.grant(GROUP, "origin-3", 5)
    # Its version says that it needs the content.
    assert [attach.objects for attach in third.of(traffic.Attach)] == [
        [["board", False, 8, 9]],
        [["board", False, 8, 9, -1, 8]],
    ]
    assert (two.fanout.events, two.fanout.slots.version) == (9, 8)
    assert two.edge.counters.objects_replaced == 1


def test_a_replica_that_lacks_something_is_offered_as_none(two: Two) -> None:
    say(two.edge, two.first, object_traffic.ObjectUpdate(5, 9, 9, 0, change("x", 9)))
    assert two.first.of(object_traffic.ObjectResync) == [object_traffic.ObjectResync(5)]
    assert two.move() == [[["board", False, -1, -1, 1, 1]]] * 2
    # The answer of the old owner is too late.
    say(two.edge, two.first, object_traffic.ObjectOpened(5, "board", False, 9, 0, 9, GROUP, content(x=9)))
    assert two.fanout.stale
    say(
        two.edge,
        two.second,
        object_traffic.ObjectOpened(9, "board", False, 9, 0, 8, GROUP, content(x=9)),
        object_traffic.ObjectUpdate(9, 9, 9, 0, change("x", 9)),
        traffic.Attached(1, 0, False),
        object_traffic.ObjectJoined(1, 9, -1, resumed=True),
        object_traffic.ObjectAnswer(1, 9, pack_rows([[CLEAR, ""]])),
    )
    assert two.got(two.one, 3) == [(CHANGE, "x"), (CLEAR, None), (CHANGE, "x")]
    assert not two.fanout.stale


def test_a_replica_of_which_the_origin_thinks_otherwise_is_asked_for(two: Two) -> None:
    two.move()
    say(two.edge, two.second, object_traffic.ObjectResumed(9, GROUP, "board", False, 4))
    assert two.second.of(object_traffic.ObjectResync) == [object_traffic.ObjectResync(9)]
    say(two.edge, two.second, object_traffic.ObjectUpdate(9, 5, 5, 0, change("x", 5)))
    assert two.second.of(object_traffic.ObjectResync) == [object_traffic.ObjectResync(9)]
    say(
        two.edge,
        two.second,
        traffic.Attached(1, 0, False),
        object_traffic.ObjectJoined(1, 9, -1, resumed=True),
        object_traffic.ObjectOpened(9, "board", False, 5, 0, 5, GROUP, content(a=1, x=5)),
    )
    assert two.got(two.one, 1) == [(CHANGE, "x")]


def test_an_object_that_is_not_here_any_more_is_asked_for(two: Two) -> None:
    stays = attached(two.edge, two.first)
    lose(two.edge, two.first)
    for peer in (two.one, two.two):
        assert peer.client is not None
        peer.client.close("done", gone=True)
    assert two.edge.cluster.groups[GROUP].objects == {}
    two.move()
    say(two.edge, two.second, object_traffic.ObjectResumed(9, GROUP, "board", False, 1))
    assert two.second.of(object_traffic.ObjectResync) == [object_traffic.ObjectResync(9)]
    say(
        two.edge,
        two.second,
        object_traffic.ObjectOpened(9, "board", False, 1, 0, 1, GROUP, content(a=1)),
        object_traffic.ObjectJoined(3, 9, -1),
    )
    assert two.got(stays, 3) == [(USED, None), (CLEAR, None), (CHANGE, "a")]


def test_a_member_that_only_the_origin_knows_of_joins(two: Two) -> None:
    newcomer = attached(two.edge, two.first)
    two.move()
    say(
        two.edge,
        two.second,
        object_traffic.ObjectResumed(9, GROUP, "board", False, 1),
        traffic.Attached(3, 0, False),
        object_traffic.ObjectJoined(3, 9, -1, resumed=True),
    )
    assert two.got(newcomer, 3) == [(USED, None), (CLEAR, None), (CHANGE, "a")]


def test_persistent_and_temporary_objects_of_one_name_are_two(two: Two) -> None:
    say(
        two.edge,
        two.first,
        object_traffic.ObjectOpened(6, "board", True, 3, 0, 3, GROUP, content(p=3)),
        object_traffic.ObjectJoined(1, 6, -1),
    )
    objects, _ = two.move()
    assert sorted(objects) == [["board", False, 1, 1], ["board", True, 3, 3]]
    say(two.edge, two.second, object_traffic.ObjectResumed(1, GROUP, "board", True, 3))
    assert two.second.data.objects[1] is not two.fanout


def test_what_the_old_origin_still_says_of_an_object_is_ignored(two: Two) -> None:
    two.move()
    say(
        two.edge,
        two.first,
        object_traffic.ObjectUpdate(5, 2, 2, 0, change("x", 2)),
        object_traffic.ObjectLeft(1, 5),
        object_traffic.ObjectClosed(5),
        object_traffic.ObjectResumed(5, GROUP, "board", False, 1),
    )
    assert two.first.sent[-1] != object_traffic.ObjectResync(5)
    assert two.first.data.objects == {}
    assert (two.fanout.events, sorted(two.fanout.members)) == (1, [1, 2])


def test_an_object_that_its_origin_closes_leaves_nothing(two: Two) -> None:
    say(two.edge, two.first, object_traffic.ObjectLeft(1, 5), object_traffic.ObjectLeft(2, 5))
    assert two.edge.health()["objects"] == 1
    say(two.edge, two.first, object_traffic.ObjectClosed(5))
    assert two.edge.health()["objects"] == 0
    assert two.edge.cluster.groups[GROUP].objects == {}


def test_an_object_that_nobody_uses_is_not_taken_along(two: Two) -> None:
    say(two.edge, two.first, object_traffic.ObjectLeft(1, 5), object_traffic.ObjectLeft(2, 5))
    assert two.move() == [[], []]
    say(two.edge, two.second, traffic.Attached(1, 0, False), traffic.Attached(2, 0, False))
    assert two.edge.cluster.groups[GROUP].objects == {}


def test_what_is_opened_for_a_session_that_has_gone_is_there_for_the_next() -> None:
    edge, _, link = make_edge()
    gone = attached(edge, link)
    assert gone.client is not None
    gone.client.close("by the test", gone=True)
    assert edge.cluster.groups == {}
    # Its origin knows nothing of that yet, and takes the object for known here from now on.
    say(edge, link, object_traffic.ObjectOpened(5, "board", False, 1, 0, 1, GROUP, content(a=1)))
    peer = attached(edge, link)
    assert peer.client is not None
    say(edge, link, object_traffic.ObjectJoined(peer.client.session, 5, -1))
    peer.until(lambda: any(message.type_id in OBJECTS for message in peer.messages))
    events = decode_shared_object(next(m for m in peer.messages if m.type_id in OBJECTS)).events
    assert [(event.type, event.key) for event in events] == [(USED, None), (CLEAR, None), (CHANGE, "a")]
    peer.client.close("by the test", gone=True)
    say(edge, link, object_traffic.ObjectClosed(5))
    assert [len(known) for known in (edge.cluster.groups, link.data.objects, link.data.groups)] == [0, 0, 0]


def test_a_group_that_was_forgotten_takes_none_of_its_name_along() -> None:
    edge, _, link = make_edge()
    gone = attached(edge, link)
    assert gone.client is not None
    former = edge.cluster.groups[GROUP]
    gone.client.close("by the test", gone=True)
    attached(edge, link)
    group = edge.cluster.groups[GROUP]
    assert group is not former
    edge.cluster.drop_unused(former)  # As when an origin answers for one that has left.
    assert edge.cluster.groups[GROUP] is link.data.groups[GROUP] is group


def test_what_is_opened_by_an_origin_that_no_longer_has_the_group_means_nothing() -> None:
    edge, node, link = make_edge()
    linked(edge, node, "origin-2")
    node.grant(GROUP, "origin-2", 4)
    say(edge, link, object_traffic.ObjectOpened(5, "board", False, 1, 0, 1, GROUP, content(a=1)))
    say(edge, link, object_traffic.ObjectResumed(6, GROUP, "board", False, 1))
    assert [len(known) for known in (edge.cluster.groups, link.data.objects, link.data.groups)] == [0, 0, 0]


def test_a_replica_that_is_closed_goes_on_with_members_that_another_edge_had(two: Two) -> None:
    say(two.edge, two.first, object_traffic.ObjectLeft(1, 5), object_traffic.ObjectLeft(2, 5))
    assert two.one.client is not None
    group = two.edge.cluster.groups[GROUP]
    restore_member(two.edge, group, two.one.client.home, "board", False, (1, 1))
    say(
        two.edge,
        two.first,
        object_traffic.ObjectClosed(5),
        object_traffic.ObjectResumed(6, GROUP, "board", False, 1),
        object_traffic.ObjectJoined(1, 6, -1, True, 1),
        object_traffic.ObjectUpdate(6, 2, 2, 0, change("b", 2)),
    )
    assert two.got(two.one, 1) == [(CHANGE, "b")]
    assert two.first.data.objects == {6: two.fanout}
    assert two.first.of(object_traffic.ObjectResync) == []
