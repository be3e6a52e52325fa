"""Keyed records that last: the interface."""

from collections.abc import Collection, Mapping
from typing import Protocol


class Records(Protocol):
    """A map from text keys to bytes, held by one process at a time. Calls block for as long as the engine does, so a
    service makes them beside its event loop; they may come from any thread, one at a time. Each raises StoreError."""

    @property
    def held_until(self) -> float:
        """Monotonic seconds: before this nobody else can have taken the records. Where only this process's end gives them up it
        is infinite, otherwise it is moved on all the time, and lies in the past when they are lost, or while the server is
        away; then `take` tells."""
        ...

    def take(self) -> bool:
        """Hold the records: False while another process does. To take what is held already makes sure of it. What
        `load` gives is as of the last time that this was not so."""
        ...

    def load(self, prefix: str = "") -> dict[str, bytes]:
        """All records whose key begins with `prefix`, in order of their keys."""
        ...

    def write(self, put: Mapping[str, bytes], delete: Collection[str] = ()) -> None:
        """Put and delete in one transaction: committed when this returns, unchanged when it raises. To delete what is
        not there is no error. StoreAway of a server means that this is not known; the same write may be made again."""
        ...

    def close(self) -> None:
        """Let go of the engine. A second call does nothing."""
        ...
