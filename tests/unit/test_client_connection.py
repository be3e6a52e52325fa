"""NetConnection against a server in this process: connecting, calls both ways, statuses, closing."""

import struct
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.server import StreamServer
from headwater_client import CallFailed, ClientError, ConnectError, ConnectionClosed, NetConnection, TimedOut
from headwater_rtmp.connection import PongReceived
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status
from support.waiting import eventually
from unit.client_server import FakeServer, Peer, fake_server


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as running:
        yield running


def test_connect_says_what_it_is_and_can(server: FakeServer) -> None:
    with NetConnection(
        server.url("chat/lobby"), "ann", {"age": 3.0}, properties={"pageUrl": "http://x/"}
    ) as connection:
        assert connection.connect_info["code"] == "NetConnection.Connect.Success"
        assert connection.server_properties == {"fmsVer": "FMS/1,2"}
        assert not connection.closed.is_set()
        assert connection.close_reason == ""
    told = server.peers[0].connect
    assert told is not None
    assert told.args == ["ann", {"age": 3.0}]
    fields = told.command_object
    assert (fields["app"], fields["tcUrl"]) == ("chat/lobby", server.url("chat/lobby"))
    assert (fields["objectEncoding"], fields["pageUrl"]) == (0.0, "http://x/")
    assert (fields["fourCcList"], fields["capsEx"]) == (["*"], 14.0)
    assert fields["videoFourCcInfoMap"] == fields["audioFourCcInfoMap"] == {"*": 7.0}
    assert connection.closed.is_set()
    assert connection.close_reason == "closed here"


@pytest.mark.parametrize(("digest", "scheme"), [(False, None), (True, 0)])
def test_either_handshake(server: FakeServer, digest: bool, scheme: int | None) -> None:
    with NetConnection(server.url(), digest=digest):
        assert server.peers[0].digest_scheme == scheme


def test_a_rejected_connect_names_code_and_description(server: FakeServer) -> None:
    def reject(peer: Peer, command: object) -> None:
        info = status(StatusCode.CONNECT_REJECTED, "give a nick")
        peer.command("_error", 1.0, info)
        peer.sock.close()

    server.answers["connect"] = reject
    connection = NetConnection(server.url())
    with pytest.raises(ConnectError) as caught:
        connection.connect()
    assert str(caught.value) == f"connect to {server.url()}: NetConnection.Connect.Rejected: give a nick"
    assert (caught.value.code, caught.value.description) == ("NetConnection.Connect.Rejected", "give a nick")
    assert connection.closed.is_set()


def redirect(url: Any) -> Any:
    """An answer to connect: not here, there."""

    def answer(peer: Peer, _: object) -> None:
        info = status(StatusCode.CONNECT_REJECTED, "go there", ex={"code": 302.0, "redirect": url})
        peer.command("_error", 1.0, info)
        peer.sock.close()

    return answer


def test_a_redirect_is_told_and_followed_when_asked(server: FakeServer) -> None:
    with fake_server() as there:
        server.answers["connect"] = redirect(there.url("chat/two"))
        with pytest.raises(ConnectError) as caught:
            NetConnection(server.url("chat")).connect()
        assert caught.value.redirect == there.url("chat/two")
        assert there.peers == []
        with NetConnection(server.url("chat"), "ann", follow_redirects=1) as connection:
            assert connection.url == there.url("chat/two")
            assert connection.call("double", 2.0) == 4.0
            eventually(server.peers[-1].gone.is_set, within_s=5)
            assert not connection.closed.is_set()
        assert connection.closed.is_set()
        told = there.peers[0].connect
        assert told is not None
        assert (told.args, told.command_object["tcUrl"]) == (["ann"], there.url("chat/two"))


def test_redirects_are_followed_so_often_and_no_more(server: FakeServer) -> None:
    server.answers["connect"] = redirect(server.url("again"))
    connection = NetConnection(server.url(), follow_redirects=3)
    with pytest.raises(ConnectError, match="go there") as caught:
        connection.connect()
    assert caught.value.redirect == server.url("again")
    assert len(server.peers) == 4
    assert connection.closed.is_set()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.org/", "rtmp"),
        ("rtmp://127.0.0.1", "expected rtmp://HOST"),
        (None, "go there"),
        ("", "go there"),
        (5.0, "go there"),
    ],
)
def test_a_redirect_to_nowhere(server: FakeServer, url: Any, said: str) -> None:
    server.answers["connect"] = redirect(url)
    with pytest.raises(ConnectError, match=said):
        NetConnection(server.url(), follow_redirects=3).connect()
    assert len(server.peers) == 1


