"""All doors of an edge's own process, as the command line opens them; nobody else of the cluster is there."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent.socket
import gevent.ssl
import pytest
from support.certificates import make_certificate
from support.ports import free_base_port
from support.waiting import TIME_FACTOR, eventually

HEALTH = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"
HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 1935\r\n"
RTMPT, RTMPS, PROXY = 30, 31, 32
"""Ports, counted from the base port as all are."""


class EdgeProcess:
    """`headwater-edge serve` with a certificate and all doors; `log`: what it has said."""

    def __init__(self, openssl: str, folder: Path) -> None:
        self.made = {name: make_certificate(openssl, folder, name) for name in ("first", "second")}
        self.base = free_base_port()
        self._log = folder / "log"
        command = [
            str(Path(sys.executable).parent / "headwater-edge"),
            "serve",
            "--base-port",
            str(self.base),
        ]
        command += ["--data", str(folder / "data"), "--trust", "127.0.0.0/8", "--proxy-protocol"]
        ports = {"--rtmpt-port": RTMPT, "--rtmps-port": RTMPS, "--proxy-port": PROXY}
        for option, number in ports.items():
            command += [option, str(self.base + number)]
        command += [
            "--tls-cert",
            str(self.made["first"].certificate),
            "--tls-key",
            str(self.made["first"].key),
        ]
        env = {
            name: value for name, value in os.environ.items() if not name.startswith(("HEADWATER", "HONCHO"))
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
        eventually(self.is_listening, 30, "listening")

    @property
    def log(self) -> str:
        return self._log.read_text()

    def is_listening(self) -> bool:
        assert self.process.poll() is None, self.log
        return " listening " in self.log

    def ask(self, number: int, *, tls: bool = False, before: bytes = b"") -> bytes:
        """The health, at a port counted from the base port; nothing where it is not answered."""
        with gevent.socket.create_connection(("127.0.0.1", self.base + number), 30 * TIME_FACTOR) as sock:
            sock.sendall(before)
            if tls:
                context = gevent.ssl.create_default_context(cafile=str(self.made["first"].certificate))
                context.load_verify_locations(str(self.made["second"].certificate))
                sock = context.wrap_socket(sock, server_hostname="localhost")
            sock.sendall(HEALTH)
            data = b""
            try:
                while piece := sock.recv(1000):
                    data += piece
            except ConnectionResetError:
                pass
            sock.close()
        return bytes(data.partition(b"\r\n\r\n")[2])


@pytest.fixture
def edge(tool: Callable[[str], str], tmp_path: Path) -> Iterator[EdgeProcess]:
    running = EdgeProcess(tool("openssl"), tmp_path)
    yield running
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30 * TIME_FACTOR) == 0
    assert "Traceback" not in running.log


def test_every_door_takes_what_it_is_for(edge: EdgeProcess) -> None:
    for number in (0, 11, RTMPT):
        assert edge.ask(number) == edge.ask(number, tls=True) == b"ok\n"
    assert edge.ask(RTMPS, tls=True) == b"ok\n"
    assert edge.ask(RTMPS) == b""
    assert edge.ask(PROXY, before=HEADER) == edge.ask(PROXY, tls=True, before=HEADER) == b"ok\n"
    assert edge.ask(PROXY) == b""
    with urllib.request.urlopen(f"http://127.0.0.1:{edge.base}/health", timeout=30 * TIME_FACTOR) as answer:
        assert answer.read() == b"ok\n"


def test_a_certificate_that_changes_is_taken_over_while_it_runs(edge: EdgeProcess) -> None:
    edge.made["first"].become(edge.made["second"])
    edge.process.send_signal(signal.SIGHUP)
    eventually(lambda: "certificate loaded" in edge.log, 10)
    assert edge.ask(0, tls=True) == b"ok\n"
    edge.made["first"].key.write_text("none")
    eventually(lambda: "certificate not loaded, the one before stays" in edge.log, 20)
    assert edge.ask(0, tls=True) == b"ok\n"
