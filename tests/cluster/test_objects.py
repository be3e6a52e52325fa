"""SharedObjects through the whole cluster."""

import random

import gevent
import pytest
from headwater_client import NetConnection, SharedObject
from support.cluster import Cluster
from support.waiting import eventually

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
