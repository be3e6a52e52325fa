"""FLV files: vectors of Adobe FLV 10.1 (E.2, E.3, E.4.1) both ways, and files that real programs wrote."""

import shutil
import struct
import subprocess
import time
from collections import Counter
from pathlib import Path

import imageio_ffmpeg
import pytest
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.flv import FlvHeader, FlvReader, FlvWriter
from headwater_rtmp.gop import GopCache
from headwater_rtmp.media import MediaFlags, inspect
from headwater_rtmp.message import Message

HEAD = bytes.fromhex("464c5601 05 00000009 00000000")


def tag(kind: int, timestamp: int, body: bytes, back: int | None = None) -> bytes:
    head = bytes((kind,)) + struct.pack(">I", len(body))[1:]
    stamp = struct.pack(">I", timestamp)
    last = 11 + len(body) if back is None else back
    return head + stamp[1:] + stamp[:1] + bytes(3) + body + struct.pack(">I", last)


def read(data: bytes, step: int = 0, reader: FlvReader | None = None) -> list[Message]:
    reader = reader or FlvReader()
    found = []
    for at in range(0, len(data), step or len(data)):
        reader.feed(data[at : at + (step or len(data))])
        while (message := reader.next_tag()) is not None:
            found.append(message)
    return found


VECTORS = [
    (tag(8, 0, b"\xaf\x00\x11\x90"), Message(8, 0, 0, b"\xaf\x00\x11\x90")),
    (tag(9, 0xFFFFFF, b""), Message(9, 0, 0xFFFFFF, b"")),
    (tag(9, 0x01000000, b"x" * 300), Message(9, 0, 0x01000000, b"x" * 300)),
    (tag(18, 0xFFFFFFFF, b"\x02\x00\x00"), Message(18, 0, 0xFFFFFFFF, b"\x02\x00\x00")),
    (tag(15, 5, b"\x00\x02\x00\x00"), Message(15, 0, 5, b"\x00\x02\x00\x00")),
]


@pytest.mark.parametrize("step", [0, 1, 7])
def test_vectors_are_read(step: int) -> None:
    data = HEAD + b"".join(data for data, _ in VECTORS)
    reader = FlvReader()
    assert read(data, step, reader) == [message for _, message in VECTORS]
    assert reader.header == FlvHeader(audio=True, video=True)
    assert reader.offset == len(data)


def test_vectors_are_written() -> None:
    writer = FlvWriter()
    assert writer.header() == HEAD
    assert writer.header(audio=False)[4] == 1
    assert writer.header(video=False)[4] == 4
    for data, message in VECTORS:
        assert writer.tag(message) == data


def test_what_comes_from_a_stream_is_stream_0_in_a_file() -> None:
    assert FlvWriter().tag(Message(8, 7, 1 << 32 | 5, b"x")) == tag(8, 5, b"x")


def test_tolerated() -> None:
    longer = b"FLV\x01\x04" + struct.pack(">I", 11) + b"xx" + bytes(4)
    unknown = tag(31, 0, b"?")
    data = longer + unknown + tag(8, 1, b"a", back=0) + tag(8, 2, b"b")
    assert read(data, 1) == [Message(8, 0, 1, b"a"), Message(8, 0, 2, b"b")]


def test_a_tag_that_is_not_whole_is_waited_for() -> None:
    assert read(HEAD + VECTORS[2][0][:-1]) == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"RIFF", "begins with b'R(IF)?', expected b'FLV'"),
        (b"FLV\x02\x05\x00\x00\x00\x09", "version 2, header of 9 bytes; expected version 1, 9 bytes"),
        (b"FLV\x01\x05\x00\x00\x00\x08", "header of 8 bytes; expected"),
        (b"FLV\x01\x05\xff\xff\xff\xff", "header of 4294967295 bytes; expected"),
        (HEAD + tag(8, 0, b"x", back=99), r"back pointer 99, expected 12 \(offset 25\)"),
        (HEAD + b"\x09\x00\x10\x01" + bytes(7), r"4097 bytes, expected at most 4096 \(offset 13\)"),
        (HEAD + tag(0x29, 0, b"x"), r"encrypted tag of type 9, expected a plain one \(offset 13\)"),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_what_is_no_flv(data: bytes, text: str, step: int) -> None:
    with pytest.raises(RemoteProtocolError, match=text):
        read(data, step, FlvReader(4096))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Message(20, 0, 0, b""), "message type 20 has no FLV tag, expected 8, 9, 15 or 18"),
        (Message(9, 0, 0, bytes(1 << 24)), "16777216 bytes, expected at most 16777215"),
    ],
)
def test_what_has_no_tag(message: Message, text: str) -> None:
    with pytest.raises(LocalProtocolError, match=text):
        FlvWriter().tag(message)


