"""What a joining player gets, and what the cache may cost."""

import gc

import pytest
from headwater_rtmp.gop import GopCache
from headwater_rtmp.media import MediaFlags
from headwater_rtmp.message import Counted, Message

METADATA = Message(18, 1, 0, b"\x02\x00\x0aonMetaData\x05")
AVC = Message(9, 1, 0, b"\x17\x00\x00\x00\x00avcC")
AAC = Message(8, 1, 0, b"\xaf\x00\x11\x90")
HEVC = Message(9, 1, 0, b"\x90hvc1hvcC")
OPUS = Message(8, 1, 0, b"\x90OpusOpusHead")
VIDEO_INFO = Message(9, 1, 0, b"\x94hvc1\x02\x00\x09colorInfo")
CHANNELS = Message(8, 1, 0, b"\x94Opus\x01\x02\x00\x00\x00\x03")


def key(at: int, body: bytes = b"k") -> Message:
    return Message(9, 1, at, b"\x17\x01\x00\x00\x00" + body)


def inter(at: int, body: bytes = b"i") -> Message:
    return Message(9, 1, at, b"\x27\x01\x00\x00\x00" + body)


def sound(at: int, body: bytes = b"s") -> Message:
    return Message(8, 1, at, b"\xaf\x01" + body)


def filled(*messages: Message, limit_bytes: int = 1 << 20) -> GopCache:
    cache = GopCache(limit_bytes)
    for message in messages:
        cache.add(message)
    return cache


def at(timestamp: int, *messages: Message) -> list[Message]:
    """What a joiner gets as headers: metadata at 0, the rest at the time of the first cached message."""
    return [Message(m.type_id, m.stream_id, 0 if m.type_id == 18 else timestamp, m.payload) for m in messages]


def test_headers_in_order_and_messages_as_they_came() -> None:
    messages = [key(40), sound(41), inter(80), sound(82)]
    cache = filled(AAC, AVC, METADATA, sound(3), inter(20), *messages)
    assert cache.has_video
    assert cache.headers() == at(40, METADATA, AVC, AAC)
    assert cache.snapshot() == at(40, METADATA, AVC, AAC) + messages


def test_messages_keep_their_numbers_those_that_have_one() -> None:
    messages = [Counted(9, 1, 0, key(0).payload, 0), Counted(8, 1, 1, sound(1).payload, 1 << 40), inter(40)]
    assert filled(AVC, *messages).snapshot() == [*at(0, AVC), *messages]


def test_what_is_cached_is_nothing_to_the_garbage_collector() -> None:
    cache = filled(AVC, key(0))
    gc.collect()
    before = len(gc.get_objects())
    for number in range(1000):
        cache.add(Counted(9, 1, number, inter(number).payload, number))
    gc.collect()
    assert len(gc.get_objects()) - before < 100


def test_one_that_keeps_headers_alone_tells_what_messages_are_all_the_same() -> None:
    cache = GopCache(messages=False)
    flags = [cache.add(message) for message in (METADATA, AVC, AAC, key(40), inter(80))]
    assert flags[3] & MediaFlags.KEYFRAME
    assert cache.snapshot() == cache.headers() == at(0, METADATA, AVC, AAC)
    assert cache.held_bytes == sum(len(header.payload) + 128 for header in cache.headers())


def test_a_keyframe_begins_anew() -> None:
    cache = filled(AVC, key(0), inter(40), key(80), sound(81))
    assert cache.snapshot() == [*at(80, AVC), key(80), sound(81)]


def test_data_between_frames_is_cached_in_its_place() -> None:
    cue = Message(18, 1, 50, b"\x02\x00\x0aonCuePoint\x05")
    assert filled(AVC, key(40), cue, inter(80)).snapshot() == [*at(40, AVC), key(40), cue, inter(80)]


def test_metadata_alone() -> None:
    cache = filled(METADATA)
    assert not cache.has_video
    assert cache.snapshot() == [METADATA]


def test_metadata_is_stripped_for_players() -> None:
    published = Message(18, 1, 0, b"\x02\x00\x0d@setDataFrame" + METADATA.payload)
    assert filled(published).snapshot() == [METADATA]


def test_sound_alone_keeps_headers_only() -> None:
    cache = filled(AAC, METADATA, *(sound(step) for step in range(100)))
    assert not cache.has_video
    assert cache.snapshot() == [METADATA, AAC]


