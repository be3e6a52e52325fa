"""A server that sends nonsense: the client says so, and nothing else happens."""

import logging
import random
from typing import Any

import pytest
from gevent.server import StreamServer
from headwater_amf import amf0
from headwater_client import ClientError, NetConnection
from headwater_rtmp import control
from headwater_rtmp.chunk import encode_message
from headwater_rtmp.command import decode_command, encode_command, encode_data
from headwater_rtmp.connection import Connection
from headwater_rtmp.errors import RtmpError
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import Event, EventType, encode_shared_object
from headwater_rtmp.status import StatusCode, status

MUTATIONS = 100


def session_bytes() -> dict[str, bytes]:
    """What a server might send at which command: the answers to it, media, an object."""
    said = amf0.encode("say") + amf0.encode([1.0, {"a": "b"}])
    objects = [
        Event(EventType.USE_SUCCESS),
        Event(EventType.CLEAR),
        Event(EventType.CHANGE, "x", amf0.encode([1.0, "two"])),
        Event(EventType.SEND_MESSAGE, None, said),
        Event(EventType.STATUS, code="SharedObject.NoWriteAccess", level="error"),
        Event(EventType.REMOVE, "x"),
        Event(EventType.SUCCESS, "y"),
    ]
    messages = {
        "connect": [
            control.window_acknowledgement_size(100_000),
            control.set_peer_bandwidth(100_000),
            encode_command("_result", 1, {"fmsVer": "x"}, status(StatusCode.CONNECT_SUCCESS, "hello")),
        ],
        "createStream": [encode_command("_result", 2, None, 1.0)],
        "play": [
            encode_shared_object("board", 3, False, objects),
            control.stream_begin(1),
            encode_command("onStatus", 0, None, status(StatusCode.PLAY_START), stream_id=1),
            encode_data("onMetaData", {"width": 1.0}, stream_id=1),
            Message(9, 1, 0, b"\x17\x01" + bytes(300)),
            encode_command("called", 9, None, {"a": [1.0]}),
            control.ping_request(5),
            Message(8, 1, 20, b"\xaf\x01sound"),
            control.stream_eof(1),
        ],
    }
    return {
        name: b"".join(encode_message(message, 3, 128) for message in answer)
        for name, answer in messages.items()
    }


def mutated(original: bytes, chance: random.Random) -> bytes:
    data = bytearray(original)
    for _ in range(chance.randint(0, 3)):
        at = chance.randrange(len(data))
        action = chance.randrange(3)
        if action == 0:
            data[at] = chance.randrange(256)
        elif action == 1:
            del data[at : at + chance.randint(1, 20)]
        else:
            data[at:at] = chance.randbytes(chance.randint(1, 20))
    return bytes(data)


def use(url: str, timeout_s: float) -> str:
    """Everything a client does; returns why the connection ended."""
    connection = NetConnection(url, timeout_s=timeout_s)
    connection.on("called", lambda *_: None)
    try:
        with connection:
            shared = connection.shared_object("board")
            shared.on("say", lambda *_: None)
            shared.on_change(repr)
            stream = connection.create_stream()
            stream.play("a")
            list(stream.messages(timeout_s=0.05))
            dict(shared)
            connection.closed.wait(0.05)
            return connection.close_reason
    except ClientError as error:
        return str(error)


def test_a_server_that_sends_nonsense_is_left_with_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(1935)
    original = session_bytes()
    answers = dict(original)

    def serve(sock: Any, _: object) -> None:
        rtmp = Connection.server()
        try:
            while data := sock.recv(65536):
                rtmp.feed(data)
                sock.sendall(rtmp.data_to_send())
                while (event := rtmp.next_event()) is not None:
                    if isinstance(event, Message) and event.type_id == 20:
                        name = decode_command(event).name
                        sock.sendall(answers.get(name, b""))
                        if name == "play":
                            sock.shutdown(1)
        except (OSError, RtmpError):
            pass

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    reasons: list[str] = []
    try:
        with caplog.at_level(logging.ERROR, logger="headwater_client"):
            for number in range(MUTATIONS):
                if number:
                    answers.update({name: mutated(data, chance) for name, data in original.items()})
                reasons.append(use(f"rtmp://127.0.0.1:{server.server_port}/live", 0.05 if number else 10.0))
    finally:
        server.stop(timeout=1)
    assert [record.getMessage() for record in caplog.records] == []
    assert not any("internal error" in reason for reason in reasons)
    assert reasons[0] == "the server closed the connection"
    assert sum("the server broke the protocol" in reason for reason in reasons) >= 5
