"""Links over real sockets, and over a TCP connection that is cut, stalled and slow."""

import random
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import msgpack
import pytest
import zmq.green as zmq
from headwater_bus.codec import Codec
from headwater_bus.link import BindError, LinkOptions, OriginLinks
from headwater_bus.link_state import LinkState
from headwater_bus.security import Security, SecurityError
from headwater_bus.traffic import TRAFFIC, Applied, Detach, FromClient, ToClient
from support.waiting import TIME_FACTOR, eventually

from .conftest import PATIENT, Edge, Origin, TcpProxy

QUICK = LinkOptions(heartbeat_s=0.2 * TIME_FACTOR, timeout_s=0.8 * TIME_FACTOR)


def up(number: int, size: int = 10) -> FromClient:
    return FromClient(number, 0, 20, 0, 0, b"u" * size)


def down(number: int, size: int = 10) -> ToClient:
    return ToClient(number, 20, 0, 0, b"d" * size)


def numbers(envelopes: list[Any]) -> list[int]:
    return [envelope.session for envelope in envelopes]


def test_both_ways_in_order_and_acknowledged_soon(context: Any) -> None:
    origin = Origin(context)
    edge = Edge(context, origin.endpoint)
    edge.link.send(up(0))
    eventually(lambda: edge.ups and origin.ups, within_s=5)
    assert (edge.link.peer, edge.link.boot) == ("origin-1", "o1")
    link = origin.ups[0]
    assert (link.peer, link.boot) == ("edge-1", "e1")
    for number in range(1, 2000):
        edge.link.send(up(number))
        link.send(down(number))
    eventually(lambda: len(origin.got.get("edge-1", [])) == 2000 and len(edge.got) == 1999, within_s=10)
    assert numbers(origin.got["edge-1"]) == list(range(2000))
    assert numbers(edge.got) == list(range(1, 2000))
    # Acknowledgements do not wait for a heartbeat.
    began = time.monotonic()
    edge.link.send(up(2000))
    eventually(lambda: edge.link.state.idle and link.state.idle, within_s=5)
    assert time.monotonic() - began < 0.7 * TIME_FACTOR
    assert edge.link.state.resent_batches == link.state.resent_batches == 0
    edge.link.close("done")
    eventually(lambda: origin.downs, within_s=5)
    assert origin.downs == [("edge-1", "closed by the peer: done")]
    assert edge.downs == []
    origin.close()


def test_edges_and_origins_may_open_links_and_nobody_else(context: Any) -> None:
    origin = Origin(context)
    allowed = [Edge(context, origin.endpoint, node_id) for node_id in ("edge-1", "origin-2", "origin-1")]
    eventually(lambda: all(edge.ups for edge in allowed), within_s=5)
    other = Edge(context, origin.endpoint, "balancer-1")
    eventually(lambda: origin.links.refused > 0, within_s=5)
    assert other.ups == 0
    assert sorted(link.peer for link in origin.ups) == ["edge-1", "origin-1", "origin-2"]
    for edge in [*allowed, other]:
        edge.link.close("done")
    origin.close()


def test_what_was_queued_before_a_close_arrives(context: Any) -> None:
    origin = Origin(context)
    edge = Edge(context, origin.endpoint)
    eventually(lambda: edge.ups, within_s=5)
    edge.link.send(Detach(7, "gone"))
    edge.link.close("done")
    eventually(lambda: origin.downs, within_s=5)
    assert origin.got["edge-1"] == [Detach(7, "gone")]
    edge = Edge(context, origin.endpoint, boot="e2")
    eventually(lambda: len(origin.ups) == 2, within_s=5)
    origin.ups[1].send(down(5))
    origin.close("drained")
    eventually(lambda: edge.downs, within_s=5)
    assert numbers(edge.got) == [5]
    assert edge.downs == ["closed by the peer: drained"]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_doubled_or_reordered_over_a_connection_that_is_cut(
    context: Any, make_proxy: Callable[[str], TcpProxy], seed: int
) -> None:
    chance = random.Random(seed)
    origin = Origin(context, options=PATIENT)
    proxy = make_proxy(origin.endpoint)
    edge = Edge(context, proxy.endpoint, options=PATIENT)
    eventually(lambda: edge.ups and origin.ups, within_s=10)
    link = origin.ups[0]
    total = 3000
    for number in range(total):
        edge.link.send(up(number, chance.randrange(3000)))
        link.send(down(number, chance.randrange(3000)))
        if chance.random() < 0.1:
            gevent.sleep(0.001)
        if number % 600 == 300:
            proxy.cut()
            seen = proxy.accepted
            # It breaks off in the midst of traffic, and comes back while more is sent.
            eventually(lambda seen=seen: proxy.accepted > seen, within_s=10)  # type: ignore[misc]  # mypy infers no lambda with a default
    eventually(lambda: edge.link.state.idle and link.state.idle, within_s=20)
    assert proxy.accepted >= 6
    assert numbers(origin.got["edge-1"]) == list(range(total))
    assert numbers(edge.got) == list(range(total))
    assert edge.link.state.resent_batches + link.state.resent_batches > 0, "the cuts lost nothing"
    assert (len(origin.ups), origin.downs, edge.downs) == (1, [], [])
    edge.link.close("done")
    origin.close()


