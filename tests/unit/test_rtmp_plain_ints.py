"""Hot paths compare with literals, which a compiler puts in place: they must say what the enums say."""

from types import ModuleType
from typing import Any

import pytest
from headwater_rtmp import chunk, chunk_writer, gop, media, shared_object, slots
from headwater_rtmp.media import AudioPacket, MediaFlags, VideoPacket
from headwater_rtmp.message import MessageType
from headwater_rtmp.shared_object import EventType

LITERALS: list[tuple[ModuleType, str, Any]] = [
    (chunk, "_SET_CHUNK_SIZE", MessageType.SET_CHUNK_SIZE),
    (chunk, "_ABORT", MessageType.ABORT),
    (chunk_writer, "_SET_CHUNK_SIZE", MessageType.SET_CHUNK_SIZE),
    (gop, "_SEQUENCE_HEADER", MediaFlags.SEQUENCE_HEADER),
    (gop, "_KEYFRAME", MediaFlags.KEYFRAME),
    (gop, "_VIDEO", MediaFlags.VIDEO),
    (gop, "_END", MediaFlags.END),
    (gop, "_KEPT", MediaFlags.SEQUENCE_HEADER | MediaFlags.METADATA),
    (media, "_AUDIO", MessageType.AUDIO),
    (media, "_VIDEO", MessageType.VIDEO),
    (media, "_DATA_AMF3", MessageType.DATA_AMF3),
    (media, "_VIDEO_MULTITRACK", VideoPacket.MULTITRACK),
    (media, "_AUDIO_MULTITRACK", AudioPacket.MULTITRACK),
    (shared_object, "_SHARED_OBJECT_AMF3", MessageType.SHARED_OBJECT_AMF3),
    (shared_object, "_SEND_MESSAGE", EventType.SEND_MESSAGE),
    (shared_object, "_STATUS", EventType.STATUS),
    (slots, "_CHANGE", EventType.CHANGE),
    (slots, "_REMOVE", EventType.REMOVE),
    (slots, "_CLEAR", EventType.CLEAR),
]


@pytest.mark.parametrize(("module", "name", "member"), LITERALS)
def test_literals_are_the_members(module: ModuleType, name: str, member: int) -> None:
    assert getattr(module, name) == int(member)
