"""What the benchmark of leaf modules times, in one build: a process that prints nanoseconds of CPU time for each.

The messages are those of the other benchmarks: a stream of 1 Mbit/s (30 frames and 43 AAC frames a second), a slot that holds
a number, a call with a small object.
"""

import json
import sys
from collections.abc import Callable
from time import process_time_ns
from typing import Any

from headwater_amf import amf0, amf3
from headwater_edge.fanout import encode_media
from headwater_rtmp.chunk import ChunkReader
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.compiled import BUILD
from headwater_rtmp.connection import Connection, transfer
from headwater_rtmp.gop import GopCache
from headwater_rtmp.media import inspect
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object
from headwater_rtmp.slots import Slots

VIDEO = Message(9, 1, 1000, bytes((0x27, 1, 0, 0, 0)) + bytes(range(256)) * 15)
KEYFRAME = Message(9, 1, 1000, bytes((0x17, 1, 0, 0, 0)) + bytes(range(256)) * 15)
AUDIO = Message(8, 1, 1000, bytes((0xAF, 1)) + bytes(270))
STREAM = [KEYFRAME] + [message for _ in range(29) for message in (AUDIO, VIDEO)] + [AUDIO] * 14
OBJECT = {"name": "player 17", "x": 120.5, "y": -3.25, "alive": True, "tags": ["red", "blue"]}

Run = Callable[[], Any]


def _reader(chunk_size: int) -> Run:
    pieces = [encode_media(message, 1, chunk_size) for message in STREAM]
    set_size = encode_media(Message(1, 0, 0, chunk_size.to_bytes(4, "big")), 0, 128)
    reader = ChunkReader()
    reader.connected()
    reader.feed(set_size)
    reader.next_message()

    def run() -> None:
        for piece in pieces:
            reader.feed(piece)
            while reader.next_message() is not None:
                pass

    return run


def _connection() -> Run:
    server, client = Connection.server(), Connection.client()
    transfer(client, server)
    server.next_event()
    client.next_event()
    server.connected()
    server.feed(client.send_chunk_size(4096))
    pieces = [encode_media(message, 1, 4096) for message in STREAM]

    def run() -> None:
        for piece in pieces:
            server.feed(piece)
            while server.next_event() is not None:
                pass

    return run


def _cache() -> Run:
    cache = GopCache()

    def run() -> None:
        for message in STREAM:
            cache.add(message)

    return run


def _slots() -> Run:
    slots = Slots()
    events = [[(int(EventType.CHANGE), f"slot{number}", b"\0" * 9)] for number in range(50)]

    def run() -> None:
        for event in events:
            slots.apply(slots.version + 1, event)

    return run


def cases() -> dict[str, tuple[int, Run]]:
    """By name: how many operations a call is, and the call."""
    number = amf0.encode(17.5)
    change = encode_shared_object("board", 3, False, [Event(EventType.REQUEST_CHANGE, "player17", number)])
    changes = encode_shared_object(
        "board", 3, False, [Event(EventType.REQUEST_CHANGE, f"player{at}", number) for at in range(20)]
    )
    events = [Event(int(EventType.CHANGE), f"player{at}", number) for at in range(20)]
    call = encode_command("move", 7.0, None, OBJECT)
    body0, body3 = amf0.encode(OBJECT), amf3.encode(OBJECT)
    length = len(STREAM)
    return {
        "read chunks of 128 bytes, a message": (length, _reader(128)),
        "read chunks of 4096 bytes, a message": (length, _reader(4096)),
        "Connection: events of a stream, a message": (length, _connection()),
        "encode_media, 3.8 KB, chunks of 4096": (1, lambda: encode_media(VIDEO, 1, 4096)),
        "encode_media, 3.8 KB, chunks of 65536": (1, lambda: encode_media(VIDEO, 1, 65536)),
        "make a Message": (1, lambda: Message(9, 1, 1000, b"")),
        "inspect a video message": (1, lambda: inspect(VIDEO)),
        "GopCache.add, a message": (length, _cache()),
        "decode_shared_object, 1 change": (1, lambda: decode_shared_object(change)),
        "decode_shared_object, 20 changes": (1, lambda: decode_shared_object(changes)),
        "encode_shared_object, 20 changes": (1, lambda: encode_shared_object("board", 3, False, events)),
        "Slots.apply, 1 change": (50, _slots()),
        "decode_command, with an object": (1, lambda: decode_command(call)),
        "encode_command, with an object": (1, lambda: encode_command("move", 7.0, None, OBJECT)),
        "AMF0: a number, skipped": (1, lambda: amf0.skip(number)),
        "AMF0: an object, read": (1, lambda: amf0.decode(body0)),
        "AMF0: an object, written": (1, lambda: amf0.encode(OBJECT)),
        "AMF3: an object, read": (1, lambda: amf3.decode(body3)),
        "AMF3: an object, written": (1, lambda: amf3.encode(OBJECT)),
    }


def measure(target_ns: int) -> dict[str, float]:
    """Nanoseconds of CPU time of each operation: the best of three, each about `target_ns` long."""
    found: dict[str, float] = {}
    for name, (operations, run) in cases().items():
        calls, spent = 1, 0
        while spent < target_ns // 10:
            calls *= 2
            spent = _time(run, calls)
        calls = max(1, calls * target_ns // spent)
        found[name] = min(_time(run, calls) for _ in range(3)) / calls / operations
    return found


def _time(run: Run, calls: int) -> int:
    before = process_time_ns()
    for _ in range(calls):
        run()
    return process_time_ns() - before


if __name__ == "__main__":
    json.dump({"build": BUILD, "ns": measure(int(float(sys.argv[1]) * 1e9))}, sys.stdout)
