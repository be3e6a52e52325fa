"""The origin: a client that sends too much is closed with one line. No sockets."""

import logging

import gevent
import pytest
from headwater_bus.traffic import CloseSession
from headwater_origin import Application
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import EventType
from support.attach_bench import OPEN
from support.origin_bench import Bench, settle


def test_a_client_that_sends_too_many_messages_is_closed_with_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(OPEN, messages_per_s=8, messages_burst=16)
    link = bench.edge()
    client, other = bench.joined(link), bench.joined(link)
    now = [1000.0]
    client.session.group.clock = lambda: now[0]
    for number in range(16):
        client.command("createStream" if number % 2 else "nothing")
    now[0] += 1.0
    client.take()
    for _ in range(8):
        client.shared("board", (EventType.RELEASE,))
    assert CloseSession not in [type(part) for part in client.take()]
    # Media has limits of its own.
    for kind in (8, 9, 15, 18) * 50:
        client.message(Message(kind, 1, 0, b""))
    client.command("nothing")
    client.command("nothing")
    assert client.take() == [
        ("onStatus", 0, "NetConnection.Connect.Closed"),
        CloseSession(client.number, "over 8 messages a second"),
    ]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    other.command("createStream", transaction=2)
    assert other.take() == [("_result", 2.0, 1.0)]


class Spread(Application):
    shared_objects = streams = "spread"
    allow_shared_objects = allow_publish = True


def test_what_is_a_group_of_its_own_counts_for_more_where_it_may_begin() -> None:
    """A client that uses or plays one name after the other must not fill the registry."""
    bench = Bench({"app": Spread}, messages_per_s=8, messages_burst=100)
    link = bench.edge()
    for names in ("object", "stream"):
        client = bench.client(link)
        settle()
        now = [1000.0]
        client.session.group.clock = lambda now=now: now[0]
        for number in range(4):
            if names == "object":
                client.shared(f"{names}{number}", (EventType.USE,))
            else:
                if number == 0:
                    client.command("createStream", transaction=2)
                client.command("play", f"{names}{number}", stream_id=1)
            now[0] += 1.0
        (closed,) = [part for part in client.take() if isinstance(part, CloseSession)]
        assert closed.reason == "over 8 messages a second (an object or stream of its own counts as 40)"


def test_an_object_that_is_used_already_counts_as_one_message() -> None:
    bench = Bench({"app": Spread}, messages_per_s=8, messages_burst=50)
    link = bench.edge()
    one, two = bench.client(link), bench.client(link)
    settle()
    one.session.group.clock = lambda: 1000.0
    one.shared("board", (EventType.USE,))
    for _ in range(20):
        two.shared("board", (EventType.USE,))
        two.shared("board", (EventType.RELEASE,))
    assert not one.session.closed
    assert not two.session.closed


def test_after_a_pause_there_is_one_burst_and_no_more() -> None:
    bench = Bench(OPEN, messages_per_s=8, messages_burst=16)
    client = bench.joined(bench.edge())
    now = [1000.0]
    session = client.session
    session.group.clock = lambda: now[0]
    assert [session.too_fast() for _ in range(17)] == [False] * 16 + [True]
    now[0] += 3600
    assert [session.too_fast() for _ in range(17)] == [False] * 16 + [True]


def test_large_messages_count_for_more_and_answers_to_calls_for_nothing() -> None:
    bench = Bench(OPEN, messages_per_s=8, messages_burst=16)
    client = bench.joined(bench.edge())
    session = client.session
    session.group.clock = lambda: 1000.0
    asking = gevent.spawn(session.client.call, "who")
    settle()
    (call,) = client.take()
    for _ in range(100):
        session.too_fast(0)
    client.command("_result", "me", transaction=call[1])
    assert asking.get(timeout=10) == "me"
    # 1 for the message, 10 for its 80 events, 1 for its KiB: the second such message is over 16.
    events = [(EventType.REQUEST_CHANGE, f"slot{number}", 1.0) for number in range(80)]
    client.shared("board", (EventType.USE,))
    client.shared("board", *events)
    assert not session.closed
    client.shared("board", *events)
    assert session.closed
    client = bench.joined(bench.edge())
    client.session.group.clock = lambda: 1000.0
    client.command("nothing", "x" * 17_000)
    assert client.session.closed
