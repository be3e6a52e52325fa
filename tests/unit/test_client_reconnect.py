"""NetConnection with `reconnect`: a lost connection is made again, and what was goes on."""

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from headwater_client import (
    ChangeEvent,
    ChangeKind,
    ConnectError,
    ConnectionClosed,
    Ending,
    NetConnection,
    StreamError,
    net_connection,
    reconnecting,
)
from headwater_rtmp.command import Command, decode_data
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tunnel_front import Fault
from support.waiting import TIME_FACTOR, eventually
from unit.client_server import FakeServer, Peer, fake_server

KEY, INTER, HEADER = b"\x17\x01\0\0\0", b"\x27\x01\0\0\0", b"\x17\x00\0\0\0head"
AUDIO, AUDIO_HEADER = b"\xaf\x01", b"\xaf\x00head"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as running:
        yield running


@pytest.fixture
def connection(server: FakeServer) -> Iterator[NetConnection]:
    with NetConnection(server.url(), reconnect=True) as opened:
        yield opened


def cut(server: FakeServer) -> None:
    """Close all connections, without a word."""
    for peer in server.peers:
        peer.sock.close()


def back(connection: NetConnection, times: int = 1) -> None:
    eventually(lambda: connection.reconnects >= times, 10, "connected again")


def silent(*_: object) -> None:
    """An answer that is none."""


def test_calls_go_on_and_those_without_an_answer_are_made_again(
    server: FakeServer, connection: NetConnection
) -> None:
    server.answers["slow"] = silent
    waiting = gevent.spawn(connection.call, "slow", 1.0)
    eventually(lambda: server.peers[0].commands[-1].name == "slow", 10)
    del server.answers["slow"]
    server.answers["slow"] = lambda peer, command: peer.command("_result", command.transaction_id, "done")
    heard: list[int] = []
    connection.on_reconnect(lambda: heard.append(connection.reconnects))
    cut(server)
    assert waiting.get(timeout=10 * TIME_FACTOR) == "done"
    assert connection.call("double", 2.0) == 4.0
    assert len(server.peers) == 2
    assert [command.name for command in server.peers[1].commands] == ["connect", "slow", "double"]
    eventually(lambda: heard == [1], 10)
    assert not connection.closed.is_set()
    assert connection.close_reason == ""


def test_a_call_that_may_be_made_once_fails_instead(server: FakeServer, connection: NetConnection) -> None:
    server.answers["pay"] = silent
    waiting = gevent.spawn(connection.call, "pay", once=True)
    eventually(lambda: server.peers[0].commands[-1].name == "pay", 10)
    cut(server)
    with pytest.raises(ConnectionClosed, match=r"'pay' at .*: the connection was closed"):
        waiting.get(timeout=10 * TIME_FACTOR)
    assert connection.call("double", 2.0) == 4.0
    assert "pay" not in [command.name for command in server.peers[1].commands]


def test_what_is_sent_meanwhile_waits(server: FakeServer, connection: NetConnection) -> None:
    refused = 3

    def refuse(peer: Peer, command: Command) -> None:
        nonlocal refused
        refused -= 1
        if refused >= 0:
            peer.command("_error", 1.0, status(StatusCode.CONNECT_REJECTED, "the nick is still taken"))
            peer.sock.close()
        else:
            peer.do_connect(command)

    server.answers["connect"] = refuse
    cut(server)
    eventually(lambda: "connecting" in repr(connection), 10)
    assert connection.call("double", 2.0) == 4.0
    assert len(server.peers) == 5
    assert connection.reconnects == 1


