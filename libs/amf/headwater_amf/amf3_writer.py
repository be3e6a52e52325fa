"""AMF3 (Adobe, January 2013): Python values to bytes."""

import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any

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

_DOUBLE = struct.Struct(">d")
_MIN_INTEGER, _MAX_INTEGER = -(1 << 28), (1 << 28) - 1


class Writer:
    """One body with its tables (AMF3 2.2). Handed to writers of externalizable classes, which may use `value()`."""

    __slots__ = ("depth", "objects", "out", "strings", "traits")

    def __init__(self) -> None:
        self.out = bytearray()
        self.strings: dict[str, int] = {}
        self.objects: dict[int, tuple[int, Any]] = {}
        self.traits: dict[tuple[str, tuple[str, ...], bool, bool], int] = {}
        self.depth = 0

    def u29(self, value: int) -> None:
        """A variable length integer of at most 29 bits (AMF3 1.3.1)."""
        out = self.out
        if value < 0x80:
            out.append(value)
        elif value < 0x4000:
            out += bytes((value >> 7 | 0x80, value & 0x7F))
        elif value < 0x200000:
            out += bytes((value >> 14 | 0x80, value >> 7 & 0x7F | 0x80, value & 0x7F))
        elif value < 0x20000000:
            out += bytes(
                (value >> 22 | 0x80, value >> 15 & 0x7F | 0x80, value >> 8 & 0x7F | 0x80, value & 0xFF)
            )
        else:
            raise AmfEncodeError(f"{value}, expected what fits 29 bits")

    def value(self, value: Any) -> None:
        """Any value."""
        (_WRITERS.get(type(value)) or _writer_of(value))(self, value)

    def string(self, value: Any) -> None:
        """A string without a marker, by reference when it was written before."""
        known = self.strings.get(value) if value else None
        if known is not None:
            self.u29(known << 1)
            return
        raw = utf8(value)
        self.u29(len(raw) << 1 | 1)
        self.out += raw
        if value:
            self.strings[str(value)] = len(self.strings)

    def integer(self, value: int) -> None:
        if _MIN_INTEGER <= value <= _MAX_INTEGER:
            self.out.append(0x04)
            self.u29(value & 0x1FFFFFFF)
        else:
            self.double(value)

    def double(self, value: Any) -> None:
        try:
            self.out += b"\x05" + _DOUBLE.pack(value)
        except (OverflowError, struct.error) as error:
            raise AmfEncodeError(f"{value!r:.40}, expected what fits a Number") from error

    def again(self, value: Any) -> bool:
        """Whether the object was written before; then a reference to it is written now."""
        known = self.objects.get(id(value))
        if known is None:
            self.objects[id(value)] = (len(self.objects), value)
            return False
        self.u29(known[0] << 1)
        return True

    def text_object(self, marker: int, value: str) -> None:
        self.out.append(marker)
        if not self.again(value):
            raw = utf8(value)
            self.u29(len(raw) << 1 | 1)
            self.out += raw

    def byte_array(self, value: bytes | bytearray) -> None:
        self.out.append(0x0C)
        if not self.again(value):
            self.u29(len(value) << 1 | 1)
            self.out += value

    def date(self, value: Date) -> None:
        self.out.append(0x08)
        if not self.again(value):
            self.u29(1)
            try:
                self.out += _DOUBLE.pack(value.ms)
            except (OverflowError, TypeError, struct.error) as error:
                raise AmfEncodeError(f"{value!r:.80}, expected a Date of a Number: {error}") from error

    def enter(self) -> None:
        self.depth += 1
        if self.depth > ENCODE_DEPTH:
            raise AmfEncodeError(f"nested {self.depth} deep or deeper, expected at most {ENCODE_DEPTH}")

    def array(self, value: list[Any] | tuple[Any, ...]) -> None:
        self.out.append(0x09)
        if self.again(value):
            return
        self.enter()
        self.u29(len(value) << 1 | 1)
        self.out.append(0x01)
        for item in value:
            self.value(item)
        self.depth -= 1

    def ecma_array(self, value: EcmaArray) -> None:
        self.out.append(0x09)
        if self.again(value):
            return
        self.enter()
        self.u29(len(value.dense) << 1 | 1)
        self.members(value)
        for item in value.dense:
            self.value(item)
        self.depth -= 1

    def members(self, fields: dict[Any, Any]) -> None:
        """Dynamic members: key and value pairs up to the empty key."""
        for key, member in fields.items():
            if not key:
                raise AmfEncodeError("an empty key, which would end the members, expected a name")
            self.string(key)
            self.value(member)
        self.out.append(0x01)

    def start(self, class_name: str, sealed: tuple[str, ...], dynamic: bool, externalizable: bool) -> None:
        """The traits of an object, by reference when they were written before (AMF3 3.12)."""
        traits = (class_name, sealed, dynamic, externalizable)
        known = self.traits.get(traits)
        if known is not None:
            self.u29(known << 2 | 0b01)
            return
        self.traits[traits] = len(self.traits)
        if externalizable:
            self.u29(0b0111)
            self.string(class_name)
            return
        self.u29(len(sealed) << 4 | (0b1000 if dynamic else 0) | 0b0011)
        self.string(class_name)
        for name in sealed:
            self.string(name)

    def object(self, value: dict[str, Any]) -> None:
        self.out.append(0x0A)
        if self.again(value):
            return
        self.enter()
        self.start("", (), True, False)
        self.members(value)
        self.depth -= 1

    def typed_object(self, value: TypedObject) -> None:
        self.out.append(0x0A)
        if self.again(value):
            return
        self.enter()
        sealed = frozenset(value.sealed)
        rest = {key: member for key, member in value.fields.items() if key not in sealed}
        if rest and not value.dynamic:
            raise AmfEncodeError(
                f"class {value.class_name!r} has {sorted(rest)[:3]}, expected sealed members only: it is not dynamic"
            )
        missing = [name for name in value.sealed if name not in value.fields]
        if missing:
            raise AmfEncodeError(
                f"class {value.class_name!r}: no value for {missing[:3]}, expected one for each sealed member"
            )
        self.start(value.class_name, value.sealed, value.dynamic, False)
        for name in value.sealed:
            self.value(value.fields[name])
        if value.dynamic:
            self.members(rest)
        self.depth -= 1

    def externalizable(self, value: Any) -> None:
        class_name = EXTERNALIZABLES.class_name_of(value)
        codec = EXTERNALIZABLES.codecs.get(class_name)
        if codec is None:
            raise AmfEncodeError(
                f"externalizable class {class_name!r:.80}, expected one with a registered writer"
            )
        self.out.append(0x0A)
        if self.again(value):
            return
        self.enter()
        self.start(class_name, (), False, True)
        codec.write(self, value.body if isinstance(value, Externalizable) else value)
        self.depth -= 1

    def vector(self, value: Vector) -> None:
        packed = {"int": (0x0D, "i"), "uint": (0x0E, "I"), "number": (0x0F, "d")}.get(value.kind)
        if packed is None and value.kind != "object":
            raise AmfEncodeError(f"vector of {value.kind!r}, expected int, uint, number or object")
        self.out.append(packed[0] if packed else 0x10)
        if self.again(value):
            return
        self.u29(len(value.items) << 1 | 1)
        self.out.append(1 if value.fixed else 0)
        if packed:
            try:
                self.out += struct.pack(f">{len(value.items)}{packed[1]}", *value.items)
            except (struct.error, OverflowError) as error:
                raise AmfEncodeError(
                    f"vector of {value.kind}, expected items that fit it: {error}"
                ) from error
            return
        self.enter()
        self.string(value.class_name)
        for item in value.items:
            self.value(item)
        self.depth -= 1

    def dictionary(self, value: Dictionary) -> None:
        self.out.append(0x11)
        if self.again(value):
            return
        self.enter()
        self.u29(len(value.pairs) << 1 | 1)
        self.out.append(1 if value.weak else 0)
        for key, member in value.pairs:
            self.value(key)
            self.value(member)
        self.depth -= 1


