"""SharedObjects on the edge: the replica, joins and answers from it, one update for all members, merging for slow ones."""

import pytest
from headwater_amf import amf0
from headwater_edge.counters import Counters
from headwater_edge.objects import ObjectFanout
from headwater_rtmp.shared_object import EventType, SharedObjectMessage, decode_shared_object, value_for
from support.edge import CHUNK_SIZE, messages_in

CHANGE, SUCCESS, SEND, STATUS, CLEAR, REMOVE = 4, 5, 6, 7, 8, 9
USED = 11
DENIED = (STATUS, "SharedObject.NoWriteAccess")
NULL = b"\x05"


def value(number: float) -> bytes:
    return amf0.encode(number)


class FakeClient:
    """A member. While `objects_full` its queue is over the limit."""

    def __init__(self, session: int, amf3: bool = False) -> None:
        self.session, self.amf3 = session, amf3
        self.objects_full = self.closed = False
        self.behind: set[ObjectFanout] | None = None
        self.received = b""
        self.pieces: list[bytes] = []
        self.leaves: ObjectFanout | None = None

    def enqueue(self, data: bytes) -> None:
        self.received += data
        self.pieces.append(data)
        if self.leaves is not None:
            self.closed = True
            self.leaves.leave(self.session)

    def drain(self) -> None:
        self.objects_full = False
        behind, self.behind = self.behind or set(), None
        for shared_object in behind:
            shared_object.catch_up(self)  # type: ignore[arg-type]  # all that it needs of a Client

    def messages(self) -> list[SharedObjectMessage]:
        data, self.received = self.received, b""
        messages = messages_in(data)
        assert all(message.type_id == (16 if self.amf3 else 19) for message in messages)
        return [decode_shared_object(message) for message in messages]

    def got(self) -> list[tuple[int, str | None, bytes | None]]:
        return [(e.type, e.key, e.value) for message in self.messages() for e in message.events]


class Board:
    """An object with members and its origin's version."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.fanout = ObjectFanout("board", False, 0, {}, CHUNK_SIZE, self.counters)
        self.version = 0
        self._sessions = 0

    def join(self, amf3: bool = False) -> FakeClient:
        self._sessions += 1
        client = FakeClient(self._sessions, amf3)
        self.rejoin(client)
        client.received = b""
        return client

    def rejoin(self, client: FakeClient) -> None:
        self.fanout.join(client.session, client)  # type: ignore[arg-type]  # all that it needs of a Client

    def commit(self, *events: tuple[int, str, bytes], by: FakeClient | None = None) -> None:
        self.version += any(kind != SEND for kind, _, _ in events)
        self.fanout.update(self.version, by.session if by is not None else 0, events)


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
    fanout = ObjectFanout("board", True, 7, {"a": value(1)}, CHUNK_SIZE, Counters())
    client = FakeClient(1)
    fanout.join(1, client)  # type: ignore[arg-type]  # all that it needs of a Client
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
    # What the answer told is told again: a member behind is known by a commit, not by slots.
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
    assert board.fanout.slots == {"x": value(2)}


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
    gone.leaves = board.fanout
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


def test_a_slow_member_that_missed_a_clear_gets_the_content_anew(board: Board) -> None:
    slow = board.join()
    board.commit((CHANGE, "old", value(1)))
    slow.got()
    slow.objects_full = True
    board.commit((CHANGE, "x", value(1)), (CLEAR, "", b""), (CHANGE, "y", value(2)))
    slow.drain()
    assert slow.got() == [(CLEAR, None, None), (CHANGE, "y", value(2))]


def test_a_slow_member_that_missed_very_many_slots_gets_the_content_anew(board: Board) -> None:
    slow = board.join()
    slow.objects_full = True
    for number in range(5000):
        board.commit((CHANGE, f"k{number}", value(number)), (REMOVE, f"k{number - 1}", b""))
    slow.drain()
    assert slow.got() == [(CLEAR, None, None), (CHANGE, "k4999", value(4999))]


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


def test_a_commit_is_noted_once_however_many_are_slow_and_not_at_all_for_the_others(board: Board) -> None:
    members = [board.join() for _ in range(10)]
    board.commit((CHANGE, "x", value(1)))
    assert board.fanout._changes.number == 0
    for member in members[:8]:
        member.objects_full = True
    board.commit((CHANGE, "y", value(2)))
    board.commit((CHANGE, "x", value(3)))
    assert board.fanout._changes.number == 2
    for member in members[:8]:
        member.got()
        member.drain()
        assert member.got() == [(CHANGE, "y", value(2)), (CHANGE, "x", value(3))]
    assert board.fanout._changes.since(0) is None


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
