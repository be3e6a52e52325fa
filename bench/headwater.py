"""Headwater as the server under test: registry, balancer, origins, edges, each its own command as in operation."""

import importlib.metadata
import os
import sys
from pathlib import Path

from headwater_bus.ports import edge_rtmp_port, registry_port
from headwater_rtmp.compiled import BUILD

from bench.errors import BenchError
from bench.processes import Program, free_port
from bench.server import Server
from bench.session import Target

_ROOT = Path(__file__).parents[1]
LABEL = "headwater"
_SERVICES = ("registry", "balancer", "origin", "edge")


def find_command(service: str) -> str:
    """The installed `headwater-...` beside this Python. Raises BenchError when it is not there."""
    path = Path(sys.executable).parent / f"headwater-{service}"
    if not path.is_file():
        raise BenchError(
            f"no {path.name} beside {Path(sys.executable).name}; run this with .venv's Python (make bench)"
        )
    return str(path)


def arguments(node_id: str, base_port: int, data: Path, flush_ms: int, store: str = "") -> list[str]:
    """The options of a node's `serve`. `store`: the URL for the origin's journal and the edge's sessions of RTMPT, empty for the
    default."""
    common = ["serve", "--base-port", str(base_port), "--data", str(data), "--log-level", "warning"]
    service = node_id.partition("-")[0]
    if service not in ("origin", "edge"):
        return common
    own = ("--app", "live=apps.live:Live") if service == "origin" else ("--flush-ms", str(flush_ms))
    return [*common, "--node-id", node_id, *own, *(("--store", store) if store else ())]


class Headwater(Server):
    """A whole cluster; some of its services are also counted by themselves: `groups`, names of services with ` + ` between them;
    the last is all of it."""

    groups: tuple[str, ...] = ("edge", "edge + origin", "all")

    def __init__(self, core: int | None, flush_ms: int, edges: int = 1, origins: int = 1) -> None:
        super().__init__(core)
        self.label = f"{LABEL}, {flush_ms} ms"
        self._flush_ms = flush_ms
        self._edges = [f"edge-{number}" for number in range(1, edges + 1)]
        self.origins = [f"origin-{number}" for number in range(1, origins + 1)]
        used = [0, registry_port(0), registry_port(0, 2), *(edge_rtmp_port(0, edge) for edge in self._edges)]
        self.base_port = free_port(used)

    @property
    def target(self) -> Target:
        """Application live, on the first edge's own port."""
        return Target("127.0.0.1", self.edge_ports[0])

    @property
    def edge_ports(self) -> tuple[int, ...]:
        """RTMP, of each edge alone."""
        return tuple(edge_rtmp_port(self.base_port, edge) for edge in self._edges)

    @property
    def store(self) -> str:
        """Where the journal is, and RTMPT sessions; empty leaves the default."""
        return ""

    def start(self) -> None:
        """All at once: they wait for each other."""
        for node_id in ("registry", "balancer", *self.origins, *self._edges):
            self.start_node(node_id)

    def options(self, node_id: str) -> list[str]:
        """What a node is started with."""
        return arguments(node_id, self.base_port, self.folder / "data", self._flush_ms, self.store)

    def core_of(self, node_id: str) -> int | None:
        """Where a node runs."""
        return self.core

    def start_node(self, node_id: str) -> None:
        """Start one of them."""
        # What the shell of whoever runs this says about another cluster must not reach this one.
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HEADWATER_", "HONCHO_"))
        }
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (env.get("PYTHONPATH"), str(_ROOT))))
        service = node_id.partition("-")[0]
        command = [find_command(service), *self.options(node_id)]
        program = Program(node_id, command, self.folder, self.core_of(node_id), env=env, cwd=_ROOT)
        self.add(
            program, *(group for group in self.groups if group == "all" or service in group.split(" + "))
        )

    def settings(self) -> dict[str, object]:
        """Version and the options that were not left alone."""
        names = ("headwater-edge", "gevent", "pyzmq", "msgpack")
        version = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
        return {"version": f"{version}, {BUILD}", "flush_ms": self._flush_ms}


def check_installed() -> None:
    """Raises BenchError when a service's command is missing."""
    for service in _SERVICES:
        find_command(service)
