"""AMF3 (Adobe, "Action Message Format -- AMF 3", January 2013): the values; `amf3_writer` has the other way."""

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from headwater_amf.amf3_writer import encode, is_externalizable
from headwater_amf.budget import Budget
from headwater_amf.errors import AmfDecodeError, AmfTruncated
from headwater_amf.externalizable import EXTERNALIZABLES
from headwater_amf.limits import DEFAULT_LIMITS, Limits
from headwater_amf.values import UNDEFINED, Date, Dictionary, EcmaArray, TypedObject, Vector, Xml, XmlDocument

__all__ = ["Marker", "Reader", "decode", "decode_all", "decode_within", "encode", "is_externalizable"]


class Marker(IntEnum):
    """Type markers (AMF3 3.1)."""

    UNDEFINED = 0x00
    NULL = 0x01
    FALSE = 0x02
    TRUE = 0x03
    INTEGER = 0x04
    DOUBLE = 0x05
    STRING = 0x06
    XML_DOCUMENT = 0x07
    DATE = 0x08
    ARRAY = 0x09
    OBJECT = 0x0A
    XML = 0x0B
    BYTE_ARRAY = 0x0C
    VECTOR_INT = 0x0D
    VECTOR_UINT = 0x0E
    VECTOR_DOUBLE = 0x0F
    VECTOR_OBJECT = 0x10
    DICTIONARY = 0x11


_DOUBLE = struct.Struct(">d")


class _Traits:
    __slots__ = ("class_name", "dynamic", "externalizable", "sealed")

    def __init__(self, class_name: str, sealed: tuple[str, ...], dynamic: bool, externalizable: bool) -> None:
        self.class_name, self.sealed = class_name, sealed
        self.dynamic, self.externalizable = dynamic, externalizable


class Reader:
    """One body with its string, object and trait tables (AMF3 2.2). Handed to readers of externalizable classes, which
    may use `value()` and the scalar methods."""

    __slots__ = ("at", "budget", "data", "end", "objects", "strings", "traits")

    def __init__(self, data: bytes, offset: int, budget: Budget) -> None:
        self.data = data
        self.at = offset
        self.end = len(data)
        self.budget = budget
        self.strings: list[str] = []
        self.objects: list[Any] = []
        self.traits: list[_Traits] = []

    def take(self, count: int) -> int:
        """The offset of the next `count` bytes, which are consumed. Raises AmfTruncated."""
        at = self.at
        if count > self.end - at:
            raise AmfTruncated(f"offset {at}: expected {count} bytes, {self.end - at} are left")
        self.at = at + count
        return at

    def u29(self) -> int:
        """A variable length integer of at most 29 bits (AMF3 1.3.1)."""
        value = 0
        for _ in range(3):
            byte = self.data[self.take(1)]
            if byte < 0x80:
                return value << 7 | byte
            value = value << 7 | byte & 0x7F
        return value << 8 | self.data[self.take(1)]

    def count(self, header: int, size: int) -> int:
        """A declared count of things that take at least `size` bytes each."""
        count = header >> 1
        if count * size > self.end - self.at:
            raise AmfTruncated(
                f"offset {self.at}: {count} values declared, {self.end - self.at} bytes are left"
            )
        return count

    def double(self) -> float:
        """A Number."""
        value: float = _DOUBLE.unpack_from(self.data, self.take(8))[0]
        return value

    def text(self, size: int) -> str:
        """`size` bytes of UTF-8."""
        self.budget.text(size, self.at)
        at = self.take(size)
        try:
            return str(self.data[at : at + size], "utf-8")
        except UnicodeDecodeError as error:
            raise AmfDecodeError(f"offset {at}: string is not UTF-8: {error.reason}") from error

    def string(self) -> str:
        """A string, or a reference to an earlier one (AMF3 1.3.2)."""
        header = self.u29()
        if not header & 1:
            index = header >> 1
            if index >= len(self.strings):
                raise AmfDecodeError(f"offset {self.at}: reference to string {index} of {len(self.strings)}")
            return self.strings[index]
        value = self.text(header >> 1)
        if value:
            self.strings.append(value)
        return value

    def value(self) -> Any:
        """The next value."""
        at = self.take(1)
        self.budget.node(at)
        marker = self.data[at]
        reader = _READERS.get(marker)
        if reader is None:
            raise AmfDecodeError(f"offset {at}: marker 0x{marker:02x}, expected an AMF3 value")
        return reader(self)

    def integer(self) -> int:
        value = self.u29()
        return value - 0x20000000 if value & 0x10000000 else value

    def referenced(self) -> tuple[int, Any]:
        """The header of a complex value, and the object it refers to (with header -1) if it is a reference."""
        header = self.u29()
        if header & 1:
            return header, None
        index = header >> 1
        if index >= len(self.objects):
            raise AmfDecodeError(f"offset {self.at}: reference to object {index} of {len(self.objects)}")
        return -1, self.objects[index]

    def _text_object(self, kind: Callable[[str], Any]) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        value = kind(self.text(header >> 1))
        self.objects.append(value)
        return value

    def xml_document(self) -> Any:
        return self._text_object(XmlDocument)

    def xml(self) -> Any:
        return self._text_object(Xml)

    def byte_array(self) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        size = header >> 1
        self.budget.text(size, self.at)
        at = self.take(size)
        value = bytes(self.data[at : at + size])
        self.objects.append(value)
        return value

    def date(self) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        value = Date(self.double())
        self.objects.append(value)
        return value

    def array(self) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        count = self.count(header, 1)
        place = len(self.objects)
        dense: list[Any] = []
        self.objects.append(dense)
        self.budget.enter(self.at)
        key = self.string()
        mixed: EcmaArray | None = None
        if key:
            mixed = self.objects[place] = EcmaArray()
            dense = mixed.dense
        while key:
            assert mixed is not None
            self.budget.node(self.at)
            mixed[key] = self.value()
            key = self.string()
        for _ in range(count):
            dense.append(self.value())
        self.budget.leave()
        return dense if mixed is None else mixed

    def _read_traits(self, header: int) -> _Traits:
        if not header & 2:
            index = header >> 2
            if index >= len(self.traits):
                raise AmfDecodeError(f"offset {self.at}: reference to traits {index} of {len(self.traits)}")
            return self.traits[index]
        externalizable, dynamic = bool(header & 4), bool(header & 8)
        class_name = self.string()
        count = 0 if externalizable else header >> 4
        if count > self.end - self.at:
            raise AmfTruncated(
                f"offset {self.at}: {count} members declared, {self.end - self.at} bytes are left"
            )
        self.budget.nodes -= count
        self.budget.node(self.at)
        traits = _Traits(class_name, tuple(self.string() for _ in range(count)), dynamic, externalizable)
        self.traits.append(traits)
        return traits

    def object(self) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        traits = self._read_traits(header)
        self.budget.enter(self.at)
        if traits.externalizable:
            value = self._externalizable(traits.class_name)
        else:
            plain = not traits.class_name and traits.dynamic and not traits.sealed
            fields: dict[str, Any] = {}
            value = fields if plain else TypedObject(traits.class_name, fields, traits.sealed, traits.dynamic)
            self.objects.append(value)
            for name in traits.sealed:
                fields[name] = self.value()
            if traits.dynamic:
                while key := self.string():
                    fields[key] = self.value()
        self.budget.leave()
        return value

    def _externalizable(self, class_name: str) -> Any:
        codec = EXTERNALIZABLES.get(class_name)
        if codec is None:
            raise AmfDecodeError(
                f"offset {self.at}: externalizable class {class_name[:64]!r} has no registered reader"
            )
        place = len(self.objects)
        self.objects.append(None)
        value = self.objects[place] = codec.read(self)
        return value

    def _vector(self, kind: str, code: str, size: int) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        fixed_at = self.take(1)
        count = self.count(header, size)
        self.budget.nodes -= count
        self.budget.node(self.at)
        items = list(struct.unpack_from(f">{count}{code}", self.data, self.take(count * size)))
        value = Vector(kind, items, self.data[fixed_at] != 0)
        self.objects.append(value)
        return value

    def vector_object(self) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        fixed = self.data[self.take(1)] != 0
        value = Vector("object", [], fixed)
        self.objects.append(value)
        value.class_name = self.string()
        self.budget.enter(self.at)
        for _ in range(self.count(header, 1)):
            value.items.append(self.value())
        self.budget.leave()
        return value

    def dictionary(self) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        value = Dictionary([], self.data[self.take(1)] != 0)
        self.objects.append(value)
        self.budget.enter(self.at)
        for _ in range(self.count(header, 2)):
            key = self.value()
            value.pairs.append((key, self.value()))
        self.budget.leave()
        return value


