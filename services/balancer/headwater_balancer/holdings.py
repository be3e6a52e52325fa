"""Who has which group, counted: what the feed says, and what was granted but is not in the feed yet."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from headwater_bus.view import NodeInfo

from headwater_balancer.snapshot import ClusterSnapshot, Origin

GRANT_S = 3.0
"""A grant that the feed has not shown after so long is not counted any more: it was lost, or the group is free again."""


class Holdings:
    """`now` is monotonic seconds."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._granted: dict[str, tuple[str, float]] = {}
        self._counts: Counter[str] = Counter()
        self._turns: Counter[str] = Counter()
        self._origins: dict[str, float] = {}
        self.orphans: dict[str, None] = {}
        """Groups whose origin is gone, as the feed says."""

    def change(self, change: list[Any]) -> None:
        """A row of the feed."""
        if change[0] == "group":
            self._granted_no_more(change[1])
            self._forget(change[1])
            if not change[2]:
                self.orphans[change[1]] = None
                return
            self._owners[change[1]] = change[2]
            self._counts[change[2]] += 1
        elif change[0] == "group-gone":
            self._forget(change[1])

    def _forget(self, group: str) -> None:
        self.orphans.pop(group, None)
        owner = self._owners.pop(group, None)
        if owner is not None:
            self._counts[owner] -= 1

    def owner(self, group: str) -> str | None:
        """Who has a group; empty for an orphan, None for one that is not known."""
        return self._owners.get(group, "" if group in self.orphans else None)

    def granting(self, group: str, origin: str, now: float) -> None:
        """A Grant is on its way to the registry."""
        self._granted_no_more(group)
        self._granted[group] = origin, now + GRANT_S
        self._counts[origin] += 1
        self._turns[origin] += 1

    def not_granted(self, group: str) -> None:
        """It was refused, or nothing came of it."""
        self._granted_no_more(group)

    def _granted_no_more(self, group: str) -> None:
        grant = self._granted.pop(group, None)
        if grant is not None:
            self._counts[grant[0]] -= 1

    def snapshot(
        self,
        nodes: Iterable[NodeInfo],
        wanted: tuple[str, ...],
        now: float,
        without: frozenset[str] = frozenset(),
    ) -> ClusterSnapshot:
        """The cluster as it stands; `without` are origins not to be given anything."""
        for group, (_, until) in list(self._granted.items()):
            if until > now:
                break  # In order of when they were granted.
            self._granted_no_more(group)
        origins = [node for node in nodes if node.role == "origin" and node.node_id not in without]
        capacities = {node.node_id: node.capacity for node in origins}
        if capacities != self._origins:
            self._origins = capacities
            self._turns.clear()
        return ClusterSnapshot(
            {
                node.node_id: Origin(
                    node.node_id,
                    node.capacity,
                    self._counts[node.node_id],
                    number(node.load, "cpu_percent"),
                    int(number(node.load, "sessions")),
                    self._turns[node.node_id],
                    node.apps,
                )
                for node in sorted(origins, key=lambda node: node.node_id)
            },
            dict(self._owners),
            wanted,
        )


def number(load: Mapping[str, Any], name: str) -> float:
    """A number that a node reported; 0 where it reported none."""
    value = load.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0
