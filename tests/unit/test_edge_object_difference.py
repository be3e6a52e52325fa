"""Replicas of SharedObjects on the edge: joins with a version, commits that are missing, what replaces a stale replica."""

import random

import pytest
from headwater_edge.objects import ObjectFanout
from headwater_rtmp.slots import Slots
from support.edge_object import CHANGE, CLEAR, NULL, REMOVE, SEND, SUCCESS, USED, Board, FakeClient, value

HEAR = b"\x02\x00\x04hear"


@pytest.fixture
def board() -> Board:
    return Board()


def replaced(board: Board, origin: Slots) -> None:
    """The origin's answer to a resync."""
    board.version = origin.version
    rows = [list(row) for row in origin.rows()]
    board.fanout.replace(Slots.from_rows(origin.version, origin.base, rows), board.events)


# Joins


def test_who_has_a_version_is_told_what_is_newer(board: Board) -> None:
    for at, key in enumerate("abc"):
        board.commit((CHANGE, key, value(at)))
    board.commit((REMOVE, "a", b""))
    back = FakeClient(9)
    board.rejoin(back, since=2)
    (message,) = back.messages()
    assert message.version == 4
    assert [(e.type, e.key, e.value) for e in message.events] == [
        (USED, None, None),
        (CHANGE, "c", value(2)),
        (REMOVE, "a", None),
    ]


def test_who_has_the_last_version_is_told_nothing_but_that_it_uses_the_object(board: Board) -> None:
    board.commit((CHANGE, "a", value(1)))
    back = FakeClient(9)
    board.rejoin(back, since=1)
    assert back.got() == [(USED, None, None)]


@pytest.mark.parametrize("since", [-1, 3, 4, 9, 2**32 - 1])
def test_who_has_a_version_that_the_replica_does_not_know_gets_everything(since: int) -> None:
    slots = Slots.from_rows(8, 5, [["a", value(1), 2], ["b", value(2), 8]])
    fanout = ObjectFanout("board", True, slots, 40, 128, Board().counters)
    back = FakeClient(1)
    fanout.join(1, back, since)  # type: ignore[arg-type]  # all that it needs of a Client
    assert back.got(128) == [
        (USED, None, None),
        (CLEAR, None, None),
        (CHANGE, "a", value(1)),
        (CHANGE, "b", value(2)),
    ]


def test_what_members_that_come_back_get_is_made_once_for_each_version(board: Board) -> None:
    for number in range(40):
        board.commit((CHANGE, f"k{number}", value(number)))
    clients = [FakeClient(number) for number in range(1, 31)]
    for client in clients:
        board.rejoin(client, since=30)
    assert len({id(piece) for client in clients for piece in client.pieces}) == 1
    # Many versions: each gets its own difference, whatever is kept.
    for since in [*range(40), *range(40)]:
        (client,) = clients[:1]
        client.received = b""
        board.rejoin(client, since=since)
        assert [key for _, key, _ in client.got()] == [None, *(f"k{number}" for number in range(since, 40))]
    # After a change it is made anew.
    board.commit((CHANGE, "k0", value(-1)))
    clients[0].received = b""
    board.rejoin(clients[0], since=40)
    assert clients[0].got() == [(USED, None, None), (CHANGE, "k0", value(-1))]


def test_a_difference_leads_every_client_to_the_content_of_the_replica() -> None:
    chance = random.Random(5)
    board = Board()
    held: list[tuple[int, dict[str, bytes]]] = [(0, {})]
    for number in range(300):
        key = f"k{chance.randrange(12)}"
        if chance.random() < 0.03:
            board.commit((CLEAR, "", b""))
        elif chance.random() < 0.3:
            board.commit((REMOVE, key, b""))
        else:
            board.commit((CHANGE, key, value(number)), (SEND, "", HEAR))
        held.append((board.version, dict(board.fanout.slots.values)))
    for version, content in chance.sample(held, 60):
        back = FakeClient(1)
        board.rejoin(back, since=version)
        for kind, changed, raw in back.got():
            if kind == CHANGE:
                assert changed is not None
                assert raw is not None
                content[changed] = raw
            elif kind == REMOVE:
                content.pop(str(changed), None)
            else:
                assert kind == USED
        assert content == board.fanout.slots.values


# Missing commits


def test_a_missing_commit_is_said_once_and_nothing_is_applied_until_the_replica_is_replaced(
    board: Board,
) -> None:
    origin = Slots()
    member = board.join()
    board.commit((CHANGE, "a", value(1)), (CHANGE, "b", value(2)))
    origin.apply(1, [(CHANGE, "a", value(1)), (CHANGE, "b", value(2))])
    member.got()
    board.lose((CHANGE, "a", value(3)))
    origin.apply(2, [(CHANGE, "a", value(3))])
    origin.apply(3, [(REMOVE, "b", b"")])
    origin.apply(4, [(CHANGE, "c", value(4))])
    assert not board.fanout.update(3, 3, 0, [(REMOVE, "b", b"")])
    assert board.fanout.update(4, 4, 0, [(CHANGE, "c", value(4))])
    assert member.received == b""
    assert board.fanout.slots.version == 1
    assert board.counters.object_resyncs == 1
    board.events = 4
    replaced(board, origin)
    (message,) = member.messages()
    assert message.version == 4
    assert [(e.type, e.key, e.value) for e in message.events] == [
        (CHANGE, "a", value(3)),
        (REMOVE, "b", None),
        (CHANGE, "c", value(4)),
    ]
    board.commit((CHANGE, "d", value(5)), by=member)
    assert member.got() == [(SUCCESS, "d", None)]


