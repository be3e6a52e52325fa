"""Which groups should be elsewhere: a balance and the rules in, a plan out. Pure.

First what rules ask for: drained origins are emptied, pinned groups go home, groups that should be apart are parted. Then loads
are evened out, with hysteresis: it begins when an origin has more than START over its fair share (or one, say a new one, less
than START_UNDER of the level), and then goes on until none has more than STOP over it (or less than STOP_UNDER).

Bounds, which hold for every plan:

- Nothing is moved to even loads out that has been moved less than `cooldown_s` ago, and nothing is moved twice.
- A move *fits* when it is at most what its origin has above its fair share, and its target has no more than STOP above its own
  with it. All that fit move together at most EXCESS_FACTOR (1) times the excess: the sum of what origins have above the level,
  which is the least that any plan moves after which all have the level.
- Where an origin is over and nothing fits (its groups are large), groups may change places, see `exchange`, if the busier of both
  origins is then less busy than before, by BULKY_GAIN of what the smallest origin should have. All that do move together at most
  EXCHANGE_FACTOR (2) times what the origins have that were over.
- Afterwards no origin has more than STOP over its fair share, unless no such move is left. In simulations with Pareto loads
  however heavy, with no rules in the way, plans made one after the other end with all within START of even: of the
  larger of the mean and what a packing from nothing reaches, the largest group first, each where there is the least with it.

Among groups that are about as good to move, the one with the fewest members goes: each of them is attached again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from math import inf

from headwater_balancer.board import Balance, Board, Move, Share, Why
from headwater_balancer.exchange import best_exchange
from headwater_balancer.rules import Rules

START, STOP = 0.15, 0.05
"""Over the fair share."""
START_UNDER, STOP_UNDER = 0.70, 0.85
"""Of the level."""
EXCESS_FACTOR = 1.0
EXCHANGE_FACTOR = 2.0
COOLDOWN_S = 60.0
_ABOUT_AS_GOOD = 0.7
"""A group with at least this part of the best one's load is about as good to move."""
_LOOK_AT = 16
"""So many of those are compared."""
_NOTHING = 1e-9
_MAX_NOTES = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """`moves` in the order to do them; `notes`: what could not be done, for people. `uneven`: an origin is above START or below
    START_UNDER, so evening out should begin. `before` and `after` are the shares without and with the moves."""

    moves: tuple[Move, ...] = ()
    notes: tuple[str, ...] = ()
    uneven: bool = False
    before: tuple[Share, ...] = ()
    after: tuple[Share, ...] = ()


def plan(
    balance: Balance, rules: Rules, now: float, cooldown_s: float = COOLDOWN_S, most_for_load: float = inf
) -> Plan:
    """All that should move. While `rules.paused` that is what is on drained origins, because somebody ordered that; otherwise
    what rules ask for, and, where `balance.active`, what evens loads out: the first `most_for_load` moves of it, or a few more
    where groups change places."""
    board = Board(balance, rules)
    notes: list[str] = []
    _drain(board, balance.resting, notes)
    if not rules.paused:
        _send_home(board, balance.resting, notes)
        _part(board, balance.resting, notes)
    board.measure(_free(board, rules))
    before = fair_shares(balance, rules) if board.moves else board.shares()
    uneven = _is_uneven(board)
    if balance.active and not rules.paused:
        _even_out(board, balance, now, cooldown_s, len(board.moves) + most_for_load)
        left = _cooling(board, balance, now, cooldown_s)
        if left and any(board.use(origin) > board.even[origin] * (1 + STOP) for origin in board.even):
            notes.append(f"{left} groups were moved less than {cooldown_s:g} s ago: they stay for now")
    more = len(notes) - _MAX_NOTES
    shown = [*notes[:_MAX_NOTES], f"and {more} more"] if more > 0 else notes
    return Plan(tuple(board.moves), tuple(shown), uneven, before, board.shares())


def fair_shares(balance: Balance, rules: Rules) -> tuple[Share, ...]:
    """What every origin has, and what would be fair."""
    board = Board(balance, rules)
    board.measure(_free(board, rules))
    return board.shares()


# What rules ask for


def _drain(board: Board, resting: frozenset[str], notes: list[str]) -> None:
    leaving = [
        name for name, origin in board.at.items() if origin in board.rules.drained and name not in resting
    ]
    for name in sorted(leaving, key=lambda name: (-board.groups[name].load, name)):
        here = board.at[name]
        target = board.rules.home_of(name, board.open)
        if not target or not board.serves(name, target):
            target = board.best_for(name)
        if target:
            board.move(name, target, Why.DRAIN, f"{here} is drained")
        else:
            notes.append(f"{name} stays on {here}: no other origin may have it")


def _send_home(board: Board, resting: frozenset[str], notes: list[str]) -> None:
    if not board.rules.pins and not board.rules.own_pins:
        return
    missing: set[str] = set()
    for name, here in list(board.at.items()):
        pin = board.rules.pin_of(name)
        if pin is None or pin.origin == here or name in resting or name in board.moved:
            continue
        home = board.rules.home_of(name, board.origins)
        if home and board.serves(name, home):
            board.move(name, home, Why.PIN, f"pinned: {pin.glob}")
        elif pin.origin not in missing:
            missing.add(pin.origin)
            drained = (
                "drained" if pin.origin in board.rules.drained else "not here, or serves other applications"
            )
            notes.append(f"pin {pin.glob}: {pin.origin} is {drained}")


