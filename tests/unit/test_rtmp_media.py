"""What media messages are: vectors of Adobe FLV 10.1 (E.4.2, E.4.3) and Enhanced RTMP v2, and messages that ffmpeg sent."""

import pytest
from headwater_rtmp.media import (
    MediaFlags,
    MediaInfo,
    add_set_data_frame,
    inspect,
    is_clear_data_frame,
    strip_set_data_frame,
)
from headwater_rtmp.message import Message

AUDIO, VIDEO = MediaFlags.AUDIO, MediaFlags.VIDEO
HEADER, KEY, DISPOSABLE = MediaFlags.SEQUENCE_HEADER, MediaFlags.KEYFRAME, MediaFlags.DISPOSABLE
METADATA, END, OTHER = MediaFlags.METADATA, MediaFlags.END, MediaFlags.OTHER

Row = tuple[str, bytes, MediaFlags, str, tuple[int, ...], int]


def h(text: str) -> bytes:
    return bytes.fromhex(text)


VIDEO_ROWS: list[Row] = [
    # FLV E.4.3.1: frame type and codec id in one byte, AVCPacketType behind it.
    ("H.264 sequence header (ffmpeg)", h("17 00 000000 0142c00a"), VIDEO | HEADER, "7", (0,), 0),
    ("H.264 keyframe", h("17 01 000000 00"), VIDEO | KEY, "7", (0,), 1),
    ("H.264 inter frame", h("27 01 000000 00"), VIDEO, "7", (0,), 1),
    ("H.264 disposable frame", h("37 01 000000 00"), VIDEO | DISPOSABLE, "7", (0,), 1),
    ("H.264 end of sequence (ffmpeg)", h("17 02 000000"), VIDEO | END, "7", (0,), 2),
    ("Sorenson H.263 keyframe (ffmpeg)", h("12 0000"), VIDEO | KEY, "2", (0,), -1),
    ("Sorenson H.263 inter frame", h("22 0000"), VIDEO, "2", (0,), -1),
    ("VP6 disposable frame", h("34 00"), VIDEO | DISPOSABLE, "4", (0,), -1),
    ("generated keyframe", h("42 00"), VIDEO | KEY, "2", (0,), -1),
    ("video command: start of a seek", h("57 00"), VIDEO, "", (0,), -1),
    ("HEVC by its unofficial id 12: header", h("1c 00 000000 01"), VIDEO | HEADER, "12", (0,), 0),
    ("HEVC by its unofficial id 12: keyframe", h("1c 01 000000 01"), VIDEO | KEY, "12", (0,), 1),
    ("nothing", b"", VIDEO, "", (0,), -1),
    ("H.264 without a packet type", h("17"), VIDEO, "", (0,), -1),
    # Enhanced RTMP v2, ExVideoTagHeader.
    ("hvc1 sequence start (ffmpeg)", h("90") + b"hvc1\x01\x04\x08", VIDEO | HEADER, "hvc1", (0,), 0),
    ("hvc1 keyframe with composition time", h("91") + b"hvc1\0\0\0x", VIDEO | KEY, "hvc1", (0,), 1),
    ("hvc1 keyframe without (CodedFramesX)", h("93") + b"hvc1x", VIDEO | KEY, "hvc1", (0,), 3),
    ("avc1 inter frame", h("a1") + b"avc1\0\0\0x", VIDEO, "avc1", (0,), 1),
    ("av01 disposable frame", h("b1") + b"av01x", VIDEO | DISPOSABLE, "av01", (0,), 1),
    ("vp09 end", h("92") + b"vp09", VIDEO | END, "vp09", (0,), 2),
    ("metadata (ffmpeg: frame type 5)", h("d4") + b"av01\x02\x00\x09", VIDEO | METADATA, "av01", (0,), 4),
    ("metadata", h("94") + b"vvc1\x02", VIDEO | METADATA, "vvc1", (0,), 4),
    ("MPEG-2 TS sequence start", h("95") + b"av01x", VIDEO | HEADER, "av01", (0,), 5),
    ("command: end of a seek", h("d1 01"), VIDEO, "", (0,), 1),
    ("reserved packet type 8", h("98") + b"av01x", VIDEO, "av01", (0,), 8),
    ("FourCC cut short", h("90") + b"hvc", VIDEO, "", (0,), -1),
    # ModEx: size - 1, or 255 and size - 1 of 16 bits, data, then its type and the packet type.
    ("one ModEx (nanoseconds)", h("97 02 000064 01") + b"hvc1\0\0\0", VIDEO | KEY, "hvc1", (0,), 1),
    ("two of them", h("97 02 000001 07 02 000002 00") + b"av01", VIDEO | HEADER, "av01", (0,), 0),
    (
        "ModEx of 300 bytes",
        h("97 ff 012b") + bytes(300) + h("01") + b"avc1\0\0\0",
        VIDEO | KEY,
        "avc1",
        (0,),
        1,
    ),
    ("ModEx cut in its size", h("97 ff 01"), VIDEO, "", (0,), -1),
    ("ModEx cut in its data", h("97 02 0000"), VIDEO, "", (0,), -1),
    ("ModEx and nothing", h("97"), VIDEO, "", (0,), -1),
    # Multitrack: its kind and the packet type, FourCC unless ManyCodecs, then [FourCC] track id [size] payload.
    (
        "OneTrack header (ffmpeg)",
        h("96 00") + b"avc1\x01\x01\x64",
        VIDEO | HEADER,
        "avc1",
        (1,),
        0,
    ),
    ("OneTrack keyframe", h("96 03") + b"avc1\x02x", VIDEO | KEY, "avc1", (2,), 3),
    ("OneTrack of no bytes", h("96 03") + b"avc1\x02", VIDEO | KEY, "avc1", (2,), 3),
    (
        "ManyTracks keyframe",
        h("96 11") + b"av01" + h("00 000002 aaaa 01 000001 bb"),
        VIDEO | KEY,
        "av01",
        (0, 1),
        1,
    ),
    (
        "ManyCodecs header",
        h("96 20") + b"avc1" + h("00 000001 aa") + b"hvc1" + h("03 000000"),
        VIDEO | HEADER,
        "avc1",
        (0, 3),
        0,
    ),
    (
        "ManyCodecs behind ModEx",
        h("97 00 00 06 21") + b"avc1" + h("05 000001 aa"),
        VIDEO | KEY,
        "avc1",
        (5,),
        1,
    ),
    ("multitrack and nothing", h("96"), VIDEO, "", (0,), -1),
    ("multitrack without tracks", h("96 11") + b"av01", VIDEO, "", (0,), -1),
    ("multitrack inside multitrack", h("96 16") + b"av01" + h("00 000000"), VIDEO, "", (0,), -1),
    ("multitrack of an unknown kind", h("96 31") + b"av01" + h("00 000000"), VIDEO, "", (0,), -1),
    ("track longer than the message", h("96 11") + b"av01" + h("00 000009 aa"), VIDEO, "", (0,), -1),
    ("track without its size", h("96 11") + b"av01" + h("00 0000"), VIDEO, "", (0,), -1),
    ("ManyCodecs cut in a FourCC", h("96 21") + b"avc1" + h("00 000000") + b"hv", VIDEO, "", (0,), -1),
]

