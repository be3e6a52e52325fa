"""The balancer process: groups that are asked for at the same time are decided together from one snapshot and granted by the
registry. However many ask for a group, it is one Grant."""

import time
from collections import defaultdict
from typing import Any

import gevent
from gevent.event import Event
from headwater_bus.control import MAX_GROUP_BYTES, Assigned, AssignRequest, Grant, Refused
from headwater_bus.logs import get_log
from headwater_bus.node import Node, NodeConfig
from headwater_bus.requests import Caller, RequestError

from headwater_balancer.config import BalancerConfig
from headwater_balancer.decide import decide
from headwater_balancer.holdings import Holdings
from headwater_balancer.snapshot import Notice

_log = get_log("balancer")
_SHUN_S = 1.0
"""So long nothing goes to an origin that the registry said is not there: the feed will say so, too."""
MAX_WAITING = 100_000
"""Requests that wait for an answer. More are refused; edges ask again."""
MAX_GRANTING = 500
"""Grants under way at the registry at once; others wait here."""
_MAX_NOTICES = 1000


class Balancer:
    """The balancer on a node: `start()` binds and begins; `node.run()` ends it."""

    def __init__(self, node: Node, config: BalancerConfig) -> None:
        self.node = node
        self._config = config
        self._holdings = Holdings()
        self._callers: dict[str, list[Caller]] = defaultdict(list)
        self._since: dict[str, float] = {}
        self._wanted: dict[str, None] = {}
        self._wake = Event()
        self._shunned: dict[str, float] = {}
        self._noticed: set[str] = set()
        self._waiting = self._granting = 0
        self._granted = self._refused = 0
        self._slowest_ms = 0.0
        self.server = node.serve({AssignRequest: self._take})
        node.view.on_change(self._changed)
        node.health_provider = self.health

    def start(self) -> str:
        """Bind, register and begin; returns the endpoint."""
        endpoint = self.server.bind(f"tcp://{self.node.config.bind}:*")
        self.node.spawn("decide", self.work)
        self.node.start(endpoint, meta={"policy": self._config.policy_name})
        return endpoint

    def _changed(self, change: list[Any]) -> None:
        self._holdings.change(change)
        if change[0] == "node":
            self._shunned.pop(change[1][0], None)

    # Requests

    def _take(self, caller: Caller, request: AssignRequest) -> Assigned | Refused | None:
        group, view = request.group, self.node.view
        known = view.groups.get(group)
        if known is not None and known.origin in view.nodes:
            return Assigned(known.group, known.origin, known.epoch)
        if caller.user is not None and caller.user.startswith("operator-"):
            return Refused("not-allowed", f"operators may look only, the key is {caller.user}'s")
        size = len(group.encode(errors="surrogatepass"))
        if size > MAX_GROUP_BYTES:
            return Refused("bad-name", f"group: {size} bytes, expected at most {MAX_GROUP_BYTES}")
        if not group.isprintable():
            return Refused("bad-name", f"group {group!r}: expected printable characters")
        if not self.node.registered.is_set():
            self._refused += 1
            return Refused(
                "registry-away", f"{group[:64]}: nobody has it yet, and the registry is away; ask again"
            )
        if self._waiting >= MAX_WAITING:
            self._refused += 1
            return Refused("busy", f"{MAX_WAITING} requests wait here, ask again")
        self._waiting += 1
        self._callers[group].append(caller)
        if group not in self._since:
            self._since[group] = time.monotonic()
            self._want(group)
        return None

    def _want(self, group: str) -> None:
        self._wanted[group] = None
        self._wake.set()

    def _answer(self, group: str, answer: Assigned | Refused) -> None:
        self._slowest_ms = max(self._slowest_ms, (time.monotonic() - self._since.pop(group)) * 1000)
        callers = self._callers.pop(group)
        self._waiting -= len(callers)
        if isinstance(answer, Refused):
            self._refused += len(callers)
        for caller in callers:
            self.server.answer(caller, answer)

    # Decisions

    def work(self) -> None:
        """Job: decide whenever something is wanted."""
        while True:
            self._wake.wait()
            self._wake.clear()
            self._decide(time.monotonic())

    def _decide(self, now: float) -> None:
        for origin, until in list(self._shunned.items()):
            if until <= now:
                del self._shunned[origin]
        wanted = tuple(self._wanted)[: MAX_GRANTING - self._granting]
        for group in wanted:
            del self._wanted[group]
        snapshot = self._holdings.snapshot(
            self.node.view.nodes.values(), wanted, now, frozenset(self._shunned)
        )
        decided: set[str] = set()
        for action in decide(snapshot, now, self._config.policy):
            if isinstance(action, Notice):
                self._notice(action)
            else:
                decided.add(action.group)
                self._holdings.granting(action.group, action.origin, now)
                self._granting += 1
                gevent.spawn(self._grant, action)
        for group in wanted:
            if group not in decided:
                self._undecided(group)

    def _undecided(self, group: str) -> None:
        """Somebody has it by now, or there is nobody to have it."""
        known = self.node.view.groups.get(group)
        if known is not None:
            self._answer(group, Assigned(known.group, known.origin, known.epoch))
        else:
            self._answer(
                group,
                Refused(
                    "no-origin",
                    f"{group[:64]}: no origin serves its application (headwater-origin serve --app)",
                ),
            )

    def _notice(self, notice: Notice) -> None:
        if notice.text not in self._noticed and len(self._noticed) < _MAX_NOTICES:
            self._noticed.add(notice.text)
            _log.warning(notice.text)

    def _grant(self, grant: Grant) -> None:
        """Greenlet: one Grant, and what comes of it."""
        group = grant.group
        try:
            answer = self.node.request_registry(grant, self._config.request_s)
        except RequestError as error:
            answer = Refused("registry-away", f"{group[:64]}: {error}; ask again")
        self._granting -= 1
        if self._wanted:
            self._wake.set()
        if isinstance(answer, Assigned):
            self._granted += 1
            _log.info("granted", group=group, origin=answer.origin, epoch=answer.epoch)
            self._answer(group, answer)
            return
        self._holdings.not_granted(group)
        if not isinstance(answer, Refused):
            answer = Refused("internal", f"the registry answered with {type(answer).__name__}")
        if answer.code == "unknown-node" and grant.origin not in self._shunned:
            # It has just gone: another one may take the group.
            self._shunned[grant.origin] = time.monotonic() + _SHUN_S
        if answer.code == "unknown-node" and time.monotonic() - self._since[group] < self._config.request_s:
            self._want(group)
            return
        _log.warning("not granted", group=group, origin=grant.origin, reason=answer.text)
        self._answer(group, answer)

    def health(self) -> dict[str, Any]:
        """For HealthRequest."""
        return {
            "policy": self._config.policy_name,
            "groups": len(self.node.view.groups),
            "granted": self._granted,
            "refused": self._refused,
            "waiting": self._waiting,
            "slowest_assign_ms": round(self._slowest_ms, 1),
        }


def run(node_config: NodeConfig, config: BalancerConfig) -> int:
    """Serve until a signal; returns the exit status."""
    node = Node(node_config)
    endpoint = Balancer(node, config).start()
    _log.info("serving", endpoint=endpoint, policy=config.policy_name)
    return node.run()
