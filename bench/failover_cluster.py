"""Headwater for the fail-over load: several origins, and a hand on each process."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq.green as zmq
from headwater_bus.control import MoveGroup, Snapshot, Subscribe
from headwater_bus.ports import registry_port
from headwater_bus.requests import RequestError, ask
from headwater_bus.security import Security

from bench.errors import BenchError
from bench.headwater import find_command
from bench.store_cluster import StoreCluster

ORIGINS = 3
EDGES = 2
_ASK_S = 5.0
_READY_S = 30.0
_LOOK_S = 0.05


class FailoverCluster(StoreCluster):
    """Its processes are on any core. `logs`: where to leave what they say, at level info; None leaves nothing."""

    def __init__(self, store: str, logs: Path | None = None) -> None:
        super().__init__(None, store, EDGES, ORIGINS)
        self.logs = logs
        self.groups = tuple(dict.fromkeys(("registry", "balancer", *self.groups)))
        self._context = zmq.Context()

    def options(self, node_id: str) -> list[str]:
        """With Redis the registry keeps its table there too; all clients come from one address."""
        options = super().options(node_id)
        service = node_id.partition("-")[0]
        if service == "registry" and self.journal == "redis":
            options += ["--store", self.store]
        if service == "edge":
            options += ["--max-per-address", "100000"]
        if self.logs is not None:
            options[options.index("--log-level") + 1] = "info"
        return options

    @property
    def registry(self) -> str:
        """Its endpoint."""
        return f"tcp://127.0.0.1:{registry_port(self.base_port)}"

    # The table

    def owners(self) -> dict[str, str]:
        """The origin of each group, by the registry. Raises BenchError."""
        return {row[0]: row[1] for row in self._snapshot().groups}

    def _snapshot(self) -> Snapshot:
        snapshot: Snapshot = self._ask(self.registry, Subscribe("bench-observer"))
        return snapshot

    def _ask(self, endpoint: str, envelope: Any) -> Any:
        try:
            return ask(self._context, Security.plain(), endpoint, "", envelope, _ASK_S)
        except RequestError as error:
            raise BenchError(f"{type(envelope).__name__}: {error}", failed=True) from error

    def await_registered(self, role: str, count: int = 1) -> None:
        """Wait until so many nodes of this role are there. Raises BenchError after 30 s."""

        def there() -> bool:
            return [row[1] for row in self._snapshot().nodes].count(role) >= count

        self._await(there, f"{count} {role} nodes are not registered")

    def await_empty(self, origin: str) -> None:
        """Wait until an origin has no group. Raises BenchError after 30 s."""
        self._await(lambda: origin not in self.owners().values(), f"{origin} has groups")

    def _await(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            self.check()
            try:
                if condition():
                    return
                seen = otherwise
            except BenchError as error:
                seen = str(error)
            if time.monotonic() > deadline:
                raise BenchError(f"{seen} after {_READY_S:.0f} s", failed=True)
            time.sleep(_LOOK_S)

    # Faults

    def kill(self, name: str) -> None:
        """kill -9 of one process."""
        self.remove(name).signal(signal.SIGKILL)

    def freeze(self, name: str) -> None:
        """SIGSTOP."""
        self.program(name).signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self.program(name).signal(signal.SIGCONT)

    def move(self, group: str, source: str, target: str) -> None:
        """Have a group handed over. Raises BenchError when it is refused."""
        snapshot = self._snapshot()
        epoch = next(int(row[2]) for row in snapshot.groups if row[0] == group)
        control = next(str(row[5]["control"]) for row in snapshot.nodes if row[0] == source)
        self._ask(control, MoveGroup(group, epoch, target, "benchmark"))

    def order(self, *words: str) -> None:
        """`headwater-balancer` with these words, as an operator does. Raises BenchError when that is refused."""
        command = [find_command("balancer"), *words, "--base-port", str(self.base_port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_READY_S, check=False)
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise BenchError(f"headwater-balancer {' '.join(words)}: {said}", failed=True)

    def stop(self) -> None:
        """Stop the programs, and keep their logs where that was asked for."""
        if self.logs is not None and self.programs():
            self.logs.mkdir(parents=True, exist_ok=True)
            for log in self.folder.glob("*.log"):
                shutil.copy(log, self.logs / log.name)
        super().stop()
        self._context.destroy(linger=0)