def test_after_a_reconnect_what_was_lost_comes_at_once(
    context: Any, make_proxy: Callable[[str], TcpProxy]
) -> None:
    slow = LinkOptions(heartbeat_s=60, resend_s=60, timeout_s=120)
    origin = Origin(context, options=slow)
    proxy = make_proxy(origin.endpoint)
    edge = Edge(context, proxy.endpoint, options=slow)
    eventually(lambda: edge.ups and origin.ups, within_s=5)
    proxy.stalled = True
    passed = proxy.passed_bytes
    edge.link.send(up(1))
    origin.ups[0].send(down(1))
    eventually(lambda: not edge.link.state.due(time.monotonic()), within_s=5)
    gevent.sleep(0.1)  # Both have left, and are inside the proxy.
    assert (origin.got, edge.got, proxy.passed_bytes) == ({}, [], passed)
    for near, far in proxy._pairs:
        near.close()
        far.close()
    proxy.stalled = False
    # No heartbeat and no resend is due for a minute: only the reconnect brings them.
    eventually(lambda: origin.got and edge.got, within_s=10)
    edge.link.close("done")
    origin.close()


def test_a_stalled_connection_is_not_filled_with_repetitions(
    context: Any, make_proxy: Callable[[str], TcpProxy]
) -> None:
    options = LinkOptions(heartbeat_s=0.1, resend_s=0.1, timeout_s=60)
    origin = Origin(context, options=options)
    proxy = make_proxy(origin.endpoint)
    edge = Edge(context, proxy.endpoint, options=options)
    eventually(lambda: edge.ups, within_s=5)
    proxy.stalled = True
    for number in range(100):
        edge.link.send(up(number, 10_000))
    gevent.sleep(1.0)
    proxy.stalled = False
    eventually(lambda: len(origin.got.get("edge-1", [])) == 100, within_s=10)
    eventually(lambda: edge.link.state.idle, within_s=5)
    assert edge.link.state.resent_batches == 0
    edge.link.close("done")
    origin.close()


def test_a_slow_connection_keeps_the_link(context: Any, make_proxy: Callable[[str], TcpProxy]) -> None:
    origin = Origin(context, options=LinkOptions(window_bytes=20_000, timeout_s=60))
    proxy = make_proxy(origin.endpoint)
    proxy.delay_s = 0.01
    edge = Edge(context, proxy.endpoint, options=LinkOptions(timeout_s=60))
    eventually(lambda: edge.ups, within_s=10)
    most = 0
    for number in range(60):
        edge.link.send(up(number, 5000))
        gevent.sleep(0)
        most = max(most, edge.link.state._in_flight_bytes)
    eventually(lambda: edge.link.state.idle, within_s=20)
    assert numbers(origin.got["edge-1"]) == list(range(60))
    assert 0 < most <= 20_000, "credit was not kept"
    edge.link.close("done")
    origin.close()


def test_silence_ends_both_ends_once(context: Any, make_proxy: Callable[[str], TcpProxy]) -> None:
    origin = Origin(context, options=QUICK)
    proxy = make_proxy(origin.endpoint)
    edge = Edge(context, proxy.endpoint, options=QUICK)
    eventually(lambda: edge.ups, within_s=5)
    gevent.sleep(QUICK.timeout_s * 1.5)
    assert (edge.downs, origin.downs) == ([], []), "heartbeats did not keep an idle link"
    proxy.stalled = True
    eventually(lambda: edge.downs and origin.downs, within_s=10)
    gevent.sleep(QUICK.timeout_s)
    assert len(edge.downs) == len(origin.downs) == 1
    assert "nothing heard" in edge.downs[0]
    assert "nothing heard" in origin.downs[0][1]
    edge.link.send(up(1))
    origin.ups[0].send(down(1))
    origin.close()


