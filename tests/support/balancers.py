"""The load-balancers of others, run with the configurations that we ship: only addresses and ports are replaced in them."""

import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from support.cluster import ROOT
from support.ports import is_free
from support.redis import free_port
from support.waiting import TIME_FACTOR, eventually

Address = tuple[str, int]
DEPLOY = ROOT / "deploy"
_STARTED_S = 20.0
_STOP_S = 10.0
_EDGE_PORT, _PROXY_PORT = 1935, 1934
"""In the configurations: of an edge's listener, and of the one where the PROXY protocol is expected."""
_SERVER = re.compile(
    rf"^(?P<before> +server (?:edge-\d+\S* )?)10\.0\.0\.\d+:(?P<port>{_EDGE_PORT}|{_PROXY_PORT})\b(?P<after>.*)\n",
    re.MULTILINE,
)
_TEMP_PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Balancer:
    """A running balancer. `listens`: by the port that the shipped configuration names, the one that it has here. It keeps them
    over `stop` and `start`."""

    def __init__(self, name: str, folder: Path, listens: dict[int, int], command: Sequence[str]) -> None:
        self.name, self._listens, self._command = name, listens, list(command)
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def port(self, shipped: int) -> int:
        """Where it listens in place of this port."""
        return self._listens[shipped]

    def url(self, scheme: str, path: str) -> str:
        """An address that leads through it. `scheme`: rtmpt or rtmp."""
        shipped = {"rtmpt": 80, "rtmp": 1935}[scheme]
        return f"{scheme}://127.0.0.1:{self.port(shipped)}/{path}"

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text()

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        eventually(self._is_open, _STARTED_S, f"{self.name} listens")
        return self

    def _is_open(self) -> bool:
        assert self.runs, f"{self.name} has ended: {self.log}"
        return not any(is_free(port) for port in self._listens.values())

    def reload(self) -> None:
        """SIGHUP: nginx reads its configuration again, new processes serve new connections."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End it, with its connections."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_S * TIME_FACTOR)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def nginx(
    program: str, folder: Path, edges: Sequence[Address] = (), proxied: Sequence[Address] = ()
) -> Balancer:
    """nginx-rtmpt.conf for the listeners of `edges`, or nginx-stream.conf for those that expect the PROXY protocol."""
    assert bool(edges) != bool(proxied)
    name, shipped = ("nginx-rtmpt", 80) if edges else ("nginx-stream", 1935)
    listens = {shipped: free_port()}
    text = _filled(f"{name}.conf", edges, proxied)
    text = _replaced(text, rf"^( +listen ){shipped}\b", rf"\g<1>127.0.0.1:{listens[shipped]}", 1)
    if edges:
        # Debian's are those of its own nginx, and root's.
        paths = "".join(f"    {kind}_temp_path {folder / kind};\n" for kind in _TEMP_PATHS)
        text = _replaced(text, r"^http \{\n", rf"http {{\n{paths}", 1)
    config = folder / f"{name}.conf"
    config.write_text(text)
    process = f"daemon off; pid {folder / name}.pid; error_log stderr;"
    return Balancer(name, folder, listens, [program, "-c", str(config), "-g", process])


def haproxy(
    program: str, folder: Path, edges: Sequence[Address], proxied: Sequence[Address] = ()
) -> Balancer:
    """haproxy.cfg. Without `proxied`, the listeners that expect the PROXY protocol, its part for RTMP leads nowhere."""
    listens = {80: free_port(), 1935: free_port()}
    text = _filled("haproxy.cfg", edges, proxied or [("127.0.0.1", free_port())])
    for shipped, port in listens.items():
        text = _replaced(text, rf"^( +bind ):{shipped}\b", rf"\g<1>127.0.0.1:{port}", 1)
    config = folder / "haproxy.cfg"
    config.write_text(text)
    return Balancer("haproxy", folder, listens, [program, "-db", "-f", str(config)])


def _filled(name: str, edges: Sequence[Address], proxied: Sequence[Address]) -> str:
    """A shipped configuration with these edges in each list of theirs."""
    text = (DEPLOY / name).read_text()
    places = {_EDGE_PORT: edges, _PROXY_PORT: proxied}
    done: list[int] = []

    def listed(first: re.Match[str]) -> str:
        shipped = int(first["port"])
        done.append(shipped)
        lines = []
        for number, (host, port) in enumerate(places[shipped], 1):
            before = first["before"].replace("edge-1", f"edge-{number}")
            lines.append(f"{before}{host}:{port}{first['after']}\n")
        return "".join(lines)

    # Each list names two edges: the first line becomes all of ours, the second goes.
    pairs = re.compile(_SERVER.pattern + r"(?: +server .*\n)+", re.MULTILINE)
    text = pairs.sub(listed, text)
    assert set(done) == {port for port, given in places.items() if given}, (
        f"{name}: lists of edges for {done}"
    )
    return text


def _replaced(text: str, pattern: str, by: str, times: int) -> str:
    text, done = re.subn(pattern, by, text, flags=re.MULTILINE)
    assert done == times, f"{pattern}: {done} times in the configuration, expected {times}"
    return text
