"""Redis servers that are away, full, badly set up, protected, or that went back in time; and Redis under gevent."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from headwater_store import (
    Append,
    Fenced,
    Journals,
    Loaded,
    StoreAway,
    StoreError,
    WentBack,
    open_journals,
    open_leases,
    open_records,
)
from support.redis import RedisServer, free_port
from support.waiting import TIME_FACTOR, eventually

Connect = Callable[[str], Journals]
MakeRedis = Callable[..., RedisServer]


def test_a_server_that_is_not_there_is_named_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "redis://headwater:s%2Fcret@127.0.0.1:1/0?replicas=1"
    for open_one in (open_journals, lambda url: open_records(url, "t"), lambda url: open_leases(url, "t")):
        with pytest.raises(
            StoreAway, match=r"^redis://\*\*\*@127.0.0.1:1/0: cannot be reached: .*refused"
        ) as caught:
            open_one(url)
        assert "cret" not in "".join(
            map(str, (caught.value, caught.value.__cause__, caught.value.__context__))
        )


def test_users_and_passwords(make_redis: MakeRedis, connect: Connect) -> None:
    server = make_redis(options={"requirepass": "open:se/same"})
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "limited", "on", ">p", "~*", "+@all", "-config")  # type: ignore[no-untyped-call]
        client.execute_command("ACL", "SETUSER", "reader", "on", ">p", "~*", "+@read", "+config")  # type: ignore[no-untyped-call]
    place = f"127.0.0.1:{server.port}"
    connect(f"redis://:open%3Ase%2Fsame@{place}").open("g", 1)
    connect(f"redis://default:open%3Ase%2Fsame@{place}/1").open("g", 1)
    for login, seen in (
        ("", "refuses this user"),
        (":wrongpw@", "refuses this user"),
        ("nobody:p@", "refuses this user"),
    ):
        with pytest.raises(StoreError, match=seen) as caught:
            connect(f"redis://{login}{place}")
        assert not isinstance(caught.value, StoreAway)
        assert "wrongpw" not in str(caught.value)
    with pytest.raises(
        StoreError, match=r"does not say whether it keeps an append-only file .*give aof=unchecked"
    ):
        connect(f"redis://limited:p@{place}")
    assert connect(f"redis://limited:p@{place}?aof=unchecked").open("g", 2) == Loaded(None, 0, [], 0, 1)
    with pytest.raises(
        StoreError, match=r"refuses this user: .*give USER:PASSWORD@ in the URL, and the user rights"
    ):
        connect(f"redis://reader:p@{place}").open("g", 3)


def test_a_server_that_would_not_keep_what_it_is_given_is_refused(
    make_redis: MakeRedis, connect: Connect
) -> None:
    server = make_redis(options={"appendonly": "no"})
    with pytest.raises(
        StoreError, match=r"appendonly is no, expected yes: nothing would survive .*or give aof=unchecked"
    ):
        connect(server.url)
    connect(f"{server.url}?aof=unchecked").open("g", 1)
    server.set(appendonly="yes")
    connect(server.url).open("g", 1)
    with pytest.raises(StoreError, match="appendfsync is everysec, expected always for durability=power"):
        connect(f"{server.url}?durability=power")
    server.set(appendfsync="always")
    connect(f"{server.url}?durability=power").open("g", 1)
    server.set(maxmemory_policy="allkeys-lru")
    with pytest.raises(StoreError, match="maxmemory-policy is allkeys-lru, expected noeviction"):
        connect(server.url)


def test_a_server_that_came_back_otherwise_is_looked_at_again(
    make_redis: MakeRedis, connect: Connect
) -> None:
    server = make_redis()
    journals = connect(server.url)
    journals.open("g", 1)
    server.kill()
    with pytest.raises(StoreAway, match="cannot be reached"):
        journals.append([Append("g", 1, 0, [b"1"])])
    server.start()
    server.set(appendonly="no")
    with pytest.raises(StoreAway, match="appendonly is no, expected yes"):
        journals.append([Append("g", 1, 0, [b"1"])])
    server.set(appendonly="yes")
    assert journals.append([Append("g", 1, 0, [b"1"])]) == [None]


def test_a_server_without_memory_takes_only_what_frees_some(make_redis: MakeRedis, connect: Connect) -> None:
    server = make_redis()
    journals = connect(server.url)
    journals.open("g", 1)
    assert journals.append([Append("g", 1, 0, [b"1", b"2"])]) == [None]
    server.set(maxmemory="1")
    for call in (
        lambda: journals.append([Append("g", 1, 2, [b"x" * 100] * 3000)]),
        lambda: journals.open("h", 1),
    ):
        with pytest.raises(StoreAway, match=r"used memory > 'maxmemory'.*when the server takes writes"):
            call()
    journals.snapshot("g", 1, 1, b"s")
    server.set(maxmemory="0")
    assert journals.open("g", 1) == Loaded(b"s", 1, [b"2"], 2, 1)
    assert journals.append([Append("g", 1, 2, [b"3"])]) == [None]


def test_a_disk_that_the_server_cannot_write_is_away(
    make_redis: MakeRedis, connect: Connect, tmp_path: Path
) -> None:
    blocking = tmp_path / "redis-0" / "blocked.rdb"
    (blocking / "not empty").mkdir(parents=True)
    server = make_redis(options={"save": "3600 1000000", "dbfilename": "blocked.rdb"})
    journals = connect(server.url)

    def refused() -> str:
        try:
            journals.open("g", 1)
        except StoreAway as error:
            return str(error)
        return ""

    with server.client() as client:
        client.bgsave()
        assert "MISCONF" in eventually(refused, within_s=20)
        (blocking / "not empty").rmdir()
        blocking.rmdir()
        client.bgsave()
    eventually(lambda: not refused(), within_s=20)
    assert journals.append([Append("g", 1, 0, [b"1"])]) == [None]


def test_a_replica_promoted_without_the_last_writes_is_found_out(make_redis: MakeRedis) -> None:
    master = make_redis()
    replica = make_redis(master)
    journals = open_journals(master.url)
    journals.open("g", 1)
    journals.open("h", 1)
    journals.append([Append("g", 1, 0, [b"1", b"2"]), Append("h", 1, 0, [b"1"])])
    with replica.client() as client:
        eventually(lambda: client.hget("headwater:journal:{h}", "tail") == "1", within_s=10)
    replica.cut()
    journals.append([Append("g", 1, 2, [b"3"])])
    journals.open("h", 2)
    journals.close()
    # The address is the replica's from now on, as Sentinel or a virtual address would have it.
    master.kill()
    replica.promote()
    journals = open_journals(replica.url)
    try:
        gone_back, not_open, fine = journals.append(
            [Append("g", 1, 3, [b"4"]), Append("h", 2, 1, [b"2"]), Append("g", 1, 2, [])]
        )
        assert isinstance(gone_back, WentBack)
        assert (gone_back.tail, gone_back.expected) == (2, 3)
        assert isinstance(not_open, WentBack)
        assert fine is None
        journals.snapshot("g", 1, 4, b"what I have seen")
        journals.snapshot("h", 2, 2, b"what I have seen")
        assert journals.append([Append("g", 1, 4, [b"5"])]) == [None]
        assert isinstance(journals.append([Append("h", 1, 2, [b"x"])])[0], Fenced)
        assert journals.open("h", 3) == Loaded(b"what I have seen", 2, [], 2, 2)
        # Whoever opens what nobody has in mind sees what there is.
        assert journals.open("g", 2) == Loaded(b"what I have seen", 4, [b"5"], 5, 1)
    finally:
        journals.close()


def test_what_too_few_replicas_have_is_not_acknowledged(
    make_redis: MakeRedis, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = make_redis()
    replica = make_redis(master)
    journals = connect(f"{master.url}?replicas=1")
    journals.open("g", 1)
    assert journals.append([Append("g", 1, 0, [b"1"])]) == [None]
    monkeypatch.setattr("headwater_store.redis_server.WAIT_MS", 200)
    replica.pause()
    batch = [Append("g", 1, 1, [b"2"])]
    for _ in range(2):  # The second one finds it appended, and waits for the replicas all the same.
        with pytest.raises(
            StoreAway, match="0 of 1 replicas have what was written within 200 ms; look whether they run"
        ):
            journals.append(batch)
    replica.resume()
    monkeypatch.setattr("headwater_store.redis_server.WAIT_MS", 1900)
    eventually(replica.follows, within_s=20)
    assert journals.append(batch) == [None]
    assert journals.open("g", 1).entries == [b"1", b"2"]
    monkeypatch.setattr("headwater_store.redis_server.WAIT_MS", 200)
    with pytest.raises(StoreAway, match=r"[01] of 2 replicas"):
        connect(f"{master.url}?replicas=2").open("g", 1)


def test_a_write_to_a_replica_is_away_and_the_master_is_found_again(
    make_redis: MakeRedis, connect: Connect
) -> None:
    master = make_redis()
    replica = make_redis(master)
    journals = connect(replica.url)
    with pytest.raises(StoreAway, match=r"read.only replica.*when the server takes writes"):
        journals.open("g", 1)
    replica.promote()
    assert journals.open("g", 1) == Loaded(None, 0, [], 0, 0)


def test_scripts_that_the_server_forgot_are_given_again(
    redis_url: str, lone_redis: RedisServer, connect: Connect
) -> None:
    journals = connect(redis_url)
    journals.open("g", 1)
    for tail in range(3):
        with lone_redis.client() as client:
            client.script_flush()
        assert journals.append([Append("g", 1, tail, [b"1"]), Append("g", 1, tail + 1, [b"1"])][:1]) == [None]
        with lone_redis.client() as client:
            client.script_flush()
        journals.open("g", 1)
    with lone_redis.client() as client:
        client.script_flush()
    batch = [Append("g", 1, 3, [b"2"]), Append("g", 1, 4, [b"3"])]
    assert journals.append(batch) == [None, None]
    assert journals.open("g", 1).entries == [b"1", b"1", b"1", b"2", b"3"]


def test_keys_of_others_are_left_alone_and_told(
    redis_url: str, lone_redis: RedisServer, connect: Connect
) -> None:
    journals = connect(redis_url)
    with lone_redis.client() as client:
        client.set("headwater:journal:{g}", "somebody's")
        client.set("headwater:something", "else")
        with pytest.raises(
            StoreError, match=r"WRONGTYPE.*other programs use keys that begin with headwater:"
        ) as caught:
            journals.open("g", 1)
        assert not isinstance(caught.value, StoreAway)
        assert journals.groups() == []
        journals.open("h", 1)
        journals.append([Append("h", 1, 0, [b"1", b"2"])])
        client.rpop("headwater:journal:{h}:entries")
        with pytest.raises(
            StoreError, match=r"damaged: group h has 1 entries from 0 to 2; restore the server"
        ):
            journals.open("h", 2)


def test_a_dropped_group_expires_and_one_in_use_does_not(
    redis_url: str, lone_redis: RedisServer, connect: Connect
) -> None:
    journals = connect(redis_url)
    key = "headwater:journal:{g}"
    with lone_redis.client() as client:
        for use in (
            lambda: journals.open("g", 1),
            lambda: journals.append([Append("g", 1, 0, [b"1"])]),
            lambda: journals.snapshot("g", 1, 1, b"s"),
        ):
            journals.drop("g", 1)
            assert 0 < client.ttl(key) <= 7 * 24 * 3600
            use()
            assert client.ttl(key) == -1


def test_calls_are_bounded_while_the_server_hangs(
    make_redis: MakeRedis, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater_store.redis_server.ANSWER_S", 0.3)
    server = make_redis()
    journals = connect(server.url)
    journals.open("g", 1)
    server.pause()
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(StoreAway, match=r"cannot be reached: .*[Tt]imeout|timed out"):
            journals.append([Append("g", 1, 0, [b"1"])])
        assert time.monotonic() - began < 2 * TIME_FACTOR
    server.resume()
    assert journals.append([Append("g", 1, 0, [b"1"])]) == [None]
    assert journals.open("g", 1).entries == [b"1"]


_UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import os, signal, sys, time, gevent
from gevent.threadpool import ThreadPool
from headwater_store import *
import headwater_store.redis_records, headwater_store.redis_server

headwater_store.redis_server.ANSWER_S = headwater_store.redis_records.LEASE_S = 0.5
url, pid = sys.argv[1:]
pool = ThreadPool(1)
turns, longest = 0, 0.0
def spin():
    global turns, longest
    last = time.monotonic()
    while True:
        gevent.sleep(0.002)
        now = time.monotonic()
        turns, longest, last = turns + 1, max(longest, now - last), now
spinning = gevent.spawn(spin)
journals = open_journals(url)  # As a service may: in the main thread, and used in the other.
records = open_records(url, "table")
assert pool.spawn(journals.open, "g", 1).get() == Loaded(None, 0, [], 0, 0)
tail = 0
began = time.monotonic()
while time.monotonic() - began < 0.5 or tail < 300:
    assert pool.spawn(journals.append, [Append("g", 1, tail, [b"x" * 200] * 3)]).get() == [None]
    tail += 3
pool.spawn(records.write, {"a": b"1"}).get()
before = turns
os.kill(int(pid), signal.SIGSTOP)
def refused():  # gevent prints what a task of its pool raises.
    try:
        journals.append([Append("g", 1, tail, [b"x"])])
    except StoreAway as error:
        return str(error)
print(pool.spawn(refused).get())
os.kill(int(pid), signal.SIGCONT)
assert turns - before > 10, turns - before
assert pool.spawn(journals.append, [Append("g", 1, tail, [b"x"])]).get() == [None]
assert len(pool.spawn(journals.open, "g", 2).get().entries) == tail + 1
gevent.sleep(1.0)  # The lease of the records is kept meanwhile.
pool.spawn(records.write, {"b": b"1"}).get()
pool.spawn(journals.close).get()
pool.spawn(records.close).get()
print("turns", turns, "longest", round(longest, 3), "entries", tail + 1)
"""


