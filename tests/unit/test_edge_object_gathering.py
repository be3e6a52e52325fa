"""SharedObjects on the edge: what they gather between two flushes, and what does not wait for the next."""

import pytest
from headwater_amf import amf0
from headwater_edge import object_pending
from headwater_edge.object_pending import tell_pending
from headwater_rtmp.slots import Slots
from support.edge import CHUNK_SIZE, messages_in
from support.edge_object import (
    CHANGE,
    CLEAR,
    DENIED,
    REMOVE,
    SEND,
    STATUS,
    SUCCESS,
    USED,
    Board,
    FakeClient,
    value,
)

HEAR = amf0.encode("hear")


@pytest.fixture
def board() -> Board:
    return Board(gathers=True)


def told(client: FakeClient) -> list[tuple[int, list[tuple[int, str | None]]]]:
    """Messages since the last time: version and events."""
    return [(one.version, [(event.type, event.key) for event in one.events]) for one in client.messages()]


def test_what_was_gathered_is_one_message_in_the_order_of_commits(board: Board) -> None:
    one, two = board.join(), board.join(amf3=True)
    board.commit((CHANGE, "x", value(1)))
    board.commit((SEND, "", HEAR))
    board.commit((REMOVE, "x", b""), (CHANGE, "y", value(2)))
    assert one.received == two.received == b""
    assert board.fanout.gathered
    board.fanout.flush()
    expected = [(2, [(CHANGE, "x"), (SEND, None), (REMOVE, "x"), (CHANGE, "y")])]
    assert told(one) == told(two) == expected
    assert board.counters.object_deliveries == 6
    assert not board.fanout.gathered
    board.fanout.flush()
    assert one.received == b""


def test_what_was_gathered_is_made_once_for_all(board: Board) -> None:
    clients = [board.join() for _ in range(5)]
    board.commit((CHANGE, "x", value(1)))
    board.commit((CHANGE, "x", value(2)))
    board.fanout.flush()
    assert len({id(client.pieces[-1]) for client in clients}) == 1


def test_who_asked_is_answered_at_once_behind_what_came_before(board: Board) -> None:
    one, two = board.join(), board.join()
    board.commit((CHANGE, "x", value(1)))
    board.commit((CHANGE, "y", value(2)), by=one)
    assert told(one) == [(1, [(CHANGE, "x")]), (2, [(SUCCESS, "y")])]
    assert two.received == b""
    board.commit((CHANGE, "z", value(3)))
    board.commit((SEND, "", HEAR), by=two)
    assert told(two) == [(3, [(CHANGE, "x"), (CHANGE, "y"), (CHANGE, "z")]), (3, [(SEND, None)])]
    board.fanout.flush()
    assert told(one) == [(3, [(CHANGE, "z"), (SEND, None)])]
    assert two.received == b""


def test_nothing_is_pending_where_all_were_told(board: Board) -> None:
    one = board.join()
    board.commit((CHANGE, "x", value(1)), by=one)
    assert not board.fanout.gathered
    two = board.join()
    board.commit((CHANGE, "x", value(2)), by=two)
    board.commit((CHANGE, "x", value(3)), by=one)
    # Each of them was told something at once, but one lacks the last commit.
    assert board.fanout.gathered
    board.fanout.flush()
    assert told(two) == [(2, [(SUCCESS, "x")]), (3, [(CHANGE, "x")])]


def test_who_joins_gets_the_content_and_what_comes_behind_it(board: Board) -> None:
    board.join()
    board.commit((CHANGE, "x", value(1)))
    client = FakeClient(9)
    board.rejoin(client)
    board.commit((CHANGE, "y", value(2)))
    board.fanout.flush()
    assert told(client) == [(1, [(USED, None), (CLEAR, None), (CHANGE, "x")]), (2, [(CHANGE, "y")])]


def test_who_joins_again_was_told_what_was_said_before(board: Board) -> None:
    client = board.join()
    board.commit((SEND, "", HEAR))
    board.rejoin(client)
    board.fanout.flush()
    assert told(client) == [(0, [(SEND, None)]), (0, [(USED, None), (CLEAR, None)])]


def test_an_answer_comes_behind_what_is_pending(board: Board) -> None:
    client, other = board.join(), board.join()
    board.commit((CHANGE, "x", value(1)))
    board.fanout.answer(client.session, [DENIED, (REMOVE, "x")])
    assert told(client) == [(1, [(CHANGE, "x")]), (1, [(STATUS, None), (CHANGE, "x")])]
    assert other.received == b""
    board.fanout.flush()
    assert client.received == b""
    assert told(other) == [(1, [(CHANGE, "x")])]


def test_who_leaves_or_is_gone_hurts_nobody(board: Board) -> None:
    one, gone, three = board.join(), board.join(), board.join()
    board.commit((CHANGE, "x", value(1)))
    board.fanout.leave(gone.session)
    three.ends = True
    board.fanout.flush()
    assert told(one) == told(three) == [(1, [(CHANGE, "x")])]
    assert gone.received == b""


