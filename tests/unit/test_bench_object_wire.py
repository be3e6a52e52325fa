"""The object load without sockets: what it sends is what the edge reads, and what members check of what comes back."""

import itertools
from dataclasses import replace

import pytest
from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object

from bench.object_layout import SHAPES, ClientSpec, large_groups, one_object, own_objects, sampled_clients
from bench.object_session import ObjectSession
from bench.object_wire import (
    CHUNK_BYTES,
    MOST_CHANGES,
    Expected,
    Member,
    Requests,
    Tally,
    make_value,
    object_name,
    sender_key,
    slot_name,
)
from bench.session import SessionError, Target

REQUESTER, OTHER = ClientSpec(0, "room", (3,), 0), ClientSpec(0, "room", (3,), 1)
LISTENER = ClientSpec(0, "room", (3,))
PERSISTENT = True
BATCH = 2


def chunk(version: int, *events: Event, number: int = 3) -> bytes:
    """What an edge sends."""
    message = encode_shared_object(object_name(number), version, PERSISTENT, events)
    return encode_message(message, csid_for(message.type_id), 60_000)


def change(version: int, number: int, sent_ns: int = 100, requester: int = 0, slots: int = BATCH) -> bytes:
    value = make_value(number, sent_ns)
    return chunk(
        version, *(Event(EventType.CHANGE, slot_name(requester, slot), value) for slot in range(slots))
    )


def success(version: int, requester: int = 0) -> bytes:
    return chunk(version, *(Event(EventType.SUCCESS, slot_name(requester, slot)) for slot in range(BATCH)))


class Room:
    """Members of one object with a tally."""

    def __init__(self, *specs: ClientSpec, sampled: bool = True) -> None:
        self.tally = Tally()
        expected = Expected(specs, BATCH, PERSISTENT)
        self.members = [Member(spec, expected, self.tally, sampled) for spec in specs]

    @property
    def faults(self) -> tuple[int, int, int]:
        return self.tally.missing, self.tally.disordered, self.tally.strange


@pytest.mark.parametrize("batch", [1, 20, MOST_CHANGES])
def test_a_server_reads_the_requests(batch: int) -> None:
    client, server = Connection.client(), Connection.server()
    server.feed(client.data_to_send())
    client.feed(server.data_to_send())
    while client.next_event() is not None:
        pass
    server.feed(client.data_to_send() + client.send_chunk_size(CHUNK_BYTES))
    server.feed(Requests(7, 4, batch, PERSISTENT).message(259, 1_000_000_000_000))
    messages = []
    while (event := server.next_event()) is not None:
        if isinstance(event, Message):
            messages.append(event)
    (message,) = messages
    decoded = decode_shared_object(message)
    assert (decoded.name, decoded.persistent) == (object_name(7), True)
    value = make_value(259, 1_000_000_000_000)
    assert decoded.events == [
        Event(EventType.REQUEST_CHANGE, slot_name(4, slot), value) for slot in range(batch)
    ]


def test_a_requester_counts_answers_and_a_listener_latencies() -> None:
    room = Room(REQUESTER, LISTENER)
    requester, listener = room.members
    assert requester.take(success(1) + success(2), 0) == 2
    assert requester.answered == 2
    assert listener.take(change(1, 1, 100) + change(2, 2, 250), 300) == 0
    assert list(room.tally.latencies_ns) == [200, 50]
    assert (room.tally.answered, room.tally.delivered) == (2, 4)
    assert listener.last == {sender_key(3, 0): 2}
    assert room.faults == (0, 0, 0)


def test_any_cut_of_the_bytes_gives_the_same() -> None:
    data = change(1, 1) + change(2, 2) + change(3, 3)
    for first, second in itertools.combinations(range(1, len(data)), 2):
        room = Room(LISTENER, REQUESTER)
        for piece in (data[:first], data[first:second], data[second:]):
            room.members[0].take(piece, 500)
        assert room.members[0].last == {sender_key(3, 0): 3}
        assert (room.tally.delivered, room.faults) == (3, (0, 0, 0))


@pytest.mark.parametrize(
    ("received", "faults"),
    [
        (change(1, 1) + change(3, 4), (2, 0, 0)),
        (change(1, 1) + change(2, 1), (0, 1, 0)),
        (change(2, 1) + change(1, 2), (0, 1, 0)),
        (change(1, 1, slots=1), (0, 0, 1)),
        (success(1), (0, 0, 1)),
        (chunk(1, Event(EventType.STATUS, code="SharedObject.NoWriteAccess", level="error")), (0, 0, 1)),
        (chunk(1, Event(EventType.CLEAR)), (0, 0, 1)),
    ],
)
def test_faults_are_seen(received: bytes, faults: tuple[int, int, int]) -> None:
    room = Room(LISTENER, REQUESTER)
    room.members[0].take(received, 500)
    assert room.faults == faults


def test_every_byte_of_a_change_counts() -> None:
    good = change(1, 1)
    for at in range(23, len(good)):
        room = Room(LISTENER, REQUESTER)
        try:
            room.members[0].take(good[:at] + bytes([good[at] ^ 0x41]) + good[at + 1 :], 500)
        except RemoteProtocolError:
            continue
        assert sum(room.faults) > 0