def _string_value(writer: Writer, value: str) -> None:
    writer.out.append(0x06)
    writer.string(value)


_WRITERS: dict[type, Callable[[Writer, Any], None]] = {
    Undefined: lambda writer, value: writer.out.append(0x00),
    Unsupported: lambda writer, value: writer.out.append(0x00),
    type(None): lambda writer, value: writer.out.append(0x01),
    bool: lambda writer, value: writer.out.append(0x03 if value else 0x02),
    int: Writer.integer,
    float: Writer.double,
    str: _string_value,
    XmlDocument: lambda writer, value: writer.text_object(0x07, value),
    Xml: lambda writer, value: writer.text_object(0x0B, value),
    Date: Writer.date,
    datetime: lambda writer, value: writer.date(Date.of(value)),
    list: Writer.array,
    tuple: Writer.array,
    EcmaArray: Writer.ecma_array,
    dict: Writer.object,
    TypedObject: Writer.typed_object,
    Externalizable: Writer.externalizable,
    bytes: Writer.byte_array,
    bytearray: Writer.byte_array,
    Vector: Writer.vector,
    Dictionary: Writer.dictionary,
}


def _writer_of(value: Any) -> Callable[[Writer, Any], None]:
    """The writer of a value whose very type is not in the table: that of its nearest base."""
    for kind in type(value).__mro__:
        if kind in EXTERNALIZABLES.class_names:
            return Writer.externalizable
        if writer := _WRITERS.get(kind):
            return writer
    raise AmfEncodeError(f"a Python {type(value).__name__}, expected a value that has an AMF3 form")


def encode(*values: Any) -> bytes:
    """Values as one body. Raises AmfEncodeError."""
    writer = Writer()
    for value in values:
        try:
            writer.value(value)
        except TypeError as error:
            raise wrong_type(value, error) from error
        if len(writer.out) > ENCODE_BYTES:
            raise AmfEncodeError(
                f"a body of {len(writer.out)} bytes or more, expected at most {ENCODE_BYTES}"
            )
    return bytes(writer.out)
