"""How far the edges have taken what a group said to them with its entries."""

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater_origin.edge_port import EdgePort

NOTHING = 1 << 62
"""Above the number of every entry."""


class Reached:
    """Of one group. Only what is under way is noted."""

    __slots__ = ("_under_way",)

    def __init__(self) -> None:
        self._under_way: dict[EdgePort, deque[tuple[int, int]]] = {}
        """By edge: entry up to which everything was said before, and the link's position when all of it was."""

    def said(self, edge: "EdgePort", before: int) -> None:
        """An edge was just told something of an entry above `before`."""
        if edge.up:
            self._under_way.setdefault(edge, deque()).append((before, edge.link.position))

    def of(self, edge: "EdgePort", committed: int) -> int:
        """Entries up to this one an edge has taken; all that are committed, where nothing is under way to it."""
        under_way = self._under_way.get(edge)
        if under_way is None:
            return committed
        acknowledged = edge.link.acknowledged
        while under_way and under_way[0][1] <= acknowledged:
            under_way.popleft()
        if not under_way:
            del self._under_way[edge]
            return committed
        return min(before for before, _ in under_way)

    def by_all(self, committed: int) -> int:
        """Entries up to this one all edges have taken."""
        return min((self.of(edge, committed) for edge in list(self._under_way)), default=committed)

    def forget(self, edge: "EdgePort") -> None:
        """Its link is down."""
        self._under_way.pop(edge, None)
