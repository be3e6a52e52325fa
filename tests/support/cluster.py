"""A cluster of real processes: the Procfile's own commands, on ports of its own."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq.green as zmq
from headwater_bus.control import HealthRequest, Subscribe
from headwater_bus.ports import edge_rtmp_port, registry_port
from headwater_bus.requests import ask
from headwater_bus.security import Security
from honcho.environ import parse_procfile

from support.ports import free_base_port
from support.waiting import TIME_FACTOR, eventually

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
_STOP_S = 5.0
_TROUBLE = (
    "Traceback",
    "job died",
    "internal error",
    "session failed",
    "request failed",
    "application failed",
)


class Cluster:
    """`processes` counts those of each kind; `options` are appended to a command by process name or kind."""

    def __init__(
        self,
        folder: Path,
        processes: dict[str, int] | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.base_port = free_base_port()
        self._options = options or {}
        self._commands: dict[str, str] = {}
        procfile = parse_procfile((ROOT / "Procfile").read_text()).processes
        counts = {"registry": 1, "balancer": 1, "origin": 2, "edge": 2, **(processes or {})}
        for kind, command in procfile.items():
            for number in range(1, counts[kind] + 1):
                self._commands[f"{kind}.{number}"] = command
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._context = zmq.Context()

    # Processes

    def start(self) -> "Cluster":
        """Start all of it and wait until every node is registered."""
        for name in self._commands:
            self.start_process(name)
        self.wait_registered(*self._commands)
        return self

    def start_process(self, name: str) -> None:
        """Start one process; its output goes to a log of its own."""
        kind = name.partition(".")[0]
        extra = f"{self._options.get(kind, '')} {self._options.get(name, '')}"
        command = shlex.split(f"{self._commands[name].removeprefix('exec ')} {extra}")
        env = {**os.environ, **self.env, "HONCHO_PROCESS_NAME": name}
        with open(self.folder / f"{name}.log", "ab") as log:
            self._running[name] = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]], cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def env(self) -> dict[str, str]:
        """The settings that make a command line a part of this cluster."""
        return {
            "HEADWATER_BASE_PORT": str(self.base_port),
            "HEADWATER_DATA": str(self.folder / "data"),
            "PYTHONUNBUFFERED": "1",
        }

    def wait_registered(self, *names: str) -> None:
        """Wait until the registry knows these processes."""
        wanted = {name.replace(".", "-") for name in names}
        eventually(lambda: wanted <= set(self.nodes()), within_s=30, what=f"registered: {wanted}")

    @property
    def names(self) -> list[str]:
        """Of all processes."""
        return list(self._commands)

    def wait_ended(self, name: str, within_s: float = 20.0) -> int:
        """Wait for a process that was told to end; its exit status."""
        return self._running.pop(name).wait(within_s * TIME_FACTOR)

    def pid(self, name: str) -> int:
        """The process id."""
        return self._running[name].pid

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal; after SIGKILL the process is reaped."""
        self._running[name].send_signal(number)
        if number == signal.SIGKILL:
            self._running.pop(name).wait()

    def stop(self) -> dict[str, int]:
        """Stop all processes with SIGTERM; exit statuses by name. Those that do not end in time are killed: status -9."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S * TIME_FACTOR
        statuses: dict[str, int] = {}
        for name, process in self._running.items():
            try:
                statuses[name] = process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                statuses[name] = process.wait()
        self._running.clear()
        self._context.destroy(linger=0)
        return statuses

    # Looking

    def log(self, name: str) -> str:
        """What a process has printed."""
        return (self.folder / f"{name}.log").read_text()

    def trouble(self) -> list[str]:
        """Lines of any log that no process should print."""
        return [
            f"{name}: {line}"
            for name in self._commands
            for line in self.log(name).splitlines()
            if any(word in line for word in _TROUBLE)
        ]

    def nodes(self) -> dict[str, list[Any]]:
        """The registry's rows by node id; empty while it does not answer."""
        try:
            snapshot = self._ask(
                f"tcp://127.0.0.1:{registry_port(self.base_port)}", Subscribe("test-observer")
            )
        except Exception:
            return {}
        return {row[0]: row for row in snapshot.nodes}

    def health(self, name: str) -> dict[str, Any]:
        """What a process says of itself."""
        row = self.nodes()[name.replace(".", "-")]
        state: dict[str, Any] = self._ask(row[5]["control"], HealthRequest()).state
        return state

    def _ask(self, endpoint: str, envelope: Any) -> Any:
        return ask(self._context, Security.plain(), endpoint, "", envelope, timeout_s=3.0 * TIME_FACTOR)

    def rtmp_url(self, edge: int, path: str) -> str:
        """An address on the port of one edge alone."""
        return f"rtmp://127.0.0.1:{edge_rtmp_port(self.base_port, f'edge-{edge}')}/{path}"

    def shared_url(self, path: str) -> str:
        """An address on the port that the edges share."""
        return f"rtmp://127.0.0.1:{self.base_port}/{path}"

    def run(self, *command: str, timeout_s: float = 30) -> "subprocess.CompletedProcess[str]":
        """Run a command of Headwater's against this cluster."""
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=ROOT,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=timeout_s * TIME_FACTOR,
            check=False,
        )

    def cli(self, *command: str) -> Any:
        """Run a command that prints JSON and must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@contextmanager
def ending_well(cluster: Cluster) -> Iterator[Cluster]:
    """Start a cluster that no test breaks, and stop it: every process ends with status 0, and no log holds trouble."""
    try:
        yield cluster.start()
    finally:
        statuses = cluster.stop()
    assert set(statuses.values()) == {0}, statuses
    assert cluster.trouble() == []
