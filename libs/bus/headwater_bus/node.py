"""What every service process is: a registered node with a mirror of the table, jobs, signals, a health answer and a clean end."""

import os
import re
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
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
    Renew,
    Snapshot,
    Subscribe,
    Suspect,
)
from headwater_bus.cpu import CpuMeter
from headwater_bus.logs import get_log
from headwater_bus.requests import Caller, Handler, NoAnswerError, Requester, RequestError, RequestServer
from headwater_bus.rhythm import until_next
from headwater_bus.security import Security, SecurityError, ZapHandler
from headwater_bus.view import Assignment, ClusterView, NodeInfo, leading_balancer

_log = get_log("node")
_REQUEST_S = 1.5
_ASK_AGAIN_S = 1.0
"""After so long a question to the balancer is asked again: it may have been lost with the balancer."""
_MISSES = 3
_PAUSE_S = 0.02
_REFUSED_PAUSE_S = 1.0
_ROUND_PAUSE_S = 0.1
"""After each registry was tried."""
_LEAVE_S = 0.5
_KILL_S = 1.0
_LINGER_MS = 200
_FAILED, BAD_INPUT = 1, 2
"""Exit statuses."""
_LOOK_S = 0.5
"""So long a registry has to say whether it leads, where there is another to try."""
_WARN_S, _WARN_AGAIN_S = 4.0, 60.0
"""After so long without a registry an operator hears of it: one that starts together with this node is not away yet."""
_SUSPECT_S = 3.0
"""So long a suspicion is worth telling: the registry that comes then looks at all nodes."""


