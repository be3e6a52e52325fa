"""An edge that is to end: RTMPT sessions go on at others, who understands it is asked to connect elsewhere, others are closed."""

import time
from collections.abc import Iterator

import gevent
import pytest
from headwater_bus import traffic
from headwater_bus.control import DrainEdge, EdgeDrain
from headwater_edge.draining import Draining
from headwater_edge.edge import Edge
from headwater_rtmp.rtmpt import Verb
from support.edge import GROUP, FakeLink, Peer, attached, linked, make_edge
from support.tunnels import Request, TunnelEdge, TunnelPeer, end_tunnels
from support.waiting import eventually


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    end_tunnels()


@pytest.fixture
def one(request: pytest.FixtureRequest) -> TunnelEdge:
    return TunnelEdge("edge-1", request.node.name)


def detached(link: FakeLink) -> list[int]:
    return [envelope.session for envelope in link.of(traffic.Detach)]


def with_guest(edge: TunnelEdge) -> tuple[TunnelPeer, FakeLink, int]:
    """A session of RTMPT and its guest at another origin: the client, that origin's link and the guest's number."""
    groups = linked(edge.edge, edge.node, "origin-2")
    board = f"{GROUP}#so:board"
    edge.node.grant(board, "origin-2", 4)
    peer = TunnelPeer(edge).attached()
    edge.say(traffic.Routed(peer.client.session, board, 1, 31, [], 20, 0, 0, b"\x02\x00\x01x"))
    (attach,) = groups.of(traffic.Attach)
    return peer, groups, attach.session


# What was handed over


def test_who_comes_to_no_other_edge_is_detached_in_the_end(one: TunnelEdge) -> None:
    peer, groups, guest = with_guest(one)
    session = peer.client.session
    one.edge.let_go()
    handed_over_at = time.monotonic()
    assert one.edge.clients == {}
    one.edge.check_deadlines(handed_over_at + one.edge.config.tunnel_idle_s - 1)
    assert detached(one.link) == detached(groups) == []
    one.edge.check_deadlines(handed_over_at + one.edge.config.tunnel_idle_s + 1)
    assert (detached(one.link), detached(groups)) == ([session], [guest])
    one.edge.check_deadlines(handed_over_at + 1000)
    assert (detached(one.link), detached(groups)) == ([session], [guest])


def test_a_session_that_another_edge_has_is_not_detached(one: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    client = peer.client
    one.say(traffic.SessionTaken(client.session, client.fence + 1))
    assert one.edge.clients == {}
    one.edge.check_deadlines(time.monotonic() + one.edge.config.tunnel_idle_s + 1)
    assert detached(one.link) == []


# Who is asked to connect elsewhere

RECONNECT = "NetConnection.Connect.ReconnectRequest"
SHUTDOWN = "NetConnection.Connect.AppShutdown"


def three(edge: Edge, link: FakeLink) -> tuple[Peer, Peer, Peer]:
    """Clients: one that understands a ReconnectRequest, one that understands other things, one that says nothing of it."""
    return attached(edge, link, capsEx=1.0), attached(edge, link, capsEx=6.0), attached(edge, link)


def test_a_drained_edge_asks_who_understands_it_to_connect_elsewhere() -> None:
    edge, _, link = make_edge()
    asked, other, silent = three(edge, link)
    connecting = Peer(edge).connect(capsEx=1.0)
    done: list[str] = []
    draining = Draining(edge, lambda: done.append("closed"), lambda: done.append("stopped"))
    assert draining.answer(None, DrainEdge(-1.0)) == EdgeDrain(4, 0, -1.0)  # type: ignore[arg-type]  # it is not looked at
    assert draining.answer(None, DrainEdge(30.0)).clients == 4  # type: ignore[arg-type]  # as above
    asked.until(lambda: asked.statuses() == [RECONNECT])
    asked.sock.close()
    eventually(lambda: len(edge.clients) == 3, 10)
    assert Peer(edge).client is None
    # Another deadline, and what for; asked again nobody is asked again.
    state = draining.answer(None, DrainEdge(0.0, stop=True))  # type: ignore[arg-type]  # as above
    assert (state.clients, state.total) == (3, 4)
    for peer in (other, silent, connecting):
        peer.until_ended()
    assert (other.statuses(), silent.statuses(), connecting.statuses()) == ([SHUTDOWN], [SHUTDOWN], [])
    eventually(lambda: done == ["closed", "stopped"], 10)


def test_a_drained_edge_can_be_stopped_later() -> None:
    edge, _, _ = make_edge()
    done: list[str] = []
    draining = Draining(edge, lambda: None, lambda: done.append("stopped"))
    draining.answer(None, DrainEdge(0.0))  # type: ignore[arg-type]  # it is not looked at
    eventually(lambda: not draining._waits, 10)
    draining.answer(None, DrainEdge(0.0, stop=True))  # type: ignore[arg-type]  # as above
    eventually(lambda: done == ["stopped"], 10)


def test_a_stopped_edge_does_the_same_and_gives_a_moment_for_it() -> None:
    edge, _, link = make_edge()
    asked, other, silent = three(edge, link)
    late = attached(edge, link, capsEx=1.0)
    ending = gevent.spawn(edge.shutdown, "the edge is stopping", within_s=0.5)
    for peer in (other, silent):
        peer.until_ended()
        peer.sock.close()
        assert peer.statuses() == [SHUTDOWN]
    asked.until(lambda: asked.statuses())
    assert link.closed == []
    asked.sock.close()
    late.until_ended()
    assert late.statuses() == [RECONNECT, SHUTDOWN]
    late.sock.close()
    ending.get(timeout=10)
    assert link.closed == ["the edge is stopping"]
    assert asked.statuses() == [RECONNECT]


def test_a_stopped_edge_waits_for_nobody_when_all_that_were_asked_have_left() -> None:
    edge, _, link = make_edge()
    asked = attached(edge, link, capsEx=1.0)
    began_at = time.monotonic()
    ending = gevent.spawn(edge.shutdown, "the edge is stopping", within_s=600)
    asked.until(lambda: asked.statuses())
    asked.sock.close()
    ending.get(timeout=60)
    assert time.monotonic() - began_at < 60


def test_a_session_of_rtmpt_is_handed_over_and_asked_for_nothing(
    one: TunnelEdge, request: pytest.FixtureRequest
) -> None:
    two = TunnelEdge("edge-2", request.node.name)
    peer = TunnelPeer(one)
    peer.until(lambda: peer.rtmp.handshaken)
    peer.connect(capsEx=1.0)
    one.say(traffic.Attached(peer.client.session, 0, False))
    peer.post()
    peer.command("hello", None, transaction=2.0)
    storing = Request(peer.target(Verb.SEND), peer.out)
    one.edge.tunnels.request(storing)  # type: ignore[arg-type]  # all that it needs of a request
    one.edge.shutdown("the edge is stopping", within_s=10)
    assert storing.status == 200
    assert len(one.edge.tunnels) == 0
    assert detached(one.link) == []
    peer.take(storing.reply)
    peer.out, peer.sequence, peer.edge = b"", peer.sequence + 1, two
    peer.post()
    assert two.link.of(traffic.Attach)[0].resumed
    assert peer.commands() == []
