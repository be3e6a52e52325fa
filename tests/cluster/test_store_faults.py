"""What breaks under clients that change things all the time: the store, its replica, its disk; an origin that stops, hangs,
dies; the registry, away or with an old table. Nothing that was acknowledged is lost, and nothing happens twice."""

import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from typing import Any

import gevent
import pytest
from headwater_client import CallFailed, ConnectError, NetConnection, NetStream, SharedObjectError
from support.cluster import Cluster
from support.redis import RedisServer, sentinel_of
from support.tally import Counter, numbers, settled
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster
TALLY = "--app tally=tests.support.tally_app:Tally"
PATIENCE_S = 2.0
MakeCluster = Callable[..., Cluster]
MakeRedis = Callable[..., RedisServer]


def connected(url: str, *args: object, within_s: float = 20.0) -> NetConnection:
    """A connection, tried for until it is accepted."""

    def attempt() -> NetConnection | None:
        connection = NetConnection(url, *args, timeout_s=10 * TIME_FACTOR)
        try:
            connection.connect()
        except ConnectError:
            return None
        return connection

    found: NetConnection = eventually(attempt, within_s, f"connected to {url}")
    return found


def owner(cluster: Cluster, group: str) -> tuple[str, int]:
    """(process name of the origin, epoch); ("", 0) while nobody has it."""
    for row in cluster.cli("headwater-registry", "groups", "--json"):
        if row["group"] == group:
            return row["origin"].replace("-", "."), row["epoch"]
    return "", 0


def lines(cluster: Cluster, process: str, text: str) -> list[str]:
    """Lines of a log that hold a text."""
    return [line for line in cluster.log(process).splitlines() if text in line]


class Show:
    """A stream that is published, as long as it is open."""

    def __init__(self, url: str) -> None:
        self.connection = connected(url, "show", True)
        self._stream: NetStream = self.connection.create_stream()
        self._stream.publish("show")
        self._job = gevent.spawn(self._send)

    def _send(self) -> None:
        for number in count():
            self._stream.send_video(b"\x17\x01\x00\x00\x00" + number.to_bytes(4, "big"), number * 20)
            gevent.sleep(0.02)

    def close(self) -> None:
        self._job.kill()
        self.connection.close()


def frames(stream: NetStream, number: int) -> int:
    """So many messages of a stream that is played; how many there are."""
    return len(list(islice(stream.messages(timeout_s=10 * TIME_FACTOR), number)))


# The store is away


def test_a_store_that_hangs_or_dies_delays_changes_and_nothing_else(
    make_cluster: MakeCluster, make_redis: MakeRedis
) -> None:
    redis = make_redis()
    cluster = make_cluster(
        None,
        {
            "origin": f"{TALLY} --store {redis.url} --store-patience-s {PATIENCE_S * TIME_FACTOR}",
            "registry": f"--store {redis.url}",
        },
    )
    one, two = cluster.rtmp_url(1, "tally/load"), cluster.rtmp_url(2, "tally/load")
    counters = [Counter(one, "ann"), Counter(one, "bob"), Counter(two, "cas")]
    show = Show(one)
    viewer, reader = connected(two, "viewer", True), connected(two, "reader", True)
    board = reader.shared_object("board", persistent=True)
    # Where nobody changes anything, everything that changes nothing goes on.
    quiet = [connected(cluster.rtmp_url(2, "tally/quiet"), name, True) for name in ("dan", "eve")]
    quiet[0].shared_object("board", persistent=True)["x"] = 1.0
    quiet[0].shared_object("board", persistent=True).flush()
    origin, epoch = owner(cluster, "tally/load")
    try:
        for counter in counters:
            counter.goes_on()
        played = viewer.create_stream()
        played.play("show")
        assert frames(played, 3) == 3

        # It hangs for a while: no longer than changes may wait.
        redis.pause()
        began = time.monotonic()
        before = [counter.counted for counter in counters]
        assert frames(played, 10) == 10
        another = viewer.create_stream()
        another.play("show")  # Begins, and is answered.
        assert frames(another, 3) == 3
        assert board["ann"] >= 1  # Committed before; nobody waits for what one has.
        joined = quiet[1].shared_object("board", persistent=True)
        joined.wait_synced()
        assert dict(joined) == {"x": 1.0}
        assert quiet[1].create_stream()
        assert time.monotonic() - began < PATIENCE_S * TIME_FACTOR
        assert all(counter.counted <= was + 1 for counter, was in zip(counters, before, strict=True)), (
            "acknowledged without a store"
        )
        redis.resume()
        for counter in counters:
            counter.goes_on()
        assert all(not counter.refusals for counter in counters)

        # It hangs for longer: changes are refused, what waits is not.
        redis.pause()
        eventually(lambda: lines(cluster, origin, "changes are refused"), within_s=20)
        board["reader"] = 1.0
        with pytest.raises(SharedObjectError, match=r"SharedObject\.StoreUnavailable"):
            board.flush()
        with pytest.raises(CallFailed, match="the store cannot be reached; nothing was changed") as caught:
            viewer.call("count", 1.0)
        assert caught.value.code == "NetConnection.Call.Failed"
        assert frames(played, 10) == 10
        redis.resume()
        for counter in counters:
            counter.goes_on()
        assert "reader" not in board

        # It is killed, and started again with its append-only file.
        for _ in range(2):
            known = len(lines(cluster, origin, "store away, trying on"))
            redis.kill()
            eventually(lambda n=known: len(lines(cluster, origin, "store away, trying on")) > n, within_s=20)  # type: ignore[misc]
            assert frames(played, 10) == 10
            redis.start()
            for counter in counters:
                counter.goes_on()
        settled(counters)
        assert owner(cluster, "tally/load") == (origin, epoch)
        assert len(lines(cluster, origin, "changes are refused")) == 1
        away = lines(cluster, origin, "store away, trying on")
        assert len(away) == len(lines(cluster, origin, "store back"))
    finally:
        redis.resume()
        show.close()
        for counter in counters:
            counter.close()
        for connection in (viewer, reader, *quiet):
            connection.close()


