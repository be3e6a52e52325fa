"""The origin: who uses a SharedObject (FACTS 2; RTMP 1.0, 7.1.3), and what each edge is told. No sockets."""

from typing import Any

import pytest
from headwater_amf import amf0
from headwater_bus.object_traffic import ObjectClosed, ObjectJoined, ObjectLeft, ObjectOpened, ObjectUpdate
from headwater_bus.rows import pack_rows
from headwater_origin.objects import shared_object
from support.object_bench import (
    CHANGED,
    FAILED,
    MIB,
    NO_WRITE,
    RELEASE,
    SET,
    USE,
    Open,
    Reading,
    filled,
    idle,
    link_bytes,
    refused,
    refused_in,
    rows,
    updates,
    user,
)
from support.origin_bench import Bench, settle


@pytest.fixture
def bench() -> Bench:
    return Bench({"app": Open, "read": Reading})


def test_use_is_answered_with_number_and_content(bench: Bench) -> None:
    link = bench.edge()
    one, two = bench.joined(link), bench.joined(link)
    one.shared("board", (USE,))
    opened, joined = link.take()
    assert opened == ObjectOpened(opened.shared_object, "board", False, 0, 0, 0, "app/room", rows())
    assert joined == ObjectJoined(one.number, opened.shared_object, -1)
    one.shared("board", (SET, "x", 1.0))
    link.take()
    two.shared("board", (USE,))
    assert link.take() == [ObjectJoined(two.number, opened.shared_object, -1)]
    other = bench.edge()
    third, fourth = bench.joined(other), bench.joined(other)
    third.shared("board", (USE,))
    fourth.shared("board", (USE,))
    opened, *joined = other.take()
    assert opened == ObjectOpened(
        opened.shared_object, "board", False, 1, 0, 1, "app/room", rows(("x", amf0.encode(1.0), 1))
    )
    assert joined == [ObjectJoined(client.number, opened.shared_object, -1) for client in (third, fourth)]


def test_use_again_is_a_join_again(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0))
    link.take()
    client.shared("board", (USE,))
    assert link.take() == [ObjectJoined(client.number, 1, -1)]
    assert bench.origin.groups["app/room"].objects.view("board", False).users == 1


def test_many_uses_in_one_message_are_one(bench: Bench) -> None:
    link = bench.edge()
    filled(bench)
    client = bench.joined(link)
    client.shared("board", *[(USE,)] * 200, (SET, "x", 1.0), *[(USE,)] * 50)
    assert [type(envelope) for envelope in link.log] == [ObjectOpened, ObjectJoined, ObjectUpdate]
    link.take()
    client.shared("board", *[(USE,)] * 200)
    assert link.take() == [ObjectJoined(client.number, 1, -1)]


def test_the_content_crosses_a_link_once_however_many_join(bench: Bench) -> None:
    filled(bench)
    link = bench.edge()
    clients = [bench.joined(link) for _ in range(70)]
    for client in clients:
        client.shared("board", (USE,))
    assert link_bytes(link.take()) < 1_000_000


def test_coming_and_going_does_not_send_the_content_again(bench: Bench) -> None:
    filled(bench)
    link = bench.edge()
    client = bench.joined(link)
    for _ in range(20):
        client.shared("board", *[(USE,), (RELEASE,)] * 100)
    assert len(link.take(ObjectOpened)) == 1
    assert ObjectClosed not in map(type, link.take())


def test_an_edge_that_has_much_to_take_gets_no_more_content(bench: Bench) -> None:
    filled(bench)
    link = bench.edge()
    one, two = bench.joined(link), bench.joined(link)
    link.queued_bytes = 64 * MIB - 800_000
    one.shared("board", (USE,))
    assert refused(one) == [FAILED]
    link.queued_bytes = 64 * MIB - 1_000_000
    one.shared("board", (USE,))
    assert [type(envelope) for envelope in link.take()] == [ObjectOpened, ObjectJoined]
    link.queued_bytes = 100 * MIB
    two.shared("board", (USE,))
    assert link.take() == [ObjectJoined(two.number, 1, -1)]


