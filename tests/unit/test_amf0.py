"""AMF0: one table of byte vectors for reader and writer. Bytes are worked out from the sections of Adobe's "AMF 0" (2007)
that each names, but for those marked with a capture's source."""

import copy
import pickle
import struct
from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum
from typing import Any

import pytest
from headwater_amf import (
    UNDEFINED,
    UNSUPPORTED,
    AmfDecodeError,
    AmfEncodeError,
    AmfTruncated,
    Date,
    EcmaArray,
    Limits,
    TypedObject,
    Vector,
    Xml,
    XmlDocument,
    amf0,
    transcode,
)

LONG = "x" * 65_536
# section, value, bytes
VECTORS: list[tuple[str, Any, bytes]] = [
    ("2.2 number", 1.5, bytes.fromhex("00 3ff8000000000000")),
    ("2.2 number, the least", 5e-324, bytes.fromhex("00 0000000000000001")),
    ("2.2 number, infinite", float("-inf"), bytes.fromhex("00 fff0000000000000")),
    ("2.3 boolean", True, bytes.fromhex("01 01")),
    ("2.3 boolean", False, bytes.fromhex("01 00")),
    ("2.4 string", "connect", bytes.fromhex("02 0007") + b"connect"),
    ("2.4 string, empty", "", bytes.fromhex("02 0000")),
    ("2.4 string, bytes are counted", "é€", bytes.fromhex("02 0005 c3a9 e282ac")),
    ("2.5 object", {"a": 1.0}, bytes.fromhex("03 0001 61 00 3ff0000000000000 0000 09")),
    ("2.5 object, empty", {}, bytes.fromhex("03 0000 09")),
    ("2.5 object, an empty key", {"": None}, bytes.fromhex("03 0000 05 0000 09")),
    ("2.7 null", None, bytes.fromhex("05")),
    ("2.8 undefined", UNDEFINED, bytes.fromhex("06")),
    ("2.10 ECMA array", EcmaArray({"0": "a"}), bytes.fromhex("08 00000001 0001 30 02 0001 61 0000 09")),
    ("2.12 strict array", [None, True], bytes.fromhex("0a 00000002 05 01 01")),
    ("2.12 strict array, empty", [], bytes.fromhex("0a 00000000")),
    ("2.13 date", Date(1.0, -60), bytes.fromhex("0b 3ff0000000000000 ffc4")),
    ("2.14 long string", LONG, bytes.fromhex("0c 00010000") + LONG.encode()),
    ("2.15 unsupported", UNSUPPORTED, bytes.fromhex("0d")),
    ("2.17 XML document", XmlDocument("<a/>"), bytes.fromhex("0f 00000004") + b"<a/>"),
    ("2.18 typed object", TypedObject("P", {"x": None}), bytes.fromhex("10 0001 50 0001 78 05 0000 09")),
    ("3.1 AMF3: ByteArray", b"\x01\x02", bytes.fromhex("11 0c 05 0102")),
    ("3.1 AMF3: E4X", Xml("<a/>"), bytes.fromhex("11 0b 09") + b"<a/>"),
    ("3.1 AMF3: Vector", Vector("int", [-1]), bytes.fromhex("11 0d 03 00 ffffffff")),
    ("3.1 AMF3 in an array", [b"", 1.0], bytes.fromhex("0a 00000002 11 0c 01 00 3ff0000000000000")),
]
IDS = [section for section, _, _ in VECTORS]


@pytest.mark.parametrize(("section", "value", "data"), VECTORS, ids=IDS)
def test_vectors_both_ways(section: str, value: Any, data: bytes) -> None:
    decoded, end = amf0.decode(b"\xff\xff" + data + b"\x05", 2, Limits(string_bytes=70_000))
    assert (decoded, type(decoded), end) == (value, type(value), len(data) + 2)
    assert amf0.encode(value) == data
    assert amf0.skip(b"\xff" + data + b"\xff", 1) == len(data) + 1
    assert amf0.decode(memoryview(data), 0)[0] == value  # any buffer does
    assert amf0.decode_all(data + data) == [value, value]


