"""SharedObject messages (RTMP 1.0, section 7.1.3): types 19 (AMF0) and 16 (AMF3).

Values stay the bytes they came as: AMF0-framed, an AMF3 value behind its 0x11 marker. An AMF3 message is a zero byte and the
same body. Nothing here knows versions or members; that is the origin's and the edge's business.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from headwater_amf import AmfDecodeError, amf0, transcode

from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.message import Message, MessageType

_HEADER: Final = struct.Struct(">III")
_HEADER_SIZE: Final = 12
_pack_length: Final = struct.Struct(">H").pack
_SHORT: Final = 256
_LENGTHS: Final = tuple(
    map(_pack_length, range(_SHORT))
)  # A look-up takes a compiled build a tenth of packing.
_pack_event: Final = struct.Struct(">BI").pack
_EVENT_SIZE: Final = 5
_PERSISTENT: Final = 2
_SHARED_OBJECT_AMF3: Final = (
    16  # MessageType, and types of events: plain ints are looked up and compared faster.
)
_SEND_MESSAGE: Final = 6
_STATUS: Final = 7


class EventType(IntEnum):
    """Event types; who sends them in brackets (C client, S server)."""

    USE = 1
    """[C]"""
    RELEASE = 2
    """[C]"""
    REQUEST_CHANGE = 3
    """[C] key and value; some clients put several pairs into one event."""
    CHANGE = 4
    """[S] key and value, for everybody but the one who asked."""
    SUCCESS = 5
    """[S] key, for the one who asked."""
    SEND_MESSAGE = 6
    """[C, S] handler name and arguments."""
    STATUS = 7
    """[S] code and level."""
    CLEAR = 8
    """[S]"""
    REMOVE = 9
    """[S] key."""
    REQUEST_REMOVE = 10
    """[C] key."""
    USE_SUCCESS = 11
    """[S]"""
    REQUEST_CLEAR = 14
    """[C] not in the specification, seen in a capture."""


@dataclass(slots=True, init=False)
class Event:
    """One event. `key` where the type has one; `value` is the raw value, or with SEND_MESSAGE the raw handler name and
    arguments. `code` and `level` belong to STATUS."""

    type: int
    key: str | None
    value: bytes | None
    code: str
    level: str

    # Written out, as in `Message`.
    def __init__(
        self, type: int, key: str | None = None, value: bytes | None = None, code: str = "", level: str = ""
    ) -> None:
        self.type = type
        self.key = key
        self.value = value
        self.code = code
        self.level = level


@dataclass(slots=True, init=False)
class SharedObjectMessage:
    """A message about one object. `flags` is the first flag word as it came; bit 2 means persistent."""

    name: str
    version: int
    persistent: bool
    flags: int
    events: list[Event]

    def __init__(self, name: str, version: int, persistent: bool, flags: int, events: list[Event]) -> None:
        self.name = name
        self.version = version
        self.persistent = persistent
        self.flags = flags
        self.events = events


@dataclass(frozen=True, slots=True)
class SharedObjectSubject:
    """What a message is about, without its values: the types of its events too, as far as they are known."""

    name: str
    persistent: bool
    kinds: frozenset[int]


@dataclass(frozen=True, slots=True)
class SharedObjectLimits:
    """What one message may hold; bytes."""

    events: int = 256
    value_bytes: int = 64 * 1024
    name_bytes: int = 256
    key_bytes: int = 256


DEFAULT_LIMITS = SharedObjectLimits()
_KEYED: Final = frozenset(map(int, (EventType.SUCCESS, EventType.REMOVE, EventType.REQUEST_REMOVE)))
_VALUED: Final = frozenset(map(int, (EventType.REQUEST_CHANGE, EventType.CHANGE)))
_BARE: Final = frozenset(
    map(
        int,
        (EventType.USE, EventType.RELEASE, EventType.CLEAR, EventType.USE_SUCCESS, EventType.REQUEST_CLEAR),
    )
)
_KINDS: Final = frozenset(map(int, EventType))


def _text(data: bytes, at: int, most: int, what: str) -> tuple[str, int]:
    """A U16 length and so many bytes of UTF-8."""
    left = len(data) - at - 2
    if left < 0:
        raise RemoteProtocolError(f"SharedObject {what}: {left + 2} bytes left, expected a length of 2")
    size = data[at] << 8 | data[at + 1]
    if size > most:
        raise RemoteProtocolError(f"SharedObject {what}: {size} bytes, expected at most {most}")
    if size > left:
        raise RemoteProtocolError(f"SharedObject {what}: {left} bytes left, expected {size}")
    at += 2
    end = at + size
    try:
        return data[at:end].decode(), end
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(
            f"SharedObject {what}: byte 0x{data[at + error.start]:02x}, expected UTF-8: {error.reason}"
        ) from error


def decode_shared_object(
    message: Message, limits: SharedObjectLimits = DEFAULT_LIMITS
) -> SharedObjectMessage:
    """The events of a message of type 19 or 16; unknown event types are left out. Raises RemoteProtocolError."""
    data = message.payload
    name, version, flags, at = _read_header(message, limits)
    events: list[Event] = []
    end = len(data)
    while at < end:
        kind, start, at = _next_event(data, at, name)
        _event(events, kind, data[start:at], limits)
        if len(events) > limits.events:
            raise RemoteProtocolError(
                f"SharedObject {name!r}: {len(events)} events or more, expected at most {limits.events}"
            )
    return SharedObjectMessage(name, version, bool(flags & _PERSISTENT), flags, events)


def peek_shared_object(message: Message, limits: SharedObjectLimits = DEFAULT_LIMITS) -> SharedObjectSubject:
    """What a message of type 19 or 16 is about; what its events hold is not looked at, nor how many there are. Raises
    RemoteProtocolError, as `decode_shared_object` would."""
    data = message.payload
    name, _, flags, at = _read_header(message, limits)
    kinds: set[int] = set()
    end = len(data)
    while at < end:
        kind, _, at = _next_event(data, at, name)
        kinds.add(kind)
    return SharedObjectSubject(name, bool(flags & _PERSISTENT), _KINDS.intersection(kinds))


def _read_header(message: Message, limits: SharedObjectLimits) -> tuple[str, int, int, int]:
    """Name, version and flags, and where the events begin."""
    data = message.payload
    at = 0
    if message.type_id == _SHARED_OBJECT_AMF3:
        if data[:1] not in (b"\x00", b"\x03"):
            raise RemoteProtocolError(
                f"SharedObject (AMF3): begins with {data[:1].hex() or 'nothing'}, expected a zero byte"
            )
        at = 1
    name, at = _text(data, at, limits.name_bytes, "name")
    if len(data) - at < _HEADER_SIZE:
        raise RemoteProtocolError(
            f"SharedObject {name!r}: {len(data) - at} bytes left, expected {_HEADER_SIZE} of version and flags"
        )
    version, flags, _ = _HEADER.unpack_from(data, at)
    return name, version, flags, at + _HEADER_SIZE


def _next_event(data: bytes, at: int, name: str) -> tuple[int, int, int]:
    """An event's type, and where its body begins and ends."""
    end = len(data)
    if end - at < _EVENT_SIZE:
        raise RemoteProtocolError(
            f"SharedObject {name!r}: {end - at} bytes left, expected an event of {_EVENT_SIZE} or more"
        )
    kind = data[at]
    size = data[at + 1] << 24 | data[at + 2] << 16 | data[at + 3] << 8 | data[at + 4]
    at += _EVENT_SIZE
    if end - at < size:
        raise RemoteProtocolError(
            f"SharedObject {name!r}: {end - at} bytes left, expected {size} of event {kind}"
        )
    return kind, at, at + size


