"""Which ways lead to a server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from gevent.server import StreamServer
from headwater_client import ConnectError, first_way, probe
from headwater_client.__main__ import main
from headwater_client.probing import PLAIN, SECURE, parse_way, ways_to
from headwater_rtmp.flv import FlvWriter
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status
from headwater_rtmp.url import parse_rtmp_url
from support.redis import free_port
from unit.client_server import FakeServer, fake_server


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as running:
        yield running


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of a server that says nothing."""
    other = StreamServer(("127.0.0.1", 0), lambda sock, _: sock.recv(1_000_000) and sock.recv(1_000_000))
    other.start()
    assert other.server_port is not None
    yield other.server_port
    other.stop()


def test_the_order_is_that_of_flash_player() -> None:
    assert PLAIN == (("rtmp", 1935), ("rtmp", 443), ("rtmp", 80), ("rtmpt", 80))
    assert ways_to(parse_rtmp_url("rtmp://h/a")) == PLAIN
    assert ways_to(parse_rtmp_url("rtmpt://h/a")) == PLAIN
    assert ways_to(parse_rtmp_url("rtmps://h/a")) == ways_to(parse_rtmp_url("rtmpts://h/a")) == SECURE
    assert ways_to(parse_rtmp_url("rtmp://h:1950/a")) == [("rtmp", 1950), ("rtmpt", 1950)]
    assert ways_to(parse_rtmp_url("rtmpts://h:1950/a")) == [("rtmps", 1950), ("rtmpts", 1950)]
    assert ways_to(parse_rtmp_url("rtmps://h/a"), [("rtmp", 5)]) == [("rtmp", 5)]


@pytest.mark.parametrize(
    "text", ["rtmp", "rtmp:", "http:80", "rtmp:0", "rtmp:65536", "rtmp:x", "rtmp:80:80", ""]
)
def test_what_is_no_way(text: str) -> None:
    with pytest.raises(ValueError, match="expected SCHEME:PORT"):
        parse_way(text)


def test_each_way_says_how_it_went(server: FakeServer, mute: int) -> None:
    closed = free_port()
    ways = [
        ("rtmp", closed),
        ("rtmp", mute),
        ("rtmp", server.front.port),
        ("rtmpt", server.front.port),
        ("rtmp", server.port),
    ]
    tried = list(probe("rtmp://127.0.0.1/chat/lobby", ways, "ann", timeout_s=0.3))
    assert [(one.scheme, one.port) for one in tried] == ways
    assert (
        [one.accepted for one in tried] == [one.works for one in tried] == [False, False, False, True, True]
    )
    assert tried[0].said == f"127.0.0.1:{closed}: Connection refused"
    assert tried[1].said == "no answer to the handshake within 0.3 s"
    assert tried[1].took_s >= 0.29
    assert tried[3].said == "welcome"
    assert [peer.connect.args for peer in server.peers if peer.connect] == [["ann"], ["ann"]]
    assert tried[3].url == f"rtmpt://127.0.0.1:{server.front.port}/chat/lobby"


def test_a_refusal_is_an_answer(server: FakeServer) -> None:
    server.answers["connect"] = lambda peer, _: peer.command(
        "_error", 1.0, status(StatusCode.CONNECT_REJECTED, "give a nick")
    )
    (tried,) = probe("rtmp://127.0.0.1/live", [("rtmp", server.port)])
    assert (tried.works, tried.accepted) == (True, False)
    assert tried.said == "NetConnection.Connect.Rejected: give a nick"


def test_the_first_way_that_works(server: FakeServer) -> None:
    closed = free_port()
    ways = [("rtmp", closed), ("rtmpt", server.front.port), ("rtmp", server.port)]
    assert (
        first_way("rtmp://127.0.0.1/live?key=1", ways) == f"rtmpt://127.0.0.1:{server.front.port}/live?key=1"
    )
    with pytest.raises(ConnectError, match=rf"no way leads there: rtmp:{closed}: .*Connection refused"):
        first_way("rtmp://127.0.0.1/live", ways[:1])


def test_the_command(server: FakeServer) -> None:
    ways = ["--try", f"rtmp:{free_port()}", "--try", f"rtmpt:{server.front.port}"]
    result = CliRunner().invoke(main, ["probe", "127.0.0.1/live", *ways], catch_exceptions=False)
    assert result.exit_code == 0
    heads, _, *rows = result.output.splitlines()
    assert heads.split() == ["mode", "port", "result", "ms", "what", "was", "said"]
    assert [row.split()[:3:2] for row in rows] == [["rtmp", "no"], ["rtmpt", "ok"]]
    result = CliRunner().invoke(main, ["probe", "127.0.0.1/live", "--json", *ways], catch_exceptions=False)
    assert [json.loads(line)["accepted"] for line in result.output.splitlines()] == [False, True]
    result = CliRunner().invoke(main, ["probe", "127.0.0.1/live", *ways[:2]], catch_exceptions=False)
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["probe", "127.0.0.1/live", "--try", "http:80"], "expected SCHEME:PORT"),
        (["probe", "127.0.0.1"], "expected rtmp://HOST[:PORT]/APP"),
    ],
)
def test_errors_are_one_line(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.splitlines()) == 1


def test_other_commands_take_the_first_way(server: FakeServer, tmp_path: Path) -> None:
    """A port that is said is tried by RTMP, then by RTMPT."""
    writer = FlvWriter()
    path = tmp_path / "in.flv"
    frames = [Message(9, 0, number * 40, b"\x17\x01\0\0\0" + bytes(95)) for number in range(5)]
    path.write_bytes(writer.header() + b"".join(writer.tag(frame) for frame in frames))
    url = f"rtmp://127.0.0.1:{server.front.port}/live/a"
    arguments = ["publish", str(path), url, "--fast", "--probe", "--timeout", "1"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert len(server.peers[-1].media) == 5
    assert server.front.sessions
