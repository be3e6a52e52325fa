"""Command and data messages (RTMP 1.0, 7.1.1 and 7.1.2), AMF0 and AMF3."""

from typing import Any

import pytest
from headwater_amf import UNDEFINED, amf0
from headwater_rtmp.command import Command, decode_command, decode_data, encode_command, encode_data
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.message import Message

# createStream of FFmpeg 5.1 (Debian 12), captured on loopback.
CREATE_STREAM = bytes.fromhex("02000c63726561746553747265616d 00 4010000000000000 05")


def test_a_captured_command() -> None:
    command = decode_command(Message(20, 0, 0, CREATE_STREAM))
    assert command == Command("createStream", 4.0, None, [], 0, False)
    assert encode_command("createStream", 4).payload == CREATE_STREAM


@pytest.mark.parametrize("amf3", [False, True])
def test_command_round_trip(amf3: bool) -> None:
    args: list[Any] = ["text", 1.5, True, None, {"a": [1.0, "x", {"b": None}]}, [1.0, 2.0]]
    message = encode_command("call", 7, {"app": "live"}, *args, stream_id=3, amf3=amf3, timestamp=9)
    assert (message.type_id, message.stream_id, message.timestamp) == (17 if amf3 else 20, 3, 9)
    command = decode_command(message)
    assert command.name == "call"
    assert command.transaction_id == 7.0
    assert command.command_object == {"app": "live"}
    assert command.args == args
    assert (command.stream_id, command.amf3) == (3, amf3)


def test_amf3_command_layout() -> None:
    # A zero byte, name and transaction id as AMF0, objects behind an AVMPLUS marker (Enhanced RTMP v2, AMF3).
    payload = encode_command("f", 0, None, {}, amf3=True).payload
    assert payload.startswith(b"\x00\x02\x00\x01f\x00" + bytes(8) + b"\x05\x11\x0a")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "expected a name, got nothing"),
        (amf0.encode(5.0), "expected a name, got float"),
        (amf0.encode("f", "x"), "'f': expected a transaction id, got str"),
        (amf0.encode("f", True), "expected a transaction id, got bool"),
        (b"\x02\x00\x09abc", "message type 20"),
        (b"\xff", "message type 20"),
    ],
)
def test_what_is_no_command(payload: bytes, text: str) -> None:
    with pytest.raises(RemoteProtocolError, match=text):
        decode_command(Message(20, 0, 0, payload))


def test_a_command_may_end_early() -> None:
    assert decode_command(Message(20, 0, 0, amf0.encode("f"))) == Command("f", 0.0, None)
    assert decode_command(Message(20, 0, 0, amf0.encode("f", 1.0, UNDEFINED))).command_object is UNDEFINED


def test_what_has_no_amf_form_is_ours() -> None:
    with pytest.raises(LocalProtocolError):
        encode_command("f", 0, None, object())


@pytest.mark.parametrize("amf3", [False, True])
def test_data_round_trip(amf3: bool) -> None:
    message = encode_data("@setDataFrame", "onMetaData", {"width": 320.0}, stream_id=1, amf3=amf3)
    assert message.type_id == (15 if amf3 else 18)
    assert decode_data(message) == ["@setDataFrame", "onMetaData", {"width": 320.0}]


def test_data_that_is_no_amf() -> None:
    with pytest.raises(RemoteProtocolError, match="message type 18"):
        decode_data(Message(18, 1, 0, b"\x03\x00"))


@pytest.mark.parametrize("name", ["\ud800", "f" * (1 << 24)])
def test_a_name_that_does_not_fit_is_ours(name: str) -> None:
    with pytest.raises(LocalProtocolError, match="expected"):
        encode_command(name, 0)


@pytest.mark.parametrize("type_id", [15, 17])
@pytest.mark.parametrize("first", [b"", b"\x00", b"\x03"])
def test_the_byte_before_an_amf3_body(type_id: int, first: bytes) -> None:
    # Flash Player sends 0, Red5 takes 3 too, some libraries leave it out.
    message = Message(type_id, 1, 0, first + amf0.encode("f", 1.0) + amf0.encode_avmplus([1.0]))
    assert decode_data(message) == ["f", 1.0, [1.0]]


def test_each_amf3_value_has_tables_of_its_own() -> None:
    # Enhanced RTMP v2, "Important AMF3 clarification": the switch holds for one value.
    message = encode_command("f", 1, {"key": "text"}, {"key": "text"}, amf3=True)
    assert message.payload.count(b"\x11\x0a\x0b\x01\x07key\x06\x09text\x01") == 2
