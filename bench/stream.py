"""A synthetic live stream with the shape of a real one: H.264 at 30 frames a second with a keyframe every 2 s, and AAC.

Every media payload carries a stamp, the message's number and its send time, where a real one has slice data; servers that do
not decode cannot tell the difference. Timestamps and sizes are the same in every run.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from headwater_rtmp.command import encode_data
from headwater_rtmp.message import Message, MessageType

_STAMP = struct.Struct(">4sIQ")  # magic, number from 1, time.monotonic_ns() at the send
_MAGIC = b"\xa5HWB"
_VIDEO_HEAD_BYTES = 5 + 4 + 1  # FLV AVC tag header, NAL unit length, NAL unit header
_AUDIO_HEAD_BYTES = 2
AUDIO_RATE_HZ = 44_100
AAC_FRAME_SAMPLES = 1024
_KEYFRAME_TO_FRAME = 10
"""A keyframe is so many times the mean size of the others: what x264 makes of camera pictures at this rate."""
_FRAME_SPREAD = 0.35

# ISO 14496-15, 5.3.3.1: version, profile 100, compatibility, level 3.1, 4-byte lengths, one SPS, one PPS.
_SPS = bytes.fromhex("6764001facd9405005bb011000000300100000030320f1831960")
_PPS = bytes.fromhex("68ebe3cb22c0")
_AVC_CONFIG = (
    b"\x01\x64\x00\x1f\xff\xe1"
    + len(_SPS).to_bytes(2, "big")
    + _SPS
    + b"\x01"
    + len(_PPS).to_bytes(2, "big")
    + _PPS
)
_AAC_CONFIG = b"\x12\x10"  # ISO 14496-3, 1.6.2.1: AAC LC, 44,100 Hz, 2 channels
_AVC_HEADER = b"\x17\x00\x00\x00\x00" + _AVC_CONFIG
_AAC_HEADER = b"\xaf\x00" + _AAC_CONFIG


@dataclass(frozen=True, slots=True)
class StreamShape:
    """What the stream looks like. `bit_s` counts media payloads: RTMP's own headers come on top."""

    bit_s: int = 1_000_000
    audio_bit_s: int = 96_000
    frames_s: int = 30
    gop_frames: int = 60

    @property
    def messages_s(self) -> float:
        """Media messages a second: 73.07 with the defaults."""
        return self.frames_s + AUDIO_RATE_HZ / AAC_FRAME_SAMPLES


@dataclass(frozen=True, slots=True)
class Frame:
    """One media message before it is stamped. `due_s`: seconds after the stream's start; `size`: bytes of the payload."""

    due_s: float
    type_id: int
    keyframe: bool
    size: int

    @property
    def timestamp(self) -> int:
        """RTMP's, in ms."""
        return round(self.due_s * 1000)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a payload carries: the message's number, from 1, and its send time on the monotonic clock."""

    number: int
    sent_ns: int


def frame_sizes(shape: StreamShape) -> list[int]:
    """Bytes of the video payloads of one GOP, keyframe first; their sum is the video's share of `bit_s`."""
    seconds = shape.gop_frames / shape.frames_s
    total = round((shape.bit_s - shape.audio_bit_s) * seconds / 8)
    noise = random.Random(30)
    weights = [float(_KEYFRAME_TO_FRAME)]
    weights += [1 + noise.uniform(-_FRAME_SPREAD, _FRAME_SPREAD) for _ in range(shape.gop_frames - 1)]
    scale = total / sum(weights)
    sizes = [round(weight * scale) for weight in weights]
    sizes[0] += total - sum(sizes)
    smallest = _VIDEO_HEAD_BYTES + _STAMP.size
    if min(sizes) < smallest:
        raise ValueError(
            f"{shape.bit_s} bit/s: video frames of {min(sizes)} bytes, expected {smallest} or more"
        )
    return sizes


def audio_size(shape: StreamShape) -> int:
    """Bytes of an audio payload."""
    return round(shape.audio_bit_s * AAC_FRAME_SAMPLES / AUDIO_RATE_HZ / 8)


def frames(shape: StreamShape) -> Iterator[Frame]:
    """The stream's media messages without end, audio and video in the order of their times."""
    sizes = frame_sizes(shape)
    audio_interval_s = AAC_FRAME_SAMPLES / AUDIO_RATE_HZ
    audio_bytes = audio_size(shape)
    audio = video = 0
    while True:
        audio_due_s, video_due_s = audio * audio_interval_s, video / shape.frames_s
        if video_due_s <= audio_due_s:
            at = video % shape.gop_frames
            yield Frame(video_due_s, MessageType.VIDEO, at == 0, sizes[at])
            video += 1
        else:
            yield Frame(audio_due_s, MessageType.AUDIO, False, audio_bytes)
            audio += 1


def header_messages(shape: StreamShape, stream_id: int) -> list[Message]:
    """What a publisher sends first: metadata and both sequence headers."""
    metadata = {
        "width": 1280.0,
        "height": 720.0,
        "framerate": float(shape.frames_s),
        "videocodecid": 7.0,
        "videodatarate": (shape.bit_s - shape.audio_bit_s) / 1000,
        "audiocodecid": 10.0,
        "audiodatarate": shape.audio_bit_s / 1000,
        "audiosamplerate": float(AUDIO_RATE_HZ),
        "stereo": True,
    }
    return [
        encode_data("@setDataFrame", "onMetaData", metadata, stream_id=stream_id),
        Message(MessageType.VIDEO, stream_id, 0, _AVC_HEADER),
        Message(MessageType.AUDIO, stream_id, 0, _AAC_HEADER),
    ]


class Stamper:
    """Makes payloads of frames: FLV header, stamp, filler that no compression would shrink."""

    def __init__(self, shape: StreamShape) -> None:
        self._filler = random.Random(31).randbytes(max(frame_sizes(shape)))

    def payload(self, frame: Frame, stamp: Stamp) -> bytes:
        """`frame.size` bytes."""
        if frame.type_id == MessageType.AUDIO:
            head = b"\xaf\x01"
        else:
            kind, nal = (b"\x17", b"\x65") if frame.keyframe else (b"\x27", b"\x41")
            head = kind + b"\x01\x00\x00\x00" + (frame.size - 9).to_bytes(4, "big") + nal
        head += _STAMP.pack(_MAGIC, stamp.number, stamp.sent_ns)
        return head + self._filler[: frame.size - len(head)]


def read_stamp(message: Message) -> Stamp | None:
    """The stamp of a received message; None for what has none (sequence headers, metadata, control messages)."""
    if message.type_id == MessageType.VIDEO:
        at = _VIDEO_HEAD_BYTES
    elif message.type_id == MessageType.AUDIO:
        at = _AUDIO_HEAD_BYTES
    else:
        return None
    payload = message.payload
    if len(payload) < at + _STAMP.size:
        return None
    magic, number, sent_ns = _STAMP.unpack_from(payload, at)
    return Stamp(number, sent_ns) if magic == _MAGIC else None


def is_keyframe(message: Message) -> bool:
    """Whether a message of this stream is a keyframe."""
    return message.type_id == MessageType.VIDEO and message.payload[:2] == b"\x17\x01"
