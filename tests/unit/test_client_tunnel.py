"""NetConnection by RTMPT: requests that get lost, answers that get lost, and when to ask."""

from collections.abc import Iterator
from typing import Any

import pytest
from headwater_client import ConnectError, ConnectionClosed, NetConnection, tunnel_transport
from headwater_client.http_posts import HttpPosts
from headwater_client.tunnel_transport import TunnelTransport
from headwater_rtmp.command import Command
from headwater_rtmp.connection import Connection
from headwater_rtmp.message import Message
from headwater_rtmp.rtmpt import SessionRequest, Verb, parse_target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.tunnel_front import Fault
from support.waiting import eventually
from unit.client_server import FakeServer, Peer, fake_server

PASSING = [Fault.LOST, Fault.UNANSWERED, Fault.CUT, Fault.AWAY, Fault.GATEWAY_TIMEOUT]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as running:
        yield running


@pytest.fixture
def connection(server: FakeServer) -> Iterator[NetConnection]:
    with NetConnection(server.tunnel_url("live")) as opened:
        yield opened


def requests(server: FakeServer) -> list[SessionRequest]:
    parsed = [parse_target(target) for target in server.front.targets]
    return [asked for asked in parsed if isinstance(asked, SessionRequest)]


def once_in(number: int, fault: Fault) -> Any:
    """Each so many requests of a session one has a fault."""
    seen = 0

    def of(target: str) -> Fault | None:
        nonlocal seen
        if target.startswith("/open"):
            return None
        seen += 1
        return fault if seen % number == 0 else None

    return of


def test_everything_goes_through_requests(server: FakeServer) -> None:
    server.to_play = [Message(9, 0, number * 40, bytes(2_000)) for number in range(100)]
    with NetConnection(server.tunnel_url("chat/lobby"), "ann") as connection:
        assert connection.call("double", 2.0) == 4.0
        shared = connection.shared_object("board")
        shared["x"] = 1.0
        shared.flush()
        stream = connection.create_stream()
        stream.publish("a")
        stream.send_video(bytes(200_000), 40)
        eventually(lambda: [len(message.payload) for message in server.peers[0].media] == [200_000], 10)
        player = connection.create_stream()
        player.play("b")
        assert len([message for message in player.messages() if message.type_id == 9]) == 100
    told = server.peers[0].connect
    assert told is not None
    assert (told.args, told.command_object["tcUrl"]) == (["ann"], server.tunnel_url("chat/lobby"))
    assert server.peers[0].gone.is_set()
    asked = requests(server)
    assert [one.sequence for one in asked] == list(range(len(asked)))
    assert [one.verb for one in asked if one.verb is Verb.CLOSE] == [Verb.CLOSE] == [asked[-1].verb]
    assert server.front.connections == 1
    assert server.front.targets[0] == "/open/1"


@pytest.mark.parametrize("fault", PASSING)
def test_what_gets_lost_is_asked_again_and_nothing_is_taken_twice(server: FakeServer, fault: Fault) -> None:
    server.front.fault = once_in(3, fault)
    counted: list[float] = []

    def count(peer: Peer, command: Command) -> None:
        counted.append(command.args[0])
        peer.command("_result", command.transaction_id, len(counted))

    server.answers["count"] = count
    with NetConnection(server.tunnel_url("live")) as connection:
        assert [connection.call("count", float(number)) for number in range(30)] == list(range(1, 31))
    assert counted == list(range(30))
    asked = [one.sequence for one in requests(server)]
    assert sorted(set(asked)) == list(range(asked[-1] + 1))
    assert len(asked) > len(set(asked))
    assert (server.front.repeats > 0) == (fault not in (Fault.LOST, Fault.AWAY))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(st.sampled_from([None, *PASSING]), max_size=60),
    sizes=st.lists(st.integers(0, 90_000), max_size=8),
)
def test_whatever_gets_lost_all_comes_once_and_in_order(faults: list[Fault | None], sizes: list[int]) -> None:
    with fake_server() as server:
        script = iter(faults)
        server.front.fault = lambda _: next(script, None)
        server.to_play = [Message(8, 0, at, bytes([at]) * size) for at, size in enumerate(sizes)]
        with NetConnection(server.tunnel_url("live")) as connection:
            publisher = connection.create_stream()
            publisher.publish("a")
            for at, size in enumerate(sizes):
                publisher.send_audio(bytes([at]) * size, at)
            player = connection.create_stream()
            player.play("b")
            got = [message.payload for message in player.messages() if message.type_id == 8]
        assert got == [bytes([at]) * size for at, size in enumerate(sizes)]
        # Sessions whose id got lost have said nothing.
        (peer,) = [peer for peer in server.peers if peer.connect is not None]
        assert [message.payload for message in peer.media] == got


def test_a_server_that_does_not_answer_is_asked_on_another_connection(
    server: FakeServer, connection: NetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_transport, "REQUEST_S", 0.1)
    hangs = [Fault.HUNG, Fault.HUNG]
    server.front.fault = lambda _: hangs.pop() if hangs else None
    before = server.front.connections
    assert connection.call("double", 2.0) == 4.0
    assert server.front.connections == before + 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault.GONE, r"the server answers (send|idle) with HTTP status 404"),
        (Fault.WRONG, r"the server answers (send|idle) with HTTP status 409"),
        (Fault.NO_POLL_BYTE, "the server broke the protocol: an answer without a poll byte"),
    ],
)
def test_what_ends_a_session(server: FakeServer, connection: NetConnection, fault: Fault, said: str) -> None:
    server.front.fault = lambda _: fault
    with pytest.raises(ConnectionClosed, match=said):
        connection.call("double", 2.0)
    assert connection.closed.is_set()
    key = next(iter(server.front.sessions))
    assert key not in connection.close_reason


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault.UNANSWERED, "the connection was closed before the answer was there"),
        (Fault.AWAY, "the server answers send with HTTP status 503"),
        (Fault.NO_HTTP, "the answer is no HTTP"),
    ],
)
def test_patience_has_an_end(server: FakeServer, fault: Fault, said: str) -> None:
    connection = NetConnection(server.tunnel_url("live"), patience_s=0.3)
    connection.connect()
    server.front.fault = lambda target: fault if "/send/" in target else None
    with pytest.raises(ConnectionClosed, match=f"connection lost: asked again for 0.3 s: {said}"):
        connection.call("double", 2.0)
    repeated = [one for one in requests(server) if one.sequence == requests(server)[-1].sequence]
    assert len(repeated) > 3


