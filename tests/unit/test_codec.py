"""Envelopes to frames and back; what an older or newer peer sends."""

import msgpack
import pytest
from headwater_bus.codec import Codec, EnvelopeError, UnknownEnvelope
from headwater_bus.traffic import TRAFFIC, Attached, Detach, FromClient, ObjectJoined, StreamMedia

CODEC = Codec(TRAFFIC)


def test_batch_round_trip_keeps_order_and_payloads() -> None:
    batch = [
        Attached(1),
        FromClient(1, 20, 0, 7, b"command"),
        StreamMedia(3, 9, 8, 40, b""),
        ObjectJoined(1, 2, 5, [["x", b"\x05"]]),
    ]
    frames = CODEC.pack(batch)
    assert len(frames) == 3
    assert CODEC.unpack(frames) == batch


def test_payload_is_not_copied_by_packing() -> None:
    payload = b"v" * 1000
    assert CODEC.pack([FromClient(1, 9, 1, 0, payload)])[1] is payload


def test_unknown_kind_with_a_payload_does_not_shift_the_frames_behind_it() -> None:
    frames = CODEC.pack([FromClient(1, 9, 1, 0, b"mine")])
    rows = [[-250, 1, 2], *msgpack.unpackb(frames[0])]
    unpacked = CODEC.unpack([msgpack.packb(rows), b"theirs", b"mine"])
    assert unpacked == [UnknownEnvelope(250), FromClient(1, 9, 1, 0, b"mine")]


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
        ([msgpack.packb([[-5, 1, 20, 0, 0]])], "payload frame is missing"),
        ([msgpack.packb([[5, 1, 20, 0, 0]])], "payload frame missing"),
        ([], "not readable"),
    ],
)
def test_a_bad_batch_is_one_clear_error(frames: list[bytes], says: str) -> None:
    with pytest.raises(EnvelopeError, match=says):
        CODEC.unpack(frames)