def test_what_is_pending_is_told_before_the_replica_is_replaced(board: Board) -> None:
    client = board.join()
    board.commit((CHANGE, "x", value(1)))
    board.fanout.replace(Slots.from_rows(7, 0, [["x", value(7), 7]]), 9)
    assert told(client) == [(1, [(CHANGE, "x")]), (7, [(CHANGE, "x")])]
    assert not board.fanout.gathered


def test_who_asked_for_a_commit_that_cannot_be_applied_has_been_told_what_came_before(board: Board) -> None:
    client = board.join()
    board.commit((CHANGE, "x", value(1)))
    assert not board.fanout.update(3, 3, client.session, [(CHANGE, "y", value(2))])
    assert told(client) == [(1, [(CHANGE, "x")]), (0, [(SUCCESS, "y")])]


def test_a_member_that_goes_away_has_been_told_what_came_before(board: Board) -> None:
    client = board.join()
    board.commit((CHANGE, "x", value(1)))
    board.fanout.goes_away(client.session)
    board.commit((CHANGE, "y", value(2)))
    board.fanout.flush()
    board.commit((CHANGE, "z", value(3)))
    assert told(client) == [(1, [(CHANGE, "x")])]
    board.fanout.let_out(client.session, -1)
    assert told(client) == [(2, [(CHANGE, "y")]), (3, [(CHANGE, "z")])]
    board.commit((CHANGE, "z", value(4)))
    board.fanout.flush()
    assert told(client) == [(4, [(CHANGE, "z")])]


def test_nothing_gathers_for_who_may_go_on_at_another_edge(board: Board) -> None:
    held, other = board.join(holds=True), board.join()
    board.commit((CHANGE, "x", value(1)))
    board.commit((CHANGE, "y", value(2)), by=held)
    board.commit((CHANGE, "z", value(3)), by=other)
    assert told(held) == [(1, [(CHANGE, "x")]), (2, [(SUCCESS, "y")]), (3, [(CHANGE, "z")])]
    assert board.fanout.member_state(held.session) == (3, 3)
    board.fanout.leave(held.session)
    board.commit((CHANGE, "x", value(4)))
    board.fanout.flush()
    assert held.received == b""


