"""Messages to chunks (RTMP 1.0, section 5.3): stateless for what many players share, stateful for one connection."""

import struct
from typing import Final

from headwater_rtmp.errors import LocalProtocolError
from headwater_rtmp.message import DATA, Message, MessageType

# csid < 64, timestamp and length of 24 bits each, type id, stream id
_pack_type0: Final = struct.Struct(">BIHB4s").pack
_TYPE0_TAIL: Final = struct.Struct(">IHB4s")
_TYPE1_TAIL: Final = struct.Struct(">IHB")
_U32: Final = struct.Struct(">I")
_EXTENDED: Final = 0xFFFFFF
_MASK: Final = 0xFFFFFFFF
_MAX_LENGTH: Final = 0xFFFFFF
_SET_CHUNK_SIZE: Final = 1  # MessageType.SET_CHUNK_SIZE
_STREAM_IDS: Final = tuple(value.to_bytes(4, "little") for value in range(64))
_CONTINUATIONS: Final = tuple(bytes((0xC0 | csid,)) for csid in range(64))


def _csid_of(type_id: int) -> int:
    if type_id <= MessageType.SET_PEER_BANDWIDTH:
        return 2
    if type_id == MessageType.AUDIO:
        return 4
    if type_id in (MessageType.VIDEO, MessageType.AGGREGATE):
        return 6
    return 5 if type_id in DATA else 3


_CSIDS: Final = tuple(map(_csid_of, range(256)))


def csid_for(type_id: int) -> int:
    """The csid that a message type goes out on by default: 2 for control (5.4 requires it), 3 commands and
    SharedObjects, 4 audio, 5 data, 6 video, 3 for what is unknown."""
    return _CSIDS[type_id]


def basic_header(kind: int, csid: int) -> bytes:
    """RTMP 1.0, 5.3.1.1: 1, 2 or 3 bytes. `kind` 0 to 3, `csid` 2 to 65599. Raises LocalProtocolError."""
    if 2 <= csid < 64:
        return bytes((kind << 6 | csid,))
    if 64 <= csid < 320:
        return bytes((kind << 6, csid - 64))
    if 320 <= csid <= 65599:
        return bytes((kind << 6 | 1, (csid - 64) & 0xFF, (csid - 64) >> 8))
    raise LocalProtocolError(f"csid {csid}, expected 2 to 65599")


def encode_message(message: Message, csid: int, chunk_size: int) -> bytes:
    """A whole message as one type 0 chunk and as many type 3 chunks as it needs, each extended timestamp repeated.

    Depends on nothing but its arguments, so that the bytes may go to many connections (with this chunk size).
    """
    return encode_for(message.stream_id, message, csid, chunk_size)


def encode_for(stream_id: int, message: Message, csid: int, chunk_size: int) -> bytes:
    """The same for another message stream than the message's own: each player has one of its own."""
    payload = message.payload
    length = len(payload)
    timestamp = message.timestamp
    stream = _STREAM_IDS[stream_id] if stream_id < 64 else stream_id.to_bytes(4, "little")
    if timestamp < _EXTENDED and 2 <= csid < 64 and length <= _MAX_LENGTH:
        header = _pack_type0(csid, timestamp << 8 | length >> 16, length & 0xFFFF, message.type_id, stream)
        if length <= chunk_size:
            return header + payload
        separator = _CONTINUATIONS[csid]
    else:
        if length > _MAX_LENGTH:
            raise LocalProtocolError(f"message of {length} bytes, expected at most {_MAX_LENGTH}")
        timestamp &= _MASK
        extended = _U32.pack(timestamp) if timestamp >= _EXTENDED else b""
        field = min(timestamp, _EXTENDED)
        tail = _TYPE0_TAIL.pack(field << 8 | length >> 16, length & 0xFFFF, message.type_id, stream)
        header = basic_header(0, csid) + tail + extended
        separator = basic_header(3, csid) + extended
    return _split(header, separator, payload, chunk_size)


def _split(header: bytes, separator: bytes, payload: bytes, chunk_size: int) -> bytes:
    length = len(payload)
    if length <= chunk_size:
        return header + payload
    pieces = [payload[at : at + chunk_size] for at in range(0, length, chunk_size)]
    pieces[0] = header + pieces[0]
    return separator.join(pieces)


class _Sent:
    """The last header on one csid. `delta` is None after a type 0 chunk."""

    __slots__ = ("delta", "length", "stream_id", "timestamp", "type_id")

    def __init__(self) -> None:
        self.type_id = self.stream_id = self.length = self.timestamp = 0
        self.delta: int | None = None


class ChunkWriter:
    """Writes with header compression (types 1, 2 and 3). A csid it has written on belongs to it alone: bytes of
    `encode_message` on the same csid of the same connection would change what its deltas count from.

    A type 3 chunk starts a message only after a type 1 or 2 chunk: after a type 0 chunk peers disagree about the delta.
    """

    __slots__ = ("_sent", "chunk_size")

    def __init__(self, chunk_size: int = 128) -> None:
        self.chunk_size = chunk_size
        self._sent: dict[int, _Sent] = {}

    def encode(self, message: Message, csid: int | None = None) -> bytes:
        """The message's chunks. A SetChunkSize message applies to whatever is encoded after it."""
        if csid is None:
            csid = csid_for(message.type_id)
        payload = message.payload
        length = len(payload)
        if length > _MAX_LENGTH:
            raise LocalProtocolError(f"message of {length} bytes, expected at most {_MAX_LENGTH}")
        timestamp = message.timestamp & _MASK
        last = self._sent.get(csid)
        delta: int | None = None
        if last is None:
            last = self._sent[csid] = _Sent()
        elif last.stream_id == message.stream_id:
            delta = (timestamp - last.timestamp) & _MASK
            if delta >= 0x80000000:
                delta = None  # Time went back: only type 0 can say so (5.3.1.2.1).
        kind, field, tail = 0, timestamp, b""
        if delta is None:
            stream = message.stream_id.to_bytes(4, "little")
            high = min(timestamp, _EXTENDED) << 8 | length >> 16
            tail = _TYPE0_TAIL.pack(high, length & 0xFFFF, message.type_id, stream)
        else:
            field = delta
            short = min(delta, _EXTENDED)
            if last.length != length or last.type_id != message.type_id:
                kind, tail = 1, _TYPE1_TAIL.pack(short << 8 | length >> 16, length & 0xFFFF, message.type_id)
            elif last.delta != delta:
                kind, tail = 2, short.to_bytes(3, "big")
            else:
                kind = 3
        extended = _U32.pack(field) if field >= _EXTENDED else b""
        last.type_id, last.stream_id, last.length = message.type_id, message.stream_id, length
        last.timestamp, last.delta = timestamp, delta
        header = basic_header(kind, csid) + tail + extended
        encoded = _split(header, basic_header(3, csid) + extended, payload, self.chunk_size)
        if message.type_id == _SET_CHUNK_SIZE:
            self.chunk_size = _U32.unpack_from(payload)[0] & 0x7FFFFFFF
        return encoded
