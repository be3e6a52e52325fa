"""Large groups that change places: one to another origin, and what makes room for it the other way. Pure.

Where an origin has too much and no group of it fits anywhere, a larger one may go if groups of its new origin come back for it:
none, one, or a set of smaller ones. It is looked for both ways: a large group goes and smaller ones come back, or smaller ones go
and a large one comes back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from headwater_balancer.board import Board

BULKY_GAIN = 0.1
"""The load that makes the origin less busy, of what the smallest origin should have: what gains less is not worth a pause."""
_LOOK_AT = 24
"""So many of an origin's largest groups are looked at."""
_MAX_SET = 64
"""Groups that go together against a large one."""


@dataclass(frozen=True, slots=True, order=True)
class Exchange:
    """Two origins afterwards: `busier` is the load per capacity of the busier one, `load` what moves. `moves` are (group, target)
    in the order to do them. The least is the best."""

    busier: float
    load: float
    moves: tuple[tuple[str, str], ...]


def best_exchange(
    board: Board, source: str, stays: frozenset[str], enough: float, most_load: float
) -> Exchange | None:
    """What makes an origin that has too much less busy, by BULKY_GAIN at least, and the other one no busier than that, and moves
    no more than `most_load`. All that leave no more than `enough` times their share on both are as good as each other: then the
    one that moves the least is the best."""
    own, smallest = board.origins[source].capacity, min(board.origins[name].capacity for name in board.even)
    limit = board.use(source) - BULKY_GAIN * board.level * smallest / own
    return min(
        (
            found
            for target in board.even
            if target != source and board.use(target) < limit
            for found in _between(board, source, target, stays, enough)
            if found.busier <= limit and found.load <= most_load
        ),
        default=None,
    )


def _between(
    board: Board, source: str, target: str, stays: frozenset[str], enough: float
) -> Iterator[Exchange]:
    """Exchanges between an origin that has too much and another one."""
    own, other = (board.origins[name].capacity for name in (source, target))
    # The load that must go to make both as busy as each other; between `least` and `most` both have no more than enough.
    middle = (board.loads[source] * other - board.loads[target] * own) / (own + other)
    least = min(middle, -board.room(source, enough - 1))
    most = max(middle, board.room(target, enough - 1))
    goal = max(board.even[source], board.even[target]) * enough

    def made(going: list[tuple[float, str]], coming: list[tuple[float, str]], first: str) -> Exchange:
        out, back = sum(load for load, _ in going), sum(load for load, _ in coming)
        busier = max(
            (board.loads[source] - out + back) / own, (board.loads[target] + out - back) / other, goal
        )
        there = [(name, target) for _, name in going]
        here = [(name, source) for _, name in coming]
        return Exchange(busier, out + back, tuple(there + here if first == target else here + there))

    for load, name in _large(board, source, target, stays):
        back = _set(board, target, source, load - most, load - least, stays)
        yield made([(load, name)], back, target)
    for load, name in _large(board, target, source, stays):
        out = _set(board, source, target, load + least, load + most, stays)
        if out:
            yield made(out, [(load, name)], source)


def _large(board: Board, here: str, there: str, stays: frozenset[str]) -> Iterator[tuple[float, str]]:
    rows = ((load, name) for load, name in board.below(here, float("inf")) if name not in stays and load > 0)
    return ((load, name) for load, name in islice(rows, _LOOK_AT) if board.may_have(name, there))


def _set(
    board: Board, here: str, there: str, least: float, most: float, stays: frozenset[str]
) -> list[tuple[float, str]]:
    """Groups that have `least` to `most` together, the largest that fit first, or as near below as there is."""
    found: list[tuple[float, str]] = []
    left = most
    while left > most - least and len(found) < _MAX_SET:
        last = found[-1] if found else None
        rows = board.below(here, left, last)
        row = next(
            (row for row in rows if row[1] not in stays and row[0] > 0 and board.may_have(row[1], there)),
            None,
        )
        if row is None:
            break
        found.append(row)
        left -= row[0]
    return found