def test_a_server_that_closes_instead_of_answering(server: FakeServer) -> None:
    server.answers["connect"] = lambda peer, _: peer.sock.shutdown(2)
    with pytest.raises(ConnectError, match="the server closed the connection"):
        NetConnection(server.url()).connect()


def test_a_server_that_does_not_answer(server: FakeServer) -> None:
    server.answers["connect"] = lambda *_: None
    with pytest.raises(ConnectError, match=r"no answer to connect within 0\.05 s"):
        NetConnection(server.url(), timeout_s=0.05).connect()


def test_a_server_that_speaks_something_else() -> None:
    def http(sock: Any, _: object) -> None:
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    other = StreamServer(("127.0.0.1", 0), http)
    other.start()
    try:
        with pytest.raises(
            ConnectError, match=r"the server broke the protocol: S0: RTMP version 72.*, expected 3"
        ):
            NetConnection(f"rtmp://127.0.0.1:{other.server_port}/live").connect()
    finally:
        other.stop()


def test_nobody_there(server: FakeServer) -> None:
    server.stop()
    with pytest.raises(ConnectError, match=f"127.0.0.1:{server.port}: Connection refused"):
        NetConnection(server.url()).connect()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/live", "rtmp://127.0.0.1", "rtmpe://127.0.0.1/live", "rtmp:///x", "x"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConnectError, match="expected rtmp://HOST"):
        NetConnection(url)


