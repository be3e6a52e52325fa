"""From plans to moves: when evening out begins and ends, and how much of a plan is begun in a round. Pure."""

from headwater_balancer.board import Move, Why
from headwater_balancer.plan import Plan

PATIENCE_S = 5.0
"""Loads must be uneven for so long before anything moves for it: a burst is no reason."""
AT_A_TIME = 16
"""Moves for even loads that may wait or be under way at once; the next round goes on from what came of them."""


class Pace:
    """`active` is what plans need to know: whether loads are being evened out. `now` is monotonic seconds."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self.active = False
        self._patience_s = patience_s
        self._uneven_since: float | None = None

    def stop(self) -> None:
        """Begin anew: another balancer leads."""
        self.active, self._uneven_since = False, None

    def begin(self, made: Plan, under_way: int, now: float, paused: bool) -> tuple[Move, ...]:
        """What of a plan to begin now: all that rules ask for, and some of what evens loads out. `under_way`: moves for even
        loads that have not ended. Evening out ends when a plan has nothing more for it."""
        for_load = [move for move in made.moves if move.why is Why.LOAD]
        if self.active and not for_load and not under_way:
            self.stop()
        elif not made.uneven or paused:
            self._uneven_since = None
        elif self._uneven_since is None:
            self._uneven_since = now
        elif now - self._uneven_since >= self._patience_s:
            self.active = True
        for_rules = [move for move in made.moves if move.why is not Why.LOAD]
        return (*for_rules, *for_load[: max(0, AT_A_TIME - under_way)])
