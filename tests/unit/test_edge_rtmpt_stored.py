"""What of an RTMPT session waits until it is stored, what another edge does with what was not done yet, sessions that fail."""

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from headwater_amf import amf0
from headwater_bus import object_traffic, traffic
from headwater_bus.rows import pack_rows
from headwater_bus.view import Assignment
from headwater_edge.attachment import Attachment
from headwater_edge.auth import Asked, Authentication, Verdict
from headwater_edge.client import Phase
from headwater_edge.gate import Gate
from headwater_edge.rtmpt.client import TunnelOutbox
from headwater_edge.rtmpt.records import NOTHING, Records
from headwater_edge.standing import RestoredPlayer
from headwater_rtmp.command import decode_command
from headwater_rtmp.message import Message
from headwater_rtmp.rtmpt import Verb
from headwater_rtmp.shared_object import Event, EventType, encode_shared_object
from headwater_store import open_leases
from support.edge import GROUP, FakeLink, lose
from support.tunnels import Request, TunnelEdge, TunnelPeer, end_tunnels
from support.waiting import eventually

BOARD = f"{GROUP}#so:board"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    end_tunnels()


@pytest.fixture
def one(request: pytest.FixtureRequest) -> TunnelEdge:
    return TunnelEdge("edge-1", request.node.name)


@pytest.fixture
def two(request: pytest.FixtureRequest) -> TunnelEdge:
    return TunnelEdge("edge-2", request.node.name)


def ask(edge: TunnelEdge, target: str, body: bytes = b"\x00") -> Request:
    """A request that is not waited for."""
    request = Request(target, body)
    edge.edge.tunnels.request(request)  # type: ignore[arg-type]  # all that it needs of a request
    return request


def names(edge: TunnelEdge) -> list[str]:
    return [
        decode_command(Message(envelope.type_id, 0, 0, envelope.payload)).name
        for envelope in edge.link.of(traffic.FromClient)
    ]


def pings(peer: TunnelPeer, first: int, last: int) -> None:
    for number in range(first, last + 1):
        peer.command(f"call{number}", None, transaction=number + 1)


