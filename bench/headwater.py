"""Headwater as the server under test: registry, balancer, one origin, one edge, each its own command as in operation."""

import importlib.metadata
import os
import sys
from pathlib import Path

from headwater_bus.ports import edge_rtmp_port, registry_port

from bench.errors import BenchError
from bench.processes import Program, free_port
from bench.server import Server
from bench.session import Target

_ROOT = Path(__file__).parents[1]
_SERVICES = ("registry", "balancer", "origin", "edge")
_USED_PORTS = (0, registry_port(0), edge_rtmp_port(0, "edge-1"))
"""The ports of a cluster, counted from its base port."""


def find_command(service: str) -> str:
    """The installed `headwater-...` beside this Python. Raises BenchError when it is not there."""
    path = Path(sys.executable).parent / f"headwater-{service}"
    if not path.is_file():
        raise BenchError(
            f"no {path.name} beside {Path(sys.executable).name}; run this with .venv's Python (make bench)"
        )
    return str(path)


def arguments(service: str, base_port: int, data: Path, flush_ms: int) -> list[str]:
    """The options of a service's `serve`."""
    common = ["serve", "--base-port", str(base_port), "--data", str(data), "--log-level", "warning"]
    if service == "origin":
        return [*common, "--app", "live=apps.live:Live"]
    if service == "edge":
        return [*common, "--flush-ms", str(flush_ms)]
    return common


class Headwater(Server):
    """A whole cluster; the edge is also counted alone."""

    groups = ("edge", "all")

    def __init__(self, core: int, flush_ms: int) -> None:
        super().__init__(core)
        self.label = f"headwater, {flush_ms} ms"
        self._flush_ms = flush_ms
        self._base_port = free_port(_USED_PORTS)

    @property
    def target(self) -> Target:
        """Application live, on the edge's own port."""
        return Target("127.0.0.1", edge_rtmp_port(self._base_port, "edge-1"))

    def start(self) -> None:
        """All four at once: they wait for each other."""
        # What the shell of whoever runs this says about another cluster must not reach this one.
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HEADWATER_", "HONCHO_"))
        }
        env["PYTHONPATH"] = str(_ROOT)
        for service in _SERVICES:
            options = arguments(service, self._base_port, self.folder / "data", self._flush_ms)
            program = Program(
                service, [find_command(service), *options], self.folder, self.core, env=env, cwd=_ROOT
            )
            self.add(program, *(("edge", "all") if service == "edge" else ("all",)))

    def settings(self) -> dict[str, object]:
        """Version and the options that were not left alone."""
        names = ("headwater-edge", "gevent", "pyzmq", "msgpack")
        version = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
        return {"version": version, "flush_ms": self._flush_ms}


def check_installed() -> None:
    """Raises BenchError when a service's command is missing."""
    for service in _SERVICES:
        find_command(service)
