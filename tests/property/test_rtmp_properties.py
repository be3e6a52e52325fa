"""RTMP, whatever the bytes and however they are cut."""

import struct
import time
import tracemalloc
from collections.abc import Callable

import pytest
from headwater_rtmp import control
from headwater_rtmp.chunk import ChunkLimits, ChunkReader, ChunkWriter, encode_message
from headwater_rtmp.command import decode_command, decode_data
from headwater_rtmp.connection import Connection, Event, transfer
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.gop import GopCache
from headwater_rtmp.handshake import ServerHandshake
from headwater_rtmp.media import MediaFlags, inspect
from headwater_rtmp.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

LIMITS = ChunkLimits(min_chunk_size=1)

csids = st.one_of(st.integers(2, 70), st.integers(300, 330), st.integers(65590, 65599))
near_edges = st.sampled_from([0, 1, 0xFFFFFE, 0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
timestamps = st.one_of(near_edges, st.integers(0, 0xFFFFFFFF), st.integers(0, 1000))
payloads = st.one_of(
    st.binary(max_size=40), st.integers(0, 700).map(lambda size: (bytes(range(256)) * 3)[:size])
)
messages = st.builds(
    Message, st.sampled_from([8, 9, 15, 17, 18, 19, 20, 99]), st.integers(0, 100), timestamps, payloads
)
chunk_sizes = st.sampled_from([1, 2, 5, 128, 129, 300, 4096])
steps = st.one_of(
    messages.flatmap(lambda message: csids.map(lambda csid: (message, csid))),
    chunk_sizes.map(lambda size: (Message(1, 0, 0, struct.pack(">I", size)), 2)),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def read(pieces: list[bytes]) -> list[Message]:
    reader = ChunkReader(LIMITS)
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (message := reader.next_message()) is not None:
            found.append(message)
    assert reader.held_bytes == 0
    return found


@given(st.lists(steps, max_size=12), st.lists(st.integers(0, 1 << 16), max_size=12), st.booleans())
def test_what_is_written_is_read_however_it_is_cut(
    sent: list[tuple[Message, int]], places: list[int], compressed: bool
) -> None:
    writer = ChunkWriter()
    data = b""
    size = 128
    for message, csid in sent:
        if compressed:
            data += writer.encode(message, csid)
        else:
            data += encode_message(message, csid, size)
            if message.type_id == 1:
                (size,) = struct.unpack(">I", message.payload)
    assert read(cut(data, places)) == [message for message, _ in sent]


def outcome(pieces: list[bytes]) -> tuple[list[Event], str, bytes]:
    """Events, the error's text and what would be sent, of a server that has shaken hands and accepted connect."""
    client, server = Connection.client(), Connection.server()
    transfer(client, server)
    server.connected()
    found: list[Event] = []
    sent = b""
    try:
        for piece in pieces:
            server.feed(piece)
            while (event := server.next_event()) is not None:
                found.append(event)
            sent += server.data_to_send()
    except RemoteProtocolError as error:
        return found, str(error), sent
    return found, "", sent


valid = st.tuples(messages, st.sampled_from([2, 3, 4, 6])).map(
    lambda pair: encode_message(pair[0], pair[1], 128)
)
controls = st.tuples(st.integers(1, 6), st.binary(max_size=12)).map(
    lambda pair: encode_message(Message(pair[0], 0, 0, pair[1]), 2, 128)
)
aggregates = st.binary(max_size=60).map(lambda body: encode_message(Message(22, 1, 5, body), 6, 128))
# Headers alone, so that messages interleave, change in their middle and stay unfinished.
headers = st.tuples(
    st.sampled_from([2, 3, 4, 0x43, 0x84, 0xC3, 0xC4, 0xC6, 0x00, 0x41]), st.binary(max_size=160)
).map(lambda pair: bytes((pair[0],)) + pair[1])
noise = st.lists(st.one_of(valid, controls, aggregates, headers, st.binary(max_size=30)), max_size=8).map(
    b"".join
)


@given(noise, st.lists(st.integers(0, 1 << 16), min_size=1, max_size=10))
@settings(max_examples=200)
def test_any_cut_of_any_bytes_gives_the_same_events(data: bytes, places: list[int]) -> None:
    whole, pieces = outcome([data]), outcome(cut(data, places))
    assert whole[:2] == pieces[:2]
    if not whole[1]:
        assert len(whole[2]) <= len(data) * 2 + 3100


@given(noise)
def test_byte_by_byte_gives_the_same_events(data: bytes) -> None:
    assert outcome([data])[:2] == outcome([b"", *(bytes((byte,)) for byte in data)])[:2]


@given(st.lists(st.binary(max_size=200), max_size=30), st.binary(max_size=1600))
def test_garbage_before_the_handshake(pieces: list[bytes], first: bytes) -> None:
    server = Connection.server()
    try:
        for piece in [b"\3" + first, *pieces]:
            server.feed(piece)
            while server.next_event() is not None:
                pass
    except RemoteProtocolError:
        pass
    assert server.held_bytes <= 128 * 1024


@given(st.integers(129, 65_536), st.integers(1, 80))
@settings(max_examples=30)
def test_strangers_hold_little(length: int, spread: int) -> None:
    """Unfinished messages on many chunk streams, of lengths that are allowed: held bytes stay within the budget."""
    limits = ChunkLimits()
    reader = ChunkReader(limits, before_connect=True)
    try:
        for at in range(2000):
            csid = bytes((0, at % spread))  # Two-byte headers: csid 64 and up.
            head = csid + bytes(3) + length.to_bytes(3, "big") + b"\x14" + bytes(4)
            reader.feed(
                (head if at < spread else b"\xc0" + csid[1:]) + bytes(min(128, length - 128 * (at // spread)))
            )
            if reader.next_message() is not None:
                return
            assert reader.held_bytes <= limits.before_connect_reassembly_bytes
    except RemoteProtocolError:
        pass


@given(st.binary(max_size=300), st.sampled_from([15, 17, 18, 20]))
def test_garbage_commands(payload: bytes, type_id: int) -> None:
    for decode in (decode_command, decode_data):
        try:
            decode(Message(type_id, 0, 0, payload))
        except RemoteProtocolError:
            pass


@given(st.lists(st.tuples(st.integers(0, 1535), st.integers(0, 255)), max_size=20))
def test_any_c1_of_version_3_is_answered(changes: list[tuple[int, int]]) -> None:
    c1 = bytearray(b"\0\0\0\0\x09\0\x7c\x02" + bytes(1528))
    for at, value in changes:
        c1[at] = value
    assert len(ServerHandshake().feed(b"\3" + c1)) == 3073


@pytest.mark.parametrize("chunk_size", [128, 65_536, 1024 * 1024])
def test_small_pieces_of_a_large_message_cost_no_more_than_its_size(chunk_size: int) -> None:
    """Ten bytes at a time into a message of 300 kB: what is held is what came, nothing is copied again and again."""
    reader = ChunkReader(LIMITS)
    message = Message(9, 1, 0, bytes(300_000))
    reader.feed(encode_message(Message(1, 0, 0, struct.pack(">I", chunk_size)), 2, 128))
    assert reader.next_message() is not None
    data = encode_message(message, 6, chunk_size)
    last = len(data) - 7
    for at in range(0, last, 10):
        reader.feed(data[at : min(at + 10, last)])
        assert reader.next_message() is None
        assert reader.held_bytes <= at + 10
    reader.feed(data[last:])
    assert reader.next_message() == message


def control_flood(make: Callable[[int], Message]) -> bytes:
    return b"".join(encode_message(make(number), 2, 128) for number in range(100_000))


def aggregate_of_nothing() -> bytes:
    tag = b"\x08" + bytes(14)
    return encode_message(Message(22, 1, 0, tag * 100_000), 6, 128)


def halves() -> bytes:
    """60 messages of 100 kB side by side, a chunk of each in turn."""
    starts = [
        bytes((0, csid)) + bytes(3) + (100_000).to_bytes(3, "big") + b"\x09" + bytes(132)
        for csid in range(60)
    ]
    turn = b"".join(bytes((0xC0, csid)) + bytes(128) for csid in range(60))
    return b"".join(starts) + turn * 300


FLOODS: dict[str, Callable[[], bytes]] = {
    "pings": lambda: control_flood(control.ping_request),
    "peer bandwidths": lambda: control_flood(lambda number: control.set_peer_bandwidth(number + 1)),
    "windows": lambda: control_flood(lambda number: control.window_acknowledgement_size(number)),
    "chunk sizes": lambda: control_flood(lambda number: control.set_chunk_size(128 + number % 9)),
    "aborts": lambda: control_flood(control.abort),
    "messages of nothing": lambda: encode_message(Message(8, 1, 0, b""), 4, 128) + b"\xc4" * 500_000,
    "an aggregate of nothing": aggregate_of_nothing,
    "half messages side by side": halves,
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_cost_no_more_than_their_size(name: str) -> None:
    """A megabyte or two at once. What costs its square takes minutes here."""
    client, server = Connection.client(), Connection.server()
    transfer(client, server)
    server.connected()
    data = FLOODS[name]()
    started = time.process_time()
    server.feed(data)
    while server.next_event() is not None:
        pass
    assert len(server.data_to_send()) <= len(data) + 3073
    assert server.held_bytes <= 8 * 1024 * 1024
    assert time.process_time() - started < 8


def test_a_server_side_connection_holds_little() -> None:
    """10,000 idle clients per edge: what the protocol keeps of each after connect must not be felt."""

    def connected() -> Connection:
        client, server = Connection.client(), Connection.server()
        transfer(client, server)
        server.connected()
        server.feed(client.send(Message(20, 0, 0, bytes(300))))
        while server.next_event() is not None:
            pass
        server.data_to_send()
        return server

    connected()
    tracemalloc.start()
    try:
        kept = [connected() for _ in range(50)]
        assert tracemalloc.get_traced_memory()[0] / len(kept) < 1500
    finally:
        tracemalloc.stop()


media = st.builds(
    Message,
    st.sampled_from([8, 9, 9, 18]),
    st.just(1),
    st.integers(0, 1000),
    st.one_of(
        st.sampled_from(
            [b"", b"\x17\0", b"\x17\1k", b"\x27\1i", b"\x17\2", b"\xaf\0a", b"\xaf\1s", b"\x12", b"\x90hvc1"]
        ),
        st.sampled_from([b"\x96\x03avc1\1k", b"\x96\x03avc1\0k", b"\x96\0avc1\1", b"\x02\0\x0aonMetaData\5"]),
        st.binary(max_size=12).map(lambda data: b"\x96\x11avc1" + data),
        st.binary(max_size=40),
    ),
)


@given(st.lists(media, max_size=60), st.integers(300, 3000))
def test_a_cache_is_bounded_and_begins_at_a_keyframe(stream: list[Message], limit_bytes: int) -> None:
    cache = GopCache(limit_bytes)
    began: list[Message] = []
    for message in stream:
        flags = cache.add(message)
        assert cache.held_bytes <= 2 * limit_bytes
        snapshot = cache.snapshot()
        kept, messages = snapshot[: len(cache.headers())], snapshot[len(cache.headers()) :]
        if flags & MediaFlags.KEYFRAME:
            began = []
        if not flags & (MediaFlags.SEQUENCE_HEADER | MediaFlags.METADATA):
            began.append(message)
        assert messages in ([], began)
        if messages:
            assert cache.has_video
            assert inspect(messages[0]).flags & MediaFlags.KEYFRAME
            begin = messages[0].timestamp
            assert all(header.timestamp == (0 if header.type_id in (18, 15) else begin) for header in kept)
