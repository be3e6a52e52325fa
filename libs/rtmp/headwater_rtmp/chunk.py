"""Chunks to messages (RTMP 1.0, section 5.3): the reader. Writers are in `chunk_writer`."""

import struct
from typing import Any, Final

from headwater_rtmp.chunk_limits import DEFAULT_LIMITS, ChunkLimits, sizes_by_type
from headwater_rtmp.chunk_writer import ChunkWriter, csid_for, encode_for, encode_message
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message

__all__ = [
    "DEFAULT_LIMITS",
    "ChunkLimits",
    "ChunkReader",
    "ChunkWriter",
    "csid_for",
    "encode_for",
    "encode_message",
]

_U32: Final = struct.Struct(">I")
_STREAM_ID: Final = struct.Struct("<I")
_EXTENDED: Final = 0xFFFFFF
_MODULUS_MASK: Final = 0xFFFFFFFF
_DEFAULT_CHUNK_SIZE: Final = 128
_SET_CHUNK_SIZE: Final = 1  # MessageType: a look-up of a member costs as much as the rest of the line.
_ABORT: Final = 2
_CONTINUATIONS: Final = tuple(bytes((0xC0 | csid,)) for csid in range(64))


class _ChunkStream:
    """What the last header on one csid said, and the half of a message that is there.

    `field` is the timestamp or delta as it was sent: what a type 3 chunk adds when it starts a message. After a
    type 0 chunk that is the absolute timestamp (RTMP 1.0, 5.3.1.2.4), which is also what FFmpeg's and librtmp's
    writers mean by it.
    """

    __slots__ = ("extended", "field", "length", "partial", "stream_id", "timestamp", "type_id")

    def __init__(self) -> None:
        self.timestamp = 0
        self.field = 0
        self.length = 0
        self.type_id = 0
        self.stream_id = 0
        self.extended = False
        self.partial: bytearray | None = None


