"""AMF3: one table of byte vectors for reader and writer. Bytes are worked out from the sections of Adobe's "AMF 3" (January
2013) that each names."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
from headwater_amf import (
    EXTERNALIZABLES,
    UNDEFINED,
    UNSUPPORTED,
    AmfDecodeError,
    AmfEncodeError,
    AmfTruncated,
    ArrayCollection,
    Date,
    Dictionary,
    EcmaArray,
    Externalizable,
    Limits,
    ObjectProxy,
    TypedObject,
    Vector,
    Xml,
    XmlDocument,
    amf0,
    amf3,
)

COLLECTION = b"\x43flex.messaging.io.ArrayCollection"
PROXY = b"\x3bflex.messaging.io.ObjectProxy"
LIST = b"\x37flex.messaging.io.ArrayList"
# section, value, bytes
VECTORS: list[tuple[str, Any, bytes]] = [
    ("3.2 undefined", UNDEFINED, b"\x00"),
    ("3.3 null", None, b"\x01"),
    ("3.4 false", False, b"\x02"),
    ("3.5 true", True, b"\x03"),
    ("3.6 integer, 1 byte", 0x7F, bytes.fromhex("04 7f")),
    ("3.6 integer, 2 bytes", 0x80, bytes.fromhex("04 8100")),
    ("3.6 integer, 2 bytes, greatest", 0x3FFF, bytes.fromhex("04 ff7f")),
    ("3.6 integer, 3 bytes", 0x4000, bytes.fromhex("04 818000")),
    ("3.6 integer, 3 bytes, greatest", 0x1FFFFF, bytes.fromhex("04 ffff7f")),
    ("3.6 integer, 4 bytes", 0x200000, bytes.fromhex("04 80c08000")),
    ("3.6 integer, greatest", 0x0FFFFFFF, bytes.fromhex("04 bfffffff")),
    ("3.6 integer, -1", -1, bytes.fromhex("04 ffffffff")),
    ("3.6 integer, least", -0x10000000, bytes.fromhex("04 c0808000")),
    ("3.7 double", 1.5, bytes.fromhex("05 3ff8000000000000")),
    ("3.7 double, a whole one", 1.0, bytes.fromhex("05 3ff0000000000000")),
    ("3.8 string", "a€", bytes.fromhex("06 09 61 e282ac")),
    ("3.8 string, empty", "", bytes.fromhex("06 01")),
    ("3.9 XML document", XmlDocument("<a/>"), b"\x07\x09<a/>"),
    ("3.10 date", Date(1.0), bytes.fromhex("08 01 3ff0000000000000")),
    ("3.11 array, dense", [1, None], bytes.fromhex("09 05 01 04 01 01")),
    ("3.11 array, empty", [], bytes.fromhex("09 01 01")),
    ("3.11 array, mixed", EcmaArray({"a": 1}, [True]), bytes.fromhex("09 03 03 61 04 01 01 03")),
    ("3.12 object", {"a": "a"}, bytes.fromhex("0a 0b 01 03 61 06 00 01")),
    ("3.12 object, empty", {}, bytes.fromhex("0a 0b 01 01")),
    (
        "3.12 object, sealed",
        TypedObject("P", {"x": 1}, ("x",), False),
        bytes.fromhex("0a 13 03 50 03 78 04 01"),
    ),
    (
        "3.12 object, sealed and dynamic",
        TypedObject("P", {"x": 1, "y": 2}, ("x",), True),
        bytes.fromhex("0a 1b 03 50 03 78 04 01 03 79 04 02 01"),
    ),
    (
        "3.12 object, anonymous and sealed",
        TypedObject("", {"x": None}, ("x",), False),
        bytes.fromhex("0a 13 01 03 78 01"),
    ),
    ("3.12 ArrayCollection", ArrayCollection([1]), b"\x0a\x07" + COLLECTION + b"\x09\x03\x01\x04\x01"),
    ("3.12 ObjectProxy", ObjectProxy({"a": 1}), b"\x0a\x07" + PROXY + b"\x0a\x0b\x01\x03a\x04\x01\x01"),
    (
        "3.12 ArrayList",
        Externalizable("flex.messaging.io.ArrayList", [None]),
        b"\x0a\x07" + LIST + b"\x09\x03\x01\x01",
    ),
    (
        "3.12 ArrayCollection of null",
        Externalizable("flex.messaging.io.ArrayCollection", None),
        b"\x0a\x07" + COLLECTION + b"\x01",
    ),
    (
        "3.12 ObjectProxy of a typed object",
        Externalizable("flex.messaging.io.ObjectProxy", TypedObject("P")),
        b"\x0a\x07" + PROXY + b"\x0a\x0b\x03P\x01",
    ),
    ("3.13 XML", Xml("<a/>"), b"\x0b\x09<a/>"),
    ("3.14 ByteArray", b"\x00\xff", bytes.fromhex("0c 05 00ff")),
    ("3.15 Vector of int", Vector("int", [-1, 2], True), bytes.fromhex("0d 05 01 ffffffff 00000002")),
    ("3.15 Vector of uint", Vector("uint", [0xFFFFFFFF]), bytes.fromhex("0e 03 00 ffffffff")),
    ("3.15 Vector of Number", Vector("number", [1.5]), bytes.fromhex("0f 03 00 3ff8000000000000")),
    ("3.15 Vector of String", Vector("object", ["a"], False, "String"), b"\x10\x03\x00\x0dString\x06\x03a"),
    (
        "3.16 Dictionary",
        Dictionary([(1, "a"), ("a", None)], True),
        bytes.fromhex("11 05 01 04 01 06 03 61 06 00 01"),
    ),
]
IDS = [section for section, _, _ in VECTORS]


@pytest.mark.parametrize(("section", "value", "data"), VECTORS, ids=IDS)
def test_vectors_both_ways(section: str, value: Any, data: bytes) -> None:
    decoded, end = amf3.decode(b"\xff\xff" + data + b"\x01", 2)
    assert (decoded, type(decoded), end) == (value, type(value), len(data) + 2)
    assert amf3.encode(value) == data
    assert amf0.decode(b"\x11" + data + b"\x05") == (value, len(data) + 1)
    assert amf0.skip(b"\x11" + data + b"\x05") == len(data) + 1


@pytest.mark.parametrize(("section", "value", "data"), VECTORS, ids=IDS)
def test_every_truncation_is_told(section: str, value: Any, data: bytes) -> None:
    for cut in range(len(data)):
        with pytest.raises(AmfTruncated, match=r"offset \d+: .*(left|no bytes)"):
            amf3.decode(data[:cut])


def test_integers_past_29_bits_are_doubles() -> None:
    """3.6: the range ends at 2**28."""
    for value in (1 << 28, -(1 << 28) - 1, 1 << 40):
        decoded = amf3.decode(amf3.encode(value))[0]
        assert (decoded, type(decoded)) == (value, float)


def test_long_forms_of_integers_are_read() -> None:
    """1.3.1: nothing forbids a form that is longer than needed."""
    assert amf3.decode_all(bytes.fromhex("04 8001 04 808001 04 80808001")) == [1, 1, 1]


def test_strings_are_referenced() -> None:
    """1.3.2: keys, class names and values share the table; the empty string is never in it."""
    data = amf3.encode("a", "", {"a": "b"}, TypedObject("b"), "a")
    assert data == bytes.fromhex("06 03 61 06 01 0a 0b 01 00 06 03 62 01 0a 0b 02 01 06 00")
    assert amf3.decode_all(data) == ["a", "", {"a": "b"}, TypedObject("b"), "a"]


def test_traits_are_referenced() -> None:
    """3.12: the second of a class names the first one's traits."""
    points = [TypedObject("P", {"x": index}, ("x",), False) for index in range(2)]
    data = amf3.encode(*points)
    assert data == bytes.fromhex("0a 13 03 50 03 78 04 00 0a 01 04 01")
    assert amf3.decode_all(data) == points


