"""Chunks: RTMP 1.0, section 5.3. Vectors are fed whole, byte by byte, and with trailing bytes."""

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from headwater_rtmp.chunk import ChunkLimits, ChunkReader, ChunkWriter, csid_for, encode_message
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.message import Message

BODY32 = bytes(range(32))
BODY307 = bytes(index % 251 for index in range(307))
LIMITS = ChunkLimits(min_chunk_size=1)


def read(
    data: bytes, step: int = 0, limits: ChunkLimits = LIMITS, before_connect: bool = False
) -> list[Message]:
    reader = ChunkReader(limits, before_connect)
    return list(drain(reader, data, step))


def drain(reader: ChunkReader, data: bytes, step: int = 0) -> Iterator[Message]:
    for at in range(0, len(data), step or len(data) or 1):
        reader.feed(data[at : at + (step or len(data))])
        while (message := reader.next_message()) is not None:
            yield message


def header0(csid: int, timestamp: int, length: int, type_id: int, stream_id: int = 0) -> bytes:
    return (
        bytes((csid,))
        + timestamp.to_bytes(3, "big")
        + length.to_bytes(3, "big")
        + bytes((type_id,))
        + stream_id.to_bytes(4, "little")
    )


def header1(csid: int, delta: int, length: int, type_id: int) -> bytes:
    return bytes((0x40 | csid,)) + delta.to_bytes(3, "big") + length.to_bytes(3, "big") + bytes((type_id,))


VECTORS = {
    # RTMP 1.0, 5.3.2.1: four audio messages of 32 bytes; chunks of 44, 36, 33 and 33 bytes.
    "example 1": (
        bytes.fromhex("03 0003e8 000020 08 39300000")
        + BODY32
        + bytes.fromhex("83 000014")
        + BODY32
        + bytes.fromhex("c3")
        + BODY32
        + bytes.fromhex("c3")
        + BODY32,
        [Message(8, 12345, at, BODY32) for at in (1000, 1020, 1040, 1060)],
        3,
    ),
    # RTMP 1.0, 5.3.2.2: one video message of 307 bytes; chunks of 140, 129 and 52 bytes.
    "example 2": (
        bytes.fromhex("04 0003e8 000133 09 3a300000")
        + BODY307[:128]
        + b"\xc4"
        + BODY307[128:256]
        + b"\xc4"
        + BODY307[256:],
        [Message(9, 12346, 1000, BODY307)],
        4,
    ),
    # RTMP 1.0, 5.3.1.1 and 5.3.1.3: two-byte basic header, extended timestamp repeated on the type 3 chunk.
    "two-byte csid, extended": (
        bytes.fromhex("00 00 ffffff 000081 08 01000000 01020304")
        + bytes(128)
        + bytes.fromhex("c0 00 01020304 00"),
        [Message(8, 1, 0x01020304, bytes(129))],
        64,
    ),
    # RTMP 1.0, 5.3.1.1: three-byte basic header; csid 65599 is the largest.
    "three-byte csid": (
        bytes.fromhex("01 ff ff 000000 000001 14 00000000 05"),
        [Message(20, 0, 0, b"\x05")],
        65599,
    ),
    # RTMP 1.0, 5.3.1.3: 0xFFFFFF itself needs the extended field.
    "smallest extended": (
        bytes.fromhex("05 ffffff 000001 12 00000000 00ffffff 09"),
        [Message(18, 0, 0xFFFFFF, b"\x09")],
        5,
    ),
    "empty message": (bytes.fromhex("04 000010 000000 08 01000000"), [Message(8, 1, 16, b"")], 4),
}


@pytest.mark.parametrize("step", [0, 1, 5])
@pytest.mark.parametrize("name", VECTORS)
def test_vectors_are_read(name: str, step: int) -> None:
    data, messages, _ = VECTORS[name]
    assert read(data, step) == messages
    assert read(data + b"\x06\x00", step) == messages


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_are_written(name: str) -> None:
    data, messages, csid = VECTORS[name]
    writer = ChunkWriter(128)
    assert b"".join(writer.encode(message, csid) for message in messages) == data


def test_stateless_writer_repeats_nothing_it_need_not() -> None:
    data, (message,), csid = VECTORS["example 2"]
    assert encode_message(message, csid, 128) == data
    assert len(encode_message(message, csid, 307)) == 12 + 307


