"""Headwater with its origins' journal and its edges' RTMPT sessions on SQLite, on a Redis of its own, or nowhere."""

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
_FLUSH_MS = 20
_READY_S = 10.0
_LOOK_S = 0.02


class StoreCluster(Headwater):
    """Origins and edges; origins, edges and Redis are also counted alone."""

    def __init__(self, core: int | None, store: str, edges: int, origins: int = 1) -> None:
        super().__init__(core, _FLUSH_MS, edges, origins)
        self.label = f"journal {'off' if store == 'none' else 'on ' + store}"
        self.groups = ("origin", "edge", *(("redis",) if store == "redis" else ()), "all")
        self.journal = store
        self._redis_port = free_port() if store == "redis" else 0

    @property
    def store(self) -> str:
        """SQLite is the default."""
        urls = {"none": "none", "redis": f"redis://127.0.0.1:{self._redis_port}/0"}
        return urls.get(self.journal, "")

    def start(self) -> None:
        """Redis first; the others wait for each other."""
        if self.journal == "redis":
            command = redis_command(find_redis(), self._redis_port, str(self.folder))
            redis = Program("redis", command, self.folder, self.core)
            self.add(redis, "redis", "all")
            self._await_redis(redis)
        super().start()

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
        if self.journal == "redis":
            made["version"] = f"{made['version']}, {_redis_version()}, appendfsync everysec"
        return {**made, "store": self.journal}


def redis_command(program: str, port: int, folder: str) -> list[str]:
    """A Redis that keeps its data as one for a journal should: every second at the latest, nothing else beside."""
    options = {
        "port": str(port), "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "yes",
        "appendfsync": "everysec", "daemonize": "no",
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