class AssignError(Exception):
    """A group has no origin and could not get one; the text says why. `final`: asking again gives the same answer."""

    def __init__(self, text: str, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class _StandbyError(RequestError):
    """The registry does not lead."""


def _raise_standby(answer: Any) -> None:
    """Raises where a registry answers that it does not lead."""
    if isinstance(answer, Refused) and answer.code == "standby":
        raise _StandbyError(answer.text)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What all services have in common. `registries`: endpoints, tried in turn. `bind`: the interface of sockets that
    others connect to; `advertise`: the host that others are told instead, where `bind` is no address to connect to.
    `registry_nodes`: whose key each registry must have, by position."""

    node_id: str
    role: str
    registries: tuple[str, ...]
    base_port: int
    data: Path
    keys: Path | None = None
    bind: str = "127.0.0.1"
    registry_nodes: tuple[str, ...] = ("registry-1",)
    capacity: float = 1.0
    heartbeat_ms: int = 1000
    drain_s: float = 2.0
    advertise: str = ""

    def registry_node(self, position: int) -> str:
        """The node id of a registry; those that are not named are counted on."""
        if position < len(self.registry_nodes):
            return self.registry_nodes[position]
        return f"registry-{position + 1}"


class Node:
    """See the module. Raises SecurityError for keys that are not there. It has a ZeroMQ context of its own, so several nodes
    may live in one process; `run()` or `close()` ends it."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.node_id, self.role = config.node_id, config.role
        self.boot = secrets.token_hex(8)
        self.security = Security.from_keys(config.keys, config.node_id) if config.keys else Security.plain()
        self.context: Any = zmq.Context()
        self.view = ClusterView()
        self.stop_event = Event()
        self.registered = Event()
        self.load_provider: Callable[[], dict[str, Any]] = dict
        self.health_provider: Callable[[], dict[str, Any]] = dict
        self._jobs = Group()
        self._started_at = time.monotonic()
        self._status = 0
        self._cpu = CpuMeter()
        self._registry: Requester | None = None
        self._balancer: Requester | None = None
        self._balancer_boot = ""
        self._misses = 0
        self._leaving = False
        self._resubscribe = Event()
        self._suspecting: set[tuple[str, str]] = set()
        self._servers: list[RequestServer] = []
        self._zap = ZapHandler(self.context, config.keys) if config.keys else None
        if self._zap is not None:
            self.spawn("zap", self._zap.run)
        self.health_server = self.serve({})
        self.view.on_change(self._balancer_changed)

    # Jobs

    def spawn(self, name: str, job: Callable[..., None], *args: Any) -> None:
        """Run a job in a greenlet of its own; should it die, the node logs a line and stops."""
        self._jobs.start(gevent.Greenlet(self._run_job, name, job, args))

    def _run_job(self, *args: Any) -> None:
        name, job, job_args = args
        try:
            job(*job_args)
        except Exception as error:
            self._fail("job died", error, job=name)

    def _spawn_aside(self, job: Callable[..., None], *args: Any) -> None:
        """What may end, or fail, without any harm."""
        self._jobs.start(gevent.Greenlet(job, *args))

    def _fail(self, text: str, error: Exception, **fields: Any) -> None:
        """One line that says where, and the exit status will be 1."""
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        where = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame else "?"
        self.stop(text, _FAILED, **fields, error=repr(error), where=where)

    def stop(self, text: str, status: int = BAD_INPUT, **fields: Any) -> None:
        """End the node by itself, with a line that says why and this exit status."""
        _log.error(text, **fields)
        self._status = status
        self.stop_event.set()

    def on_request(self, kind: type, handler: Handler, role: str = "") -> None:
        """Answer one more kind of request at the node's control endpoint. Where keys say who asks, only nodes of this `role`
        may."""

        def answer(caller: Caller, request: Any) -> Any:
            if role and caller.user is not None and not caller.user.startswith(f"{role}-"):
                text = (
                    f"{kind.__name__}: only who has the key of {role}-NAME may, this one is {caller.user}'s"
                )
                return Refused("not-allowed", text)
            return handler(caller, request)

        self.health_server.add(kind, answer)

    def serve(
        self,
        handlers: dict[type, Callable[..., Any]],
        on_disconnect: Callable[[int], None] | None = None,
    ) -> RequestServer:
        """A ROUTER of this node; every one answers HealthRequest beside its own handlers. Not bound yet. The node closes it."""
        handlers = {HealthRequest: self._health, **handlers}
        server = RequestServer(self.context, self.security, handlers, on_disconnect)
        self._servers.append(server)
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
                "bad_requests": sum(server.refused for server in self._servers),
                "unknown_keys": self._zap.refused if self._zap is not None else 0,
                **self.health_provider(),
            }
        )

    # The registry

    def start(self, endpoint: str, meta: dict[str, Any] | None = None) -> None:
        """Register in the background, and again whenever the registry was away. `endpoint`: where nodes connect, or empty.
        Raises SecurityError or BindError before anything is begun."""
        for position, registry in enumerate(self.config.registries):
            self.security.check_endpoint(registry)
            if self.security.encrypted:
                self.security.public_key(self.config.registry_node(position))
        control = self.health_server.bind(f"tcp://{self.config.bind}:*")
        register = Register(
            self.node_id,
            self.role,
            self.boot,
            self.advertised(endpoint),
            self.config.capacity,
            {**(meta or {}), "control": self.advertised(control)},
        )
        self.spawn("registry", self._keep_registered, register)

    def advertised(self, endpoint: str) -> str:
        """An endpoint of this node as others should know it: with the host of `--advertise`, where one is given."""
        if not self.config.advertise:
            return endpoint
        return re.sub(r"^(tcp://)(.*)(:\d+)$", lambda m: f"{m[1]}{self.config.advertise}{m[3]}", endpoint)

    def _keep_registered(self, register: Register) -> None:
        position, count = 0, len(self.config.registries)
        failure, warn_at = "", time.monotonic() + _WARN_S
        while not self._leaving:
            try:
                self._one_registry(position, register)
            except (RequestError, SecurityError) as error:
                # A key may be missing for as long as keys are exchanged: this node's sessions go on meanwhile.
                failure = str(error) if not isinstance(error, _StandbyError) else failure or str(error)
            now = time.monotonic()
            if self.registered.is_set():
                _log.warning("registry lost, looking for one", error=failure)
                warn_at = now + _WARN_S
                self._registry = None
                self.registered.clear()
            elif now >= warn_at:
                _log.warning("no registry reached, trying on", error=failure)
                warn_at = now + _WARN_AGAIN_S
            position = (position + 1) % count
            if position == 0:
                failure = ""
                gevent.sleep(_ROUND_PAUSE_S)

    def _one_registry(self, position: int, register: Register) -> None:
        """A connection to a registry, until it fails, or at once where that one does not lead."""
        with closing(
            Requester(
                self.context,
                self.security,
                self.config.registries[position],
                self.config.registry_node(position),
                on_push=self._on_push,
                on_lost=self._resubscribe.set,
            )
        ) as registry:
            several = len(self.config.registries) > 1
            answer = registry.request(HealthRequest(), _LOOK_S if several else _REQUEST_S)
            if isinstance(answer, Health) and answer.state.get("leading") is False:
                raise _StandbyError(f"the registry at {registry.endpoint} does not lead")
            self._session(registry, register)

    def _session(self, registry: Requester, register: Register) -> None:
        self._enter(registry, register)
        interval_s = self.config.heartbeat_ms / 1000
        due = time.monotonic() + until_next(interval_s)
        while True:
            if self._resubscribe.wait(max(0.0, due - time.monotonic())):
                self._subscribe(registry)
                if time.monotonic() < due:
                    continue
            due = time.monotonic() + until_next(interval_s)
            load = {"cpu_percent": self._cpu.percent(), **self.load_provider()}
            answer = registry.request(Renew(self.node_id, self.boot, load), _REQUEST_S)
            if self._leaving:
                return
            if isinstance(answer, Refused):
                _raise_standby(answer)
                _log.info("registering again", because=answer.text)
                self._enter(registry, register)

    def _enter(self, registry: Requester, register: Register) -> None:
        answer = registry.request(register, _REQUEST_S)
        if not isinstance(answer, Registered):
            _raise_standby(answer)
            text = answer.text if isinstance(answer, Refused) else type(answer).__name__
            if isinstance(answer, Refused) and answer.code == "taken" and self.view.seq < 0:
                self.stop("registry refused this node", reason=text)
            else:
                _log.warning("registry refused this node", reason=text)
            gevent.sleep(_REFUSED_PAUSE_S)
            raise RequestError(text)
        self._subscribe(registry)

    def _subscribe(self, registry: Requester) -> None:
        self._resubscribe.clear()
        # Taken by the reading greenlet: the next change may be right behind it.
        answer = registry.request(
            Subscribe(self.node_id), _REQUEST_S, then=partial(self._on_snapshot, registry)
        )
        if not isinstance(answer, Snapshot):
            _raise_standby(answer)
            # Without the table a node hears nothing of the others: begin again with another connection.
            text = answer.text if isinstance(answer, Refused) else type(answer).__name__
            _log.warning("registry gave no table", reason=text)
            gevent.sleep(_REFUSED_PAUSE_S)
            raise RequestError(text)

    def _on_snapshot(self, registry: Requester, answer: Any) -> None:
        if not isinstance(answer, Snapshot):
            return  # `_subscribe` sees to it.
        self._resubscribe.clear()
        if not self.registered.is_set():
            _log.info("registered", registry=registry.endpoint)
        # Whoever sees the table may ask the registry at once.
        self._registry = registry
        self.registered.set()
        self.view.replace(answer)

    def _on_push(self, envelope: Any) -> None:
        if isinstance(envelope, Refused) or (isinstance(envelope, Changed) and not self.view.apply(envelope)):
            # Refused: it leads no more, and says so again when it is asked.
            self._resubscribe.set()

    def request_registry(self, envelope: Any, timeout_s: float = _REQUEST_S) -> Any:
        """Ask the registry. Raises RequestError."""
        registry = self._registry
        if registry is None:
            raise RequestError("the registry is away")
        return registry.request(envelope, timeout_s)

    def suspect(self, node_id: str, boot: str) -> None:
        """A connection to this self of a node is gone: have the registry look whether it lives. Returns at once."""
        if (node_id, boot) not in self._suspecting:
            self._suspecting.add((node_id, boot))
            self._spawn_aside(self._tell_suspicion, node_id, boot)

    def _tell_suspicion(self, node_id: str, boot: str) -> None:
        until = time.monotonic() + _SUSPECT_S
        try:
            while time.monotonic() < until and self.registered.wait(until - time.monotonic()):
                try:
                    self.request_registry(Suspect(node_id, boot))
                    return
                except RequestError:
                    gevent.sleep(_PAUSE_S)
        finally:
            self._suspecting.discard((node_id, boot))

    # The balancer

    def assign(self, group: str, timeout_s: float = 2.0) -> Assignment:
        """Who has a group: from the mirror, or from the balancer when nobody has it yet. Raises AssignError."""
        deadline = time.monotonic() + timeout_s
        while True:
            known = self.view.groups.get(group)
            if known is not None and known.origin in self.view.nodes:
                return known
            left_s = deadline - time.monotonic()
            try:
                answer = self._ask_balancer(AssignRequest(group), max(0.0, min(_ASK_AGAIN_S, left_s)))
            except (RequestError, SecurityError) as error:
                if self._balancer_in_view() is None or time.monotonic() + _PAUSE_S >= deadline:
                    raise AssignError(str(error)) from error
                gevent.sleep(_PAUSE_S)
                continue
            if isinstance(answer, Assigned):
                return Assignment(answer.group, answer.origin, answer.epoch)
            if isinstance(answer, Refused) and answer.code == "standby" and left_s > _PAUSE_S:
                gevent.sleep(_PAUSE_S)  # One of the two has not heard yet which balancer leads.
                continue
            if isinstance(answer, Refused):
                raise AssignError(answer.text, final=answer.code in ("bad-name", "not-allowed"))
            raise AssignError(f"unexpected {type(answer).__name__}")

    def _ask_balancer(self, envelope: Any, timeout_s: float) -> Any:
        if self._balancer is None:
            balancer = self._balancer_in_view()
            if balancer is None:
                raise RequestError("there is no balancer")
            self._balancer = Requester(self.context, self.security, balancer.endpoint, balancer.node_id)
            self._balancer_boot = balancer.boot
            self._misses = 0
        requester = self._balancer
        try:
            answer = requester.request(envelope, timeout_s)
        except NoAnswerError:
            self._balancer_missed(requester)
            raise
        if requester is self._balancer:
            self._misses = 0
        return answer

    def _balancer_missed(self, requester: Requester) -> None:
        """ZeroMQ does not try again where a key was refused; and after a few silences another connection harms nobody. Whoever
        else waits on the former one asks again on the next, which has missed nothing yet."""
        if requester is not self._balancer:
            return
        self._misses += 1
        if self._misses >= _MISSES:
            self._balancer = None
            requester.close()

    def _balancer_in_view(self) -> NodeInfo | None:
        return leading_balancer(self.view.nodes.values())

    def _balancer_changed(self, change: list[Any]) -> None:
        """Another balancer, or none: who waits for the former one is told at once."""
        requester = self._balancer
        if requester is None or change[0] not in ("node", "node-gone"):
            return
        leading = self._balancer_in_view()
        asked = (requester.endpoint, self._balancer_boot)
        if leading is None or asked != (leading.endpoint, leading.boot):
            self._balancer = None
            requester.close()

    # The end

    def run(self, drain: Callable[[float], None] | None = None) -> int:
        """Wait for SIGTERM, SIGINT or the death of a job; drain, leave, close. Returns the exit status. Signals that come later
        change nothing any more."""
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self.stop_event.set)
        self.stop_event.wait()
        _log.info("stopping")
        if drain is not None:
            limit = gevent.Timeout(self.config.drain_s)
            try:
                with limit:
                    drain(self.config.drain_s)
            except gevent.Timeout as timeout:
                if timeout is not limit:
                    self._fail("drain failed", RuntimeError(str(timeout)))
                else:
                    _log.warning("not drained in time", drain_s=self.config.drain_s)
            except Exception as error:
                self._fail("drain failed", error)
        self.leave()
        self.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        _log.info("stopped")
        return self._status

    def leave(self) -> None:
        """Tell the registry that this node goes. Where it is away, the lease ends by itself."""
        if not self.registered.is_set():
            return
        self._leaving = True
        try:
            answer = self.request_registry(Leave(self.node_id, self.boot), _LEAVE_S)
        except RequestError as error:
            _log.info("left without the registry's answer", error=error)
            return
        if not isinstance(answer, Done):
            _log.warning("registry did not let go", answer=answer)

    def close(self) -> None:
        """End the jobs and close every socket of the node's context, without leaving: the lease ends it. What was sent last has
        0.2 s to go out."""
        self._jobs.kill(timeout=_KILL_S)
        if self._balancer is not None:
            self._balancer.close()
            self._balancer = None
        for server in self._servers:
            server.close()
        if self._zap is not None:
            self._zap.close()
        self.context.destroy(linger=_LINGER_MS)
