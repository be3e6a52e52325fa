"""SharedObjects on the edge: the replica, joins and answers from it, one update for all members, merging for slow ones."""

import pytest
from headwater_amf import amf0
from headwater_edge.counters import Counters
from headwater_edge.objects import ObjectFanout
from headwater_rtmp.shared_object import EventType, value_for
from headwater_rtmp.slots import MAX_TOMBSTONES, Slots
from support.edge import CHUNK_SIZE
from support.edge_object import (
    CHANGE,
    CLEAR,
    DENIED,
    NULL,
    REMOVE,
    SEND,
    STATUS,
    SUCCESS,
    USED,
    Board,
    FakeClient,
    value,
)


@pytest.fixture
def board() -> Board:
    return Board()


def test_a_join_brings_use_success_clear_and_the_content(board: Board) -> None:
    board.join()
    board.commit((CHANGE, "a", value(1)), (CHANGE, "b", value(2)))
    client = FakeClient(9)
    board.rejoin(client)
    (message,) = client.messages()
    assert (message.name, message.version, message.persistent) == ("board", 1, False)
    kinds = [(event.type, event.key) for event in message.events]
    assert kinds == [(EventType.USE_SUCCESS, None), (CLEAR, None), (CHANGE, "a"), (CHANGE, "b")]


def test_an_empty_object_is_answered_too(board: Board) -> None:
    client = FakeClient(1)
    board.rejoin(client)
    assert client.got() == [(11, None, None), (8, None, None)]


def test_what_the_origin_had_when_it_opened_the_object_is_there_for_the_first_to_join() -> None:
    slots = Slots.from_rows(7, 0, [("a", value(1), 3), ("gone", b"", 7)])
    fanout = ObjectFanout("board", True, slots, 9, CHUNK_SIZE, Counters())
    client = FakeClient(1)
    fanout.join(1, client, -1)  # type: ignore[arg-type]  # all that it needs of a Client
    (message,) = client.messages()
    assert (message.version, message.persistent) == (7, True)
    assert [(e.type, e.key, e.value) for e in message.events] == [
        (USED, None, None),
        (CLEAR, None, None),
        (CHANGE, "a", value(1)),
    ]


def test_what_joining_members_get_is_made_once_and_shared(board: Board) -> None:
    board.commit(*((CHANGE, f"k{number}", value(number)) for number in range(100)))
    clients = [FakeClient(number) for number in range(1, 71)]
    for client in clients:
        board.rejoin(client)
        board.rejoin(client)
    assert len({id(piece) for client in clients for piece in client.pieces}) == 1
    board.commit((SEND, "", amf0.encode("hear")))
    assert len({id(client.pieces[-1]) for client in clients}) == 1


# Answers to one member


def test_an_answer_shows_the_slots_as_the_replica_has_them_to_one_member(board: Board) -> None:
    one, two = board.join(), board.join(amf3=True)
    board.commit((CHANGE, "x", amf0.encode([1.0])), (CHANGE, "y", value(2)))
    for client in (one, two):
        client.got()
        board.fanout.answer(client.session, [DENIED, (SUCCESS, "s"), (REMOVE, "x"), (REMOVE, "gone")])
    ((message,), (other,)) = one.messages(), two.messages()
    assert message.version == other.version == 1
    assert [(e.type, e.key, e.value, e.code, e.level) for e in message.events] == [
        (STATUS, None, None, "SharedObject.NoWriteAccess", "error"),
        (SUCCESS, "s", None, "", ""),
        (CHANGE, "x", amf0.encode([1.0]), "", ""),
        (REMOVE, "gone", None, "", ""),
    ]
    assert [e.key for e in other.events] == [None, "s", "x", "gone"]
    assert other.events[2].value == value_for(amf0.encode([1.0]), True)


def test_a_refused_clear_is_answered_with_the_content(board: Board) -> None:
    one, two = board.join(), board.join()
    board.commit((CHANGE, "x", value(1)), (CHANGE, "y", value(2)))
    one.got()
    two.got()
    board.fanout.answer(one.session, [DENIED, (CLEAR, "")])
    assert [event[:2] for event in one.got()] == [(STATUS, None), (CLEAR, None), (CHANGE, "x"), (CHANGE, "y")]
    assert two.received == b""


