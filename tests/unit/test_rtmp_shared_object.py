"""SharedObject messages: vectors of RTMP 1.0 (7.1.3), captures and what other servers send, both ways."""

import struct
from typing import Any

import pytest
from headwater_amf import AmfDecodeError, Date, TypedObject, Vector, amf0, amf3
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import (
    Event,
    EventType,
    SharedObjectLimits,
    SharedObjectMessage,
    arguments_for,
    decode_shared_object,
    encode_event,
    encode_header,
    encode_shared_object,
    encode_status,
    peek_shared_object,
    value_for,
)

HEAD = b"\x00\x05board" + bytes.fromhex("00000003 00000002 00000000")  # version 3, persistent
FIVE = amf0.encode(5.0)

# Event, and its bytes: type, length, and what the type has (7.1.3; Status with the code first, as Red5 writes it).
VECTORS: list[tuple[Event, bytes]] = [
    (Event(EventType.USE), bytes.fromhex("01 00000000")),
    (Event(EventType.RELEASE), bytes.fromhex("02 00000000")),
    (
        Event(EventType.REQUEST_CHANGE, "x", FIVE),
        bytes.fromhex("03 0000000c 0001 78 00 4014000000000000"),
    ),
    (Event(EventType.CHANGE, "x", b"\x05"), bytes.fromhex("04 00000004 0001 78 05")),
    (Event(EventType.SUCCESS, "x"), bytes.fromhex("05 00000003 0001 78")),
    (
        Event(EventType.SEND_MESSAGE, None, b"\x02\x00\x01f" + b"\x05"),
        bytes.fromhex("06 00000005 02 0001 66 05"),
    ),
    (
        Event(EventType.STATUS, None, None, "a.b", "error"),
        bytes.fromhex("07 0000000c 0003 612e62 0005 6572726f72"),
    ),
    (Event(EventType.CLEAR), bytes.fromhex("08 00000000")),
    (Event(EventType.REMOVE, "x"), bytes.fromhex("09 00000003 0001 78")),
    (Event(EventType.REQUEST_REMOVE, "x"), bytes.fromhex("0a 00000003 0001 78")),
    (Event(EventType.USE_SUCCESS), bytes.fromhex("0b 00000000")),
    (Event(EventType.REQUEST_CLEAR), bytes.fromhex("0e 00000000")),
    (Event(EventType.CHANGE, "", b"\x05"), bytes.fromhex("04 00000003 0000 05")),
    (Event(EventType.CHANGE, "naïve", b"\x05"), bytes.fromhex("04 00000009 0006 6e61c3af7665 05")),
]


def message(body: bytes, amf3: bool = False) -> Message:
    return Message(16 if amf3 else 19, 0, 0, (b"\x00" if amf3 else b"") + HEAD + body)


@pytest.mark.parametrize("amf3", [False, True])
@pytest.mark.parametrize(("event", "data"), VECTORS, ids=lambda value: getattr(value, "type", None))
def test_vectors_both_ways(event: Event, data: bytes, amf3: bool) -> None:
    found = decode_shared_object(message(data, amf3))
    assert found == SharedObjectMessage("board", 3, True, 2, [event])
    assert encode_shared_object("board", 3, True, [event], amf3) == message(data, amf3)


@pytest.mark.parametrize("amf3", [False, True])
def test_all_events_in_one_message(amf3: bool) -> None:
    whole = message(b"".join(data for _, data in VECTORS), amf3)
    assert decode_shared_object(whole).events == [event for event, _ in VECTORS]
    assert encode_shared_object("board", 3, True, [event for event, _ in VECTORS], amf3) == whole


@pytest.mark.parametrize(("event", "data"), VECTORS, ids=lambda value: getattr(value, "type", None))
def test_every_truncation_is_told(event: Event, data: bytes) -> None:
    whole = message(data).payload
    for size in range(len(whole)):
        if size != len(HEAD):  # A message without events is one.
            with pytest.raises(RemoteProtocolError, match="SharedObject"):
                decode_shared_object(Message(19, 0, 0, whole[:size]))


@pytest.mark.parametrize("amf3", [False, True])
def test_a_peek_tells_what_a_message_is_about(amf3: bool) -> None:
    about = peek_shared_object(message(b"".join(data for _, data in VECTORS), amf3))
    assert (about.name, about.persistent) == ("board", True)
    assert about.kinds == {event.type for event, _ in VECTORS}
    assert peek_shared_object(message(b"", amf3)).kinds == set()
    # Types that nobody knows are left out here too; what an event holds is not looked at.
    assert peek_shared_object(message(b"\x63\0\0\0\1x" + b"\x03\0\0\0\2\0\x63", amf3)).kinds == {3}