@pytest.mark.parametrize(("section", "value", "data"), VECTORS, ids=IDS)
def test_every_truncation_is_told(section: str, value: Any, data: bytes) -> None:
    for cut in range(min(len(data), 64)):
        for read in (amf0.decode, amf0.skip):
            with pytest.raises(AmfTruncated, match=r"offset \d+: .*(left|no bytes)"):
                read(data[:cut])


def test_a_connect_command() -> None:
    """The layout of RTMP 1.0, 7.2.1.1 (values as librtmp sends them)."""
    body = bytes.fromhex("02 0007 636f6e6e656374 00 3ff0000000000000 03 0003 617070 02 0004 6c697665 0000 09")
    assert amf0.decode_all(body) == ["connect", 1.0, {"app": "live"}]
    assert amf0.encode("connect", 1, {"app": "live"}) == body


def test_nan_survives() -> None:
    (value,) = amf0.decode_all(amf0.encode(float("nan")))
    assert value != value


def test_ecma_counts_are_hints() -> None:
    """AMF0 2.10 gives a count, encoders write 0 or too many: the end marker decides."""
    for count in (0, 1, 7, 0xFFFFFFFF):
        assert amf0.decode(b"\x08" + struct.pack(">I", count) + b"\x00\x01a\x05\x00\x00\x09")[0] == EcmaArray(
            {"a": None}
        )


def test_dense_part_goes_into_members() -> None:
    assert amf0.decode(amf0.encode(EcmaArray({"k": 1.0}, ["a", "b"])))[0] == EcmaArray(
        {"0": "a", "1": "b", "k": 1.0}
    )


def test_references_keep_identity() -> None:
    """2.9: an object, a typed object and both arrays are counted from 0 in the order they begin."""
    shared = {"n": 1.0}
    data = amf0.encode([shared, shared], shared)
    assert data == bytes.fromhex("0a 00000002 03 0001 6e 00 3ff0000000000000 0000 09 07 0001 07 0001")
    both, again = amf0.decode_all(data)
    assert both[0] is both[1] is again
    assert amf0.skip(data) == len(data) - 3


@pytest.mark.parametrize("make", [dict, list, EcmaArray, lambda: TypedObject("C")])
def test_cycles_survive(make: Any) -> None:
    value = make()
    if isinstance(value, list):
        value.append(value)
    else:
        (value.fields if isinstance(value, TypedObject) else value)["self"] = value
    decoded = amf0.decode(amf0.encode(value))[0]
    inner = decoded[0] if isinstance(decoded, list) else getattr(decoded, "fields", decoded)["self"]
    assert inner is decoded
    assert type(decoded) is type(value)


def test_more_containers_than_references_can_name() -> None:
    """2.9: an index has 16 bits; what comes later is written in full."""
    last = {"z": None}
    data = amf0.encode([{} for _ in range(0xFFFF)], last, last)
    assert data.endswith(amf0.encode(last) * 2)
    assert amf0.decode_all(data, 0, Limits(nodes=100_000))[1:] == [last, last]


def test_avmplus_tables_are_fresh_for_each_value() -> None:
    """3.1: the switch holds for one value; strings of the one before are not known."""
    assert amf0.encode_avmplus("a", "a") == b"\x11\x06\x03a" * 2
    with pytest.raises(AmfDecodeError, match="reference to string 0, expected one of 0"):
        amf0.decode_all(b"\x11\x06\x03a\x11\x06\x00")
    assert amf0.decode_all(b"\x11\x04\x05\x05\x11\x01\x02\x00\x00") == [5, None, None, ""]


BAD: list[tuple[bytes, str]] = [
    (b"\x04", r"offset 0: marker 0x04 \(movieclip\) is reserved"),
    (b"\x0e", r"offset 0: marker 0x0e \(recordset\) is reserved"),
    (b"\x09", "offset 0: marker 0x09, expected an AMF0 value"),
    (b"\x0a\x00\x00\x00\x01\x7f", "offset 5: marker 0x7f"),
    (b"\x07\x00\x00", "offset 1: reference to object 0, expected one of 0"),
    (b"\x03\x00\x01a\x07\x00\x01\x00\x00\x09", "reference to object 1, expected one of 1"),
    (b"\x02\x00\x02a\xff", "offset 4: a string with byte 0xff, expected UTF-8"),
    (b"\x02\x00\x03\xed\xa0\x80", "byte 0xed, expected UTF-8"),
    (b"\x0a\x00\x00\x00\x09\x05", "offset 5: 9 values declared, expected what fits into the 1 bytes left"),
    (b"\x11\x12", "marker 0x12, expected an AMF3 value"),
]


