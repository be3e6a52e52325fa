"""Which engine a store URL means."""

import time
from collections.abc import Callable
from typing import NamedTuple

from headwater_store.errors import StoreError
from headwater_store.journals import Journals
from headwater_store.leases import KEEP_S, Leases
from headwater_store.records import Records
from headwater_store.url import StoreUrl, shown_url

TAKE_S = 2.5
"""So long `open_records` waits for a holder that was killed, which may have held them for a lease."""
_TRY_S = 0.1


class Engine(NamedTuple):
    """What makes the three kinds of a store. Each raises StoreError."""

    records: Callable[[StoreUrl, str], Records]
    journals: Callable[[StoreUrl], Journals]
    leases: Callable[[StoreUrl, str, float], Leases]


def _sqlite() -> Engine:
    from headwater_store.sqlite_journals import SqliteJournals
    from headwater_store.sqlite_leases import SqliteLeases
    from headwater_store.sqlite_records import SqliteRecords

    return Engine(SqliteRecords, SqliteJournals, SqliteLeases)


def _memory() -> Engine:
    from headwater_store.memory import MemoryJournals, MemoryLeases, MemoryRecords

    return Engine(MemoryRecords, MemoryJournals, MemoryLeases)


def _redis() -> Engine:
    try:
        from headwater_store.redis_journals import RedisJournals
        from headwater_store.redis_leases import RedisLeases
        from headwater_store.redis_records import RedisRecords
    except ModuleNotFoundError as error:
        raise StoreError(f"store redis: {error}; install headwater-store[redis]") from error
    return Engine(RedisRecords, RedisJournals, RedisLeases)


# Imported when they are asked for: the others' clients take their time to load.
_ENGINES: dict[str, Callable[[], Engine]] = {
    "memory": _memory,
    "redis": _redis,
    "rediss": _redis,
    "redis+sentinel": _redis,
    "sqlite": _sqlite,
}


def _engine(url: str) -> tuple[Engine, StoreUrl]:
    parsed = StoreUrl.parse(url)
    find = _ENGINES.get(parsed.scheme)
    if find is None:
        known = ", ".join(f"{scheme}:" for scheme in sorted(_ENGINES))
        raise StoreError(
            f"store {shown_url(url)!r}: scheme {parsed.scheme}: is not known; expected one of {known}"
        )
    return find(), parsed


def open_records(url: str, name: str, *, take: bool = True) -> Records:
    """The records called `name` (plain lower-case word) of the store at `url`; made when they are not there yet. Without `take`
    they are not held yet where another process may hold them meanwhile (Redis): the caller will `take` them. Otherwise that one
    is waited for, if it was killed.

    Raises StoreError: a scheme that nobody knows, a place that cannot be used, damage, another process that has them open.
    """
    engine, parsed = _engine(url)
    records = engine.records(parsed, name)
    until = time.monotonic() + TAKE_S
    try:
        while take and not records.take():
            if time.monotonic() > until:
                raise StoreError(
                    f"store {shown_url(url)}: another process holds its {name} records; stop that one, or give another DB"
                )
            time.sleep(_TRY_S)
    except BaseException:
        records.close()
        raise
    return records


def open_journals(url: str) -> Journals:
    """The journals of the store at `url`, shared with the other processes that open them. Raises StoreError."""
    engine, parsed = _engine(url)
    return engine.journals(parsed)


def open_leases(url: str, name: str, *, keep_s: float = KEEP_S) -> Leases:
    """The leased records called `name` (plain lower-case word) of the store at `url`, shared with the other processes that
    open them. What nobody has held for `keep_s` is forgotten. Raises StoreError."""
    engine, parsed = _engine(url)
    return engine.leases(parsed, name, keep_s)