@pytest.mark.parametrize("amf3", [False, True])
def test_a_peek_tells_where_decoding_would_that_a_message_is_cut(amf3: bool) -> None:
    whole = message(b"".join(data for _, data in VECTORS), amf3)
    for size in range(len(whole.payload)):
        cut = Message(whole.type_id, 0, 0, whole.payload[:size])
        seen: list[str] = []
        for read in (peek_shared_object, decode_shared_object):
            try:
                read(cut)
                seen.append("")
            except RemoteProtocolError as error:
                seen.append(str(error))
        assert seen[0] == seen[1]
    with pytest.raises(RemoteProtocolError, match="expected at most 256"):
        peek_shared_object(Message(19, 0, 0, b"\x01\x01" + bytes(300)))
    with pytest.raises(RemoteProtocolError, match="expected a zero byte"):
        peek_shared_object(Message(16, 0, 0, b"\x01" + HEAD))


def test_pieces_are_the_whole() -> None:
    pieces = encode_header("board", 3, True, False) + encode_event(4, "x", FIVE) + encode_status("a", "error")
    events = [Event(4, "x", FIVE), Event(7, None, None, "a", "error")]
    assert pieces == encode_shared_object("board", 3, True, events).payload


@pytest.mark.parametrize(
    ("flags", "persistent"),
    [(0, False), (1, False), (2, True), (3, True), (16, False), (32, False), (48, False), (0xFFFFFFFF, True)],
)
def test_flag_words(flags: int, persistent: bool) -> None:
    # 16, 32 and 48 were captured from another server; bits that nobody knows are no error.
    found = decode_shared_object(Message(19, 0, 0, b"\x00\x01s" + struct.pack(">III", 1, flags, 0)))
    assert (found.persistent, found.flags) == (persistent, flags)


def test_the_second_flag_word_is_not_looked_at() -> None:
    assert decode_shared_object(Message(19, 0, 0, b"\x00\x01s" + struct.pack(">III", 1, 0, 7))).events == []


def test_several_pairs_in_one_event() -> None:
    # Some clients gather changes; Red5's decoder takes as many from a Change.
    for kind in (EventType.REQUEST_CHANGE, EventType.CHANGE):
        pairs = b"\x00\x01a" + FIVE + b"\x00\x01b\x05" + b"\x00\x01c" + amf0.encode({"x": [1.0]})
        body = struct.pack(">BI", kind, len(pairs)) + pairs
        assert decode_shared_object(message(body)).events == [
            Event(kind, "a", FIVE),
            Event(kind, "b", b"\x05"),
            Event(kind, "c", amf0.encode({"x": [1.0]})),
        ]


@pytest.mark.parametrize("kind", [0, 12, 13, 15, 99, 255])
def test_unknown_events_are_left_out(kind: int) -> None:
    # 12 (key and U32) and 13 were captured from another server.
    body = struct.pack(">BI", kind, 7) + b"\x00\x01xwhat" + encode_event(EventType.CLEAR)
    assert decode_shared_object(message(body)).events == [Event(EventType.CLEAR)]


def test_bodies_of_bare_events_are_stepped_over() -> None:
    body = b"\x01\x00\x00\x00\x02??" + encode_event(EventType.CLEAR)
    assert decode_shared_object(message(body)).events == [Event(EventType.USE), Event(EventType.CLEAR)]


def test_amf3_may_begin_with_three() -> None:
    # Red5 takes 0x03 for 0x00.
    assert decode_shared_object(Message(16, 0, 0, b"\x03" + HEAD)).name == "board"


AMF3_FIVE = b"\x11\x04\x05"


def test_amf3_values_stand_behind_their_marker_in_either_message() -> None:
    body = encode_event(EventType.CHANGE, "x", AMF3_FIVE) + encode_event(EventType.CHANGE, "y", FIVE)
    for amf3_message in (False, True):
        found = decode_shared_object(message(body, amf3_message))
        assert [event.value for event in found.events] == [AMF3_FIVE, FIVE]


