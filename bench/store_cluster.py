"""Headwater with its origins' journal and its edges' RTMPT sessions on SQLite, on a Redis of its own, or nowhere; all on one
core, or one service alone on it."""

import shutil
import socket
import subprocess
import time

from bench.errors import BenchError
from bench.headwater import Headwater
from bench.processes import Program, free_port

STORES = ("none", "sqlite", "redis")
REFERENCE = "none"
"""What the others are compared to."""
POWER = "-power"
"""Behind the name of a store: what is committed survives the loss of power, not only of processes."""
_FLUSH_MS = 20
_READY_S = 10.0
_LOOK_S = 0.02


class StoreCluster(Headwater):
    """Origins and edges; origins, edges and Redis are also counted alone. `journal`: one of STORES, or with POWER behind it."""

    def __init__(
        self,
        core: int | None,
        journal: str,
        edges: int,
        origins: int = 1,
        alone: str = "all",
        flush_ms: int = _FLUSH_MS,
    ) -> None:
        """`alone`: the group that has `core`; the others run where the benchmark itself does, which is on the load's."""
        super().__init__(core, flush_ms, edges, origins)
        self.label = f"journal {'off' if journal == 'none' else 'on ' + journal}"
        self.journal, self._engine = journal, journal.removesuffix(POWER)
        self.groups = ("origin", "edge", *(("redis",) if self._engine == "redis" else ()), "all")
        self.core_group = alone
        self._redis_port = free_port() if self._engine == "redis" else 0

    @property
    def store(self) -> str:
        """SQLite is the default."""
        option = "?durability=power" if self.journal.endswith(POWER) else ""
        if self._engine == "sqlite":
            return f"sqlite:{self.folder / 'data'}{option}" if option else ""
        return f"redis://127.0.0.1:{self._redis_port}/0{option}" if self._engine == "redis" else "none"

    def core_of(self, node_id: str) -> int | None:
        """Where a node runs."""
        return self.core if self.core_group in ("all", node_id.partition("-")[0]) else None

    def start(self) -> None:
        """Redis first; the others wait for each other."""
        if self._engine == "redis":
            command = redis_command(find_redis(), self._redis_port, str(self.folder), self._fsync)
            redis = Program("redis", command, self.folder, self.core_of("redis"))
            self.add(redis, "redis", "all")
            self._await_redis(redis)
        super().start()

    @property
    def _fsync(self) -> str:
        return "always" if self.journal.endswith(POWER) else "everysec"

    def _await_redis(self, redis: Program) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            redis.check()
            try:
                socket.create_connection(("127.0.0.1", self._redis_port), timeout=1).close()
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise BenchError(
                        f"redis-server does not listen after {_READY_S:.0f} s", failed=True
                    ) from error
                time.sleep(_LOOK_S)

    def settings(self) -> dict[str, object]:
        """Versions, and what keeps the journal."""
        made = super().settings()
        if self._engine == "redis":
            made["version"] = f"{made['version']}, {_redis_version()}, appendfsync {self._fsync}"
        return {**made, "store": self.journal}


def redis_command(program: str, port: int, folder: str, fsync: str = "everysec") -> list[str]:
    """A Redis that keeps its data as one for a journal should, nothing else beside."""
    options = {
        "port": str(port), "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "yes",
        "appendfsync": fsync, "daemonize": "no",
    }  # fmt: skip
    return [program, *(text for name, value in options.items() for text in (f"--{name}", value))]


def find_redis() -> str:
    """Raises BenchError when it is not there."""
    found = shutil.which("redis-server")
    if found is None:
        raise BenchError("no redis-server; install it (Debian: redis-server) or leave it out (--store)")
    return found


def _redis_version() -> str:
    said = subprocess.run([find_redis(), "--version"], capture_output=True, text=True, check=True).stdout
    version = next((word[2:] for word in said.split() if word.startswith("v=")), "unknown")
    return f"redis {version}"