def test_merged_changes_still_tell_the_last_value() -> None:
    room = Room(LISTENER, REQUESTER, OTHER)
    merged = [
        Event(EventType.CHANGE, slot_name(requester, 0), make_value(number, 0))
        for requester, number in ((0, 8), (1, 5))
    ]
    room.members[0].take(chunk(9, *merged), 500)
    assert room.members[0].last == {sender_key(3, 0): 8, sender_key(3, 1): 5}


def test_requesters_of_one_object_see_each_other() -> None:
    room = Room(REQUESTER, OTHER)
    first, second = room.members
    assert first.take(success(1) + change(2, 1, requester=1), 500) == 1
    assert second.take(change(1, 1) + success(2, requester=1), 500) == 1
    assert first.last == second.last == {sender_key(3, 0): 1, sender_key(3, 1): 1}
    assert room.faults == (0, 0, 0)


def test_listeners_that_get_the_same_bytes_are_counted_alike() -> None:
    listeners = [LISTENER] * 3
    room = Room(*listeners, REQUESTER, sampled=False)
    for data in (change(1, 1), change(2, 2) + change(3, 3)):
        for member in room.members[:3]:
            member.take(data, 500)
    assert [member.last for member in room.members[:3]] == [{sender_key(3, 0): 3}] * 3
    assert (room.tally.delivered, room.faults) == (9, (0, 0, 0))


def test_bytes_that_are_right_for_another_are_wrong_for_who_lacks_the_ones_before() -> None:
    room = Room(LISTENER, LISTENER, REQUESTER, sampled=False)
    first, second = room.members[:2]
    first.take(change(1, 1), 500)
    first.take(change(2, 2), 500)
    second.take(change(2, 2), 500)
    assert room.faults == (1, 0, 0)


def test_faulty_bytes_are_not_right_for_anyone() -> None:
    room = Room(LISTENER, LISTENER, REQUESTER, sampled=False)
    for member in room.members[:2]:
        member.take(change(3, 3), 500)
    assert room.faults == (4, 0, 0)


def test_other_messages_are_passed_over_and_compressed_headers_are_an_error() -> None:
    room = Room(LISTENER, REQUESTER)
    ping = encode_message(Message(MessageType.USER_CONTROL, 0, 0, b"\x00\x06\x00\x00\x00\x01"), 2, 128)
    room.members[0].take(ping + change(1, 1), 500)
    assert (room.tally.delivered, room.faults) == (1, (0, 0, 0))
    with pytest.raises(RemoteProtocolError, match="0xc3"):
        room.members[0].take(b"\xc3" + bytes(20), 500)


def test_the_layouts() -> None:
    own, large, one = own_objects(2, 3), large_groups(2, 4), one_object(2, 3)
    assert [client.objects for client in own if client.requester is None] == [(0, 1, 2), (3, 4, 5)]
    assert sorted(client.objects[0] for client in own if client.requester is not None) == list(range(6))
    assert [client.requester for client in large] == [0, None, None, None] * 2
    assert {(client.edge, client.requester) for client in one} == {
        (number % 2, number) for number in range(6)
    }
    assert {shape.name: shape.edges for shape in SHAPES} == {"own": 1, "large": 1, "one": 2}


def test_who_takes_latencies() -> None:
    own, large, one = own_objects(2, 3), large_groups(5, 200), one_object(2, 3)
    assert [own[index].requester for index in sampled_clients(own)] == [None, None]
    assert len(sampled_clients(large, 50)) == 50
    assert all(large[index].requester is None for index in sampled_clients(large, 50))
    assert len(sampled_clients(one)) == len(one)


def test_a_scope_for_each_load() -> None:
    assert REQUESTER.renamed("room-20") == replace(REQUESTER, scope="room-20")


def open_session(*answers: Message) -> tuple[ObjectSession, list[Message]]:
    """A session that has connected and asked for two objects, and been told `answers`; and what the server has heard."""
    server = Connection.server()
    session = ObjectSession(Target("127.0.0.1", 1935, "live/room"), ["o0001", "o0002"], PERSISTENT)
    heard: list[Message] = []
    data, told = session.start(), False
    while data:
        server.feed(data)
        out = b""
        while (event := server.next_event()) is not None:
            if isinstance(event, Message):
                heard.append(event)
                if event.type_id == MessageType.COMMAND_AMF0:
                    out += server.send(encode_command("_result", 1, {}, {"level": "status"}))
                elif not told:
                    told = True
                    out += b"".join(server.send(answer) for answer in answers)
        data = server.data_to_send() + out
        data = session.feed(data) if data else b""
    return session, heard


def test_a_member_opens() -> None:
    joined = [
        encode_shared_object(name, 0, PERSISTENT, [Event(EventType.USE_SUCCESS), Event(EventType.CLEAR)])
        for name in ("o0001", "o0002")
    ]
    session, heard = open_session(*joined)
    assert session.joined
    connect, *uses = heard
    assert decode_command(connect).command_object["app"] == "live/room"
    assert [decode_shared_object(use).events for use in uses] == [[Event(EventType.USE)]] * 2
    assert not open_session(joined[0])[0].joined


def test_a_refused_object_says_why() -> None:
    status = Event(EventType.STATUS, code="SharedObject.ObjectCreationFailed", level="error")
    with pytest.raises(SessionError, match=r"o0001: SharedObject\.ObjectCreationFailed"):
        open_session(encode_shared_object("o0001", 0, PERSISTENT, [status]))