LIMITS = SharedObjectLimits(events=3, value_bytes=64, name_bytes=8, key_bytes=4)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "SharedObject name: 0 bytes left, expected a length of 2"),
        (b"\x00\x09", "SharedObject name: 9 bytes, expected at most 8"),
        (b"\x00\x05boar", "SharedObject name: 4 bytes left, expected 5"),
        (b"\x00\x02\xff\xff" + bytes(12), "SharedObject name: byte 0xff, expected UTF-8: invalid start byte"),
        (HEAD[:-1], "'board': 11 bytes left, expected 12 of version and flags"),
        (HEAD + b"\x01\x00", "'board': 2 bytes left, expected an event of 5 or more"),
        (HEAD + b"\x05\x00\x00\x00\x09abc", "'board': 3 bytes left, expected 9 of event 5"),
        (HEAD + b"\x05\xff\xff\xff\xff", "'board': 0 bytes left, expected 4294967295 of event 5"),
        (HEAD + encode_event(5, "a" * 5), "SharedObject slot: 5 bytes, expected at most 4"),
        (HEAD + encode_event(9), "SharedObject slot: 0 bytes left, expected a length of 2"),
        (HEAD + encode_event(3, "k"), "SharedObject slot 'k': offset 3: expected a marker, no bytes"),
        (HEAD + encode_event(3, "k", b"\x04"), r"slot 'k': offset 3: marker 0x04 \(movieclip\)"),
        (HEAD + encode_event(3, "k", amf0.encode("v" * 70)), "'k': value of 73 bytes, expected at most 64"),
        (HEAD + encode_event(3, "k", FIVE + b"\x00"), "SharedObject slot: 1 bytes left"),
        (HEAD + encode_event(6), "SharedObject send: nothing, expected the name of a handler"),
        (HEAD + encode_event(6, None, FIVE), "SharedObject send: float, expected the name of a handler"),
        (HEAD + encode_event(6, None, b"\x02\x00\x01f\x03"), "SharedObject send: offset 5: expected"),
        (HEAD + encode_event(6, None, amf0.encode("v" * 70)), "send: 73 bytes, expected at most 64"),
        (HEAD + encode_event(7, "a"), "SharedObject status level: 0 bytes left, expected a length of 2"),
        (HEAD + encode_event(8) * 4, "'board': 4 events or more, expected at most 3"),
        (HEAD + encode_event(3, None, b"\x00\x00\x05" * 9), "'board': 4 events or more, expected at most 3"),
    ],
)
def test_errors_say_what_was_seen_and_expected(payload: bytes, text: str) -> None:
    with pytest.raises(RemoteProtocolError, match=text):
        decode_shared_object(Message(19, 0, 0, payload), LIMITS)


@pytest.mark.parametrize(("first", "seen"), [(b"", "nothing"), (b"\x01", "01")])
def test_amf3_begins_with_a_zero(first: bytes, seen: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"begins with {seen}, expected a zero byte"):
        decode_shared_object(Message(16, 0, 0, first + HEAD[: len(first) * 99]))


@pytest.mark.parametrize(
    ("name", "key", "text"),
    [
        ("a" * 65536, "k", "text of 65536 bytes, expected at most 65535"),
        ("a", "k" * 65536, "text of 65536 bytes, expected at most 65535"),
        ("\ud800", "k", "expected Unicode"),
        ("a", "\ud800", "expected Unicode"),
    ],
)
def test_names_that_do_not_fit_are_ours(name: str, key: str, text: str) -> None:
    with pytest.raises(LocalProtocolError, match=text):
        encode_shared_object(name, 0, False, [Event(EventType.REMOVE, key)])


@pytest.mark.parametrize(
    "value",
    [5.0, "text", None, True, [1.0, "a"], {"a": {"b": 1.0}}, Date(5.0), TypedObject("P", {"x": 1.0})],
)
def test_values_for_clients_of_the_other_version(value: Any) -> None:
    old = amf0.encode(value)
    new = value_for(old, amf3=True)
    assert new[0] == 0x11
    assert amf0.decode(new) == (value, len(new))
    assert value_for(new, amf3=False) == old
    assert value_for(old, amf3=False) is old
    assert value_for(new, amf3=True) is new


def test_what_amf0_has_no_form_for_stays_amf3() -> None:
    value = amf0.encode(Vector("int", [1, 2]))
    assert value_for(value, amf3=False) == value


def test_a_value_does_not_blow_up_on_its_way_to_amf0() -> None:
    """One string and 2000 references to it: 3 KB as AMF3, 2 MB as AMF0."""
    body = b"\x11" + amf3.encode(["x" * 1000] * 2000)
    assert len(body) < 6000
    assert value_for(body, amf3=False) == body
    small = amf0.encode_avmplus([{"width": 1.0, "height": 2.0} for _ in range(40)])
    assert amf0.decode(value_for(small, amf3=False))[0] == [{"width": 1.0, "height": 2.0}] * 40
    assert value_for(small, amf3=False)[0] == 0x0A


def test_arguments_for_clients_of_the_other_version() -> None:
    old = amf0.encode("say", "hi", {"a": 1.0})
    new = arguments_for(old, amf3=True)
    assert new == amf0.encode("say") + amf0.encode_avmplus("hi", {"a": 1.0})
    assert arguments_for(new, amf3=False) == old
    assert arguments_for(amf0.encode("say"), amf3=True) == amf0.encode("say")


def test_a_handlers_name_in_amf3_becomes_amf0() -> None:
    named = amf0.encode_avmplus("say") + FIVE
    assert decode_shared_object(message(encode_event(6, None, named))).events == [Event(6, None, named)]
    assert arguments_for(named, amf3=False) == amf0.encode("say", 5.0)
    assert arguments_for(named, amf3=True) == amf0.encode("say") + amf0.encode_avmplus(5.0)


def test_arguments_that_are_none() -> None:
    with pytest.raises(AmfDecodeError):
        arguments_for(b"", amf3=True)