def test_a_large_tag_in_small_pieces_is_not_copied_again_and_again() -> None:
    body = bytes(1 << 20)
    started = time.process_time()
    assert read(HEAD + tag(9, 0, body), 16) == [Message(9, 0, 0, body)]
    assert time.process_time() - started < 5  # Copied for each piece it would be 30 GB.


def ffmpeg(*arguments: str, program: str) -> None:
    subprocess.run([program, "-v", "error", "-y", *arguments], check=True, timeout=60, capture_output=True)


PICTURES = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=1")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=1")
DEBIAN, NEW = shutil.which("ffmpeg") or "ffmpeg", imageio_ffmpeg.get_ffmpeg_exe()
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "keyint=5:min-keyint=5:log-level=none")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-g", "5", "-svtav1-params", "lp=1")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-g", "5")
ALL_FOUR = ("-map", "0", "-map", "1", "-map", "2", "-map", "3")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "5", "-pix_fmt", "yuv420p")

# (program, encoder arguments) -> codecs of video and audio, keyframes, kinds and beginnings of the cache's headers.
FILES = {
    "H.264 AAC": (
        DEBIAN,
        (*PICTURES, *SOUND, *X264, "-c:a", "aac"),
        {"7", "10"},
        2,
        [b"\x17\x00", b"\xaf\x00"],
    ),
    "H.263 MP3": (
        DEBIAN,
        (*PICTURES, *SOUND, "-c:v", "flv1", "-g", "5", "-c:a", "libmp3lame", "-ar", "44100"),
        {"2"},
        2,
        [],
    ),
    "AAC alone": (DEBIAN, (*SOUND, "-c:a", "aac"), {"10"}, 0, [b"\xaf\x00"]),
    "HEVC AAC": (
        NEW,
        (*PICTURES, *SOUND, *X265, "-c:a", "aac"),
        {"hvc1", "10"},
        2,
        [b"\x90hvc1", b"\xaf\x00", b"\xd4hvc1"],
    ),
    "AV1 Opus": (
        NEW,
        (*PICTURES, *SOUND, *AV1, "-c:a", "libopus"),
        {"av01", "Opus"},
        2,
        [b"\x90av01", b"\x90Opus", b"\xd4av01", b"\x94Opus"],
    ),
    "VP9 Opus": (
        NEW,
        (*PICTURES, *SOUND, *VP9, "-c:a", "libopus"),
        {"vp09", "Opus"},
        2,
        [b"\x90vp09", b"\x90Opus", b"\xd4vp09", b"\x94Opus"],
    ),
    "two tracks of each": (
        NEW,
        (*PICTURES, *PICTURES, *SOUND, *SOUND, *ALL_FOUR, *X264, "-c:a", "aac"),
        {"7", "10", "avc1", "mp4a"},
        2,
        [b"\x17\x00", b"\x96\x00avc1\x01", b"\xaf\x00", b"\x95\x00mp4a\x01", b"\x95\x04mp4a\x01"],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_ffmpeg(name: str, tmp_path: Path) -> None:
    """Recognised, cached and written again byte for byte."""
    program, arguments, codecs, keyframes, headers = FILES[name]
    path = tmp_path / "out.flv"
    ffmpeg(*arguments, str(path), program=program)
    data = path.read_bytes()
    reader = FlvReader()
    messages = read(data, 1000, reader)
    assert reader.offset == len(data)
    assert reader.header is not None
    writer = FlvWriter()
    assert (
        writer.header(reader.header.audio, reader.header.video) + b"".join(map(writer.tag, messages)) == data
    )
    infos = [inspect(message) for message in messages]
    assert {info.codec for info in infos if info.codec} == codecs
    assert sum(bool(info.flags & MediaFlags.KEYFRAME and info.tracks == (0,)) for info in infos) == keyframes
    cache = GopCache()
    begins = Counter(bool(cache.add(message) & MediaFlags.KEYFRAME) for message in messages)[True]
    assert begins == keyframes
    assert cache.has_video == (keyframes > 0)
    metadata, *others = cache.headers()
    assert inspect(metadata).flags == MediaFlags.METADATA
    assert [other.payload[: len(begin)] for other, begin in zip(others, headers, strict=True)] == headers
