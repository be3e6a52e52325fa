"""Bad input from clients: each is closed or answered, nobody else notices, memory stays flat."""

import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest
from gevent import socket as gevent_socket
from gevent.pool import Pool
from headwater_client import NetConnection, SharedObject
from headwater_rtmp.chunk import encode_message
from headwater_rtmp.command import encode_command
from headwater_rtmp.message import Message
from support.cluster import Cluster
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster


class RawClient:
    """A socket that has done the handshake and says whatever the test wants."""

    def __init__(self, port: int, handshake: bool = True) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10 * TIME_FACTOR)
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
        self.sock.settimeout(within_s * TIME_FACTOR)
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
def witness(cluster: Cluster) -> Iterator[SharedObject]:
    """A client of the same edge that must notice nothing."""
    with NetConnection(cluster.rtmp_url(1, "live/witness")) as connection:
        shared = connection.shared_object("w")
        shared.wait_synced(5 * TIME_FACTOR)
        yield shared
        shared["alive"] = True
        shared.flush(5 * TIME_FACTOR)
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
    client.sock.settimeout(5 * TIME_FACTOR)
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


def session_messages() -> list[Message]:
    """What a client sends after the handshake: connect, createStream, publish, media, an object, a call."""
    return [
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


def in_chunks(messages: list[Message]) -> bytes:
    return b"".join(encode_message(message, 3 if message.type_id > 9 else 6, 128) for message in messages)


LAST_ANSWER = b"anything"
"""In the answer to the last call of a session: by then the origin has had all of it."""
SUCCESS = b"NetConnection.Connect.Success"
NODES = ("edge.1", "edge.2", "origin.1", "origin.2")


def talk(port: int, data: bytes, until: bytes, within_s: float) -> bytes:
    """One connection: the handshake and `data` at once, then read until `until` was seen, the edge closes, or time is up."""
    seen = b""
    deadline = time.monotonic() + within_s * TIME_FACTOR
    with gevent_socket.create_connection(("127.0.0.1", port), timeout=10 * TIME_FACTOR) as sock:
        try:
            sock.sendall(b"\x03" + bytes(1536 + 1536) + data)
            while until not in seen and (left_s := deadline - time.monotonic()) > 0:
                sock.settimeout(left_s)
                more = sock.recv(65536)
                if not more:
                    break
                seen += more
        except OSError:
            pass
    return seen


def counted(cluster: Cluster, name: str) -> int:
    """A counter of the origins, of both together."""
    return sum(cluster.health(origin)["counters"][name] for origin in ("origin.1", "origin.2"))


def no_internal_errors(cluster: Cluster) -> bool:
    return all(cluster.health(name)["counters"]["internal_errors"] == 0 for name in NODES)


def lines_by_session(cluster: Cluster) -> Counter[str]:
    """How many warnings and errors edge 1 and the origins have logged about each session of edge 1."""
    boot = cluster.nodes()["edge-1"][2]
    lines = Counter(re.findall(r" (?:warning|error) .* session=(\d+) ", cluster.log("edge.1")))
    for origin in ("origin.1", "origin.2"):
        lines.update(re.findall(rf" (?:warning|error) .* session={boot}-(\d+) ", cluster.log(origin)))
    return lines


def test_a_session_of_the_kind_that_is_mutated_reaches_the_origin_whole(
    cluster: Cluster, witness: object
) -> None:
    before = counted(cluster, "messages_in")
    port, data = port_of(cluster), in_chunks(session_messages())
    answers = Pool(8).map(lambda _: talk(port, data, LAST_ANSWER, within_s=20), range(300))
    assert all(LAST_ANSWER in answer for answer in answers)
    # Ten messages; the first, `connect`, travels as Attach.
    assert counted(cluster, "messages_in") - before == 300 * 9


def mutated(chance: random.Random) -> bytes:
    """A session with mistakes anywhere in its bytes, which the edge finds, or inside its messages, which then travel."""
    messages = session_messages()
    if chance.random() < 0.5:
        return with_mistakes(chance, in_chunks(messages))
    for message in chance.sample(messages, chance.randint(1, 3)):
        message.payload = with_mistakes(chance, message.payload)
    return in_chunks(messages)


def with_mistakes(chance: random.Random, original: bytes) -> bytes:
    data = bytearray(original)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(data) + 1)
        action = chance.randrange(3)
        if action == 0:
            data[at : at + 1] = chance.randbytes(1)
        elif action == 1:
            del data[at : at + chance.randint(1, 20)]
        else:
            data[at:at] = chance.randbytes(chance.randint(1, 20))
    return bytes(data)


def test_10000_mutations_of_a_session_hurt_nobody(cluster: Cluster, witness: object) -> None:
    chance = random.Random(2026)
    port = port_of(cluster)
    processes = {name: psutil.Process(cluster.pid(name)) for name in NODES}
    messages = counted(cluster, "messages_in")

    def run(count: int) -> int:
        """Mutants, several at a time; returns how many were accepted by the application."""
        mutants = (mutated(chance) for _ in range(count))
        # Few wait for more bytes, which do not come; most are accepted or closed in a few ms.
        answers = Pool(16).imap_unordered(lambda data: talk(port, data, SUCCESS, within_s=2), mutants)
        return sum(SUCCESS in answer for answer in answers)

    def sizes() -> dict[str, int]:
        eventually(lambda: cluster.health("edge.1")["closing"] == 0, within_s=10)
        return {name: process.memory_info().rss for name, process in processes.items()}

    accepted = run(4_000)
    before = sizes()
    accepted += run(6_000)
    after = sizes()
    # They went deep: many connect, and what follows is the origins' to judge.
    assert accepted > 3_000
    assert counted(cluster, "messages_in") - messages > 20_000
    assert no_internal_errors(cluster)
    assert max(lines_by_session(cluster).values()) == 1
    # By 4,000 the pools of the allocators and the interpreter's caches have grown to what this load needs. A leak of 2 KiB
    # a connection, which is what the smallest object graph of a session takes, would be 12 MiB in the 6,000 behind them.
    for name, size in after.items():
        assert size - before[name] < 10 * 1024 * 1024, name
