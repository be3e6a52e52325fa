"""The load generator in C against a server's state machine: what it sends, and what it notices in what it gets."""

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from headwater_rtmp import control
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Acknowledged, Connection, PongReceived
from headwater_rtmp.message import Message, MessageType
from support.waiting import eventually

from bench.errors import BenchError
from bench.native_build import build
from bench.native_load import Durations, NativeLoad, NativeWindow
from bench.session import Target
from bench.stream import Frame, Stamp, Stamper, StreamShape, frames, header_messages, read_stamp

SHAPE = StreamShape()
WAIT_S = 30.0
STREAM_ID = 5


class Peer:
    """The server's end of one connection, driven by the test. `heard`: messages other than commands."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(WAIT_S)
        self.connection = Connection.server()
        self.heard: list[Message] = []
        self.commands: list[Any] = []
        self.acknowledged: list[int] = []
        self.pongs = 0
        self.refusal = ""

    def listen(self, command: str) -> None:
        """Answer what comes until this has been answered too."""
        while command not in [each.name for each in self.commands]:
            self._read()

    def hear(self, count: int) -> list[Message]:
        """The first messages that came, no commands among them."""
        while len(self.heard) < count:
            self._read()
        return self.heard[:count]

    def _read(self) -> None:
        data = self.sock.recv(65536)
        assert data, "the load hung up"
        self.connection.feed(data)
        while (event := self.connection.next_event()) is not None:
            if isinstance(event, PongReceived):
                self.pongs += 1
            elif isinstance(event, Acknowledged):
                self.acknowledged.append(event.received_bytes)
            elif not isinstance(event, Message):
                continue
            elif event.type_id == MessageType.COMMAND_AMF0:
                self._obey(event)
            else:
                self.heard.append(event)
        self.sock.sendall(self.connection.data_to_send())

    def _obey(self, message: Message) -> None:
        command = decode_command(message)
        self.commands.append(command)
        self.sock.sendall(self.connection.data_to_send())
        status = {"level": "error" if self.refusal else "status", "code": self.refusal}
        if command.name == "connect":
            self.send(
                encode_command("_result", 1, {}, {"level": "status", "code": "NetConnection.Connect.Success"})
            )
        elif command.name == "createStream":
            self.send(encode_command("_result", 2, None, float(STREAM_ID)))
        elif command.name in ("play", "publish"):
            started = f"NetStream.{command.name.capitalize()}.Start"
            said = {"code": started, **{name: text for name, text in status.items() if text}}
            self.send(encode_command("onStatus", 0, None, said, stream_id=STREAM_ID))

    def send(self, *messages: Message) -> None:
        self.sock.sendall(b"".join(map(self.connection.send, messages)))

    def send_cut(self, data: bytes, size: int) -> None:
        """In pieces, each of which is a segment of its own."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), size):
            self.sock.sendall(data[at : at + size])

    def settle(self) -> None:
        """Returns when the load has read whatever was sent before: a ping is answered after it."""
        self.send(control.ping_request(7))
        pongs = self.pongs
        while self.pongs == pongs:
            self._read()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("rtmp_load", tmp_path_factory.mktemp("build"))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(WAIT_S)
        yield made


@pytest.fixture
def load(program: Path) -> Iterator[NativeLoad]:
    with NativeLoad(program, None) as made:
        yield made


def target(listener: socket.socket) -> Target:
    return Target("127.0.0.1", listener.getsockname()[1])


def ready(load: NativeLoad) -> int:
    said = load.hear(WAIT_S)
    while said is not None and "wall_s" not in said:
        said = load.hear(WAIT_S)
    assert said is not None
    return int(said["count"])


@contextlib.contextmanager
def accepted(listener: socket.socket) -> Iterator[Peer]:
    sock, _ = listener.accept()
    with sock:
        yield Peer(sock)


@contextlib.contextmanager
def playing(load: NativeLoad, listener: socket.socket) -> Iterator[Peer]:
    """One player, in a window that has begun."""
    load.play(target(listener), 1)
    with accepted(listener) as peer:
        peer.listen("play")
        assert ready(load) == 1
        load.tell("begin")
        peer.settle()
        yield peer