class ChunkReader:
    """Bytes in, messages out, one at a time; SetChunkSize and Abort apply before the next byte is looked at.

    Holds what was fed and not yet read, plus at most `limits.reassembly_bytes` of unfinished messages.
    """

    __slots__ = (
        "_at",
        "_before_connect",
        "_buffer",
        "_chunk_left",
        "_current",
        "_held",
        "_partial_count",
        "_passed",
        "_sizes",
        "_streams",
        "chunk_size",
        "limits",
    )

    def __init__(self, limits: ChunkLimits = DEFAULT_LIMITS, before_connect: bool = False) -> None:
        self.limits = limits
        self.chunk_size = _DEFAULT_CHUNK_SIZE
        self._before_connect = before_connect
        self._sizes = sizes_by_type(limits, before_connect)
        self._buffer = b""
        self._at = 0
        self._passed = 0  # Bytes before the start of `_buffer`, for error texts.
        self._streams: dict[int, _ChunkStream] = {}
        self._current = 0  # The csid whose chunk is `_chunk_left` bytes short.
        self._chunk_left = 0
        self._held = 0
        self._partial_count = 0

    def connected(self) -> None:
        """From now on the limits for connected peers hold."""
        self._before_connect = False
        self._sizes = sizes_by_type(self.limits, False)

    def dump(self) -> list[Any]:
        """What another process needs to go on with it, between two calls; lists of ints, bytes, bools and None."""
        streams = [
            [
                csid,
                stream.timestamp,
                stream.field,
                stream.length,
                stream.type_id,
                stream.stream_id,
                stream.extended,
                None if stream.partial is None else bytes(stream.partial),
            ]
            for csid, stream in self._streams.items()
        ]
        return [
            self.chunk_size,
            self._before_connect,
            bytes(self._buffer[self._at :]),
            self._passed + self._at,
            self._current,
            self._chunk_left,
            streams,
        ]

    @classmethod
    def load(cls, dumped: list[Any], limits: ChunkLimits = DEFAULT_LIMITS) -> "ChunkReader":
        """What `dump` gave. Raises ValueError or TypeError."""
        reader = cls(limits)
        (
            reader.chunk_size,
            reader._before_connect,
            reader._buffer,
            reader._passed,
            reader._current,
            reader._chunk_left,
            streams,
        ) = dumped[:7]
        reader._sizes = sizes_by_type(limits, reader._before_connect)
        for csid, *fields, partial in streams:
            stream = reader._streams[csid] = _ChunkStream()
            (
                stream.timestamp,
                stream.field,
                stream.length,
                stream.type_id,
                stream.stream_id,
                stream.extended,
            ) = fields
            if partial is not None:
                stream.partial = bytearray(partial)
                reader._held += len(partial)
                reader._partial_count += 1
        return reader

    @property
    def held_bytes(self) -> int:
        """Bytes of unfinished messages and bytes not yet looked at."""
        return self._held + len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        """More bytes from the peer. Read all messages before feeding again, or they are copied once more."""
        at = self._at
        if at == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[at:] + data
        self._passed += at
        self._at = 0

    def next_message(self) -> Message | None:
        """The next whole message; None: more bytes are needed. Raises RemoteProtocolError, and is dead after it."""
        if self._chunk_left:
            message = self._continue_chunk()
            if message is not None:
                return message
        buffer = self._buffer
        end = len(buffer)
        while self._at < end:
            at = self._at
            first = buffer[at]
            csid = first & 0x3F
            start = at + 1
            if csid < 2:
                start += csid + 1
                if start > end:
                    break
                csid = buffer[at + 1] + 64 + (buffer[at + 2] << 8 if csid else 0)
            kind = first >> 6
            stream = self._streams.get(csid)
            if stream is None:
                # librtmp 2.4 begins csid 2 with type 1 (ping responses, acknowledgements).
                if kind and not (kind == 1 and csid == 2):
                    raise self._error(f"csid {csid}: type {kind} chunk before any type 0")
                stream = self._new_stream(csid)
            if kind < 3:
                body = self._header(stream, csid, kind, start, end)
                if body < 0:
                    break
            else:
                body = start
                if stream.extended:
                    body = self._repeated_timestamp(stream, start, end)
                    if body < 0:
                        break
                if stream.partial is None:
                    stream.timestamp = (stream.timestamp + stream.field) & _MODULUS_MASK
            message = self._chunk_body(stream, csid, body, end)
            if message is not None:
                return message
        self._buffer = self._buffer[self._at :]  # What is read is let go, also while a header is half there.
        self._passed += self._at
        self._at = 0
        return None

    def _header(self, stream: _ChunkStream, csid: int, kind: int, start: int, end: int) -> int:
        """Reads a message header of type 0, 1 or 2 (5.3.1.2). The offset behind it; -1: more bytes are needed."""
        body = start + (3 if kind == 2 else 11 - 4 * kind)
        if body > end:
            return -1
        buffer = self._buffer
        field = buffer[start] << 16 | buffer[start + 1] << 8 | buffer[start + 2]
        extended = field == _EXTENDED
        if extended:
            if body + 4 > end:
                return -1
            (field,) = _U32.unpack_from(buffer, body)
            body += 4
        partial = stream.partial
        if kind < 2:
            length = buffer[start + 3] << 16 | buffer[start + 4] << 8 | buffer[start + 5]
            type_id = buffer[start + 6]
            if partial is not None and (length != stream.length or type_id != stream.type_id or kind == 0):
                raise self._error(
                    f"csid {csid}: type {kind} chunk (message type {type_id}, {length} bytes), expected more of the"
                    f" message of type {stream.type_id} with {len(partial)} of {stream.length} bytes"
                )
            if length > self._sizes[type_id]:
                raise self._error(
                    f"csid {csid}: message type {type_id} of {length} bytes, expected at most {self._sizes[type_id]}"
                )
            stream.length = length
            stream.type_id = type_id
            if kind == 0:
                (stream.stream_id,) = _STREAM_ID.unpack_from(buffer, start + 7)
        stream.extended = extended
        stream.field = field
        if kind == 0:
            stream.timestamp = field
        elif partial is None:
            stream.timestamp = (stream.timestamp + field) & _MODULUS_MASK
        return body

    def _repeated_timestamp(self, stream: _ChunkStream, start: int, end: int) -> int:
        """Where the payload of a type 3 chunk begins, when the csid's last header had an extended timestamp.

        RTMP 1.0 (5.3.1.3) repeats the field on type 3 chunks, some old encoders do not: it is there when these bytes
        equal it. -1: more bytes are needed to tell.
        """
        expected = _U32.pack(stream.field)
        seen = self._buffer[start : start + 4]
        if seen == expected:
            return start + 4
        return -1 if len(seen) < 4 and expected.startswith(seen) else start

    def _chunk_body(self, stream: _ChunkStream, csid: int, body: int, end: int) -> Message | None:
        partial = stream.partial
        size = self.chunk_size
        length = stream.length
        if partial is None:
            if length <= size:
                after = body + length
                if after <= end:
                    self._at = after
                    return self._whole(stream, self._buffer[body:after])
            elif csid < 64 and not stream.extended:
                # All chunks of the message are often here, nothing between them: take out the headers at one stroke.
                count = (length - 1) // size
                after = body + length + count
                if after <= end:
                    stride = size + 1
                    if self._buffer[body + size : after : stride] == _CONTINUATIONS[csid] * count:
                        self._at = after
                        whole = bytearray(self._buffer[body:after])
                        del whole[size::stride]
                        return self._whole(stream, bytes(whole))
            partial = self._begin(stream, csid)
        self._current = csid
        self._chunk_left = min(size, length - len(partial))
        self._at = body
        return self._continue_chunk()

    def _continue_chunk(self) -> Message | None:
        """Takes what is there of the current chunk; the message, when that was its end."""
        stream = self._streams[self._current]
        partial = stream.partial
        assert partial is not None
        at = self._at
        piece = self._buffer[at : at + self._chunk_left]
        count = len(piece)
        self._at = at + count
        self._held += count
        if self._held > self._reassembly_limit():
            raise self._error(
                f"unfinished messages of {self._held} bytes, expected at most {self._reassembly_limit()}"
            )
        partial += piece
        self._chunk_left -= count
        if self._chunk_left or len(partial) < stream.length:
            return None
        self._drop_partial(stream)
        return self._whole(stream, bytes(partial))

    def _whole(self, stream: _ChunkStream, payload: bytes) -> Message:
        type_id = stream.type_id
        if type_id <= _ABORT:
            if type_id == _SET_CHUNK_SIZE:
                self._set_chunk_size(payload)
            elif type_id == _ABORT:
                self._abort(payload)
        return Message(type_id, stream.stream_id, stream.timestamp, payload)

    def _reassembly_limit(self) -> int:
        limits = self.limits
        return limits.before_connect_reassembly_bytes if self._before_connect else limits.reassembly_bytes

    def _new_stream(self, csid: int) -> _ChunkStream:
        limits = self.limits
        most = limits.before_connect_known_csids if self._before_connect else limits.known_csids
        if len(self._streams) >= most:
            raise self._error(f"csid {csid}: {len(self._streams) + 1} chunk streams, expected at most {most}")
        stream = self._streams[csid] = _ChunkStream()
        return stream

    def _begin(self, stream: _ChunkStream, csid: int) -> bytearray:
        if self._partial_count >= self.limits.partial_csids:
            raise self._error(
                f"csid {csid}: {self._partial_count + 1} unfinished messages, expected at most"
                f" {self.limits.partial_csids}"
            )
        self._partial_count += 1
        stream.partial = partial = bytearray()
        return partial

    def _drop_partial(self, stream: _ChunkStream) -> None:
        if stream.partial is not None:
            self._held -= len(stream.partial)
            self._partial_count -= 1
            stream.partial = None

    def _set_chunk_size(self, payload: bytes) -> None:
        """RTMP 1.0, 5.4.1: 31 bits."""
        if len(payload) < 4:
            raise self._error(f"SetChunkSize of {len(payload)} bytes, expected 4")
        (size,) = _U32.unpack_from(payload)
        limits = self.limits
        if not limits.min_chunk_size <= size <= limits.max_chunk_size:
            raise self._error(
                f"SetChunkSize to {size}, expected {limits.min_chunk_size} to {limits.max_chunk_size}"
            )
        self.chunk_size = size

    def _abort(self, payload: bytes) -> None:
        """RTMP 1.0, 5.4.2: drop the unfinished message of one csid. An unknown csid is no error."""
        if len(payload) < 4:
            raise self._error(f"Abort of {len(payload)} bytes, expected 4")
        stream = self._streams.get(_U32.unpack_from(payload)[0])
        if stream is not None:
            self._drop_partial(stream)

    def _error(self, text: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"{text} (offset {self._passed + self._at})")