_READERS: dict[int, Callable[[Reader], Any]] = {
    Marker.UNDEFINED: lambda reader: UNDEFINED,
    Marker.NULL: lambda reader: None,
    Marker.FALSE: lambda reader: False,
    Marker.TRUE: lambda reader: True,
    Marker.INTEGER: Reader.integer,
    Marker.DOUBLE: Reader.double,
    Marker.STRING: Reader.string,
    Marker.XML_DOCUMENT: Reader.xml_document,
    Marker.DATE: Reader.date,
    Marker.ARRAY: Reader.array,
    Marker.OBJECT: Reader.object,
    Marker.XML: Reader.xml,
    Marker.BYTE_ARRAY: Reader.byte_array,
    Marker.VECTOR_INT: lambda reader: reader._vector("int", "i", 4),
    Marker.VECTOR_UINT: lambda reader: reader._vector("uint", "I", 4),
    Marker.VECTOR_DOUBLE: lambda reader: reader._vector("number", "d", 8),
    Marker.VECTOR_OBJECT: Reader.vector_object,
    Marker.DICTIONARY: Reader.dictionary,
}


def decode_within(data: bytes, offset: int, budget: Budget) -> tuple[Any, int]:
    """One value inside a body whose budget is already counted (AMF0's AVMPLUS marker); tables of its own."""
    reader = Reader(data, offset, budget)
    return reader.value(), reader.at


def _reader(data: bytes, offset: int, limits: Limits) -> Reader:
    if len(data) - offset > limits.total_bytes:
        raise AmfDecodeError(f"{len(data) - offset} bytes in one body, at most {limits.total_bytes}")
    return Reader(data, offset, Budget(limits))


def decode(data: bytes, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> tuple[Any, int]:
    """One value and the offset behind it. Raises AmfDecodeError."""
    reader = _reader(data, offset, limits)
    return reader.value(), reader.at


def decode_all(data: bytes, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> list[Any]:
    """All values from `offset` to the end; they share their tables. Raises AmfDecodeError."""
    reader = _reader(data, offset, limits)
    values = []
    while reader.at < reader.end:
        values.append(reader.value())
    return values
