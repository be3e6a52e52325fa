"""RTMPT sessions on edges: requests in their order, answers that come again, and sessions that go from edge to edge."""

import time
from collections.abc import Iterator

import pytest
from headwater_bus import traffic
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.message import Message
from headwater_rtmp.rtmpt import Verb
from support.tunnels import Request, TunnelEdge, TunnelPeer, end_tunnels
from support.waiting import eventually


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


def sent(edge: TunnelEdge) -> list[tuple[int, bytes]]:
    return [(message.number, message.payload) for message in edge.link.of(traffic.FromClient)]


def call(peer: TunnelPeer, name: str) -> None:
    peer.command(name, None, transaction=2.0)


def names(edge: TunnelEdge) -> list[str]:
    return [
        decode_command(Message(envelope.type_id, 0, 0, envelope.payload)).name
        for envelope in edge.link.of(traffic.FromClient)
    ]


def test_a_session_connects_and_its_messages_go_to_the_origin(one: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    call(peer, "hello")
    peer.post()
    assert names(one) == ["hello"]
    answer = encode_command("_result", 2.0, None, "hi")
    one.say(traffic.ToClient(peer.client.session, answer.type_id, 0, 0, answer.payload))
    peer.until(lambda: any(command.args == ["hi"] for command in peer.commands()))


def test_idents_and_strangers_are_not_found(one: TunnelEdge) -> None:
    assert one.request("/fcs/ident2", b"\x00").status == 404
    assert one.request("/send/" + "a" * 32 + "/1", b"x").status == 404
    assert one.request("/elsewhere").status == 404
    assert len(one.edge.tunnels) == 0


def test_a_repeated_request_gets_the_same_answer_and_its_body_is_taken_once(one: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    call(peer, "once")
    body, sequence = peer.out, peer.sequence
    first = peer.post()
    again = one.request(peer.target(Verb.SEND, sequence), body)
    assert (again.status, again.reply) == (200, first.reply)
    assert names(one) == ["once"]
    assert one.edge.counters.requests_repeated == 1


def test_a_request_before_its_turn_waits_for_the_others(one: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    call(peer, "first")
    first, peer.out = peer.out, b""
    call(peer, "second")
    second = Request(peer.target(Verb.SEND, peer.sequence + 1), peer.out)
    one.edge.tunnels.request(second)  # type: ignore[arg-type]  # all that it needs of a request
    assert one.request(peer.target(Verb.SEND), first).status == 200
    eventually(lambda: second.done, 10, "the answer to the second")
    assert second.status == 200
    assert names(one) == ["first", "second"]


def test_a_request_whose_predecessors_never_come_ends_the_session(request: pytest.FixtureRequest) -> None:
    one = TunnelEdge("edge-1", request.node.name, tunnel_early_s=0.05)
    peer = TunnelPeer(one).attached()
    early = Request(peer.target(Verb.SEND, peer.sequence + 3), b"x")
    one.edge.tunnels.request(early)  # type: ignore[arg-type]  # all that it needs of a request

    def refused() -> bool:
        one.edge.tunnels.check_deadlines(time.monotonic())
        return early.done

    eventually(refused, 10, "refused")
    assert early.status == 409
    assert one.link.of(traffic.Detach)[0].reason.startswith("request ")
    assert one.request(peer.target(Verb.IDLE), b"\x00").status == 404


def test_an_old_copy_is_refused_and_the_session_goes_on(one: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    call(peer, "first")
    old = Request(peer.target(Verb.SEND), peer.out)
    peer.post()
    peer.post()
    one.edge.tunnels.request(old)  # type: ignore[arg-type]  # all that it needs of a request
    assert (old.status, one.edge.counters.requests_refused) == (409, 1)
    call(peer, "second")
    peer.post()
    assert names(one) == ["first", "second"]


def test_what_is_told_to_an_old_copy_ends_the_session_when_the_client_asks(
    one: TunnelEdge, request: pytest.FixtureRequest
) -> None:
    two = TunnelEdge("edge-2", request.node.name, tunnel_hold_s=2.0, tunnel_early_s=0.0)
    peer = TunnelPeer(one).attached()
    peer.until(lambda: not peer.out)
    copied = peer.target(Verb.IDLE)
    for _ in range(3):
        peer.post()  # Nothing is told: it is not stored how many there were.
    copy = Request(copied, b"\x00")
    two.edge.tunnels.request(copy)  # type: ignore[arg-type]  # all that it needs of a request
    eventually(lambda: two.link.of(traffic.Attach), 10, "taken over")
    assert not copy.done
    session = two.link.of(traffic.Attach)[0].session
    answer = encode_command("hello", 0, None)
    two.say(
        traffic.Attached(session, 0, False), traffic.ToClient(session, answer.type_id, 0, 0, answer.payload)
    )
    eventually(lambda: copy.done, 10, "the answer to the copy")
    assert copy.status == 200
    assert len(copy.reply) > 1
    peer.edge = two
    asked = Request(peer.target(Verb.IDLE), b"\x00")
    two.edge.tunnels.request(asked)  # type: ignore[arg-type]  # all that it needs of a request
    assert not asked.done

    def refused() -> bool:
        two.edge.tunnels.check_deadlines(time.monotonic())
        return asked.done

    eventually(refused, 10, "refused")
    assert asked.status == 409


def test_a_session_that_was_refused_is_found_by_no_other_edge(one: TunnelEdge, two: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    peer.post()
    assert one.request(peer.target(Verb.SEND, peer.sequence + 50), b"x").status == 409
    assert two.request(peer.target(Verb.IDLE), b"\x00").status == 404


def test_another_edge_goes_on_with_the_session(one: TunnelEdge, two: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    call(peer, "first")
    peer.post()
    one.say(traffic.SessionState(peer.client.session, b"state"))
    peer.edge = two
    call(peer, "second")
    peer.post()
    (attach,) = two.link.of(traffic.Attach)
    assert attach.resumed
    assert attach.fence > one.link.of(traffic.Attach)[0].fence > 0
    assert attach.session_id == one.link.of(traffic.Attach)[0].session_id
    # The first one was not acknowledged, and may be lost with the edge; numbers tell the origin what it has.
    assert [number for number, _ in sent(two)] == [1, 2]
    assert names(two) == ["first", "second"]
    one.say(traffic.SessionTaken(attach.session, attach.fence))
    assert one.link.of(traffic.Detach) == []


def test_the_edge_that_lost_a_session_says_nothing_more_of_it(one: TunnelEdge, two: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    former = peer.client
    call(peer, "stale")
    late = Request(peer.target(Verb.SEND), peer.out)
    peer.edge = two
    peer.post()
    late.gone = True
    one.edge.tunnels.request(late)  # type: ignore[arg-type]  # all that it needs of a request
    eventually(lambda: former.closed, 10, "the former edge knows")
    assert names(one) == []
    assert one.link.of(traffic.Detach) == []
    assert len(one.edge.tunnels) == 0


def test_a_session_can_come_back_to_its_first_edge(one: TunnelEdge, two: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    call(peer, "zero")
    peer.post()
    for edge, name in ((two, "a"), (one, "b"), (two, "c"), (one, "d")):
        peer.edge = edge
        call(peer, name)
        peer.post()
    attach = one.link.of(traffic.Attach)[-1]
    assert attach.resumed
    assert names(one)[-5:] == ["zero", "a", "b", "c", "d"]
    assert [number for number, _ in sent(one)][-5:] == [1, 2, 3, 4, 5]


def test_idle_requests_write_nothing(one: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    peer.post()
    written = one.edge.counters.records_written
    for _ in range(5):
        assert peer.post().status == 200
    assert one.edge.counters.records_written == written


def test_idle_requests_that_nobody_stored_do_not_matter_to_the_next_edge(
    one: TunnelEdge, two: TunnelEdge
) -> None:
    peer = TunnelPeer(one).attached()
    for _ in range(20):
        peer.post()
    peer.edge = two
    call(peer, "later")
    assert peer.post().status == 200
    assert names(two) == ["later"]


def test_output_that_was_not_answered_is_kept_for_the_next_edge(
    request: pytest.FixtureRequest, two: TunnelEdge
) -> None:
    one = TunnelEdge("edge-1", request.node.name, tunnel_answer_bytes=1000)
    peer = TunnelPeer(one).attached()
    session = peer.client.session
    one.say(*[traffic.ToClient(session, 18, 0, 0, bytes([number]) * 300) for number in range(20)])
    peer.post()
    peer.edge = two
    peer.until(lambda: [m for m in peer.messages if m.type_id == 18 and m.payload[:1] == b"\x13"])
    assert [m.payload[0] for m in peer.messages if m.type_id == 18] == list(range(20))


def test_the_answer_to_a_close_is_the_last(one: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    closed = one.request(peer.target(Verb.CLOSE), b"\x00")
    assert (closed.status, closed.reply) == (200, b"\x00")
    assert one.link.of(traffic.Detach)[0].reason == "closed by the client"
    assert len(one.edge.tunnels) == 0


def test_nothing_is_heard_before_it_is_stored(one: TunnelEdge) -> None:
    peer = TunnelPeer(one).attached()
    session = peer.client.session
    answer = encode_command("hello", 0, None)
    one.say(traffic.ToClient(session, answer.type_id, 0, 0, answer.payload), traffic.Applied([session, 0, 7]))
    assert [envelope.rows for envelope in one.link.of(traffic.Heard)] == []
    peer.until(lambda: peer.commands())
    eventually(lambda: one.link.of(traffic.Heard), 10, "heard")
    assert one.link.of(traffic.Heard)[-1].rows == [session, 0, 7]


def test_a_session_without_requests_ends(request: pytest.FixtureRequest) -> None:
    one = TunnelEdge("edge-1", request.node.name, tunnel_idle_s=30.0)
    peer = TunnelPeer(one).attached()
    one.edge.tunnels.check_deadlines(time.monotonic() + 29)
    assert one.link.of(traffic.Detach) == []
    one.edge.tunnels.check_deadlines(time.monotonic() + 31)
    assert one.link.of(traffic.Detach)[0].reason == "no request for 30 s"
    assert one.request(peer.target(Verb.IDLE), b"\x00").status == 404