def test_nobody_is_answered_who_is_no_member(board: Board) -> None:
    gone = board.join()
    board.fanout.leave(gone.session)
    board.fanout.answer(gone.session, [(CLEAR, "")])
    closed = board.join()
    closed.closed = True
    board.fanout.answer(closed.session, [(CLEAR, "")])
    assert gone.received == closed.received == b""


def test_a_slow_member_that_is_answered_catches_up_with_the_rest(board: Board) -> None:
    slow = board.join()
    slow.objects_full = True
    board.commit((CHANGE, "x", value(1)), (CHANGE, "y", value(2)))
    board.fanout.answer(slow.session, [(REMOVE, "x")])
    assert slow.got() == [(CHANGE, "x", value(1))]
    slow.drain()
    # What the answer told is told again: a member behind is known by a version, not by slots.
    assert slow.got() == [(CHANGE, "x", value(1)), (CHANGE, "y", value(2))]
    slow.objects_full = True
    board.commit((CLEAR, "", b""), (CHANGE, "z", value(3)))
    board.fanout.answer(slow.session, [(CLEAR, "")])
    assert slow.got() == [(CLEAR, None, None), (CHANGE, "z", value(3))]
    slow.drain()
    assert slow.got() == []


# Updates


def test_the_requester_gets_success_and_the_others_the_change(board: Board) -> None:
    one, two, three = board.join(), board.join(), board.join()
    board.commit((CHANGE, "x", value(1)), (CHANGE, "y", value(2)), by=one)
    assert one.got() == [(SUCCESS, "x", None), (SUCCESS, "y", None)]
    assert two.got() == three.got() == [(CHANGE, "x", value(1)), (CHANGE, "y", value(2))]
    assert board.counters.object_updates == 1
    assert board.counters.object_deliveries == 3


def test_an_application_s_change_is_a_change_for_all(board: Board) -> None:
    one, two = board.join(), board.join()
    board.commit((CHANGE, "x", value(1)))
    assert one.got() == two.got() == [(CHANGE, "x", value(1))]


def test_a_removal_is_a_removal_for_all_and_success_where_a_change_to_nothing_asked(board: Board) -> None:
    one, two = board.join(), board.join()
    board.commit((REMOVE, "x", b""), (REMOVE, "y", NULL), by=one)
    assert one.got() == [(REMOVE, "x", None), (SUCCESS, "y", None)]
    assert two.got() == [(REMOVE, "x", None), (REMOVE, "y", None)]


def test_the_requester_gets_its_answers_in_the_order_of_the_commit(board: Board) -> None:
    one, two = board.join(), board.join()
    events = [
        (CHANGE, "x", value(1)),
        (SEND, "", amf0.encode("hear")),
        (CLEAR, "", b""),
        (CHANGE, "x", value(2)),
    ]
    board.commit(*events, by=one)
    assert [event[:2] for event in one.got()] == [(SUCCESS, "x"), (SEND, None), (CLEAR, None), (SUCCESS, "x")]
    assert [event[:2] for event in two.got()] == [(CHANGE, "x"), (SEND, None), (CLEAR, None), (CHANGE, "x")]
    assert board.fanout.slots.values == {"x": value(2)}


def test_members_of_both_amf_versions_read_the_same(board: Board) -> None:
    old, new = board.join(), board.join(amf3=True)
    board.commit((CHANGE, "x", amf0.encode({"a": 1.0})), (SEND, "", amf0.encode("hello") + value(7)))
    assert old.got() == [
        (CHANGE, "x", amf0.encode({"a": 1.0})),
        (SEND, None, amf0.encode("hello") + value(7)),
    ]
    (_, key, raw), (_, _, arguments) = new.got()
    assert key == "x"
    assert raw is not None
    assert raw[0] == 0x11
    assert amf0.decode(raw)[0] == {"a": 1.0}
    assert arguments is not None
    assert arguments.startswith(amf0.encode("hello"))
    assert amf0.decode_all(arguments, 0) == ["hello", 7.0]


def test_a_value_that_nobody_can_read_costs_only_itself(board: Board) -> None:
    new = board.join(amf3=True)
    board.commit((CHANGE, "bad", b"\x03\x00"), (CHANGE, "good", amf0.encode(True)))
    assert [(kind, key) for kind, key, _ in new.got()] == [(REMOVE, "bad"), (CHANGE, "good")]
    assert board.counters.internal_errors == 1