def test_an_object_is_used_again_and_only_what_differs_is_told(
    server: FakeServer, connection: NetConnection
) -> None:
    with NetConnection(server.url()) as other:
        for persistent in (False, True):
            mine = connection.shared_object("board", persistent)
            mine.update(a=1.0, b=2.0, c=3.0)
            mine.flush()
            events: list[ChangeEvent] = []
            mine.on_change(events.append)
            theirs = other.shared_object("board", persistent)
            theirs.wait_synced()
            times = connection.reconnects
            # The other one has come second, and stays.
            (peer,) = [one for one in server.peers if not one.gone.is_set() and one is not server.peers[1]]
            peer.sock.close()
            theirs.update(b=5.0, d=6.0)
            del theirs["c"]
            theirs.flush()
            back(connection, times + 1)
            mine.wait_synced()
            assert dict(mine) == dict(theirs) == {"a": 1.0, "b": 5.0, "d": 6.0}
            assert mine.version == theirs.version
            eventually(lambda: len(events) == 3, 10)  # noqa: B023 - waited for here
            assert sorted(events, key=lambda event: str(event.key)) == [
                ChangeEvent(ChangeKind.CHANGE, "b", 2.0, 5.0),
                ChangeEvent(ChangeKind.DELETE, "c", 3.0),
                ChangeEvent(ChangeKind.CHANGE, "d", None, 6.0),
            ]
            mine["a"] = 9.0
            mine.flush()
            eventually(lambda: theirs["a"] == 9.0, 10)  # noqa: B023 - waited for here


def test_changes_without_an_answer_are_asked_for_again(server: FakeServer, connection: NetConnection) -> None:
    board = connection.shared_object("board")
    board.update(old=1.0, gone=1.0)
    board.flush()
    server.deaf = True
    board["x"] = 1.0
    board["x"] = 2.0
    del board["gone"]
    board.update(y=3.0, z=4.0)
    assert dict(board) == {"old": 1.0, "x": 2.0, "y": 3.0, "z": 4.0}
    gevent.sleep(0)
    server.deaf = False
    cut(server)
    board.flush()
    assert connection.reconnects == 1
    assert server.object("board").contents == dict(board) == {"old": 1.0, "x": 2.0, "y": 3.0, "z": 4.0}
    assert not board.errors


def test_a_clear_that_is_asked_for_again_is_not_taken_for_the_contents(
    server: FakeServer, connection: NetConnection
) -> None:
    board = connection.shared_object("board")
    board.update(x=1.0)
    board.flush()
    server.deaf = True
    board.clear()
    board["y"] = 2.0
    server.deaf = False
    cut(server)
    board.flush()
    assert server.object("board").contents == dict(board) == {"y": 2.0}


operations = st.lists(
    st.tuples(
        st.sampled_from(["set", "remove", "clear", "flush", "cut"]), st.integers(0, 1), st.integers(0, 2)
    ),
    max_size=25,
)


@settings(max_examples=25)
@given(operations, st.booleans())
def test_whenever_it_is_cut_both_see_the_same_in_the_end(
    steps: list[tuple[str, int, int]], persistent: bool
) -> None:
    with fake_server() as server:
        connections = [NetConnection(server.url(), reconnect=True) for _ in range(2)]
        for one in connections:
            one.connect()
        boards = [one.shared_object("board", persistent) for one in connections]
        last: dict[tuple[int, str], float] = {}
        for number, (what, which, slot) in enumerate(steps):
            board, key = boards[which], f"{which}{slot}"
            if what == "set":
                board[key] = last[which, key] = float(number)
            elif what == "remove":
                board[key] = None
                last.pop((which, key), None)
            elif what == "clear" and which == 0:
                board.clear()
                last.clear()
                boards[1].flush()
            elif what == "flush":
                board.flush()
            elif what == "cut":
                peers = [peer for peer in server.peers if not peer.gone.is_set()]
                if peers:
                    peers[which % len(peers)].sock.close()
                gevent.sleep(0)
        for board in boards:
            board.flush()
            board.wait_synced()
        contents = server.object("board", persistent).contents
        for board in boards:
            eventually(lambda: dict(board) == contents, 10)  # noqa: B023 - waited for here
        if "clear" not in [what for what, _, _ in steps]:
            assert contents == {key: value for (_, key), value in last.items()}
        for one in connections:
            one.close()


def sent(peer: Peer) -> list[tuple[bytes, int]]:
    return [
        (bytes(message.payload[:9]), message.timestamp) for message in peer.media if message.type_id in (8, 9)
    ]


