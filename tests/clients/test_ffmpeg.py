"""Real programs publish and play through the whole cluster; packets arrive as they were sent, on either edge."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import Event
from headwater_client import NetConnection, StreamError
from support.cluster import Cluster
from support.media import (
    AV1_OPUS,
    H264_AAC,
    HEVC_AAC,
    Codecs,
    assert_a_run_of,
    make_source,
    newer_ffmpeg,
    packets,
    packets_of_file,
    start_publisher,
    start_recorder,
)
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.clients

_RECORD_S = 10
_SOURCE_S = (_RECORD_S + 20) * TIME_FACTOR
Tool = Callable[[str], str]


class Publisher:
    """An ffmpeg that sends a test source in real time, and what it sends."""

    def __init__(
        self, cluster: Cluster, ffmpeg: str, codecs: Codecs, url: str, seconds: float, folder: Path
    ) -> None:
        self.name = url.rpartition("/")[2]
        self._cluster, self._ffmpeg, self._codecs, self._url = cluster, ffmpeg, codecs, url
        self._log = folder / f"{self.name}-publisher.log"
        self.source = make_source(ffmpeg, codecs, seconds, folder)
        self.start()

    def start(self) -> None:
        """Send it from its start, and wait until it can be played."""
        self._process = start_publisher(self._ffmpeg, self.source, self._url, self._codecs, self._log)
        eventually(self._playable, within_s=15, what=f"{self.name} is published: {self._log.read_text()}")

    def _playable(self) -> bool:
        try:
            with NetConnection(self._cluster.rtmp_url(1, "live")) as connection:
                connection.create_stream().play(self.name)
        except StreamError:
            return False
        return True

    def end(self) -> None:
        """Have it say goodbye."""
        self._process.terminate()
        self._process.wait()

    def stop(self) -> None:
        """Cut it off."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def publish(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Publisher]]:
    """Starts publishers, which end with the test."""
    running: list[Publisher] = []

    def start(ffmpeg: str, codecs: Codecs, url: str, seconds: float = _SOURCE_S) -> Publisher:
        running.append(Publisher(cluster, ffmpeg, codecs, url, seconds, tmp_path))
        return running[-1]

    yield start
    for publisher in running:
        publisher.stop()


def test_packets_arrive_as_they_were_sent(
    cluster: Cluster, publish: Callable[..., Publisher], tool: Tool, tmp_path: Path
) -> None:
    """H.264 + AAC to ffmpeg and rtmpdump, HEVC + AAC and AV1 + Opus by Enhanced RTMP; each played through both edges."""
    older, newer, rtmpdump = tool("ffmpeg"), newer_ffmpeg(), tool("rtmpdump")
    programs = {H264_AAC: older, HEVC_AAC: newer, AV1_OPUS: newer}
    publishers = {
        codecs: publish(program, codecs, cluster.shared_url(f"live/{codecs.name}"))
        for codecs, program in programs.items()
    }
    dumped = tmp_path / "dumped.flv"
    dump = subprocess.Popen(
        [
            rtmpdump,
            "-q",
            "-v",
            "-r",
            cluster.rtmp_url(2, "live/h264-aac"),
            "-B",
            str(_RECORD_S),
            "-o",
            str(dumped),
        ]
    )
    recordings = [
        (codecs, tmp_path / f"{codecs.name}-{edge}.md5", cluster.rtmp_url(edge, f"live/{codecs.name}"))
        for codecs in programs
        for edge in (1, 2)
    ]
    recorders = [
        start_recorder(programs[codecs], url, _RECORD_S, output) for codecs, output, url in recordings
    ]
    for recorder, (_, output, _) in zip(recorders, recordings, strict=True):
        assert recorder.wait(_RECORD_S + 30 * TIME_FACTOR) == 0, output.with_suffix(".log").read_text()
    # It stops after so many seconds of the stream (2: it was told to), or with the publisher, when it has as many bytes.
    publisher = publishers[H264_AAC]
    enough = publisher.source.stat().st_size * _RECORD_S / _SOURCE_S
    eventually(
        lambda: dump.poll() is not None or (dumped.exists() and dumped.stat().st_size > enough),
        _RECORD_S + 15,
        "dumped",
    )
    publisher.end()
    assert dump.wait(_RECORD_S + 30 * TIME_FACTOR) in (0, 2)

    received = [(codecs, packets(output.read_text().splitlines())) for codecs, output, _ in recordings]
    received.append((H264_AAC, packets_of_file(older, dumped)))
    sent = {
        codecs: packets_of_file(programs[codecs], publisher.source)
        for codecs, publisher in publishers.items()
    }
    for codecs, got in received:
        assert_a_run_of(sent[codecs]["video"], got["video"], at_least=25 * (_RECORD_S - 2))
        assert_a_run_of(sent[codecs]["audio"], got["audio"], at_least=40 * (_RECORD_S - 2))


def test_ffprobe_names_the_codecs_and_the_first_frame_comes_at_once(
    cluster: Cluster, publish: Callable[..., Publisher], tool: Tool
) -> None:
    ffprobe = tool("ffprobe")
    publish(tool("ffmpeg"), H264_AAC, cluster.rtmp_url(1, "live/probe"))
    delays_ms = [first_frame_ms(cluster.rtmp_url(edge, "live"), "probe") for edge in (1, 2) * 5]
    # The median: one of them may have met a busy moment of the machine.
    assert sorted(delays_ms)[len(delays_ms) // 2] < 300 * TIME_FACTOR, delays_ms
    shown = subprocess.run(
        [
            ffprobe,
            "-v",
            "error",
            "-show_entries",
            "stream=codec_name",
            "-of",
            "csv=p=0",
            cluster.rtmp_url(2, "live/probe"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=30 * TIME_FACTOR,
    )
    assert sorted(shown.stdout.split()) == ["aac", "h264"]


def first_frame_ms(url: str, name: str) -> float:
    """From the play command to the first frame of video, in ms."""
    with NetConnection(url) as connection:
        stream = connection.create_stream()
        started = time.monotonic()
        stream.play(name)
        for message in stream.messages(timeout_s=5):
            if message.type_id == 9 and message.payload[:2] == b"\x17\x01":
                return (time.monotonic() - started) * 1000
    raise AssertionError("no video")


def test_a_publisher_that_returns_is_played_again(
    cluster: Cluster, publish: Callable[..., Publisher], tool: Tool
) -> None:
    """Players stay while a publisher is gone, and get what it sends when it is back."""
    publisher = publish(tool("ffmpeg"), H264_AAC, cluster.rtmp_url(1, "live/again"))
    frames: list[float] = []
    with NetConnection(cluster.rtmp_url(2, "live")) as connection:
        stream = connection.create_stream()
        stream.play("again")
        unpublished = Event()

        def watch() -> None:
            while not connection.closed.is_set():
                for message in stream.messages(timeout_s=60):
                    if message.type_id == 9:
                        frames.append(time.monotonic())
                unpublished.set()

        watcher = gevent.spawn(watch)
        eventually(lambda: len(frames) > 10, within_s=10)
        publisher.end()
        assert unpublished.wait(10 * TIME_FACTOR)
        seen = len(frames)
        publisher.start()
        eventually(lambda: len(frames) > seen + 10, within_s=15)
        watcher.kill()
