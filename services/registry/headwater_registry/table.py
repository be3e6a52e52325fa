"""The registry's table: nodes with leases, groups with epochs. Pure: the time is an argument, nothing is read or written.

Every method that changes something returns the rows for the feed (see `Changed`), and remembers how what must last stood
before, until `saved()`; `undo()` brings that back when it could not be committed. What lasts are nodes, groups and the last
epoch; leases and loads do not.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from headwater_bus.control import (
    MAX_EPOCH,
    MAX_GROUP_BYTES,
    Assigned,
    Done,
    EpochSeen,
    Grant,
    Leave,
    Refused,
    Register,
    Registered,
    Release,
    Renew,
)
from headwater_bus.view import Assignment, NodeInfo

from headwater_registry.limits import (
    MAX_GROUPS_BYTES,
    MAX_NODES,
    bad_map,
    bad_name,
    bad_register,
    group_row_bytes,
)

Changes = list[list[Any]]
_FORMER_BOOTS = 16


@dataclass(frozen=True, slots=True)
class Unsaved:
    """What differs from the last commit: nodes and groups by name (None: gone), and the last epoch."""

    nodes: dict[str, NodeInfo | None]
    groups: dict[str, Assignment | None]
    epoch: int


class Table:
    """See the module. `now` is monotonic seconds."""

    def __init__(
        self,
        lease_s: float,
        nodes: tuple[NodeInfo, ...] = (),
        groups: tuple[Assignment, ...] = (),
        epoch: int = 0,
        *,
        now: float,
    ) -> None:
        """The table as it was last committed. Every node gets a fresh lease: none could renew while the registry was away. Until
        it registers again its `meta["restored"]` says that nobody has heard of it since."""
        self.lease_s = lease_s
        self.nodes = {node.node_id: replace(node, meta={**node.meta, "restored": True}) for node in nodes}
        self.groups: dict[str, Assignment] = {}
        self.epoch = max([epoch, *(group.epoch for group in groups)])
        self._held: dict[str, set[str]] = {}
        self._groups_bytes = 0
        self._lease_until = dict.fromkeys(self.nodes, now + lease_s)
        self._former: dict[str, deque[str]] = {}
        self._new_loads: set[str] = set()
        self._nodes_before: dict[str, NodeInfo | None] = {}
        self._groups_before: dict[str, Assignment | None] = {}
        self._epoch_before = self.epoch
        for group in groups:
            self._set_group(group.group, group)
        self.saved()
        for group in groups:
            # A group whose origin is not in the table would never be free again.
            if group.origin not in self.nodes:
                self._set_group(group.group, None)

    # Requests

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

    def register(self, message: Register, now: float, since: int) -> tuple[Registered | Refused, Changes]:
        """`since`: seconds since 1970, shown to people as when the node came (`meta["since"]`)."""
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
        changes: Changes = []
        load: dict[str, Any] = {}
        if known is not None and known.boot == message.boot:
            since, load = known.meta.get("since", since), known.load
        elif known is not None:
            changes += self._free_groups(node_id)
            self._former.setdefault(node_id, deque(maxlen=_FORMER_BOOTS)).append(known.boot)
        node = NodeInfo(
            node_id,
            message.role,
            message.boot,
            message.endpoint,
            message.capacity,
            {**message.meta, "since": since},
            load,
        )
        if node != known:
            self._set_node(node_id, node)
            changes.append(["node", node.row()])
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
        node = self.nodes.get(message.node_id)
        if node is None or node.boot != message.boot:
            return Done(), []
        return Done(), self._remove(message.node_id)

    def grant(self, message: Grant) -> tuple[Assigned | Refused, Changes]:
        """Groups of nodes that are gone are free, so whoever stands in the table lives."""
        group, origin = message.group, message.origin
        refused = bad_name("group", group, MAX_GROUP_BYTES)
        if refused is not None:
            return refused, []
        known = self.groups.get(group)
        if known is not None:
            return Assigned(known.group, known.origin, known.epoch), []
        node = self.nodes.get(origin)
        if node is None:
            return Refused("unknown-node", f"{origin[:64]} is not registered"), []
        if node.role != "origin":
            return Refused("not-an-origin", f"{origin} is a node of role {node.role}, expected an origin"), []
        if self._groups_bytes + group_row_bytes(group, origin) > MAX_GROUPS_BYTES:
            return Refused("too-many", f"{len(self.groups)} groups are assigned, no more are taken"), []
        self.epoch += 1
        self._set_group(group, Assignment(group, origin, self.epoch))
        return Assigned(group, origin, self.epoch), [["group", group, origin, self.epoch]]

    def release(self, message: Release, owner: str | None) -> tuple[Done | Refused, Changes]:
        """`owner`: who asks; None where that is not known, on a plain socket that did not register."""
        known = self.groups.get(message.group)
        if known is None or known.epoch != message.epoch:
            return Done(), []
        if owner is not None and known.origin != owner:
            return Refused("not-yours", f"{message.group} is of {known.origin}, not of {owner}"), []
        self._set_group(message.group, None)
        return Done(), [["group-gone", message.group]]

    def epoch_seen(self, message: EpochSeen, owner: str | None) -> tuple[Done | Refused, Changes]:
        """`owner` as for `release`. The counter is raised even where the group is not assigned any more."""
        group, seen = message.group, message.epoch
        refused = bad_name("group", group, MAX_GROUP_BYTES)
        if refused is not None:
            return refused, []
        if not 0 < seen < MAX_EPOCH:
            return Refused("bad-epoch", f"epoch {seen}, expected 1 to {MAX_EPOCH - 1}"), []
        known = self.groups.get(group)
        if known is not None and owner is not None and known.origin != owner:
            return Refused("not-yours", f"{group} is of {known.origin}, not of {owner}"), []
        self.epoch = max(self.epoch, seen)
        if known is None or known.epoch > seen:
            return Done(), []
        self.epoch += 1
        self._set_group(group, Assignment(group, known.origin, self.epoch))
        return Done(), [["group", group, known.origin, self.epoch]]

    # Time

    def expire(self, now: float) -> tuple[list[str], Changes]:
        """Remove every node whose lease is over: their ids, and the changes."""
        gone = [node_id for node_id in self.nodes if self._lease_until.get(node_id, now) <= now]
        changes: Changes = []
        for node_id in gone:
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
        if not self._nodes_before and not self._groups_before and self.epoch == self._epoch_before:
            return None
        return Unsaved(
            {name: self.nodes.get(name) for name in self._nodes_before},
            {name: self.groups.get(name) for name in self._groups_before},
            self.epoch,
        )

    def saved(self) -> None:
        """Everything is committed."""
        self._nodes_before, self._groups_before, self._epoch_before = {}, {}, self.epoch

    def undo(self) -> None:
        """Be as at the last commit: nobody was told of anything since. A node whose removal comes back this way has no lease,
        so that `expire` removes it again unless it renews."""
        for name, node in self._nodes_before.items():
            self._set_node(name, node)
        for name, group in self._groups_before.items():
            self._set_group(name, group)
        self.epoch = self._epoch_before
        self.saved()

    def rows(self) -> tuple[list[list[Any]], list[list[Any]]]:
        """(nodes, groups) as they stand in a Snapshot."""
        return (
            [node.row() for node in self.nodes.values()],
            [[group.group, group.origin, group.epoch] for group in self.groups.values()],
        )

    # Changes

    def _remove(self, node_id: str) -> Changes:
        changes = self._free_groups(node_id)
        self._set_node(node_id, None)
        return [*changes, ["node-gone", node_id]]

    def _free_groups(self, origin: str) -> Changes:
        freed = sorted(self._held.get(origin, ()))
        for group in freed:
            self._set_group(group, None)
        return [["group-gone", group] for group in freed]

    def _set_node(self, node_id: str, node: NodeInfo | None) -> None:
        self._nodes_before.setdefault(node_id, self.nodes.get(node_id))
        if node is None:
            self.nodes.pop(node_id, None)
            self._lease_until.pop(node_id, None)
            self._former.pop(node_id, None)
        else:
            self.nodes[node_id] = node

    def _set_group(self, group: str, assignment: Assignment | None) -> None:
        before = self.groups.pop(group, None)
        self._groups_before.setdefault(group, before)
        if before is not None:
            self._groups_bytes -= group_row_bytes(group, before.origin)
            held = self._held[before.origin]
            held.discard(group)
            if not held:
                del self._held[before.origin]
        if assignment is not None:
            self.groups[group] = assignment
            self._groups_bytes += group_row_bytes(group, assignment.origin)
            self._held.setdefault(assignment.origin, set()).add(group)