def stamped(
    number: int, sent_ns: int = 0, keyframe: bool = False, size: int = 100, at_s: float = 0.0
) -> Message:
    frame = Frame(at_s, MessageType.VIDEO, keyframe, size)
    payload = Stamper(SHAPE).payload(frame, Stamp(number, sent_ns))
    return Message(MessageType.VIDEO, STREAM_ID, frame.timestamp, payload)


def seen(load: NativeLoad, peer: Peer) -> NativeWindow:
    peer.settle()
    return load.window(WAIT_S)


def test_a_player_plays_and_hears_everything(load: NativeLoad, listener: socket.socket) -> None:
    with playing(load, listener) as peer:
        assert [command.name for command in peer.commands] == ["connect", "createStream", "play"]
        assert peer.commands[0].command_object["tcUrl"] == f"rtmp://127.0.0.1:{target(listener).port}/live"
        assert peer.commands[0].command_object["app"] == "live"
        assert peer.commands[2].args[0] == "bench-0"
        assert peer.commands[2].stream_id == STREAM_ID
        peer.send(*header_messages(SHAPE, STREAM_ID), stamped(1, keyframe=True), stamped(2), stamped(3))
        window = seen(load, peer)
    assert (window.messages, window.missing, window.disordered, window.closed) == (3, 0, 0, 0)
    assert window.latency.total == 3
    assert window.gap.total == 2
    assert window.bytes_each[0] > 300


def test_gaps_and_disorder_count_after_the_first_keyframe(load: NativeLoad, listener: socket.socket) -> None:
    with playing(load, listener) as peer:
        # Before the keyframe a server may leave out what it likes; 11 to 13 are missing, 14 comes twice.
        for number in (2, 5, 9, 10, 14, 14, 15):
            peer.send(stamped(number, keyframe=number == 9))
        window = seen(load, peer)
    assert (window.messages, window.missing, window.disordered) == (7, 3, 1)


def test_times_that_go_back_are_disorder(load: NativeLoad, listener: socket.socket) -> None:
    with playing(load, listener) as peer:
        for number, at_s in enumerate((5.0, 5.033, 5.0, 5.1), 1):
            peer.send(stamped(number, keyframe=number == 1, at_s=at_s))
        window = seen(load, peer)
    assert (window.missing, window.disordered) == (0, 1)


@pytest.mark.parametrize(("last_ms", "disordered"), [(1120, 0), (1119, 1)])
def test_every_type_of_header_moves_the_time(
    load: NativeLoad, listener: socket.socket, last_ms: int, disordered: int
) -> None:
    first, second, third, fourth, last = (
        stamped(number, 0, number == 1, 40).payload for number in range(1, 6)
    )
    size, delta = (40).to_bytes(3, "big"), (40).to_bytes(3, "big")
    with playing(load, listener) as peer:
        peer.sock.sendall(
            b"\x06" + (1000).to_bytes(3, "big") + size + b"\x09\x05\0\0\0" + first  # Type 0: absolute.
            + b"\x46" + delta + size + b"\x09" + second  # 1: a difference.
            + b"\x86" + delta + third  # 2: the same size.
            + b"\xc6" + fourth  # 3: the same difference.
            + b"\x06" + last_ms.to_bytes(3, "big") + size + b"\x09\x05\0\0\0" + last
        )  # fmt: skip
        window = seen(load, peer)
    assert (window.messages, window.missing, window.disordered) == (5, 0, disordered)


def test_a_window_counts_what_was_lost_in_it(load: NativeLoad, listener: socket.socket) -> None:
    with playing(load, listener) as peer:
        peer.send(stamped(1, keyframe=True), stamped(5))
        peer.settle()
        load.tell("begin")
        peer.settle()  # It has begun before anything that comes later is read.
        peer.send(stamped(6), stamped(8))
        window = seen(load, peer)
    assert (window.messages, window.missing) == (2, 1)