def test_a_publisher_goes_on_at_the_next_keyframe_with_its_headers(
    server: FakeServer, connection: NetConnection
) -> None:
    stream = connection.create_stream()
    stream.publish("a")
    stream.send_metadata({"width": 640.0})
    stream.send_video(HEADER, 0)
    stream.send_audio(AUDIO_HEADER, 0)
    stream.send_video(KEY, 0)
    stream.send_video(INTER, 40)
    eventually(lambda: len(server.peers[0].media) == 5, 10)
    cut(server)
    back(connection)
    for at in (80, 120):
        stream.send_video(INTER, at)
    stream.send_audio(AUDIO, 125)
    stream.send_video(KEY, 160)
    stream.send_video(INTER, 200)
    eventually(lambda: len(server.peers) == 2 and len(server.peers[1].media) >= 6, 10)
    peer = server.peers[1]
    metadata = decode_data(peer.media[0])
    assert list(metadata)[:2] == ["@setDataFrame", "onMetaData"]
    assert sent(peer) == [
        (HEADER, 0),
        (AUDIO_HEADER[:9], 0),
        (AUDIO, 125),
        (KEY, 160),
        (INTER, 200),
    ]
    assert [command.args[:2] for command in peer.commands if command.name == "publish"] == [["a", "live"]]


def test_a_name_that_is_still_taken_is_asked_for_again(server: FakeServer, connection: NetConnection) -> None:
    stream = connection.create_stream()
    stream.publish("a")
    refusals = 3

    def refuse(peer: Peer, command: Command) -> None:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            peer.status(command.stream_id, StatusCode.PUBLISH_BAD_NAME, "somebody publishes it")
        else:
            peer.do_publish(command)

    server.answers["publish"] = refuse
    cut(server)
    back(connection)
    stream.send_audio(AUDIO, 40)
    eventually(lambda: sent(server.peers[1]) == [(AUDIO, 40)], 10)
    assert refusals == -1


def test_a_publisher_that_is_refused_is_told(server: FakeServer, connection: NetConnection) -> None:
    stream = connection.create_stream()
    stream.publish("a")
    server.answers["publish"] = lambda peer, command: peer.status(
        command.stream_id, StatusCode.PUBLISH_DENIED, "no more"
    )
    cut(server)
    back(connection)
    with pytest.raises(StreamError, match="no more"):
        stream.send_audio(AUDIO, 40)
    assert connection.call("double", 1.0) == 2.0


def test_a_player_gets_nothing_twice(server: FakeServer, connection: NetConnection) -> None:
    """The server begins again with its cache: headers, and what came since the last keyframe."""
    server.ends = False
    frames = [Message(9, 0, at * 40, (KEY if at % 10 == 0 else INTER) + bytes([at])) for at in range(60)]
    header = Message(9, 0, 0, HEADER)
    server.to_play = [header, *frames[:25]]
    stream = connection.create_stream()
    stream.play("a")
    stream.receive_audio(False)
    eventually(lambda: server.peers[0].commands[-1].name == "receiveAudio", 10)
    server.to_play = [header, *frames[20:40]]
    server.peers[0].sock.close()
    eventually(lambda: len(server.peers) == 2, 10)
    back(connection)
    eventually(lambda: server.peers[1].commands[-1].name == "receiveAudio", 10)
    server.to_play = [header, *frames[50:]]  # The cache does not reach back far enough.
    server.ends = True
    server.peers[1].sock.close()
    got = [message.payload for message in stream.messages() if message.type_id == 9]
    assert stream.ending == Ending.STOPPED
    assert [payload[-1] for payload in got if payload != HEADER] == [*range(40), *range(50, 60)]


def test_a_stream_that_is_gone_ends_for_its_player(server: FakeServer) -> None:
    server.ends = False
    with NetConnection(server.url(), reconnect=True, reconnect_s=0.5) as connection:
        stream = connection.create_stream()
        stream.play("a")
        server.answers["play"] = lambda peer, command: peer.status(
            command.stream_id, StatusCode.PLAY_STREAM_NOT_FOUND, "nobody publishes it"
        )
        cut(server)
        assert [message for message in stream.messages() if message.type_id == 9] == []
        assert stream.ending == Ending.STOPPED
        with pytest.raises(StreamError, match="nobody publishes it"):
            stream.pause()
        assert connection.call("double", 1.0) == 2.0


def test_who_waits_for_a_stream_gets_the_answer_of_the_next_connection(
    server: FakeServer, connection: NetConnection
) -> None:
    stream = connection.create_stream()
    server.answers["publish"] = silent
    waiting = gevent.spawn(stream.publish, "a")
    eventually(lambda: server.peers[0].commands[-1].name == "publish", 10)
    del server.answers["publish"]
    cut(server)
    waiting.get(timeout=10 * TIME_FACTOR)
    stream.send_audio(AUDIO, 40)
    eventually(lambda: sent(server.peers[1]) == [(AUDIO, 40)], 10)


