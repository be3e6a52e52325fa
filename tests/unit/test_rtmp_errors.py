"""Every error text of libs/amf and libs/rtmp says what was seen and what was expected."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from headwater_amf import Limits, TypedObject, Vector, amf0, amf3
from headwater_rtmp import control
from headwater_rtmp.aggregate import split_aggregate
from headwater_rtmp.chunk import ChunkLimits, ChunkReader, ChunkWriter, encode_message
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.errors import LocalProtocolError
from headwater_rtmp.flv import FlvWriter
from headwater_rtmp.handshake import ClientHandshake, ServerHandshake
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import decode_shared_object
from headwater_rtmp.url import parse_rtmp_url, split_app

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("libs/amf/headwater_amf/*.py"), *ROOT.glob("libs/rtmp/headwater_rtmp/*.py")])
ERRORS = {
    "AmfDecodeError",
    "AmfEncodeError",
    "AmfTruncated",
    "LocalProtocolError",
    "RemoteProtocolError",
    "ValueError",
    "_error",
}


def texts(source: Path) -> list[tuple[str, str]]:
    """Place and text of each error that a module makes; what an f-string puts in stands as {}."""
    found = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        text = node.args[0]
        if name not in ERRORS or not isinstance(text, ast.Constant | ast.JoinedStr):
            continue
        parts = text.values if isinstance(text, ast.JoinedStr) else [text]
        plain = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        found.append((f"{source.name}:{node.lineno}", plain))
    return found


ALL_TEXTS = [text for source in SOURCES for text in texts(source)]
PLAIN = {
    # Nothing was seen, or the text is another error's with its place.
    "message type {}: {}",
    "SharedObject slot {}: {}",
    "SharedObject send: {}",
    "{} (offset {})",
    "the connection is dead: {}",
    "a message before the handshake is done, expected it after HandshakeCompleted",
    "bytes fed to a handshake that is done, expected them at the chunk reader",
    "message type 0, expected 1 or more",
    "csid {}: type {} chunk before any type 0",
    "an empty key, which would end the members, expected a name",
}


@pytest.mark.parametrize(("place", "text"), ALL_TEXTS, ids=[place for place, _ in ALL_TEXTS])
def test_texts_hold_what_was_seen_and_what_was_expected(place: str, text: str) -> None:
    if text not in PLAIN:
        assert "{}" in text, place
        assert "expected" in text, place


def test_the_scan_finds_texts() -> None:
    assert len(ALL_TEXTS) > 60


def read(data: bytes, limits: ChunkLimits | None = None) -> None:
    reader = ChunkReader(limits or ChunkLimits())
    reader.feed(data)
    while reader.next_message() is not None:
        pass


def chunk(csid: int, length: int, type_id: int, size: int = 128) -> bytes:
    return bytes((csid,)) + bytes(3) + length.to_bytes(3, "big") + bytes((type_id,)) + bytes(4 + size)


def control_message(type_id: int, payload: bytes) -> Callable[[], object]:
    return lambda: read(encode_message(Message(type_id, 0, 0, payload), 2, 128))


Row = tuple[str, Callable[[], object], str, str]
ROWS: list[Row] = [
    # What happened, the call, what its text says was seen, and what it says was expected.
    ("AMF0: reserved marker", lambda: amf0.decode(b"\x0e"), "offset 0: marker 0x0e (recordset)", "a value"),
    ("AMF0: no marker", lambda: amf0.decode(b"\x12"), "offset 0: marker 0x12", "an AMF0 value"),
    ("AMF0: ends early", lambda: amf0.decode(b"\x00\x00"), "1 are left", "a number of 8 bytes"),
    ("AMF0: reference", lambda: amf0.decode(b"\x07\x00\x05"), "reference to object 5", "one of 0"),
    ("AMF0: too deep", lambda: amf0.decode(b"\x0a\0\0\0\1" * 40 + b"\5"), "nested 33 deep", "at most 32"),
    ("AMF0: too many", lambda: amf0.decode_all(b"\5" * 10_001), "10001 values", "at most 10000 in"),
    ("AMF0: too long", lambda: amf0.decode(b"\x02\xff\xff", 0, Limits(string_bytes=9)), "65535", "at most 9"),
    ("AMF0: too large", lambda: amf0.decode(bytes(9), 0, Limits(total_bytes=8)), "9 bytes", "at most 8"),
    ("AMF3: no marker", lambda: amf3.decode(b"\x12"), "offset 0: marker 0x12", "an AMF3 value"),
    ("AMF3: string", lambda: amf3.decode(b"\x06\x04"), "reference to string 2", "one of 0"),
    ("AMF3: traits", lambda: amf3.decode(b"\x0a\x05"), "reference to traits 1", "one of 0"),
    ("AMF3: class", lambda: amf3.decode(b"\x0a\x07\x03X"), "class 'X'", "one with a registered reader"),
    ("AMF: no form", lambda: amf0.encode(object()), "a Python object", "a value that has an AMF form"),
    ("AMF: vector", lambda: amf3.encode(Vector("byte", [])), "vector of 'byte'", "int, uint, number or"),
    (
        "AMF: sealed",
        lambda: amf3.encode(TypedObject("P", {}, ("x",))),
        "'P': no value for ['x']",
        "one for each sealed member",
    ),
    ("limits", lambda: Limits(depth=0), "depth 0", "1 to 128"),
    ("chunk: first on a csid", lambda: read(b"\xc5"), "csid 5: type 3 chunk", "type 0 (offset 0)"),
    (
        "chunk: another message",
        lambda: read(chunk(6, 200, 9) + b"\x46" + chunk(6, 300, 9)[1:8]),
        "type 1 chunk (message type 9, 300 bytes)",
        "more of the message of type 9 with 128 of 200 bytes (offset 140)",
    ),
    ("chunk: message too long", lambda: read(chunk(3, 300_000, 20)), "type 20 of 300000", "at most 262144"),
    ("chunk: size 0", control_message(1, bytes(4)), "SetChunkSize to 0", "128 to 1048576"),
    ("chunk: size 1", control_message(1, b"\0\0\0\1"), "SetChunkSize to 1", "128 to 1048576"),
    ("chunk: high bit", control_message(1, b"\x80\0\1\0"), "SetChunkSize to 2147483904", "128 to 1048576"),
    ("chunk: huge", control_message(1, b"\x7f\xff\xff\xff"), "SetChunkSize to 2147483647", "128 to 1048576"),
    ("chunk: short size", control_message(1, b"\0"), "SetChunkSize of 1 bytes", "4"),
    ("chunk: short abort", control_message(2, b"\0"), "Abort of 1 bytes", "4"),
    (
        "chunk: halves",
        lambda: read(chunk(6, 9000, 9) * 1, ChunkLimits(reassembly_bytes=100)),
        "unfinished messages of 128 bytes",
        "at most 100",
    ),
    (
        "chunk: many halves",
        lambda: read(chunk(6, 900, 9) + chunk(7, 900, 9), ChunkLimits(partial_csids=1)),
        "csid 7: 2 unfinished messages",
        "at most 1",
    ),
    (
        "chunk: many csids",
        lambda: read(chunk(6, 0, 9, 0) + chunk(7, 0, 9, 0), ChunkLimits(known_csids=1)),
        "csid 7: 2 chunk streams",
        "at most 1",
    ),
    ("writer: csid", lambda: ChunkWriter().encode(Message(9, 0, 0, b""), 1), "csid 1", "2 to 65599"),
    (
        "writer: length",
        lambda: encode_message(Message(9, 0, 0, bytes(1 << 24)), 6, 128),
        "16777216",
        "16777215",
    ),
    ("S0", lambda: ClientHandshake().feed(b"\x06"), "S0: RTMP version 6 (RTMPE)", "3 (offset 0)"),
    ("C0", lambda: ServerHandshake().feed(b"\x16"), "C0: RTMP version 22 (TLS)", "3 (offset 0)"),
    ("early", lambda: Connection.server().send(control.stream_begin(1)), "before the handshake", "after"),
    ("chunk size", lambda: Connection.server().send_chunk_size(0), "chunk size 0", "1 to 2147483647"),
    (
        "ping",
        lambda: control.parse_user_control(Message(4, 0, 0, b"\0\6")),
        "event 6 of 2 bytes",
        "6 or more",
    ),
    (
        "buffer",
        lambda: control.parse_user_control(Message(4, 0, 0, b"\0\3\0\0\0\1")),
        "event 3 of 6",
        "10 or",
    ),
    ("event", lambda: control.parse_user_control(Message(4, 0, 0, b"\0")), "message of 1 bytes", "2 or more"),
    ("window", lambda: control.window_acknowledgement_size(-1), "window -1", "0 to 4294967295"),
    ("command", lambda: decode_command(Message(20, 0, 0, amf0.encode(1.0))), "float", "a name"),
    ("our command", lambda: encode_command("f", 0, object()), "a Python object", "an AMF form"),
    (
        "aggregate: what is inside",
        lambda: list(split_aggregate(Message(22, 1, 0, b"\x16" + bytes(10)))),
        "message type 22 at offset 0",
        "8, 9, 15 or 18",
    ),
    (
        "aggregate: size",
        lambda: list(split_aggregate(Message(22, 1, 0, b"\x08\0\0\x09" + bytes(10)))),
        "3 bytes left at offset 11",
        "a message of 9",
    ),
    ("SharedObject", lambda: decode_shared_object(Message(16, 0, 0, b"x")), "begins with 78", "a zero byte"),
    ("FLV tag", lambda: FlvWriter().tag(Message(20, 0, 0, b"")), "message type 20", "8, 9, 15 or 18"),
    ("address", lambda: parse_rtmp_url("http://h/a"), "'http://h/a'", "rtmp://HOST[:PORT]/APP"),
    ("application", lambda: split_app("../x"), "application '../x'", "NAME[/INSTANCE] of letters"),
]


@pytest.mark.parametrize(("name", "call", "seen", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_texts(name: str, call: Callable[[], object], seen: str, expected: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        call()
    text = str(caught.value)
    assert seen in text
    assert re.search(rf"(expected|before any).*{re.escape(expected)}", text), text
    assert len(text) < 300
    assert "\n" not in text


def test_what_a_peer_sends_does_not_fill_the_log() -> None:
    for payload in (b"\x02\xff\xfe" + b"a" * 65534 + b"\x05", amf0.encode("a" * 60_000, "x")):
        with pytest.raises(ValueError, match="command") as caught:
            decode_command(Message(20, 0, 0, payload))
        assert len(str(caught.value)) < 300
    with pytest.raises(LocalProtocolError) as local:
        control.abort("x" * 1000)  # type: ignore[arg-type]  # What a caller should not do.
    assert len(str(local.value)) < 300
