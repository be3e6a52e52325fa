"""Real programs by RTMPT through nginx and HAProxy, over two edges, and by RTMP with the PROXY protocol: packets arrive as they
were sent, and the edges know who the clients are."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from gevent.socket import create_connection, socket
from headwater_bus.ports import edge_rtmp_port
from headwater_rtmp.command import encode_command
from headwater_rtmp.connection import Connection, PongReceived
from headwater_rtmp.control import ping_request
from headwater_rtmp.rtmpt import Verb, session_target
from support.balancers import Balancer, haproxy, nginx
from support.cluster import Cluster, ending_well
from support.media import (
    H264_AAC,
    assert_a_run_of,
    make_source,
    newer_ffmpeg,
    packets,
    packets_of_file,
    start_publisher,
    start_recorder,
)
from support.posting import post
from support.recorder import playable
from support.redis import free_port
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.clients
_RECORD_S = 10
"""A minute was tried by hand: CI has no time for it."""
_SOURCE_S = (_RECORD_S + 25) * TIME_FACTOR
_MANY_REQUESTS = 1_200
"""nginx closes a connection after 1,000, where it is not told otherwise."""
_SOMEBODY = "127.0.0.9"
_STRANGER = "203.0.113.7"
Tool = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Front:
    """A cluster, and what stands in front of its edges."""

    cluster: Cluster
    rtmpt: dict[str, Balancer]
    rtmp: dict[str, Balancer]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, tool: Tool) -> Iterator[Front]:
    """Two edges behind nginx and HAProxy."""
    folder = tmp_path_factory.mktemp("balancers")
    ports = {f"edge.{number}": free_port() for number in (1, 2)}
    options = {"edge": "--trust 127.0.0.1/32 --proxy-protocol"}
    options |= {name: f"--proxy-port {port}" for name, port in ports.items()}
    with ExitStack() as ending:
        cluster = ending.enter_context(ending_well(Cluster(folder, {"origin": 1}, options)))
        edges = [("127.0.0.1", edge_rtmp_port(cluster.base_port, name.replace(".", "-"))) for name in ports]
        proxied = [("127.0.0.1", port) for port in ports.values()]
        both = ending.enter_context(haproxy(tool("haproxy"), folder, edges, proxied))
        http = ending.enter_context(nginx(tool("nginx"), folder, edges))
        stream = ending.enter_context(nginx(tool("nginx"), folder, proxied=proxied))
        yield Front(cluster, {"nginx": http, "haproxy": both}, {"nginx": stream, "haproxy": both})


def test_real_programs_through_nginx_and_haproxy(
    front: Front, started: list["subprocess.Popen[bytes]"], tool: Tool, tmp_path: Path
) -> None:
    """ffmpeg publishes, ffmpeg of two versions and rtmpdump play."""
    ffmpeg, newer, rtmpdump = tool("ffmpeg"), newer_ffmpeg(), tool("rtmpdump")
    source = make_source(ffmpeg, H264_AAC, _SOURCE_S, tmp_path)
    publishers: list[subprocess.Popen[bytes]] = []
    recorders: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
    for name, balancer in front.rtmpt.items():
        url = balancer.url("rtmpt", f"live/{name}")
        log = tmp_path / f"{name}-publisher.log"
        publishers.append(start_publisher(ffmpeg, source, url, H264_AAC, log))
        started.append(publishers[-1])
        eventually(lambda name=name: playable(front.cluster.rtmp_url(1, "live"), name), 15, log.read_text())  # type: ignore[misc]
        for which, program in (("ffmpeg", ffmpeg), ("newer", newer)):
            hashes = tmp_path / f"{name}-{which}.md5"
            recorders[f"{name}-{which}"] = (start_recorder(program, url, _RECORD_S, hashes), hashes)
        flv = tmp_path / f"{name}.flv"
        dump = subprocess.Popen([rtmpdump, "-q", "-v", "-r", url, "-o", str(flv)])
        recorders[f"{name}-rtmpdump"] = (dump, flv)
    started += [process for process, _ in recorders.values()]

    # As many bytes as the source has in that time.
    enough = source.stat().st_size * _RECORD_S / _SOURCE_S
    dumps = [path for _, path in recorders.values() if path.suffix == ".flv"]
    eventually(
        lambda: all(path.exists() and path.stat().st_size > enough for path in dumps),
        _RECORD_S + 15,
        "dumped",
    )
    for process, path in recorders.values():
        if path not in dumps:
            process.wait(30 * TIME_FACTOR)
    for publisher in publishers:
        assert publisher.poll() is None, "it had ended before there was enough of it"
        publisher.terminate()
    sent = packets_of_file(ffmpeg, source)
    for name, (process, path) in recorders.items():
        # rtmpdump ends with the publisher.
        status = process.wait(30 * TIME_FACTOR)
        assert status == 0, f"{name}: {status} {path.with_suffix('.log').read_text()}"
        got = packets_of_file(ffmpeg, path) if path in dumps else packets(path.read_text().splitlines())
        assert_a_run_of(sent["video"], got["video"], at_least=25 * (_RECORD_S - 2))
        assert_a_run_of(sent["audio"], got["audio"], at_least=45 * (_RECORD_S - 2))


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_one_connection_bears_more_requests_than_balancers_allow_by_default(front: Front, name: str) -> None:
    rtmp = Connection.client()
    with create_connection(("127.0.0.1", front.rtmpt[name].port(80)), timeout=10 * TIME_FACTOR) as sock:
        _, _, answer = post(sock, "/open/1", b"\0")
        key = answer.decode().strip()
        pings = 0
        for number in range(_MANY_REQUESTS):
            data = rtmp.data_to_send()
            if number == 2:
                data += rtmp.send(
                    encode_command("connect", 1, {"app": "live", "tcUrl": "rtmpt://127.0.0.1/live"})
                )
            elif number > 2:
                data += rtmp.send(ping_request(number))
            status, headers, answer = post(sock, session_target(Verb.SEND, key, number), data)
            assert status == "HTTP/1.1 200 OK"
            assert "connection: close" not in [line.lower() for line in headers]
            rtmp.feed(answer[1:])
            while (event := rtmp.next_event()) is not None:
                pings += isinstance(event, PongReceived)
    # The answer to each comes with the answer to its request.
    assert pings == _MANY_REQUESTS - 3


def test_rtmp_through_both_with_the_proxy_protocol(
    front: Front, started: list["subprocess.Popen[bytes]"], tool: Tool, tmp_path: Path
) -> None:
    """Published through nginx, played through HAProxy, which adds version 2 of the header, and nginx, which adds version 1."""
    ffmpeg = tool("ffmpeg")
    source = make_source(ffmpeg, H264_AAC, 30 * TIME_FACTOR, tmp_path)
    url = front.rtmp["nginx"].url("rtmp", "live/proxied")
    log = tmp_path / "publisher.log"
    started.append(start_publisher(ffmpeg, source, url, H264_AAC, log))
    eventually(lambda: playable(front.cluster.rtmp_url(1, "live"), "proxied"), 15, log.read_text())
    recorders = {
        tmp_path / f"{name}.md5": start_recorder(
            ffmpeg, balancer.url("rtmp", "live/proxied"), 5, tmp_path / f"{name}.md5"
        )
        for name, balancer in front.rtmp.items()
    }
    started += recorders.values()
    sent = packets_of_file(ffmpeg, source)
    for path, process in recorders.items():
        assert process.wait(40 * TIME_FACTOR) == 0, path.with_suffix(".log").read_text()
        got = packets(path.read_text().splitlines())
        assert_a_run_of(sent["video"], got["video"], at_least=25 * 3)


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_the_address_of_an_rtmp_client_is_its_own(front: Front, name: str) -> None:
    """Whatever closes it is logged with its address."""
    said = refusals(front)
    with somebody(front.rtmp[name].port(1935)) as sock:
        sock.sendall(b"\xff" * 1537)
        assert sock.recv(1) == b""
    eventually(lambda: refusals(front) > said, 10, "the edge has logged who it was")


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_the_address_of_an_rtmpt_client_is_what_the_balancer_says(front: Front, name: str) -> None:
    """And not what the client says of itself."""
    said = refusals(front)
    with somebody(front.rtmpt[name].port(80)) as sock:
        _, _, answer = post(sock, "/open/1", b"\0", {"X-Forwarded-For": _STRANGER})
        key = answer.decode().strip()
        post(sock, f"/send/{key}/0", b"\xff" * 1537, {"X-Forwarded-For": _STRANGER})
    eventually(lambda: refusals(front) > said, 10, "the edge has logged who it was")
    assert all(_STRANGER not in front.cluster.log(edge) for edge in front.cluster.names_of("edge"))


def test_nobody_else_is_believed(front: Front) -> None:
    """Who comes to the edge itself, and says that it is somebody else."""
    said = refusals(front)
    port = edge_rtmp_port(front.cluster.base_port, "edge-1")
    with somebody(port) as sock:
        _, _, answer = post(sock, "/open/1", b"\0", {"X-Forwarded-For": _STRANGER})
        key = answer.decode().strip()
        post(sock, f"/send/{key}/0", b"\xff" * 1537, {"X-Forwarded-For": _STRANGER})
    eventually(lambda: refusals(front) > said, 10, "the edge has logged who it was")
    assert _STRANGER not in front.cluster.log("edge.1")


def somebody(port: int) -> socket:
    """A connection from an address that is nobody else's."""
    return create_connection(("127.0.0.1", port), timeout=10 * TIME_FACTOR, source_address=(_SOMEBODY, 0))


def refusals(front: Front) -> int:
    """How many lines there are about a client of that address that was closed."""
    lines = [line for name in front.cluster.names_of("edge") for line in front.cluster.log(name).splitlines()]
    return sum("client closed" in line and f"address={_SOMEBODY} " in line for line in lines)
