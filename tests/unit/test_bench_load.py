"""The benchmark's load without sockets: sessions against a server's state machine, latencies and gaps, sharing out."""

from array import array

import pytest
from headwater_rtmp.command import Command, decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.message import Message, MessageType

from bench.load import share_out
from bench.processes import Cores, choose_cores
from bench.sampling import StampReader
from bench.session import Mode, Session, SessionError, Target
from bench.stream import Frame, Stamp, Stamper, StreamShape, header_messages

TARGET = Target("127.0.0.1", 19350)
VIDEO_SIZE = 100


class FakeServer:
    """Answers commands with what `answers` holds for their names, and keeps everything it heard."""

    def __init__(self, answers: dict[str, list[Message]]) -> None:
        self.connection = Connection.server()
        self.answers = answers
        self.heard: list[Command] = []
        self.media: list[Message] = []

    def feed(self, data: bytes) -> bytes:
        self.connection.feed(data)
        out = b""
        while (event := self.connection.next_event()) is not None:
            if not isinstance(event, Message):
                continue
            if event.type_id != MessageType.COMMAND_AMF0:
                self.media.append(event)
                continue
            command = decode_command(event)
            self.heard.append(command)
            for answer in self.answers.get(command.name, []):
                out += self.connection.send(answer)
        return self.connection.data_to_send() + out


def status(code: str, level: str = "status") -> Message:
    return encode_command("onStatus", 0, None, {"level": level, "code": code}, stream_id=5)


def answers(last: str, *statuses: Message) -> dict[str, list[Message]]:
    return {
        "connect": [
            encode_command("_result", 1, {}, {"level": "status", "code": "NetConnection.Connect.Success"})
        ],
        "createStream": [encode_command("_result", 2, None, 5.0)],
        last: list(statuses),
    }


def talk(session: Session, server: FakeServer) -> None:
    data = session.start()
    while data:
        answer = server.feed(data)
        data = session.feed(answer) if answer else b""


def test_a_player_plays() -> None:
    received: list[Message] = []
    session = Session(TARGET, Mode.PLAY, received.append)
    media = Message(MessageType.VIDEO, 5, 40, b"\x27\x01rest")
    server = FakeServer(
        answers("play", status("NetStream.Play.Reset"), status("NetStream.Play.Start"), media)
    )
    talk(session, server)
    assert session.started
    assert [command.name for command in server.heard] == ["connect", "createStream", "play"]
    assert server.heard[0].command_object["tcUrl"] == "rtmp://127.0.0.1:19350/live"
    assert server.heard[2].args[0] == "bench"
    assert server.heard[2].stream_id == 5
    assert received == [media]


def test_a_publisher_publishes_and_its_messages_arrive() -> None:
    session = Session(TARGET, Mode.PUBLISH)
    server = FakeServer(answers("publish", status("NetStream.Publish.Start")))
    talk(session, server)
    assert session.started
    assert session.stream_id == 5
    frame = Frame(0.04, MessageType.VIDEO, True, 6000)
    sent = Message(MessageType.VIDEO, 5, 40, Stamper(StreamShape()).payload(frame, Stamp(1, 2)))
    server.feed(session.send(sent))
    assert server.media == [sent]


@pytest.mark.parametrize(
    "refusal",
    [
        status("NetStream.Play.StreamNotFound", "error"),
        encode_command("_error", 3, None, {"level": "error", "code": "NetStream.Play.StreamNotFound"}),
    ],
)
def test_a_refusal_says_what_the_server_said(refusal: Message) -> None:
    session = Session(TARGET, Mode.PLAY)
    with pytest.raises(SessionError, match=r"NetStream\.Play\.StreamNotFound"):
        talk(session, FakeServer(answers("play", refusal)))
    assert not session.started


def stamped(number: int, sent_ns: int, keyframe: bool = False) -> Message:
    frame = Frame(0.0, MessageType.VIDEO, keyframe, VIDEO_SIZE)
    return Message(MessageType.VIDEO, 1, 0, Stamper(StreamShape()).payload(frame, Stamp(number, sent_ns)))


def reader(*received: tuple[Message, int]) -> StampReader:
    made = StampReader(array("q"))
    for message, now_ns in received:
        made.now_ns = now_ns
        made.take(message)
    return made


def test_latency_is_from_the_send_to_the_receive() -> None:
    made = reader((stamped(1, 1000, keyframe=True), 1700), (stamped(2, 2000), 2050))
    assert list(made.latencies_ns) == [700, 50]
    assert (made.missing, made.disordered) == (0, 0)


def test_headers_are_no_messages_of_the_stream() -> None:
    made = reader(*((header, 5) for header in header_messages(StreamShape(), 1)))
    assert not made.latencies_ns


def test_gaps_count_after_the_first_keyframe() -> None:
    made = reader(
        (stamped(2, 0), 1),
        (stamped(5, 0), 1),  # Before the keyframe a server may leave out what it likes.
        (stamped(9, 0, keyframe=True), 1),
        (stamped(10, 0), 1),
        (stamped(14, 0), 1),  # 11, 12 and 13 are missing.
        (stamped(14, 0), 1),  # Twice.
        (stamped(15, 0), 1),
    )
    assert (made.missing, made.disordered) == (3, 1)


def test_players_are_shared_out() -> None:
    assert share_out(1000, 3) == [334, 333, 333]
    assert share_out(1, 2) == [1, 0]


def test_the_server_has_a_core_of_its_own_where_there_are_two() -> None:
    assert choose_cores([1, 0]) == Cores(0, (1,))
    assert choose_cores([2, 5, 7]) == Cores(2, (5, 7))
    assert choose_cores([3]).shared
    assert not choose_cores([3, 4]).shared
