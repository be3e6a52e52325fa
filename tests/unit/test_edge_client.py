"""Clients of an edge on real sockets: connecting, limits, queues."""

import logging
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from headwater_bus import object_traffic, traffic
from headwater_bus.rows import pack_rows
from headwater_edge.client import Client, Phase
from headwater_edge.edge import Edge
from headwater_rtmp.chunk import encode_message
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status
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


# Connecting


def test_connect_reaches_the_origin_and_its_answer_the_client(edge: Edge, link: FakeLink) -> None:
    peer = Peer(edge, "203.0.113.9").connect()
    (attach,) = eventually(lambda: link.of(traffic.Attach), 10)
    assert (attach.session, attach.group, attach.epoch) == (1, "live/_definst_", 3)
    assert (attach.session_id, attach.address, attach.object_encoding) == ("b00t-1", "203.0.113.9", 0)
    command = decode_command(Message(attach.type_id, 0, 0, attach.payload))
    assert command.name == "connect"
    assert peer.client is not None
    assert peer.client.phase == Phase.CONNECTING
    say(
        edge,
        link,
        traffic.Attached(1, 0, False),
        traffic.ToClient(1, 20, 0, 0, b"\x02\x00\x01x\x00" + bytes(8)),
    )
    peer.until(lambda: peer.commands())
    assert peer.commands()[0].name == "x"
    assert peer.client.phase == Phase.CONNECTED  # type: ignore[comparison-overlap]  # what was said has changed it, which mypy cannot know
    assert peer.rtmp.peer_bandwidth == edge.config.window_ack_bytes


def test_what_the_protocol_says_first_leaves_with_the_answer(edge: Edge, link: FakeLink) -> None:
    peer = Peer(edge).connect()
    eventually(lambda: link.of(traffic.Attach), 10)
    assert edge.counters.bytes_out == 1 + 2 * 1536
    say(edge, link, traffic.Attached(1, 0, False))
    peer.until(lambda: peer.rtmp.peer_bandwidth)
    assert edge.clients[1].rtmp.chunk_size == edge.config.chunk_size


def test_a_refusal_comes_in_chunks_that_the_client_knows(edge: Edge, link: FakeLink) -> None:
    peer = Peer(edge).connect()
    eventually(lambda: link.of(traffic.Attach), 10)
    refusal = encode_command("_error", 1, None, status(StatusCode.CONNECT_REJECTED, "no" * 500))
    say(
        edge,
        link,
        traffic.ToClient(1, refusal.type_id, 0, 0, refusal.payload),
        traffic.CloseSession(1, "connect refused"),
    )
    peer.until_ended()
    assert peer.statuses() == ["NetConnection.Connect.Rejected"]


def test_clients_of_one_group_share_its_name_whatever_their_queries(edge: Edge, link: FakeLink) -> None:
    for app in ("live", "live?token=a", "live?token=b"):
        Peer(edge).connect(app=app)
    eventually(lambda: len(link.of(traffic.Attach)) == 3, 10)
    names = [client.home.group for client in edge.clients.values()]
    assert names == ["live/_definst_"] * 3
    # Found by what is no query: that may hold a secret, which is not to be remembered.
    assert len(set(map(id, names))) == 1


def test_amf3_clients_are_attached_as_such(edge: Edge, link: FakeLink) -> None:
    peer = Peer(edge).handshake()
    peer.command("connect", {"app": "live", "objectEncoding": 3.0}, amf3=True)
    (attach,) = eventually(lambda: link.of(traffic.Attach), 10)
    assert (attach.type_id, attach.object_encoding) == (17, 3)


def test_what_comes_right_behind_connect_is_forwarded_after_the_answer(edge: Edge, link: FakeLink) -> None:
    peer = Peer(edge).connect()
    for transaction in (2.0, 3.0):
        peer.command("createStream", transaction=transaction)
    eventually(lambda: edge.clients[1].early and len(edge.clients[1].early) == 2, 10)
    assert link.of(traffic.FromClient) == []
    say(edge, link, traffic.Attached(1, 0, False))
    forwarded = [decode_command(Message(m.type_id, 0, 0, m.payload)) for m in link.of(traffic.FromClient)]
    assert [command.transaction_id for command in forwarded] == [2.0, 3.0]


