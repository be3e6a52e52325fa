"""AMF against an independent codec, Py3AMF: what one writes, the other reads."""

import datetime
import importlib
import warnings
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from headwater_amf import (
    UNDEFINED,
    ArrayCollection,
    Date,
    EcmaArray,
    ObjectProxy,
    TypedObject,
    Xml,
    XmlDocument,
    amf0,
    amf3,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It imports pkg_resources and other things of the past.
    pyamf: Any = importlib.import_module("pyamf")
    flex: Any = importlib.import_module("pyamf.flex")

MOMENT = datetime.datetime(2026, 3, 4, 5, 6, 7)
SHARED: list[Any] = [
    None,
    True,
    False,
    0.5,
    -1.0,
    1e300,
    "",
    "text",
    "é€𝄞",
    [],
    [1.0, "a", None, [True]],
    {},
    {"a": 1.5, "b": {"c": [None]}},
    [{"same": "same"}, {"same": "same"}],
]


def theirs(value: Any, encoding: int) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data: bytes = pyamf.encode(value, encoding=encoding).getvalue()
    return data


def read_by_them(data: bytes, encoding: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return next(iter(pyamf.decode(data, encoding=encoding)))


@pytest.mark.parametrize("encoding", [0, 3])
@pytest.mark.parametrize("value", SHARED, ids=repr)
def test_plain_values_both_directions(value: Any, encoding: int) -> None:
    codec: Any = amf3 if encoding else amf0
    assert codec.decode_all(theirs(value, encoding)) == [value]
    assert read_by_them(codec.encode(value), encoding) == value


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455, -1, -268435456])
def test_integers_are_the_same_bytes(value: int) -> None:
    assert amf3.encode(value) == theirs(value, 3)
    assert amf3.decode(theirs(value, 3))[0] == read_by_them(amf3.encode(value), 3) == value


@pytest.mark.parametrize("encoding", [0, 3])
def test_dates(encoding: int) -> None:
    codec: Any = amf3 if encoding else amf0
    date = codec.decode(theirs(MOMENT, encoding))[0]
    assert date.datetime().replace(tzinfo=None) == MOMENT
    assert read_by_them(codec.encode(Date.of(MOMENT)), encoding) == MOMENT
    assert read_by_them(codec.encode(MOMENT), encoding) == MOMENT


@pytest.mark.parametrize("encoding", [0, 3])
def test_undefined(encoding: int) -> None:
    codec: Any = amf3 if encoding else amf0
    assert codec.decode(theirs(pyamf.Undefined, encoding))[0] is UNDEFINED
    assert read_by_them(codec.encode(UNDEFINED), encoding) is pyamf.Undefined


class Thing:
    """What the peer knows as org.Thing; we know no class and need none."""


@pytest.fixture
def thing() -> Iterator[Any]:
    pyamf.register_class(Thing, "org.Thing")
    made: Any = Thing()
    made.x = 1.5
    yield made
    pyamf.unregister_class(Thing)


@pytest.mark.parametrize("encoding", [0, 3])
def test_typed_objects(encoding: int, thing: Any) -> None:
    codec: Any = amf3 if encoding else amf0
    decoded = codec.decode(theirs(thing, encoding))[0]
    assert (decoded.class_name, decoded.fields) == ("org.Thing", {"x": 1.5})
    for value in (decoded, TypedObject("org.Thing", {"x": 1.5}, ("x",), False)):
        peer = read_by_them(codec.encode(value), encoding)
        assert (type(peer), peer.x) == (Thing, 1.5)


@pytest.mark.parametrize("encoding", [0, 3])
def test_mixed_arrays(encoding: int) -> None:
    codec: Any = amf3 if encoding else amf0
    assert codec.decode(theirs(pyamf.MixedArray(a=1.5), encoding))[0] == EcmaArray({"a": 1.5})
    peer = read_by_them(codec.encode(EcmaArray({"a": 1.5})), encoding)
    assert type(peer) is pyamf.MixedArray
    assert dict(peer) == {"a": 1.5}


@pytest.mark.parametrize("encoding", [0, 3])
def test_references_and_cycles(encoding: int) -> None:
    codec: Any = amf3 if encoding else amf0
    value: dict[str, Any] = {"list": [1.0]}
    value["me"], value["again"] = value, value["list"]
    for decoded in (codec.decode(theirs(value, encoding))[0], read_by_them(codec.encode(value), encoding)):
        assert decoded["me"] is decoded
        assert decoded["again"] is decoded["list"]


def test_xml() -> None:
    assert read_by_them(amf0.encode(XmlDocument("<a><b/></a>")), 0).tag == "a"
    assert read_by_them(amf3.encode(Xml("<a><b/></a>")), 3).tag == "a"
    assert amf3.decode(theirs(ElementTree.fromstring("<a />"), 3))[0] == Xml("<a />")
    assert amf0.decode(theirs(ElementTree.fromstring("<a />"), 0))[0] == XmlDocument("<a />")


def test_byte_arrays() -> None:
    array = pyamf.amf3.ByteArray()
    array.write(b"\x00\x01\xff")
    assert amf3.decode(theirs(array, 3))[0] == b"\x00\x01\xff"
    assert read_by_them(amf3.encode(b"\x00\x01\xff"), 3).getvalue() == b"\x00\x01\xff"


def test_flex_collections() -> None:
    ours = amf3.decode(theirs(flex.ArrayCollection([1, "a"]), 3))[0]
    assert (type(ours), ours) == (ArrayCollection, [1, "a"])
    peer = read_by_them(amf3.encode(ArrayCollection([1, "a"])), 3)
    assert (type(peer), list(peer)) == (flex.ArrayCollection, [1, "a"])
    proxy = amf3.decode(theirs(flex.ObjectProxy({"a": 1}), 3))[0]
    assert (type(proxy), proxy) == (ObjectProxy, {"a": 1})
    back = read_by_them(amf3.encode(ObjectProxy({"a": 1})), 3)
    assert (type(back), dict(back._amf_object)) == (flex.ObjectProxy, {"a": 1})


def test_amf3_inside_amf0() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = pyamf.get_encoder(0)
        encoder.use_amf3 = True
        encoder.writeElement({"a": [1, 2]})
        data = encoder.stream.getvalue()
    assert amf0.decode_all(data) == [{"a": [1, 2]}]
    assert read_by_them(amf0.encode_avmplus({"a": [1, 2]}), 0) == {"a": [1, 2]}
