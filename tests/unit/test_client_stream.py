"""NetStream against a server in this process: publish, play, files, backpressure, what goes wrong."""

import io
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from headwater_client import (
    ConnectionClosed,
    Ending,
    NetConnection,
    NetStream,
    Progress,
    StreamError,
    TimedOut,
)
from headwater_rtmp.command import decode_values, encode_data
from headwater_rtmp.flv import FlvReader, FlvWriter
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode
from support.waiting import eventually
from unit.client_server import FakeServer, Peer, fake_server

CONFIG = Message(9, 0, 0, b"\x17\x00\x00\x00\x00config")
AAC = Message(8, 0, 0, b"\xaf\x00\x12\x10")


def frames(count: int, first_ms: int = 0) -> list[Message]:
    """A keyframe, then others, 40 ms apart, with a little audio between."""
    made = []
    for number in range(count):
        head = b"\x17\x01\x00\x00\x00" if number % 5 == 0 else b"\x27\x01\x00\x00\x00"
        made.append(Message(9, 0, first_ms + number * 40, head + number.to_bytes(4, "big")))
        made.append(Message(8, 0, first_ms + number * 40 + 7, b"\xaf\x01" + bytes(20)))
    return made


def flv(messages: list[Message]) -> bytes:
    writer = FlvWriter()
    return writer.header() + b"".join(writer.tag(message) for message in messages)


def tags(data: bytes) -> tuple[list[Message], FlvReader]:
    reader = FlvReader()
    reader.feed(data)
    found = []
    while (tag := reader.next_tag()) is not None:
        found.append(tag)
    return found, reader


def bodies(messages: list[Message]) -> list[tuple[int, int, bytes]]:
    return [(message.type_id, message.timestamp, message.payload) for message in messages]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as running:
        yield running


@pytest.fixture
def stream(server: FakeServer) -> Iterator[NetStream]:
    with NetConnection(server.url()) as connection, connection.create_stream() as made:
        yield made


def arrived(server: FakeServer, count: int) -> list[Message]:
    peer = server.peers[0]
    eventually(lambda: len(peer.media) >= count, within_s=10, what=f"{count} media messages")
    assert len(peer.media) == count
    return peer.media


def test_publish_and_send(server: FakeServer, stream: NetStream) -> None:
    stream.publish("a")
    stream.send_metadata({"width": 320.0})
    stream.send_video(CONFIG.payload, 0)
    stream.send_audio(b"\xaf\x01sound", 2**32 + 20)
    stream.send_data("onCue", "x", 1.0, timestamp_ms=30)
    stream.send_message(Message(9, 77, 40, b"v" * 100_000))
    metadata, config, audio, cue, video = arrived(server, 5)
    assert decode_values(metadata) == ["@setDataFrame", "onMetaData", {"width": 320.0}]
    assert (config.type_id, config.timestamp, config.payload, config.stream_id) == (9, 0, CONFIG.payload, 1)
    assert (audio.type_id, audio.timestamp, audio.payload) == (8, 20, b"\xaf\x01sound")
    assert decode_values(cue) == ["onCue", "x", 1.0]
    assert (video.stream_id, video.payload) == (1, b"v" * 100_000)
    command = next(command for command in server.peers[0].commands if command.name == "publish")
    assert (command.args, command.stream_id) == (["a", "live"], 1)


def test_a_refused_publish_names_code_stream_and_server(server: FakeServer, stream: NetStream) -> None:
    server.answers["publish"] = lambda peer, command: peer.status(
        1, StatusCode.PUBLISH_BAD_NAME, "taken already"
    )
    with pytest.raises(StreamError) as caught:
        stream.publish("a")
    assert str(caught.value) == f"publish of 'a' at {server.url()}: NetStream.Publish.BadName: taken already"
    assert caught.value.code == "NetStream.Publish.BadName"
    del server.answers["publish"]
    stream.publish("b")
    stream.send_video(b"\x17\x01", 0)
    arrived(server, 1)


def test_a_status_without_its_stream_id_is_understood(server: FakeServer, stream: NetStream) -> None:
    server.answers["publish"] = lambda peer, command: peer.status(0, StatusCode.PUBLISH_START)
    stream.publish("a")
    assert stream.last_status["code"] == "NetStream.Publish.Start"