def test_use_and_changes_in_one_message_keep_their_order(bench: Bench) -> None:
    link = bench.edge()
    client = bench.joined(link)
    client.shared("board", (USE,), (SET, "x", 1.0), (RELEASE,), (SET, "y", 1.0))
    settle()
    kinds = [type(envelope).__name__ for envelope in link.log]
    assert kinds == ["ObjectOpened", "ObjectJoined", "ObjectUpdate", "ObjectLeft", "ToClient"]
    assert refused_in(client) == [NO_WRITE, ("REMOVE", "y")]


def test_release_and_the_last_user(bench: Bench) -> None:
    link = bench.edge()
    one, two = user(bench, link), user(bench, link)
    one.shared("board", (RELEASE,))
    assert link.take() == [ObjectLeft(one.number, 1)]
    one.shared("board", (RELEASE,))
    assert link.take() == []
    two.shared("board", (RELEASE,))
    assert link.take() == [ObjectLeft(two.number, 1)]
    idle(bench, 4.5)
    assert link.take() == []
    idle(bench, 5.5)
    assert link.take() == [ObjectClosed(1)]
    idle(bench, 50.0)
    assert link.take() == []


def test_leaving_is_a_release_that_the_edge_knows(bench: Bench) -> None:
    link, other = bench.edge(), bench.edge()
    one, two, _ = user(bench, link), user(bench, link), user(bench, other)
    one.detach()
    two.detach()
    assert link.take() == []
    three = bench.joined(link)
    three.shared("board", (USE,))
    assert link.take() == [ObjectJoined(three.number, 1, -1)]
    idle(bench, 50.0)
    assert link.take() == []
    three.detach()
    idle(bench, 50.0)
    assert link.take() == [ObjectClosed(1)]
    assert other.take() == []
    four = bench.joined(link)
    four.shared("board", (USE,))
    assert link.take(ObjectOpened) == [ObjectOpened(2, "board", False, 0, 0, 0, "app/room", rows())]


def test_an_edge_whose_users_left_gets_the_updates_until_its_replica_is_freed(bench: Bench) -> None:
    link = bench.edge()
    one, two = user(bench, link), user(bench, bench.edge())
    one.detach()
    two.shared("board", (SET, "x", 1.0))
    assert updates(link) == [(1, [(CHANGED, "x", [1.0], 0)])]
    idle(bench, 50.0)
    link.take()
    two.shared("board", (SET, "x", 2.0))
    assert link.take() == []


def test_replicas_stay_on_edges_when_a_group_goes_elsewhere(bench: Bench) -> None:
    here, there = bench.edge(), bench.edge()
    one, _ = user(bench, here), user(bench, there)
    one.shared("board", (RELEASE,))
    here.take()
    bench.origin.groups["app/room"].close("moved")
    settle()
    assert here.take() == there.take() == []
    assert here.data.objects == there.data.objects == {}


def test_replicas_are_freed_before_their_group_is_dropped() -> None:
    bench = Bench({"app": Open}, object_linger_s=60.0, group_linger_s=10.0)
    link = bench.edge()
    client = user(bench, link)
    client.detach()
    group = bench.origin.groups["app/room"]
    bench.origin.tend(group.clock() + 10.5)
    assert bench.origin.groups == {}
    assert link.take() == [ObjectClosed(1)]


def test_a_commit_is_packed_once_for_all_edges(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = user(bench, bench.edge()), [user(bench, bench.edge()) for _ in range(3)]
    packed: list[Any] = []
    monkeypatch.setattr(shared_object, "pack_rows", lambda made: (packed.append(made), pack_rows(made))[1])  # type: ignore[func-returns-value]  # an act and a value in one expression
    client.shared("board", (SET, "x", 1.0))
    assert packed == [[(CHANGED, "x", amf0.encode(1.0))]]