@pytest.mark.parametrize(("data", "message"), BAD, ids=[data.hex() for data, _ in BAD])
def test_bad_bytes_say_what_and_where(data: bytes, message: str) -> None:
    for read in (amf0.decode, amf0.decode_all, amf0.skip):
        with pytest.raises(AmfDecodeError, match=message):
            read(data)


def test_limits() -> None:
    def refuses(message: str, *values: Any, **limits: int) -> None:
        for read in (amf0.decode, amf0.skip):
            with pytest.raises(AmfDecodeError, match=message):
                read(amf0.encode(*values), 0, Limits(**limits))

    assert amf0.decode(amf0.encode([[1.0]]), 0, Limits(depth=2, nodes=3))[0] == [[1.0]]
    refuses("nested 3 deep, expected at most 2", [[[]]], depth=2)
    refuses("nested 3 deep, expected at most 2", [b"", Vector("object", [[]])], depth=2)
    refuses("3 values, expected at most 2", [[1.0]], nodes=2)
    refuses("1 values, expected at most 0", 1.0, nodes=0)
    refuses("a string of 9 bytes, expected at most 8", "x" * 9, string_bytes=8)
    refuses("a string of 9 bytes", {"x" * 9: None}, string_bytes=8)
    refuses("18 bytes in one body, expected at most 17", 1.0, 1.0, total_bytes=17)
    with pytest.raises(AmfDecodeError, match="offset -1"):
        amf0.decode(b"\x05", -1)
    for depth in (0, 129):
        with pytest.raises(ValueError, match=f"depth {depth}, expected 1 to 128"):
            Limits(depth=depth)


def test_the_deepest_limit_is_within_pythons_stack() -> None:
    value = amf0.encode([Vector("object", [])])[:5] * 63 + b"\x11" + b"\x09\x03\x01" * 64 + b"\x01"
    assert amf0.decode(value, 0, Limits(depth=128))[1] == len(value)


def test_python_kinds() -> None:
    class Code(IntEnum):
        OK = 7

    class Slots(EcmaArray):
        __slots__ = ()

    assert amf0.encode(Code.OK, (1,)) == amf0.encode(7.0, [1.0])
    assert amf0.encode(OrderedDict(a=1), Slots({"a": 1})) == amf0.encode({"a": 1}, EcmaArray({"a": 1}))
    assert amf0.encode(bytearray(b"a")) == amf0.encode(b"a")
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone(timedelta(hours=2)))
    decoded = amf0.decode(amf0.encode(moment))[0]
    assert decoded.datetime() == moment
    assert decoded.datetime().tzinfo is UTC
    assert amf0.encode(moment.replace(tzinfo=None)) == amf0.encode(moment.replace(tzinfo=UTC))


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


UNENCODABLE: list[tuple[Any, str]] = [
    (object(), "a Python object, expected a value that has an AMF form"),
    ({1: 2}, "1, expected a string"),
    ("\ud800", "expected a string of Unicode text"),
    (10**400, "expected what fits a Number"),
    ({"k" * 65_536: 1}, "key of 65536 bytes"),
    (TypedObject("k" * 65_536), "class name of 65536 bytes"),
    (TypedObject(7), "7, expected a string|expected one whose parts"),  # type: ignore[arg-type]
    (Date(0.0, 40_000), "expected a Date"),
    (deep(64), "nested 65 deep or deeper, expected at most 64"),
    (["x" * 60_000 + str(index) for index in range(300)], "bytes or more, expected at most 16777215"),
    ("x" * 0x1000000, "bytes or more, expected at most 16777215"),
]


@pytest.mark.parametrize(("value", "message"), UNENCODABLE, ids=[message for _, message in UNENCODABLE])
def test_values_without_a_form(value: Any, message: str) -> None:
    with pytest.raises(AmfEncodeError, match=message):
        amf0.encode(value)


