"""Envelopes to frames and back; what an older or newer peer sends."""

import dataclasses
import pickle

import msgpack
import pytest
from headwater_bus.codec import INLINE_BYTES, Codec, EnvelopeError, UnknownEnvelope
from headwater_bus.control import CONTROL, Health, Register
from headwater_bus.object_traffic import ObjectUpdate
from headwater_bus.traffic import TRAFFIC, Attached, Detach, FromClient, StreamMedia

CODEC = Codec(TRAFFIC)


def test_batch_round_trip_keeps_order_and_payloads() -> None:
    batch = [
        Attached(1, 0, False),
        FromClient(1, 3, 20, 0, 7, b"command"),
        StreamMedia(3, 9, 8, 40, b""),
        StreamMedia(3, 10, 9, 41, b"k" * INLINE_BYTES + b"1"),
        ObjectUpdate(2, 5, 6, 1, b"rows"),
        StreamMedia(3, 11, 9, 42, b"k" * INLINE_BYTES + b"2"),
    ]
    frames = CODEC.pack(batch)
    assert [len(frame) for frame in frames[1:]] == [INLINE_BYTES + 1] * 2
    assert CODEC.unpack(frames) == batch


def test_a_long_payload_is_not_copied() -> None:
    payload = b"v" * (INLINE_BYTES + 1)
    assert CODEC.pack([FromClient(1, 3, 9, 1, 0, payload)])[1] is payload
    frames = CODEC.pack([FromClient(1, 3, 9, 1, 0, payload)])
    assert CODEC.unpack(frames)[0].payload is payload


def test_unknown_kind_with_a_payload_does_not_shift_the_frames_behind_it() -> None:
    mine = FromClient(1, 3, 9, 1, 0, b"m" * (INLINE_BYTES + 1))
    frames = CODEC.pack([mine])
    rows = [[-250, 1, 2], *msgpack.unpackb(frames[0])]
    unpacked = CODEC.unpack([msgpack.packb(rows), b"theirs", mine.payload])
    assert unpacked == [UnknownEnvelope(250), mine]


def test_fields_of_a_newer_peer_are_ignored() -> None:
    assert CODEC.unpack([msgpack.packb([[4, 1, "gone", "new field", 99]])]) == [Detach(1, "gone")]


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([b"\xc1"], "not readable"),
        ([msgpack.packb(5)], "expected an array"),
        ([msgpack.packb([5])], r"expected \[kind"),
        ([msgpack.packb([[4, 1]])], "expected 2 fields"),
        ([msgpack.packb([[4, "1", "gone"]])], "field session: unexpected str"),
        ([msgpack.packb([[-5, 1, 3, 20, 0, 0]])], "payload frame is missing"),
        ([msgpack.packb([[5, 1, 3, 20, 0, 0]])], "payload is missing"),
        ([msgpack.packb([[5]])], "payload is missing"),
        ([msgpack.packb([[5, b"p", 1, 3, 20, 0]])], "expected 5 fields"),
        ([msgpack.packb([[-4, 1, "gone"]]), b"p"], "a payload frame, expected none"),
        ([b"\x91\x92\x04\x81\x91\x01\x02"], "not readable"),
        ([], "not readable"),
    ],
)
def test_a_bad_batch_is_one_clear_error(frames: list[bytes], says: str) -> None:
    with pytest.raises(EnvelopeError, match=says):
        CODEC.unpack(frames)


def test_fields_of_a_newer_peer_behind_a_payload_are_ignored() -> None:
    frames = [msgpack.packb([[5, b"p", 1, 3, 20, 0, 7, "new"]])]
    assert CODEC.unpack(frames) == [FromClient(1, 3, 20, 0, 7, b"p")]


def test_fields_that_an_older_peer_lacks_take_their_defaults() -> None:
    codec = Codec(CONTROL)
    rows = msgpack.packb([[100, "edge-1", "edge", "b", "", 1]])
    first, second = codec.unpack([rows])[0], codec.unpack([rows])[0]
    assert first == Register("edge-1", "edge", "b", "", 1, {})
    assert first.meta is not second.meta


def test_what_was_unpacked_is_what_the_constructor_makes() -> None:
    made, read = (
        FromClient(1, 3, 20, 0, 7, b"p"),
        CODEC.unpack(CODEC.pack([FromClient(1, 3, 20, 0, 7, b"p")]))[0],
    )
    assert (type(read), read, hash(read), repr(read)) == (FromClient, made, hash(made), repr(made))
    assert pickle.loads(pickle.dumps(read)) == dataclasses.replace(read)
    with pytest.raises(dataclasses.FrozenInstanceError):
        read.session = 2


def test_strings_that_are_no_unicode_text_pass() -> None:
    assert CODEC.unpack(CODEC.pack([Detach(1, "\ud800")])) == [Detach(1, "\ud800")]


@pytest.mark.parametrize("value", [object(), 2**64, {"x": {1, 2}}])
def test_what_no_frame_can_hold_is_one_clear_error(value: object) -> None:
    with pytest.raises(EnvelopeError, match="not packable"):
        Codec(CONTROL).pack([Health({"x": value})])