def test_a_missing_commit_of_messages_only_is_missing_too(board: Board) -> None:
    member = board.join()
    board.lose((SEND, "", HEAR))
    assert not board.fanout.update(0, 2, 0, [(SEND, "", HEAR)])
    board.events = 2
    replaced(board, Slots())
    # The messages are lost, and nothing differs.
    assert member.received == b""
    board.commit((SEND, "", HEAR))
    assert member.got() == [(SEND, None, HEAR)]


def test_who_asked_for_a_commit_that_cannot_be_applied_is_answered(board: Board) -> None:
    """And has what the replica has in the end, whatever its own changes were."""
    origin = Slots()
    member, other = board.join(), board.join()
    first = [(CHANGE, "a", value(1)), (CHANGE, "b", value(1))]
    board.commit(*first)
    origin.apply(1, first)
    member.got()
    other.got()
    board.lose((CHANGE, "c", value(1)))
    origin.apply(2, [(CHANGE, "c", value(1))])
    own = [(CLEAR, "", b""), (CHANGE, "a", value(1)), (REMOVE, "x", NULL)]
    origin.apply(3, own)
    assert not board.fanout.update(3, 3, member.session, own)
    assert member.got() == [(CLEAR, None, None), (SUCCESS, "a", None), (SUCCESS, "x", None)]
    origin.apply(4, [(CHANGE, "a", value(4))])
    assert board.fanout.update(4, 4, member.session, [(CHANGE, "a", value(4)), (SEND, "", HEAR)])
    assert member.got() == [(SUCCESS, "a", None)]
    assert other.received == b""
    assert board.counters.object_resyncs == 1
    board.events = 4
    replaced(board, origin)
    member.drain()
    assert member.got() == [(CLEAR, None, None), (CHANGE, "a", value(4))]
    assert other.got() == [(REMOVE, "b", None), (CHANGE, "a", value(4))]


def test_a_commit_that_has_come_already_is_a_gap_too(board: Board) -> None:
    board.commit((CHANGE, "a", value(1)))
    assert not board.fanout.update(1, 1, 0, [(CHANGE, "a", value(1))])


def test_what_differs_is_one_message_that_members_share(board: Board) -> None:
    members = [board.join(), board.join(), board.join(amf3=True)]
    board.commit((CHANGE, "same", value(0)), (CHANGE, "gone", value(1)), (CHANGE, "other", value(2)))
    for member in members:
        member.got()
    # Another history: `gone` is not even remembered there.
    origin = Slots.from_rows(9, 9, [["other", value(7), 4], ["same", value(0), 9]])
    replaced(board, origin)
    assert members[0].pieces[-1] is members[1].pieces[-1]
    for member in members:
        (message,) = member.messages()
        assert [(e.type, e.key) for e in message.events] == [(REMOVE, "gone"), (CHANGE, "other")]


def test_a_slow_member_gets_the_content_of_the_new_replica_once_it_has_drained(board: Board) -> None:
    behind, full, fast, closed = (board.join() for _ in range(4))
    behind.objects_full = True
    board.commit((CHANGE, "a", value(1)))
    full.got()
    full.objects_full = closed.closed = True
    closed.received = b""
    origin = Slots.from_rows(1, 0, [["b", value(2), 1]])
    replaced(board, origin)
    assert behind.received == full.received == closed.received == b""
    for member in (behind, full):
        member.drain()
        assert member.got() == [(CLEAR, None, None), (CHANGE, "b", value(2))]
    assert fast.got()[-2:] == [(REMOVE, "a", None), (CHANGE, "b", value(2))]


def test_joins_and_answers_while_the_replica_is_stale_show_what_it_has(board: Board) -> None:
    board.commit((CHANGE, "a", value(1)))
    board.lose((CHANGE, "a", value(2)))
    assert not board.fanout.update(3, 3, 0, [(CHANGE, "b", value(3))])
    member, back = board.join(), FakeClient(7)
    board.rejoin(back, since=3)
    assert back.got()[-1] == (CHANGE, "a", value(1))
    board.fanout.answer(member.session, [(REMOVE, "a")])
    assert member.got() == [(CHANGE, "a", value(1))]
    board.events = 3
    replaced(board, Slots.from_rows(3, 0, [["a", value(2), 2], ["b", value(3), 3]]))
    assert member.got() == back.got() == [(CHANGE, "a", value(2)), (CHANGE, "b", value(3))]
