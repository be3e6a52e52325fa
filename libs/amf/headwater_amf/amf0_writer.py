"""AMF0 (Adobe, 2007): Python values to bytes."""

import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from headwater_amf import amf3_writer
from headwater_amf.errors import AmfEncodeError, wrong_type
from headwater_amf.externalizable import EXTERNALIZABLES
from headwater_amf.limits import ENCODE_BYTES, ENCODE_DEPTH
from headwater_amf.text import utf8
from headwater_amf.values import (
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

_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_DATE: Final = struct.Struct(">Bdh")
_number: Final = struct.Struct(">Bd").pack
_string_head: Final = struct.Struct(">BH").pack
_length: Final = _U16.pack
# Most texts are short: looking these up takes a compiled build a tenth of packing them.
_SHORT: Final = 256
_LENGTHS: Final = tuple(map(_length, range(_SHORT)))
_STRING_HEADS: Final = tuple(_string_head(2, size) for size in range(_SHORT))


class _Encoder:
    """One body. Containers that occur again are written as references (AMF0 2.9); `seen` keeps them alive meanwhile, since
    it knows them by identity."""

    __slots__ = ("depth", "most_bytes", "out", "seen")

    def __init__(self, most_bytes: int) -> None:
        self.out = bytearray()
        self.most_bytes = most_bytes
        self.seen: dict[int, tuple[int, Any]] = {}
        self.depth = 0

    def value(self, value: Any) -> None:
        """Any value. Raises AmfEncodeError."""
        kind = type(value)
        if kind is str:
            self.string(value)
        elif kind is float:
            self.out += _number(0, value)
        else:
            (_WRITERS.get(kind) or _writer_of(value))(self, value)

    def number(self, value: Any) -> None:
        """An int beyond 2**53 loses its low digits, as every Number does."""
        try:
            self.out += _number(0, value)
        except (OverflowError, struct.error) as error:
            raise AmfEncodeError(f"{value!r:.40}, expected what fits a Number") from error

    def boolean(self, value: bool) -> None:
        self.out += b"\x01\x01" if value else b"\x01\x00"

    def string(self, value: str) -> None:
        raw = utf8(value)
        size = len(raw)
        if size < _SHORT:
            self.out += _STRING_HEADS[size] + raw
        elif size <= 0xFFFF:
            self.out += _string_head(2, size) + raw
        else:
            self.out += b"\x0c" + _U32.pack(size) + raw

    def xml_document(self, value: XmlDocument) -> None:
        raw = utf8(value)
        self.out += b"\x0f" + _U32.pack(len(raw)) + raw

    def again(self, value: Any) -> bool:
        """Whether the container was written before; then a reference to it is written now. The table has room for 65536;
        what comes later is written in full each time."""
        known = self.seen.get(id(value))
        if known is not None:
            self.out += b"\x07" + _length(known[0])
            return True
        if len(self.seen) <= 0xFFFF:
            self.seen[id(value)] = (len(self.seen), value)
        return False

    def enter(self) -> None:
        self.depth += 1
        if self.depth > ENCODE_DEPTH:
            raise AmfEncodeError(f"nested {self.depth} deep or deeper, expected at most {ENCODE_DEPTH}")

    def check_size(self) -> None:
        if len(self.out) > self.most_bytes:
            raise AmfEncodeError(
                f"a body of {len(self.out)} bytes or more, expected at most {self.most_bytes}"
            )

    def members(self, value: dict[Any, Any]) -> None:
        self.enter()
        out, most_bytes = self.out, self.most_bytes
        for key, member in value.items():
            raw = utf8(key)
            size = len(raw)
            if size > 0xFFFF:
                raise AmfEncodeError(f"key of {size} bytes, expected at most 65535")
            out += (_LENGTHS[size] if size < _SHORT else _length(size)) + raw
            kind = type(member)
            if kind is float:
                out += _number(0, member)
            elif kind is str:
                self.string(member)
            else:
                (_WRITERS.get(kind) or _writer_of(member))(self, member)
            if len(out) > most_bytes:
                self.check_size()
        out += b"\x00\x00\x09"
        self.depth -= 1

    def object(self, value: dict[str, Any]) -> None:
        if not self.again(value):
            self.out.append(0x03)
            self.members(value)

    def typed_object(self, value: TypedObject) -> None:
        """AMF0 knows no sealed members: all are written alike. Without a class name it is an anonymous object."""
        if self.again(value):
            return
        if value.class_name:
            raw = utf8(value.class_name)
            if len(raw) > 0xFFFF:
                raise AmfEncodeError(f"class name of {len(raw)} bytes, expected at most 65535")
            self.out += _string_head(0x10, len(raw)) + raw
        else:
            self.out.append(0x03)
        self.members(value.fields)

    def ecma_array(self, value: EcmaArray) -> None:
        if self.again(value):
            return
        items: dict[str, Any] = value
        if value.dense:
            items = {**{str(index): item for index, item in enumerate(value.dense)}, **value}
        self.out += b"\x08" + _U32.pack(len(items))
        self.members(items)

    def strict_array(self, value: list[Any] | tuple[Any, ...]) -> None:
        if self.again(value):
            return
        self.enter()
        self.out += b"\x0a" + _U32.pack(len(value))
        for item in value:
            self.value(item)
            if len(self.out) > self.most_bytes:
                self.check_size()
        self.depth -= 1

    def date(self, value: Date) -> None:
        try:
            self.out += _DATE.pack(0x0B, value.ms, value.timezone_minutes)
        except (OverflowError, TypeError, struct.error) as error:
            raise AmfEncodeError(
                f"{value!r:.80}, expected a Date of a Number and 16 bits: {error}"
            ) from error

    def avmplus(self, value: Any) -> None:
        self.out += b"\x11" + amf3_writer.encode(value)


_WRITERS: dict[type, Callable[[_Encoder, Any], None]] = {
    float: _Encoder.number,
    int: _Encoder.number,
    bool: _Encoder.boolean,
    type(None): lambda encoder, value: encoder.out.append(0x05),
    Undefined: lambda encoder, value: encoder.out.append(0x06),
    Unsupported: lambda encoder, value: encoder.out.append(0x0D),
    str: _Encoder.string,
    XmlDocument: _Encoder.xml_document,
    dict: _Encoder.object,
    EcmaArray: _Encoder.ecma_array,
    TypedObject: _Encoder.typed_object,
    list: _Encoder.strict_array,
    tuple: _Encoder.strict_array,
    Date: _Encoder.date,
    datetime: lambda encoder, value: encoder.date(Date.of(value)),
    **dict.fromkeys((bytes, bytearray, Vector, Dictionary, Externalizable, Xml), _Encoder.avmplus),
}


def _writer_of(value: Any) -> Callable[[_Encoder, Any], None]:
    """The writer of a value whose very type is not in the table: that of its nearest base. What only AMF3 has goes out
    behind an AVMPLUS marker (AMF0 3.1)."""
    for kind in type(value).__mro__:
        if kind in EXTERNALIZABLES.class_names:
            return _Encoder.avmplus
        if writer := _WRITERS.get(kind):
            return writer
    raise AmfEncodeError(f"a Python {type(value).__name__}, expected a value that has an AMF form")


def encode(*values: Any, most_bytes: int = ENCODE_BYTES) -> bytes:
    """Values as one body, which share one reference table. Raises AmfEncodeError, also for a body over `most_bytes`."""
    encoder = _Encoder(most_bytes)
    for value in values:
        try:
            encoder.value(value)
        except TypeError as error:
            raise wrong_type(value, error) from error
    encoder.check_size()
    return bytes(encoder.out)


def encode_avmplus(*values: Any) -> bytes:
    """Each value as AMF3 behind an AVMPLUS marker, with reference tables of its own. Raises AmfEncodeError."""
    return b"".join(b"\x11" + amf3_writer.encode(value) for value in values)
