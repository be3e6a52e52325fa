"""What a plan is made from, and the board on which it is made: who has what, if the moves so far are done."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from headwater_balancer.rules import Neighbours, Rules
from headwater_balancer.snapshot import app_of

SMALL = 0.05
"""Groups that have so much of what the smallest origin should have, or less, are small."""


class Why(StrEnum):
    """What a move is for, the most urgent first."""

    ORDER = "order"
    """An operator named the group."""
    DRAIN = "drain"
    PIN = "pin"
    APART = "apart"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class OriginState:
    """An origin as a plan sees it. `measured`: its groups' loads are known and fresh; otherwise nothing moves there or away from
    there to even loads out."""

    node_id: str
    capacity: float = 1.0
    apps: frozenset[str] = frozenset()
    measured: bool = True


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group, where it is (or is just being moved to), and what it costs: `load` in percent of one core."""

    group: str
    origin: str
    load: float
    members: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """`moved_at`: when groups were last moved, monotonic seconds. `resting`: groups not to be touched now: they move already, or
    their last move failed. `active`: loads are being evened out, see `plan`."""

    origins: Mapping[str, OriginState] = field(default_factory=dict)
    groups: Mapping[str, GroupState] = field(default_factory=dict)
    moved_at: Mapping[str, float] = field(default_factory=dict)
    resting: frozenset[str] = frozenset()
    active: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """One group from one origin to another; `reason` is for people."""

    group: str
    source: str
    target: str
    load: float
    members: int
    why: Why
    reason: str


@dataclass(frozen=True, slots=True)
class Share:
    """What an origin has: `load` in percent of one core, `even` the load that would be its fair share (see Board.measure)."""

    origin: str
    capacity: float
    groups: int
    load: float
    even: float


