"""The shipped configurations of nginx and HAProxy before small servers: what becomes of requests when servers are killed and
hang, and what passes at all."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from gevent.socket import create_connection
from support.balancers import Balancer, haproxy, nginx
from support.cluster import ROOT
from support.ports import is_free
from support.posting import Posting, post
from support.redis import free_port
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster
_CLIENTS = 40
_PAUSE_S = 0.02
_LONGEST_POST = 1024 * 1024
Tool = Callable[[str], str]


class Server:
    """A process that stands for an edge."""

    def __init__(self, name: str) -> None:
        self.name, self.port = name, free_port()
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
        command = [sys.executable, "-m", "support.small_http", str(self.port), self.name]
        self.process = subprocess.Popen(command, env=env)
        eventually(lambda: not is_free(self.port), 20, f"{self.name} listens")

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """Two."""
    made = [Server("one"), Server("two")]
    yield made
    for server in made:
        server.kill()


@pytest.fixture(params=["nginx", "haproxy"])
def balancer(
    request: pytest.FixtureRequest, servers: list[Server], tool: Tool, tmp_path: Path
) -> Iterator[Balancer]:
    """In front of the servers."""
    make = {"nginx": nginx, "haproxy": haproxy}[request.param]
    edges = [("127.0.0.1", server.port) for server in servers]
    with make(tool(request.param), tmp_path, edges) as running:
        yield running


def _served(posting: Posting, more: int) -> None:
    enough = posting.tally.answered + more
    eventually(lambda: posting.tally.answered >= enough, within_s=20, what=f"{more} more answers")


def test_no_request_is_lost_when_servers_are_killed_and_hang(
    balancer: Balancer, servers: list[Server]
) -> None:
    posting = Posting(("127.0.0.1", balancer.port(80)), _CLIENTS, _PAUSE_S).start()
    _served(posting, 10 * _CLIENTS)
    for server in servers:
        server.kill()
        _served(posting, 20 * _CLIENTS)
        server.start()
        _served(posting, 20 * _CLIENTS)
    servers[0].process.send_signal(signal.SIGSTOP)
    _served(posting, 60 * _CLIENTS)
    servers[0].process.send_signal(signal.SIGCONT)
    _served(posting, 10 * _CLIENTS)
    tally = posting.stop()
    assert tally.wrong == []
    assert tally.statuses == []
    # HAProxy closes the client's connection when a dead server has answered a request with a reset, which is rare.
    assert tally.closed <= (0 if balancer.name == "nginx-rtmpt" else 3), tally.closed
    assert tally.slowest_s < 4 * TIME_FACTOR
    assert set(tally.servers) == {"one", "two"}


def test_a_session_stays_at_one_server_while_that_is_well(balancer: Balancer) -> None:
    posting = Posting(("127.0.0.1", balancer.port(80)), _CLIENTS, _PAUSE_S).start()
    _served(posting, 10 * _CLIENTS)
    tally = posting.stop()
    assert tally.moves == 0
    assert set(tally.servers) == {"one", "two"}


def test_long_posts_pass_and_headers_are_as_librtmp_wants_them(balancer: Balancer) -> None:
    with create_connection(("127.0.0.1", balancer.port(80)), timeout=10 * TIME_FACTOR) as sock:
        for size in (1, _LONGEST_POST, 1):
            status, headers, answer = post(sock, f"/send/session-of-a-client/{size}", bytes(size))
            assert status == "HTTP/1.1 200 OK"
            assert answer.endswith(f" {size}".encode())
            assert f"Content-Length: {len(answer)}" in headers
            assert "Content-Type: application/x-fcs" in headers
            assert not [
                line for line in headers if line.lower().startswith(("transfer-", "connection: close"))
            ]


def test_new_sessions_are_opened_at_either_server(balancer: Balancer) -> None:
    with create_connection(("127.0.0.1", balancer.port(80)), timeout=10 * TIME_FACTOR) as sock:
        answers = [post(sock, "/open/1", b"\0")[2].split()[0] for _ in range(20)]
    assert set(answers) == {b"one", b"two"}


def test_more_requests_on_one_connection_than_balancers_allow_by_default(balancer: Balancer) -> None:
    """nginx closes a connection after 1,000 of them where it is not told otherwise."""
    with create_connection(("127.0.0.1", balancer.port(80)), timeout=10 * TIME_FACTOR) as sock:
        for number in range(1_200):
            status, _, _ = post(sock, f"/idle/session-of-a-client/{number}", b"\0")
            assert status == "HTTP/1.1 200 OK"
            gevent.sleep(0)
