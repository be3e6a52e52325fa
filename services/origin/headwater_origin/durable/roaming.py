"""Sessions that may go from edge to edge (RTMPT), each with a fence. What their edge has acknowledged it may die with, before a
request has fetched it: so they have heard what is stored where another edge finds it (Heard)."""

from typing import TYPE_CHECKING

from headwater_origin.durable.reached import NOTHING

if TYPE_CHECKING:
    from headwater_origin.session import Session


class Stored:
    """Of one session. `fence`, a number above 0, shows that its edge has it."""

    __slots__ = ("applied", "entry", "fence", "told_entry")

    def __init__(self, fence: int) -> None:
        self.fence = fence
        self.applied = self.entry = 0
        """Up to which of its messages, and which entry, all that it was told is stored."""
        self.told_entry = 0
        """Up to which entry it was told everything."""

    @property
    def needed(self) -> int:
        """It may lack what it was told with entries above this one, should its edge die."""
        return self.entry if self.told_entry > self.entry else NOTHING

    def heard(self, number: int, entry: int) -> None:
        """Its edge has stored what it was told for its messages up to `number`, and with entries up to `entry`."""
        self.applied = max(number, self.applied)
        self.entry = max(entry, self.entry)

    def lacks(self, number: int) -> bool:
        """Whether it may lack what answers its message `number`."""
        return number > self.applied


class Roaming(dict["Session", None]):
    """Those of a group that are attached. `needed`: they may lack what was said with entries above this one. It is found out now
    and then (`look`), as who asks at each commit would ask each of them."""

    __slots__ = ("needed",)

    def __init__(self) -> None:
        super().__init__()
        self.needed = NOTHING

    def add(self, session: "Session", settled: int) -> None:
        """One more; what was said with entries up to `settled` nobody lacks."""
        self[session] = None
        self.needed = min(settled, self.needed)

    def look(self, reached: int) -> None:
        """Their edges have taken what was said with entries up to `reached`."""
        needed = reached if self else NOTHING
        for one in self._stored():
            if one.entry < needed and one.entry < one.told_entry:
                needed = one.entry
        self.needed = needed

    def give_up(self, settled: int) -> bool:
        """Where one of them holds what was said behind entry `settled`, none holds anything any more; returns whether one did."""
        stored = self._stored()
        if all(one.needed > settled for one in stored):
            return False
        for one in stored:
            one.entry = max(one.told_entry, one.entry)
        return True

    def _stored(self) -> list[Stored]:
        return [stored for session in self if (stored := session.stored) is not None]
