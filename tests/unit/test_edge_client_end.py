"""Clients of an edge on real sockets: deadlines, and the end."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import gevent
import pytest
from headwater_bus import object_traffic, traffic
from headwater_edge.client import Phase
from headwater_edge.edge import Edge
from support.edge import GROUP, FakeLink, FakeNode, Peer, attached, end_all, make_edge, say
from support.edge_client import NOTHING, warnings
from support.waiting import eventually


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture
def parts() -> tuple[Edge, FakeNode, FakeLink]:
    return make_edge()


@pytest.fixture
def edge(parts: tuple[Edge, FakeNode, FakeLink]) -> Edge:
    return parts[0]


@pytest.fixture
def link(parts: tuple[Edge, FakeNode, FakeLink]) -> FakeLink:
    return parts[2]


# Deadlines


def test_a_half_handshake_is_closed_in_time(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(edge)
    peer.send(b"\x03" + bytes(100))
    assert peer.client is not None
    edge.check_deadlines(peer.client.phase_at + edge.config.handshake_s - 0.1)
    assert not peer.client.closed
    edge.check_deadlines(peer.client.phase_at + edge.config.handshake_s + 0.1)
    peer.until_ended()
    assert warnings(caplog) == ["no handshake within 5.0 s"]


def test_a_client_that_does_not_connect_is_closed_in_time(edge: Edge) -> None:
    peer = Peer(edge).handshake()
    eventually(lambda: edge.clients[1].phase == Phase.OPENING, 10)
    limit = edge.config.handshake_s + edge.config.connect_s
    edge.check_deadlines(edge.clients[1].phase_at + limit - 0.1)
    assert 1 in edge.clients
    edge.check_deadlines(edge.clients[1].phase_at + limit + 0.1)
    peer.until_ended()


def test_a_connect_that_is_not_answered_fails(edge: Edge, link: FakeLink) -> None:
    peer = Peer(edge).connect()
    eventually(lambda: link.of(traffic.Attach), 10)
    edge.check_deadlines(edge.clients[1].phase_at + edge.config.answer_s + 0.1)
    peer.until_ended()
    assert peer.statuses() == ["NetConnection.Connect.Failed"]


def test_a_silent_client_is_pinged_once_and_then_closed(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    client = peer.client
    assert client is not None
    client.heard_at -= edge.config.ping_s + 1
    for _ in range(3):
        edge.check_deadlines(client.heard_at + edge.config.ping_s + 1)
    edge.flush_clients()
    before = client.heard_at
    peer.until(lambda: client.heard_at > before, "the client answers the ping")
    edge.check_deadlines(client.heard_at + edge.config.idle_s + 1)
    peer.until_ended()
    assert peer.statuses() == ["NetConnection.Connect.IdleTimeout"]


# The end


def test_the_origin_closes_a_session_after_what_it_said(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    data = traffic.ToClient(1, 18, 0, 0, bytes(200_000))
    say(edge, link, data, data, data, traffic.CloseSession(1, "kicked"))
    peer.until_ended()
    assert [len(m.payload) for m in peer.messages if m.type_id == 18] == [200_000] * 3
    assert [(d.session, d.reason) for d in link.of(traffic.Detach)] == [(1, "by the origin: kicked")]


def test_the_last_status_arrives_though_the_client_goes_on_sending(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    peer.send(b"\x00" * 100)
    say(edge, link, traffic.ToClient(1, 18, 0, 0, b"bye"), traffic.CloseSession(1, "kicked"))
    peer.send(b"\x00" * 100)
    peer.until_ended()
    assert peer.messages[-1].payload == b"bye"


def test_a_client_that_goes_is_gone_at_once(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    say(
        edge,
        link,
        object_traffic.ObjectOpened(5, "so", False, 0, 0, 0, GROUP, NOTHING),
        object_traffic.ObjectJoined(1, 5, -1),
    )
    peer.sock.close()
    eventually(lambda: link.of(traffic.Detach), 10)
    assert edge.clients == {}
    assert not edge.lingering
    assert link.data.attachments == {}
    assert link.data.objects[5].members == {}
    late = [
        traffic.ToClient(1, 20, 0, 0, b""),
        traffic.CloseSession(1, ""),
        traffic.Attached(1, 0, False),
        traffic.AttachRefused(1, "g", "r"),
        traffic.PublishStarted(1, 1, 1, "a"),
        traffic.PublishStopped(1, 1),
        traffic.PlayStarted(1, 1, 99),
        traffic.PlayChanged(1, 1, True, True, True),
        traffic.PlayStopped(1, 1),
        object_traffic.ObjectJoined(1, 5, -1),
        object_traffic.ObjectLeft(1, 5),
        object_traffic.ObjectUpdate(99, 1, 1, 0, NOTHING),
        object_traffic.ObjectAnswer(1, 5, NOTHING),
        traffic.StreamMedia(99, 1, 9, 0, b""),
        traffic.StreamReset(99),
        traffic.StreamClosed(99),
        object_traffic.ObjectClosed(99),
    ]
    say(edge, link, *late)
    assert edge.counters.internal_errors == 0


@pytest.mark.parametrize("gone", [False, True], ids=["what is queued leaves", "nobody is there"])
def test_whoever_gets_the_descriptor_of_a_player_that_was_closed_gets_nothing_of_its_stream(
    edge: Edge, link: FakeLink, gone: bool
) -> None:
    players = [attached(edge, link) for _ in range(4)]
    sessions = [player.client.session for player in players if player.client is not None]
    say(edge, link, traffic.StreamOpened(8, "a", GROUP), traffic.StreamMedia(8, 0, 9, 0, b"\x17\x01\0\0\0k"))
    say(edge, link, *(traffic.PlayStarted(session, 1, 8) for session in sessions))
    say(edge, link, traffic.StreamMedia(8, 1, 9, 40, b"\x27\x01\0\0\0i"))
    client = players[1].client
    assert client is not None
    assert client.sock is not None
    descriptor = client.sock.fileno()
    client.close("the test wants it", gone=gone)
    players[1].sock.close()
    eventually(lambda: not edge.lingering, 10)
    with ExitStack() as stack:
        # The lowest number that is free is the next one.
        far: dict[int, socket.socket] = {}
        while descriptor not in far:
            one, other = (stack.enter_context(end) for end in socket.socketpair())
            far |= {one.fileno(): other, other.fileno(): one}
        say(edge, link, traffic.StreamMedia(8, 2, 9, 80, b"\x27\x01\0\0\0i"))
        for player in (players[0], *players[2:]):
            player.until(lambda player=player: [m.timestamp for m in player.messages] == [0, 40, 80])
        far[descriptor].setblocking(False)
        with pytest.raises(BlockingIOError):
            far[descriptor].recv(1)


def test_a_reset_by_the_client_is_no_error_of_ours(
    edge: Edge, link: FakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(server.getsockname())
    theirs, _ = server.accept()
    server.close()
    assert edge.enters(theirs, "127.0.0.1")
    edge.open_rtmp(theirs, "127.0.0.1", b"", False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    ours.close()
    eventually(lambda: edge.clients == {}, 10)
    assert warnings(caplog) == []


def test_a_closed_client_that_stays_is_cut_off_in_time(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    say(edge, link, traffic.CloseSession(1, "kicked"))
    (lingering,) = edge.lingering
    edge.end_lingering(lingering.deadline - 0.1)
    assert edge.lingering
    edge.end_lingering(lingering.deadline + 0.1)
    assert not edge.lingering
    peer.until_ended()


@pytest.mark.parametrize("limit", ["max_connections", "max_per_address"])
def test_closing_sockets_count_as_connections(limit: str) -> None:
    edge, _, link = make_edge(**{limit: 2})
    first, second = attached(edge, link), attached(edge, link)
    say(edge, link, traffic.CloseSession(1, "kicked"))
    third = Peer(edge)
    assert third.client is None
    third.until_ended()
    assert edge.counters.connections_refused == 1
    first.sock.close()
    eventually(lambda: not edge.lingering, 10)
    assert Peer(edge).client is not None
    second.sock.close()


def test_connections_of_one_address_are_limited_and_loopback_is_exempt() -> None:
    edge, _, _ = make_edge(max_per_address=2)
    peers = [Peer(edge, "203.0.113.1") for _ in range(3)]
    assert [peer.client is not None for peer in peers] == [True, True, False]
    assert Peer(edge, "203.0.113.2").client is not None
    network = [Peer(edge, f"2001:db8::{number:x}") for number in range(3)]
    assert [peer.client is not None for peer in network] == [True, True, False]
    assert all(Peer(edge, "127.0.0.1").client is not None for _ in range(4))
    assert all(Peer(edge, "::1").client is not None for _ in range(4))
    peers[0].sock.close()
    eventually(lambda: edge.admission.held["203.0.113.1"] == 1, 10)
    assert Peer(edge, "203.0.113.1").client is not None


def test_shutdown_tells_every_client_and_ends_the_links(edge: Edge, link: FakeLink) -> None:
    peers = [attached(edge, link) for _ in range(3)]
    stranger = Peer(edge)

    def read() -> None:
        for peer in [*peers, stranger]:
            peer.until_ended()
            peer.sock.close()

    reading = gevent.spawn(read)
    edge.shutdown("the edge is stopping", within_s=10)
    reading.get(timeout=10)
    assert [peer.statuses() for peer in peers] == [["NetConnection.Connect.AppShutdown"]] * 3
    assert stranger.statuses() == []
    assert link.closed == ["the edge is stopping"]
    assert len(link.of(traffic.Detach)) == 3
    late = Peer(edge)
    assert late.client is None


def test_health_counts(edge: Edge, link: FakeLink) -> None:
    attached(edge, link)
    Peer(edge)
    link.queued_bytes, link.state.resent_batches, link.state.unknown = 70, 3, 1
    health = edge.health()
    assert (health["clients"], health["connected"]) == (2, 1)
    assert health["links"] == {
        "origin-1": {"peer": "origin-1", "sessions": 1, "queued_bytes": 70, "resent_batches": 3, "unknown": 1}
    }
    assert health["counters"]["connections_accepted"] == 2