@pytest.mark.parametrize(
    "message",
    [
        Message(9, 1, 0, b""),
        Message(9, 1, 0, b"\x57\x00"),
        Message(9, 1, 0, b"\xd1\x00"),
        Message(9, 1, 0, b"\x17"),
    ],
)
def test_what_holds_no_picture_is_no_video(message: Message) -> None:
    """Else players of sound alone would wait for a keyframe that never comes."""
    assert not filled(AAC, message).has_video


def test_all_kinds_of_headers_stand_beside_each_other() -> None:
    cache = filled(CHANNELS, OPUS, VIDEO_INFO, HEVC, METADATA)
    assert cache.headers() == [METADATA, HEVC, OPUS, VIDEO_INFO, CHANNELS]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (AVC, HEVC),
        (AVC, Message(9, 1, 0, b"\x17\x00\x00\x00\x00another")),
        (HEVC, AVC),
        (HEVC, Message(9, 1, 0, b"\x90av01av1C")),
        (HEVC, Message(9, 1, 0, b"\x95av01descriptor")),
        (AAC, OPUS),
        (METADATA, Message(18, 1, 0, METADATA.payload[:-1] + b"\x06")),
        (METADATA, Message(15, 1, 0, b"\0" + METADATA.payload)),
        (VIDEO_INFO, Message(9, 1, 0, b"\x94av01\x02")),
        (CHANNELS, Message(8, 1, 0, b"\x94fLaC\x01\x06")),
        (Message(9, 1, 0, b"\x96\x00avc1\x01a"), Message(9, 1, 0, b"\x96\x00hvc1\x01b")),
        (Message(9, 1, 0, b"\x96\x00avc1\x00a"), HEVC),
        (
            Message(9, 1, 0, b"\x96\x10avc1\x00\x00\x00\x01a\x01\x00\x00\x01b"),
            Message(9, 1, 0, b"\x96\x20hvc1\x01\x00\x00\x01avp09\x00\x00\x00\x01b"),
        ),
    ],
)
def test_a_header_takes_the_place_of_what_it_covers(old: Message, new: Message) -> None:
    cache = filled(old)
    version = cache.headers_version
    cache.add(new)
    assert cache.headers() == [new]
    assert cache.headers_version > version


def test_headers_of_other_tracks_stay() -> None:
    both = Message(9, 1, 0, b"\x96\x10avc1\x00\x00\x00\x01a\x01\x00\x00\x01b")
    first = Message(9, 1, 0, b"\x96\x00avc1\x00c")
    second = Message(9, 1, 0, b"\x96\x00avc1\x01d")
    assert filled(AVC, second).headers() == [AVC, second]
    assert filled(both, second).headers() == [both, second]
    assert filled(both, second, first).headers() == [second, first]
    assert filled(second, both).headers() == [both]


def test_the_same_header_again_changes_nothing() -> None:
    cache = filled(METADATA, AVC, AAC, key(40), inter(80))
    version = cache.headers_version
    for message in (METADATA, AVC, AAC):
        cache.add(message)
    assert cache.headers_version == version
    assert cache.snapshot() == [*at(40, METADATA, AVC, AAC), key(40), inter(80)]


@pytest.mark.parametrize(
    "changed",
    [Message(9, 1, 0, AVC.payload + b"larger"), Message(8, 1, 0, b"\xaf\x00\x12\x10")],
    ids=["video", "audio"],
)
def test_frames_of_the_old_header_are_not_shown_under_the_new_one(changed: Message) -> None:
    cache = filled(AVC, AAC, key(40), inter(80), changed)
    assert len(cache.snapshot()) == 2
    assert changed in cache.headers()
    cache.add(inter(120))
    assert len(cache.snapshot()) == 2
    cache.add(key(160))
    assert cache.snapshot()[-1] == key(160)


def test_metadata_may_change_within_a_group() -> None:
    other = Message(18, 1, 0, METADATA.payload[:-1] + b"\x06")
    assert filled(METADATA, AVC, key(40), other).snapshot() == [*at(40, other, AVC), key(40)]


def test_a_first_header_may_come_late() -> None:
    assert filled(AVC, key(40), AAC, sound(50)).snapshot() == [*at(40, AVC, AAC), key(40), sound(50)]