def test_an_origin_that_is_not_there_is_given_up(context: Any) -> None:
    edge = Edge(context, "tcp://127.0.0.1:1", options=QUICK)
    eventually(lambda: edge.downs, within_s=10)
    assert edge.ups == 0
    assert edge.link.failure == edge.downs[0]


def test_a_connection_that_goes_is_told_of_and_the_link_lives_on(
    context: Any, make_proxy: Callable[[str], TcpProxy]
) -> None:
    origin = Origin(context, options=PATIENT)
    proxy = make_proxy(origin.endpoint)
    edge = Edge(context, proxy.endpoint, options=PATIENT)
    eventually(lambda: edge.ups, within_s=10)
    assert edge.suspects == []
    for _ in range(3):
        proxy.cut()
        eventually(lambda: len(edge.suspects) > len(origin.got.get("edge-1", [])), within_s=10)
        edge.link.send(up(1))
        eventually(lambda: len(origin.got.get("edge-1", [])) == len(edge.suspects), within_s=10)
    assert len(edge.suspects) == 3
    assert set(edge.suspects) == {("origin-1", "o1")}
    assert (edge.downs, origin.downs) == ([], [])
    eventually(lambda: edge.link.acknowledged == 3, within_s=10)
    edge.link.close("done")
    origin.close()


def test_an_origin_that_is_killed_is_suspected_at_once_and_given_up_by_whoever_knows(context: Any) -> None:
    origin = Origin(context, options=PATIENT)
    edge = Edge(context, origin.endpoint, options=PATIENT)
    eventually(lambda: edge.ups, within_s=10)
    edge.link.send(up(1))
    origin.kill()
    eventually(lambda: edge.suspects, within_s=10)
    assert (edge.suspects, edge.downs) == ([("origin-1", "o1")], [])
    edge.link.give_up("origin-1 is gone")
    edge.link.give_up("told twice")
    eventually(lambda: edge.downs, within_s=10)
    edge.link.send(up(2))
    gevent.sleep(0)
    assert edge.downs == ["origin-1 is gone"]


def test_no_origin_is_suspected_that_was_never_there(context: Any) -> None:
    edge = Edge(context, "tcp://127.0.0.1:1", options=LinkOptions(heartbeat_s=0.1, timeout_s=0.5))
    eventually(lambda: edge.downs, within_s=10)
    assert edge.suspects == []


def test_trailers_end_batches_on_both_ends(context: Any) -> None:
    origin = Origin(context, options=PATIENT)
    edge = Edge(context, origin.endpoint, options=PATIENT)
    eventually(lambda: origin.ups, within_s=10)
    (link,) = origin.ups
    due: list[int] = []

    def trailer() -> Applied | None:
        rows, due[:] = list(due), []
        return Applied(rows) if rows else None

    link.end_batches_with(trailer)
    batches: list[list[Any]] = []
    edge._on_batch = lambda link, envelopes: batches.append(envelopes)
    link.send(down(1))
    due += [1, 1, 1]
    link.send(down(2))
    eventually(lambda: batches, within_s=10)
    due += [2, 2, 2]
    link.mark()
    eventually(lambda: len(batches) == 2, within_s=10)
    assert batches == [[down(1), down(2), Applied([1, 1, 1])], [Applied([2, 2, 2])]]
    eventually(lambda: link.acknowledged == link.position == 4, within_s=10)
    edge.link.close("done")
    origin.close()


def test_a_restarted_origin_is_noticed_at_once(context: Any) -> None:
    slow = LinkOptions(heartbeat_s=60, resend_s=60, timeout_s=120)
    origin = Origin(context, boot="o1", options=slow)
    edge = Edge(context, origin.endpoint, options=slow)
    eventually(lambda: edge.ups, within_s=5)
    origin.kill()
    reborn = eventually(lambda: _bind_again(context, origin.endpoint, slow), within_s=10)
    eventually(lambda: edge.downs, within_s=10)
    assert edge.downs == ["the peer restarted"]
    assert reborn.ups == []
    again = Edge(context, origin.endpoint, options=slow)
    eventually(lambda: again.ups, within_s=5)
    assert again.link.boot == "o2"
    again.link.close("done")
    reborn.close()


def _bind_again(context: Any, endpoint: str, options: LinkOptions) -> Origin | None:
    try:
        return Origin(context, boot="o2", endpoint=endpoint, options=options)
    except BindError:
        return None


