"""The benchmark's synthetic stream: rate, structure, stamps; and that a real parser sees what it is meant to be."""

from itertools import islice

import pytest
from headwater_rtmp.chunk import ChunkReader, ChunkWriter
from headwater_rtmp.gop import GopCache
from headwater_rtmp.media import MediaFlags, inspect
from headwater_rtmp.message import Message, MessageType

from bench.stream import (
    Frame,
    Stamp,
    Stamper,
    StreamShape,
    frame_sizes,
    frames,
    header_messages,
    is_keyframe,
    read_stamp,
)

SHAPE = StreamShape()


def seconds(count: float) -> list[Frame]:
    return list(islice(frames(SHAPE), round(count * SHAPE.messages_s)))


def message(frame: Frame, stamp: Stamp) -> Message:
    return Message(frame.type_id, 1, frame.timestamp, Stamper(SHAPE).payload(frame, stamp))


def test_one_megabit_and_73_messages_a_second() -> None:
    sent = [frame for frame in islice(frames(SHAPE), 2000) if frame.due_s < 20]
    assert sum(frame.size for frame in sent) * 8 / 20 == pytest.approx(1_000_000, rel=0.005)
    assert len(sent) / 20 == pytest.approx(73.07, abs=0.1)
    assert sum(frame.type_id == MessageType.VIDEO for frame in sent) == 600


def test_messages_are_in_order_and_on_time() -> None:
    sent = seconds(10)
    times = [frame.due_s for frame in sent]
    assert times == sorted(times)
    video = [frame.due_s for frame in sent if frame.type_id == MessageType.VIDEO]
    assert video == pytest.approx([index / 30 for index in range(len(video))])
    assert sent[73].timestamp == round(sent[73].due_s * 1000)


def test_a_keyframe_every_two_seconds_about_ten_times_as_large_as_the_others() -> None:
    keyframes = [frame for frame in seconds(9) if frame.keyframe]
    assert [frame.due_s for frame in keyframes] == [0, 2, 4, 6, 8]
    first, *others = frame_sizes(SHAPE)
    assert 8 < first / (sum(others) / len(others)) < 12
    assert len(set(others)) > 30


def test_every_run_sends_the_same_sizes() -> None:
    assert seconds(5) == seconds(5)


def test_a_stream_too_thin_for_its_stamps_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 26 or more"):
        frame_sizes(StreamShape(bit_s=103_000))


def test_payloads_have_their_size_and_give_their_stamp_back() -> None:
    for number, frame in enumerate(seconds(3), 1):
        made = message(frame, Stamp(number, 10**15 + number))
        assert len(made.payload) == frame.size
        assert read_stamp(made) == Stamp(number, 10**15 + number)
        assert is_keyframe(made) == frame.keyframe


def test_what_has_no_stamp_gives_none() -> None:
    for header in header_messages(SHAPE, 1):
        assert read_stamp(header) is None
        assert not is_keyframe(header)
    for type_id in (MessageType.AUDIO, MessageType.VIDEO):
        assert read_stamp(Message(type_id, 1, 0, b"")) is None
        assert read_stamp(Message(type_id, 1, 0, b"\x27\x01" + bytes(60))) is None


def test_caches_see_headers_keyframes_and_frames() -> None:
    metadata, video, audio = (inspect(header).flags for header in header_messages(SHAPE, 1))
    assert metadata == MediaFlags.METADATA
    assert video == MediaFlags.VIDEO | MediaFlags.SEQUENCE_HEADER
    assert audio == MediaFlags.AUDIO | MediaFlags.SEQUENCE_HEADER
    cache = GopCache()
    for header in header_messages(SHAPE, 1):
        cache.add(header)
    for number, frame in enumerate(seconds(5), 1):
        cache.add(message(frame, Stamp(number, 0)))
    first = next(kept for kept in cache.snapshot() if read_stamp(kept))
    assert is_keyframe(first)
    assert first.timestamp == 4000


def test_the_nal_unit_length_covers_the_rest_of_a_video_payload() -> None:
    frame = next(frames(SHAPE))
    payload = message(frame, Stamp(1, 0)).payload
    assert int.from_bytes(payload[5:9], "big") == len(payload) - 9
    assert payload[9] & 0x1F == 5  # IDR slice


def test_stamps_survive_chunks() -> None:
    writer, reader = ChunkWriter(128), ChunkReader()
    for number, frame in enumerate(seconds(1), 1):
        reader.feed(writer.encode(message(frame, Stamp(number, number * 7))))
        received = reader.next_message()
        assert received is not None
        assert read_stamp(received) == Stamp(number, number * 7)
