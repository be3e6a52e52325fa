"""AMF0 (Adobe, "Action Message Format -- AMF 0", 2007): values to bytes and back."""

import struct
from collections.abc import Callable
from datetime import datetime
from enum import IntEnum
from typing import Any

from headwater_amf import amf3
from headwater_amf.budget import Budget
from headwater_amf.errors import AmfDecodeError, AmfEncodeError, AmfTruncated
from headwater_amf.limits import DEFAULT_LIMITS, Limits
from headwater_amf.values import (
    UNDEFINED,
    UNSUPPORTED,
    Date,
    Dictionary,
    EcmaArray,
    Externalizable,
    TypedObject,
    Undefined,
    Unsupported,
    Vector,
    Xml,
    XmlDocument,
)


class Marker(IntEnum):
    """Type markers (AMF0 2.1)."""

    NUMBER = 0x00
    BOOLEAN = 0x01
    STRING = 0x02
    OBJECT = 0x03
    MOVIECLIP = 0x04
    NULL = 0x05
    UNDEFINED = 0x06
    REFERENCE = 0x07
    ECMA_ARRAY = 0x08
    OBJECT_END = 0x09
    STRICT_ARRAY = 0x0A
    DATE = 0x0B
    LONG_STRING = 0x0C
    UNSUPPORTED = 0x0D
    RECORDSET = 0x0E
    XML_DOCUMENT = 0x0F
    TYPED_OBJECT = 0x10
    AVMPLUS = 0x11


_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_DOUBLE = struct.Struct(">d")
_DATE = struct.Struct(">dh")
_MAX_REFERENCES = 65_536


class _Decoder:
    """One body: values follow each other and share the reference table (AMF0 2.9)."""

    __slots__ = ("at", "budget", "data", "end", "references")

    def __init__(self, data: bytes, offset: int, limits: Limits) -> None:
        if len(data) - offset > limits.total_bytes:
            raise AmfDecodeError(f"{len(data) - offset} bytes in one body, at most {limits.total_bytes}")
        self.data = data
        self.at = offset
        self.end = len(data)
        self.budget = Budget(limits)
        self.references: list[Any] = []

    def take(self, count: int) -> int:
        """The offset of the next `count` bytes, which are consumed."""
        at = self.at
        if count > self.end - at:
            raise AmfTruncated(f"offset {at}: expected {count} bytes, {self.end - at} are left")
        self.at = at + count
        return at

    def string(self, size_format: struct.Struct) -> str:
        (size,) = size_format.unpack_from(self.data, self.take(size_format.size))
        self.budget.text(size, self.at)
        at = self.take(size)
        try:
            return str(self.data[at : at + size], "utf-8")
        except UnicodeDecodeError as error:
            raise AmfDecodeError(f"offset {at}: string is not UTF-8: {error.reason}") from error

    def value(self) -> Any:
        at = self.take(1)
        marker = self.data[at]
        self.budget.node(at)
        reader = _READERS.get(marker)
        if reader is None:
            raise AmfDecodeError(f"offset {at}: marker 0x{marker:02x}, expected an AMF0 value")
        return reader(self)

    def number(self) -> float:
        value: float = _DOUBLE.unpack_from(self.data, self.take(8))[0]
        return value

    def boolean(self) -> bool:
        return self.data[self.take(1)] != 0

    def members(self, into: dict[str, Any]) -> None:
        """Key and value pairs up to the object end marker (AMF0 2.5)."""
        self.budget.enter(self.at)
        while True:
            key = self.string(_U16)
            if not key and self.at < self.end and self.data[self.at] == Marker.OBJECT_END:
                self.at += 1
                break
            into[key] = self.value()
        self.budget.leave()

    def remember(self, value: Any) -> None:
        if len(self.references) >= _MAX_REFERENCES:
            raise AmfDecodeError(f"offset {self.at}: more than {_MAX_REFERENCES} objects in one body")
        self.references.append(value)

    def object(self) -> dict[str, Any]:
        value: dict[str, Any] = {}
        self.remember(value)
        self.members(value)
        return value

    def typed_object(self) -> TypedObject:
        value = TypedObject("")
        self.remember(value)
        value.class_name = self.string(_U16)
        self.members(value.fields)
        return value

    def ecma_array(self) -> EcmaArray:
        self.take(4)  # An approximate count: the end marker decides (AMF0 2.10).
        value = EcmaArray()
        self.remember(value)
        self.members(value)
        return value

    def strict_array(self) -> list[Any]:
        (count,) = _U32.unpack_from(self.data, self.take(4))
        if count > self.end - self.at:
            raise AmfTruncated(
                f"offset {self.at}: array of {count} values, {self.end - self.at} bytes are left"
            )
        value: list[Any] = []
        self.remember(value)
        self.budget.enter(self.at)
        for _ in range(count):
            value.append(self.value())
        self.budget.leave()
        return value

    def reference(self) -> Any:
        at = self.take(2)
        (index,) = _U16.unpack_from(self.data, at)
        if index >= len(self.references):
            raise AmfDecodeError(f"offset {at}: reference to object {index} of {len(self.references)}")
        return self.references[index]

    def date(self) -> Date:
        return Date(*_DATE.unpack_from(self.data, self.take(10)))

    def reserved(self) -> Any:
        raise AmfDecodeError(f"offset {self.at - 1}: marker 0x{self.data[self.at - 1]:02x} is reserved")

    def avmplus(self) -> Any:
        value, self.at = amf3.decode_within(self.data, self.at, self.budget)
        return value


