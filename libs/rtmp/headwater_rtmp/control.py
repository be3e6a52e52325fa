"""Protocol control messages (RTMP 1.0, section 5.4) and user control messages (sections 6.2 and 7.1.7)."""

import struct
from dataclasses import dataclass
from enum import IntEnum

from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.message import Message, MessageType

_U32 = struct.Struct(">I")


class UserControl(IntEnum):
    """Event types of user control messages."""

    STREAM_BEGIN = 0
    STREAM_EOF = 1
    STREAM_DRY = 2
    SET_BUFFER_LENGTH = 3
    STREAM_IS_RECORDED = 4
    PING_REQUEST = 6
    PING_RESPONSE = 7
    SWF_VERIFICATION_REQUEST = 26
    """Flash Media Server asks for a hash of the player's file; not in the specification."""
    SWF_VERIFICATION_RESPONSE = 27
    BUFFER_EMPTY = 31
    """Flash Media Server; not in the specification."""
    BUFFER_READY = 32


class PeerBandwidthLimit(IntEnum):
    """Limit types of Set Peer Bandwidth (5.4.5)."""

    HARD = 0
    SOFT = 1
    DYNAMIC = 2


@dataclass(slots=True, frozen=True)
class UserControlEvent:
    """A user control message. `value`: a stream id, or for pings a time in ms; `buffer_ms` with SET_BUFFER_LENGTH.
    Event types that are not in UserControl are kept as they are."""

    event: int
    value: int = 0
    buffer_ms: int = 0
    data: bytes = b""


def _u32(value: int, what: str) -> bytes:
    try:
        return _U32.pack(value)
    except struct.error as error:
        raise LocalProtocolError(f"{what} {value!r:.40}, expected 0 to {0xFFFFFFFF}") from error


def set_chunk_size(size: int) -> Message:
    """From now on chunks are at most `size` bytes (5.4.1)."""
    return Message(MessageType.SET_CHUNK_SIZE, 0, 0, _U32.pack(size & 0x7FFFFFFF))


def abort(csid: int) -> Message:
    """Forget the unfinished message of a chunk stream (5.4.2)."""
    return Message(MessageType.ABORT, 0, 0, _u32(csid, "csid"))


def acknowledgement(received_bytes: int) -> Message:
    """So many bytes were received, modulo 2**32 (5.4.3)."""
    return Message(MessageType.ACKNOWLEDGEMENT, 0, 0, _U32.pack(received_bytes & 0xFFFFFFFF))


def window_acknowledgement_size(window_bytes: int) -> Message:
    """Acknowledge whenever so many bytes were received (5.4.4)."""
    return Message(MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE, 0, 0, _u32(window_bytes, "window"))


def set_peer_bandwidth(window_bytes: int, limit: int = PeerBandwidthLimit.DYNAMIC) -> Message:
    """Have at most so many bytes unacknowledged (5.4.5)."""
    return Message(MessageType.SET_PEER_BANDWIDTH, 0, 0, _u32(window_bytes, "window") + bytes((limit,)))


def user_control(event: int, value: int, buffer_ms: int | None = None) -> Message:
    """A user control message."""
    payload = struct.pack(">HI", event, value & 0xFFFFFFFF)
    if buffer_ms is not None:
        payload += _u32(buffer_ms, "buffer length")
    return Message(MessageType.USER_CONTROL, 0, 0, payload)


def stream_begin(stream_id: int) -> Message:
    """The message stream is ready (7.1.7)."""
    return user_control(UserControl.STREAM_BEGIN, stream_id)


def stream_eof(stream_id: int) -> Message:
    """Playback of the message stream is over (7.1.7)."""
    return user_control(UserControl.STREAM_EOF, stream_id)


def ping_request(time_ms: int) -> Message:
    """Are you there? (7.1.7)"""
    return user_control(UserControl.PING_REQUEST, time_ms)


def ping_response(time_ms: int) -> Message:
    """The time of the request comes back (7.1.7)."""
    return user_control(UserControl.PING_RESPONSE, time_ms)


def set_buffer_length(stream_id: int, buffer_ms: int) -> Message:
    """How much the client buffers (7.1.7)."""
    return user_control(UserControl.SET_BUFFER_LENGTH, stream_id, buffer_ms)


def parse_user_control(message: Message) -> UserControlEvent:
    """The event of a user control message. Raises RemoteProtocolError when it is shorter than its type."""
    payload = message.payload
    if len(payload) < 2:
        raise RemoteProtocolError(f"user control message of {len(payload)} bytes, expected 2 or more")
    event = int.from_bytes(payload[:2], "big")
    known = event <= UserControl.PING_RESPONSE and event != 5
    least = (10 if event == UserControl.SET_BUFFER_LENGTH else 6) if known else 2
    if len(payload) < least:
        raise RemoteProtocolError(
            f"user control event {event} of {len(payload)} bytes, expected {least} or more"
        )
    value = int.from_bytes(payload[2:6], "big") if len(payload) >= 6 else 0
    buffer_ms = int.from_bytes(payload[6:10], "big") if event == UserControl.SET_BUFFER_LENGTH else 0
    return UserControlEvent(event, value, buffer_ms, payload[2:])


def parse_u32(message: Message) -> int:
    """The number that a protocol control message begins with. Raises RemoteProtocolError."""
    if len(message.payload) < 4:
        raise RemoteProtocolError(
            f"message type {message.type_id} of {len(message.payload)} bytes, expected 4"
        )
    return int.from_bytes(message.payload[:4], "big")
