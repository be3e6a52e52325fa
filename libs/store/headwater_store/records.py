"""Keyed records that last: the interface, and which engine a URL means."""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from headwater_store.errors import StoreError
from headwater_store.sqlite import SqliteRecords
from headwater_store.url import StoreUrl


class Records(Protocol):
    """A map from text keys to bytes, held by one process at a time. Calls block for as long as the engine does, so a
    service makes them beside its event loop; they may come from any thread, one at a time. Each raises StoreError."""

    def load(self, prefix: str = "") -> dict[str, bytes]:
        """All records whose key begins with `prefix`, in order of their keys."""
        ...

    def write(self, put: Mapping[str, bytes], delete: Collection[str] = ()) -> None:
        """Put and delete in one transaction: committed when this returns, unchanged when it raises. To delete what is
        not there is no error."""
        ...

    def close(self) -> None:
        """Let go of the engine. A second call does nothing."""
        ...


_ENGINES: dict[str, Callable[[StoreUrl, str], Records]] = {"sqlite": SqliteRecords}


def open_records(url: str, name: str) -> Records:
    """The records called `name` (plain lower-case word) of the store at `url`; made when they are not there yet.

    Raises StoreError: a scheme that nobody knows, a place that cannot be written, damage, another process that has it open.
    """
    parsed = StoreUrl.parse(url)
    engine = _ENGINES.get(parsed.scheme)
    if engine is None:
        known = ", ".join(f"{scheme}:" for scheme in sorted(_ENGINES))
        raise StoreError(f"store {url!r}: scheme {parsed.scheme}: is not known; expected one of {known}")
    return engine(parsed, name)