def _event(events: list[Event], kind: int, body: bytes, limits: SharedObjectLimits) -> None:
    if kind in _VALUED:
        _pairs(events, kind, body, limits)
    elif kind in _KEYED:
        key, _ = _text(body, 0, limits.key_bytes, "slot")
        events.append(Event(kind, key))
    elif kind == _SEND_MESSAGE:
        _check_message(body, limits)
        events.append(Event(kind, None, body))
    elif kind == _STATUS:
        code, at = _text(body, 0, limits.key_bytes, "status code")
        level, _ = _text(body, at, limits.key_bytes, "status level")
        events.append(Event(kind, None, None, code, level))
    elif kind in _BARE:
        events.append(Event(kind))


def _pairs(events: list[Event], kind: int, body: bytes, limits: SharedObjectLimits) -> None:
    at = 0
    while at < len(body):
        key, start = _text(body, at, limits.key_bytes, "slot")
        try:
            at = amf0.skip(body, start)
        except AmfDecodeError as error:
            raise RemoteProtocolError(f"SharedObject slot {key!r}: {error}") from error
        if at - start > limits.value_bytes:
            raise RemoteProtocolError(
                f"SharedObject slot {key!r}: value of {at - start} bytes, expected at most {limits.value_bytes}"
            )
        if len(events) > limits.events:
            break
        events.append(Event(kind, key, body[start:at]))


