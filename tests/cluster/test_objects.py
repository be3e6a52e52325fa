"""SharedObjects through the whole cluster."""

import random
import socket

import gevent
import pytest
from headwater_client import NetConnection, SharedObject
from headwater_rtmp.chunk import encode_message
from headwater_rtmp.command import encode_command
from headwater_rtmp.shared_object import Event, EventType, encode_shared_object
from support.cluster import Cluster
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster


def test_two_clients_on_different_edges_share_an_object(cluster: Cluster) -> None:
    with (
        NetConnection(cluster.rtmp_url(1, "live/so")) as one,
        NetConnection(cluster.rtmp_url(2, "live/so"), object_encoding=3) as two,
    ):
        here, there = one.shared_object("board"), two.shared_object("board")
        here.wait_synced(5)
        there.wait_synced(5)
        heard: list[tuple[object, ...]] = []
        there.on("say", lambda *args: heard.append(args))
        here.on("say", lambda *args: heard.append(("own", *args)))

        here["x"] = 1.0
        here["list"] = [1.0, "two", {"three": None}]
        here.flush(5)
        eventually(lambda: dict(there) == dict(here) and len(there) == 2, within_s=5)
        there["x"] = 2.0
        there.flush(5)
        eventually(lambda: here["x"] == 2.0, within_s=5)
        del here["list"]
        here.flush(5)
        eventually(lambda: "list" not in there, within_s=5)
        here.send("say", "hello", 5.0)
        eventually(lambda: sorted(map(len, heard)) == [2, 3], within_s=5)
        here.clear()
        here.flush(5)
        eventually(lambda: len(there) == 0 and len(here) == 0, within_s=5)
        eventually(lambda: here.version == there.version, within_s=5)


def test_200_clients_over_both_edges_end_with_the_same_contents_and_versions(cluster: Cluster) -> None:
    chance = random.Random(4)
    objects: list[SharedObject] = []
    connections = []
    for number in range(200):
        connection = NetConnection(cluster.rtmp_url(1 + number % 2, "live/crowd"), timeout_s=30)
        connection.connect()
        connections.append(connection)
        objects.append(connection.shared_object("crowd"))
    for shared in objects:
        shared.wait_synced(30)

    def work(shared: SharedObject, seed: int) -> None:
        mine = random.Random(seed)
        for change in range(50):
            shared[f"slot{mine.randrange(50)}"] = float(seed * 1000 + change)
            if change % 10 == 0:
                shared.flush(60)
        shared.flush(60)

    jobs = [gevent.spawn(work, shared, chance.randrange(10_000)) for shared in objects]
    gevent.joinall(jobs, raise_error=True, timeout=120)
    eventually(lambda: len({shared.version for shared in objects}) == 1, within_s=30)
    contents = dict(objects[0])
    assert len(contents) == 50
    assert all(dict(shared) == contents for shared in objects)
    for connection in connections:
        connection.close()


USES = encode_shared_object("big", 0, False, [Event(EventType.USE)] * 200)


def deaf_client(cluster: Cluster, group: str) -> socket.socket:
    """A client of the first edge, connected, on a plain socket: it reads nothing more unless the test does."""
    port = int(cluster.rtmp_url(1, "").rsplit(":", 1)[1].split("/")[0])
    sock = socket.create_connection(("127.0.0.1", port), timeout=10 * TIME_FACTOR)
    stream = sock.makefile("rb")
    sock.sendall(b"\x03" + bytes(1536))
    answer = stream.read(3073)
    url = f"rtmp://127.0.0.1/{group}"
    connect = encode_message(encode_command("connect", 1.0, {"app": group, "tcUrl": url}), 3, 128)
    sock.sendall(answer[1:1537] + connect)
    seen = b""
    while b"NetConnection.Connect.Success" not in seen:
        more = stream.read1(65536)
        assert more, seen
        seen += more
    return sock


def test_who_asks_for_much_content_harms_nobody_else(cluster: Cluster) -> None:
    group = "live/greedy"
    with (
        NetConnection(cluster.rtmp_url(2, group)) as other,
        NetConnection(cluster.rtmp_url(1, group)) as greedy,
        NetConnection(cluster.rtmp_url(1, group)) as witness,
    ):
        small = witness.shared_object("small")
        small.wait_synced(5)
        big = other.shared_object("big")
        big.wait_synced(5)
        for number in range(15):
            big[f"slot{number}"] = "b" * 60_000
            big.flush(10)

        # 200 uses in a message of about 1 KB are one, and its client goes on.
        greedy.transport.send(USES)
        same = greedy.shared_object("big")
        same.wait_synced(10)
        assert dict(same) == dict(big)
        small["step"] = 1.0
        small.flush(5)

        # One that asks for 36 MB and reads nothing is closed at the limit of its queue (8 MiB).
        closed_before = cluster.log("edge.1").count("slow client")
        deaf = deaf_client(cluster, group)
        deaf.sendall(encode_message(USES, 3, 128) * 40)
        eventually(lambda: cluster.log("edge.1").count("slow client") > closed_before, within_s=15)
        small["step"] = 2.0
        small.flush(5)
        same["mine"] = 5.0
        same.flush(5)
        eventually(lambda: big.get("mine") == 5.0, within_s=5)
        got = 0
        try:
            while more := deaf.recv(1 << 20):
                got += len(more)
        except ConnectionResetError:
            pass
        deaf.close()
        assert got < 20_000_000
        assert not any(connection.closed.is_set() for connection in (other, greedy, witness))
    assert "link down" not in cluster.log("edge.1")