@pytest.mark.parametrize("limit", ["_MOST_COMMITS", "_MOST_BYTES"])
def test_very_much_leaves_at_once(board: Board, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(object_pending, limit, 3 if limit == "_MOST_COMMITS" else 3 * (16 + 1 + 9))
    client = board.join()
    for number in range(7):
        board.commit((CHANGE, "x", value(number)))
    assert [len(events) for _, events in told(client)] == [3, 3]
    board.fanout.flush()
    assert told(client) == [(7, [(CHANGE, "x")])]


# Clients that are closed by what they are told, as too much is queued for them


def test_the_only_member_that_is_closed_by_its_answer_costs_nothing_else(board: Board) -> None:
    client = board.join()
    client.ends = True
    board.commit((CHANGE, "x", value(1)), by=client)
    assert told(client) == [(1, [(SUCCESS, "x")])]
    assert not board.fanout.members
    other = board.join()
    board.commit((CHANGE, "x", value(2)))
    board.fanout.flush()
    assert other.got() == [(CHANGE, "x", value(2))]


def test_who_is_closed_by_what_is_pending_does_not_join() -> None:
    one, two = Board("one", gathers=True), Board("two", gathers=True)
    client = one.join()
    one.commit((CHANGE, "x", value(1)))
    client.ends = True
    two.rejoin(client)
    assert not two.fanout.members


def test_who_is_closed_by_what_is_pending_needs_no_answer(board: Board) -> None:
    client, other = board.join(), board.join()
    board.commit((CHANGE, "x", value(1)))
    client.ends = True
    assert not board.fanout.update(3, 3, client.session, [(CHANGE, "y", value(2))])
    board.fanout.replace(Slots.from_rows(3, 0, [["x", value(1), 1]]), 3)
    board.version = board.events = 3
    board.commit((CHANGE, "x", value(4)))
    board.fanout.flush()
    assert other.got() == [(CHANGE, "x", value(1)), (CHANGE, "x", value(4))]


def test_who_is_closed_by_what_is_pending_is_not_away(board: Board) -> None:
    client, other = board.join(), board.join()
    board.commit((CHANGE, "x", value(1)))
    client.ends = True
    board.fanout.goes_away(client.session)
    board.commit((CHANGE, "x", value(2)))
    board.fanout.flush()
    assert len(other.got()) == 2
    assert not board.fanout._away
    assert not board.fanout._held


def test_who_is_closed_by_one_object_is_told_nothing_by_the_next() -> None:
    one, two = Board("one", gathers=True), Board("two", gathers=True)
    slow = FakeClient(9)
    for board in (one, two):
        board.rejoin(slow)
    one.commit((SEND, "", HEAR))
    two.commit((CHANGE, "x", value(1)))
    slow.objects_full = slow.ends = True
    one.fanout.flush()
    other = two.join()
    two.commit((CHANGE, "x", value(2)))
    two.fanout.flush()
    assert other.got() == [(CHANGE, "x", value(2))]
    assert slow.behind is None


# Slow members


def test_a_slow_member_gets_what_was_said_and_the_changes_before_that(board: Board) -> None:
    slow, fast = board.join(), board.join()
    board.commit((CHANGE, "x", value(1)))
    board.commit((SEND, "", HEAR), (CHANGE, "x", value(2)))
    board.commit((CHANGE, "x", value(3)), (CHANGE, "y", value(4)))
    board.commit((CHANGE, "y", value(5)))
    slow.objects_full = True
    board.fanout.flush()
    assert told(slow) == [(2, [(CHANGE, "x"), (SEND, None), (CHANGE, "x")])]
    assert len(told(fast)) == 1
    assert board.counters.object_merges == 3
    board.commit((CHANGE, "z", value(6)))
    board.fanout.flush()
    slow.drain()
    assert slow.got() == [(CHANGE, "x", value(3)), (CHANGE, "y", value(5)), (CHANGE, "z", value(6))]


def test_a_member_that_has_caught_up_has_all_that_is_pending(board: Board) -> None:
    slow = board.join()
    slow.objects_full = True
    board.commit((CHANGE, "x", value(1)))
    board.fanout.flush()
    board.commit((CHANGE, "x", value(2)))
    slow.drain()
    assert slow.got() == [(CHANGE, "x", value(2))]
    board.commit((CHANGE, "y", value(3)))
    board.fanout.flush()
    assert slow.got() == [(CHANGE, "y", value(3))]


def test_a_slow_requester_misses_the_others_changes_and_has_its_answers(board: Board) -> None:
    slow = board.join()
    board.commit((CHANGE, "x", value(1)))
    slow.objects_full = True
    board.commit((CHANGE, "y", value(2)), by=slow)
    board.commit((CHANGE, "x", value(3)))
    assert told(slow) == [(0, [(SUCCESS, "y")])]
    board.fanout.flush()
    slow.drain()
    assert slow.got() == [(CHANGE, "y", value(2)), (CHANGE, "x", value(3))]


# Several objects


def test_what_several_objects_tell_a_client_keeps_its_order() -> None:
    one, two = Board("one", gathers=True), Board("two", gathers=True)
    both, only = FakeClient(1), FakeClient(2)
    for board in (one, two):
        board.rejoin(both)
    one.rejoin(only)
    both.received = only.received = b""
    one.commit((CHANGE, "a", value(1)))
    one.commit((CHANGE, "a", value(2)))
    two.commit((CHANGE, "b", value(3)))
    one.commit((CHANGE, "a", value(4)))
    two.fanout.flush()
    rows = [(message.name, [event.value for event in message.events]) for message in both.messages()]
    assert rows == [("one", [value(1), value(2)]), ("two", [value(3)]), ("one", [value(4)])]
    one.fanout.flush()
    assert both.received == b""
    assert [event[2] for event in only.got()] == [value(1), value(2), value(4)]


def test_what_is_said_to_a_client_comes_behind_all_its_objects(board: Board) -> None:
    client, other = board.join(), board.join()
    stranger = FakeClient(7)
    board.commit((CHANGE, "x", value(1)))
    for one in (client, stranger):
        tell_pending(one)  # type: ignore[arg-type]  # all that it needs of a Client
    assert len(messages_in(client.received, CHUNK_SIZE)) == 1
    assert stranger.received == other.received == b""


def test_what_was_held_back_of_one_object_comes_behind_what_is_pending_of_another() -> None:
    one, two = Board("one", gathers=True), Board("two", gathers=True)
    client = FakeClient(1)
    for board in (one, two):
        board.rejoin(client)
        board.fanout.goes_away(1)
    client.received = b""
    one.fanout.let_out(1, -1)
    one.commit((CHANGE, "a", value(1)))
    two.commit((CHANGE, "b", value(2)))
    two.fanout.let_out(1, -1)
    assert client.got() == [(CHANGE, "a", value(1)), (CHANGE, "b", value(2))]


def test_a_slow_client_of_several_objects_hears_all_that_is_said_in_order() -> None:
    one, two = Board("one", gathers=True), Board("two", gathers=True)
    slow = FakeClient(1)
    for board in (one, two):
        board.rejoin(slow)
    slow.received = b""
    slow.objects_full = True
    one.commit((CHANGE, "a", value(1)))
    two.commit((SEND, "", HEAR))
    one.commit((SEND, "", HEAR))
    one.commit((CHANGE, "a", value(2)))
    one.fanout.flush()
    rows = [(message.name, [event.type for event in message.events]) for message in slow.messages()]
    assert rows == [("one", [CHANGE]), ("two", [SEND]), ("one", [SEND])]
    slow.drain()
    assert slow.got() == [(CHANGE, "a", value(2))]
