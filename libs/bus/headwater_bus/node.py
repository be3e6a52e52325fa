"""What every service process is: a registered node with a mirror of the table, jobs, signals, a health answer and a clean end."""

import os
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import zmq.green as zmq
from gevent.event import Event
from gevent.pool import Group

from headwater_bus.control import (
    Assigned,
    AssignRequest,
    Changed,
    Done,
    Health,
    HealthRequest,
    Leave,
    Refused,
    Register,
    Registered,
    Release,
    Renew,
    Snapshot,
    Subscribe,
)
from headwater_bus.logs import get_log
from headwater_bus.requests import Requester, RequestError, RequestServer
from headwater_bus.security import Doorkeeper, Security, SecurityError
from headwater_bus.view import Assignment, ClusterView

_log = get_log("node")
_REQUEST_S = 1.5


class AssignError(Exception):
    """A group has no origin and could not get one; the text says why."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What all services have in common. `registries`: endpoints, tried in turn. `bind`: the interface of sockets that
    others connect to."""

    node_id: str
    role: str
    registries: tuple[str, ...]
    base_port: int
    data: Path
    keys: Path | None = None
    bind: str = "127.0.0.1"
    registry_node: str = "registry-1"
    capacity: float = 1.0
    heartbeat_ms: int = 1000
    drain_s: float = 2.0