def test_joins_between_updates_see_each_version_once(board: Board) -> None:
    board.join()
    for number in range(5):
        board.commit((CHANGE, "n", value(number)))
        client = FakeClient(100 + number)
        board.rejoin(client)
        assert client.got()[-1] == (CHANGE, "n", value(number))


def test_the_replica_is_kept_up_to_date_without_members(board: Board) -> None:
    client = board.join()
    board.commit((CHANGE, "old", value(0)))
    board.fanout.leave(client.session)
    board.commit((CHANGE, "x", value(1)), (REMOVE, "old", b""))
    client.got()
    board.rejoin(client)
    (message,) = client.messages()
    assert message.version == 2
    assert [(e.type, e.key, e.value) for e in message.events] == [
        (USED, None, None),
        (CLEAR, None, None),
        (CHANGE, "x", value(1)),
    ]


def test_a_member_that_is_closed_during_an_update_hurts_nobody(board: Board) -> None:
    one, gone, three = board.join(), board.join(), board.join()
    gone.ends = True
    board.commit((CHANGE, "x", value(1)))
    board.commit((CHANGE, "x", value(2)))
    assert one.got() == three.got() == [(CHANGE, "x", value(1)), (CHANGE, "x", value(2))]
    assert len(gone.messages()) == 1


# Slow members


def test_a_slow_member_gets_the_last_value_of_each_slot_once(board: Board) -> None:
    slow, fast = board.join(), board.join()
    slow.objects_full = True
    for number in range(100):
        board.commit((CHANGE, "x", value(number)), (CHANGE, "y", value(-number)))
    board.commit((CHANGE, "z", value(5)))
    board.commit((REMOVE, "z", b""))
    assert slow.received == b""
    slow.drain()
    (message,) = slow.messages()
    assert message.version == 102
    assert [(e.type, e.key, e.value) for e in message.events] == [
        (CHANGE, "x", value(99)),
        (CHANGE, "y", value(-99)),
        (REMOVE, "z", None),
    ]
    assert len(fast.messages()) == 102
    board.commit((CHANGE, "x", value(7)))
    assert slow.got() == [(CHANGE, "x", value(7))]


def test_a_slow_member_is_not_served_one_by_one_until_it_has_caught_up(board: Board) -> None:
    slow = board.join()
    slow.objects_full = True
    board.commit((CHANGE, "x", value(1)))
    slow.objects_full = False
    board.commit((CHANGE, "x", value(2)))
    assert slow.received == b""
    slow.drain()
    assert slow.got() == [(CHANGE, "x", value(2))]


def test_a_slow_member_that_missed_a_clear_gets_a_removal_for_each_slot_that_is_gone(board: Board) -> None:
    slow = board.join()
    board.commit((CHANGE, "old", value(1)), (CHANGE, "kept", value(2)))
    slow.got()
    slow.objects_full = True
    board.commit(
        (CHANGE, "x", value(1)), (CLEAR, "", b""), (CHANGE, "y", value(2)), (CHANGE, "kept", value(3))
    )
    slow.drain()
    # Of `x` it has never heard; that it is gone does no harm.
    assert slow.got() == [
        (REMOVE, "old", None),
        (REMOVE, "x", None),
        (CHANGE, "y", value(2)),
        (CHANGE, "kept", value(3)),
    ]


def test_a_slow_member_that_missed_very_many_deletions_gets_the_content_anew(board: Board) -> None:
    slow = board.join()
    slow.objects_full = True
    for number in range(MAX_TOMBSTONES + 10):
        board.commit((CHANGE, f"k{number}", value(number)), (REMOVE, f"k{number - 1}", b""))
    slow.drain()
    last = MAX_TOMBSTONES + 9
    assert slow.got() == [(CLEAR, None, None), (CHANGE, f"k{last}", value(last))]


def test_a_slow_requester_is_answered_all_the_same(board: Board) -> None:
    slow, other = board.join(), board.join()
    slow.objects_full = True
    board.commit((CHANGE, "x", value(1)), by=other)
    board.commit((CHANGE, "x", value(2)), by=slow)
    board.commit((CHANGE, "y", value(3)), by=other)
    board.commit((REMOVE, "y", b""), by=slow)
    assert slow.got() == [(SUCCESS, "x", None), (REMOVE, "y", None)]
    slow.drain()
    assert slow.got() == [(CHANGE, "x", value(2)), (REMOVE, "y", None)]