def _check_message(body: bytes, limits: SharedObjectLimits) -> None:
    if len(body) > limits.value_bytes:
        raise RemoteProtocolError(
            f"SharedObject send: {len(body)} bytes, expected at most {limits.value_bytes}"
        )
    try:
        values = amf0.decode_all(body)
    except AmfDecodeError as error:
        raise RemoteProtocolError(f"SharedObject send: {error}") from error
    if not values or not isinstance(values[0], str):
        seen = type(values[0]).__name__ if values else "nothing"
        raise RemoteProtocolError(f"SharedObject send: {seen}, expected the name of a handler")


def _string(text: str) -> bytes:
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"text {text!r:.40}, expected Unicode: {error.reason}") from error
    if len(raw) > 0xFFFF:
        raise LocalProtocolError(f"text of {len(raw)} bytes, expected at most 65535")
    return (_LENGTHS[len(raw)] if len(raw) < _SHORT else _pack_length(len(raw))) + raw


def encode_header(name: str, version: int, persistent: bool, amf3: bool) -> bytes:
    """What a message body begins with; events follow."""
    head = _string(name) + _HEADER.pack(version & 0xFFFFFFFF, _PERSISTENT if persistent else 0, 0)
    return b"\x00" + head if amf3 else head


def encode_event(kind: int, key: str | None = None, value: bytes | None = None) -> bytes:
    """One event: `key` and raw `value` as its type has them."""
    body = (_string(key) if key is not None else b"") + (value or b"")
    return _pack_event(kind, len(body)) + body


def encode_status(code: str, level: str = "error") -> bytes:
    """A STATUS event: code first, then level."""
    body = _string(code) + _string(level)
    return _pack_event(_STATUS, len(body)) + body


def encode_shared_object(
    name: str, version: int, persistent: bool, events: Iterable[Event], amf3: bool = False, timestamp: int = 0
) -> Message:
    """A whole message. Values are written as they are: see `value_for`."""
    parts = [encode_header(name, version, persistent, amf3)]
    for event in events:
        if event.type == _STATUS:
            parts.append(encode_status(event.code, event.level or "error"))
        else:
            parts.append(encode_event(event.type, event.key, event.value))
    type_id = MessageType.SHARED_OBJECT_AMF3 if amf3 else MessageType.SHARED_OBJECT_AMF0
    return Message(type_id, 0, timestamp, b"".join(parts))


def value_for(value: bytes, amf3: bool) -> bytes:
    """A raw value as a client of that AMF version reads it. What AMF0 has no form for, or would say in many times the bytes,
    stays AMF3 (0x11)."""
    return transcode(value, to_amf3=amf3)


def arguments_for(data: bytes, amf3: bool) -> bytes:
    """Handler name and arguments of a SEND_MESSAGE as a client of that AMF version reads them; the name stays AMF0."""
    start = amf0.skip(data)
    parts = [transcode(data[:start], to_amf3=False)]
    while start < len(data):
        end = amf0.skip(data, start)
        parts.append(transcode(data[start:end], to_amf3=amf3))
        start = end
    return b"".join(parts)
