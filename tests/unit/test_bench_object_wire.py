"""Members in Python without sockets: what they send is what the edge reads, and what they note of what comes back."""

import itertools

import pytest
from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object

from bench.object_layout import SHAPES, ClientSpec, groups, one_object, own_objects
from bench.object_session import ObjectSession
from bench.object_wire import (
    CHUNK_BYTES,
    Member,
    Tally,
    encode_request,
    make_value,
    object_name,
    sender_key,
    senders,
    slot_name,
)
from bench.session import SessionError, Target

REQUESTER, OTHER = ClientSpec(0, "room", (3,), 0), ClientSpec(0, "room", (3,), 1)
LISTENER = ClientSpec(0, "room", (3,))
PERSISTENT = True


def chunk(version: int, *events: Event) -> bytes:
    """What an edge sends."""
    message = encode_shared_object(object_name(3), version, PERSISTENT, events)
    return encode_message(message, csid_for(message.type_id), 60_000)


def changed(*numbers: int, requester: int = 0) -> list[Event]:
    return [Event(EventType.CHANGE, slot_name(requester, 0), make_value(number, 0)) for number in numbers]


def success(count: int = 1, requester: int = 0) -> list[Event]:
    return [Event(EventType.SUCCESS, slot_name(requester, 0))] * count


class Room:
    """Members of one object with a tally."""

    def __init__(self, *specs: ClientSpec) -> None:
        self.tally = Tally()
        self.members = [Member(spec, senders(specs), self.tally) for spec in specs]

    @property
    def faults(self) -> tuple[int, int, int]:
        return self.tally.missing, self.tally.disordered, self.tally.strange


def test_a_server_reads_the_requests() -> None:
    client, server = Connection.client(), Connection.server()
    server.feed(client.data_to_send())
    client.feed(server.data_to_send())
    while client.next_event() is not None:
        pass
    server.feed(client.data_to_send() + client.send_chunk_size(CHUNK_BYTES))
    server.feed(encode_request(ClientSpec(0, "room", (7,), 4), 259, 1_000_000_000_000, PERSISTENT))
    messages = []
    while (event := server.next_event()) is not None:
        if isinstance(event, Message):
            messages.append(event)
    (message,) = messages
    decoded = decode_shared_object(message)
    assert (decoded.name, decoded.persistent) == (object_name(7), True)
    value = make_value(259, 1_000_000_000_000)
    assert decoded.events == [Event(EventType.REQUEST_CHANGE, slot_name(4, 0), value)]


def test_a_member_notes_each_change_with_its_time() -> None:
    room = Room(LISTENER, REQUESTER)
    listener = room.members[0]
    listener.take(chunk(1, *changed(1)), 10)
    listener.take(chunk(2, *changed(2)) + chunk(3, *changed(3)), 20)
    assert (list(listener.numbers), list(listener.arrivals_ns)) == ([1, 2, 3], [10, 20, 20])
    assert listener.last == {sender_key(3, 0): 3}
    listener.forget()
    listener.take(chunk(4, *changed(4)), 30)
    assert (list(listener.numbers), list(listener.arrivals_ns)) == ([4], [30])
    assert room.tally.faults == 0


def test_changes_that_were_gathered_are_no_fault() -> None:
    room = Room(LISTENER, REQUESTER)
    listener, requester = room.members
    listener.take(chunk(3, *changed(1, 2, 3)), 10)
    assert list(listener.numbers) == [1, 2, 3]
    assert requester.take(chunk(3, *success(2)), 10) == 2
    assert (requester.answered, list(requester.numbers)) == (2, [1, 2])
    assert (room.tally.answered, room.tally.delivered, room.tally.faults) == (2, 2, 0)


def test_any_cut_of_the_bytes_gives_the_same() -> None:
    data = chunk(1, *changed(1)) + chunk(2, *changed(2)) + chunk(3, *changed(3))
    for first, second in itertools.combinations(range(1, len(data)), 2):
        room = Room(LISTENER, REQUESTER)
        for piece in (data[:first], data[first:second], data[second:]):
            room.members[0].take(piece, 500)
        assert room.members[0].last == {sender_key(3, 0): 3}
        assert (room.tally.delivered, room.faults) == (3, (0, 0, 0))


@pytest.mark.parametrize(
    ("received", "faults"),
    [
        (chunk(1, *changed(1)) + chunk(3, *changed(3)), (1, 0, 0)),
        (chunk(1, *changed(1)) + chunk(1, *changed(1)), (0, 1, 0)),
        (chunk(3, *changed(1, 3, 2)), (1, 1, 0)),
        (chunk(2, *changed(1)) + chunk(1, *changed(2)), (0, 1, 0)),
        (chunk(1, Event(EventType.CLEAR), *changed(1)), (0, 0, 1)),
        (chunk(1, *success()), (0, 0, 1)),
        (chunk(1, Event(EventType.CHANGE, slot_name(0, 0), b"\x05")), (0, 0, 1)),
        (chunk(1, Event(EventType.CHANGE, "other", make_value(1, 0))), (0, 0, 1)),
        (chunk(1, Event(EventType.REMOVE, slot_name(0, 0))), (0, 0, 1)),
        (chunk(1, Event(EventType.STATUS, code="SharedObject.NoWriteAccess", level="error")), (0, 0, 1)),
    ],
)
def test_faults_are_seen(received: bytes, faults: tuple[int, int, int]) -> None:
    room = Room(LISTENER, REQUESTER)
    room.members[0].take(received, 500)
    assert room.faults == faults


def test_a_success_too_many_is_seen_by_the_requester() -> None:
    room = Room(REQUESTER)
    room.members[0].take(chunk(1, *success()) * 2, 10)
    assert room.members[0].last == {sender_key(3, 0): 2}


def test_requesters_of_one_object_see_each_other() -> None:
    room = Room(REQUESTER, OTHER)
    first, second = room.members
    assert first.take(chunk(1, *success()) + chunk(2, *changed(1, requester=1)), 500) == 1
    assert second.take(chunk(1, *changed(1)) + chunk(2, *success(requester=1)), 500) == 1
    assert first.last == second.last == {sender_key(3, 0): 1, sender_key(3, 1): 1}
    assert room.faults == (0, 0, 0)


def test_other_messages_are_passed_over_and_compressed_headers_are_an_error() -> None:
    room = Room(LISTENER, REQUESTER)
    ping = encode_message(Message(MessageType.USER_CONTROL, 0, 0, b"\x00\x06\x00\x00\x00\x01"), 2, 128)
    room.members[0].take(ping + chunk(1, *changed(1)), 500)
    assert (room.tally.delivered, room.faults) == (1, (0, 0, 0))
    with pytest.raises(RemoteProtocolError, match="0xc3"):
        room.members[0].take(b"\xc3" + bytes(20), 500)


def test_the_layouts() -> None:
    own, one, few, many = own_objects(2, 3), one_object(2, 3), groups(2), groups(2000)
    assert [client.objects for client in own if client.requester is None] == [(0, 1, 2), (3, 4, 5)]
    assert sorted(client.objects[0] for client in own if client.requester is not None) == list(range(6))
    assert {(client.edge, client.requester) for client in one} == {
        (number % 2, number) for number in range(6)
    }
    assert len(few) == 1000
    assert [(client.objects, client.requester) for client in few[:4]] == [
        ((0,), 0), ((0,), 1), ((1,), 0), ((1,), 1),
    ]  # fmt: skip
    assert len(many) == 2000
    assert [client.requester for client in many if client.requester is not None] == list(range(10))
    assert {shape.edges for shape in SHAPES if shape.name != "one"} == {1}


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