def test_objects_are_bounded_too() -> None:
    with pytest.raises(AmfEncodeError, match="bytes or more, expected at most 100"):
        amf0.encode({"a": "x" * 90, "b": [1.0], "c": None}, most_bytes=100)


def test_a_typed_object_without_a_class_is_anonymous() -> None:
    assert amf0.encode(TypedObject("", {"a": 1})) == amf0.encode({"a": 1})


def test_an_associative_array_equals_a_dict_but_not_one_with_a_dense_part() -> None:
    assert EcmaArray({"a": 1}) == {"a": 1}
    assert EcmaArray({"a": 1}) != EcmaArray({"a": 1}, [1])
    assert repr(UNSUPPORTED) == "UNSUPPORTED"


def test_undefined_is_not_null() -> None:
    assert not UNDEFINED
    assert UNDEFINED is not None
    for one in (UNDEFINED, UNSUPPORTED):
        assert type(one)() is copy.deepcopy(one) is pickle.loads(pickle.dumps(one)) is one
    assert amf0.decode_all(b"\x06\x05") == [UNDEFINED, None]
    assert EcmaArray({}, [1]) != EcmaArray({}, [2])
    assert EcmaArray({}, [1]) == EcmaArray({}, [1])


TRANSCODED: list[tuple[str, bytes, bytes]] = [
    ("string", b"\x02\x00\x01a", b"\x11\x06\x03a"),
    ("null", b"\x05", b"\x11\x01"),
    ("undefined", b"\x06", b"\x11\x00"),
    ("boolean", b"\x01\x01", b"\x11\x03"),
    ("number", bytes.fromhex("00 3ff8000000000000"), bytes.fromhex("11 05 3ff8000000000000")),
    ("object", b"\x03\x00\x01a\x05\x00\x00\x09", b"\x11\x0a\x0b\x01\x03a\x01\x01"),
    ("typed object", b"\x10\x00\x01P\x00\x01a\x05\x00\x00\x09", b"\x11\x0a\x0b\x03P\x03a\x01\x01"),
    ("strict array", b"\x0a\x00\x00\x00\x01\x05", b"\x11\x09\x03\x01\x01"),
    ("ECMA array", b"\x08\x00\x00\x00\x01\x00\x01a\x05\x00\x00\x09", b"\x11\x09\x01\x03a\x01\x01"),
    ("XML document", b"\x0f\x00\x00\x00\x01a", b"\x11\x07\x03a"),
]


@pytest.mark.parametrize(("name", "zero", "three"), TRANSCODED, ids=[name for name, _, _ in TRANSCODED])
def test_transcoding(name: str, zero: bytes, three: bytes) -> None:
    assert transcode(zero, to_amf3=True) == three
    assert transcode(three, to_amf3=False) == zero
    assert transcode(zero, to_amf3=False) == zero
    assert transcode(three, to_amf3=True) == three


def test_transcoding_keeps_what_the_other_lacks() -> None:
    byte_array = b"\x11\x0c\x03a"
    assert transcode(byte_array, to_amf3=False) == byte_array
    assert (
        transcode(b"\x11\x09\x05\x01\x0c\x03a\x01", to_amf3=False)
        == b"\x0a\x00\x00\x00\x02" + byte_array + b"\x05"
    )
    inside = b"\x0a\x00\x00\x00\x01\x11\x06\x03a"  # An AMF3 client may mix both.
    assert transcode(inside, to_amf3=False) == b"\x0a\x00\x00\x00\x01\x02\x00\x01a"
    empty_key = b"\x03\x00\x00\x05\x00\x00\x09"
    assert transcode(empty_key, to_amf3=True) == empty_key


def test_transcoding_takes_exactly_one_value() -> None:
    for to_amf3 in (False, True):
        with pytest.raises(AmfTruncated):
            transcode(b"", to_amf3=to_amf3)
    with pytest.raises(AmfDecodeError, match="offset 1: 1 bytes behind the value, expected none"):
        transcode(b"\x05\x05", to_amf3=True)