@pytest.mark.parametrize(("count", "size"), [(65, 10), (3, 60_000)])
def test_too_much_before_the_answer_to_connect_closes(edge: Edge, count: int, size: int) -> None:
    peer = Peer(edge).connect()
    for _ in range(count):
        peer.send(peer.rtmp.send(Message(20, 0, 0, bytes(size))))
    peer.until_ended()
    assert edge.counters.protocol_errors == 1


def test_an_unknown_application_is_refused_at_once(edge: Edge) -> None:
    peer = Peer(edge).handshake()
    peer.command("connect", {"app": "nosuch"}, transaction=4.0)
    peer.until_ended()
    (command,) = peer.commands()
    assert (command.name, command.transaction_id) == ("_error", 4.0)
    assert peer.statuses() == ["NetConnection.Connect.InvalidApp"]


def test_a_refusal_comes_behind_the_handshake_of_a_client_that_waits_for_nothing(edge: Edge) -> None:
    peer = Peer(edge)
    connect = encode_message(encode_command("connect", 1, {"app": "nosuch"}), 3, 128)
    peer.send(peer.rtmp.data_to_send() + bytes(1536) + connect)
    peer.until_ended()
    assert peer.statuses() == ["NetConnection.Connect.InvalidApp"]


@pytest.mark.parametrize("app", [7.0, "", "../etc", None, "live/" + "/".join(["x" * 100] * 3)])
def test_a_connect_that_names_no_application_is_refused(edge: Edge, app: object) -> None:
    peer = Peer(edge).handshake()
    peer.command("connect", {"app": app})
    peer.until_ended()
    assert peer.statuses() == ["NetConnection.Connect.InvalidApp"]


