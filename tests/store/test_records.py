"""What every engine's records do; what only SQLite's do is in tests/unit/test_store_records.py."""

import math
import time
from collections.abc import Callable, Iterator

import pytest
from headwater_store import Records, StoreAway, StoreError, open_records
from store.conftest import ENGINES, LASTING
from support.redis import RedisServer
from support.waiting import eventually

Open = Callable[[], Records]
every_engine = pytest.mark.parametrize("url", ENGINES, indirect=True)


@pytest.fixture
def open_one(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    monkeypatch.setattr("headwater_store.sqlite.BUSY_S", 0.05)
    monkeypatch.setattr("headwater_store.redis_records.LEASE_S", 0.3)
    monkeypatch.setattr("headwater_store.engines.TAKE_S", 0.6)
    opened: list[Records] = []

    def open_again() -> Records:
        opened.append(open_records(url, "table"))
        return opened[-1]

    yield open_again
    for records in opened:
        records.close()


@every_engine
def test_records_are_put_and_deleted_together_and_load_in_order(open_one: Open) -> None:
    records = open_one()
    assert records.load() == {}
    records.write({"b/2": b"two", "b/1": b"", "a/1": b"x", "b": b"y", "b/\U0001f30a": b"\x00\xff"})
    assert list(records.load("b/").items()) == [("b/1", b""), ("b/2", b"two"), ("b/\U0001f30a", b"\x00\xff")]
    records.write({"b": b"z"}, ["a/1", "not there", "b/2"])
    records.write({}, [])
    expected = {"b": b"z", "b/1": b"", "b/\U0001f30a": b"\x00\xff"}
    assert list(records.load().items()) == list(expected.items())
    many = {f"many/{number:05}": b"%d" % number for number in range(20_000)}
    records.write(many)
    assert records.load("many/") == many
    records.write({}, list(many))
    assert records.load() == expected


@every_engine
def test_one_process_at_a_time_holds_them(open_one: Open) -> None:
    first = open_one()
    first.write({"a": b"1"})
    with pytest.raises(
        StoreError, match=r"held already|another process (has it open|holds its table records); stop that one"
    ):
        open_one()
    first.write({"b": b"2"})
    first.close()
    first.close()
    second = open_one()
    second.write({"c": b"3"}, ["a"])
    second.close()


@pytest.mark.parametrize("url", LASTING, indirect=True)
def test_records_last(open_one: Open) -> None:
    first = open_one()
    first.write({"a": b"1", "b": b"2"})
    first.write({"a": b"3"}, ["b"])
    first.close()
    with pytest.raises(StoreError, match="closed"):
        first.load()
    with pytest.raises(StoreError, match="closed"):
        first.write({})
    assert open_one().load() == {"a": b"3"}


@pytest.mark.parametrize("url", ["redis"], indirect=True)
def test_an_idle_holder_keeps_them_and_one_that_hung_may_lose_them(
    open_one: Open, url: str, lone_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_one()
    first.write({"a": b"1"})
    # The second one waits for longer than a lease.
    with pytest.raises(StoreError, match="another process holds its table records"):
        open_one()
    # Its lease is gone, but nobody took it: as after the server was away.
    with lone_redis.client() as client:
        client.delete("headwater:records:{table}:lease")
    first.write({"a": b"2"})
    with lone_redis.client() as client:
        client.set("headwater:records:{table}:holder", "another")
        client.delete("headwater:records:{table}:lease")
    with pytest.raises(
        StoreError, match="another process has taken its table records; stop that one, or this one"
    ):
        first.write({"a": b"3"})
    assert first.held_until < time.monotonic()
    assert not first.take() or first.load() == {"a": b"2"}
    first.close()
    second = open_one()
    assert second.load() == {"a": b"2"}


@every_engine
def test_who_holds_them_is_sure_of_it_and_takes_them_twice(open_one: Open) -> None:
    records = open_one()
    began = records.held_until
    assert began > time.monotonic()
    records.write({"a": b"1"})
    assert records.take()
    assert records.load() == {"a": b"1"}
    eventually(lambda: records.held_until > began or began == math.inf, within_s=5)


def test_the_other_one_has_them_when_their_holder_is_gone_and_is_refused_meanwhile(
    make_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater_store.redis_records.LEASE_S", 0.3)
    url = make_redis().url
    first, second = (open_records(url, "table", take=False) for _ in range(2))
    assert second.held_until < time.monotonic()
    assert first.take()
    first.write({"a": b"1"})
    assert not second.take()
    with pytest.raises(StoreError, match="another process has taken its table records"):
        second.write({"a": b"2"})
    first.close()
    assert second.take()
    second.write({"b": b"2"})
    assert second.load() == {"a": b"1", "b": b"2"}
    assert second.held_until > time.monotonic()
    second.close()


def test_one_that_hung_finds_out_that_it_has_lost_them_and_may_have_them_later(
    make_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater_store.redis_records.LEASE_S", 0.3)
    server = make_redis()
    first, second = (open_records(server.url, "table", take=False) for _ in range(2))
    assert first.take()
    first.write({"a": b"1"})
    with monkeypatch.context() as patch, server.client() as client:
        # It hangs: it renews nothing.
        patch.setattr(first, "_write", lambda *args: None)
        eventually(lambda: client.get("headwater:records:{table}:lease") is None, within_s=5)
        assert first.held_until < time.monotonic()
        assert second.take()
        second.write({"a": b"2"})
    with pytest.raises(StoreError, match="another process has taken its table records"):
        first.write({"a": b"3"})
    assert (first.take(), first.held_until < time.monotonic()) == (False, True)
    second.close()
    assert first.take()
    assert first.load() == {"a": b"2"}
    first.close()


def test_a_write_of_which_nothing_is_known_is_put_right_by_the_next(
    make_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry takes a failed write for undone. It may have been carried out all the same."""
    monkeypatch.setattr("headwater_store.redis_server.ANSWER_S", 0.3)
    server = make_redis()
    records = open_records(server.url, "table")
    records.write({"kept": b"1", "changed": b"old", "gone": b"x"})
    server.pause()
    with pytest.raises(StoreAway, match=r"redis://127.0.0.1:\d+/0: cannot be reached: Timeout"):
        records.write({"changed": b"new", "made": b"y"}, ["gone"])
    server.resume()
    with server.client() as client:
        # What the server read only after it went on.
        eventually(lambda: client.hget("headwater:records:{table}", "made"), within_s=5)
    assert records.load() == {"kept": b"1", "changed": b"old", "gone": b"x"}
    records.write({"next": b"z"})
    expected = {"kept": b"1", "changed": b"old", "gone": b"x", "next": b"z"}
    assert records.load() == expected
    records.close()
    again = open_records(server.url, "table")
    assert again.load() == expected
    again.close()


def test_a_holder_that_was_killed_is_waited_for(
    make_redis: Callable[..., RedisServer],
) -> None:
    server = make_redis()
    with server.client() as client:
        client.set("headwater:records:{table}:lease", "killed", px=300)
        client.set("headwater:records:{table}:holder", "killed")
    records = open_records(server.url, "table")
    records.write({"a": b"1"})
    records.close()