def test_the_servers_last_words_come_before_the_end(server: FakeServer, connection: NetConnection) -> None:
    def leave(peer: Peer, command: Command) -> None:
        peer.command("_result", command.transaction_id, "bye")
        peer.sock.close()

    server.answers["leave"] = leave
    assert connection.call("leave") == "bye"
    eventually(connection.closed.is_set, 10)
    assert connection.close_reason == "the server closed the connection"


def test_no_session(server: FakeServer) -> None:
    server.front.fault = lambda _: Fault.GONE
    with pytest.raises(ConnectError, match=r":\d+: the server answers open with HTTP status 404"):
        NetConnection(server.tunnel_url("live")).connect()
    server.front.fault = lambda _: Fault.NO_HTTP
    with pytest.raises(ConnectError, match="the answer is no HTTP"):
        NetConnection(server.tunnel_url("live"), timeout_s=0.2).connect()
    assert len(server.front.targets) > 2, "asked again until the time was over"
    url = server.tunnel_url("live")
    server.front.stop()
    with pytest.raises(ConnectError, match="Connection refused"):
        NetConnection(url).connect()


def test_an_open_whose_answer_got_lost_is_asked_again(server: FakeServer) -> None:
    faults = [Fault.AWAY, Fault.UNANSWERED]
    server.front.fault = lambda _: faults.pop() if faults else None
    with NetConnection(server.tunnel_url("live")) as connection:
        assert connection.call("double", 2.0) == 4.0
    assert server.front.targets[:3] == ["/open/1"] * 3
    assert "/open" not in server.front.targets[3]
    assert len(server.front.sessions) == 2


def test_what_is_queued_is_sent_before_closing(server: FakeServer) -> None:
    with NetConnection(server.tunnel_url("live")) as connection:
        stream = connection.create_stream()
        stream.publish("a")
        for number in range(50):
            stream.send_audio(bytes(5_000), number)
    assert len(server.peers[0].media) == 50
    assert requests(server)[-1].verb is Verb.CLOSE


def test_closing_in_the_middle_of_a_trouble_ends_it(server: FakeServer) -> None:
    connection = NetConnection(server.tunnel_url("live"), timeout_s=0.2)
    connection.connect()
    carrier = connection.transport
    assert isinstance(carrier, TunnelTransport)
    server.front.fault = lambda _: Fault.AWAY
    connection.notify("hello")
    connection.close()
    assert connection.close_reason == "closed here"
    asking = carrier._asking
    assert asking is not None
    eventually(lambda: asking.dead, 10, "nobody asks any more")


def transport() -> TunnelTransport:
    return TunnelTransport(
        HttpPosts.__new__(HttpPosts),
        "x" * 32,
        Connection.client(),
        "rtmpt://h/a",
        lambda *_: None,
        lambda _: None,
        15.0,
    )


def test_when_it_is_asked_again() -> None:
    """After an answer: at once where one may be on its way, then less often, as the server wishes at most."""
    one = transport()
    assert one._answered(b"\x01data", said=False) == pytest.approx(0.015)
    assert [one._answered(b"\x21", said=False) for _ in range(8)] == pytest.approx(
        [0.0, 0.015, 0.03, 0.06, 0.12, 0.24, 0.48, 0.495]
    )
    assert one._answered(b"\x01", said=False) == pytest.approx(0.015)
    assert one._answered(b"\x21", said=True) == pytest.approx(0.03)
    assert one._answered(b"\xff", said=False) == pytest.approx(1.0)
    assert one._answered(b"\x21data", said=True) == pytest.approx(0.495)
    assert one._answered(b"\x21", said=True) == 0.0


def test_bodies_are_cut_to_a_size_that_every_server_takes() -> None:
    one = transport()
    data = bytes(range(256)) * 1_000
    for at in range(0, len(data), 1_000):
        one._queue(data[at : at + 1_000])
    bodies = list(iter(one._body, b""))
    assert b"".join(bodies) == data
    assert [len(body) for body in bodies] == [65_536, 65_536, 65_536, len(data) - 3 * 65_536]


def test_nothing_more_is_asked_for_while_the_application_takes_nothing(server: FakeServer) -> None:
    server.to_play = [Message(9, 0, number, bytes([number]) * 50_000) for number in range(60)]
    server.ends = False
    with NetConnection(server.tunnel_url("live"), queue_bytes=100_000) as connection:
        player = connection.create_stream()
        player.play("a")
        sock = next(iter(server.front.sessions.values())).sock
        carrier = connection.transport
        assert isinstance(carrier, TunnelTransport)
        eventually(lambda: carrier._unread_bytes > 256 * 1024, 10)
        # What is said is still sent.
        connection.notify("hello")
        eventually(lambda: "hello" in [command.name for command in server.peers[0].commands], 10)
        got = [
            next(message.payload for message in player.messages() if message.type_id == 9) for _ in range(60)
        ]
        assert got == [message.payload for message in server.to_play]
        assert not sock.closed
        assert connection.call("double", 2.0) == 4.0