BROKEN = {
    "a command before connect": encode_message(Message(20, 0, 0, b"\x02\x00\x01x\x00" + bytes(8)), 3, 128),
    "media before connect": encode_message(Message(9, 1, 0, b"\x17\x01"), 6, 128),
    "connect without an object": encode_message(
        Message(20, 0, 0, b"\x02\x00\x07connect\x00" + bytes(8) + b"\x05"), 3, 128
    ),
    "AMF cut short": encode_message(Message(20, 0, 0, b"\x02\x00\x07conn"), 3, 128),
    "a type 3 chunk first": b"\xc3",
    "chunk size 0": encode_message(Message(1, 0, 0, bytes(4)), 2, 128),
    "an oversized message": b"\x03\x00\x00\x00\xff\xff\xff\x14\x00\x00\x00\x00",
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_what_is_no_rtmp_closes_with_one_line(
    edge: Edge, link: FakeLink, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    witness = attached(edge, link)
    peer = Peer(edge).handshake()
    with caplog.at_level(logging.INFO, "headwater"):
        peer.send(BROKEN[name])
        peer.until_ended()
    assert len(warnings(caplog)) == 1
    assert edge.counters.protocol_errors == 1
    assert witness.client is not None
    assert not witness.client.closed


def test_an_error_of_the_edge_itself_ends_one_client_only(
    edge: Edge, link: FakeLink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(client: Any, message: Message) -> None:
        raise ZeroDivisionError("by design")

    peer, witness = attached(edge, link), attached(edge, link)
    monkeypatch.setattr(edge.router, "route", broken)
    peer.command("call")
    peer.until_ended()
    monkeypatch.undo()
    witness.command("call")
    eventually(lambda: link.of(traffic.FromClient), 10)
    assert edge.counters.internal_errors == 1
    assert ["ZeroDivisionError" in text for text in warnings(caplog)] == [True]
    edge.counters.internal_errors = 0


# Connected


def test_messages_go_to_the_origin_and_unknown_ones_are_counted(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    peer.send(peer.rtmp.send(Message(99, 0, 0, b"?")))
    peer.send(peer.rtmp.send(Message(19, 0, 5, b"object")))
    (forwarded,) = eventually(lambda: link.of(traffic.FromClient), 10)
    assert (forwarded.type_id, forwarded.timestamp, forwarded.payload) == (19, 5, b"object")
    assert edge.counters.messages_ignored == 1


def test_a_second_connect_is_the_origin_s_to_answer(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    peer.command("connect", {"app": "live"})
    eventually(lambda: link.of(traffic.FromClient), 10)
    assert len(link.of(traffic.Attach)) == 1


def test_media_of_a_publisher_is_numbered(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    peer.send(peer.rtmp.send(Message(9, 1, 0, b"early")))
    eventually(lambda: link.of(traffic.FromClient), 10)
    say(edge, link, traffic.PublishStarted(1, 1, 12, "a"))
    for timestamp in (40, 80):
        peer.send(peer.rtmp.send(Message(9, 1, timestamp, b"video")))
    eventually(lambda: len(link.of(traffic.PublisherMedia)) == 2, 10)
    first, second = link.of(traffic.PublisherMedia)
    assert [(m.stream, m.timestamp) for m in (first, second)] == [(12, 40), (12, 80)]
    assert second.number == first.number + 1
    say(edge, link, traffic.PublishStopped(1, 1))
    peer.send(peer.rtmp.send(Message(9, 1, 120, b"late")))
    eventually(lambda: len(link.of(traffic.FromClient)) == 2, 10)


def test_a_flood_of_tiny_messages_leaves_others_their_turn() -> None:
    edge, _, link = make_edge(kept_messages=30_000)
    before, flooder, behind = (attached(edge, link) for _ in range(3))
    # Type 3 chunks of empty messages: one byte each.
    flooder.send(flooder.rtmp.send(Message(19, 0, 0, b""), csid=5))
    eventually(lambda: link.of(traffic.FromClient), 10)
    link.sent.clear()
    # One on either side of it in the order in which sockets become ready, whichever end the loop begins at.
    before.send(before.rtmp.send(Message(19, 0, 0, b"me too")))
    flooder.send(b"\xc5" * 20_000)
    behind.send(behind.rtmp.send(Message(19, 0, 0, b"me too")))
    eventually(lambda: len(link.of(traffic.FromClient)) == 20_002, 20)
    places = [at for at, m in enumerate(link.of(traffic.FromClient)) if m.payload]
    assert len(places) == 2
    assert max(places) < 10_000


def test_a_client_whose_origin_does_not_keep_up_is_not_read(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    assert peer.client is not None
    link.queued_bytes = edge.config.link_bytes + 1
    peer.command("one")
    eventually(lambda: peer.client in edge.paused, 10)
    link.sent.clear()
    peer.command("two")
    edge.resume_readers()
    for _ in range(20):
        gevent.sleep(0)
    assert link.sent == []
    # Nobody listens, so silence means nothing.
    edge.check_deadlines(peer.client.heard_at + 1000)
    assert not peer.client.closed
    link.queued_bytes = 0
    edge.resume_readers()
    eventually(lambda: link.of(traffic.FromClient), 10)
    assert not edge.paused


def test_a_paused_client_is_read_again_by_itself(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    link.queued_bytes = edge.config.link_bytes + 1
    peer.command("one")
    eventually(lambda: edge.paused, 10)
    link.sent.clear()
    peer.command("two")
    link.queued_bytes = 0
    eventually(lambda: link.of(traffic.FromClient), 10)
    assert not edge.paused


def test_a_paused_client_that_cannot_be_read_keeps_no_other_from_it(
    edge: Edge, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = [attached(edge, link), attached(edge, link)]
    link.queued_bytes = edge.config.link_bytes + 1
    for peer in peers:
        peer.command("one")
    eventually(lambda: len(edge.paused) == 2, 10)
    broken, _ = list(edge.paused)

    def fail(self: Client) -> None:
        if self is broken:
            raise KeyError("a bug")
        resume(self)

    resume = type(broken).resume_reading
    monkeypatch.setattr(type(broken), "resume_reading", fail)
    link.queued_bytes = 0
    eventually(lambda: not edge.paused, 10)
    eventually(lambda: len(edge.clients) == 1, 10)
    assert broken not in edge.clients.values()


def test_a_paused_client_that_goes_is_noticed_when_it_is_read_again(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    assert peer.client is not None
    link.queued_bytes = edge.config.link_bytes + 1
    peer.command("one")
    eventually(lambda: edge.paused, 10)
    peer.sock.close()
    link.queued_bytes = 0
    edge.resume_readers()
    eventually(lambda: edge.clients == {}, 10)


def test_a_paused_client_may_be_closed(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    link.queued_bytes = edge.config.link_bytes + 1
    peer.command("one")
    eventually(lambda: edge.paused, 10)
    say(edge, link, traffic.CloseSession(1, "enough"))
    assert not edge.paused
    edge.resume_readers()
    peer.until_ended()


# Queues


def test_what_a_full_socket_leaves_of_a_send_follows(edge: Edge, link: FakeLink) -> None:
    peer = Peer(edge, buffer_bytes=4096).connect()
    eventually(lambda: link.of(traffic.Attach), 10)
    say(edge, link, traffic.Attached(1, 0, False))
    client = edge.clients[1]
    message = Message(9, 1, 0, bytes(1_000_000))
    client.transmit(encode_message(message, 3, edge.config.chunk_size))
    assert 0 < client.backlog_bytes < 1_000_000
    client.transmit(encode_message(message, 3, edge.config.chunk_size))  # Behind it.
    peer.until(lambda: len(peer.messages) == 2)
    assert client.outbox is None
    assert edge.counters.internal_errors == 0


def test_much_data_arrives_whole_through_a_small_socket(edge: Edge, link: FakeLink) -> None:
    peer = Peer(edge, buffer_bytes=4096).connect()
    eventually(lambda: link.of(traffic.Attach), 10)
    say(edge, link, traffic.Attached(1, 0, False))
    payloads = [bytes([number]) * (1 + number * 997 % 9_000) for number in range(100)]
    say(edge, link, *(traffic.ToClient(1, 18, 1, 0, payload) for payload in payloads))
    assert peer.client is not None
    assert peer.client.backlog_bytes > 0
    peer.until(lambda: sum(m.type_id == 18 for m in peer.messages) == len(payloads))
    assert [m.payload for m in peer.messages if m.type_id == 18] == payloads
    eventually(lambda: peer.client is not None and peer.client.backlog_bytes == 0, 10)


def test_a_client_that_reads_nothing_is_closed_with_a_status(caplog: pytest.LogCaptureFixture) -> None:
    edge, _, link = make_edge(client_queue_bytes=300_000)
    peer = Peer(edge, buffer_bytes=4096).connect()
    eventually(lambda: link.of(traffic.Attach), 10)
    say(edge, link, traffic.Attached(1, 0, False))
    for _ in range(40):
        say(edge, link, traffic.ToClient(1, 18, 1, 0, bytes(10_000)))
    assert edge.clients == {}
    assert link.of(traffic.Detach)[0].reason.startswith("slow client")
    assert len(warnings(caplog)) == 1
    peer.until_ended()
    assert peer.statuses() == ["NetConnection.Connect.Closed"]
    peer.sock.close()
    eventually(lambda: not edge.lingering, 10)


def test_a_client_that_is_sent_too_much_at_once_can_read_why_it_is_closed() -> None:
    edge, _, link = make_edge(client_queue_bytes=100_000)
    peer = Peer(edge).connect()
    eventually(lambda: link.of(traffic.Attach), 10)
    # All in one batch: what the protocol says first has not left when that is dropped.
    say(
        edge,
        link,
        traffic.Attached(1, 0, False),
        *(traffic.ToClient(1, 18, 0, 0, bytes(30_000)) for _ in range(5)),
    )
    peer.until_ended()
    assert peer.statuses() == ["NetConnection.Connect.Closed"]


def test_a_slow_member_of_an_object_catches_up_when_its_queue_drains() -> None:
    edge, _, link = make_edge(object_queue_bytes=50_000, object_flush_ms=0)
    peer = Peer(edge, buffer_bytes=4096).connect()
    eventually(lambda: link.of(traffic.Attach), 10)
    say(
        edge,
        link,
        traffic.Attached(1, 0, False),
        object_traffic.ObjectOpened(5, "so", False, 0, 0, 0, GROUP, NOTHING),
    )
    say(edge, link, object_traffic.ObjectJoined(1, 5, -1))
    for version in range(1, 300):
        value = b"\x02\x03\xe8" + b"%04d" % version * 250
        say(edge, link, object_traffic.ObjectUpdate(5, version, version, 0, pack_rows([[4, "x", value]])))
    assert peer.client is not None
    assert peer.client.backlog_bytes < 60_000
    peer.until(lambda: peer.messages and b"0299" in peer.messages[-1].payload)
    assert len([m for m in peer.messages if m.type_id == 19]) < 120
    assert edge.counters.object_merges > 180


def test_a_slow_member_that_has_missed_too_much_is_closed_and_its_socket_is_left_alone() -> None:
    edge, _, link = make_edge(object_queue_bytes=50_000, client_queue_bytes=400_000)
    peer = Peer(edge, buffer_bytes=4096).connect()
    eventually(lambda: link.of(traffic.Attach), 10)
    say(edge, link, traffic.Attached(1, 0, False))
    fanouts = [StandInObject(100_000) for _ in range(12)]
    client: Any = peer.client  # `behind` gets stand-ins
    assert client is not None
    client.enqueue(bytes(60_000))
    client.behind = dict.fromkeys(fanouts, 1)
    edge.flush_clients()
    outbox = client.outbox
    assert outbox is not None
    assert outbox.full
    # Nothing is read as RTMP: what was queued first is none.
    eventually(lambda: (drained(peer), not client.backlog_bytes)[1], 10)  # type: ignore[func-returns-value]  # an act and a look in one expression
    # One object's worth at a time, so twelve that together are too much do not come together.
    assert [fanout.caught_up for fanout in fanouts] == [1] * 12
    assert not client.closed

    # One that is too much alone closes the client; nothing may go on with its socket then.
    client.enqueue(bytes(60_000))
    client.behind = {StandInObject(500_000): 1}
    edge.flush_clients()
    eventually(lambda: (drained(peer), client.closed)[1], 10)  # type: ignore[func-returns-value]  # an act and a look in one expression
    assert client.outbox is None
    assert client.behind is None
    fired = edge.counters.bytes_out
    assert edge.clients == {}
    eventually(lambda: (drained(peer), peer.ended)[1], 10)  # type: ignore[func-returns-value]  # an act and a look in one expression
    peer.sock.close()
    eventually(lambda: not edge.lingering, 10)
    assert edge.counters.bytes_out == fired


class StandInObject:
    """A SharedObject of which a member has missed so many bytes."""

    def __init__(self, size: int) -> None:
        self.size, self.caught_up = size, 0

    def catch_up(self, number: int, client: Client) -> None:
        self.caught_up += 1
        client.enqueue(bytes(self.size))

    def leave(self, session: int) -> None:
        pass


def drained(peer: Peer) -> None:
    """Read what has come, whatever it is."""
    try:
        peer.ended = not peer.sock.recv(1 << 20)
    except BlockingIOError:
        pass


def test_an_answer_that_is_too_much_closes_and_pauses_nobody(edge: Edge, link: FakeLink) -> None:
    peer = attached(edge, link)
    client = peer.client
    assert client is not None
    link.queued_bytes = edge.config.link_bytes + 1
    client.enqueue(bytes(edge.config.client_queue_bytes - 2))
    # A ping, which the RTMP core answers by itself.
    peer.send(peer.rtmp.send(Message(4, 0, 0, b"\0\x06\0\0\0\1")))
    eventually(lambda: client.closed, 10)
    assert not edge.paused


def test_players_get_the_stream_of_a_link(edge: Edge, link: FakeLink) -> None:
    peers = [attached(edge, link) for _ in range(3)]
    say(edge, link, traffic.StreamOpened(8, "a", GROUP), traffic.StreamMedia(8, 0, 9, 0, b"\x17\x01\0\0\0k"))
    sessions = [peer.client.session for peer in peers if peer.client is not None]
    say(edge, link, *(traffic.PlayStarted(session, 1, 8) for session in sessions))
    say(edge, link, traffic.StreamMedia(8, 1, 9, 40, b"\x27\x01\0\0\0i"))
    for peer in peers:
        peer.until(lambda peer=peer: len(peer.messages) == 2)
        assert [m.timestamp for m in peer.messages] == [0, 40]
    assert edge.counters.start_messages_encoded == edge.counters.messages_encoded == 1
    assert edge.counters.media_received == 2
    assert edge.health()["streams"] == {"a": 3}
    peers[0].sock.close()
    eventually(lambda: edge.health()["streams"] == {"a": 2}, 10)
    say(edge, link, traffic.PlayStopped(2, 1), traffic.PlayStopped(3, 1), traffic.StreamClosed(8))
    assert edge.health()["streams"] == {}
