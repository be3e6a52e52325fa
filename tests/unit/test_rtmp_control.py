"""Protocol control (RTMP 1.0, 5.4) and user control messages (6.2, 7.1.7): vectors both ways."""

from collections.abc import Callable

import pytest
from headwater_rtmp import control
from headwater_rtmp.control import PeerBandwidthLimit, UserControl, UserControlEvent
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.message import Message


def h(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize(
    ("section", "message", "type_id", "payload"),
    [
        ("5.4.1", control.set_chunk_size(4096), 1, h("00001000")),
        ("5.4.1: 31 bits", control.set_chunk_size(0xFFFFFFFF), 1, h("7fffffff")),
        ("5.4.2", control.abort(65599), 2, h("0001003f")),
        ("5.4.3", control.acknowledgement(5), 3, h("00000005")),
        ("5.4.3: wraps", control.acknowledgement((1 << 32) + 5), 3, h("00000005")),
        ("5.4.4", control.window_acknowledgement_size(2_500_000), 5, h("002625a0")),
        ("5.4.5 hard", control.set_peer_bandwidth(5, PeerBandwidthLimit.HARD), 6, h("00000005 00")),
        ("5.4.5 soft", control.set_peer_bandwidth(5, PeerBandwidthLimit.SOFT), 6, h("00000005 01")),
        ("5.4.5 dynamic", control.set_peer_bandwidth(5), 6, h("00000005 02")),
        ("7.1.7 StreamBegin", control.stream_begin(1), 4, h("0000 00000001")),
        ("7.1.7 StreamEOF", control.stream_eof(1), 4, h("0001 00000001")),
        ("7.1.7 StreamDry", control.user_control(UserControl.STREAM_DRY, 1), 4, h("0002 00000001")),
        ("7.1.7 SetBufferLength", control.set_buffer_length(1, 3000), 4, h("0003 00000001 00000bb8")),
        (
            "7.1.7 StreamIsRecorded",
            control.user_control(UserControl.STREAM_IS_RECORDED, 1),
            4,
            h("0004 00000001"),
        ),
        ("7.1.7 PingRequest", control.ping_request(0x1_0000_0005), 4, h("0006 00000005")),
        ("7.1.7 PingResponse", control.ping_response(5), 4, h("0007 00000005")),
        ("BufferEmpty, captured", control.user_control(UserControl.BUFFER_EMPTY, 1), 4, h("001f 00000001")),
        ("BufferReady, captured", control.user_control(UserControl.BUFFER_READY, 1), 4, h("0020 00000001")),
    ],
)
def test_written(section: str, message: Message, type_id: int, payload: bytes) -> None:
    assert message == Message(type_id, 0, 0, payload)


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (h("0000 00000001"), UserControlEvent(UserControl.STREAM_BEGIN, 1, 0, h("00000001"))),
        (h("0001 ffffffff"), UserControlEvent(UserControl.STREAM_EOF, 0xFFFFFFFF, 0, h("ffffffff"))),
        (h("0002 00000001"), UserControlEvent(UserControl.STREAM_DRY, 1, 0, h("00000001"))),
        (
            h("0003 00000001 00000bb8"),
            UserControlEvent(UserControl.SET_BUFFER_LENGTH, 1, 3000, h("00000001 00000bb8")),
        ),
        (h("0004 00000001"), UserControlEvent(UserControl.STREAM_IS_RECORDED, 1, 0, h("00000001"))),
        (h("0006 00000005"), UserControlEvent(UserControl.PING_REQUEST, 5, 0, h("00000005"))),
        (h("0007 00000005"), UserControlEvent(UserControl.PING_RESPONSE, 5, 0, h("00000005"))),
        # Not in the specification: SWF verification has no body, and its answer a body of 42 bytes.
        (h("001a"), UserControlEvent(UserControl.SWF_VERIFICATION_REQUEST, 0, 0, b"")),
        (
            h("001b 0101") + bytes(40),
            UserControlEvent(UserControl.SWF_VERIFICATION_RESPONSE, 0x01010000, 0, h("0101") + bytes(40)),
        ),
        (h("001f 00000001"), UserControlEvent(UserControl.BUFFER_EMPTY, 1, 0, h("00000001"))),
        (h("0020 00000001"), UserControlEvent(UserControl.BUFFER_READY, 1, 0, h("00000001"))),
        (h("0005"), UserControlEvent(5)),
        (h("ffff 00"), UserControlEvent(0xFFFF, 0, 0, b"\x00")),
    ],
)
def test_read(payload: bytes, event: UserControlEvent) -> None:
    assert control.parse_user_control(Message(4, 0, 0, payload)) == event


@pytest.mark.parametrize("event", [0, 1, 2, 3, 4, 6, 7])
def test_every_truncation_is_told(event: int) -> None:
    whole = h(f"000{event} 00000001") + (bytes(4) if event == 3 else b"")
    for size in range(len(whole)):
        with pytest.raises(RemoteProtocolError, match=rf"of {size} bytes, expected \d+ or more"):
            control.parse_user_control(Message(4, 0, 0, whole[:size]))


def test_numbers() -> None:
    assert control.parse_u32(Message(3, 0, 0, h("ffffffff 00"))) == 0xFFFFFFFF
    with pytest.raises(RemoteProtocolError, match="message type 5 of 3 bytes, expected 4"):
        control.parse_u32(Message(5, 0, 0, bytes(3)))


@pytest.mark.parametrize(
    "make", [control.abort, control.window_acknowledgement_size, control.set_peer_bandwidth]
)
@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_numbers_that_do_not_fit_are_ours(make: Callable[[int], Message], value: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"{value}, expected 0 to 4294967295"):
        make(value)
