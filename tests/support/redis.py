"""Private redis-server processes, on ports of their own: with append-only files, replicas, Sentinels; and what befalls them."""

import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.ports import is_free
from support.waiting import eventually

if TYPE_CHECKING:
    # The client loads `ssl`. Modules of tests are all loaded before the first runs, and services' command lines, which some of
    # them load, must be first to patch it.
    from redis import Redis

_STARTED_S = 20.0
_LOWEST, _HIGHEST = 10_000, 12_000
_GIVEN: set[int] = set()


def free_port() -> int:
    """A port that no server has now, nor had in this run: who asks for a killed one must not find another. It is below those
    that the kernel gives to outgoing connections, one of which might connect to itself; and below those of clusters."""
    chance = random.SystemRandom()
    for _ in range(200):
        port = chance.randrange(_LOWEST, _HIGHEST)
        if port not in _GIVEN and is_free(port):
            _GIVEN.add(port)
            return port
    raise AssertionError("no free port")


class RedisServer:
    """One server (or Sentinel) in a folder of its own. `options` are those of redis.conf; a replica follows `master`. It
    keeps its port and its folder over `kill` and `start`."""

    def __init__(
        self,
        program: str,
        folder: Path,
        master: "RedisServer | None" = None,
        options: dict[str, str] | None = None,
        sentinel: str = "",
    ) -> None:
        self.port, self.folder, self._program = free_port(), folder, program
        folder.mkdir(parents=True, exist_ok=True)
        self.options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(folder),
            "logfile": str(folder / "log"),
            "save": '""',
            **({} if sentinel else {"appendonly": "yes", "repl-diskless-sync-delay": "0"}),
            **({"replicaof": f"127.0.0.1 {master.port}"} if master is not None else {}),
            **(options or {}),
        }
        self._config = folder / "redis.conf"
        self._config.write_text(
            "".join(f"{name} {value}\n" for name, value in self.options.items()) + sentinel
        )
        self._mode = ["--sentinel"] if sentinel else []
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self.start()

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Begin, or begin again with what is on disk; waits until it answers."""
        self._process = subprocess.Popen([self._program, str(self._config), *self._mode])
        with self.client() as client:
            eventually(lambda: self._answers(client), _STARTED_S, f"redis-server on port {self.port}")

    def _answers(self, client: "Redis") -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        from redis.exceptions import RedisError

        try:
            return bool(client.ping())
        except RedisError:
            return False

    def kill(self) -> None:
        """kill -9; also one that is paused. Not while it waits for its disk: with `appendfsync everysec` Redis then answers up to
        2 s before it writes, and what it loses with that is no fault of whoever is tested."""
        if not self._paused:
            with self.client() as client:
                eventually(lambda: not client.info("persistence").get("aof_pending_bio_fsync"), _STARTED_S)
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """At the end of a test: nothing is kept."""
        if self._process is not None:
            self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It hangs: connections stay open, nothing is answered."""
        assert self._process is not None
        self._paused = True
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._paused = False

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(_STARTED_S)
        self._process, self._paused = None, False

    @contextmanager
    def client(self) -> Iterator["Redis"]:
        """For what a test does to the server behind the store's back."""
        from redis import Redis

        client = Redis(
            port=self.port,
            password=self.options.get("requirepass"),
            decode_responses=True,
            socket_timeout=10,
            protocol=2,
        )
        try:
            yield client
        finally:
            client.close()

    def set(self, **options: str) -> None:
        """CONFIG SET; underscores stand for hyphens."""
        with self.client() as client:
            for name, value in options.items():
                client.config_set(name.replace("_", "-"), value)

    def follows(self) -> bool:
        """Whether this replica has all that its master wrote."""
        with self.client() as client:
            seen = client.info("replication")
        return seen["master_link_status"] == "up" and not seen["master_sync_in_progress"]

    def cut(self) -> None:
        """A replica hears nothing more from its master, as if the network between were cut."""
        with self.client() as client:
            client.replicaof("127.0.0.1", str(free_port()))

    def promote(self) -> None:
        """A replica is a master from now on, with what it has."""
        with self.client() as client:
            client.replicaof("NO", "ONE")


def sentinel_of(master: RedisServer, name: str, down_after_ms: int = 300) -> str:
    """What the configuration of a lone Sentinel says of a master that it calls `name`."""
    return (
        f"sentinel monitor {name} 127.0.0.1 {master.port} 1\n"
        f"sentinel down-after-milliseconds {name} {down_after_ms}\n"
        f"sentinel failover-timeout {name} 2000\n"
    )