def test_a_restarted_edge_is_noticed_at_once(context: Any) -> None:
    origin = Origin(context)
    edge = Edge(context, origin.endpoint, boot="e1")
    edge.link.send(up(1))
    eventually(lambda: origin.got, within_s=5)
    edge.kill()
    reborn = Edge(context, origin.endpoint, boot="e2")
    eventually(lambda: len(origin.ups) == 2, within_s=5)
    assert origin.downs == [("edge-1", "edge-1 restarted")]
    reborn.link.send(up(1))
    eventually(lambda: len(origin.got["edge-1"]) == 2, within_s=5)
    assert [link.boot for link in origin.links.links.values()] == ["e2"]
    reborn.link.close("done")
    origin.close()


def test_another_link_of_the_same_edge_replaces_the_first(context: Any) -> None:
    origin = Origin(context)
    first = Edge(context, origin.endpoint)
    eventually(lambda: first.ups, within_s=5)
    second = Edge(context, origin.endpoint)
    eventually(lambda: second.ups and first.downs, within_s=5)
    assert origin.downs == [("edge-1", "edge-1 opened another link")]
    assert "another link" in first.downs[0]
    second.link.close("done")
    origin.close()


def test_a_node_of_another_name_at_the_address_is_refused(context: Any) -> None:
    origin = Origin(context)
    origin.links._node_id = "origin-2"
    edge = Edge(context, origin.endpoint)
    eventually(lambda: edge.downs, within_s=5)
    assert "from 'origin-2', expected 'origin-1'" in edge.downs[0]
    assert edge.ups == 0
    origin.close()


GARBAGE = [
    [b"\xc1garbage"],
    [b""],
    [],
    [b"\x05"] * 3,
    [msgpack.packb([1, 1, "edge-9", "boot", "wide", True])],
    [msgpack.packb([1, 1, "edge-9", "boot", 1000, True])],
    [msgpack.packb([1, 1, "origin-9", "boot", 1000, True])],
    [msgpack.packb([1, 99, "edge-9", "boot", 1000, True])],
    [msgpack.packb([2, 1, 0]), b"\x90"],
    [msgpack.packb([77])],
    [msgpack.packb([1, 1, "edge-" + "9" * 5000, "boot", 1000, True])],
]


