"""Bad input from clients: each is closed or answered, nobody else notices, memory stays flat."""

import random
import socket
import struct

import psutil
import pytest
from headwater_client import NetConnection
from headwater_rtmp.chunk import encode_message
from headwater_rtmp.command import encode_command
from headwater_rtmp.message import Message
from support.cluster import Cluster

pytestmark = pytest.mark.cluster


class RawClient:
    """A socket that has done the handshake and says whatever the test wants."""

    def __init__(self, port: int, handshake: bool = True) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        if handshake:
            self.sock.sendall(b"\x03" + bytes(1536))
            answer = self._exactly(3073)
            self.sock.sendall(answer[1:1537])

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            assert more, "closed during the handshake"
            data += more
        return data

    def connect(self, app: str = "live") -> None:
        command = encode_command("connect", 1.0, {"app": app, "tcUrl": f"rtmp://127.0.0.1/{app}"})
        self.sock.sendall(encode_message(command, 3, 128))
        seen = b""
        while b"NetConnection.Connect.Success" not in seen:
            more = self.sock.recv(65536)
            assert more, seen
            seen += more

    def until_closed(self, within_s: float) -> bytes:
        self.sock.settimeout(within_s)
        seen = b""
        try:
            while more := self.sock.recv(65536):
                seen += more
        except ConnectionResetError:
            pass
        return seen

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
def witness(cluster: Cluster):  # type: ignore[no-untyped-def]
    """A client of the same edge that must notice nothing."""
    with NetConnection(cluster.rtmp_url(1, "live/witness")) as connection:
        shared = connection.shared_object("w")
        shared.wait_synced(5)
        yield shared
        shared["alive"] = True
        shared.flush(5)
        assert not connection.closed.is_set()


def port_of(cluster: Cluster) -> int:
    return int(cluster.rtmp_url(1, "").rsplit(":", 1)[1].split("/")[0])


BEFORE_CONNECT = {
    "garbage": b"\xde\xad\xbe\xef" * 1000,
    "wrong chunk": b"\xc3",
    "chunk size 0": encode_message(Message(1, 0, 0, struct.pack(">I", 0)), 2, 128),
    "chunk size over the limit": encode_message(Message(1, 0, 0, struct.pack(">I", 0x7FFFFFFF)), 2, 128),
    "oversized message": b"\x03\x00\x00\x00\xff\xff\xff\x14\x00\x00\x00\x00" + b"x" * 128,
    "not connect": encode_message(encode_command("createStream", 1.0, None), 3, 128),
    "broken AMF": encode_message(Message(20, 0, 0, b"\x02\x00\x07connect\x00\x3f"), 3, 128),
    "AMF bomb": encode_message(
        Message(20, 0, 0, b"\x02\x00\x07connect\x00" + bytes(8) + b"\x03\x00\x01a" * 3000), 3, 128
    ),
}


@pytest.mark.parametrize("name", sorted(BEFORE_CONNECT))
def test_before_connect_it_is_closed_with_one_line(cluster: Cluster, witness: object, name: str) -> None:
    lines = cluster.log("edge.1").count("client closed")
    client = RawClient(port_of(cluster))
    client.sock.sendall(BEFORE_CONNECT[name])
    client.until_closed(within_s=8)
    client.close()
    assert cluster.log("edge.1").count("client closed") == lines + 1


def test_a_half_handshake_is_closed_in_time(cluster: Cluster, witness: object) -> None:
    client = RawClient(port_of(cluster), handshake=False)
    client.sock.sendall(b"\x03" + bytes(100))
    client.until_closed(within_s=8)
    client.close()


def test_a_wrong_version_is_closed(cluster: Cluster, witness: object) -> None:
    client = RawClient(port_of(cluster), handshake=False)
    client.sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(2000))
    client.until_closed(within_s=8)
    client.close()


def test_an_unknown_command_is_answered(cluster: Cluster, witness: object) -> None:
    client = RawClient(port_of(cluster))
    client.connect()
    client.sock.sendall(encode_message(encode_command("noSuchMethod", 7.0, None, "x"), 3, 128))
    client.sock.settimeout(5)
    seen = b""
    while b"NetConnection.Call.Failed" not in seen:
        seen += client.sock.recv(65536)
    client.close()


def test_an_unknown_application_is_refused_by_name(cluster: Cluster, witness: object) -> None:
    client = RawClient(port_of(cluster))
    command = encode_command("connect", 1.0, {"app": "nosuchapp", "tcUrl": "rtmp://127.0.0.1/nosuchapp"})
    client.sock.sendall(encode_message(command, 3, 128))
    assert b"NetConnection.Connect.InvalidApp" in client.until_closed(within_s=8)
    client.close()


def session_bytes() -> bytes:
    """What a client sends after the handshake: connect, createStream, publish, media, an object, a call."""
    messages = [
        encode_command("connect", 1.0, {"app": "live/mutants", "tcUrl": "rtmp://127.0.0.1/live/mutants"}),
        encode_command("createStream", 2.0, None),
        encode_command("publish", 3.0, None, "mutant", "live", stream_id=1),
        Message(18, 1, 0, b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x08\x00\x00\x00\x00\x00\x00\x09"),
        Message(9, 1, 0, b"\x17\x00\x00\x00\x00config"),
        Message(9, 1, 40, b"\x17\x01\x00\x00\x00" + b"k" * 300),
        Message(8, 1, 41, b"\xaf\x01" + b"a" * 60),
        Message(19, 0, 0, b"\x00\x01s" + bytes(12) + b"\x01\x00\x00\x00\x00"),
        Message(19, 0, 0, b"\x00\x01s" + bytes(12) + b"\x03\x00\x00\x00\x0c\x00\x01x\x00" + bytes(8)),
        encode_command("anything", 4.0, None, {"a": [1.0, "b"]}),
    ]
    return b"".join(encode_message(message, 3 if message.type_id > 9 else 6, 128) for message in messages)


def test_10000_mutations_of_a_session_hurt_nobody(cluster: Cluster, witness: object) -> None:
    chance = random.Random(2026)
    original = session_bytes()
    port = port_of(cluster)
    processes = [psutil.Process(cluster.pid(name)) for name in ("edge.1", "origin.1", "origin.2")]
    sizes: list[int] = []
    for number in range(10_000):
        if number == 2000:
            sizes = [process.memory_info().rss for process in processes]
        data = bytearray(original)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(data))
            action = chance.randrange(3)
            if action == 0:
                data[at] = chance.randrange(256)
            elif action == 1:
                del data[at : at + chance.randint(1, 20)]
            else:
                data[at:at] = chance.randbytes(chance.randint(1, 20))
        sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        try:
            sock.sendall(b"\x03" + bytes(1536 + 1536) + data)
        except OSError:
            pass
        sock.close()
    for process, before in zip(processes, sizes, strict=True):
        assert process.memory_info().rss < before + 40 * 1024 * 1024