def test_a_connection_that_breaks_again_and_again(server: FakeServer, connection: NetConnection) -> None:
    """While streams are being resumed, too."""
    streams = [connection.create_stream() for _ in range(3)]
    for number, stream in enumerate(streams):
        stream.publish(str(number))
    breaks = 4

    def break_once(peer: Peer, command: Command) -> None:
        nonlocal breaks
        breaks -= 1
        if breaks >= 0:
            peer.sock.close()
        else:
            peer.do_publish(command)

    server.answers["publish"] = break_once
    cut(server)
    back(connection)
    for stream in streams:
        stream.send_audio(AUDIO, 40)
    last = server.peers[-1]
    eventually(lambda: len(sent(last)) == 3, 10)
    assert sorted(command.args[0] for command in last.commands if command.name == "publish") == [
        "0",
        "1",
        "2",
    ]
    assert connection.reconnects == 5


def test_there_is_an_end_to_it(server: FakeServer) -> None:
    connection = NetConnection(server.url(), reconnect=True, reconnect_s=0.3)
    connection.connect()
    board = connection.shared_object("board")
    stream = connection.create_stream()
    stream.publish("a")
    server.stop()
    with pytest.raises(ConnectionClosed, match=r"not back within 0\.3 s: .*Connection refused"):
        connection.call("double", 1.0)
    assert connection.closed.is_set()
    with pytest.raises(ConnectionClosed, match="not back within"):
        board["x"] = 1.0
    with pytest.raises(ConnectionClosed, match="not back within"):
        stream.send_audio(AUDIO, 0)


def test_pauses_double_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(gevent, "sleep", pauses.append)
    backoff = reconnecting.Backoff(60.0, first_s=0.02, longest_s=0.1)
    assert [backoff.pause() for _ in range(6)] == [True] * 6
    assert pauses == pytest.approx([0.0, 0.02, 0.04, 0.08, 0.1, 0.1])
    short = reconnecting.Backoff(10.0, first_s=20.0, longest_s=20.0)
    assert [short.pause() for _ in range(3)] == [True, False, False]


def test_a_server_that_throws_us_out_each_time_is_left_alone(server: FakeServer) -> None:
    def throw_out(peer: Peer, command: Command) -> None:
        peer.do_connect(command)
        peer.sock.close()

    connection = NetConnection(server.url(), reconnect=True, reconnect_s=0.5)
    connection.connect()
    server.answers["connect"] = throw_out
    cut(server)
    eventually(connection.closed.is_set, 10)
    assert "not back within 0.5 s" in connection.close_reason
    assert 3 < len(server.peers) < 15


@pytest.mark.parametrize("code", [StatusCode.CONNECT_CLOSED, StatusCode.CONNECT_REJECTED])
def test_what_the_application_has_ended_stays_ended(
    server: FakeServer, connection: NetConnection, code: StatusCode
) -> None:
    peer = server.peers[0]
    peer.status(0, code, "you are out")
    peer.sock.close()
    eventually(connection.closed.is_set, 10)
    assert connection.close_reason.startswith(f"{code}: you are out")
    assert len(server.peers) == 1


def test_a_server_that_ends_is_another_matter(server: FakeServer, connection: NetConnection) -> None:
    peer = server.peers[0]
    peer.status(0, StatusCode.CONNECT_APP_SHUTDOWN, "this edge ends")
    peer.sock.close()
    back(connection)
    assert connection.call("double", 1.0) == 2.0


def test_closing_while_it_is_connected_again(server: FakeServer) -> None:
    connection = NetConnection(server.url(), reconnect=True)
    connection.connect()
    server.answers["slow"] = silent
    waiting = gevent.spawn(connection.call, "slow")
    eventually(lambda: server.peers[0].commands[-1].name == "slow", 10)
    server.answers["connect"] = silent
    cut(server)
    eventually(lambda: len(server.peers) == 2 and server.peers[1].commands, 10)
    connection.close()
    assert connection.closed.is_set()
    assert connection.close_reason == "closed here"
    with pytest.raises(ConnectionClosed, match="closed here"):
        waiting.get(timeout=10 * TIME_FACTOR)
    eventually(server.peers[1].gone.is_set, 10)


