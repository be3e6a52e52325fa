"""FLV files (Adobe FLV 10.1, annex E), sans-IO."""

import struct
from dataclasses import dataclass

from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.message import MEDIA, Message

_U32 = struct.Struct(">I")
_AUDIO, _VIDEO = 4, 1
_ENCRYPTED = 0x20  # E.4.1, Filter
_TAG_HEADER_SIZE = 11


@dataclass(slots=True, frozen=True)
class FlvHeader:
    """What the file says it holds."""

    audio: bool
    video: bool


class FlvReader:
    """`feed()` bytes, then `next_tag()` until it gives None. Tags come as messages of message stream 0; tags of unknown types
    are left out."""

    __slots__ = ("_at", "_buffer", "_max_tag_bytes", "header", "offset")

    def __init__(self, max_tag_bytes: int = 16 * 1024 * 1024) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._max_tag_bytes = max_tag_bytes
        self.header: FlvHeader | None = None
        self.offset = 0
        """Bytes read so far."""

    def feed(self, data: bytes) -> None:
        """More of the file."""
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += data

    def _take(self, count: int) -> None:
        self._at += count
        self.offset += count

    def next_tag(self) -> Message | None:
        """The next tag, or None when more bytes are needed. Raises RemoteProtocolError for what is not FLV, and for an
        encrypted tag."""
        if self.header is None and not self._read_header():
            return None
        while True:
            buffer, at = self._buffer, self._at
            if len(buffer) - at < _TAG_HEADER_SIZE:
                return None
            kind = buffer[at]
            size = int.from_bytes(buffer[at + 1 : at + 4], "big")
            if size > self._max_tag_bytes:
                raise RemoteProtocolError(
                    f"FLV tag of {size} bytes, expected at most {self._max_tag_bytes} (offset {self.offset})"
                )
            start = at + _TAG_HEADER_SIZE
            end = start + size
            if len(buffer) < end + 4:
                return None
            timestamp = buffer[at + 7] << 24 | int.from_bytes(buffer[at + 4 : at + 7], "big")
            (back,) = _U32.unpack_from(buffer, end)
            # Some writers leave the back pointer zero.
            if back not in (0, end - at):
                raise RemoteProtocolError(
                    f"FLV: back pointer {back}, expected {end - at} (offset {self.offset + end - at})"
                )
            type_id = kind & 0x1F
            if kind & _ENCRYPTED and type_id in MEDIA:
                raise RemoteProtocolError(
                    f"FLV: encrypted tag of type {type_id}, expected a plain one (offset {self.offset})"
                )
            self._take(end + 4 - at)
            if type_id in MEDIA:
                with memoryview(buffer) as view:
                    return Message(type_id, 0, timestamp, bytes(view[start:end]))

    def _read_header(self) -> bool:
        buffer = self._buffer
        seen = bytes(buffer[:3])
        if not b"FLV".startswith(seen):
            raise RemoteProtocolError(f"not an FLV file: begins with {seen!r}, expected b'FLV'")
        if len(buffer) < 9:
            return False
        flags = buffer[4]
        (size,) = _U32.unpack_from(buffer, 5)
        if buffer[3] != 1 or not 9 <= size <= 1024:
            raise RemoteProtocolError(
                f"FLV version {buffer[3]}, header of {size} bytes; expected version 1, 9 bytes"
            )
        if len(buffer) < size + 4:
            return False
        self.header = FlvHeader(bool(flags & _AUDIO), bool(flags & _VIDEO))
        self._take(size + 4)
        return True


class FlvWriter:
    """Makes the bytes of an FLV file: `header()` once, then `tag()` for each message."""

    __slots__ = ()

    def header(self, audio: bool = True, video: bool = True) -> bytes:
        """The file header and the first, empty back pointer."""
        flags = (_AUDIO if audio else 0) | (_VIDEO if video else 0)
        return b"FLV\x01" + bytes((flags,)) + _U32.pack(9) + bytes(4)

    def tag(self, message: Message) -> bytes:
        """One tag. Raises LocalProtocolError for message types that FLV has no tag for."""
        if message.type_id not in MEDIA:
            raise LocalProtocolError(
                f"message type {message.type_id} has no FLV tag, expected 8, 9, 15 or 18"
            )
        size, timestamp = len(message.payload), message.timestamp & 0xFFFFFFFF
        if size > 0xFFFFFF:
            raise LocalProtocolError(f"message of {size} bytes, expected at most 16777215")
        head = (
            bytes((message.type_id,))
            + size.to_bytes(3, "big")
            + (timestamp & 0xFFFFFF).to_bytes(3, "big")
            + bytes((timestamp >> 24, 0, 0, 0))
        )
        return head + message.payload + _U32.pack(size + 11)