class CpuMeter:
    """The share of one core that this process used since the last look, in percent."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def percent(self) -> float:
        """Since the last call."""
        wall, cpu = time.monotonic(), time.process_time()
        used = (cpu - self._cpu) / max(wall - self._wall, 1e-6) * 100
        self._wall, self._cpu = wall, cpu
        return round(used, 1)


class Node:
    """See the module. Raises SecurityError for keys that are not there."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.node_id, self.role = config.node_id, config.role
        self.boot = secrets.token_hex(8)
        self.context: Any = zmq.Context.instance()
        self.security = Security.from_keys(config.keys, config.node_id) if config.keys else Security.plain()
        self.view = ClusterView()
        self.stop_event = Event()
        self.registered = Event()
        self.load_provider: Callable[[], dict[str, Any]] = dict
        self.health_provider: Callable[[], dict[str, Any]] = dict
        self._jobs = Group()
        self._started_at = time.monotonic()
        self._failed = False
        self._cpu = CpuMeter()
        self._registry: Requester | None = None
        self._balancer: Requester | None = None
        self._resubscribe = Event()
        self._doorkeeper = Doorkeeper(self.context, config.keys) if config.keys else None
        if self._doorkeeper is not None:
            self.spawn("doorkeeper", self._doorkeeper.run)
        self.health_server = self.serve({})

    # Jobs

    def spawn(self, name: str, job: Callable[..., None], *args: Any) -> None:
        """Run a job in a greenlet of its own; should it die, the node logs a line and stops."""
        greenlet = gevent.Greenlet(self._run_job, name, job, *args)
        self._jobs.start(greenlet)

    def _run_job(self, name: str, job: Callable[..., None], *args: Any) -> None:
        try:
            job(*args)
        except gevent.GreenletExit:
            return
        except Exception as error:
            frame = error.__traceback__
            while frame is not None and frame.tb_next is not None:
                frame = frame.tb_next
            where = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame else "?"
            _log.error("job died", job=name, error=repr(error), where=where)
            self._failed = True
            self.stop_event.set()

    def serve(self, handlers: dict[type, Callable[..., Any]]) -> RequestServer:
        """A ROUTER of this node; every one answers HealthRequest beside its own handlers. Not bound yet."""
        server = RequestServer(self.context, self.security, {HealthRequest: self._health, **handlers})
        for name, job in server.jobs():
            self.spawn(name, job)
        return server

    def _health(self, caller: Any, request: HealthRequest) -> Health:
        return Health(
            {
                "node_id": self.node_id,
                "role": self.role,
                "boot": self.boot,
                "pid": os.getpid(),
                "uptime_s": round(time.monotonic() - self._started_at, 1),
                "registered": self.registered.is_set(),
                **self.health_provider(),
            }
        )

    # The registry

    def start(self, endpoint: str, meta: dict[str, Any] | None = None) -> None:
        """Register in the background, and again whenever the registry was away. `endpoint`: where nodes connect, or empty."""
        control = self.health_server.bind(f"tcp://{self.config.bind}:*")
        register = Register(
            self.node_id,
            self.role,
            self.boot,
            endpoint,
            self.config.capacity,
            {**(meta or {}), "control": control},
        )
        self.spawn("registry", self._keep_registered, register)

    def _keep_registered(self, register: Register) -> None:
        attempt = 0
        while True:
            endpoint = self.config.registries[attempt % len(self.config.registries)]
            attempt += 1
            registry = Requester(
                self.context, self.security, endpoint, self.config.registry_node, on_push=self._on_push
            )
            self._registry = registry
            try:
                self._session(registry, register)
            except RequestError as error:
                if self.registered.is_set() or attempt == 3:
                    _log.warning("registry not reached, trying on", error=error)
            finally:
                self._registry = None
                self.registered.clear()
                registry.close()
            gevent.sleep(0.1)

    def _session(self, registry: Requester, register: Register) -> None:
        """One connection to a registry, until it fails."""
        self._enter(registry, register)
        while True:
            if self._resubscribe.wait(self.config.heartbeat_ms / 1000):
                self._subscribe(registry)
                continue
            load = {"cpu_percent": self._cpu.percent(), **self.load_provider()}
            answer = registry.request(Renew(self.node_id, self.boot, load), _REQUEST_S)
            if isinstance(answer, Refused):
                _log.info("registering again", because=answer.text)
                self._enter(registry, register)

    def _enter(self, registry: Requester, register: Register) -> None:
        answer = registry.request(register, _REQUEST_S)
        if not isinstance(answer, Registered):
            text = answer.text if isinstance(answer, Refused) else type(answer).__name__
            _log.warning("registry refused this node", reason=text)
            gevent.sleep(1.0)
            raise RequestError(text)
        self._subscribe(registry)
        if not self.registered.is_set():
            _log.info("registered", registry=registry.endpoint)
        self.registered.set()

    def _subscribe(self, registry: Requester) -> None:
        self._resubscribe.clear()
        snapshot = registry.request(Subscribe(self.node_id), _REQUEST_S)
        if isinstance(snapshot, Snapshot):
            self.view.replace(snapshot)

    def _on_push(self, envelope: Any) -> None:
        if isinstance(envelope, Changed) and not self.view.apply(envelope):
            self._resubscribe.set()

    def release(self, group: str, epoch: int) -> None:
        """Tell the registry that this origin no longer serves a group. Raises RequestError."""
        registry = self._registry
        if registry is None:
            raise RequestError("the registry is away")
        registry.request(Release(group, epoch), _REQUEST_S)

    def request_registry(self, envelope: Any, timeout_s: float = _REQUEST_S) -> Any:
        """Ask the registry. Raises RequestError."""
        registry = self._registry
        if registry is None:
            raise RequestError("the registry is away")
        return registry.request(envelope, timeout_s)

    # The balancer

    def assign(self, group: str, timeout_s: float = 2.0) -> Assignment:
        """Who has a group: from the mirror, or from the balancer when nobody has it yet. Raises AssignError."""
        known = self.view.groups.get(group)
        if known is not None and known.origin in self.view.nodes:
            return known
        try:
            answer = self._ask_balancer(AssignRequest(group), timeout_s)
        except (RequestError, SecurityError) as error:
            raise AssignError(str(error)) from error
        if isinstance(answer, Assigned):
            return Assignment(answer.group, answer.origin, answer.epoch)
        raise AssignError(
            answer.text if isinstance(answer, Refused) else f"unexpected {type(answer).__name__}"
        )

    def _ask_balancer(self, envelope: Any, timeout_s: float) -> Any:
        endpoint, name = "", ""
        for node in self.view.nodes.values():
            if node.role == "balancer":
                endpoint, name = node.endpoint, node.node_id
        if not endpoint:
            raise RequestError("there is no balancer")
        if self._balancer is None or self._balancer.endpoint != endpoint:
            if self._balancer is not None:
                self._balancer.close()
            self._balancer = Requester(self.context, self.security, endpoint, name)
        return self._balancer.request(envelope, timeout_s)

    # The end

    def run(self, drain: Callable[[float], None] | None = None) -> int:
        """Wait for SIGTERM, SIGINT or the death of a job; drain, leave, stop. Returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self.stop_event.set)
        self.stop_event.wait()
        _log.info("stopping")
        with gevent.Timeout(self.config.drain_s, False):
            if drain is not None:
                drain(self.config.drain_s)
            if self._registry is not None and self.registered.is_set():
                try:
                    answer = self._registry.request(Leave(self.node_id, self.boot), 0.5)
                    if not isinstance(answer, Done):
                        _log.warning("registry did not let go", answer=type(answer).__name__)
                except RequestError:
                    pass  # The lease will end by itself.
        self._jobs.kill(timeout=1.0)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        _log.info("stopped")
        return 1 if self._failed else 0
