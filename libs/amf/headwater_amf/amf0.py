"""AMF0 (Adobe, "Action Message Format -- AMF 0", 2007): bytes to values; `amf0_writer` has the other way."""

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from headwater_amf import amf3
from headwater_amf.amf0_writer import encode, encode_avmplus
from headwater_amf.errors import AmfDecodeError, AmfTruncated
from headwater_amf.limits import DEFAULT_LIMITS, Limits
from headwater_amf.source import Body, Source, checked
from headwater_amf.values import UNDEFINED, UNSUPPORTED, Date, EcmaArray, TypedObject, XmlDocument

__all__ = ["Marker", "decode", "decode_all", "encode", "encode_avmplus", "skip"]


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


_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_DATE: Final = struct.Struct(">dh")
# The hot paths compare with plain ints: an IntEnum member costs an attribute look-up and a slower comparison.
_NUMBER, _STRING, _NULL, _OBJECT_END = 0x00, 0x02, 0x05, 0x09
_read_double = struct.Struct(">d").unpack_from


class _Decoder(Source):
    """One body: values follow each other and share the reference table (AMF0 2.9)."""

    __slots__ = ("references",)

    def __init__(self, data: Body, offset: int, limits: Limits) -> None:
        super().__init__(checked(data, offset, limits), offset, limits, limits.nodes, limits.depth)
        self.references: list[Any] = []

    def value(self) -> Any:
        """The next value. Raises AmfDecodeError."""
        at = self.at
        if at >= self.end:
            raise AmfTruncated(f"offset {at}: expected a marker, no bytes are left")
        self.nodes -= 1
        if self.nodes < 0:
            self.spend(0)
        marker = self.data[at]
        if marker == _NUMBER and self.end - at > 8:
            self.at = at + 9
            return _read_double(self.data, at + 1)[0]
        self.at = at + 1
        if marker == _STRING:
            return self.string()
        return _READERS[marker](self)

    def string(self) -> str:
        """A length of 16 bits and UTF-8 (AMF0 1.3.1); keys are the same."""
        data, at = self.data, self.at + 2
        if at <= self.end:
            size = data[at - 2] << 8 | data[at - 1]
            if at + size <= self.end and size <= self.limits.string_bytes:
                self.at = at + size
                try:
                    return data[at : at + size].decode()
                except UnicodeDecodeError:
                    self.at = at - 2
        return self.text(*_U16.unpack_from(data, self.take(2, "a string's length")))

    def long_string(self) -> str:
        return self.text(*_U32.unpack_from(self.data, self.take(4, "a long string's length")))

    def xml_document(self) -> XmlDocument:
        return XmlDocument(self.long_string())

    def boolean(self) -> bool:
        return self.byte("a boolean") != 0

    def members(self, into: dict[str, Any]) -> None:
        """Key and value pairs up to an empty key and the object end marker (AMF0 2.5). An empty key before any other
        marker is a member like any other."""
        self.enter()
        data, end, longest = self.data, self.end, self.limits.string_bytes
        while True:
            start = self.at + 2
            size = data[start - 2] << 8 | data[start - 1] if start <= end else 0
            at = start + size
            if at >= end or size > longest:
                key = self.string()
                into[key] = self.value()  # One of the two raises.
                continue
            marker = data[at]
            if not size and marker == _OBJECT_END:
                self.at = at + 1
                break
            try:
                key = data[start:at].decode()
            except UnicodeDecodeError:
                key = self.string()  # Raises, and says where.
            self.at = at
            if marker == _NUMBER and end - at > 8 and self.nodes > 0:
                self.nodes -= 1
                self.at = at + 9
                into[key] = _read_double(data, at + 1)[0]
            else:
                into[key] = self.value()
        self.depth += 1

    def object(self) -> dict[str, Any]:
        value: dict[str, Any] = {}
        self.references.append(value)
        self.members(value)
        return value

    def typed_object(self) -> TypedObject:
        value = TypedObject("")
        self.references.append(value)
        value.class_name = self.string()
        self.members(value.fields)
        return value

    def ecma_array(self) -> EcmaArray:
        self.take(4, "an array's count")  # Encoders write 0 or a guess; the end marker decides (AMF0 2.10).
        value = EcmaArray()
        self.references.append(value)
        self.members(value)
        return value

    def strict_array(self) -> list[Any]:
        (count,) = _U32.unpack_from(self.data, self.take(4, "an array's count"))
        self.fits(count, 1, "values")
        value: list[Any] = []
        self.references.append(value)
        self.enter()
        for _ in range(count):
            value.append(self.value())
        self.depth += 1
        return value

    def reference(self) -> Any:
        at = self.take(2, "a reference")
        (index,) = _U16.unpack_from(self.data, at)
        if index >= len(self.references):
            raise AmfDecodeError(
                f"offset {at}: reference to object {index}, expected one of {len(self.references)}"
            )
        return self.references[index]

    def date(self) -> Date:
        return Date(*_DATE.unpack_from(self.data, self.take(10, "a date")))

    def refuse(self) -> Any:
        at = self.at - 1
        raise _bad_marker(self.data[at], at)

    def avmplus(self) -> Any:
        """One AMF3 value with tables of its own (AMF0 3.1)."""
        reader = amf3.Reader(self.data, self.at, self.limits, self.nodes, self.depth)
        value = reader.value()
        self.at, self.nodes = reader.at, reader.nodes
        return value