@pytest.mark.parametrize(
    ("header", "frames", "kept"),
    [
        # Codecs without a sequence header: the old codec's must go.
        (AVC, [Message(9, 1, 5, b"\x12h263")], False),
        (AAC, [Message(8, 1, 5, b"\x2emp3")], False),
        (HEVC, [Message(9, 1, 5, b"\x91vp08frame")], False),
        # The same codec under its other name, silence and commands change nothing.
        (AVC, [Message(9, 1, 5, b"\x91avc1\0\0\0frame")], True),
        (AAC, [Message(8, 1, 5, b"\x91mp4aframe")], True),
        (AAC, [Message(8, 1, 5, b"")], True),
        (AVC, [Message(9, 1, 5, b"\x57\x00")], True),
        (AVC, [Message(9, 1, 5, b"\x96\x03vp09\x01frame")], True),
    ],
)
def test_another_codec_drops_the_header(header: Message, frames: list[Message], kept: bool) -> None:
    cache = filled(header)
    version = cache.headers_version
    for frame in frames:
        cache.add(frame)
    assert [m.payload for m in cache.headers()] == ([header.payload] if kept else [])
    assert (cache.headers_version == version) is kept


def track(number: int, packet_type: int, first: int, timestamp: int) -> Message:
    return Message(9, 1, timestamp, bytes((first, packet_type)) + b"avc1" + bytes((number,)) + b"x")


def test_the_lowest_track_decides_where_playback_begins() -> None:
    cache = filled(AVC)
    flags = [
        cache.add(message)
        for message in (
            key(40),
            track(1, 3, 0x96, 40),
            inter(80),
            track(1, 3, 0xA6, 80),
            track(1, 3, 0x96, 120),
        )
    ]
    assert [bool(flag & MediaFlags.KEYFRAME) for flag in flags] == [True, False, False, False, False]
    assert [m.timestamp for m in cache.snapshot()] == [40, 40, 40, 80, 80, 120]
    assert cache.add(key(160)) & MediaFlags.KEYFRAME
    assert cache.snapshot() == [*at(160, AVC), key(160)]


def test_without_track_0_another_one_decides() -> None:
    cache = filled(track(2, 0, 0x96, 0), track(2, 3, 0x96, 40), track(3, 3, 0x96, 40))
    assert [m.timestamp for m in cache.snapshot()] == [40, 40, 40]


@pytest.mark.parametrize(
    "ends", [[Message(9, 1, 50, b"\x17\x02\x00\x00\x00")], []], ids=["with an end", "without a word"]
)
def test_when_the_lowest_track_ends_another_one_decides(ends: list[Message]) -> None:
    cache = filled(AVC, track(1, 0, 0x96, 0), key(40), *ends, limit_bytes=2000)
    for step in range(60, 400, 10):
        cache.add(track(1, 3, 0x96 if step % 100 == 0 else 0xA6, step))
    assert cache.snapshot()[-1].timestamp == 390
    assert cache.snapshot()[-10].timestamp == 300


@pytest.mark.parametrize("body", [b"", b"x" * 1000])
def test_messages_are_bounded_in_bytes_even_empty_ones(body: bytes) -> None:
    cache = filled(AVC, key(0), limit_bytes=20_000)
    most = 0
    for step in range(5000):
        cache.add(Message(8, 1, step, body and b"\xaf\x01" + body))
        most = max(most, len(cache.snapshot()))
        assert cache.held_bytes <= 40_000
    assert most <= 20_000 // 128 + len(cache.headers())
    assert cache.snapshot() == [AVC]
    cache.add(key(6000))
    assert cache.snapshot() == [*at(6000, AVC), key(6000)]


def test_headers_are_bounded_in_bytes_and_number() -> None:
    cache = GopCache(10_000)
    for number in range(256):
        cache.add(Message(9, 1, 0, b"\x96\x00avc1" + bytes((number,)) + bytes(number * 10)))
        cache.add(Message(9, 1, 0, b"\x96\x10avc1" + bytes((number, 0, 0, 0, number ^ 1, 0, 0, 0))))
        assert cache.held_bytes <= 10_000
        assert len(cache.headers()) <= 64
    cache.add(Message(9, 1, 0, b"\x90hvc1" + bytes(20_000)))
    assert cache.headers() == []


def test_a_new_publisher_begins_with_nothing() -> None:
    cache = filled(METADATA, AVC, AAC, key(40), inter(80))
    version = cache.headers_version
    cache.clear()
    assert cache.snapshot() == []
    assert not cache.has_video
    assert cache.held_bytes == 0
    assert cache.headers_version > version
    cache.add(inter(120))
    assert cache.snapshot() == []
