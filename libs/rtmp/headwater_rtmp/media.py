"""What an audio, video or data message is, as far as caches and slow players need it: FLV tags (Adobe FLV 10.1, E.4) and
Enhanced RTMP v2. Payloads are looked at, never changed; malformed ones are `OTHER`, never an error.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from headwater_rtmp.message import Message, MessageType


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
    """`codec`: a FourCC, or `7`-like legacy codec id; `tracks`: of a multitrack message, else (0,)."""

    flags: MediaFlags = MediaFlags.OTHER
    codec: str = ""
    tracks: tuple[int, ...] = (0,)
    packet_type: int = -1


_KEY, _INTER, _DISPOSABLE, _GENERATED, _COMMAND = 1, 2, 3, 4, 5
_ONE_TRACK, _MANY_TRACKS, _MANY_CODECS = 0, 1, 2
_LEGACY_WITH_PACKET_TYPE = (7, 12, 13, 14)
"""AVC, and the unofficial ids that some encoders use for HEVC, AV1 and VVC."""
_AAC = 10
_EX_AUDIO = 9


def inspect_video(payload: bytes) -> MediaInfo:
    """What a video message is."""
    if not payload:
        return MediaInfo(MediaFlags.VIDEO)
    first = payload[0]
    frame_type = first >> 4 & 7
    if not first & 0x80:
        return _legacy_video(payload, first, frame_type)
    packet_type, at = first & 0x0F, 1
    packet_type, at = _mod_ex(payload, packet_type, at, VideoPacket.MOD_EX)
    if at < 0:
        return MediaInfo(MediaFlags.VIDEO)
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


def _legacy_video(payload: bytes, first: int, frame_type: int) -> MediaInfo:
    codec = first & 0x0F
    flags = MediaFlags.VIDEO
    if frame_type == _COMMAND:
        return MediaInfo(flags, str(codec))
    packet_type = -1
    if codec in _LEGACY_WITH_PACKET_TYPE:
        if len(payload) < 2:
            return MediaInfo(flags, str(codec))
        packet_type = payload[1]
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
        return MediaInfo(MediaFlags.AUDIO)
    codec = payload[0] >> 4
    if codec != _EX_AUDIO:
        if codec == _AAC and len(payload) > 1 and payload[1] == 0:
            return MediaInfo(MediaFlags.AUDIO | MediaFlags.SEQUENCE_HEADER, str(codec), packet_type=0)
        return MediaInfo(MediaFlags.AUDIO, str(codec))
    packet_type, at = _mod_ex(payload, payload[0] & 0x0F, 1, AudioPacket.MOD_EX)
    if at < 0:
        return MediaInfo(MediaFlags.AUDIO)
    packet_type, fourcc, tracks = _tracks(payload, packet_type, at, AudioPacket.MULTITRACK)
    flags = MediaFlags.AUDIO
    if packet_type == AudioPacket.SEQUENCE_START:
        flags |= MediaFlags.SEQUENCE_HEADER
    elif packet_type == AudioPacket.MULTICHANNEL_CONFIG:
        flags |= MediaFlags.METADATA
    elif packet_type == AudioPacket.SEQUENCE_END:
        flags |= MediaFlags.END
    return MediaInfo(flags, fourcc, tracks, packet_type)


def _mod_ex(payload: bytes, packet_type: int, at: int, mod_ex: int) -> tuple[int, int]:
    """Skip ModEx prefixes; returns the packet type behind them and its offset, -1 when the payload ends first."""
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


def _fourcc(payload: bytes, at: int) -> str:
    return payload[at : at + 4].decode("latin-1") if len(payload) >= at + 4 else ""


def _tracks(payload: bytes, packet_type: int, at: int, multitrack: int) -> tuple[int, str, tuple[int, ...]]:
    """(packet type, FourCC, track ids) of what stands at `at`."""
    if packet_type != multitrack:
        return packet_type, _fourcc(payload, at), (0,)
    if at >= len(payload):
        return -1, "", (0,)
    kind, packet_type = payload[at] >> 4, payload[at] & 0x0F
    at += 1
    codec = ""
    if kind != _MANY_CODECS:
        codec = _fourcc(payload, at)
        at += 4
    tracks: list[int] = []
    while at < len(payload):
        if kind == _MANY_CODECS:
            codec = codec or _fourcc(payload, at)
            at += 4
            if at >= len(payload):
                break
        tracks.append(payload[at])
        at += 1
        if kind == _ONE_TRACK or at + 3 > len(payload):
            break
        at += 3 + int.from_bytes(payload[at : at + 3], "big")
    return packet_type, codec, tuple(tracks) or (0,)


_METADATA_NAMES = (b"\x02\x00\x0aonMetaData", b"\x02\x00\x0d@setDataFrame")


def inspect(message: Message) -> MediaInfo:
    """What a message of type 8, 9, 18 or 15 is; of any other type it is OTHER."""
    type_id, payload = message.type_id, message.payload
    if type_id == MessageType.VIDEO:
        return inspect_video(payload)
    if type_id == MessageType.AUDIO:
        return inspect_audio(payload)
    if type_id in (MessageType.DATA_AMF0, MessageType.DATA_AMF3):
        body = payload[1:] if type_id == MessageType.DATA_AMF3 else payload
        if body.startswith(_METADATA_NAMES):
            return MediaInfo(MediaFlags.METADATA)
    return MediaInfo()


_SET_DATA_FRAME = b"\x02\x00\x0d@setDataFrame"


def strip_set_data_frame(message: Message) -> Message:
    """A data message without the `@setDataFrame` that publishers put before what players should get."""
    payload = message.payload
    offset = 1 if message.type_id == MessageType.DATA_AMF3 else 0
    if not payload.startswith(_SET_DATA_FRAME, offset):
        return message
    rest = payload[:offset] + payload[offset + len(_SET_DATA_FRAME) :]
    return Message(message.type_id, message.stream_id, message.timestamp, rest)