@pytest.mark.parametrize(
    "value", [value for section, value, _ in VECTORS if section >= "3.9" or section < "3.2"], ids=repr
)
def test_every_complex_value_is_referenced(value: Any) -> None:
    """2.2: dates, arrays, objects, XML, ByteArrays, Vectors and Dictionaries share one table."""
    data = amf3.encode([value], value, [None])
    assert data.endswith(bytes((data[3], 0x02, 0x09, 0x03, 0x01, 0x01)))
    (first,), second, _ = amf3.decode_all(data)
    assert first is second
    assert first == value


def test_cycles_survive() -> None:
    makers: list[tuple[Any, Any, Any]] = [
        ({}, lambda at, item: at.update(me=item), lambda at: at["me"]),
        (EcmaArray({"k": 1}), lambda at, item: at.update(me=item), lambda at: at["me"]),
        ([], lambda at, item: at.append(item), lambda at: at[0]),
        (TypedObject("T"), lambda at, item: at.fields.update(me=item), lambda at: at.fields["me"]),
        (Vector("object", []), lambda at, item: at.items.append(item), lambda at: at.items[0]),
        (Dictionary([]), lambda at, item: at.pairs.append((item, 1)), lambda at: at.pairs[0][0]),
        (ArrayCollection(), lambda at, item: at.append(item), lambda at: at[0]),
        (ObjectProxy(), lambda at, item: at.update(me=item), lambda at: at["me"]),
    ]
    for value, put, get in makers:
        put(value, value)
        decoded = amf3.decode(amf3.encode(value))[0]
        assert get(decoded) is decoded
        assert type(decoded) is type(value)


