"""The bare loop (`bench.bare_loop`) as a server under test: what no server on this machine can do for less."""

import platform
import sys
from pathlib import Path

from bench.processes import Program, free_port
from bench.server import Server
from bench.session import Target
from bench.stream import StreamShape

_ROOT = Path(__file__).parents[1]


def label(every_ms: int) -> str:
    """Of the loop that gathers so long."""
    return f"bare loop, {every_ms} ms"


class Floor(Server):
    """It makes its stream itself."""

    groups = ("all",)
    makes_stream = True

    def __init__(self, core: int | None, every_ms: int, shape: StreamShape) -> None:
        super().__init__(core)
        self.label = label(every_ms)
        self._port, self._every_ms, self._shape = free_port(), every_ms, shape

    @property
    def target(self) -> Target:
        """Whatever is asked for, it is the one stream."""
        return Target("127.0.0.1", self._port)

    def start(self) -> None:
        """From the repository, where `bench` is."""
        command = [sys.executable, "-m", "bench.bare_loop", self._port, self._every_ms, self._shape.bit_s]
        self.add(Program("bare-loop", list(map(str, command)), self.folder, self.core, cwd=_ROOT), "all")

    def settings(self) -> dict[str, object]:
        """What it sends."""
        return {"version": f"bare loop, Python {platform.python_version()}", "every_ms": self._every_ms}
