"""Commands, data, status, capabilities, addresses."""

import math
from typing import Any

import pytest
from headwater_amf import UNDEFINED, EcmaArray, amf0
from headwater_rtmp.capabilities import parse_capabilities, relay_capabilities
from headwater_rtmp.command import Command, decode_command, decode_data, encode_command, encode_data
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status
from headwater_rtmp.url import parse_rtmp_url, split_app

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


def test_status_objects() -> None:
    assert status(StatusCode.PUBLISH_START, "live/a", clientid="1") == {
        "level": "status",
        "code": "NetStream.Publish.Start",
        "description": "live/a",
        "clientid": "1",
    }


@pytest.mark.parametrize(
    ("code", "level"),
    [
        # Levels as Adobe's NetStatusEvent reference lists them.
        (StatusCode.CONNECT_SUCCESS, "status"),
        (StatusCode.CONNECT_CLOSED, "status"),
        (StatusCode.CONNECT_APP_SHUTDOWN, "error"),
        (StatusCode.CONNECT_INVALID_APP, "error"),
        (StatusCode.CONNECT_REJECTED, "error"),
        (StatusCode.CALL_FAILED, "error"),
        (StatusCode.PUBLISH_BAD_NAME, "error"),
        (StatusCode.PLAY_STREAM_NOT_FOUND, "error"),
        (StatusCode.PLAY_INSUFFICIENT_BW, "warning"),
        (StatusCode.UNPUBLISH_SUCCESS, "status"),
        (StatusCode.OBJECT_NO_WRITE_ACCESS, "error"),
    ],
)
def test_status_levels(code: StatusCode, level: str) -> None:
    assert status(code)["level"] == level


@pytest.mark.parametrize("container", [dict, EcmaArray])
def test_capabilities_of_a_client(container: Any) -> None:
    # Enhanced RTMP v2: an Object or an ECMA array.
    capabilities = parse_capabilities(
        container(
            {
                "app": "live",
                "fourCcList": ["hvc1", "av01", 7.0],
                "videoFourCcInfoMap": container({"*": 4.0, "av01": 5.0, "bad": "x"}),
                "audioFourCcInfoMap": container({"Opus": 1.0}),
                "capsEx": 3.0,
            }
        )
    )
    assert capabilities.enhanced
    assert capabilities.fourcc == {"hvc1", "av01"}
    assert capabilities.video == {"*": 4, "av01": 5}
    assert capabilities.audio == {"Opus": 1}
    assert capabilities.caps_ex == 3


@pytest.mark.parametrize("value", [None, {}, "x", {"app": "live"}])
def test_a_classic_client_has_none(value: Any) -> None:
    assert not parse_capabilities(value).enhanced


@pytest.mark.parametrize("caps", [math.nan, math.inf, -1.0, "x", None, 1e300])
def test_nonsense_capabilities_count_as_none(caps: Any) -> None:
    assert parse_capabilities({"capsEx": caps, "fourCcList": 5.0, "videoFourCcInfoMap": [1.0]}).caps_ex == 0


def test_a_relay_forwards_everything() -> None:
    answer = relay_capabilities()
    assert answer["fourCcList"] == ["*"]
    assert answer["capsEx"] == 15.0
    assert answer["videoFourCcInfoMap"] == answer["audioFourCcInfoMap"] == {"*": 4.0}
    assert amf0.decode(amf0.encode(answer))[0] == answer


@pytest.mark.parametrize(
    ("url", "host", "port", "app", "stream", "tc_url"),
    [
        # As FFmpeg's rtmpproto takes addresses apart.
        ("rtmp://h/live/a", "h", 1935, "live", "a", "rtmp://h/live"),
        ("rtmp://h:1936/live/a", "h", 1936, "live", "a", "rtmp://h:1936/live"),
        ("rtmp://h/chat/lobby/a", "h", 1935, "chat/lobby", "a", "rtmp://h/chat/lobby"),
        ("rtmp://h/chat/lobby/a/b", "h", 1935, "chat/lobby", "a/b", "rtmp://h/chat/lobby"),
        ("rtmp://h/live/a?key=1", "h", 1935, "live", "a?key=1", "rtmp://h/live"),
        ("rtmp://h/live", "h", 1935, "live", "", "rtmp://h/live"),
        ("rtmps://[::1]/live/a", "::1", 443, "live", "a", "rtmps://[::1]/live"),
        ("rtmpt://h/live/a", "h", 80, "live", "a", "rtmpt://h/live"),
    ],
)
def test_addresses(url: str, host: str, port: int, app: str, stream: str, tc_url: str) -> None:
    parsed = parse_rtmp_url(url)
    assert (parsed.host, parsed.port, parsed.app, parsed.stream, parsed.tc_url) == (
        host,
        port,
        app,
        stream,
        tc_url,
    )


@pytest.mark.parametrize("url", ["http://h/live/a", "rtmp:///live/a", "rtmp://h:99999/live/a", "live/a"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_rtmp_url(url)


@pytest.mark.parametrize(
    ("app", "parts"),
    [
        ("live", ("live", "_definst_")),
        ("live/", ("live", "_definst_")),
        ("live?token=x", ("live", "_definst_")),
        ("chat/lobby", ("chat", "lobby")),
        ("chat/lobby?x=/y", ("chat", "lobby")),
        ("chat/eu/lobby", ("chat", "eu/lobby")),
    ],
)
def test_applications(app: str, parts: tuple[str, str]) -> None:
    assert split_app(app) == parts


@pytest.mark.parametrize("app", ["", "?x", "/", "../etc", "chat/..", "chat/a b", "chat/x//y", "a" * 129])
def test_what_is_no_application(app: str) -> None:
    with pytest.raises(ValueError, match="application"):
        split_app(app)
