"""Captured sessions of publishing encoders, mutated: only RemoteProtocolError comes out, and little is held.

The captures are what ffmpeg sent on loopback to publish one second of a test picture and a tone: 5.1 of Debian 12 with H.264
and AAC, 9 with HEVC and Opus in Enhanced RTMP.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from headwater_rtmp.capabilities import parse_capabilities
from headwater_rtmp.command import decode_command, decode_data
from headwater_rtmp.connection import Connection
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.gop import GopCache
from headwater_rtmp.media import MediaFlags, inspect
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import decode_shared_object

CAPTURES = {
    path.stem: path.read_bytes() for path in sorted(Path(__file__).with_name("captures").glob("*.bin"))
}
HELD_BYTES = 1 << 20


def play(data: bytes, cut: int) -> tuple[list[Message], GopCache]:
    """What a server takes out of a session that comes in two pieces. Raises RemoteProtocolError."""
    connection, cache = Connection.server(), GopCache(HELD_BYTES)
    found = []
    for piece in (data[:cut], data[cut:]):
        connection.feed(piece)
        while (event := connection.next_event()) is not None:
            if isinstance(event, Message):
                found.append(event)
                take(event, connection, cache)
        connection.data_to_send()
    assert connection.held_bytes <= len(data)
    assert cache.held_bytes <= 2 * HELD_BYTES
    return found, cache


def take(message: Message, connection: Connection, cache: GopCache) -> None:
    kind = message.type_id
    if kind in (MessageType.COMMAND_AMF0, MessageType.COMMAND_AMF3):
        command = decode_command(message)
        if command.name == "connect":
            parse_capabilities(command.command_object)
            connection.connected()
    elif kind in (MessageType.SHARED_OBJECT_AMF0, MessageType.SHARED_OBJECT_AMF3):
        decode_shared_object(message)
    elif kind in (MessageType.DATA_AMF0, MessageType.DATA_AMF3):
        decode_data(message)
    cache.add(message)


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Bytes changed, cut out, said twice, moved; mostly behind the handshake and near the start of something."""
    pick = random.Random(seed)
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(pick.choice((1, 1, 1, 2, 3, 10))):
            at = pick.randrange(0 if pick.random() < 0.05 else 3073, len(changed))
            size = min(pick.choice((1, 1, 2, 4, 12, 200)), len(changed) - at)
            match pick.randrange(6):
                case 0 | 1:
                    changed[at] = pick.choice((0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF, pick.randrange(256)))
                case 2:
                    changed[at] ^= 1 << pick.randrange(8)
                case 3:
                    del changed[at : at + size]
                case 4:
                    changed[at:at] = changed[at : at + size]
                case 5:
                    other = pick.randrange(3073, len(changed))
                    changed[at : at + size] = changed[other : other + size]
        yield bytes(changed)


@pytest.mark.parametrize(
    ("name", "codec", "keyframes"), [("ffmpeg-5.1-publish", "7", 1), ("ffmpeg-9-publish-enhanced", "hvc1", 1)]
)
def test_the_captures_are_understood(name: str, codec: str, keyframes: int) -> None:
    found, cache = play(CAPTURES[name], 4000)
    commands = [decode_command(message).name for message in found if message.type_id == 20]
    assert commands == [
        "connect",
        "releaseStream",
        "FCPublish",
        "createStream",
        "publish",
        "FCUnpublish",
        "deleteStream",
    ]
    infos = [inspect(message) for message in found]
    assert sum(bool(info.flags & MediaFlags.KEYFRAME) for info in infos) == keyframes
    assert {info.codec for info in infos if info.flags & MediaFlags.VIDEO} == {codec}
    assert inspect(cache.headers()[0]).flags == MediaFlags.METADATA


@pytest.mark.parametrize("name", CAPTURES)
def test_mutated_sessions(name: str) -> None:
    data = CAPTURES[name]
    texts = []
    started = time.process_time()
    for number, changed in enumerate(mutations(data, 5000, seed=4)):
        try:
            play(changed, number % len(changed))
        except RemoteProtocolError as error:
            texts.append(str(error))
    assert 500 < len(texts) < 5000
    assert max(map(len, texts)) < 400
    assert time.process_time() - started < 60
