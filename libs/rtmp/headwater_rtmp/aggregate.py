"""Aggregate messages (RTMP 1.0, section 7.1.6): several audio, video and data messages in one."""

import struct
from collections.abc import Iterator

from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import MEDIA, Message

_HEADER = struct.Struct(">II")  # type and size, timestamp and its top byte; a stream id of 24 bits follows
_HEADER_SIZE = 11
_BACK_POINTER_SIZE = 4


def split_aggregate(message: Message) -> Iterator[Message]:
    """The messages inside, one at a time, with the aggregate's stream id.

    Timestamps move so that the first one becomes the aggregate's. The sizes behind each message (back pointers) are
    stepped over, not compared; the last may be missing. Raises RemoteProtocolError at a size that does not fit and at
    any type but audio, video and data: commands, control messages and aggregates do not belong inside.
    """
    payload = message.payload
    end = len(payload)
    at = 0
    shift: int | None = None
    while at < end:
        if end - at < _HEADER_SIZE:
            raise RemoteProtocolError(
                f"aggregate: {end - at} bytes at offset {at}, expected a header of {_HEADER_SIZE}"
            )
        type_and_size, stamp = _HEADER.unpack_from(payload, at)
        type_id, size = type_and_size >> 24, type_and_size & 0xFFFFFF
        timestamp = stamp >> 8 | (stamp & 0xFF) << 24
        if type_id not in MEDIA:
            raise RemoteProtocolError(
                f"aggregate: message type {type_id} at offset {at}, expected 8, 9, 15 or 18"
            )
        at += _HEADER_SIZE
        if size > end - at:
            raise RemoteProtocolError(
                f"aggregate: {end - at} bytes left at offset {at}, expected a message of {size}"
            )
        if shift is None:
            shift = message.timestamp - timestamp
        yield Message(type_id, message.stream_id, (timestamp + shift) & 0xFFFFFFFF, payload[at : at + size])
        at += size + _BACK_POINTER_SIZE