def test_latency_is_from_the_stamp(load: NativeLoad, listener: socket.socket) -> None:
    with playing(load, listener) as peer:
        an_hour_ns = 3600 * 10**9
        peer.send(stamped(1, time.monotonic_ns() - an_hour_ns, keyframe=True))
        window = seen(load, peer)
    assert window.latency.percentile_ms(50) == pytest.approx(3_600_000, rel=0.1)
    assert window.latency.max_ms >= 3_600_000


@pytest.mark.parametrize("cut", [1, 7, 1000, 100_000])
def test_chunks_are_read_however_they_are_cut(load: NativeLoad, listener: socket.socket, cut: int) -> None:
    """Every type of header, several chunks a message, chunk sizes that change, timestamps past 24 bits."""
    with playing(load, listener) as peer:
        encode = peer.connection.send
        # 16,700 s are past 24 bits of ms, also as the first difference.
        times = itertools.chain([0.0, 0.033, 0.066, 0.1, 16_800.0], itertools.count(16_800.04, 0.04))
        sizes = [100, 100, 300, 5000, 700, 700, 40]
        messages = [
            stamped(n, 0, n == 1, size, at_s)
            for n, (size, at_s) in enumerate(zip(sizes, times, strict=False), 1)
        ]
        data = b"".join(map(encode, messages[:3])) + peer.connection.send_chunk_size(1000)
        data += b"".join(map(encode, messages[3:5])) + peer.connection.send_chunk_size(333)
        data += b"".join(map(encode, messages[5:]))
        peer.send_cut(data, cut)
        window = seen(load, peer)
    assert (window.messages, window.missing, window.disordered) == (len(sizes), 0, 0)


def test_two_chunk_streams_may_be_interleaved(load: NativeLoad, listener: socket.socket) -> None:
    video, audio = (
        stamped(2, size=200).payload,
        Stamper(SHAPE).payload(Frame(0, MessageType.AUDIO, False, 60), Stamp(3, 0)),
    )
    first = b"\x06\0\0\0" + len(video).to_bytes(3, "big") + b"\x09\x05\0\0\0" + video[:128]
    between = b"\x04\0\0\0" + len(audio).to_bytes(3, "big") + b"\x08\x05\0\0\0" + audio
    with playing(load, listener) as peer:
        peer.send(stamped(1, keyframe=True))
        peer.sock.sendall(first + between + b"\xc6" + video[128:])
        window = seen(load, peer)
    # The audio's number is higher, and it is whole before the video is.
    assert (window.messages, window.missing, window.disordered) == (3, 1, 1)


def test_bytes_that_are_no_chunks_end_the_load(load: NativeLoad, listener: socket.socket) -> None:
    with playing(load, listener) as peer:
        peer.sock.sendall(b"\xd4garbage")
        with pytest.raises(BenchError, match="begins without a whole header"):
            load.hear(WAIT_S)


def test_a_player_that_is_closed_is_counted(load: NativeLoad, listener: socket.socket) -> None:
    with playing(load, listener) as peer:
        peer.send(stamped(1, keyframe=True))
        peer.settle()
    # Each window begins at the last "begin", so it goes on growing.
    assert eventually(lambda: load.window(WAIT_S).closed, WAIT_S) == 1


def test_a_refusal_is_told(load: NativeLoad, listener: socket.socket) -> None:
    load.play(target(listener), 1)
    with accepted(listener) as peer:
        peer.refusal = "NetStream.Play.StreamNotFound"
        with contextlib.suppress(ConnectionError):  # The load ends at once.
            peer.listen("play")
        with pytest.raises(BenchError, match=r"play, client 1 of 1: NetStream\.Play\.StreamNotFound"):
            ready(load)


def test_a_player_acknowledges_in_the_servers_window(load: NativeLoad, listener: socket.socket) -> None:
    with playing(load, listener) as peer:
        assert peer.acknowledged == []
        peer.send(control.window_acknowledgement_size(6000))
        peer.settle()
        peer.send(stamped(1, keyframe=True, size=4000))
        peer.settle()
    assert peer.acknowledged[-1] > 4000


