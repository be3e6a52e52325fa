"""AMF3 (Adobe, "Action Message Format -- AMF 3", January 2013): the values; `amf3_writer` has the other way."""

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from headwater_amf.amf3_writer import Writer, encode
from headwater_amf.errors import AmfDecodeError, AmfTruncated
from headwater_amf.externalizable import EXTERNALIZABLES, register_externalizable
from headwater_amf.limits import DEFAULT_LIMITS, Limits
from headwater_amf.source import Body, Source, checked
from headwater_amf.values import UNDEFINED, Date, Dictionary, EcmaArray, TypedObject, Vector, Xml, XmlDocument

__all__ = ["Marker", "Reader", "Writer", "decode", "decode_all", "encode", "register_externalizable"]


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


_UNFINISHED: Final = object()
_STRING: Final = 0x06


class _Traits:
    __slots__ = ("class_name", "dynamic", "externalizable", "sealed")

    def __init__(self, class_name: str, sealed: tuple[str, ...], dynamic: bool, externalizable: bool) -> None:
        self.class_name, self.sealed = class_name, sealed
        self.dynamic, self.externalizable = dynamic, externalizable


class Reader(Source):
    """One body with its string, object and trait tables (AMF3 2.2). Handed to readers of externalizable classes, which
    may use `value`, `string`, `u29`, `byte`, `double`, `raw` and `bind`."""

    __slots__ = ("objects", "open_places", "strings", "traits")

    def __init__(self, data: bytes, offset: int, limits: Limits, nodes: int, depth: int) -> None:
        super().__init__(data, offset, limits, nodes, depth)
        self.strings: list[str] = []
        self.objects: list[Any] = []
        self.traits: list[_Traits] = []
        self.open_places: list[int] = []

    def u29(self) -> int:
        """A variable length integer of at most 29 bits (AMF3 1.3.1). Raises AmfTruncated."""
        data, at = self.data, self.at
        left = self.end - at
        if left > 0 and data[at] < 0x80:
            self.at = at + 1
            return data[at]
        value = 0
        for index in range(min(left, 4)):
            byte = data[at + index]
            if index == 3:
                self.at = at + 4
                return value << 8 | byte
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                self.at = at + index + 1
                return value
        raise AmfTruncated(f"offset {at}: expected an integer of up to 4 bytes, {left} are left")

    def string(self) -> str:
        """A string, or a reference to an earlier one (AMF3 1.3.2). Raises AmfDecodeError."""
        data, at = self.data, self.at
        if at < self.end and (header := data[at]) < 0x80:
            self.at = at + 1
        else:
            header = self.u29()
        if not header & 1:
            index = header >> 1
            if index >= len(self.strings):
                raise AmfDecodeError(
                    f"offset {at}: reference to string {index}, expected one of {len(self.strings)}"
                )
            return self.strings[index]
        if header == 1:
            return ""
        value = self.text(header >> 1)
        self.strings.append(value)
        return value

    def value(self) -> Any:
        """The next value. Raises AmfDecodeError."""
        at = self.at
        if at >= self.end:
            raise AmfTruncated(f"offset {at}: expected a marker, no bytes are left")
        self.at = at + 1
        self.nodes -= 1
        if self.nodes < 0:
            self.spend(0)
        marker = self.data[at]
        if marker == _STRING:
            return self.string()
        if marker >= len(_READERS):
            raise AmfDecodeError(f"offset {at}: marker 0x{marker:02x}, expected an AMF3 value")
        return _READERS[marker](self)

    def bind(self, value: Any) -> None:
        """For a reader of an externalizable class: references to the object being read lead to `value` from now on."""
        self.objects[self.open_places[-1]] = value

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
            raise AmfDecodeError(
                f"offset {self.at}: reference to object {index}, expected one of {len(self.objects)}"
            )
        known = self.objects[index]
        if known is _UNFINISHED:
            raise AmfDecodeError(
                f"offset {self.at}: reference to object {index}, expected one that its own reader has made"
            )
        return -1, known

    def _text_object(self, kind: Callable[[str], Any]) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        value = kind(self.text(header >> 1, "XML"))
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
        value = self.raw(header >> 1, "a ByteArray")
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
        count = self.fits(header >> 1, 1, "values")
        place = len(self.objects)
        dense: list[Any] = []
        self.objects.append(dense)
        self.enter()
        key = self.string()
        mixed: EcmaArray | None = None
        if key:
            mixed = self.objects[place] = EcmaArray()
            dense = mixed.dense
        while key:
            assert mixed is not None
            mixed[key] = self.value()
            key = self.string()
        for _ in range(count):
            dense.append(self.value())
        self.depth += 1
        return dense if mixed is None else mixed

    def _read_traits(self, header: int) -> _Traits:
        if not header & 2:
            index = header >> 2
            if index >= len(self.traits):
                raise AmfDecodeError(
                    f"offset {self.at}: reference to traits {index}, expected one of {len(self.traits)}"
                )
            return self.traits[index]
        externalizable, dynamic = bool(header & 4), bool(header & 8)
        class_name = self.string()
        count = 0 if externalizable else self.fits(header >> 4, 1, "members")
        self.spend(count)
        traits = _Traits(class_name, tuple(self.string() for _ in range(count)), dynamic, externalizable)
        self.traits.append(traits)
        return traits

    def object(self) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        traits = self._read_traits(header)
        self.enter()
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
        self.depth += 1
        return value

    def _externalizable(self, class_name: str) -> Any:
        codec = EXTERNALIZABLES.codecs.get(class_name)
        at = self.at
        if codec is None:
            raise AmfDecodeError(
                f"offset {at}: externalizable class {class_name[:64]!r}, expected one with a registered reader"
            )
        place = len(self.objects)
        self.objects.append(_UNFINISHED)
        self.open_places.append(place)
        try:
            value = codec.read(self)
        except AmfDecodeError:
            raise
        except (
            Exception
        ) as error:  # A registered reader is foreign code: bad bytes may make it raise anything.
            raise AmfDecodeError(
                f"offset {at}: externalizable class {class_name[:64]!r}, expected what its reader takes:"
                f" {error!r:.200}"
            ) from error
        self.open_places.pop()
        self.objects[place] = value
        return value

    def _vector(self, kind: str, code: str, size: int) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        fixed = self.byte("a flag") != 0
        count = self.fits(header >> 1, size, "items")
        self.spend(count)
        items = list(struct.unpack_from(f">{count}{code}", self.data, self.take(count * size, "a Vector")))
        value = Vector(kind, items, fixed)
        self.objects.append(value)
        return value

    def vector_object(self) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        fixed = self.byte("a flag") != 0
        value = Vector("object", [], fixed)
        self.objects.append(value)
        value.class_name = self.string()
        self.enter()
        for _ in range(self.fits(header >> 1, 1, "values")):
            value.items.append(self.value())
        self.depth += 1
        return value

    def dictionary(self) -> Any:
        header, known = self.referenced()
        if header < 0:
            return known
        value = Dictionary([], self.byte("a flag") != 0)
        self.objects.append(value)
        self.enter()
        for _ in range(self.fits(header >> 1, 2, "pairs")):
            key = self.value()
            value.pairs.append((key, self.value()))
        self.depth += 1
        return value


_BY_MARKER: dict[Marker, Callable[[Reader], Any]] = {
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
_READERS: Final = tuple(_BY_MARKER[marker] for marker in Marker)


def _reader(data: Body, offset: int, limits: Limits) -> Reader:
    return Reader(checked(data, offset, limits), offset, limits, limits.nodes, limits.depth)


def decode(data: Body, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> tuple[Any, int]:
    """One value and the offset behind it. Raises AmfDecodeError."""
    reader = _reader(data, offset, limits)
    value = reader.value()
    return value, reader.at


def decode_all(data: Body, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> list[Any]:
    """All values from `offset` to the end; they share their tables. Raises AmfDecodeError."""
    reader = _reader(data, offset, limits)
    values = []
    while reader.at < reader.end:
        values.append(reader.value())
    return values
