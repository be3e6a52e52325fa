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

import gevent
import zmq.green as zmq
from headwater_bus.control import HealthRequest, Snapshot, Subscribe
from headwater_bus.ports import edge_rtmp_port, registry_port
from headwater_bus.requests import ask
from headwater_bus.security import Security
from honcho.environ import parse_procfile

from support.hanging import hang
from support.ports import free_base_port
from support.waiting import TIME_FACTOR, eventually

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
_STOP_S = 5.0
_LOOK_S = 0.05
"""So often the registry is asked while it has most to do."""
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
        self._options = dict(options or {})
        self._commands: dict[str, str] = {}
        procfile = parse_procfile((ROOT / "Procfile").read_text()).processes
        counts = {"registry": 1, "balancer": 1, "origin": 2, "edge": 2, **(processes or {})}
        for kind, command in procfile.items():
            for number in range(1, counts[kind] + 1):
                self._commands[f"{kind}.{number}"] = command
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._context = zmq.Context()

    def add_options(self, name: str, text: str) -> None:
        """Append to the command of a process, from its next start on."""
        self._options[name] = f"{self._options.get(name, '')} {text}"

    # Processes

    def start(self) -> "Cluster":
        """Start all of it and wait until every node is registered."""
        for name in self._commands:
            self.start_process(name)
        # Of several registries one leads, the others wait.
        self.wait_registered(*(set(self._commands) - set(self.names_of("registry")[1:])))
        return self

    def start_process(self, name: str) -> None:
        """Start one process; its output goes to a log of its own."""
        kind = name.partition(".")[0]
        extra = f"{self._options.get(kind, '')} {self._options.get(name, '')}"
        command = shlex.split(f"{self._commands[name].removeprefix('exec ')} {extra}")
        env = {**self.command_env, "HONCHO_PROCESS_NAME": name}
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
            **({"HEADWATER_REGISTRY": " ".join(self.registries)} if len(self.registries) > 1 else {}),
        }

    @property
    def registries(self) -> list[str]:
        """The endpoints of all registries."""
        first = registry_port(self.base_port)
        return [f"tcp://127.0.0.1:{first + at}" for at in range(len(self.names_of("registry")))]

    def wait_registered(self, *names: str) -> None:
        """Wait until the registry knows these processes."""
        wanted = {name.replace(".", "-") for name in names}
        eventually(lambda: wanted <= set(self.nodes()), 30, f"registered: {wanted}", every_s=_LOOK_S)

    @property
    def names(self) -> list[str]:
        """Of all processes."""
        return list(self._commands)

    def is_running(self, name: str) -> bool:
        """Whether the process was started, and has not ended; one that is stopped by a signal has not."""
        process = self._running.get(name)
        return process is not None and process.poll() is None

    def names_of(self, kind: str) -> list[str]:
        """Of the processes of one kind."""
        return [name for name in self._commands if name.startswith(f"{kind}.")]

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

    def hang(self, name: str) -> None:
        """SIGSTOP, not inside a commit; SIGCONT has it go on."""
        hang(self._running[name])

    def stop(self) -> dict[str, int]:
        """Stop all processes with SIGTERM; exit statuses by name. Those that do not end in time are killed: status -9."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S * TIME_FACTOR
        statuses: dict[str, int] = {}
        for name, process in self._running.items():
            # Not `wait`: what stands between the processes may be greenlets of this one.
            while process.poll() is None and time.monotonic() < deadline:
                gevent.sleep(0.01)
            if process.poll() is None:
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
        snapshot = self._snapshot()
        return {row[0]: row for row in snapshot.nodes} if snapshot is not None else {}

    def groups(self) -> dict[str, str]:
        """Which origin has which group, by node ids; empty while the registry does not answer."""
        snapshot = self._snapshot()
        return {row[0]: row[1] for row in snapshot.groups} if snapshot is not None else {}

    def health(self, name: str) -> dict[str, Any]:
        """What a process says of itself."""
        row = self.nodes()[name.replace(".", "-")]
        state: dict[str, Any] = self._ask(row[5]["control"], HealthRequest()).state
        return state

    def _snapshot(self) -> Snapshot | None:
        """Of the registry that leads; None while none does."""
        for endpoint in self.registries:
            try:
                answer = self._ask(endpoint, Subscribe("test-observer"), patient=False)
            except Exception:
                continue
            if isinstance(answer, Snapshot):
                return answer
        return None

    def _ask(self, endpoint: str, envelope: Any, *, patient: bool = True) -> Any:
        timeout_s = 3.0 * TIME_FACTOR
        return ask(self._context, Security.plain(), endpoint, "", envelope, timeout_s, patient=patient)

    def rtmp_url(self, edge: int, path: str) -> str:
        """An address on the port of one edge alone."""
        return f"rtmp://127.0.0.1:{edge_rtmp_port(self.base_port, f'edge-{edge}')}/{path}"

    def shared_url(self, path: str) -> str:
        """An address on the port that the edges share."""
        return f"rtmp://127.0.0.1:{self.base_port}/{path}"

    @property
    def command_env(self) -> dict[str, str]:
        """For a command of Headwater's against this cluster."""
        return {**os.environ, **self.env}

    def run(self, *command: str, timeout_s: float = 30) -> "subprocess.CompletedProcess[str]":
        """Run a command of Headwater's against this cluster."""
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=ROOT,
            env=self.command_env,
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