AUDIO_ROWS: list[Row] = [
    # FLV E.4.2.1: codec id in the high half byte, AACPacketType behind it.
    ("AAC sequence header (ffmpeg)", h("af 00 118856e500"), AUDIO | HEADER, "10", (0,), 0),
    ("AAC", h("af 01 21"), AUDIO, "10", (0,), -1),
    ("AAC without a packet type", h("af"), AUDIO, "", (0,), -1),
    ("MP3 (ffmpeg)", h("2e fffb"), AUDIO, "2", (0,), -1),
    ("Speex", h("b6 00"), AUDIO, "11", (0,), -1),
    ("G.711 A-law, a zero behind it", h("72 00"), AUDIO, "7", (0,), -1),
    ("silence", b"", AUDIO, "", (0,), -1),
    # Enhanced RTMP v2, ExAudioTagHeader.
    ("Opus sequence start (ffmpeg)", h("90") + b"OpusOpusHead", AUDIO | HEADER, "Opus", (0,), 0),
    ("Opus", h("91") + b"Opusx", AUDIO, "Opus", (0,), 1),
    ("fLaC end", h("92") + b"fLaC", AUDIO | END, "fLaC", (0,), 2),
    ("channels (ffmpeg)", h("94") + b"Opus\x01\x01\x00\x00\x00\x04", AUDIO | METADATA, "Opus", (0,), 4),
    ("OneTrack header (ffmpeg)", h("95 00") + b"mp4a\x01\x11", AUDIO | HEADER, "mp4a", (1,), 0),
    ("ManyTracks", h("95 11") + b"ac-3" + h("01 000001 aa 02 000000"), AUDIO, "ac-3", (1, 2), 1),
    ("ManyCodecs channels", h("95 24") + b"ec-3" + h("07 000000"), AUDIO | METADATA, "ec-3", (7,), 4),
    ("ModEx", h("97 02 000001 01") + b".mp3x", AUDIO, ".mp3", (0,), 1),
    ("FourCC cut short", h("90"), AUDIO, "", (0,), -1),
    ("ModEx cut short", h("97 05 00"), AUDIO, "", (0,), -1),
]


