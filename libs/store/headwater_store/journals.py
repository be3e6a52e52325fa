"""The journal of a group: a snapshot and the entries after it, fenced by epoch: the interface.

Entries are numbered from 1 and never again. What they mean is the caller's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headwater_store.errors import Fenced, StoreError, WentBack

FENCE_KEEP_S = 7 * 24 * 3600
"""The epoch of a dropped group is remembered for so long: longer than any former owner may hang and come back."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a group's journal holds."""

    snapshot: bytes | None
    snapshot_number: int
    """Entries up to this one are in the snapshot; 0: none is."""
    entries: list[bytes]
    """In order, with the numbers from `snapshot_number` + 1 to `tail`."""
    tail: int
    """Number of the last entry; 0: there was none yet."""
    epoch: int
    """The epoch that had it open before; 0: none had."""


@dataclass(frozen=True, slots=True)
class Append:
    """Entries for a group's journal: they get the numbers from `after` + 1 on, all of them or none."""

    group: str
    epoch: int
    after: int
    entries: Sequence[bytes]


class Journals(Protocol):
    """The journals of all groups. Calls block for as long as the engine does (bounded), so a service makes them beside its
    event loop; they may come from any thread, one at a time. Each raises StoreAway (again later) or another StoreError."""

    def open(self, group: str, epoch: int) -> Loaded:
        """Fence every older epoch, and load. Raises Fenced where a higher epoch has opened it; again at the same epoch is
        allowed."""
        ...

    def open_many(self, wanted: Sequence[tuple[str, int]]) -> list[Loaded | StoreError]:
        """`open` of several groups, each with its epoch, in a few steps for all; no group twice. One outcome for each, in
        order: what it raises for one is that one's outcome."""
        ...

    def append(self, batch: Sequence[Append]) -> list[Fenced | WentBack | None]:
        """One group commit: everything accepted is committed when this returns. One outcome for each Append, in order;
        None: accepted. A refused one harms no other. What the store has already from this epoch (the answer to a former
        call was lost) is not appended twice. Where the call raises, nothing is known of any: make it again."""
        ...

    def snapshot(self, group: str, epoch: int, number: int, data: bytes) -> None:
        """Replace the snapshot, and forget entries up to `number`. It may be above the tail, which then is `number`: so
        one goes on after WentBack. Raises Fenced where a higher epoch has opened it."""
        ...

    def drop(self, group: str, epoch: int) -> None:
        """Forget everything but the epoch, so that older ones stay refused (for FENCE_KEEP_S). Raises Fenced as
        `snapshot` does."""
        ...

    def groups(self) -> list[str]:
        """The groups that have content, sorted: for operators and tests."""
        ...

    def close(self) -> None:
        """Let go of the engine. A second call does nothing."""
        ...


def judge(asked: Append, epoch: int, tail: int) -> Fenced | WentBack | int:
    """What to do with an Append to a journal that `epoch` has open and that ends at `tail`: refuse it, or append it but for
    its first so many entries, which are there already. redis_journals.py says the same in Lua."""
    if epoch > asked.epoch:
        return Fenced(asked.group, epoch)
    if epoch < asked.epoch or tail < asked.after:
        return WentBack(asked.group, tail, asked.after)
    return min(tail - asked.after, len(asked.entries))
