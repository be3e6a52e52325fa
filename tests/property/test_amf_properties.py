"""AMF under any value and any bytes: what goes in comes out, garbage raises AmfDecodeError alone, bombs stay small."""

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from headwater_amf import (
    UNDEFINED,
    AmfDecodeError,
    ArrayCollection,
    Date,
    Dictionary,
    EcmaArray,
    Limits,
    ObjectProxy,
    TypedObject,
    Vector,
    Xml,
    XmlDocument,
    amf0,
    amf3,
    transcode,
)
from hypothesis import given, settings
from hypothesis import strategies as st

text = st.text(max_size=12)
keys = st.text(min_size=1, max_size=8)
numbers = st.floats(allow_nan=False)
dates = st.builds(Date, numbers)
leaves0 = st.one_of(st.none(), st.just(UNDEFINED), st.booleans(), numbers, text, text.map(XmlDocument), dates)
leaves3 = st.one_of(
    leaves0,
    st.integers(-(1 << 28), (1 << 28) - 1),
    text.map(Xml),
    st.binary(max_size=12),
    st.builds(
        Vector, st.just("int"), st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=4), st.booleans()
    ),
    st.builds(Vector, st.just("uint"), st.lists(st.integers(0, (1 << 32) - 1), max_size=4), st.booleans()),
    st.builds(Vector, st.just("number"), st.lists(numbers, max_size=4), st.booleans()),
)


def sealed_object(name: str, fields: dict[str, Any], dynamic: bool, cut: int) -> TypedObject:
    sealed = tuple(fields)[: cut if dynamic else None]
    return TypedObject(name, fields, sealed, dynamic)