_READERS: dict[int, Callable[[_Decoder], Any]] = {
    Marker.NUMBER: _Decoder.number,
    Marker.BOOLEAN: _Decoder.boolean,
    Marker.STRING: lambda decoder: decoder.string(_U16),
    Marker.OBJECT: _Decoder.object,
    Marker.MOVIECLIP: _Decoder.reserved,
    Marker.NULL: lambda decoder: None,
    Marker.UNDEFINED: lambda decoder: UNDEFINED,
    Marker.REFERENCE: _Decoder.reference,
    Marker.ECMA_ARRAY: _Decoder.ecma_array,
    Marker.STRICT_ARRAY: _Decoder.strict_array,
    Marker.DATE: _Decoder.date,
    Marker.LONG_STRING: lambda decoder: decoder.string(_U32),
    Marker.UNSUPPORTED: lambda decoder: UNSUPPORTED,
    Marker.RECORDSET: _Decoder.reserved,
    Marker.XML_DOCUMENT: lambda decoder: XmlDocument(decoder.string(_U32)),
    Marker.TYPED_OBJECT: _Decoder.typed_object,
    Marker.AVMPLUS: _Decoder.avmplus,
}


def decode(data: bytes, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> tuple[Any, int]:
    """One value and the offset behind it. Raises AmfDecodeError."""
    decoder = _Decoder(data, offset, limits)
    return decoder.value(), decoder.at


def decode_all(data: bytes, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> list[Any]:
    """All values from `offset` to the end; they share one reference table. Raises AmfDecodeError."""
    decoder = _Decoder(data, offset, limits)
    values = []
    while decoder.at < decoder.end:
        values.append(decoder.value())
    return values


_FIXED_SIZES = {
    Marker.NUMBER: 8,
    Marker.BOOLEAN: 1,
    Marker.NULL: 0,
    Marker.UNDEFINED: 0,
    Marker.UNSUPPORTED: 0,
}


def skip(data: bytes, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> int:
    """The offset behind the value at `offset`, which is checked like `decode` does. Raises AmfDecodeError."""
    if offset < len(data):
        size = _FIXED_SIZES.get(data[offset])  # type: ignore[call-overload]
        if size is not None and offset + 1 + size <= len(data):
            return int(offset + 1 + size)
    return decode(data, offset, limits)[1]


class _Encoder:
    """One body. Containers that occur again are written as references (AMF0 2.9)."""

    __slots__ = ("depth", "out", "seen")

    def __init__(self) -> None:
        self.out = bytearray()
        self.seen: dict[int, tuple[int, Any]] = {}
        self.depth = 0

    def value(self, value: Any) -> None:
        writer = _WRITERS.get(type(value))
        if writer is None:
            writer = _writer_of(value)
        writer(self, value)

    def number(self, value: float) -> None:
        try:
            self.out += b"\x00" + _DOUBLE.pack(value)
        except OverflowError as error:
            raise AmfEncodeError(f"{value!r:.40} is too large for a Number") from error

    def boolean(self, value: bool) -> None:
        self.out += b"\x01\x01" if value else b"\x01\x00"

    def null(self, value: None) -> None:
        self.out.append(Marker.NULL)

    def undefined(self, value: Undefined) -> None:
        self.out.append(Marker.UNDEFINED)

    def unsupported(self, value: Unsupported) -> None:
        self.out.append(Marker.UNSUPPORTED)

    def string(self, value: str) -> None:
        raw = _utf8(value)
        if len(raw) <= 0xFFFF:
            self.out += b"\x02" + _U16.pack(len(raw)) + raw
        else:
            self.out += b"\x0c" + _U32.pack(len(raw)) + raw

    def xml_document(self, value: XmlDocument) -> None:
        raw = _utf8(value)
        self.out += b"\x0f" + _U32.pack(len(raw)) + raw

    def again(self, value: Any) -> bool:
        """Whether the container was written before; then a reference to it is written now."""
        known = self.seen.get(id(value))
        if known is None or known[0] > 0xFFFF:
            self.seen[id(value)] = (len(self.seen), value)
            return False
        self.out += b"\x07" + _U16.pack(known[0])
        return True

    def members(self, value: dict[str, Any]) -> None:
        self.depth += 1
        if self.depth > 256:
            raise AmfEncodeError("nested deeper than 256")
        out = self.out
        for key, member in value.items():
            raw = _utf8(key)
            if len(raw) > 0xFFFF:
                raise AmfEncodeError(f"key of {len(raw)} bytes, at most 65535")
            out += _U16.pack(len(raw)) + raw
            self.value(member)
        out += b"\x00\x00\x09"
        self.depth -= 1

    def object(self, value: dict[str, Any]) -> None:
        if not self.again(value):
            self.out.append(Marker.OBJECT)
            self.members(value)

    def typed_object(self, value: TypedObject) -> None:
        if not self.again(value):
            raw = _utf8(value.class_name)
            self.out += b"\x10" + _U16.pack(len(raw)) + raw
            self.members(value.fields)

    def ecma_array(self, value: EcmaArray) -> None:
        if self.again(value):
            return
        items: dict[str, Any] = {**{str(index): item for index, item in enumerate(value.dense)}, **value}
        self.out += b"\x08" + _U32.pack(len(items))
        self.members(items)

    def strict_array(self, value: list[Any] | tuple[Any, ...]) -> None:
        if self.again(value):
            return
        self.depth += 1
        if self.depth > 256:
            raise AmfEncodeError("nested deeper than 256")
        self.out += b"\x0a" + _U32.pack(len(value))
        for item in value:
            self.value(item)
        self.depth -= 1

    def date(self, value: Date) -> None:
        self.out += b"\x0b" + _DATE.pack(value.ms, value.timezone_minutes)

    def avmplus(self, value: Any) -> None:
        self.out += b"\x11" + amf3.encode(value)


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except (UnicodeEncodeError, AttributeError) as error:
        raise AmfEncodeError(f"{value!r:.40} is not a string of Unicode text") from error


_WRITERS: dict[type, Callable[[_Encoder, Any], None]] = {
    float: _Encoder.number,
    int: _Encoder.number,
    bool: _Encoder.boolean,
    type(None): _Encoder.null,
    Undefined: _Encoder.undefined,
    Unsupported: _Encoder.unsupported,
    str: _Encoder.string,
    XmlDocument: _Encoder.xml_document,
    dict: _Encoder.object,
    EcmaArray: _Encoder.ecma_array,
    TypedObject: _Encoder.typed_object,
    list: _Encoder.strict_array,
    tuple: _Encoder.strict_array,
    Date: _Encoder.date,
    datetime: lambda encoder, value: encoder.date(Date.of(value)),
}
_AVMPLUS_TYPES = (bytes, bytearray, Vector, Dictionary, Externalizable, Xml)


def _writer_of(value: Any) -> Callable[[_Encoder, Any], None]:
    """The writer of a value whose very type is not in the table: what AMF0 lacks goes out as AMF3 (AMF0 3.1)."""
    if isinstance(value, _AVMPLUS_TYPES) or amf3.is_externalizable(value):
        return _Encoder.avmplus
    for kind, writer in _WRITERS.items():
        if isinstance(value, kind):
            return writer
    raise AmfEncodeError(f"no AMF form for a Python {type(value).__name__}")


def encode(*values: Any) -> bytes:
    """Values as one body. Raises AmfEncodeError."""
    encoder = _Encoder()
    for value in values:
        encoder.value(value)
    return bytes(encoder.out)


def encode_avmplus(*values: Any) -> bytes:
    """Each value as AMF3 behind an AVMPLUS marker, with reference tables of its own."""
    return b"".join(b"\x11" + amf3.encode(value) for value in values)
