"""A publisher is killed and comes back with the same key: players stay, and their recordings go on."""

import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from headwater_client import NetConnection, StreamError
from support.cluster import Cluster
from support.media import H264_AAC, make_source, packet_times_of_file, start_publisher
from support.recorder import Recorder, playable
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster
_SOURCE_S = 60 * TIME_FACTOR


def refusal(url: str, name: str) -> str:
    """What somebody hears who publishes a name; empty: it may."""
    with NetConnection(url) as connection:
        try:
            connection.create_stream().publish(name)
        except StreamError as error:
            return str(error)
    return ""


def test_a_killed_publisher_goes_on_and_a_stranger_is_refused(
    make_cluster: Callable[..., Cluster],
    tool: Callable[[str], str],
    started: list["subprocess.Popen[bytes]"],
    tmp_path: Path,
) -> None:
    ffmpeg, cluster = tool("ffmpeg"), make_cluster()
    source = make_source(ffmpeg, H264_AAC, _SOURCE_S, tmp_path)

    def publish(edge: int, log: str) -> "subprocess.Popen[bytes]":
        url = cluster.rtmp_url(edge, "live/x?key=secret")
        process = start_publisher(ffmpeg, source, url, H264_AAC, tmp_path / log)
        started.append(process)
        return process

    publisher = publish(1, "first.log")
    eventually(lambda: playable(cluster.rtmp_url(2, "live"), "x"), within_s=15)
    recorders = [
        Recorder(ffmpeg, cluster.rtmp_url(edge, "live/x"), tmp_path / f"out-{edge}.flv") for edge in (1, 2)
    ]
    started += [recorder.process for recorder in recorders]
    for recorder in recorders:
        recorder.await_more()

    publisher.kill()
    publisher.wait()
    stranger = cluster.rtmp_url(2, "live")
    eventually(lambda: "reserved" in refusal(stranger, "x"), within_s=5, what="a stranger is refused")
    assert "reserved" in refusal(stranger, "x?key=guessed")
    # By the other edge.
    publisher = publish(2, "second.log")
    for recorder in recorders:
        recorder.await_more()
        recorder.await_more()
    assert "published already" in refusal(cluster.rtmp_url(1, "live"), "x")
    assert publisher.poll() is None, (tmp_path / "second.log").read_text()
    assert [recorder.process.poll() for recorder in recorders] == [None, None]

    # Its goodbye ends it.
    publisher.terminate()
    for recorder in recorders:
        assert recorder.process.wait(15 * TIME_FACTOR) == 0, recorder.said
        assert recorder.said == ""
        for kind, times in packet_times_of_file(ffmpeg, recorder.output).items():
            assert len(times) > 50, kind
            assert times == sorted(times), f"{kind} jumps back in time"
            longest = max(later - earlier for earlier, later in pairwise(times))
            assert longest < 10 * TIME_FACTOR, f"{kind} has a gap of {longest} s"


def test_a_publisher_whose_edge_dies_goes_on_by_another_one(
    make_cluster: Callable[..., Cluster],
    tool: Callable[[str], str],
    started: list["subprocess.Popen[bytes]"],
    tmp_path: Path,
) -> None:
    ffmpeg, cluster = tool("ffmpeg"), make_cluster()
    source = make_source(ffmpeg, H264_AAC, _SOURCE_S, tmp_path)
    url = "live/x?key=secret"
    started.append(start_publisher(ffmpeg, source, cluster.rtmp_url(1, url), H264_AAC, tmp_path / "1.log"))
    eventually(lambda: playable(cluster.rtmp_url(2, "live"), "x"), within_s=15)
    recorder = Recorder(ffmpeg, cluster.rtmp_url(2, "live/x"), tmp_path / "out.flv")
    started.append(recorder.process)
    recorder.await_more()
    cluster.kill("edge.1")
    started[0].wait(15 * TIME_FACTOR)
    stopped_at = recorder.size

    def goes_on() -> bool:
        """Like an encoder that tries again when it is refused: its origin may not know yet that the edge is dead."""
        if started[-1].poll() is not None or len(started) == 2:
            log = tmp_path / f"{len(started)}.log"
            started.append(start_publisher(ffmpeg, source, cluster.rtmp_url(2, url), H264_AAC, log))
        return recorder.size > stopped_at + 100_000

    eventually(goes_on, within_s=15, what="the recording goes on", every_s=0.2)
    assert recorder.process.poll() is None
    times = packet_times_of_file(ffmpeg, recorder.output)["video"]
    assert times == sorted(times)
