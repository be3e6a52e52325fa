"""A node's mirror of the registry's table: the nodes, and which origin has which group."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from gevent.event import Event

from headwater_bus.control import Changed, Snapshot
from headwater_bus.logs import get_log

_log = get_log("view")


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A registered node. `load` is what it last reported."""

    node_id: str
    role: str
    boot: str
    endpoint: str
    capacity: float
    meta: dict[str, Any] = field(default_factory=dict)
    load: dict[str, Any] = field(default_factory=dict)

    @property
    def apps(self) -> frozenset[str]:
        """The applications that an origin says it serves (`meta["apps"]`); none where it says something else."""
        apps = self.meta.get("apps")
        if not isinstance(apps, list | tuple):
            return frozenset()
        return frozenset(app for app in apps if isinstance(app, str))

    def row(self) -> list[Any]:
        """As it stands in Snapshot and Changed."""
        return [self.node_id, self.role, self.boot, self.endpoint, self.capacity, self.meta, self.load]


@dataclass(frozen=True, slots=True)
class Assignment:
    """`origin` has `group` from `epoch` on, until a higher epoch. An orphan, whose origin is gone, has an empty one."""

    group: str
    origin: str
    epoch: int


def leading_balancer(nodes: Iterable[NodeInfo]) -> NodeInfo | None:
    """The one that acts: of those that are registered the one that came first."""

    def came(node: NodeInfo) -> tuple[float, str]:
        since = node.meta.get("since")
        return (float(since) if isinstance(since, int | float) else math.inf), node.node_id

    return min((node for node in nodes if node.role == "balancer"), key=came, default=None)


Listener = Callable[[list[Any]], None]


class ClusterView:
    """The mirror. Stays as it was while the registry is away."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self.groups: dict[str, Assignment] = {}
        self.settings: dict[str, Any] = {}
        """The balancers' (see PutSettings)."""
        self.feed = ""
        self.seq = -1
        self._listeners: list[Listener] = []
        self._changed = Event()

    def on_change(self, listener: Listener) -> None:
        """Have `listener` called with every change row (see Changed) after it was applied. It must not block."""
        self._listeners.append(listener)

    def wait_for(self, predicate: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until the predicate holds after some change; returns whether it did in time."""
        deadline = time.monotonic() + timeout_s
        while not predicate():
            self._changed.clear()
            if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                return predicate()
        return True

    def replace(self, snapshot: Snapshot) -> None:
        """Take a whole table; listeners hear what differs."""
        changes: list[list[Any]] = []
        nodes = {row[0] for row in snapshot.nodes if row and isinstance(row[0], str)}
        groups = {row[0] for row in snapshot.groups if row and isinstance(row[0], str)}
        changes += [["group-gone", group] for group in self.groups if group not in groups]
        changes += [["node-gone", node_id] for node_id in self.nodes if node_id not in nodes]
        changes += [["node", row] for row in snapshot.nodes]
        changes += [["group", *row] for row in snapshot.groups]
        changes.append(["settings", snapshot.settings])
        self.feed, self.seq = snapshot.feed, snapshot.seq
        self._apply(changes)

    def apply(self, changed: Changed) -> bool:
        """Take a change; returns False where one before it is missing (then ask for a snapshot)."""
        if changed.feed != self.feed or changed.seq > self.seq + 1:
            return False
        if changed.seq == self.seq + 1:
            self.seq = changed.seq
            self._apply(changed.changes)
        return True

    def _apply(self, changes: list[list[Any]]) -> None:
        """A row that is none, or a listener that fails, is logged and keeps the others from nothing."""
        for change in changes:
            try:
                changed = self._apply_one(change)
            except (IndexError, TypeError, ValueError) as error:
                _log.error("row of the table not readable", row=change, error=error)
                continue
            for listener in self._listeners if changed else ():
                try:
                    listener(change)
                except Exception as error:
                    _log.error("internal error: listener failed", row=change, error=repr(error))
        self._changed.set()

    def _apply_one(self, change: list[Any]) -> bool:
        """Whether the change changed anything."""
        kind = change[0]
        if kind == "load":
            node = self.nodes.get(change[1])
            if node is not None:
                self.nodes[node.node_id] = replace(node, load=change[2])
            return node is not None
        if kind == "group":
            assignment = Assignment(*change[1:4])
            if self.groups.get(assignment.group) == assignment:
                return False
            self.groups[assignment.group] = assignment
            return True
        if kind == "group-gone":
            return self.groups.pop(change[1], None) is not None
        if kind == "node":
            node = NodeInfo(*change[1][:7])
            known = self.nodes.get(node.node_id)
            self.nodes[node.node_id] = node
            return known is None or replace(known, load=node.load) != node
        if kind == "settings":
            former, self.settings = self.settings, dict(change[1])
            return former != self.settings
        if kind == "node-gone":
            return self.nodes.pop(change[1], None) is not None
        return False