def test_play_of_what_nobody_publishes(server: FakeServer, stream: NetStream) -> None:
    server.answers["play"] = lambda peer, command: peer.status(1, StatusCode.PLAY_STREAM_NOT_FOUND, "nobody")
    with pytest.raises(StreamError, match=r"play of 'a' at .*: NetStream.Play.StreamNotFound: nobody"):
        stream.play("a")


def test_a_stream_id_that_is_none(server: FakeServer) -> None:
    server.answers["createStream"] = lambda peer, command: peer.command(
        "_result", command.transaction_id, "one"
    )
    said = r"createStream at .*: expected a stream id, got 'one'"
    with NetConnection(server.url()) as connection, pytest.raises(StreamError, match=said):
        connection.create_stream()


def test_no_answer_and_a_lost_connection(server: FakeServer, stream: NetStream) -> None:
    server.answers["play"] = lambda peer, command: None
    with pytest.raises(TimedOut, match=r"play of 'a' at .*: no NetStream.Play.Start within 0\.05 s"):
        stream.play("a", timeout_s=0.05)
    server.answers["publish"] = lambda peer, command: peer.sock.shutdown(2)
    with pytest.raises(ConnectionClosed, match=r"publish of 'a' at .*: the server closed the connection"):
        stream.publish("a")
    with pytest.raises(ConnectionClosed, match="the connection is closed"):
        stream.send_video(b"\x17\x01", 0)


def test_a_publisher_that_the_server_stops_is_told_why(server: FakeServer, stream: NetStream) -> None:
    told: list[str] = []
    stream.on_status(lambda info: told.append(info["code"]))
    stream.publish("a")
    server.peers[0].status(1, StatusCode.PUBLISH_DENIED, "enough")
    eventually(lambda: "NetStream.Publish.Denied" in told, within_s=5)
    with pytest.raises(StreamError, match=r"stream 'a' of .*: NetStream.Publish.Denied: enough"):
        stream.send_video(b"\x17\x01", 0)


def test_play_gives_messages_until_the_end_and_goes_on_after_it(
    server: FakeServer, stream: NetStream
) -> None:
    server.to_play = [CONFIG, *frames(10)]
    stream.play("a")
    got = list(stream.messages(timeout_s=5))
    assert bodies([message for message in got if message.type_id != 18]) == bodies(server.to_play)
    assert stream.ending == Ending.STOPPED
    # The publisher returns: the player has stayed.
    server.peers[0].write(Message(9, 1, 5000, b"\x17\x01again"))
    assert [message.timestamp for message in stream.messages(timeout_s=0.1)] == [5000]
    assert stream.ending == Ending.TIMED_OUT  # type: ignore[comparison-overlap]  # the second round has changed it, which mypy cannot know


def test_messages_end_with_the_connection(server: FakeServer, stream: NetStream) -> None:
    server.ends = False
    server.to_play = frames(3)
    stream.play("a")
    server.peers[0].sock.shutdown(2)
    assert len([message for message in stream.messages(timeout_s=5) if message.type_id != 18]) == 6
    assert stream.ending == Ending.CLOSED


def test_pause_receive_and_close_are_said_on_the_stream(server: FakeServer, stream: NetStream) -> None:
    stream.play("a")
    stream.pause(True)
    stream.receive_audio(False)
    stream.receive_video(False)
    stream.close()
    stream.close()
    with pytest.raises(StreamError, match=r"stream 'a' of .*: it was closed here"):
        stream.pause(False)
    eventually(lambda: server.peers[0].commands[-1].name == "deleteStream", within_s=5)
    said = [(c.name, c.stream_id, c.args[:1]) for c in server.peers[0].commands[-4:]]
    assert said == [
        ("pause", 1, [True]),
        ("receiveAudio", 1, [False]),
        ("receiveVideo", 1, [False]),
        ("deleteStream", 0, [1.0]),
    ]


