"""What operators have decided: pins, sticky groups, groups that stay apart, drained origins, pause and policy.

The registry keeps it (PutSettings), so it outlives every balancer and all balancers share it.
"""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from functools import lru_cache
from typing import Any

from headwater_balancer.policy import Pin


@dataclass(frozen=True, slots=True)
class Rules:
    """`pins`: the first that matches decides; `own_pins` come after them and are not the registry's but a balancer's that was
    started with them. `sticky`: globs of groups that are not moved to even loads out. `apart`: pairs of
    globs; a group that matches the one and another that matches the other are not on one origin. `drained`: origins that get
    nothing. `policy`: empty for what the balancer was started with. `version`: the registry's."""

    pins: tuple[Pin, ...] = ()
    own_pins: tuple[Pin, ...] = ()
    sticky: tuple[str, ...] = ()
    apart: tuple[tuple[str, str], ...] = ()
    drained: frozenset[str] = frozenset()
    paused: bool = False
    policy: str = ""
    version: int = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Rules":
        """What is not as it should be is left out: a newer balancer may have written it."""
        policy, version = settings.get("policy"), settings.get("version")
        return cls(
            tuple(Pin(glob, origin) for glob, origin in _pairs(settings.get("pins"))),
            (),
            _texts(settings.get("sticky")),
            _pairs(settings.get("apart")),
            frozenset(_texts(settings.get("drained"))),
            settings.get("paused") is True,
            policy if isinstance(policy, str) else "",
            version if isinstance(version, int) else 0,
        )

    def to_settings(self) -> dict[str, Any]:
        """As PutSettings has them; the registry adds the version."""
        return {
            "pins": [[pin.glob, pin.origin] for pin in self.pins],
            "sticky": list(self.sticky),
            "apart": [list(pair) for pair in self.apart],
            "drained": sorted(self.drained),
            "paused": self.paused,
            "policy": self.policy,
        }

    def pin_of(self, group: str) -> Pin | None:
        """The rule that says where a group belongs, if any."""
        pins = (*self.pins, *self.own_pins)
        found = _any_of(tuple(pin.glob for pin in pins)).match(group) if pins else None
        return pins[(found.lastindex or 1) - 1] if found is not None else None

    def home_of(self, group: str, origins: Container[str]) -> str:
        """Where a pin has this group, if that is one of `origins` and not drained; otherwise empty."""
        pin = self.pin_of(group)
        if pin is None or pin.origin not in origins or pin.origin in self.drained:
            return ""
        return pin.origin

    def is_sticky(self, group: str) -> bool:
        """Whether it stays where it is, however loads are."""
        return bool(self.sticky) and _any_of(self.sticky).match(group) is not None


@lru_cache(maxsize=64)
def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern for all globs, because every group is looked at in every round. Its last group is the first that matches."""
    return re.compile("|".join(f"({translate(glob)})" for glob in globs))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    pairs = [_texts(pair) for pair in value] if isinstance(value, list) else []
    return tuple((pair[0], pair[1]) for pair in pairs if len(pair) == 2)


class Neighbours:
    """Who is where, as far as the pairs of `Rules.apart` care."""

    def __init__(self, apart: tuple[tuple[str, str], ...], owners: Mapping[str, str]) -> None:
        self._apart = apart
        self._sides: dict[str, list[tuple[int, int]]] = {}
        self._at: dict[str, str] = {}
        self._there: dict[tuple[int, int, str], set[str]] = {}
        if apart:
            for group, origin in owners.items():
                self.put(group, origin)

    def sides(self, group: str) -> list[tuple[int, int]]:
        """(pair, side) of everything that a group matches."""
        known = self._sides.get(group)
        if known is None:
            known = self._sides[group] = [
                (pair, side)
                for pair, globs in enumerate(self._apart)
                for side in (0, 1)
                if fnmatchcase(group, globs[side])
            ]
        return known

    def put(self, group: str, origin: str) -> None:
        """A group is there now, wherever it was before."""
        for pair, side in self.sides(group):
            before = self._at.get(group)
            if before is not None:
                self._there[pair, side, before].discard(group)
            self._there.setdefault((pair, side, origin), set()).add(group)
        if self.sides(group):
            self._at[group] = origin

    def against(self, group: str, origin: str) -> str:
        """A group at `origin` that this one must not be with; empty where there is none."""
        for pair, side in self.sides(group):
            there = self._there.get((pair, 1 - side, origin), set())
            if there - {group}:
                return min(there - {group})
        return ""

    def of(self, pair: int, side: int, origin: str) -> frozenset[str]:
        """The groups at `origin` that match one side of a pair."""
        return frozenset(self._there.get((pair, side, origin), ()))