def test_a_publisher_sends_the_stream_that_python_describes(
    load: NativeLoad, listener: socket.socket
) -> None:
    load.describe(SHAPE)
    load.publish(target(listener), 1)
    with accepted(listener) as peer:
        peer.listen("publish")
        assert ready(load) == 1
        assert peer.commands[2].args[:2] == ["bench-0", "live"]
        heard = peer.hear(3 + 80)
    headers, media = heard[:3], heard[3:]
    assert headers == header_messages(SHAPE, STREAM_ID)
    sent = list(itertools.islice(frames(SHAPE), len(media)))
    assert [(each.type_id, len(each.payload)) for each in media] == [
        (each.type_id, each.size) for each in sent
    ]
    assert [each.timestamp for each in media] == [each.timestamp for each in sent]
    stamps = [read_stamp(each) for each in media]
    assert [stamp.number for stamp in stamps if stamp] == list(range(1, len(media) + 1))
    stamper = Stamper(SHAPE)
    for frame, message, stamp in zip(sent, media, stamps, strict=True):
        assert stamp is not None
        assert (
            message.payload[:26] == stamper.payload(frame, stamp)[:26] or frame.type_id == MessageType.AUDIO
        )
        assert message.payload[:18] == stamper.payload(frame, stamp)[:18]


def test_publishers_have_streams_of_their_own_and_spread_gops(
    load: NativeLoad, listener: socket.socket
) -> None:
    quick = replace(SHAPE, gop_frames=15)
    load.describe(quick)
    load.publish(target(listener), 2, under_way=1)
    with accepted(listener) as first:
        first.listen("publish")
        with accepted(listener) as second:
            second.listen("publish")
            assert ready(load) == 2
            names = [peer.commands[2].args[0] for peer in (first, second)]
            begun = [read_stamp(peer.hear(4)[3]) for peer in (first, second)]
    assert names == ["bench-0", "bench-1"]
    assert begun[0] is not None
    assert begun[1] is not None
    # Half a GOP of 0.5 s apart, whole ones more; what the machine delays is far less than the other half.
    apart_s = abs(begun[1].sent_ns - begun[0].sent_ns) / 1e9 % 0.5
    assert 0.05 < apart_s < 0.45


def test_players_are_spread_over_streams(load: NativeLoad, listener: socket.socket) -> None:
    load.play(target(listener), 3, streams=20, stride=10, under_way=1)
    names = []
    peers = []
    for _ in range(3):
        sock, _ = listener.accept()
        peer = Peer(sock)
        peers.append(peer)
        peer.listen("play")
        names.append(peer.commands[2].args[0])
    assert ready(load) == 3
    for peer in peers:
        peer.sock.close()
    assert names == ["bench-0", "bench-10", "bench-0"]


def test_idle_clients_connect_and_do_no_more(load: NativeLoad, listener: socket.socket) -> None:
    load.hold(target(listener), 1, under_way=1)
    with accepted(listener) as peer:
        peer.listen("connect")
        assert ready(load) == 1
        peer.settle()
        assert [command.name for command in peer.commands] == ["connect"]
        assert load.window(WAIT_S).bytes_each == []


def test_an_unknown_order_is_refused(load: NativeLoad) -> None:
    load.tell("dance")
    with pytest.raises(BenchError, match="not an order: dance"):
        load.hear(WAIT_S)


def test_the_program_is_compiled_once(program: Path) -> None:
    made = program.stat().st_mtime_ns
    assert build(program.name, program.parent) == program
    assert program.stat().st_mtime_ns == made
    assert list(program.parent.iterdir()) == [program]


def test_a_missing_compiler_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="install Debian's packages gcc and libc6-dev") as caught:
        build("rtmp_load", tmp_path)
    assert not caught.value.failed


def test_percentiles_of_counted_durations() -> None:
    made = Durations(9_000_000, {1_000_000: 90, 2_000_000: 9, 9_000_000: 1})
    assert [made.percentile_ms(percent) for percent in (50, 90, 99, 99.9)] == [1, 1, 2, 9]
    assert made.max_ms == 9
    assert Durations().percentile_ms(99) == 0


def test_durations_of_several_processes_add_up() -> None:
    made = Durations(5, {1: 2, 5: 1}) + Durations(7, {1: 1, 7: 4})
    assert made == Durations(7, {1: 3, 5: 1, 7: 4})