def test_garbage_on_the_router_changes_nothing_for_others(
    context: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = Origin(context)
    edge = Edge(context, origin.endpoint)
    eventually(lambda: edge.ups, within_s=5)
    stranger = context.socket(zmq.DEALER)
    stranger.set(zmq.LINGER, 0)
    stranger.connect(origin.endpoint)
    for number in range(20):
        for frames in GARBAGE:
            stranger.send_multipart(frames or [b"", b""])
        edge.link.send(up(number))
        gevent.sleep(0)
    eventually(lambda: len(origin.got.get("edge-1", [])) == 20, within_s=10)
    eventually(lambda: origin.links.refused >= 20 * 6, within_s=10)
    assert [link.peer for link in origin.links.links.values()] == ["edge-1"]
    assert (origin.downs, edge.downs) == ([], [])
    assert len(origin.ups) == 1
    stranger.close()
    edge.link.close("done")
    origin.close()


def test_an_edge_that_sends_garbage_loses_its_link_and_no_other(context: Any) -> None:
    origin = Origin(context)
    edge = Edge(context, origin.endpoint)
    other = Edge(context, origin.endpoint, node_id="edge-2")
    eventually(lambda: edge.ups and other.ups, within_s=5)
    edge.link._socket.send([msgpack.packb([2, 1, 0]), b"\xc1"])
    eventually(lambda: edge.downs and origin.downs, within_s=5)
    assert origin.downs[0][0] == "edge-1"
    assert "DATA 1" in edge.downs[0]
    other.link.send(up(3))
    eventually(lambda: origin.got.get("edge-2"), within_s=5)
    other.link.close("done")
    origin.close()


def test_a_callback_that_fails_ends_its_link_and_no_other(context: Any) -> None:
    def fail(link: Any, envelopes: list[Any]) -> None:
        if link.peer == "edge-1" or link.peer == "origin-1":
            raise KeyError("a bug")

    origin = Origin(context, on_batch=fail)
    edge = Edge(context, origin.endpoint)
    other = Edge(context, origin.endpoint, node_id="edge-2", on_batch=fail)
    eventually(lambda: edge.ups and other.ups, within_s=5)
    edge.link.send(up(1))
    eventually(lambda: origin.downs and edge.downs, within_s=5)
    assert edge.downs == ["closed by the peer: internal error"]
    assert origin.downs[0][0] == "edge-1"
    next(link for link in origin.ups if link.peer == "edge-2").send(down(1))
    eventually(lambda: other.downs, within_s=5)
    assert "a bug" in other.downs[0]
    eventually(lambda: len(origin.downs) == 2, within_s=5)
    origin.close()


def fails() -> None:
    raise RuntimeError("the application")


def test_a_trailer_that_fails_ends_its_link_and_no_other(context: Any) -> None:
    origin = Origin(context)
    edges = [Edge(context, origin.endpoint, node_id=f"edge-{number}") for number in range(3)]
    eventually(lambda: len(origin.ups) == 3 and all(edge.ups for edge in edges), within_s=5)
    link = next(link for link in origin.ups if link.peer == "edge-0")
    link.end_batches_with(fails)
    link.send(down(1))
    eventually(lambda: origin.downs, within_s=5)
    assert origin.downs == [("edge-0", "internal error: RuntimeError('the application')")]
    eventually(lambda: edges[0].downs, within_s=5)
    edges[1].link.end_batches_with(fails)
    edges[1].link.send(up(1))
    eventually(lambda: edges[1].downs, within_s=5)
    assert edges[1].downs == ["internal error: RuntimeError('the application')"]
    eventually(lambda: len(origin.downs) == 2, within_s=5)
    edges[2].link.send(up(2))
    eventually(lambda: numbers(origin.got.get("edge-2", [])) == [2], within_s=5)
    assert not edges[2].downs
    edges[2].link.close("done")
    origin.close()


def test_what_is_sent_before_the_start_leaves_with_it(context: Any) -> None:
    origin = Origin(context)
    edge = Edge(context, origin.endpoint, starts=False)
    edge.link.send(up(1))
    gevent.sleep(0.01)
    assert origin.ups == []
    edge.link.start()
    eventually(lambda: numbers(origin.got.get("edge-1", [])) == [1], within_s=5)
    edge.link.close("done")
    origin.close()


@pytest.mark.parametrize("starts", [True, False], ids=["while it is up", "at the start"])
def test_an_owner_that_fails_at_the_end_of_its_link_hurts_nobody(context: Any, starts: bool) -> None:
    """That no greenlet dies is what `context` looks for."""
    origin = Origin(context)
    edge = Edge(context, origin.endpoint, starts=starts, on_down=fails)
    if starts:
        eventually(lambda: edge.ups, within_s=5)
    edge.link.give_up("it is gone")
    if not starts:
        edge.link.start()
    eventually(lambda: edge.downs, within_s=5)
    gevent.sleep(0.01)
    assert edge.downs == ["it is gone"]
    origin.close()


def test_a_link_that_could_not_begin_does_not_take_the_next_one_of_its_edge_along(context: Any) -> None:
    begun: list[Any] = []
    ended: list[Any] = []

    def begin(link: Any) -> None:
        begun.append(link)
        link.send(down(1))
        if len(begun) == 1:
            raise KeyError("a bug")

    links = OriginLinks(
        context=context,
        security=Security.plain(),
        node_id="origin-1",
        boot="o1",
        on_batch=lambda link, envelopes: None,
        on_up=begin,
        on_down=lambda link, reason: ended.append(link),
    )
    dealer = context.socket(zmq.DEALER)
    dealer.set(zmq.IDENTITY, b"edge-1|e1|x")
    dealer.connect(links.bind("tcp://127.0.0.1:*"))
    state = LinkState("edge-1", "e1", Codec(TRAFFIC), LinkOptions(), 0.0, initiator=True)
    (hello,) = state.outgoing(0.0)
    # Both wait when the reader looks: the second one's link begins before the first one's end was written.
    for _ in range(2):
        dealer.send_multipart(hello)
    eventually(lambda: links._socket.raw.poll(0), within_s=5)
    jobs = [gevent.spawn(job) for _, job in links.jobs()]
    eventually(lambda: len(begun) == 2, within_s=5)
    eventually(lambda: not links._ready, within_s=5)
    assert list(links.links.values()) == [begun[1]]
    assert ended == [begun[0]]
    dealer.close(0)
    links.close("the test is over")
    gevent.killall(jobs)


def test_a_link_may_be_closed_by_its_own_callback(context: Any) -> None:
    origin = Origin(context)
    edge = Edge(context, origin.endpoint, on_batch=lambda link, envelopes: link.close("enough"))
    eventually(lambda: origin.ups, within_s=5)
    origin.ups[0].send(down(1))
    eventually(lambda: origin.downs, within_s=5)
    assert origin.downs == [("edge-1", "closed by the peer: enough")]
    gevent.sleep(0.05)
    assert edge.downs == []
    origin.close()


def test_a_queue_over_its_limit_ends_the_link_on_both_ends(
    context: Any, make_proxy: Callable[[str], TcpProxy]
) -> None:
    options = LinkOptions(window_bytes=10_000, queue_bytes=50_000, timeout_s=60)
    origin = Origin(context, options=options)
    proxy = make_proxy(origin.endpoint)
    edge = Edge(context, proxy.endpoint, options=options)
    eventually(lambda: edge.ups, within_s=5)
    proxy.stalled = True
    for number in range(100):
        origin.ups[0].send(down(number, 1000))
    eventually(lambda: origin.downs, within_s=5)
    assert "50000 bytes" in origin.downs[0][1]
    assert origin.ups[0].queued_bytes == 0
    proxy.stalled = False
    eventually(lambda: edge.downs, within_s=5)
    origin.close()


def test_many_links_on_one_router(context: Any) -> None:
    origin = Origin(context)
    edges = [Edge(context, origin.endpoint, node_id=f"edge-{number}") for number in range(40)]
    eventually(lambda: len(origin.ups) == 40, within_s=20)
    for number in range(50):
        for edge in edges:
            edge.link.send(up(number))
        for link in origin.ups:
            link.send(down(number))
        gevent.sleep(0)
    eventually(lambda: all(len(edge.got) == 50 for edge in edges), within_s=20)
    eventually(lambda: sum(map(len, origin.got.values())) == 2000, within_s=20)
    assert all(numbers(got) == list(range(50)) for got in origin.got.values())
    assert all(numbers(edge.got) == list(range(50)) for edge in edges)
    for edge in edges:
        edge.link.close("done")
    origin.close()


def test_the_writer_looks_only_at_links_that_have_something(context: Any) -> None:
    origin = Origin(context)
    edges = [Edge(context, origin.endpoint, node_id=f"edge-{number}") for number in range(3)]
    eventually(lambda: len(origin.ups) == 3, within_s=5)
    eventually(lambda: not origin.links._ready, within_s=5)
    origin.ups[1].send(down(1))
    assert origin.links._ready == [origin.ups[1]]
    for edge in edges:
        edge.link.close("done")
    origin.close()


def test_a_single_message_does_not_wait(context: Any) -> None:
    origin = Origin(context, on_batch=lambda link, envelopes: [link.send(down(e.session)) for e in envelopes])
    edge = Edge(context, origin.endpoint)
    eventually(lambda: edge.ups, within_s=5)
    answered = gevent.event.Event()
    edge._on_batch = lambda link, envelopes: answered.set()
    best = 1.0
    for number in range(50):
        answered.clear()
        began = time.monotonic()
        edge.link.send(up(number))
        assert answered.wait(10 * TIME_FACTOR)
        best = min(best, time.monotonic() - began)
    assert best < 0.01
    edge.link.close("done")
    origin.close()


def test_a_payload_that_cannot_be_sent_is_refused_to_the_caller(context: Any) -> None:
    origin = Origin(context)
    edge = Edge(context, origin.endpoint)
    with pytest.raises(ValueError, match="67108864 at most"):
        edge.link.send(up(1, 64 * 1024 * 1024))
    edge.link.send(up(2, 8 * 1024 * 1024))
    eventually(lambda: origin.got, within_s=10)
    assert len(origin.got["edge-1"][0].payload) == 8 * 1024 * 1024
    edge.link.close("done")
    origin.close()


def test_an_endpoint_in_use_is_one_clear_error(context: Any) -> None:
    origin = Origin(context)
    with pytest.raises(BindError, match=r"tcp://127.0.0.1:\d+: cannot listen there: Address already in use"):
        Origin(context, endpoint=origin.endpoint)
    with pytest.raises(SecurityError, match="unencrypted"):
        Origin(context, endpoint="tcp://*:*")
    # Only the one that could be bound is open.
    assert [socket.closed for socket in context._sockets].count(False) == 1
    origin.close()


def test_a_plain_link_to_another_machine_is_refused(context: Any) -> None:
    edge = Edge(context, "tcp://10.0.0.1:5", security=Security.plain())
    assert edge.downs == [], "on_down must not be called before start() returns"
    eventually(lambda: edge.downs, within_s=5)
    assert "unencrypted" in edge.downs[0]