@pytest.mark.parametrize("csid", [2, 63, 64, 319, 320, 65599])
@pytest.mark.parametrize("timestamp", [0, 0xFFFFFE, 0xFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("size", [0, 127, 128, 129, 256, 257, 1000])
def test_stateless_writer_to_reader(csid: int, timestamp: int, size: int) -> None:
    message = Message(9, 1, timestamp, bytes(index & 0xFF for index in range(size)))
    for step in (0, 3):
        assert read(encode_message(message, csid, 128), step) == [message]


@pytest.mark.parametrize("csid", [0, 1, -1, 65600])
def test_csid_out_of_range_is_refused(csid: int) -> None:
    with pytest.raises(LocalProtocolError, match="expected 2 to 65599"):
        encode_message(Message(8, 1, 0, b""), csid, 128)
    with pytest.raises(LocalProtocolError, match="expected 2 to 65599"):
        ChunkWriter().encode(Message(8, 1, 0, b""), csid)


def test_type_3_after_type_0_takes_its_timestamp_as_delta() -> None:
    # RTMP 1.0, 5.3.1.2.4; FFmpeg's writer makes use of it when the second timestamp is twice the first.
    data = header0(4, 100, 1, 8, 1) + b"a" + b"\xc4b"
    assert [message.timestamp for message in read(data)] == [100, 200]


def test_writer_never_starts_a_message_with_type_3_after_type_0() -> None:
    writer = ChunkWriter()
    writer.encode(Message(8, 1, 100, b"a"), 4)
    assert writer.encode(Message(8, 1, 200, b"b"), 4) == bytes.fromhex("84 000064") + b"b"


@pytest.mark.parametrize("step", [0, 1])
def test_type_3_without_the_extended_field(step: int) -> None:
    # What old encoders do (FACTS.md, section 6: both styles are in the wild).
    data = header0(6, 0xFFFFFF, 300, 9, 1) + struct.pack(">I", 0x01000000)
    data += BODY307[:128] + b"\xc6" + BODY307[128:256] + b"\xc6" + BODY307[256:300]
    assert read(data, step) == [Message(9, 1, 0x01000000, BODY307[:300])]


def test_last_bytes_without_the_extended_field_are_not_waited_for() -> None:
    data = header0(6, 0xFFFFFF, 130, 9, 1) + struct.pack(">I", 0x01000000) + bytes(128) + b"\xc6\x07\x08"
    assert read(data) == [Message(9, 1, 0x01000000, bytes(128) + b"\x07\x08")]


def test_extended_delta_and_wrap() -> None:
    data = header0(4, 0xFFFFFF, 1, 8, 1) + struct.pack(">I", 0xFFFFFFF0) + b"a"
    data += header1(4, 0x20, 1, 8) + b"b"
    data += header1(4, 0xFFFFFF, 1, 8) + struct.pack(">I", 0x01000000) + b"c"
    data += b"\xc4" + struct.pack(">I", 0x01000000) + b"d"
    assert [message.timestamp for message in read(data, 1)] == [0xFFFFFFF0, 0x10, 0x01000010, 0x02000010]


def test_writer_goes_back_in_time_with_type_0() -> None:
    writer = ChunkWriter()
    messages = [Message(8, 1, at, b"x") for at in (1000, 900, 0xFFFFFFFF, 5, 40, 75, 75)]
    data = b"".join(writer.encode(message, 4) for message in messages)
    assert read(data) == messages


@pytest.mark.parametrize("step", [0, 1, 100])
def test_messages_interleave(step: int) -> None:
    audio, video = Message(8, 1, 5, b"a" * 200), Message(9, 1, 7, b"v" * 300)
    data = header0(6, 7, 300, 9, 1) + b"v" * 128
    data += header0(4, 5, 200, 8, 1) + b"a" * 128
    data += b"\xc6" + b"v" * 128 + b"\xc4" + b"a" * 72 + b"\xc6" + b"v" * 44
    assert read(data, step) == [audio, video]


@pytest.mark.parametrize("step", [0, 1])
def test_chunk_size_applies_to_the_next_byte(step: int) -> None:
    big = Message(9, 1, 0, BODY307)
    data = encode_message(Message(1, 0, 0, struct.pack(">I", 4096)), 2, 128) + encode_message(big, 6, 4096)
    assert read(data, step)[1] == big


def test_chunk_size_may_change_inside_a_message() -> None:
    data = (
        header0(6, 7, 300, 9, 1)
        + b"v" * 128
        + encode_message(Message(1, 0, 0, struct.pack(">I", 150)), 2, 128)
    )
    data += b"\xc6" + b"v" * 150 + b"\xc6" + b"v" * 22
    assert read(data)[1] == Message(9, 1, 7, b"v" * 300)


def test_writer_obeys_its_own_chunk_size() -> None:
    writer = ChunkWriter()
    data = writer.encode(Message(1, 0, 0, struct.pack(">I", 4096))) + writer.encode(Message(9, 1, 0, BODY307))
    assert writer.chunk_size == 4096
    assert read(data)[1].payload == BODY307


@pytest.mark.parametrize("step", [0, 1])
def test_abort_drops_the_unfinished_message(step: int) -> None:
    reader = ChunkReader(LIMITS)
    data = (
        header0(6, 7, 300, 9, 1) + b"v" * 128 + encode_message(Message(2, 0, 0, struct.pack(">I", 6)), 2, 128)
    )
    data += header0(6, 9, 3, 9, 1) + b"new"
    assert list(drain(reader, data, step))[1:] == [Message(9, 1, 9, b"new")]
    assert reader.held_bytes == 0


def test_type_1_may_go_on_with_a_message_it_does_not_change() -> None:
    data = header0(6, 7, 200, 9, 1) + b"v" * 128 + header1(6, 0, 200, 9) + b"v" * 72
    assert read(data) == [Message(9, 1, 7, b"v" * 200)]


ERRORS = {
    "no type 0": (b"\xc5", r"csid 5: type 3 chunk before any type 0 \(offset 0\)"),
    "no type 0 behind a message": (header0(4, 0, 1, 8) + b"a" + b"\x85", r"csid 5: type 2 .*\(offset 13\)"),
    # CVE-2016-10191: the length changes between the chunks of a message.
    "length changes": (
        header0(6, 0, 200, 9) + bytes(128) + header1(6, 0, 4000, 9),
        r"csid 6: type 1 chunk \(message type 9, 4000 bytes\), expected more of the message of type 9 with 128 of 200 bytes",
    ),
    "type changes": (
        header0(6, 0, 200, 9) + bytes(128) + header1(6, 0, 200, 8),
        r"message type 8, 200 bytes",
    ),
    "type 0 inside": (
        header0(6, 0, 200, 9) + bytes(128) + header0(6, 0, 200, 9),
        r"type 0 chunk .* expected more of the message",
    ),
    "video too long": (
        header0(6, 0, 4 * 1024 * 1024 + 1, 9),
        r"message type 9 of 4194305 bytes, expected at most 4194304",
    ),
    "command too long": (
        header0(3, 0, 256 * 1024 + 1, 20),
        r"message type 20 of 262145 bytes, expected at most 262144",
    ),
    "control too long": (header0(2, 0, 1025, 4), r"message type 4 of 1025 bytes, expected at most 1024"),
    "chunk size 0": (header0(2, 0, 4, 1) + bytes(4), r"SetChunkSize to 0, expected 1 to 1048576"),
    "chunk size high bit": (header0(2, 0, 4, 1) + b"\x80\0\0\x80", r"SetChunkSize to 2147483776"),
    "chunk size too large": (header0(2, 0, 4, 1) + b"\0\x10\0\1", r"SetChunkSize to 1048577"),
    "chunk size too short": (header0(2, 0, 3, 1) + bytes(3), r"SetChunkSize of 3 bytes, expected 4"),
    "abort too short": (header0(2, 0, 1, 2) + bytes(1), r"Abort of 1 bytes, expected 4"),
}


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_and_where(name: str, step: int) -> None:
    data, text = ERRORS[name]
    with pytest.raises(RemoteProtocolError, match=text):
        read(data, step)


def test_smallest_chunk_size_is_128_unless_told() -> None:
    with pytest.raises(RemoteProtocolError, match="SetChunkSize to 127, expected 128 to 1048576"):
        read(header0(2, 0, 4, 1) + bytes((0, 0, 0, 127)), limits=ChunkLimits())


def test_before_connect_less_is_allowed() -> None:
    with pytest.raises(RemoteProtocolError, match="message type 9 of 65537 bytes, expected at most 65536"):
        read(header0(6, 0, 65537, 9), before_connect=True)
    reader = ChunkReader(before_connect=True)
    reader.connected()
    assert list(drain(reader, header0(6, 0, 65537, 9))) == []


def test_unfinished_messages_have_a_budget() -> None:
    data = b"".join(header0(csid, 0, 60_000, 20) + bytes(128) for csid in range(3, 13))
    reader = ChunkReader(replace(ChunkLimits(), before_connect_reassembly_bytes=1000), before_connect=True)
    with pytest.raises(RemoteProtocolError, match="unfinished messages of 1024 bytes, expected at most 1000"):
        list(drain(reader, data))


def test_unfinished_messages_are_counted() -> None:
    data = b"".join(
        encode_message(Message(20, 0, 0, bytes(200)), csid, 128)[: 140 if csid < 64 else 141]
        for csid in range(3, 68)
    )
    with pytest.raises(RemoteProtocolError, match="csid 67: 65 unfinished messages, expected at most 64"):
        read(data)


def test_chunk_streams_are_counted() -> None:
    data = b"".join(encode_message(Message(20, 0, 0, b""), csid, 128) for csid in range(2, 515))
    with pytest.raises(RemoteProtocolError, match="csid 514: 513 chunk streams, expected at most 512"):
        read(data)


def test_a_finished_reader_holds_nothing() -> None:
    reader = ChunkReader(LIMITS)
    list(drain(reader, VECTORS["example 2"][0] * 50, 11))
    assert reader.held_bytes == 0


@pytest.mark.parametrize(
    ("type_id", "csid"),
    [(1, 2), (4, 2), (6, 2), (20, 3), (17, 3), (19, 3), (8, 4), (18, 5), (15, 5), (9, 6), (99, 3)],
)
def test_default_csids(type_id: int, csid: int) -> None:
    assert csid_for(type_id) == csid


@pytest.mark.parametrize("step", [0, 1])
def test_librtmp_begins_csid_2_with_type_1(step: int) -> None:
    """librtmp 2.4 writes acknowledgements and answers to pings with type 1, though nothing went before them on csid 2."""
    data = bytes.fromhex("42 000000 000006 04 0007 00000005" + "82 000009 0007 00000006")
    assert read(data, step) == [
        Message(4, 0, 0, bytes.fromhex("0007 00000005")),
        Message(4, 0, 9, bytes.fromhex("0007 00000006")),
    ]
    for first in ("43 000000 000006 04", "82 000000", "c2"):
        with pytest.raises(RemoteProtocolError, match="chunk before any type 0"):
            read(bytes.fromhex(first) + bytes(20), step)


@pytest.mark.parametrize("length", [1 << 24, (1 << 24) + 1])
def test_a_message_longer_than_its_field_is_ours(length: int) -> None:
    message = Message(9, 1, 0, bytes(length))
    encode: Callable[[], bytes]
    for encode in (lambda: encode_message(message, 6, 128), lambda: ChunkWriter().encode(message)):
        with pytest.raises(LocalProtocolError, match=f"message of {length} bytes, expected at most 16777215"):
            encode()


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "04",
        "00",
        "0100",
        "04 000000",
        "04 ffffff 000001 09 00000000 00",
        "06 000000 000100 09 01000000 aa",
    ],
)
def test_half_a_header_does_not_hold_what_was_read(rest: str) -> None:
    """A connection that stops within a chunk would else keep its last read, 64 KB, for as long as it says nothing."""
    reader = ChunkReader()
    data = encode_message(Message(8, 1, 0, bytes(100)), 4, 128) * 580 + bytes.fromhex(rest)
    tracemalloc.start()
    try:
        reader.feed(bytes(bytearray(data)))
        while reader.next_message() is not None:
            pass
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()


def test_strangers_have_few_chunk_streams() -> None:
    """A header that is remembered costs ten times its bytes; connect needs two."""
    reader = ChunkReader(before_connect=True)
    reader.feed(b"".join(encode_message(Message(8, 1, 0, b""), csid, 128) for csid in range(2, 19)))
    assert [reader.next_message() for _ in range(16)] == [Message(8, 1, 0, b"")] * 16
    with pytest.raises(RemoteProtocolError, match="csid 18: 17 chunk streams, expected at most 16"):
        reader.next_message()