def test_a_connection_connects_once(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection, pytest.raises(ConnectError, match="connected before"):
        connection.connect()
    with pytest.raises(ConnectionClosed, match=r"not connected: call connect\(\) first"):
        NetConnection(server.url()).call("double", 1.0)


@pytest.mark.parametrize("encoding", [0, 3])
def test_calls(server: FakeServer, encoding: int) -> None:
    with NetConnection(server.url(), object_encoding=encoding) as connection:
        assert connection.call("double", [1.0, {"a": "b"}]) == [1.0, {"a": "b"}, 1.0, {"a": "b"}]
        with pytest.raises(CallFailed) as caught:
            connection.call("fail")
        assert (
            str(caught.value) == f"call of 'fail' at {server.url()}: NetConnection.Call.Failed: no such luck"
        )
        assert caught.value.info["description"] == "no such luck"
        with pytest.raises(TimedOut, match=r"call of 'nothing' at .*: no answer within 0\.05 s"):
            connection.call("nothing", timeout_s=0.05)
        connection.notify("hint", 5.0)
        assert connection.call("double", 2.0) == 4.0
        hint = next(command for command in server.peers[0].commands if command.name == "hint")
        assert (hint.transaction_id, hint.args, hint.amf3) == (0.0, [5.0], encoding == 3)
        with pytest.raises(ClientError, match=r"'double' at .*"):
            connection.call("double", object())


def test_calls_of_many_greenlets_get_their_own_answers(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        jobs = [gevent.spawn(connection.call, "double", float(n)) for n in range(200)]
        gevent.joinall(jobs, raise_error=True, timeout=10)
        assert [job.value for job in jobs] == [2.0 * n for n in range(200)]


def answer_to(server: FakeServer, transaction: float) -> tuple[str, Any]:
    def found() -> object:
        commands = server.peers[0].commands
        return next((c for c in commands if c.transaction_id == transaction and c.name[0] == "_"), None)

    command = eventually(found, within_s=5)
    return command.name, command.args[0]


@pytest.mark.parametrize("encoding", [0, 3])
def test_calls_from_the_server(server: FakeServer, encoding: int) -> None:
    with NetConnection(server.url(), object_encoding=encoding) as connection:
        heard: list[object] = []
        connection.on("add", lambda a, b: a + b)
        connection.on("note", heard.append)
        connection.on("ask_back", lambda: connection.call("double", 21.0))
        connection.on("odd", lambda: object())
        peer = server.peers[0]
        peer.command("note", 0, "psst")
        peer.command("add", 70.0, 1.0, 2.0)
        assert answer_to(server, 70.0) == ("_result", 3.0)
        assert heard == ["psst"]
        # A handler may wait for the server: others read meanwhile.
        peer.command("ask_back", 71.0)
        assert answer_to(server, 71.0) == ("_result", 42.0)
        peer.command("add", 72.0, 1.0)
        name, info = answer_to(server, 72.0)
        assert name == "_error"
        assert "TypeError" in info["description"]
        peer.command("unknown", 73.0)
        name, info = answer_to(server, 73.0)
        assert (name, info["code"]) == ("_error", "NetConnection.Call.Failed")
        peer.command("unknown", 0)
        peer.command("odd", 74.0)
        assert answer_to(server, 74.0)[0] == "_error"
        assert connection.call("double", 1.0) == 2.0


def test_a_bandwidth_check_is_answered_unless_the_program_does_it(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        peer = server.peers[0]
        peer.command("onBWCheck", 70.0, "x" * 1000)
        assert answer_to(server, 70.0) == ("_result", 0.0)
        peer.command("onBWDone", 71.0, 5000.0, 3.0)
        assert answer_to(server, 71.0) == ("_result", None)
        connection.on("onBWCheck", lambda payload: len(payload))
        peer.command("onBWCheck", 72.0, "x" * 1000)
        assert answer_to(server, 72.0) == ("_result", 1000.0)


def test_a_server_without_amf3_is_spoken_to_in_amf0(server: FakeServer) -> None:
    server.answers["connect"] = lambda peer, command: peer.command(
        "_result", 1.0, status(StatusCode.CONNECT_SUCCESS, "", objectEncoding=0.0)
    )
    with NetConnection(server.url(), object_encoding=3) as connection:
        assert not connection.amf3
        assert connection.call("double", [1.0]) == [1.0, 1.0]
        assert not any(command.amf3 for command in server.peers[0].commands)
    with pytest.raises(ValueError, match="object_encoding 1"):
        NetConnection(server.url(), object_encoding=1)


def test_the_server_closes_with_a_reason(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        told: list[str] = []
        connection.on_status(lambda info: told.append(info["code"]))
        waiting = gevent.spawn(connection.call, "nothing")
        eventually(lambda: any(c.name == "nothing" for c in server.peers[0].commands), within_s=5)
        server.peers[0].status(0, StatusCode.CONNECT_APP_SHUTDOWN, "back at noon")
        server.peers[0].sock.shutdown(2)
        assert connection.closed.wait(5)
        eventually(lambda: told == ["NetConnection.Connect.AppShutdown"], within_s=5)
        with pytest.raises(
            ConnectionClosed, match="AppShutdown: back at noon: the server closed the connection"
        ):
            waiting.get(timeout=5)
        with pytest.raises(ConnectionClosed):
            connection.call("double", 1.0)
        assert connection.close_reason.startswith("NetConnection.Connect.AppShutdown: back at noon")


def test_garbage_from_the_server_closes_with_what_was_wrong(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        server.peers[0].write(Message(20, 0, 0, b"\x05"))
        assert connection.closed.wait(5)
        assert "the server broke the protocol: command: expected a name" in connection.close_reason


def test_what_was_queued_is_sent_before_closing(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        for number in range(300):
            connection.notify("hint", float(number))
    # It has seen our end, and we have waited for its.
    assert server.peers[0].gone.is_set()
    hints = [command.args[0] for command in server.peers[0].commands if command.name == "hint"]
    assert hints == [float(number) for number in range(300)]


def test_closing_while_a_call_waits(server: FakeServer) -> None:
    connection = NetConnection(server.url())
    connection.connect()
    waiting = gevent.spawn(connection.call, "nothing")
    eventually(lambda: any(c.name == "nothing" for c in server.peers[0].commands), within_s=5)
    connection.close()
    connection.close()
    with pytest.raises(ConnectionClosed, match="closed here"):
        waiting.get(timeout=5)


def test_a_handler_may_close_the_connection(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        connection.on("bye", connection.close)
        server.peers[0].command("bye", 5.0)
        assert connection.closed.wait(5)


def test_pings_are_answered_and_large_chunks_read(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        peer = server.peers[0]
        peer.sock.sendall(peer.rtmp.send_chunk_size(2_000_000))
        peer.command("note", 0, "x" * 60_000)
        peer.sock.sendall(peer.rtmp.send_ping(1.0))
        peer.write(Message(1, 0, 0, struct.pack(">I", 4096)))
        assert connection.call("double", 1.0) == 2.0
        assert [event.timestamp for event in peer.events if isinstance(event, PongReceived)] == [1000]