def sentinel_for(make_redis: MakeRedis, master: RedisServer) -> str:
    """A Sentinel that knows the master's replica, and the URL."""
    sentinel = make_redis(sentinel=sentinel_of(master, "store"))
    with sentinel.client() as client:
        eventually(lambda: client.sentinel_slaves("store"), within_s=20)
    return f"redis+sentinel://127.0.0.1:{sentinel.port}/store"


def later(counters: list[Counter], before: list[int]) -> bool:
    """Whether somebody has got more than the one answer that was on its way."""
    return any(counter.counted > was + 1 for counter, was in zip(counters, before, strict=True))


def role(server: RedisServer) -> str:
    with server.client() as client:
        return str(client.info("replication")["role"])


def test_a_fail_over_of_the_store_loses_nothing(make_cluster: MakeCluster, make_redis: MakeRedis) -> None:
    master = make_redis()
    replica = make_redis(master)
    url = sentinel_for(make_redis, master)
    cluster = make_cluster(
        {"origin": 1, "edge": 1},
        {"origin": f"{TALLY} --store {url}?replicas=1 --store-patience-s 60", "registry": f"--store {url}"},
    )
    counters = [Counter(cluster.rtmp_url(1, "tally/load"), name, 60) for name in ("ann", "bob")]
    try:
        for counter in counters:
            counter.goes_on()
        master.kill()
        before = [counter.counted for counter in counters]
        eventually(lambda: role(replica) == "master", within_s=30)
        # Alone it commits nothing: it needs a replica of its own.
        assert not later(counters, before)
        make_redis(replica)
        for counter in counters:
            counter.goes_on(within_s=40)
        settled(counters)
        assert lines(cluster, "origin.1", "went back in time") == []
        assert all(not counter.refusals for counter in counters)
    finally:
        for counter in counters:
            counter.close()


def test_what_a_promoted_replica_lacks_is_written_again(
    make_cluster: MakeCluster, make_redis: MakeRedis
) -> None:
    master = make_redis()
    replica = make_redis(master)
    # By hand where Sentinel would do it: it would connect the replica again before the master is dead.
    url = sentinel_for(make_redis, master)
    cluster = make_cluster(
        {"origin": 2, "edge": 1},
        {"origin": f"{TALLY} --store {url} --store-patience-s 60", "registry": f"--store {url}"},
    )
    room = cluster.rtmp_url(1, "tally/load")
    counters = [Counter(room, name, 60) for name in ("ann", "bob")]
    origin, _ = owner(cluster, "tally/load")
    try:
        for counter in counters:
            counter.goes_on()
        replica.cut()
        for counter in counters:
            counter.goes_on(by=3)
        master.kill()
        eventually(lambda: role(replica) == "master", within_s=30)
        for counter in counters:
            counter.goes_on(within_s=40)
        settled(counters)
        (line,) = lines(cluster, origin, "the store went back in time")
        assert "group=tally/load" in line
        assert re.search(r'entries_lost="?\d+ to \d+', line), line
        # What was lost is in the store again: the next origin has it.
        cluster.kill(origin)
        again = connected(room, "eve")
        totals = dict(again.call("totals"))
        board = again.shared_object("board", persistent=True)
        board.wait_synced()
        for counter in counters:
            assert totals[counter.name] == counter.counted
            assert board[counter.name] == counter.written
        again.close()
    finally:
        for counter in counters:
            counter.close()


