"""`headwater-client`: what it does, what it prints, how it ends."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gevent.subprocess import PIPE, Popen
from headwater_client.__main__ import main
from headwater_client.display import amount, plain
from headwater_rtmp.flv import FlvReader, FlvWriter
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode
from support.waiting import eventually
from unit.client_server import FakeServer, fake_server

FRAMES = [Message(9, 0, number * 40, b"\x17\x01\x00\x00\x00" + bytes(95)) for number in range(26)]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as running:
        yield running


@pytest.fixture
def flv(tmp_path: Path) -> Path:
    writer = FlvWriter()
    path = tmp_path / "in.flv"
    path.write_bytes(writer.header() + b"".join(writer.tag(frame) for frame in FRAMES))
    return path


def run(*args: object) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


def read(path: Path) -> list[Message]:
    reader = FlvReader()
    reader.feed(path.read_bytes())
    return list(iter(reader.next_tag, None))


def test_publish(server: FakeServer, flv: Path) -> None:
    result = run("publish", flv, server.url("live/a"), "--fast")
    assert result.exit_code == 0
    assert result.output == f"published {flv} as a: 1.0 s, 26 messages, 2.6 kB, 21 kbit/s\n"
    peer = server.peers[0]
    assert peer.connect is not None
    assert peer.connect.command_object["app"] == "live"
    assert [message.payload for message in peer.media] == [frame.payload for frame in FRAMES]
    assert [command.name for command in peer.commands if command.name[0] != "_"][-1] == "deleteStream"


def test_a_query_may_be_the_applications(server: FakeServer, flv: Path, tmp_path: Path) -> None:
    """There stands what connect is to show."""
    url = server.url("live?token=x/a")
    assert run("publish", flv, url, "--fast").exit_code == 0
    server.to_play = FRAMES
    assert run("play", url, tmp_path / "out.flv").exit_code == 0
    for peer, asked in zip(server.peers, ("publish", "play"), strict=True):
        assert peer.connect is not None
        assert peer.connect.command_object["app"] == "live?token=x"
        assert [command.args[0] for command in peer.commands if command.name == asked] == ["a"]


def test_publish_in_a_loop_for_a_while_in_an_instance(server: FakeServer, flv: Path) -> None:
    result = run("publish", flv, server.url("live/room/a?key=x"), "--fast", "--loop", "--duration", "10")
    assert result.exit_code == 0
    peer = server.peers[0]
    assert peer.connect is not None
    assert peer.connect.command_object["app"] == "live/room"
    assert next(command for command in peer.commands if command.name == "publish").args == ["a?key=x", "live"]
    assert [message.timestamp for message in peer.media] == list(range(0, 10_000, 40))


def test_play(server: FakeServer, tmp_path: Path) -> None:
    server.to_play = FRAMES
    path = tmp_path / "out.flv"
    result = run("play", server.url("live/a"), path)
    assert result.exit_code == 0
    assert result.output == f"recorded a into {path}: 1.0 s, 26 messages, 2.6 kB, 21 kbit/s\n"
    assert read(path) == FRAMES
    assert run("play", server.url("live/a"), path, "--duration", "0.4").exit_code == 0
    assert read(path) == FRAMES[:11]


def test_so_changes_and_prints(server: FakeServer) -> None:
    sets = ["--set", "n=1", "--set", "list=[1, true, null]", "--set", "text=hello=world", "--set", "old=x"]
    result = run("so", server.url("live"), "board", *sets, "--send", "say 'two words' 3")
    assert result.exit_code == 0
    assert "board, version 1" in result.output
    assert "hello=world" in result.output
    contents = {"n": 1.0, "list": [1.0, True, None], "text": "hello=world", "old": "x"}
    assert server.object("board").contents == contents
    result = run("so", server.url("live"), "board", "--delete", "old", "--json")
    shown = json.loads(result.output)
    assert shown == {
        "name": "board",
        "persistent": False,
        "version": 2,
        "slots": {"n": 1, "list": [1, True, None], "text": "hello=world"},
    }
    result = run("so", server.url("live"), "board", "--clear", "--set", "a=b", "--persistent")
    assert "board, persistent, version 1" in result.output
    assert server.objects["board", True].contents == {"a": "b"}
    assert run("so", server.url("live"), "board", "--clear", "--arg", "ann", "--arg", "3").exit_code == 0
    assert server.object("board").contents == {}
    told = server.peers[-1].connect
    assert told is not None
    assert told.args == ["ann", 3.0]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("publish", "FLV", "http://x/live/a"), "'http://x/live/a': expected rtmp://HOST[:PORT]/APP"),
        (("publish", "FLV", "rtmp://127.0.0.1/live"), "expected rtmp://HOST[:PORT]/APP[/INSTANCE]/STREAM"),
        (("publish", "/nowhere/x.flv", "URL/a"), "/nowhere/x.flv: No such file or directory"),
        (("publish", __file__, "URL/a"), "not an FLV file"),
        (
            ("play", "URL/missing", "OUT"),
            "play of 'missing' at rtmp://127.0.0.1:PORT/live: NetStream.Play.StreamNotFound",
        ),
        (("play", "rtmp://127.0.0.1:1/live/a", "OUT"), "127.0.0.1:1: Connection refused"),
        (("so", "URL", "board", "--set", "x"), "--set 'x': expected SLOT=VALUE"),
        (("so", "URL", "board", "--send", ""), "--send: expected 'HANDLER ARG...'"),
        (("so", "URL", "board", "--send", "'"), '--send "\'": No closing quotation'),
        (("so", "URL", "board", "--delete", "x"), "--delete x: board has no such slot; it has none"),
        (("so", "URL", "board", "--set", "locked=1"), "SharedObject.NoWriteAccess"),
        (("so", "rtmp://127.0.0.1", "board"), "expected rtmp://HOST[:PORT]/APP[/INSTANCE]"),
    ],
)
def test_errors_are_one_line(
    server: FakeServer, flv: Path, tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    server.answers["play"] = lambda peer, command: peer.status(1, StatusCode.PLAY_STREAM_NOT_FOUND, "nobody")
    server.refuses = lambda client, key, value: key == "locked"
    words = {"FLV": str(flv), "OUT": str(tmp_path / "out.flv")}
    result = run(*(words.get(arg, arg.replace("URL", server.url("live"))) for arg in args))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("headwater-client: ")
    assert said.replace("PORT/", f"{server.port}/") in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.flv").exists()


def started(*args: object) -> Popen[str]:
    command = [sys.executable, "-m", "headwater_client", *map(str, args)]
    return Popen(command, stdout=PIPE, stderr=PIPE, text=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_recording_well(server: FakeServer, tmp_path: Path, number: int, status: int) -> None:
    server.to_play, server.ends = FRAMES, False
    path = tmp_path / "out.flv"
    process = started("play", server.url("live/a"), path, "--timeout", "60")
    try:
        eventually(
            lambda: server.peers and any(c.name == "play" for c in server.peers[0].commands), within_s=20
        )
        server.peers[0].write(Message(9, 1, 2000, b"\x17\x01" + bytes(100_000)))
        eventually(lambda: path.exists() and path.stat().st_size > 50_000, within_s=20)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (status, "", "")
    assert read(path)[:26] == FRAMES
    eventually(lambda: server.peers[0].gone.is_set(), within_s=5)


def test_watch_prints_changes_until_ctrl_c(server: FakeServer) -> None:
    process = started("so", server.url("live"), "board", "--watch", "--json", "--set", "x=1")
    assert process.stdout is not None
    try:
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        server.deliver(server.object("board").set("y", 5.0))
        lines.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "")
    assert {"name": "board", "persistent": False, "version": 1, "slots": {"x": 1}} in lines
    assert {"kind": "success", "key": "x", "old": None, "new": 1} in lines
    assert lines[2] == {"kind": "change", "key": "y", "old": None, "new": 5}


def test_help_names_what_is_expected() -> None:
    for command in ("publish", "play", "so"):
        assert "rtmp://HOST[:PORT]/APP" in run(command, "--help").output.replace("\n", "").replace("  ", "")


def test_amounts_and_values() -> None:
    assert [amount(n) for n in (0, 999, 1500, 2_500_000, 3e9)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 MB",
        "3.00 GB",
    ]
    assert plain({"a": [1.0, 0.5, float("nan"), b"\x01", None, {"b": True}]}) == {
        "a": [1, 0.5, "nan", "01", None, {"b": True}]
    }