def _part(board: Board, resting: frozenset[str], notes: list[str]) -> None:
    for pair, (one, other) in enumerate(board.rules.apart):
        for origin in board.open:
            while True:
                first, second = (board.neighbours.of(pair, side, origin) for side in (0, 1))
                # A group that matches both sides is no company for itself.
                if not any(a != b for a in first for b in second):
                    break
                if not _part_one(board, first, second, resting):
                    notes.append(
                        f"{one} and {other} stay together on {origin}: nowhere else is room for one of them"
                    )
                    break


def _part_one(board: Board, first: frozenset[str], second: frozenset[str], resting: frozenset[str]) -> bool:
    """Move one group of the side that is the lighter to move, of the other where none of that may go."""
    sides = sorted(
        (first, second), key=lambda side: (sum(board.groups[name].load for name in side), sorted(side))
    )
    for may_be_sticky in (False, True):
        for side in sides:
            for name in sorted(side, key=lambda name: (board.groups[name].load, name)):
                if name in resting or name in board.moved or board.rules.home_of(name, board.open):
                    continue
                if board.rules.is_sticky(name) and not may_be_sticky:
                    continue
                company = board.neighbours.against(name, board.at[name])
                target = board.best_for(name)
                if company and target:
                    board.move(name, target, Why.APART, f"apart from {company}")
                    return True
    return False


# Evening out


def _free(board: Board, rules: Rules) -> Iterable[str]:
    """Groups that no rule keeps where they are."""
    for name in board.groups:
        if not rules.home_of(name, board.open) and not (rules.sticky and rules.is_sticky(name)):
            yield name


def _is_uneven(board: Board) -> bool:
    return any(
        board.use(origin) > even * (1 + START) + _NOTHING
        or board.use(origin) < board.level * START_UNDER - _NOTHING
        for origin, even in board.even.items()
    )


def _is_cooling(name: str, balance: Balance, now: float, cooldown_s: float) -> bool:
    moved_at = balance.moved_at.get(name)
    return moved_at is not None and now - moved_at < cooldown_s


def _cooling(board: Board, balance: Balance, now: float, cooldown_s: float) -> int:
    return sum(
        _is_cooling(name, balance, now, cooldown_s) for name in balance.moved_at if name in board.groups
    )


def _even_out(board: Board, balance: Balance, now: float, cooldown_s: float, most_moves: float) -> None:
    stays = balance.resting | {
        name for name in balance.moved_at if _is_cooling(name, balance, now, cooldown_s)
    }
    left = EXCESS_FACTOR * board.excess()
    left_to_exchange = EXCHANGE_FACTOR * sum(board.loads[name] for name in _busy(board))
    while len(board.moves) < most_moves:
        steps, exchanges = _next(board, stays, left_to_exchange)
        load = sum(board.groups[name].load for name, _ in steps)
        if exchanges:
            left_to_exchange -= load
        else:
            left -= load
        if not steps or left < -_NOTHING:
            return
        for name, target in steps:
            here = board.at[name]
            percent = 100 * board.use(here) / board.even[here] if board.even[here] else 0.0
            reason = f"{here} has {percent:.0f} % of its share"
            board.even_out(name, target, reason)


def _busy(board: Board) -> list[str]:
    """Origins that have more than STOP over their fair share."""
    return [name for name in board.even if board.use(name) > board.even[name] * (1 + STOP) + _NOTHING]


def _next(board: Board, stays: frozenset[str], most: float) -> tuple[tuple[tuple[str, str], ...], bool]:
    """The next groups to move and where, and whether they change places. The largest of those that fit comes first, while there
    is room for it; large ones that do not fit after that; and last what brings an origin up that has too little."""
    measured = sorted(board.even, key=board.over)
    busy = sorted(_busy(board), key=board.over)
    roomy = [name for name in measured if board.room(name, STOP) > 0]
    steps = [found for name in busy if (found := _fitting(board, name, roomy, stays)) is not None]
    if steps:
        return (max(steps, key=lambda step: (board.groups[step[0]].load, step)),), False
    for name in reversed(busy):
        exchange = best_exchange(board, name, stays, 1 + STOP, most)
        if exchange is not None:
            return exchange.moves, True
    above = [name for name in reversed(measured) if board.over(name) > 0]
    for target in sorted(roomy, key=board.use):
        if board.use(target) >= board.level * STOP_UNDER - _NOTHING:
            break
        for name in above:
            step = _fitting(board, name, [target], stays)
            if step is not None:
                return (step,), False
    return (), False


def _fitting(board: Board, source: str, targets: list[str], stays: frozenset[str]) -> tuple[str, str] | None:
    """A group that fits, and where: the largest, or one about as good that has fewer members."""
    for target in targets:
        most = min(board.over(source), board.room(target, STOP)) + _NOTHING
        rows = (
            (load, name)
            for load, name in board.below(source, most)
            if name not in stays and load > 0 and board.may_have(name, target)
        )
        found = list(islice(rows, _LOOK_AT))
        if found:
            good = [name for load, name in found if load >= _ABOUT_AS_GOOD * found[0][0]]
            return min(good, key=lambda name: (board.groups[name].members, good.index(name))), target
    return None