def test_a_player_that_takes_nothing_stops_the_server_instead_of_growing(server: FakeServer) -> None:
    big = [Message(9, 0, number, b"\x27\x01\x00\x00\x00" + bytes(100_000)) for number in range(400)]
    with NetConnection(server.url(), queue_bytes=500_000) as connection:
        stream = connection.create_stream()
        written: list[int] = []

        def flood(peer: Peer, command: object) -> None:
            peer.status(1, StatusCode.PLAY_START)
            for message in big:
                peer.write(Message(9, 1, message.timestamp, message.payload))
                written.append(message.timestamp)
            peer.status(1, StatusCode.PLAY_STOP)

        server.answers["play"] = flood
        stream.play("a")
        seen = [0, -1]

        def stands_still() -> bool:
            seen[:] = [len(written), seen[0]]
            gevent.sleep(0.2)
            return seen[0] == seen[1]

        eventually(stands_still, within_s=20)
        assert stream.queued_bytes < 700_000
        assert len(written) < 400
        assert [message.timestamp for message in stream.messages(timeout_s=10)] == list(range(400))


def test_closing_while_the_queue_is_full(server: FakeServer) -> None:
    server.to_play = [Message(9, 0, number, bytes(50_000)) for number in range(20)]
    with NetConnection(server.url(), queue_bytes=60_000) as connection:
        stream = connection.create_stream()
        stream.play("a")
        eventually(lambda: stream.queued_bytes >= 60_000, within_s=5)
    assert connection.closed.is_set()
    assert list(stream.messages(timeout_s=0.1)) == []
    assert stream.ending == Ending.CLOSED


def test_a_publisher_waits_for_a_server_that_does_not_read(server: FakeServer, stream: NetStream) -> None:
    stream.publish("a")
    server.deaf = True
    sent: list[int] = []

    def send() -> None:
        for number in range(600):
            stream.send_video(number.to_bytes(4, "big") + bytes(100_000), number)
            sent.append(number)

    job = gevent.spawn(send)
    seen = [0, -1]

    def stands_still() -> bool:
        seen[:] = [len(sent), seen[0]]
        gevent.sleep(0.2)
        return bool(seen[0]) and seen[0] == seen[1]

    eventually(stands_still, within_s=20)
    assert len(sent) < 600
    server.deaf = False
    job.get(timeout=20)
    media = arrived(server, 600)
    assert [int.from_bytes(message.payload[:4], "big") for message in media] == list(range(600))


def test_a_sender_that_times_out_leaves_no_half_message(server: FakeServer, stream: NetStream) -> None:
    stream.publish("a")
    server.deaf = True
    sent: list[int] = []

    def send_for_ever() -> None:
        for number in range(100_000):
            stream.send_video(number.to_bytes(4, "big") + bytes(200_000), number)
            sent.append(number)

    with pytest.raises(gevent.Timeout), gevent.Timeout(0.5):
        send_for_ever()
    server.deaf = False
    stream.send_video(b"last", 9999)
    eventually(lambda: server.peers[0].media and server.peers[0].media[-1].payload == b"last", within_s=20)
    assert [message.timestamp for message in server.peers[0].media] == [*sent, 9999]


# Files


def test_publish_file_sends_what_the_file_holds(
    server: FakeServer, stream: NetStream, tmp_path: Path
) -> None:
    metadata = encode_data("onMetaData", {"width": 320.0})
    other = encode_data("onTextData", {"text": "hi"}, timestamp=1_000_050)
    messages = [metadata, CONFIG, AAC, *frames(25, first_ms=0), other]
    messages[:-1] = [Message(m.type_id, 0, m.timestamp + 1_000_000, m.payload) for m in messages[:-1]]
    path = tmp_path / "a.flv"
    path.write_bytes(flv(messages) + b"\x09\x00\x00")  # The file was cut.
    heard: list[Progress] = []
    done = stream.publish_file(path, "a", realtime=False, progress=heard.append)
    got = arrived(server, len(messages))
    assert decode_values(got[0]) == ["@setDataFrame", "onMetaData", {"width": 320.0}]
    expected = [(type_id, at - 1_000_000, payload) for type_id, at, payload in bodies(messages[1:])]
    assert bodies(got[1:]) == expected
    size = sum(len(message.payload) for message in messages)
    assert (done.messages, done.payload_bytes, done.media_ms) == (len(messages), size, 24 * 40 + 7)
    assert heard[-1].messages == len(messages)