def containers0(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(text, inner, max_size=4)
    return st.one_of(
        st.lists(inner, max_size=4),
        fields,
        fields.filter(bool).map(EcmaArray),
        st.builds(TypedObject, keys, fields),
    )


def containers3(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(keys, inner, max_size=4)
    return st.one_of(
        st.lists(inner, max_size=4),
        fields,
        st.builds(
            EcmaArray, st.dictionaries(keys, inner, min_size=1, max_size=3), st.lists(inner, max_size=3)
        ),
        st.builds(sealed_object, keys, fields, st.booleans(), st.integers(0, 4)),
        st.builds(Vector, st.just("object"), st.lists(inner, max_size=3), st.booleans(), text),
        st.builds(Dictionary, st.lists(st.tuples(inner, inner), max_size=3), st.booleans()),
        st.lists(inner, max_size=3).map(ArrayCollection),
        fields.map(ObjectProxy),
    )


values0 = st.recursive(leaves0, containers0, max_leaves=12)
values3 = st.recursive(leaves3, containers3, max_leaves=12)


def shape(value: Any) -> Any:
    """The value with the types that `==` would overlook: bool, int and float; str and XML; dict and its kinds."""
    if isinstance(value, TypedObject):
        return TypedObject, value.class_name, value.sealed, value.dynamic, shape(value.fields)
    if isinstance(value, Dictionary):
        return Dictionary, value.weak, [(shape(key), shape(item)) for key, item in value.pairs]
    if isinstance(value, Vector):
        return Vector, value.kind, value.fixed, value.class_name, shape(value.items)
    if isinstance(value, EcmaArray):
        return EcmaArray, [(key, shape(item)) for key, item in value.items()], shape(value.dense)
    if isinstance(value, dict):
        return type(value), [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return type(value), [shape(item) for item in value]
    return type(value), value


@given(st.lists(values0, max_size=4))
@settings(max_examples=120, deadline=None)
def test_amf0_round_trip(values: list[Any]) -> None:
    data = amf0.encode(*values)
    assert shape(amf0.decode_all(data)) == shape(values)


@given(st.lists(values3, max_size=4))
@settings(max_examples=120, deadline=None)
def test_amf3_round_trip(values: list[Any]) -> None:
    assert shape(amf3.decode_all(amf3.encode(*values))) == shape(values)


@given(st.lists(values3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_amf3_inside_amf0(values: list[Any]) -> None:
    assert shape(amf0.decode_all(amf0.encode_avmplus(*values))) == shape(values)


@given(values0)
@settings(max_examples=80, deadline=None)
def test_transcoding_there_and_back(value: Any) -> None:
    data = amf0.encode(value)
    there = transcode(data, to_amf3=True)
    assert amf0.decode(there)[1] == len(there)
    assert shape(amf0.decode(transcode(there, to_amf3=False))) == shape((value, len(data)))


@given(values3)
@settings(max_examples=60, deadline=None)
def test_transcoding_to_amf0_never_fails(value: Any) -> None:
    data = transcode(amf0.encode_avmplus(value), to_amf3=False)
    assert amf0.skip(data) == len(data)


@given(values0, st.data())
@settings(max_examples=80, deadline=None)
def test_skip_agrees_with_decode(value: Any, draw: st.DataObject) -> None:
    data = bytearray(amf0.encode(value))
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    body, limits = b"\xff" + bytes(data), Limits(string_bytes=8, nodes=4)
    assert attempt(lambda: amf0.skip(body, 1, limits)) == attempt(lambda: amf0.decode(body, 1, limits)[1])


def attempt(call: Callable[[], int]) -> int | str:
    try:
        return call()
    except AmfDecodeError as error:
        return str(error)


DECODERS = [amf0.decode, amf3.decode, amf0.decode_all, amf3.decode_all, amf0.skip]


@given(st.one_of(st.binary(max_size=80), st.lists(st.integers(0, 0x12), max_size=60).map(bytes)))
@settings(max_examples=400, deadline=None)
def test_garbage_raises_only_decode_errors(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(data)
        except AmfDecodeError:
            pass


@given(values3, st.data())
@settings(max_examples=150, deadline=None)
def test_mutations_raise_only_decode_errors(value: Any, draw: st.DataObject) -> None:
    data = bytearray(amf3.encode(value))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    for decode, body in ((amf3.decode, bytes(data)), (amf0.decode, b"\x11" + bytes(data))):
        try:
            decode(body)
        except AmfDecodeError:
            pass


MB = 1 << 20
BOMBS = {
    "AMF0: a count of 4 billion": (amf0.decode, b"\x0a\xff\xff\xff\xff\x05"),
    "AMF0: a string of 4 GB": (amf0.decode, b"\x0c\xff\xff\xff\xff"),
    "AMF0: nested arrays": (amf0.decode, b"\x0a\x00\x00\x00\x01" * 100_000),
    "AMF0: nested objects": (amf0.decode, b"\x03\x00\x01a" * 100_000),
    "AMF0: a million nulls": (amf0.decode_all, b"\x05" * MB),
    "AMF0: references to one array": (amf0.decode_all, b"\x0a\x00\x00\x00\x00" + b"\x07\x00\x00" * MB),
    "AMF0: a body of 5 MB": (amf0.decode_all, bytes(5 * MB)),
    "AMF0: AMF3 values share the budget": (amf0.decode_all, b"\x11\x01" * MB),
    "AMF0: nested over both": (
        amf0.decode,
        b"\x0a\x00\x00\x00\x01" * 20 + b"\x11" + b"\x09\x03\x01" * 20 + b"\x01",
    ),
    "AMF3: a count of 2**28": (amf3.decode, b"\x09\xff\xff\xff\xff\x01"),
    "AMF3: a Vector of 2**28": (amf3.decode, b"\x0d\xff\xff\xff\xff\x00"),
    "AMF3: a Vector of 200,000": (amf3.decode, b"\x0d\x98\xb5\x01\x00" + bytes(4 * MB // 2)),
    "AMF3: traits of 2**25 members": (amf3.decode, b"\x0a\xff\xff\xff\xf3\x01"),
    "AMF3: traits of 100,000 empty names": (amf3.decode, b"\x0a\xe1\xd4\x03\x01" + b"\x01" * MB),
    "AMF3: nested arrays": (amf3.decode, b"\x09\x03\x01" * 100_000),
    "AMF3: nested dictionaries": (amf3.decode, b"\x11\x03\x00" * 100_000),
    "AMF3: nested collections": (
        amf3.decode,
        b"\x0a\x07\x43flex.messaging.io.ArrayCollection" + b"\x09\x03\x01\x0a\x01" * 50_000,
    ),
    "AMF3: references to one string": (amf3.decode_all, b"\x06\x03a" + b"\x06\x00" * MB),
    "AMF3: references to one ByteArray": (amf3.decode_all, b"\x0c\x03a" + b"\x0c\x00" * MB),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_bounded_in_memory_and_time(name: str) -> None:
    decode, data = BOMBS[name]
    started = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(AmfDecodeError):
            decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MB
    assert time.process_time() - started < 1


def test_amf3_references_do_not_blow_up_as_amf0() -> None:
    """AMF3 says a string again with two bytes, AMF0 in full: 64 KB times 9000 stays AMF3."""
    value = b"\x11\x09\x81\x8c\x51\x01\x06" + b"\x87\xff\x7f" + b"x" * 0xFFFF + b"\x06\x00" * 8999
    assert len(amf0.decode(value)[0]) == 9000
    tracemalloc.start()
    try:
        assert transcode(value, to_amf3=False) == value
        assert tracemalloc.get_traced_memory()[1] < 48 * MB
    finally:
        tracemalloc.stop()