@pytest.mark.parametrize(
    ("type_id", "row"),
    [(9, row) for row in VIDEO_ROWS] + [(8, row) for row in AUDIO_ROWS],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_vectors(type_id: int, row: Row) -> None:
    _, payload, flags, codec, tracks, packet_type = row
    assert inspect(Message(type_id, 1, 5, payload)) == MediaInfo(flags, codec, tracks, packet_type)


@pytest.mark.parametrize(
    ("type_id", "payload"),
    [(9, row[1]) for row in VIDEO_ROWS] + [(8, row[1]) for row in AUDIO_ROWS],
)
def test_what_is_cut_short_is_never_kept_for_more_than_it_is(type_id: int, payload: bytes) -> None:
    for size in range(len(payload)):
        info = inspect(Message(type_id, 1, 0, payload[:size]))
        assert info.flags & (VIDEO if type_id == 9 else AUDIO)
        if info.flags & (HEADER | KEY | METADATA):
            assert info.codec


NAME = b"\x02\x00\x0aonMetaData"
SET = b"\x02\x00\x0d@setDataFrame"


@pytest.mark.parametrize(
    ("type_id", "payload", "flags", "stripped"),
    [
        (18, NAME + b"\x05", METADATA, NAME + b"\x05"),
        (18, SET + NAME + b"\x05", METADATA, NAME + b"\x05"),
        (15, b"\0" + SET + NAME + b"\x05", METADATA, b"\0" + NAME + b"\x05"),
        (15, b"\0" + NAME + b"\x05", METADATA, b"\0" + NAME + b"\x05"),
        (15, SET + NAME + b"\x05", METADATA, NAME + b"\x05"),
        (15, NAME + b"\x05", METADATA, NAME + b"\x05"),
        (15, b"\0\0" + NAME, OTHER, b"\0\0" + NAME),
        (18, b"\0" + NAME, OTHER, b"\0" + NAME),
        (18, SET, METADATA, b""),
        (18, NAME + SET, METADATA, NAME + SET),
        (18, b"\x02\x00\x0aonCuePoint\x05", OTHER, b"\x02\x00\x0aonCuePoint\x05"),
        (18, b"", OTHER, b""),
        (15, b"", OTHER, b""),
        (18, b"\xff\xff", OTHER, b"\xff\xff"),
        (20, NAME, OTHER, NAME),
        (20, SET + NAME, OTHER, SET + NAME),
    ],
)
def test_data_messages(type_id: int, payload: bytes, flags: MediaFlags, stripped: bytes) -> None:
    message = Message(type_id, 1, 7, payload)
    assert inspect(message).flags == flags
    assert strip_set_data_frame(message) == Message(type_id, 1, 7, stripped)


@pytest.mark.parametrize(
    ("type_id", "payload", "sent"),
    [
        (18, NAME + b"\x05", SET + NAME + b"\x05"),
        (15, b"\0" + NAME + b"\x05", b"\0" + SET + NAME + b"\x05"),
        (15, NAME + b"\x05", SET + NAME + b"\x05"),
        (18, SET + NAME, SET + NAME),
        (18, b"\x02\x00\x0aonCuePoint\x05", b"\x02\x00\x0aonCuePoint\x05"),
        (9, NAME, NAME),
    ],
)
def test_metadata_as_a_publisher_sends_it(type_id: int, payload: bytes, sent: bytes) -> None:
    message = add_set_data_frame(Message(type_id, 1, 7, payload))
    assert message == Message(type_id, 1, 7, sent)
    assert strip_set_data_frame(message).payload in (payload, NAME)


@pytest.mark.parametrize(
    ("type_id", "payload", "clears"),
    [
        (18, b"\x02\x00\x0f@clearDataFrame" + NAME, True),
        (15, b"\0\x02\x00\x0f@clearDataFrame", True),
        (15, b"\x02\x00\x0f@clearDataFrame", True),
        (18, b"\0\x02\x00\x0f@clearDataFrame", False),
        (18, NAME, False),
        (18, b"", False),
        (20, b"\x02\x00\x0f@clearDataFrame", False),
    ],
)
def test_clear_data_frame(type_id: int, payload: bytes, clears: bool) -> None:
    assert is_clear_data_frame(Message(type_id, 1, 7, payload)) is clears
