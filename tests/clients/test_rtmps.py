"""Real programs by RTMPS and RTMPTS, while the certificate is replaced: streams go on, and who comes next sees the new one."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from headwater_bus.ports import edge_rtmp_port
from headwater_client import NetConnection
from support.certificates import Certificate, make_certificate
from support.cluster import Cluster
from support.media import (
    H264_AAC,
    assert_a_run_of,
    make_source,
    packets,
    packets_of_file,
    start_publisher,
    start_recorder,
)
from support.recorder import playable
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.clients
_RECORD_S = 8
_SOURCE_S = (_RECORD_S + 12) * TIME_FACTOR
Tool = Callable[[str], str]


def subject(openssl: str, port: int) -> str:
    """Whose certificate a new connection is shown."""
    done = subprocess.run(
        [openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost"],
        input=b"",
        capture_output=True,
        timeout=20 * TIME_FACTOR,
        check=False,
    )
    lines = done.stdout.decode(errors="replace").splitlines()
    return next((line for line in lines if line.startswith("subject=")), "")


def test_streams_go_on_while_the_certificate_is_replaced(
    make_cluster: Callable[..., Cluster],
    started: list["subprocess.Popen[bytes]"],
    tool: Tool,
    tmp_path: Path,
) -> None:
    ffmpeg, openssl = tool("ffmpeg"), tool("openssl")
    shown = make_certificate(openssl, tmp_path, "shown")
    options = {"edge": f"--tls-cert {shown.certificate} --tls-key {shown.key}"}
    cluster = make_cluster({"edge": 2, "origin": 1}, options)
    ports = [edge_rtmp_port(cluster.base_port, f"edge-{number}") for number in (1, 2)]
    source = make_source(ffmpeg, H264_AAC, _SOURCE_S, tmp_path)
    recorders: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
    for name, scheme in (("by-tcp", "rtmps"), ("by-http", "rtmpts")):
        log = tmp_path / f"{name}.log"
        url = f"{scheme}://127.0.0.1:{ports[0]}/live/{name}"
        started.append(start_publisher(ffmpeg, source, url, H264_AAC, log))
        eventually(lambda name=name: playable(cluster.rtmp_url(2, "live"), name), 15)  # type: ignore[misc]
        for how in ("rtmps", "rtmpts"):
            hashes = tmp_path / f"{name}-{how}.md5"
            played = f"{how}://127.0.0.1:{ports[1]}/live/{name}"
            recorders[f"{name}-{how}"] = (start_recorder(ffmpeg, played, _RECORD_S, hashes), hashes)
    started += [process for process, _ in recorders.values()]
    eventually(
        lambda: all(path.exists() and path.stat().st_size > 2000 for _, path in recorders.values()), 20
    )
    _replaced(cluster, openssl, shown, ports, tmp_path)
    sent = packets_of_file(ffmpeg, source)
    for name, (process, path) in recorders.items():
        status = process.wait(_SOURCE_S + 30 * TIME_FACTOR)
        assert status == 0, f"{name}: {status} {path.with_suffix('.log').read_text()}"
        got = packets(path.read_text().splitlines())
        assert_a_run_of(sent["video"], got["video"], at_least=25 * (_RECORD_S - 2))
        assert_a_run_of(sent["audio"], got["audio"], at_least=45 * (_RECORD_S - 2))


def _replaced(cluster: Cluster, openssl: str, shown: Certificate, ports: list[int], folder: Path) -> None:
    """Another certificate takes the place of the one that is shown, then one that is none; clients come all the while."""
    assert all(subject(openssl, port) == "subject=CN = shown" for port in ports)
    shown.become(make_certificate(openssl, folder, "next"))
    for port in ports:
        eventually(lambda port=port: subject(openssl, port) == "subject=CN = next", 20)  # type: ignore[misc]
    with NetConnection(f"rtmps://localhost:{ports[0]}/live", ca_file=str(shown.certificate)) as connection:
        assert not connection.closed.is_set()
    shown.certificate.write_text("none\n")
    for number in (1, 2):
        eventually(lambda number=number: "the one before" in cluster.log(f"edge.{number}"), 20)  # type: ignore[misc]
    assert all(subject(openssl, port) == "subject=CN = next" for port in ports)
