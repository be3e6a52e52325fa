"""The registry's table: nodes with leases, groups with epochs, the balancers' settings. Pure: the time is an argument, nothing is
read or written.

Every method that changes something returns the rows for the feed (see `Changed`), and remembers how what must last stood
before, until `saved()`; `undo()` brings that back when it could not be committed. What lasts are nodes, groups, settings, the
last epoch and the history; leases and loads do not.

A group whose origin is gone is an orphan: it keeps its epoch, and waits for a balancer to give it to another origin.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from headwater_bus.control import (
    MAX_EPOCH,
    MAX_GROUP_BYTES,
    Assigned,
    Done,
    EpochSeen,
    Granted,
    Grants,
    HandOver,
    Leave,
    PutSettings,
    Refused,
    Register,
    Registered,
    Release,
    Renew,
)
from headwater_bus.view import Assignment, NodeInfo

from headwater_registry.history import History
from headwater_registry.limits import (
    MAX_GROUPS_BYTES,
    MAX_NODES,
    MAX_SETTINGS_BYTES,
    bad_grants,
    bad_map,
    bad_name,
    bad_register,
    group_bytes,
)

Changes = list[list[Any]]
_FORMER_BOOTS = 16


@dataclass(frozen=True, slots=True)
class Saved:
    """What lasts, as it was committed. `orphans`: which origin each had last; `reachable`: see `Table.reached`."""

    nodes: tuple[NodeInfo, ...] = ()
    groups: tuple[Assignment, ...] = ()
    epoch: int = 0
    orphans: dict[str, str] = field(default_factory=dict)
    reachable: frozenset[str] = frozenset()
    settings: dict[str, Any] = field(default_factory=dict)
    history: tuple[tuple[int, list[Any]], ...] = ()


@dataclass(frozen=True, slots=True)
class Unsaved:
    """What differs from the last commit: nodes and groups by name (None: gone), the last epoch, settings (None: the same), new
    events. `orphans` and `reachable` say what they do in Saved, of all."""

    nodes: dict[str, NodeInfo | None]
    groups: dict[str, Assignment | None]
    epoch: int
    orphans: dict[str, str]
    reachable: set[str]
    settings: dict[str, Any] | None
    history: list[tuple[int, list[Any]]]


class Table:
    """See the module. `now` is monotonic seconds."""

    def __init__(self, lease_s: float, saved: Saved | None = None, *, now: float) -> None:
        """The table as it was last committed. Every node gets a fresh lease: none could renew while the registry was away. Until
        it registers again its `meta["restored"]` says that nobody has heard of it since."""
        saved = saved or Saved()
        self.lease_s = lease_s
        self.wall_s = 0
        """Seconds since 1970, which the owner sets: for people, see `meta["since"]` and the history."""
        self.nodes = {
            node.node_id: replace(node, meta={**node.meta, "restored": True}) for node in saved.nodes
        }
        self.groups: dict[str, Assignment] = {}
        self.orphans: dict[str, str] = {}
        """Groups whose origin is gone, and which that was."""
        self.reachable = {node_id for node_id in saved.reachable if node_id in self.nodes}
        self.settings = saved.settings
        self.history = History(saved.history)
        self.epoch = max([saved.epoch, *(group.epoch for group in saved.groups)])
        self._held: dict[str, set[str]] = {}
        self._groups_bytes = 0
        self._lease_until = dict.fromkeys(self.nodes, now + lease_s)
        self._former: dict[str, deque[str]] = {}
        self._new_loads: set[str] = set()
        self._nodes_before: dict[str, NodeInfo | None] = {}
        self._groups_before: dict[str, tuple[Assignment | None, str]] = {}
        self._epoch_before, self._settings_before = self.epoch, self.settings
        for group in saved.groups:
            self._set_group(group.group, group, saved.orphans.get(group.group, ""))
        self.saved()
        for group in saved.groups:
            if group.origin and group.origin not in self.nodes:
                self._orphan(group)

    # Nodes

    def rival(self, message: Register) -> NodeInfo | None:
        """The node that has the name already, where it is another process than the one that asks."""
        known = self.nodes.get(message.node_id)
        if (
            known is None
            or known.boot == message.boot
            or message.boot in self._former.get(message.node_id, ())
        ):
            return None
        return known

    def register(self, message: Register, now: float) -> tuple[Registered | Refused, Changes]:
        """`meta["since"]` is when the node came."""
        refused = bad_register(message)
        if refused is not None:
            return refused, []
        node_id, known = message.node_id, self.nodes.get(message.node_id)
        if known is None and len(self.nodes) >= MAX_NODES:
            return Refused("too-many", f"{len(self.nodes)} nodes are registered, no more are taken"), []
        is_former = (
            message.boot in self._former.get(node_id, ()) and known is not None and known.boot != message.boot
        )
        if is_former:
            text = (
                f"another process has registered as {node_id} since; give each its own --node-id, or stop one"
            )
            return Refused("replaced", text), []
        same = known is not None and known.boot == message.boot
        since = known.meta.get("since", self.wall_s) if known is not None and same else self.wall_s
        node = NodeInfo(
            node_id,
            message.role,
            message.boot,
            message.endpoint,
            message.capacity,
            {**message.meta, "since": since},
            known.load if known is not None and same else {},
        )
        changes: Changes = []
        if node != known:
            self._set_node(node_id, node)
            changes.append(["node", node.row()])
        if known is not None and not same:
            changes += self._orphan_all(node_id)
            self.reachable.discard(node_id)
            self._former.setdefault(node_id, deque(maxlen=_FORMER_BOOTS)).append(known.boot)
        if not same:
            self._happened("node-joined", node_id, reason="in place of its former self" if known else "")
        self._lease_until[node_id] = now + self.lease_s
        return Registered(round(self.lease_s * 1000)), changes

    def renew(self, message: Renew, now: float) -> tuple[Registered | Refused, Changes]:
        """The load is told with the next `loads()`."""
        node = self.nodes.get(message.node_id)
        if node is None or node.boot != message.boot:
            return Refused("unknown-node", f"{message.node_id[:64]} is not registered with this boot"), []
        refused = bad_map("load", message.load)
        if refused is not None:
            return refused, []
        if node.load != message.load:
            self.nodes[node.node_id] = replace(node, load=message.load)
            self._new_loads.add(node.node_id)
        self._lease_until[node.node_id] = now + self.lease_s
        return Registered(round(self.lease_s * 1000)), []

    def leave(self, message: Leave) -> tuple[Done, Changes]:
        """Of a former self, or of nobody: changes nothing."""
        if not self.is_here(message.node_id, message.boot):
            return Done(), []
        self._happened("node-left", message.node_id)
        return Done(), self._remove(message.node_id)

    def is_here(self, node_id: str, boot: str) -> bool:
        """Whether this self of a node is in the table."""
        node = self.nodes.get(node_id)
        return node is not None and node.boot == boot

    def reached(self, node_id: str, boot: str) -> None:
        """The registry has connected to the node: from now on a connection that is refused means that its process is gone. (What
        was never reached may stand behind a firewall that refuses.)"""
        if self.is_here(node_id, boot) and node_id not in self.reachable:
            self.reachable.add(node_id)
            self._set_node(node_id, self.nodes[node_id])

    def died(self, node_id: str, boot: str) -> Changes:
        """The process of that self of a node is gone."""
        if not self.is_here(node_id, boot):
            return []
        self._happened("node-died", node_id, reason="nobody listens there any more")
        return self._remove(node_id)

    # Groups

    def grants(self, message: Grants) -> tuple[Granted | Refused, Changes]:
        """Groups of nodes that are gone are orphans, so whichever origin a group has lives."""
        refused = bad_grants(message.grants)
        if refused is not None:
            return refused, []
        rows: list[list[Any]] = []
        changes: Changes = []
        taken_over: dict[tuple[str, str], list[str]] = {}
        for group, origin in message.grants:
            known = self.groups.get(group)
            code = self._not_granted(group, origin) if known is None or not known.origin else ""
            if code:
                rows.append([group, "", 0, code])
                continue
            if known is None or not known.origin:
                if known is not None:
                    taken_over.setdefault((self.orphans[group], origin), []).append(group)
                known = self._assign(group, origin)
                changes.append(["group", group, origin, known.epoch])
            rows.append([group, known.origin, known.epoch, ""])
        for (source, target), groups in taken_over.items():
            more = f" and {len(groups) - 1} more" if len(groups) > 1 else ""
            epoch = self.groups[groups[0]].epoch
            self._happened("taken-over", groups[0] + more, source=source, target=target, epoch=epoch)
        return Granted(rows), changes

    def _not_granted(self, group: str, origin: str) -> str:
        """The code that says why `origin` cannot have `group`; empty where it can."""
        if bad_name("group", group, MAX_GROUP_BYTES) is not None:
            return "bad-name"
        if group not in self.groups and self._groups_bytes + group_bytes(group) > MAX_GROUPS_BYTES:
            return "too-many"
        refused = self._no_origin(origin)
        return refused.code if refused is not None else ""

    def _no_origin(self, origin: str) -> Refused | None:
        """Refused where that is none which groups can be given to."""
        node = self.nodes.get(origin)
        if node is None:
            return Refused("unknown-node", f"{origin[:64]} is not registered")
        if node.role != "origin":
            return Refused("not-an-origin", f"{origin} is a node of role {node.role}, expected an origin")
        return None

    def hand_over(self, message: HandOver, owner: str | None) -> tuple[Assigned | Refused, Changes]:
        """`owner`: who asks; None where that is not known, on a plain socket that did not register."""
        group, epoch, origin = message.group, message.epoch, message.origin
        known = self.groups.get(group)
        if known is not None and known.origin == origin and known.epoch > epoch:
            return Assigned(group, origin, known.epoch), []
        if known is None or known.epoch != epoch or not known.origin or owner not in (None, known.origin):
            has = f"{known.origin or 'nobody'} has it at epoch {known.epoch}" if known else "nobody has it"
            return Refused("not-yours", f"{group[:64]} at epoch {epoch}: {has}"), []
        refused = self._no_origin(origin)
        if refused is not None:
            return refused, []
        given = self._assign(group, origin)
        self._happened(
            "moved", group, source=known.origin, target=origin, epoch=given.epoch, reason=message.reason
        )
        return Assigned(group, origin, given.epoch), [["group", group, origin, given.epoch]]

    def release(self, message: Release, owner: str | None) -> tuple[Done | Refused, Changes]:
        """`owner` as for `hand_over`."""
        known = self.groups.get(message.group)
        if known is None or known.epoch != message.epoch:
            return Done(), []
        if owner is not None and known.origin != owner:
            return Refused(
                "not-yours", f"{message.group} is of {known.origin or 'nobody'}, not of {owner}"
            ), []
        self._set_group(message.group, None)
        return Done(), [["group-gone", message.group]]

    def epoch_seen(self, message: EpochSeen, owner: str | None) -> tuple[Done | Refused, Changes]:
        """`owner` as for `hand_over`. The counter is raised even where nobody has the group."""
        group, seen = message.group, message.epoch
        refused = bad_name("group", group, MAX_GROUP_BYTES)
        if refused is not None:
            return refused, []
        if not 0 < seen < MAX_EPOCH:
            return Refused("bad-epoch", f"epoch {seen}, expected 1 to {MAX_EPOCH - 1}"), []
        known = self.groups.get(group)
        if known is not None and known.origin and owner is not None and known.origin != owner:
            return Refused("not-yours", f"{group} is of {known.origin}, not of {owner}"), []
        self.epoch = max(self.epoch, seen)
        if known is None or not known.origin or known.epoch > seen:
            return Done(), []
        if owner is None and known.epoch == seen:
            # A former owner that is not registered again yet has met the present one's epoch: nothing is behind.
            return Done(), []
        given = self._assign(group, known.origin)
        return Done(), [["group", group, given.origin, given.epoch]]

    def _assign(self, group: str, origin: str) -> Assignment:
        """With the next epoch."""
        self.epoch += 1
        given = Assignment(group, origin, self.epoch)
        self._set_group(group, given)
        return given

    # Settings

    def put_settings(self, message: PutSettings) -> tuple[Done | Refused, Changes]:
        """Asked again, because the answer was lost, it is Done as well."""
        refused = bad_map("settings", message.settings, MAX_SETTINGS_BYTES)
        if refused is not None:
            return refused, []
        version = self.settings.get("version", 0)
        wanted = {**message.settings, "version": message.seen + 1}
        if wanted == self.settings:
            return Done(), []
        if message.seen != version:
            text = f"the settings are of version {version} by now, not {message.seen}; look at them and try again"
            return Refused("changed", text), []
        names = sorted({*wanted, *self.settings} - {"version"})
        changed = [name for name in names if wanted.get(name) != self.settings.get(name)]
        self.settings = wanted
        self._happened("settings", ", ".join(changed)[:MAX_GROUP_BYTES], epoch=version + 1)
        return Done(), [["settings", wanted]]

    # Time

    def expire(self, now: float) -> tuple[list[str], Changes]:
        """Remove every node whose lease is over: their ids, and the changes."""
        gone = [node_id for node_id in self.nodes if self._lease_until.get(node_id, now) <= now]
        changes: Changes = []
        for node_id in gone:
            self._happened("node-died", node_id, reason="its lease ended")
            changes += self._remove(node_id)
        return gone, changes

    def extend_leases(self, by_s: float) -> None:
        """The registry itself was held up (stopped, or starved): what nodes sent meanwhile is not read yet."""
        for node_id in self._lease_until:
            self._lease_until[node_id] += by_s

    def loads(self) -> Changes:
        """What nodes reported since the last call."""
        changes: Changes = [
            ["load", name, self.nodes[name].load] for name in sorted(self._new_loads) if name in self.nodes
        ]
        self._new_loads.clear()
        return changes

    # What must last

    def unsaved(self) -> Unsaved | None:
        """What to commit, or None when that is nothing."""
        events, same_settings = self.history.unsaved(), self.settings == self._settings_before
        same = same_settings and self.epoch == self._epoch_before
        if same and not (self._nodes_before or self._groups_before or events):
            return None
        return Unsaved(
            {name: self.nodes.get(name) for name in self._nodes_before},
            {name: self.groups.get(name) for name in self._groups_before},
            self.epoch,
            self.orphans,
            self.reachable,
            None if same_settings else self.settings,
            events,
        )

    def saved(self) -> None:
        """Everything is committed."""
        self._nodes_before, self._groups_before = {}, {}
        self._epoch_before, self._settings_before = self.epoch, self.settings
        self.history.saved()

    def undo(self) -> None:
        """Be as at the last commit: nobody was told of anything since. A node whose removal comes back this way has no lease,
        so that `expire` removes it again unless it renews."""
        for name, node in self._nodes_before.items():
            self._set_node(name, node)
        for name, (group, orphaned_by) in self._groups_before.items():
            self._set_group(name, group, orphaned_by)
        self.epoch, self.settings = self._epoch_before, self._settings_before
        self.history.undo()
        self.saved()

    def rows(self) -> tuple[list[list[Any]], list[list[Any]]]:
        """(nodes, groups) as they stand in a Snapshot."""
        return (
            [node.row() for node in self.nodes.values()],
            [[group.group, group.origin, group.epoch] for group in self.groups.values()],
        )

    # Changes

    def _happened(self, event: str, subject: str, **more: Any) -> None:
        self.history.add(self.wall_s, event, subject, **more)

    def _remove(self, node_id: str) -> Changes:
        self._set_node(node_id, None)
        return [["node-gone", node_id], *self._orphan_all(node_id)]

    def _orphan_all(self, origin: str) -> Changes:
        return [self._orphan(self.groups[group]) for group in sorted(self._held.get(origin, ()))]

    def _orphan(self, group: Assignment) -> list[Any]:
        self._set_group(group.group, replace(group, origin=""), group.origin)
        return ["group", group.group, "", group.epoch]

    def _set_node(self, node_id: str, node: NodeInfo | None) -> None:
        self._nodes_before.setdefault(node_id, self.nodes.get(node_id))
        if node is None:
            self.nodes.pop(node_id, None)
            self._lease_until.pop(node_id, None)
            self._former.pop(node_id, None)
            self.reachable.discard(node_id)
        else:
            self.nodes[node_id] = node

    def _set_group(self, group: str, assignment: Assignment | None, orphaned_by: str = "") -> None:
        before, before_by = self.groups.pop(group, None), self.orphans.pop(group, "")
        self._groups_before.setdefault(group, (before, before_by))
        if before is not None:
            self._groups_bytes -= group_bytes(group)
            held = self._held[before.origin]
            held.discard(group)
            if not held:
                del self._held[before.origin]
        if assignment is not None:
            self.groups[group] = assignment
            self._groups_bytes += group_bytes(group)
            self._held.setdefault(assignment.origin, set()).add(group)
            if not assignment.origin:
                self.orphans[group] = orphaned_by