BAD: list[tuple[bytes, str]] = [
    (b"\x12", "offset 0: marker 0x12, expected an AMF3 value"),
    (b"\x09\x03\x01\xff", "offset 3: marker 0xff"),
    (b"\x06\x00", "offset 1: reference to string 0, expected one of 0"),
    (b"\x0a\x00", "reference to object 0, expected one of 0"),
    (b"\x0a\x01", "reference to traits 0, expected one of 0"),
    (b"\x06\x03\xff", "offset 2: a string with byte 0xff, expected UTF-8"),
    (b"\x09\x07\x01", "offset 2: 3 values declared, expected what fits into the 1 bytes left"),
    (b"\x0d\x05\x00\x00\x00\x00\x00", "2 items declared, expected what fits into the 4 bytes left"),
    (b"\x11\x05\x00\x01\x01\x01", "2 pairs declared, expected what fits into the 3 bytes left"),
    (b"\x0a\x23\x03P", "2 members declared, expected what fits into the 0 bytes left"),
    (b"\x0a\x07\x09Evil\x01", "externalizable class 'Evil', expected one with a registered reader"),
]


@pytest.mark.parametrize(("data", "message"), BAD, ids=[data.hex() for data, _ in BAD])
def test_bad_bytes_say_what_and_where(data: bytes, message: str) -> None:
    for read in (amf3.decode, amf3.decode_all):
        with pytest.raises(AmfDecodeError, match=message):
            read(data)


def test_limits() -> None:
    def refuses(message: str, value: Any, **limits: int) -> None:
        with pytest.raises(AmfDecodeError, match=message):
            amf3.decode(amf3.encode(value), 0, Limits(**limits))

    assert amf3.decode(amf3.encode([[1]]), 0, Limits(depth=2, nodes=3))[0] == [[1]]
    containers: list[Any] = [
        [[]],
        {"a": {}},
        Dictionary([(1, {})]),
        Vector("object", [{}]),
        ArrayCollection(),
    ]
    for nested in containers:
        refuses("nested 2 deep, expected at most 1", nested, depth=1)
    refuses("4 values, expected at most 3", [1, 2, 3], nodes=3)
    refuses("4 values, expected at most 3", Vector("int", [1, 2, 3]), nodes=3)
    refuses("4 values, expected at most 3", TypedObject("", {"a": 1, "b": 2}, ("a", "b")), nodes=3)
    for long in ("x" * 9, b"x" * 9, Xml("x" * 9), {"x" * 9: 1}):
        refuses("of 9 bytes, expected at most 8", long, string_bytes=8)
    refuses("9 bytes in one body, expected at most 8", 1.0, total_bytes=8)


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