def test_a_first_connection_that_fails_is_not_tried_again(server: FakeServer) -> None:
    server.answers["connect"] = lambda peer, _: peer.sock.close()
    with pytest.raises(ConnectError):
        NetConnection(server.url(), reconnect=True).connect()
    assert len(server.peers) == 1


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_request_to_reconnect_is_followed(server: FakeServer, elsewhere: bool) -> None:
    """Enhanced RTMP v2. What is under way may end before."""
    with fake_server() as there, NetConnection(server.url(), reconnect=True) as connection:
        told = server.peers[0].connect
        assert told is not None
        assert int(told.command_object["capsEx"]) & 1
        asked: list[tuple[Peer, Command]] = []
        server.answers["slow"] = lambda peer, command: asked.append((peer, command))
        waiting = gevent.spawn(connection.call, "slow")
        eventually(lambda: asked, 10)
        info = {"level": "status", "code": str(StatusCode.CONNECT_RECONNECT_REQUEST), "description": "go"}
        if elsewhere:
            info["tcUrl"] = there.url()
        peer, command = asked[0]
        peer.command("onStatus", 0, info)
        eventually(lambda: "connecting" in repr(connection), 10)
        late = gevent.spawn(connection.call, "double", 2.0)
        peer.command("_result", command.transaction_id, "in time")
        assert waiting.get(timeout=10 * TIME_FACTOR) == "in time"
        assert late.get(timeout=10 * TIME_FACTOR) == 4.0
        target = there if elsewhere else server
        assert target.peers[-1].connect is not None
        assert target.peers[-1] is not peer
        assert connection.url == target.url()
        assert connection.reconnects == 1


def test_without_reconnect_nothing_is_said_of_it_and_a_request_is_a_status(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        told = server.peers[0].connect
        assert told is not None
        assert not int(told.command_object["capsEx"]) & 1
        server.peers[0].status(0, StatusCode.CONNECT_RECONNECT_REQUEST, "go")
        eventually(lambda: connection.last_status.get("code") == StatusCode.CONNECT_RECONNECT_REQUEST, 10)
        assert connection.call("double", 2.0) == 4.0
        assert len(server.peers) == 1


def test_a_session_of_rtmpt_that_is_gone_is_made_again(server: FakeServer) -> None:
    with NetConnection(server.tunnel_url(), reconnect=True) as connection:
        board = connection.shared_object("board")
        board["x"] = 1.0
        board.flush()
        old = next(iter(server.front.sessions))
        server.front.fault = lambda target: Fault.GONE if old in target else None
        assert connection.call("double", 2.0) == 4.0
        board["y"] = 2.0
        board.flush()
        assert server.object("board").contents == {"x": 1.0, "y": 2.0}
    assert len(server.front.sessions) == 2


def test_an_answer_to_the_server_goes_where_it_was_asked(
    server: FakeServer, connection: NetConnection
) -> None:
    answers: list[Any] = []
    for name in ("_result", "_error"):
        server.answers[name] = lambda peer, command: answers.append((server.peers.index(peer), command.args))

    def slow() -> str:
        eventually(lambda: connection.reconnects, 10)
        return "late"

    connection.on("slow", slow)
    connection.on("quick", lambda: "quick")
    server.peers[0].command("slow", 7.0)
    gevent.sleep(0)
    server.peers[0].command("none", 8.0)
    eventually(lambda: answers, 10)
    cut(server)
    back(connection)
    server.peers[1].command("quick", 7.0)
    eventually(lambda: len(answers) == 2, 10)
    assert answers[1] == (1, ["quick"])
    assert not connection.closed.is_set()


def test_a_move_waits_no_longer_than_it_may(
    server: FakeServer, connection: NetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net_connection, "_SETTLE_S", 0.1)
    server.answers["slow"] = lambda peer, command: (
        peer.command("_result", command.transaction_id, "there") if peer is not server.peers[0] else None
    )
    waiting = gevent.spawn(connection.call, "slow")
    eventually(lambda: server.peers[0].commands[-1].name == "slow", 10)
    server.peers[0].status(0, StatusCode.CONNECT_RECONNECT_REQUEST, "go")
    assert waiting.get(timeout=10 * TIME_FACTOR) == "there"