class Board:
    """Groups on origins; `move` changes it. No group is moved twice."""

    def __init__(self, balance: Balance, rules: Rules) -> None:
        self.rules = rules
        self.origins = dict(sorted(balance.origins.items()))
        self.groups = {
            name: group for name, group in sorted(balance.groups.items()) if group.origin in self.origins
        }
        self.at: dict[str, str] = {name: group.origin for name, group in self.groups.items()}
        self.loads = dict.fromkeys(self.origins, 0.0)
        self.held: dict[str, set[str]] = {node_id: set() for node_id in self.origins}
        for name, origin in self.at.items():
            self.loads[origin] += self.groups[name].load
            self.held[origin].add(name)
        self.neighbours = Neighbours(rules.apart, self.at)
        self.open = [node_id for node_id in self.origins if node_id not in rules.drained]
        """Origins that may be given groups."""
        self.even: dict[str, float] = {}
        self.level = 0.0
        self.moves: list[Move] = []
        self.moved: set[str] = set()
        self._movable: dict[str, list[tuple[float, str]]] = {}
        self._kept: dict[str, float] = {}
        self._packed = 0.0

    def move(self, group: str, target: str, why: Why, reason: str) -> None:
        """Have a group elsewhere."""
        state, source = self.groups[group], self.at[group]
        self.moves.append(Move(group, source, target, state.load, state.members, why, reason))
        self.moved.add(group)
        self.at[group] = target
        self.held[source].discard(group)
        self.held[target].add(group)
        self.loads[source] -= state.load
        self.loads[target] += state.load
        self.neighbours.put(group, target)
        movable = self._movable.get(source, [])
        place = bisect_right(movable, (state.load, group)) - 1
        if place >= 0 and movable[place] == (state.load, group):
            del movable[place]

    def use(self, origin: str) -> float:
        """The load for the capacity."""
        return self.loads[origin] / self.origins[origin].capacity

    def may_have(self, group: str, origin: str) -> bool:
        """Whether an open origin could take a group: it serves the application, and has none that this one is kept apart from."""
        return self.serves(group, origin) and not self.neighbours.against(group, origin)

    def serves(self, group: str, origin: str) -> bool:
        """Whether the group's application is there."""
        return app_of(group) in self.origins[origin].apps

    def best_for(self, group: str) -> str:
        """The open origin that is the least used with this group; empty where none may have it. One that is measured, if any."""
        load, here = self.groups[group].load, self.at[group]
        candidates = [origin for origin in self.open if origin != here and self.may_have(group, origin)]
        return min(
            candidates,
            key=lambda name: (
                not self.origins[name].measured,
                (self.loads[name] + load) / self.origins[name].capacity,
                name,
            ),
            default="",
        )

    # Evening out

    def measure(self, free: Iterable[str]) -> None:
        """Begin to even out: `free` are the groups that may be moved for it. Finds each origin's fair share.

        `level` is the load per capacity that all would have if every group could be parted. An origin that has more than that in
        one group, or in groups that stay where they are, has its fair share in that; the level of the others is that of what is
        left. So `even[origin] * capacity` is the fair share, `even` never below `level`. But no group is a fair share where a
        packing from nothing would have less on every origin: it should be on a larger one.
        """
        movable: dict[str, list[tuple[float, str]]] = {}
        for group in free:
            movable.setdefault(self.at[group], []).append((self.groups[group].load, group))
        self._movable = {origin: sorted(rows) for origin, rows in movable.items()}
        kept = self.groups.keys() - {name for rows in movable.values() for _, name in rows}
        self._kept = dict.fromkeys(self.origins, 0.0)
        for group in kept:
            self._kept[self.at[group]] += self.groups[group].load
        self._packed = self._pack()
        self._level()

    def _measured(self) -> list[str]:
        return [origin for origin in self.open if self.origins[origin].measured]

    def _mean(self) -> float:
        measured = self._measured()
        capacity = sum(self.origins[origin].capacity for origin in measured)
        return sum(self.loads[origin] for origin in measured) / capacity if capacity else 0.0

    def _pack(self) -> float:
        """The most load per capacity after a packing from nothing, upon what stays: the largest group first, each where there is
        the least with it. Small ones are left out, as they fill what the others leave; pairs apart are not looked at."""
        measured, mean = self._measured(), self._mean()
        small = SMALL * mean * min((self.origins[origin].capacity for origin in measured), default=0.0)
        packed = {origin: self._kept[origin] for origin in measured}
        large = [row for origin in measured for row in self.below(origin, inf) if row[0] > small]
        serving: dict[str, list[tuple[str, float]]] = {}
        for load, group in sorted(large, reverse=True):
            app = app_of(group)
            if app not in serving:
                states = ((origin, self.origins[origin]) for origin in measured)
                serving[app] = [(origin, state.capacity) for origin, state in states if app in state.apps]
            # One that nobody serves any more stays where it is.
            here = self.at[group]
            places = serving[app] or [(here, self.origins[here].capacity)]
            _, best = min(((packed[origin] + load) / own, origin) for origin, own in places)
            packed[best] += load
        return max((load / self.origins[origin].capacity for origin, load in packed.items()), default=0.0)

    def _level(self) -> None:
        measured = self._measured()
        solid: dict[str, float] = {}
        for origin in measured:
            largest = max((self.groups[name].load for name in self.held[origin]), default=0.0)
            packed = self._packed * self.origins[origin].capacity
            solid[origin] = max(min(largest, packed), self._kept[origin])
        load = sum(self.loads[origin] for origin in measured)
        capacity = sum(self.origins[origin].capacity for origin in measured)
        self.even = {}
        # Those with the most in one piece first: each that is taken out lowers the level of the others.
        for origin in sorted(measured, key=lambda name: -solid[name] / self.origins[name].capacity):
            own = self.origins[origin].capacity
            if solid[origin] / own <= load / capacity or capacity - own <= 0:
                break
            self.even[origin] = solid[origin] / own
            load, capacity = load - solid[origin], capacity - own
        self.level = load / capacity if capacity else 0.0
        for origin in measured:
            self.even.setdefault(origin, self.level)

    def even_out(self, group: str, target: str, reason: str) -> None:
        """Move a group for its load. Where it was all that its origin's fair share was made of, shares are found anew."""
        source, load = self.at[group], self.groups[group].load
        was_solid = load >= self.even[source] * self.origins[source].capacity
        self.move(group, target, Why.LOAD, reason)
        if was_solid or load > self.even[target] * self.origins[target].capacity:
            self._level()

    def over(self, origin: str) -> float:
        """The load above the fair share; negative where it is below."""
        return self.loads[origin] - self.even[origin] * self.origins[origin].capacity

    def room(self, origin: str, more: float) -> float:
        """The load up to the fair share and a part `more` of it."""
        return self.even[origin] * self.origins[origin].capacity * (1 + more) - self.loads[origin]

    def excess(self) -> float:
        """The load above the level of all origins: at least so much moves if all are to have the level."""
        return sum(
            max(0.0, self.loads[origin] - self.level * self.origins[origin].capacity) for origin in self.even
        )

    def below(
        self, origin: str, load: float, after: tuple[float, str] | None = None
    ) -> Iterable[tuple[float, str]]:
        """(load, group) of what may be moved away from an origin, the largest up to `load` first; only what comes `after` one."""
        rows = self._movable.get(origin, [])
        end = bisect_right(rows, (load, "\U0010ffff"))
        if after is not None:
            end = min(end, bisect_left(rows, after))
        for place in range(end - 1, -1, -1):
            yield rows[place]

    def shares(self) -> tuple[Share, ...]:
        """What every origin has."""
        return tuple(
            Share(
                origin,
                state.capacity,
                len(self.held[origin]),
                self.loads[origin],
                self.even.get(origin, 0.0) * state.capacity,
            )
            for origin, state in self.origins.items()
        )