def _bad_marker(marker: int, at: int) -> AmfDecodeError:
    if marker in (Marker.MOVIECLIP, Marker.RECORDSET):
        name = Marker(marker).name.lower()
        return AmfDecodeError(f"offset {at}: marker 0x{marker:02x} ({name}) is reserved, expected a value")
    return AmfDecodeError(f"offset {at}: marker 0x{marker:02x}, expected an AMF0 value")


_BY_MARKER: dict[int, Callable[[_Decoder], Any]] = {
    Marker.NUMBER: _Decoder.double,
    Marker.BOOLEAN: _Decoder.boolean,
    Marker.STRING: _Decoder.string,
    Marker.OBJECT: _Decoder.object,
    Marker.NULL: lambda decoder: None,
    Marker.UNDEFINED: lambda decoder: UNDEFINED,
    Marker.REFERENCE: _Decoder.reference,
    Marker.ECMA_ARRAY: _Decoder.ecma_array,
    Marker.STRICT_ARRAY: _Decoder.strict_array,
    Marker.DATE: _Decoder.date,
    Marker.LONG_STRING: _Decoder.long_string,
    Marker.UNSUPPORTED: lambda decoder: UNSUPPORTED,
    Marker.XML_DOCUMENT: _Decoder.xml_document,
    Marker.TYPED_OBJECT: _Decoder.typed_object,
    Marker.AVMPLUS: _Decoder.avmplus,
}
_READERS: Final = tuple(_BY_MARKER.get(marker, _Decoder.refuse) for marker in range(256))


def decode(data: Body, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> tuple[Any, int]:
    """One value and the offset behind it. Raises AmfDecodeError, AmfTruncated when the bytes end too early."""
    decoder = _Decoder(data, offset, limits)
    value = decoder.value()
    return value, decoder.at


def decode_all(data: Body, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> list[Any]:
    """All values from `offset` to the end; they share one reference table. Raises AmfDecodeError."""
    decoder = _Decoder(data, offset, limits)
    values = []
    while decoder.at < decoder.end:
        values.append(decoder.value())
    return values


_SIZES: Final = {
    Marker.NUMBER.value: 8,
    Marker.BOOLEAN.value: 1,
    Marker.NULL.value: 0,
    Marker.UNDEFINED.value: 0,
    Marker.UNSUPPORTED.value: 0,
    Marker.DATE.value: 10,
}
_MEMBERS: Final = -1


def skip(data: Body, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> int:
    """The offset behind the value at `offset`. Refuses what `decode` refuses, text that is not UTF-8 included, so that
    skipped bytes may be handed on. Raises AmfDecodeError.

    Scalars and ASCII strings are not built. Containers are: walking over them without building takes Python as long."""
    left = len(data) - offset
    if offset >= 0 and 0 < left <= limits.total_bytes and limits.nodes > 0 and isinstance(data, bytes):
        marker = data[offset]
        size = _SIZES.get(marker)
        if size is not None:
            if size < left:
                return offset + 1 + size
        elif marker == _STRING and left > 2:
            size = data[offset + 1] << 8 | data[offset + 2]
            end = offset + 3 + size
            if size <= limits.string_bytes and size + 3 <= left and data[offset + 3 : end].isascii():
                return end
    return decode(data, offset, limits)[1]
