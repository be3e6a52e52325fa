"""Players record a stream while its origins are killed: every packet that was published is in the files, in order."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.media import H264_AAC, assert_a_run_of, make_source, packets_of_file, start_publisher
from support.recorder import Recorder, playable
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster
_SOURCE_S = 24 * TIME_FACTOR
_GROUP = "live/_definst_"


def kill_owner(cluster: Cluster) -> str:
    """kill -9 of the origin that has the stream; returns its name."""
    owner = cluster.groups()[_GROUP].replace("-", ".")
    cluster.kill(owner)
    return owner


def test_a_recording_over_two_killed_origins_has_every_packet(
    make_cluster: Callable[..., Cluster],
    tool: Callable[[str], str],
    started: list["subprocess.Popen[bytes]"],
    tmp_path: Path,
) -> None:
    """Through both edges; neither the publisher nor a player starts again or sees an error."""
    ffmpeg, cluster = tool("ffmpeg"), make_cluster()
    source = make_source(ffmpeg, H264_AAC, _SOURCE_S, tmp_path)
    publisher_log = tmp_path / "publisher.log"
    published_s = time.monotonic()
    publisher = start_publisher(ffmpeg, source, cluster.rtmp_url(1, "live/x"), H264_AAC, publisher_log)
    started.append(publisher)
    eventually(
        lambda: playable(cluster.rtmp_url(2, "live"), "x"), within_s=15, what=publisher_log.read_text()
    )
    began_s = time.monotonic()
    recorders = [
        Recorder(ffmpeg, cluster.rtmp_url(edge, "live/x"), tmp_path / f"out-{edge}.flv") for edge in (1, 2)
    ]
    started += [recorder.process for recorder in recorders]
    for recorder in recorders:
        recorder.await_more()

    killed = []
    for _ in range(2):
        killed.append(kill_owner(cluster))
        for recorder in recorders:
            recorder.await_more()
        # Back before the next goes.
        cluster.start_process(killed[-1])
        cluster.wait_registered(killed[-1])
    assert killed[0] != killed[1]
    assert publisher.poll() is None, "it had ended before the kills were over"
    assert [recorder.process.poll() for recorder in recorders] == [None, None]

    assert publisher.wait(_SOURCE_S + 30 * TIME_FACTOR) == 0, publisher_log.read_text()
    for recorder in recorders:
        assert recorder.process.wait(15 * TIME_FACTOR) == 0, recorder.said
    sent = packets_of_file(ffmpeg, source)
    recorded_s = _SOURCE_S - (began_s - published_s) - 1
    for recorder in recorders:
        got = packets_of_file(ffmpeg, recorder.output)
        # A run that ends with the last: nothing is missing after it began.
        assert_a_run_of(sent["video"], got["video"], at_least=int(25 * recorded_s))
        assert_a_run_of(sent["audio"], got["audio"], at_least=int(45 * recorded_s))
        assert (got["video"][-1], got["audio"][-1]) == (sent["video"][-1], sent["audio"][-1])
        assert recorder.said == ""
    assert publisher_log.read_text() == ""