def test_a_native_thread_under_gevent_does_not_block_the_loop(make_redis: MakeRedis) -> None:
    server = make_redis()
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", _UNDER_GEVENT, server.url, str(server.pid)],
        capture_output=True,
        text=True,
        timeout=60 * TIME_FACTOR,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert "cannot be reached" in ended.stdout
    with server.client() as client:
        assert client.hgetall("headwater:records:{table}") == {"a": "1", "b": "1"}
        assert not client.exists("headwater:records:{table}:lease")


def test_tls(make_redis: MakeRedis, tool: Callable[[str], str], tmp_path: Path, connect: Connect) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([tool("openssl"), *made, *names, *files], check=True, capture_output=True)
    server = make_redis(
        options={
            "tls-port": "0",
            "tls-cert-file": str(certificate),
            "tls-key-file": str(key),
            "tls-auth-clients": "no",
        }
    )
    port = free_port()
    server.set(tls_port=str(port))
    url = f"rediss://localhost:{port}/0?ca={certificate}"
    journals = connect(url)
    journals.open("g", 1)
    assert journals.append([Append("g", 1, 0, [b"1"])]) == [None]
    with pytest.raises(StoreAway, match=r"^rediss://localhost:\d+/0: cannot be reached: .*certificate"):
        connect(url.partition("?")[0])