def test_a_full_disk_refuses_changes_until_there_is_room(make_cluster: MakeCluster, small_disk: Path) -> None:
    cluster = make_cluster(
        {"edge": 1}, {"origin": f"{TALLY} --store sqlite:{small_disk}/store --store-patience-s 0.5"}
    )
    room = cluster.rtmp_url(1, "tally/load")
    counter, other = Counter(room, "ann"), connected(room, "bob", True)
    board = other.shared_object("board", persistent=True)
    board.wait_synced()
    origin, _ = owner(cluster, "tally/load")
    try:
        counter.goes_on()
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass  # The disk is full.
        eventually(lambda: lines(cluster, origin, "changes are refused"), within_s=20)
        board["bob"] = 1.0
        with pytest.raises(SharedObjectError, match=r"SharedObject\.StoreUnavailable"):
            board.flush()
        with pytest.raises(CallFailed, match=r"NetConnection\.Call\.Failed: the store cannot be reached"):
            other.call("count", 1.0)
        ballast.unlink()
        counter.goes_on()
        settled([counter])
        (line,) = lines(cluster, origin, "store away, trying on")
        assert "journal-" in line
        assert "the disk is full; make room" in line
        cluster.kill(origin)
        again = connected(room, "eve")
        assert dict(again.call("totals"))["ann"] == counter.counted
        again.close()
    finally:
        counter.close()
        other.close()


# An origin


