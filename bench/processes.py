"""Processes of a benchmark: each on its core, and none left behind."""

import contextlib
import gc
import os
import random
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.errors import BenchError

_STOP_S = 5.0
_LOOK_S = 0.01
_TAIL_BYTES = 2000
_PORTS = (10_000, 30_000)


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores are the server's and which the load's; both the same where there is only one."""

    server: int
    load: tuple[int, ...]

    @property
    def shared(self) -> bool:
        """Whether server and load compete for one core."""
        return self.server in self.load


def choose_cores(available: Sequence[int]) -> Cores:
    """The first for the server, the others for the load."""
    first, *others = sorted(available)
    return Cores(first, tuple(others) or (first,))


def need_files(count: int) -> None:
    """Let this process, and those that it starts, open so many files. Raises BenchError where it may not."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < count:
        raise BenchError(
            f"a process may open {hard} files, {count} are needed; raise the hard limit (ulimit -Hn)"
        )


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes and threads started inside live on this core; None leaves them where this thread may be."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def enter_load_process(core: int | None) -> None:
    """First thing in a process of the load: go to its core (None: stay), leave Ctrl-C to the parent, never stop for garbage."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.disable()


class Program:
    """A running server program, with this process's environment unless `env` is given. Its output goes to a file, whose end
    explains an early death. Raises BenchError when it cannot be started."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        core: int | None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        try:
            with self._log.open("ab") as log, on_core(core):
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=cwd or folder,
                    env=env, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise BenchError(f"{name} cannot be started: {error}", failed=True) from error

    def processes(self) -> list[psutil.Process]:
        """The program and whatever it started."""
        try:
            own = psutil.Process(self._process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def check(self) -> None:
        """Raises BenchError with the end of its output when it has ended."""
        status = self._process.poll()
        if status is not None:
            raise BenchError(
                f"{self.name} ended with status {status}: {self.tail() or 'no output'}", failed=True
            )

    def wait(self) -> int:
        """Wait until it ends by itself; returns its status."""
        return self._process.wait()

    def signal(self, number: int) -> None:
        """Send it a signal; SIGKILL is waited for."""
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    def tail(self) -> str:
        """The last line of its output, empty when there is none."""
        lines = self._log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def stop(self) -> None:
        """SIGTERM, after 5 s SIGKILL; then SIGKILL to whatever it left behind."""
        started = self.processes()[1:]
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # It began a session, so the group is its own.
        deadline = time.monotonic() + _STOP_S
        while any(map(_lives, started)) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)


def _lives(process: psutil.Process) -> bool:
    """Whether it still runs; one that has ended may stay a zombie for as long as its new parent likes."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_port(offsets: Sequence[int] = (0,)) -> int:
    """A port of 127.0.0.1 such that it and those at `offsets` from it are free now. None that the system gives to clients: with
    thousands of those there is none left beside them."""
    for _ in range(100):
        base = random.randrange(*_PORTS)
        if all(_is_free(base + offset) for offset in (0, *offsets)):
            return base
    raise BenchError("no free ports on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