def test_a_slow_member_is_told_no_version_that_it_lacks_a_part_of(board: Board) -> None:
    """It may leave before it has caught up, and come back with what it was told."""
    slow, other = board.join(), board.join()
    board.commit((CHANGE, "x", value(1)), by=other)
    slow.objects_full = True
    board.commit((CHANGE, "x", value(2)), by=other)
    board.commit((CHANGE, "y", value(3)), by=slow)
    board.fanout.answer(slow.session, [(SUCCESS, "z")])
    board.commit((SEND, "", amf0.encode("hear")))
    board.commit((CHANGE, "x", value(4)), by=other)
    board.commit((CHANGE, "y", value(5)), by=slow)
    slow.drain()
    told = [(message.version, [event.key for event in message.events]) for message in slow.messages()]
    assert told == [(1, ["x"]), (1, ["y"]), (1, ["z"]), (3, ["x", "y", None]), (3, ["y"]), (5, ["x", "y"])]


def test_slow_members_that_fell_behind_at_different_times_get_what_each_lacks(board: Board) -> None:
    members = [board.join() for _ in range(3)]
    for number, member in enumerate(members):
        member.objects_full = True
        board.commit((CHANGE, f"k{number}", value(number)))
    for number, member in enumerate(members):
        member.received = b""
        member.drain()
        assert member.got() == [(CHANGE, f"k{at}", value(at)) for at in range(number, 3)]


def test_a_slow_member_misses_nothing_by_commits_of_messages_only(board: Board) -> None:
    slow = board.join()
    board.commit((CHANGE, "x", value(1)))
    slow.got()
    slow.objects_full = True
    for _ in range(3):
        board.commit((SEND, "", amf0.encode("hear")))
    assert slow.got() == [(SEND, None, amf0.encode("hear"))] * 3
    assert slow.behind is None
    # Several commits and one version: what it lacks counts from the last change that it has.
    board.commit((CHANGE, "x", value(2)))
    board.commit((SEND, "", amf0.encode("hear")))
    board.commit((SEND, "", amf0.encode("hear")))
    assert slow.got() == [(CHANGE, "x", value(2)), *[(SEND, None, amf0.encode("hear"))] * 2]
    board.commit((CHANGE, "y", value(3)))
    slow.drain()
    assert slow.got() == [(CHANGE, "y", value(3))]


def test_a_change_of_others_after_the_slow_one_s_own_is_not_lost(board: Board) -> None:
    slow, other = board.join(), board.join()
    slow.objects_full = True
    board.commit((CHANGE, "x", value(2)), by=slow)
    board.commit((CHANGE, "x", value(3)), by=other)
    assert slow.got() == [(SUCCESS, "x", None)]
    slow.drain()
    assert slow.got() == [(CHANGE, "x", value(3))]


def test_messages_reach_a_slow_member_behind_what_it_had_missed(board: Board) -> None:
    slow = board.join()
    slow.objects_full = True
    board.commit((CHANGE, "x", value(1)))
    board.commit((SEND, "", amf0.encode("go")))
    board.commit((CHANGE, "x", value(2)))
    assert slow.got() == [(CHANGE, "x", value(1)), (SEND, None, amf0.encode("go"))]
    slow.drain()
    assert slow.got() == [(CHANGE, "x", value(2))]


def test_a_slow_member_that_joins_again_or_leaves_has_nothing_to_catch_up_with(board: Board) -> None:
    again, gone = board.join(), board.join()
    for client in (again, gone):
        client.objects_full = True
    board.commit((CHANGE, "x", value(1)))
    board.rejoin(again)
    board.fanout.leave(gone.session)
    again.drain()
    gone.drain()
    assert again.got() == [(11, None, None), (8, None, None), (CHANGE, "x", value(1))]
    assert gone.got() == []


def test_a_member_may_have_another_number_by_the_time_it_has_caught_up(board: Board) -> None:
    member = board.join()
    member.objects_full = True
    board.commit((CHANGE, "x", value(1)))
    board.fanout.leave(member.session)
    member.session = 99
    board.rejoin(member)
    board.commit((CHANGE, "x", value(2)))
    member.received = b""
    member.drain()
    assert member.got() == [(CHANGE, "x", value(2))]
