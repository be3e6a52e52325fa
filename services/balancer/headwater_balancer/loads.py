"""What groups cost: from their origins' totals to smoothed rates, and from rates to one number. Pure: `now` is an argument.

The load of a group is in percent of one core, as far as it can be told: so much for being there, for each member, for each
message and for each MB per second. Where an origin uses more CPU than its groups' loads explain (an application that computes
much), what is too much is spread over them in proportion. What a group costs follows it to its next origin and changes slowly.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

GROUP = 0.5
MEMBER = 0.02
MESSAGE_S = 0.01
MB_S = 1.0
"""Percent of one core. Rough: what counts is that groups of one cluster compare."""
CPU_FREE = 20.0
"""So much CPU an origin may use for itself, or for a moment, before it says anything about its groups."""
SMOOTH_S = 10.0
"""Time constant of the smoothing."""
FRESH_S = 10.0
"""Loads of an origin that are older are not fresh any more."""
MAX_GROUPS = 100_000
"""Groups of which loads are kept; others count as idle."""


@dataclass(slots=True)
class _Meter:
    """Totals as of `at`, and what was made of them."""

    epoch: int
    messages: int
    payload: int
    at: float
    members: int = 0
    messages_s: float = 0.0
    bytes_s: float = 0.0
    rated: bool = False
    load: float = GROUP


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one group or of several; `load` in percent of one core."""

    members: int = 0
    messages_s: float = 0.0
    bytes_s: float = 0.0
    load: float = 0.0


def idle_load(members: int, messages_s: float, bytes_s: float) -> float:
    """What a group costs by its numbers alone."""
    return GROUP + MEMBER * members + MESSAGE_S * messages_s + MB_S * bytes_s / 1e6


class LoadBook:
    """What is known of all groups."""

    def __init__(self) -> None:
        self._meters: dict[str, _Meter] = {}
        self._heard_at: dict[str, float] = {}
        self._cpu: dict[str, float] = {}

    def take(self, origin: str, rows: Iterable[Any], cpu_percent: float, now: float) -> int:
        """The rows of a GroupLoads, and the CPU that the origin reported last. Returns how many rows were no such rows."""
        before = self._heard_at.get(origin)
        part = 1 - math.exp(-(now - before) / SMOOTH_S) if before is not None and now > before else 1.0
        self._cpu[origin] = self._cpu.get(origin, cpu_percent) * (1 - part) + cpu_percent * part
        self._heard_at[origin] = now
        bad = 0
        here: list[_Meter] = []
        for row in rows:
            meter = self._row(row, now)
            if meter is None:
                bad += 1
            else:
                here.append(meter)
        plain = [idle_load(meter.members, meter.messages_s, meter.bytes_s) for meter in here]
        factor = max(1.0, (self._cpu[origin] - CPU_FREE) / sum(plain)) if plain else 1.0
        for meter, load in zip(here, plain, strict=True):
            meter.load += (load * factor - meter.load) * (part if meter.rated else 1.0)
        return bad

    def _row(self, row: Any, now: float) -> _Meter | None:
        if not isinstance(row, list | tuple) or len(row) < 5 or not isinstance(row[0], str):
            return None
        numbers = row[1:5]
        if not all(type(number) is int and number >= 0 for number in numbers):
            return None
        epoch, members, messages, payload = numbers
        meter = self._meters.get(row[0])
        if meter is None:
            meter = _Meter(epoch, messages, payload, now)
            if len(self._meters) < MAX_GROUPS:
                self._meters[row[0]] = meter
        passed_s = now - meter.at
        goes_on = meter.epoch == epoch and messages >= meter.messages and payload >= meter.payload
        if goes_on and passed_s > 0:
            part = 1 - math.exp(-passed_s / SMOOTH_S) if meter.rated else 1.0
            meter.messages_s += ((messages - meter.messages) / passed_s - meter.messages_s) * part
            meter.bytes_s += ((payload - meter.payload) / passed_s - meter.bytes_s) * part
            meter.rated = True
        # Where it has just begun, after a move say, the rates stay what they were until there are two answers.
        meter.epoch, meter.messages, meter.payload, meter.at = epoch, messages, payload, now
        meter.members = members
        return meter

    def forget(self, group: str) -> None:
        """A group is no more."""
        self._meters.pop(group, None)

    def origin_gone(self, origin: str) -> None:
        """What its groups cost is still of use: they are somewhere else soon."""
        self._heard_at.pop(origin, None)
        self._cpu.pop(origin, None)

    def is_fresh(self, origin: str, now: float) -> bool:
        """Whether an origin has told its loads lately."""
        heard_at = self._heard_at.get(origin)
        return heard_at is not None and now - heard_at <= FRESH_S

    def rates(self, group: str) -> Rates:
        """Of one group; one that nobody has told of is idle."""
        meter = self._meters.get(group)
        if meter is None:
            return Rates(load=GROUP)
        return Rates(meter.members, meter.messages_s, meter.bytes_s, meter.load)

    def busy(self, group: str) -> tuple[int, float]:
        """To order groups by, when they have lost their origin: those with the most members wait the least."""
        meter = self._meters.get(group)
        return (meter.members, meter.load) if meter is not None else (0, 0.0)

    def totals(self, owners: Iterable[tuple[str, str]]) -> dict[str, Rates]:
        """By origin, of (group, origin)."""
        sums: dict[str, Rates] = defaultdict(Rates)
        for group, origin in owners:
            one, so_far = self.rates(group), sums[origin]
            sums[origin] = Rates(
                so_far.members + one.members,
                so_far.messages_s + one.messages_s,
                so_far.bytes_s + one.bytes_s,
                so_far.load + one.load,
            )
        return dict(sums)
