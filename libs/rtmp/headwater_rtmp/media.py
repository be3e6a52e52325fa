"""What an audio, video or data message is, as far as caches and slow players need it: FLV tags (Adobe FLV 10.1, E.4) and
Enhanced RTMP v2. Payloads are looked at, never changed; malformed ones are `OTHER`, never an error.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import Final

from headwater_rtmp.message import DATA, Message


class MediaFlags(IntFlag):
    """What a message is to a cache."""

    OTHER = 0
    SEQUENCE_HEADER = 1
    """Decoders need it first; kept while the stream lasts."""
    KEYFRAME = 2
    """Playback may begin here."""
    DISPOSABLE = 4
    """Nothing depends on it."""
    METADATA = 8
    """onMetaData, Enhanced RTMP video metadata, or a multichannel configuration: kept like a sequence header."""
    AUDIO = 16
    VIDEO = 32
    END = 64
    """The end of a sequence."""


class VideoPacket(IntEnum):
    """Enhanced RTMP v2, ExVideoTagHeader: VideoPacketType."""

    SEQUENCE_START = 0
    CODED_FRAMES = 1
    SEQUENCE_END = 2
    CODED_FRAMES_X = 3
    METADATA = 4
    MPEG2TS_SEQUENCE_START = 5
    MULTITRACK = 6
    MOD_EX = 7


class AudioPacket(IntEnum):
    """Enhanced RTMP v2, ExAudioTagHeader: AudioPacketType."""

    SEQUENCE_START = 0
    CODED_FRAMES = 1
    SEQUENCE_END = 2
    MULTICHANNEL_CONFIG = 4
    MULTITRACK = 5
    MOD_EX = 7


@dataclass(slots=True, frozen=True)
class MediaInfo:
    """`codec`: a FourCC, or a legacy codec id such as `7`, empty where nothing is coded (silence, commands, what is
    malformed); `tracks`: of a multitrack message, else (0,); `packet_type`: what stands behind ModEx and Multitrack; `bits`:
    the flags as a plain int, since each `&` of an IntFlag costs a look-up of the member it gives."""

    flags: MediaFlags = MediaFlags.OTHER
    codec: str = ""
    tracks: tuple[int, ...] = (0,)
    packet_type: int = -1
    bits: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", int(self.flags))


_KEY, _INTER, _DISPOSABLE, _GENERATED, _COMMAND = 1, 2, 3, 4, 5
_ONE_TRACK, _MANY_TRACKS, _MANY_CODECS = 0, 1, 2
_LEGACY_WITH_PACKET_TYPE = (7, 12, 13, 14)
"""AVC, and the unofficial ids that some encoders use for HEVC, AV1 and VVC."""
_AAC = 10
_EX_AUDIO: Final = 9
_NO_MEDIA: Final = MediaInfo()
_VIDEO_OTHER: Final = MediaInfo(MediaFlags.VIDEO)
_AUDIO_OTHER: Final = MediaInfo(MediaFlags.AUDIO)
_EX_HEADER: Final = 5
"""Bytes that tell all of an Enhanced RTMP message without ModEx and Multitrack: flags and packet type, FourCC."""
_REMEMBERED: Final = 1024
_LEGACY_VIDEO: Final[dict[int, MediaInfo]] = {}
_LEGACY_AUDIO: Final[dict[int, MediaInfo]] = {}
_VIDEO_MULTITRACK: Final = 6  # Of VideoPacket and AudioPacket.
_AUDIO_MULTITRACK: Final = 5


def _legacy(
    known: dict[int, MediaInfo], work_out: Callable[[int, int], MediaInfo], payload: bytes
) -> MediaInfo:
    """What the first two bytes say (the second is -1 when there is none), from what is known, as a look-up in a dict takes a
    compiled build half of what `lru_cache` does."""
    first = payload[0]
    second = payload[1] if len(payload) > 1 else -1
    key = first << 9 | second + 1
    info = known.get(key)
    if info is None:
        info = work_out(first, second)
        if len(known) < _REMEMBERED:
            known[key] = info
    return info


def inspect_video(payload: bytes) -> MediaInfo:
    """What a video message is."""
    if not payload:
        return _VIDEO_OTHER
    first = payload[0]
    if first < 0x80:
        return _legacy(_LEGACY_VIDEO, _legacy_video, payload)
    if first & 0x0F < _VIDEO_MULTITRACK:
        return _ex_video(payload[:_EX_HEADER])
    return _ex_video.__wrapped__(payload)


# A stream begins its messages in a handful of ways, so what they mean is looked up, not worked out.
@lru_cache(maxsize=_REMEMBERED)
def _ex_video(payload: bytes) -> MediaInfo:
    frame_type = payload[0] >> 4 & 7
    packet_type, at = _mod_ex(payload, VideoPacket.MOD_EX)
    if at < 0:
        return _VIDEO_OTHER
    if packet_type != VideoPacket.METADATA and frame_type == _COMMAND:
        return MediaInfo(MediaFlags.VIDEO, packet_type=packet_type)
    packet_type, codec, tracks = _tracks(payload, packet_type, at, VideoPacket.MULTITRACK)
    flags = MediaFlags.VIDEO
    if packet_type in (VideoPacket.SEQUENCE_START, VideoPacket.MPEG2TS_SEQUENCE_START):
        flags |= MediaFlags.SEQUENCE_HEADER
    elif packet_type == VideoPacket.METADATA:
        flags |= MediaFlags.METADATA
    elif packet_type == VideoPacket.SEQUENCE_END:
        flags |= MediaFlags.END
    elif packet_type in (VideoPacket.CODED_FRAMES, VideoPacket.CODED_FRAMES_X):
        if frame_type == _KEY:
            flags |= MediaFlags.KEYFRAME
        elif frame_type == _DISPOSABLE:
            flags |= MediaFlags.DISPOSABLE
    return MediaInfo(flags, codec, tracks, packet_type)


def _legacy_video(first: int, second: int) -> MediaInfo:
    """`second` is -1 when there is no second byte."""
    frame_type, codec = first >> 4, first & 0x0F
    if frame_type == _COMMAND:
        return _VIDEO_OTHER
    flags = MediaFlags.VIDEO
    packet_type = -1
    if codec in _LEGACY_WITH_PACKET_TYPE:
        if second < 0:
            return _VIDEO_OTHER
        packet_type = second
        if packet_type == 0:
            return MediaInfo(flags | MediaFlags.SEQUENCE_HEADER, str(codec), packet_type=0)
        if packet_type == 2:
            return MediaInfo(flags | MediaFlags.END, str(codec), packet_type=2)
    if frame_type in (_KEY, _GENERATED):
        flags |= MediaFlags.KEYFRAME
    elif frame_type == _DISPOSABLE:
        flags |= MediaFlags.DISPOSABLE
    return MediaInfo(flags, str(codec), packet_type=packet_type)


def inspect_audio(payload: bytes) -> MediaInfo:
    """What an audio message is. An empty one is silence, and legal."""
    if not payload:
        return _AUDIO_OTHER
    first = payload[0]
    if first >> 4 != _EX_AUDIO:
        return _legacy(_LEGACY_AUDIO, _legacy_audio, payload)
    if first & 0x0F < _AUDIO_MULTITRACK:
        return _ex_audio(payload[:_EX_HEADER])
    return _ex_audio.__wrapped__(payload)


def _legacy_audio(first: int, second: int) -> MediaInfo:
    codec = first >> 4
    if codec == _AAC and second <= 0:
        if second < 0:
            return _AUDIO_OTHER
        return MediaInfo(MediaFlags.AUDIO | MediaFlags.SEQUENCE_HEADER, str(codec), packet_type=0)
    return MediaInfo(MediaFlags.AUDIO, str(codec))


@lru_cache(maxsize=_REMEMBERED)
def _ex_audio(payload: bytes) -> MediaInfo:
    packet_type, at = _mod_ex(payload, AudioPacket.MOD_EX)
    if at < 0:
        return _AUDIO_OTHER
    packet_type, fourcc, tracks = _tracks(payload, packet_type, at, AudioPacket.MULTITRACK)
    flags = MediaFlags.AUDIO
    if packet_type == AudioPacket.SEQUENCE_START:
        flags |= MediaFlags.SEQUENCE_HEADER
    elif packet_type == AudioPacket.MULTICHANNEL_CONFIG:
        flags |= MediaFlags.METADATA
    elif packet_type == AudioPacket.SEQUENCE_END:
        flags |= MediaFlags.END
    return MediaInfo(flags, fourcc, tracks, packet_type)


def _mod_ex(payload: bytes, mod_ex: int) -> tuple[int, int]:
    """The packet type behind any ModEx prefixes, and the offset behind it; -1 when the payload ends first."""
    packet_type, at = payload[0] & 0x0F, 1
    while packet_type == mod_ex:
        if at >= len(payload):
            return packet_type, -1
        size = payload[at] + 1
        at += 1
        if size == 256:
            if at + 2 > len(payload):
                return packet_type, -1
            size = (payload[at] << 8 | payload[at + 1]) + 1
            at += 2
        at += size
        if at >= len(payload):
            return packet_type, -1
        packet_type = payload[at] & 0x0F
        at += 1
    return packet_type, at


_MALFORMED = (-1, "", (0,))


def _tracks(payload: bytes, packet_type: int, at: int, multitrack: int) -> tuple[int, str, tuple[int, ...]]:
    """(packet type, FourCC of the first track, track ids) of what stands at `at`; packet type -1 when it is cut short."""
    end = len(payload)
    if packet_type != multitrack:
        return _MALFORMED if at + 4 > end else (packet_type, payload[at : at + 4].decode("latin-1"), (0,))
    if at >= end:
        return _MALFORMED
    kind, packet_type = payload[at] >> 4, payload[at] & 0x0F
    at += 1
    if at + 4 > end or kind > _MANY_CODECS or packet_type == multitrack:
        return _MALFORMED
    codec = payload[at : at + 4].decode("latin-1")
    if kind != _MANY_CODECS:
        at += 4
    tracks: list[int] = []
    while at < end:
        if kind == _MANY_CODECS:
            at += 4
        if at >= end:
            return _MALFORMED
        tracks.append(payload[at])
        at += 1
        if kind == _ONE_TRACK:
            break
        if at + 3 > end:
            return _MALFORMED
        at += 3 + int.from_bytes(payload[at : at + 3], "big")
    if not tracks or (kind != _ONE_TRACK and at > end):
        return _MALFORMED
    return packet_type, codec, tuple(tracks)


_ON_METADATA: Final = b"\x02\x00\x0aonMetaData"
_SET_DATA_FRAME: Final = b"\x02\x00\x0d@setDataFrame"
_CLEAR_DATA_FRAME: Final = b"\x02\x00\x0f@clearDataFrame"
_METADATA_NAMES: Final = (_ON_METADATA, _SET_DATA_FRAME)
_METADATA: Final = MediaInfo(MediaFlags.METADATA)
_AUDIO: Final = 8  # MessageType
_VIDEO: Final = 9
_DATA_AMF3: Final = 15


def inspect(message: Message) -> MediaInfo:
    """What a message of type 8, 9, 18 or 15 is; of any other type it is OTHER."""
    type_id = message.type_id
    if type_id == _VIDEO:
        return inspect_video(message.payload)
    if type_id == _AUDIO:
        return inspect_audio(message.payload)
    if type_id in DATA and message.payload.startswith(_METADATA_NAMES, values_at(message)):
        return _METADATA
    return _NO_MEDIA


# Data messages (RTMP 1.0, 7.1.2). `@setDataFrame` and `@clearDataFrame` are orders of a publisher to the server.


def values_at(message: Message) -> int:
    """Where the AMF0 values of a data message begin: a body of type 15 may have a zero byte before them, or not."""
    return 1 if message.type_id == _DATA_AMF3 and message.payload[:1] == b"\0" else 0


def strip_set_data_frame(message: Message) -> Message:
    """A data message without the `@setDataFrame` that publishers put before what players should get."""
    if message.type_id not in DATA:
        return message
    payload, at = message.payload, values_at(message)
    if not payload.startswith(_SET_DATA_FRAME, at):
        return message
    rest = payload[:at] + payload[at + len(_SET_DATA_FRAME) :]
    return Message(message.type_id, message.stream_id, message.timestamp, rest)


def add_set_data_frame(message: Message) -> Message:
    """A message as a publisher sends it: onMetaData goes behind `@setDataFrame`, so that the server keeps it."""
    if message.type_id not in DATA:
        return message
    payload, at = message.payload, values_at(message)
    if not payload.startswith(_ON_METADATA, at):
        return message
    return Message(
        message.type_id,
        message.stream_id,
        message.timestamp,
        payload[:at] + _SET_DATA_FRAME + payload[at:],
    )


def is_clear_data_frame(message: Message) -> bool:
    """Whether a message is `@clearDataFrame`, which players do not get."""
    return message.type_id in DATA and message.payload.startswith(_CLEAR_DATA_FRAME, values_at(message))