def test_a_loop_goes_on_in_time(server: FakeServer, stream: NetStream) -> None:
    video = [message for message in frames(5) if message.type_id == 9]
    done = stream.publish_file(io.BytesIO(flv(video)), "a", realtime=False, loop=True, duration_s=0.5)
    got = arrived(server, 13)
    assert [message.timestamp for message in got] == list(range(0, 500, 40))
    assert [message.payload for message in got] == [video[number % 5].payload for number in range(13)]
    assert done.media_ms == 480


def test_realtime_follows_the_timestamps(server: FakeServer, stream: NetStream) -> None:
    done = stream.publish_file(io.BytesIO(flv(frames(11))), "a")
    assert 0.4 <= done.elapsed_s < 5


def test_realtime_ends_at_once_with_the_connection(server: FakeServer, stream: NetStream) -> None:
    late = [CONFIG, *frames(1), *frames(1, first_ms=60_000)]
    job = gevent.spawn(stream.publish_file, io.BytesIO(flv(late)), "a")
    arrived(server, 3)
    server.peers[0].sock.shutdown(2)
    with pytest.raises(
        ConnectionClosed, match=r"stream 'a' of .*: the connection is closed: the server closed"
    ):
        job.get(timeout=5)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"RIFF\x00\x00\x00\x00WAVE", "not an FLV file"),
        (b"", "expected an FLV file with tags, found none"),
        (FlvWriter().header(), "expected an FLV file with tags, found none"),
    ],
)
def test_files_that_cannot_be_published(stream: NetStream, tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "x.flv"
    path.write_bytes(data)
    with pytest.raises(StreamError, match=f"publish of {path}: .*{said}"):
        stream.publish_file(path, "a")
    with pytest.raises(FileNotFoundError):
        stream.publish_file(tmp_path / "none.flv", "a")
    with pytest.raises(StreamError, match="longer than 0 ms"):
        stream.publish_file(io.BytesIO(flv([CONFIG])), "a", loop=True)


def test_record_writes_what_was_played(server: FakeServer, stream: NetStream, tmp_path: Path) -> None:
    metadata = encode_data("onMetaData", {"width": 320.0})
    late = frames(10, first_ms=3_600_000)
    server.to_play = [metadata, CONFIG, AAC, *late]
    stream.play("a")
    path = tmp_path / "a.flv"
    done = stream.record(path)
    found, reader = tags(path.read_bytes())
    expected = [*server.to_play[:3], *frames(10)]
    assert bodies(found) == bodies(expected)
    assert reader.header is not None
    assert (reader.header.audio, reader.header.video) == (True, True)
    assert (done.messages, done.media_ms) == (len(expected), 9 * 40 + 7)


def test_a_recording_says_in_its_header_what_it_holds(server: FakeServer, stream: NetStream) -> None:
    server.to_play = [AAC, Message(8, 0, 2**32 - 10, b"\xaf\x01a"), Message(8, 0, 13, b"\xaf\x01b")]
    stream.play("a")
    file = io.BytesIO()
    stream.record(file)
    found, reader = tags(file.getvalue())
    assert reader.header is not None
    assert (reader.header.audio, reader.header.video) == (True, False)
    assert [tag.timestamp for tag in found] == [0, 0, 23]


def test_record_for_a_while_and_of_nothing(server: FakeServer, stream: NetStream) -> None:
    server.to_play = frames(100)
    stream.play("a")
    done = stream.record(io.BytesIO(), duration_s=1.0)
    assert done.media_ms == 1000
    server.to_play, server.ends = [], False
    stream.play("a")
    with pytest.raises(TimedOut, match=r"play of 'a' at .*: nothing came within 0\.1 s"):
        stream.record(io.BytesIO(), timeout_s=0.1)


def test_a_lost_connection_leaves_a_whole_file(server: FakeServer, stream: NetStream, tmp_path: Path) -> None:
    server.to_play, server.ends = frames(10), False
    stream.play("a")
    server.peers[0].sock.shutdown(2)
    path = tmp_path / "a.flv"
    with pytest.raises(ConnectionClosed, match="the server closed the connection"):
        stream.record(path)
    assert bodies(tags(path.read_bytes())[0]) == bodies(frames(10))