class Undecided(Authentication):
    """Keeps whoever asks waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Any] = []

    def check(self, asked: Asked, answer: Any) -> None:
        self.answers.append(answer)


def test_another_edge_lets_nobody_in_whose_credentials_are_still_looked_at(
    request: pytest.FixtureRequest,
) -> None:
    authentications = [Undecided(), Undecided()]
    one, two = (
        TunnelEdge(f"edge-{number}", request.node.name, Gate(authentication), tunnel_pause_s=0.0)
        for number, authentication in enumerate(authentications, 1)
    )
    peer = TunnelPeer(one).connect()
    assert authentications[0].answers
    peer.edge = two
    peer.post()
    eventually(lambda: authentications[1].answers, 10, "asked again")
    assert one.link.of(traffic.Attach) == two.link.of(traffic.Attach) == []
    assert peer.client.phase == Phase.CONNECTING
    client = peer.client
    authentications[1].answers[0](Verdict(False, "no"))
    assert client.closed
    peer.until(lambda: [command.name for command in peer.commands()] == ["_error"])
    assert two.link.of(traffic.Attach) == []


def test_another_edge_lets_in_whom_it_has_found_good(request: pytest.FixtureRequest) -> None:
    authentications = [Undecided(), Undecided()]
    one, two = (
        TunnelEdge(f"edge-{number}", request.node.name, Gate(authentication), tunnel_pause_s=0.0)
        for number, authentication in enumerate(authentications, 1)
    )
    peer = TunnelPeer(one).connect()
    peer.edge = two
    peer.post()
    eventually(lambda: authentications[1].answers, 10, "asked again")
    authentications[1].answers[0](Verdict(True))
    (attach,) = two.link.of(traffic.Attach)
    assert not attach.resumed


# What waits to be stored


class Spread:
    """A client of a spread scope, whose object `board` is at a link of its own."""

    def __init__(self, edge: TunnelEdge) -> None:
        self.edge = edge
        self.groups = FakeLink("origin-2")
        edge.node.add_origin("origin-2")
        edge.edge.cluster.links["origin-2"] = self.groups  # type: ignore[assignment]  # all that it needs of a Link
        edge.node.view.groups[BOARD] = Assignment(BOARD, "origin-2", 4)
        self.peer = TunnelPeer(edge).attached()
        self.peer.until(lambda: not self.peer.out)
        self.client = self.peer.client
        self.client.spread_objects = True

    def use(self) -> int:
        """Its home has it use the object; the number of the guest."""
        use = encode_shared_object("board", 0, False, [Event(EventType.USE)])
        session = self.client.session
        self.edge.say(traffic.Routed(session, BOARD, 1, 31, [0], use.type_id, 0, 5, use.payload))
        number: int = self.groups.of(traffic.Attach)[-1].session
        return number

    def idle(self, number: int, messages: int) -> None:
        """The group has nothing of the guest."""
        self.edge.edge.cluster._on_batch(self.groups, [traffic.GuestIdle(number, messages)])  # type: ignore[arg-type]


def test_what_a_home_sends_on_goes_out_while_the_client_only_asks(one: TunnelEdge) -> None:
    spread = Spread(one)
    number = spread.use()
    one.edge.cluster._on_batch(spread.groups, [traffic.Attached(number, 0, False)])  # type: ignore[arg-type]
    assert spread.groups.of(traffic.FromGuest) == []  # It is not stored.
    spread.peer.post()
    assert len(spread.groups.of(traffic.FromGuest)) == 1
    written = one.edge.counters.records_written
    spread.peer.post()
    assert one.edge.counters.records_written == written


def test_an_idle_request_that_waits_is_answered_when_there_is_something_to_store(
    request: pytest.FixtureRequest,
) -> None:
    one = TunnelEdge("edge-1", request.node.name, tunnel_hold_s=60.0)
    spread = Spread(one)
    waits = ask(one, spread.peer.target(Verb.IDLE))
    assert not waits.done
    spread.use()
    eventually(lambda: waits.done, 10, "answered")


def test_a_guest_leaves_its_group_when_that_is_stored(one: TunnelEdge) -> None:
    spread = Spread(one)
    number = spread.use()
    one.edge.cluster._on_batch(spread.groups, [traffic.Attached(number, 1, False)])  # type: ignore[arg-type]
    spread.peer.post()
    spread.idle(number, 1)
    assert spread.groups.of(traffic.Detach) == []
    spread.peer.post()
    assert [detach.session for detach in spread.groups.of(traffic.Detach)] == [number]


def test_a_guest_that_is_needed_again_before_that_is_stored_stays(one: TunnelEdge) -> None:
    spread = Spread(one)
    number = spread.use()
    one.edge.cluster._on_batch(spread.groups, [traffic.Attached(number, 1, False)])  # type: ignore[arg-type]
    spread.peer.post()
    spread.idle(number, 1)
    assert spread.use() == number
    spread.peer.post()
    assert spread.groups.of(traffic.Detach) == []
    assert [sent.number for sent in spread.groups.of(traffic.FromGuest)] == [2]


def test_a_guest_that_is_let_go_ends_with_its_client(one: TunnelEdge, two: TunnelEdge) -> None:
    spread = Spread(one)
    number = spread.use()
    one.edge.cluster._on_batch(spread.groups, [traffic.Attached(number, 1, False)])  # type: ignore[arg-type]
    spread.peer.post()
    spread.idle(number, 1)
    spread.client.close("by the test", gone=True)
    assert [detach.session for detach in spread.groups.of(traffic.Detach)] == [number]
    assert one.edge.cluster.groups == {}


# What its former edge has not done


def test_what_was_read_and_not_taken_is_taken_by_the_next_edge(request: pytest.FixtureRequest) -> None:
    one = TunnelEdge("edge-1", request.node.name, kept_messages=2, tunnel_pause_s=0.0)
    two = TunnelEdge("edge-2", request.node.name, tunnel_pause_s=0.0)
    peer = TunnelPeer(one).attached()
    pings(peer, 1, 6)
    peer.post()
    assert len(names(one)) == 2  # No more until these are done.
    peer.edge = two
    for _ in range(5):
        peer.post()
    assert names(two) == [f"call{number}" for number in range(1, 7)]


@pytest.mark.parametrize("sizes", [(4096, 60_000), (60_000, 4096)])
def test_the_next_edge_tells_its_own_chunk_size(
    request: pytest.FixtureRequest, sizes: tuple[int, int]
) -> None:
    one, two = (TunnelEdge(f"edge-{size}", request.node.name, chunk_size=size) for size in sizes)
    peer = TunnelPeer(one).attached()
    one.say(traffic.ToClient(peer.client.session, 18, 0, 0, bytes(50_000)))
    peer.until(lambda: len(peer.messages) == 1)
    peer.edge = two
    peer.post()
    (attach,) = two.link.of(traffic.Attach)
    two.say(
        traffic.Attached(attach.session, 0, False),
        object_traffic.ObjectOpened(
            5, "board", False, 1, 0, 1, GROUP, pack_rows([["text", amf0.encode("x" * 50_000), 1]])
        ),
        object_traffic.ObjectJoined(attach.session, 5, -1),
        traffic.ToClient(attach.session, 18, 0, 0, bytes(50_000)),
    )
    peer.until(lambda: len(peer.messages) == 3)
    assert [message.type_id for message in peer.messages] == [18, 19, 18]


def test_what_is_sent_while_origins_do_not_keep_up_has_a_limit(request: pytest.FixtureRequest) -> None:
    one = TunnelEdge(
        "edge-1", request.node.name, kept_messages=2, tunnel_pause_s=0.0, http_body_bytes=300_000
    )
    one.edge.chunk_limits = type(one.edge.chunk_limits)(media_bytes=100_000)
    peer = TunnelPeer(one).attached()
    pings(peer, 1, 3)
    peer.post()
    client = peer.client
    assert client.paused
    body = bytes(100_000)
    for number in range(4):
        assert not client.closed
        peer.out = peer.rtmp.send(Message(18, 0, 0, body))
        peer.post()
        assert len(names(one)) == 2, number
    peer.out = peer.rtmp.send(Message(18, 0, 0, body))
    peer.post()
    assert client.closed
    assert client.rtmp.held_bytes <= 600_000


def test_what_came_while_origins_did_not_keep_up_goes_on_in_order(request: pytest.FixtureRequest) -> None:
    one = TunnelEdge("edge-1", request.node.name, kept_messages=2, tunnel_pause_s=0.0)
    peer = TunnelPeer(one).attached()
    session = peer.client.session
    for number in range(1, 6):
        pings(peer, number, number)
        peer.post()

    def all_done() -> bool:
        one.say(traffic.Applied([session, len(names(one)), 0]))
        return len(names(one)) == 5

    peer.until(all_done)
    assert names(one) == [f"call{number}" for number in range(1, 6)]


# Requests that come again


def test_the_answer_that_is_stored_nowhere_is_repeated_only_by_who_has_the_session(
    one: TunnelEdge, two: TunnelEdge
) -> None:
    peer = TunnelPeer(one).attached()
    peer.until(lambda: not peer.out)
    asked = peer.target(Verb.IDLE)
    peer.post()  # Empty, and its answer gets lost on its way.
    peer.edge = two
    session_at_two = two.request(asked, b"\x00")
    assert session_at_two.status == 200
    again = one.request(asked, b"\x00")
    # The first edge did not answer from memory: it has the session from the store now.
    assert again.status == 200
    assert one.edge.counters.sessions_restored == 1


def test_a_repeat_is_answered_though_a_request_before_its_turn_waits(one: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    peer.until(lambda: not peer.out)
    last = peer.target(Verb.IDLE)
    first = peer.post()
    early = ask(one, peer.target(Verb.IDLE, peer.sequence + 1))
    again = one.request(last, b"\x00")
    assert (again.status, again.reply) == (200, first.reply)
    assert not early.done
    one.request(peer.target(Verb.IDLE), b"\x00")
    eventually(lambda: early.done, 10, "its turn")
    assert early.status == 200


def test_what_was_begun_to_be_sent_is_not_dropped() -> None:
    outbox = TunnelOutbox()
    outbox.restore(b"the rest of a chunk")
    outbox.put(b"whole")
    outbox.drop()
    assert outbox.rest() == b"the rest of a chunk"
    assert outbox.backlog_bytes == len(b"the rest of a chunk")


# Sessions that fail, and none


def test_a_stream_that_has_ended_is_not_passed_on_when_it_is_stored(one: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    peer.until(lambda: not peer.out)
    session = peer.client.session
    one.say(traffic.PublishStarted(session, 1, 7, "cam"))
    peer.out = peer.rtmp.send(Message(8, 1, 0, b"\xaf\x01x"))
    asked = ask(one, peer.target(Verb.SEND), peer.out)
    one.say(traffic.PublishStopped(session, 1))
    lose(one.edge, one.link)
    eventually(lambda: asked.done, 10, "stored")
    assert asked.status == 200
    assert one.link.of(traffic.PublisherMedia) == []
    assert one.edge.counters.internal_errors == 0


def test_an_error_of_one_session_ends_that_alone() -> None:
    failed: list[tuple[str, str]] = []
    records = Records(
        open_leases("memory:failing", "rtmpt"),
        "edge-1",
        1.0,
        lambda key, error: failed.append((key, str(error))),
    )
    job = gevent.spawn(records.run)
    seen: list[Any] = []

    def fail(_: Any) -> None:
        raise RuntimeError("broken")

    records.make("a", fail)
    records.drop("b", 1, lambda: fail(None))
    records.take("c", seen.append)
    eventually(lambda: seen, 10, "the others")
    assert seen == [NOTHING]
    assert sorted(failed) == [("a", "broken"), ("b", "broken")]
    assert not job.dead
    job.kill()
    records.close()


def test_a_session_that_cannot_be_stored_ends_and_others_go_on(
    one: TunnelEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, other = TunnelPeer(one).attached(), TunnelPeer(one).attached()
    client = peer.client
    monkeypatch.setattr(type(client), "marks", _broken(client, type(client).marks))
    peer.command("hello", None)
    asked = ask(one, peer.target(Verb.SEND), peer.out)
    eventually(lambda: asked.done, 10, "its end")
    assert asked.aborted
    assert client.closed
    assert one.edge.counters.internal_errors == 1
    one.edge.counters.internal_errors = 0
    other.command("hello", None)
    assert other.post().status == 200
    assert names(one) == ["hello"]


def _broken(one: Any, marks: Any) -> Any:
    def broken(client: Any) -> Any:
        if client is one:
            raise RuntimeError("broken")
        return marks(client)

    return broken


def test_unknown_sessions_cost_the_store_no_write(one: TunnelEdge, request: pytest.FixtureRequest) -> None:
    for number in range(20):
        assert one.request(f"/send/{'a' * 30}{number:02}/1", b"x").status == 404
    assert len(one.edge.tunnels) == 0
    leases = open_leases(f"memory:{request.node.name}", "rtmpt")
    assert leases.take_over([f"{'a' * 30}{number:02}" for number in range(20)], "me") == [None] * 20


def test_what_another_edge_had_it_play_ends_with_its_attachment(one: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    client = peer.client
    client.restored = {1: _restored(7), 2: _restored(8)}
    client.forget_restored(7)
    assert list(client.restored) == [2]
    client.forget_restored(8, 1)
    assert list(client.restored) == [2]
    client.restored[3] = _restored(9)
    one.edge.cluster.detach(_attachment(client, 8), "by the test")
    assert list(client.restored) == [3]


def _restored(number: int) -> Any:
    return RestoredPlayer(number, "cam", 0, True, True, False)


def _attachment(client: Any, number: int) -> Attachment:
    return Attachment(client, number, "nowhere")