def test_an_origin_that_hung_while_its_group_was_given_away_changes_nothing_more(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster({"edge": 2}, {"origin": TALLY})
    counters = [
        Counter(cluster.rtmp_url(edge, "tally/load"), name) for edge, name in ((1, "ann"), (2, "bob"))
    ]
    zombie, epoch = owner(cluster, "tally/load")
    try:
        for counter in counters:
            counter.goes_on()
        cluster.hang(zombie)
        # No client has to do anything.
        for counter in counters:
            counter.goes_on()
        successor, later = owner(cluster, "tally/load")
        assert successor != zombie
        assert later > epoch
        cluster.kill(zombie, signal.SIGCONT)
        # The store or the registry tells it first (see tests/cluster/test_zombie.py).
        told = ("group lost to another origin group=tally/load", "group taken over group=tally/load")
        eventually(lambda: any(lines(cluster, zombie, line) for line in told), within_s=20)
        for counter in counters:
            counter.goes_on()
        settled(counters)
        assert sum(len(lines(cluster, zombie, line)) for line in told) == 1
        cluster.wait_registered(zombie)
        eventually(lambda: cluster.health(zombie)["groups"] == {}, within_s=20)
        # It serves again: of a few new groups it gets some.
        rooms = [connected(cluster.rtmp_url(1, f"tally/new{number}"), "eve") for number in range(4)]
        assert zombie in {owner(cluster, f"tally/new{number}")[0] for number in range(4)}
        assert [room.call("count", 1.0) for room in rooms] == [1] * 4
        for room in rooms:
            room.close()
    finally:
        cluster.kill(zombie, signal.SIGCONT)
        for counter in counters:
            counter.close()


def test_the_successor_of_a_dead_origin_has_everything_and_says_good_bye_once(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(
        {"edge": 2},
        {
            "origin": f"{TALLY} --resume-grace-s 3",
            "balancer": "--pin tally/*=origin-1 --pin chat/*=origin-1",
        },
    )
    urls = [cluster.rtmp_url(number, "tally/load") for number in (1, 2)]
    counters = [Counter(urls[number % 2], f"client{number}") for number in range(4)]
    chatting = [
        connected(cluster.rtmp_url(edge, "chat/load"), nick) for edge, nick in ((1, "ann"), (2, "bob"))
    ]
    ann, bob = chatting
    try:
        ann.call("say", "first")
        for counter in counters:
            counter.goes_on()
        assert {owner(cluster, group)[0] for group in ("tally/load", "chat/load")} == {"origin.1"}
        goodbyes: list[str] = []
        bob.on("left", goodbyes.append)
        # Edge 1 dies with it: its clients cannot come back, and those of edge 2 notice nothing but that.
        cluster.kill("origin.1")
        cluster.kill("edge.1")
        staying = [counter for counter in counters if counter.connection.url == urls[1]]
        gone = [counter for counter in counters if counter not in staying]
        for counter in staying:
            counter.goes_on()
        assert owner(cluster, "tally/load")[0] == "origin.2"
        names = {f"left {counter.name}" for counter in gone}
        eventually(lambda: names <= set(staying[0].totals()), within_s=20)
        eventually(lambda: goodbyes == ["ann"], within_s=20)
        assert bob.call("say", "second") == 2
        for counter in staying:
            counter.stop()
        left = staying[0].totals()
        assert {name: left.get(name) for name in names} == dict.fromkeys(names, 1)
        for counter in staying:
            assert left[counter.name] == counter.counted
            heard = numbers(staying[0], counter.name)
            assert heard == list(range(heard[0], counter.counted + 1))
        for counter in gone:
            # The last call may have been carried out without an answer.
            assert left[counter.name] in (counter.counted, counter.counted + 1)
        assert left["sum"] == sum(left[counter.name] for counter in counters)
        users, talk = bob.shared_object("users"), bob.shared_object("log", persistent=True)
        for shared in (users, talk):
            shared.wait_synced()
        assert set(users) == {"bob"}
        assert [talk[number]["text"] for number in ("1", "2")] == ["first", "second"]
        assert goodbyes == ["ann"]
        assert lines(cluster, "edge.2", "link down origin=origin-1")
        assert lines(cluster, "registry.1", "node gone: nobody listens there any more node=origin-1")
    finally:
        for counter in counters:
            counter.close()
        for connection in chatting:
            connection.close()


def test_an_orderly_stop_of_an_origin_is_noticed_by_nobody(make_cluster: MakeCluster) -> None:
    cluster = make_cluster({"edge": 2}, {"origin": TALLY})
    rooms = [f"tally/room{number}" for number in range(16)]
    counters = [Counter(cluster.rtmp_url(edge, room), f"client{edge}") for room in rooms for edge in (1, 2)]
    try:
        for counter in counters:
            counter.goes_on(by=2)
        first, _ = owner(cluster, rooms[0])
        groups = cluster.cli("headwater-registry", "groups", "--json")
        assert sum(row["origin"].replace("-", ".") == first for row in groups) >= 4
        began = time.monotonic()
        cluster.kill(first, signal.SIGTERM)
        assert cluster.wait_ended(first) == 0
        assert time.monotonic() - began < 4 * TIME_FACTOR
        assert lines(cluster, first, "not drained in time") == []
        for counter in counters:
            counter.goes_on(by=2)
        groups = cluster.cli("headwater-registry", "groups", "--json")
        assert {row["origin"].replace("-", ".") for row in groups} == {"origin.1", "origin.2"} - {first}
        for at in range(0, len(counters), 2):
            settled(counters[at : at + 2])
    finally:
        for counter in counters:
            counter.close()


# The registry


def test_a_registry_from_an_old_backup_is_set_right(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster({"edge": 2}, {"origin": TALLY})
    file = cluster.folder / "data" / "registry.sqlite"
    counters: list[Counter] = []
    try:
        counters.append(Counter(cluster.rtmp_url(1, "tally/old"), "ann"))
        cluster.kill("registry.1", signal.SIGTERM)
        assert cluster.wait_ended("registry.1") == 0
        shutil.copy(file, tmp_path / "backup")
        cluster.start_process("registry.1")
        cluster.wait_registered("registry.1", "origin.1", "origin.2", "edge.1", "edge.2")
        counters += [Counter(cluster.rtmp_url(1, f"tally/new{number}"), "ann") for number in range(4)]
        for counter in counters:
            counter.goes_on()
        # Without registry and balancer only what is new waits, and then is refused.
        cluster.kill("registry.1")
        cluster.kill("balancer.1")
        with pytest.raises(ConnectError, match=r"NetConnection\.Connect\.Failed"):
            NetConnection(cluster.rtmp_url(1, "tally/none"), "eve", timeout_s=20 * TIME_FACTOR).connect()
        assert lines(cluster, "edge.1", "group has no origin group=tally/none")
        for process in ("origin.1", "edge.1"):
            eventually(lambda p=process: lines(cluster, p, "registry lost, looking for one"), within_s=20)  # type: ignore[misc]
        for counter in counters:
            counter.goes_on()
        cluster.start_process("balancer.1")
        for ending in ("-wal", "-shm"):
            Path(f"{file}{ending}").unlink(missing_ok=True)
        shutil.copy(tmp_path / "backup", file)
        cluster.start_process("registry.1")
        # The table knows them all from before: who has not come to it yet still goes by what the lost one said.
        for name in ("origin-1", "origin-2", "edge-1", "edge-2"):
            process, said = name.replace("-", "."), f" {name} registered "
            eventually(lambda p=process, s=said: len(lines(cluster, p, s)) == 3, within_s=20)  # type: ignore[misc]
        # A second client of each, first of those whose epoch the table is furthest behind.
        counters.reverse()
        began = time.monotonic()
        others = [
            connected(cluster.rtmp_url(2, counter.connection.url.split("/", 3)[3]), "bob")
            for counter in counters
        ]
        assert time.monotonic() - began < 15 * TIME_FACTOR
        for other, counter in zip(others, counters, strict=True):
            totals: dict[str, Any] = dict(other.call("totals"))
            assert totals["ann"] >= counter.counted - 1
            other.close()
        assert lines(cluster, "registry.1", "the table is behind the journals")
    finally:
        for counter in counters:
            counter.close()


# Backups, as docs/operations.md says


def start_all(cluster: Cluster) -> None:
    for name in cluster.names:
        cluster.start_process(name)


def test_a_backup_of_sqlite_files_is_taken_while_everything_runs_and_restored(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster({"edge": 1, "origin": 1}, {"origin": TALLY})
    data = cluster.folder / "data"
    counter = Counter(cluster.rtmp_url(1, "tally/load"), "ann")
    try:
        counter.goes_on()
        at_least = counter.counted
        for file in sorted(data.glob("journal-*.sqlite")):
            # As the sqlite3 program's `.backup` does.
            with closing(sqlite3.connect(file)) as live, closing(sqlite3.connect(tmp_path / file.name)) as to:
                live.backup(to)
        at_most = counter.counted + 1
        # The registry's own file cannot be read by others while it runs, and is not needed.
        with (
            closing(sqlite3.connect(data / "registry.sqlite", timeout=0)) as registry,
            pytest.raises(sqlite3.OperationalError, match="database is locked"),
        ):
            registry.execute("SELECT name FROM sqlite_master")
        counter.goes_on()
    finally:
        counter.close()
    assert set(cluster.stop().values()) == {0}
    for file in data.iterdir():
        file.unlink()
    for file in tmp_path.glob("journal-*.sqlite"):
        shutil.copy(file, data)
    start_all(cluster)
    again = connected(cluster.rtmp_url(1, "tally/load"), "eve", within_s=30)
    assert at_least <= dict(again.call("totals"))["ann"] <= at_most
    again.close()


def test_a_dump_of_redis_is_taken_while_everything_runs_and_restored(
    make_cluster: MakeCluster, make_redis: MakeRedis
) -> None:
    redis = make_redis()
    store = f"--store {redis.url}"
    cluster = make_cluster({"edge": 1, "origin": 1}, {"origin": f"{TALLY} {store}", "registry": store})
    counter = Counter(cluster.rtmp_url(1, "tally/load"), "ann")
    try:
        counter.goes_on()
        at_least = counter.counted
        with redis.client() as client:
            client.bgsave()
            eventually(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], within_s=20)
        at_most = counter.counted + 1
        backup = (redis.folder / "dump.rdb").read_bytes()
        counter.goes_on()
    finally:
        counter.close()
    assert set(cluster.stop().values()) == {0}
    redis.kill()
    shutil.rmtree(redis.folder / "appendonlydir")
    (redis.folder / "dump.rdb").write_bytes(backup)
    # With `appendonly yes` it would begin empty: a dump is read only without; then the append-only file is made from it.
    config = redis.folder / "redis.conf"
    text = config.read_text()
    config.write_text(text.replace("appendonly yes", "appendonly no"))
    redis.start()
    redis.set(appendonly="yes")
    with redis.client() as client:
        eventually(
            lambda: (
                not any(
                    client.info("persistence")[f"aof_rewrite_{state}"]
                    for state in ("in_progress", "scheduled")
                )
            ),
            within_s=20,
        )
    redis.kill()
    config.write_text(text)
    redis.start()
    start_all(cluster)
    again = connected(cluster.rtmp_url(1, "tally/load"), "eve", within_s=30)
    assert at_least <= dict(again.call("totals"))["ann"] <= at_most
    again.close()