UNENCODABLE: list[tuple[Any, str]] = [
    (object(), "a Python object, expected a value that has an AMF3 form"),
    ({1: 2}, "1, expected a string"),
    ({"": 2}, "an empty key, which would end the members, expected a name"),
    ("\udfff", "expected a string of Unicode text"),
    (10**400, "expected what fits a Number"),
    (Date("now"), "expected a Date"),  # type: ignore[arg-type]  # the wrong type is what is tested
    (Vector("int", 7), "a Python Vector, expected one whose parts have the right types"),  # type: ignore[arg-type]
    (Vector("int", [1 << 31]), "vector of int"),
    (Vector("uint", [-1]), "vector of uint"),
    (Vector("byte", [1]), "vector of 'byte', expected int, uint, number or object"),
    (TypedObject("P", {"x": 1}, (), False), r"class 'P' has \['x'\], expected sealed members only"),
    (TypedObject("P", {}, ("x",)), r"no value for \['x'\], expected one for each sealed member"),
    (Externalizable("Unknown", 1), "externalizable class 'Unknown', expected one with a registered writer"),
    (deep(64), "nested 65 deep or deeper, expected at most 64"),
    ([str(index) + "x" * 60_000 for index in range(300)], "bytes or more, expected at most 16777215"),
]


@pytest.mark.parametrize(("value", "message"), UNENCODABLE, ids=[message for _, message in UNENCODABLE])
def test_values_without_a_form(value: Any, message: str) -> None:
    with pytest.raises(AmfEncodeError, match=message):
        amf3.encode(value)


def test_subclasses_are_written_as_what_they_extend() -> None:
    assert amf3.encode(OrderedDict(a=1), True) == amf3.encode({"a": 1}, True)


def test_only_29_bits_fit() -> None:
    with pytest.raises(AmfEncodeError, match="536870912, expected what fits 29 bits"):
        amf3.Writer().u29(1 << 29)


def test_what_amf3_lacks_is_undefined() -> None:
    assert amf3.encode(UNSUPPORTED) == b"\x00"


class Money:
    """A type of an application, written as its own externalizable class."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


@pytest.fixture
def money() -> Iterator[None]:
    def read(reader: amf3.Reader) -> Money:
        return Money({"EUR": 100, "cent": 1}[reader.string()] * reader.value())

    def write(writer: amf3.Writer, value: Money) -> None:
        writer.string("cent")
        writer.value(value.cents)

    amf3.register_externalizable("shop.Money", read, write, Money)
    yield
    EXTERNALIZABLES.unregister("shop.Money")


@pytest.mark.usefixtures("money")
def test_registered_classes_both_ways() -> None:
    data = amf3.encode([Money(5)])
    assert data == b"\x09\x03\x01\x0a\x07\x15shop.Money\x09cent\x04\x05"
    assert amf3.decode(data)[0][0].cents == 5
    assert amf0.encode(Money(5))[:2] == b"\x11\x0a"
    with pytest.raises(
        AmfDecodeError,
        match=r"externalizable class 'shop.Money', expected what its reader takes: KeyError\('USD'\)",
    ):
        amf3.decode(data.replace(b"\x09cent", b"\x07USD"))
    with pytest.raises(
        AmfDecodeError, match="reference to object 0, expected one that its own reader has made"
    ):
        amf3.decode(b"\x0a\x07\x15shop.Money\x07EUR\x0a\x00")
    with pytest.raises(ValueError, match="registered already"):
        amf3.register_externalizable("shop.Money", lambda reader: None, lambda writer, value: None)
    with pytest.raises(
        ValueError, match=r"Money'>, expected one that does not stand for 'shop.Money' already"
    ):
        amf3.register_externalizable("shop.Cash", lambda reader: None, lambda writer, value: None, Money)
    assert EXTERNALIZABLES.class_name_of(Money(5)) == "shop.Money"
    with pytest.raises(KeyError):
        EXTERNALIZABLES.class_name_of("text")


def test_forgotten_classes_are_unknown_again() -> None:
    with pytest.raises(AmfEncodeError, match="a Python Money, expected a value that has an AMF3 form"):
        amf3.encode(Money(5))
