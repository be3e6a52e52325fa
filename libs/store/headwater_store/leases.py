"""Records that one holder at a time may write, each under a lease of its own: the interface."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

KEEP_S = 120.0
"""A record that nobody has held for so long is forgotten."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What whoever took a record gets: its `data` (None: never written), and the `fence` that shows that it is theirs."""

    data: bytes | None
    fence: int


@dataclass(frozen=True, slots=True)
class LeaseWrite:
    """What is to be the data of a record, of whoever has this fence."""

    key: str
    fence: int
    data: bytes


class Leases(Protocol):
    """A map from text keys to leased records. Calls block for as long as the engine does (bounded); they may come from any
    thread, one at a time. Each raises StoreAway (again later) or another StoreError. Time is the store's: Redis' own clock,
    or the clock of this machine, whose processes alone share SQLite files."""

    def take(self, key: str, holder: str, lease_s: float) -> Taken:
        """Hold the record for `lease_s` from now; with 0 anybody may take it at once, and whoever took it last has the fence that
        counts. Raises Held while another holder's lease runs; one's own may be taken again, with a new fence."""
        ...

    def take_over(self, keys: Sequence[str], holder: str) -> list[Taken | None]:
        """Hold these records, whoever holds them, each with a new fence, all in one transaction or round trip; anybody may take
        them again at once. None for one that there is not: nothing is written for it."""
        ...

    def write(self, key: str, fence: int, data: bytes, lease_s: float) -> None:
        """Replace the data, and hold it for `lease_s` from now. Raises Lost where somebody took it since; a lease that
        ended is no loss as long as nobody did."""
        ...

    def write_many(self, writes: Sequence[LeaseWrite], lease_s: float) -> list[bool]:
        """As `write` for each, all in one transaction or round trip: False in the place of Lost. Where it raises, each may be
        written or not, and may be written again."""
        ...

    def release(self, key: str, fence: int) -> None:
        """Let others take it. Changes nothing where it is not the caller's any more."""
        ...

    def drop(self, key: str, fence: int) -> None:
        """Forget it. Changes nothing where it is not the caller's any more."""
        ...

    def close(self) -> None:
        """Let go of the engine, not of the records. A second call does nothing."""
        ...
