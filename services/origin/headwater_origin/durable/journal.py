"""The rows of journal entries, and how entries and snapshots are written: msgpack arrays of rows.

A snapshot is an entry that rebuilds the group from nothing.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import msgpack
from headwater_bus.codec import EnvelopeError
from headwater_store import Loaded


class RowKind(IntEnum):
    """First item of each row; what follows it. A number is never used again for another kind."""

    OBJECT = 1
    """kind, name, version, events, asker, payload: one commit of a SharedObject; rows as in ObjectUpdate. `asker`: nobody (an
    application), or [session id, number of its message, edge, number of its attachment there]. (Before 0.6 there was none.)"""
    OBJECT_SET = 2
    """kind, name, version, base, events, settings, payload: its whole content; rows as in ObjectOpened."""
    OBJECT_GONE = 3
    """kind, name, floor: versions of a new object of this group start above the floor."""
    MEMBER = 4
    """session id, address, object encoding, attributes, type id, payload (of its connect)."""
    MEMBER_GONE = 5
    """session id."""
    NUMBER = 6
    """session id, number of its last message that was applied."""
    ATTRIBUTES = 7
    """session id, payload: rows of [key, value]."""
    JOB = 8
    """id, due (s since 1970), every_s (0: once), method, payload: AMF0 arguments."""
    JOB_GONE = 9
    """id."""
    STARTED = 10
    """session id, number: a call that must not run twice has begun."""
    ROOMS = 11
    """session id, [room, ...]."""
    SAID = 12
    """session id, number, form, earlier (left out: 0): what the session is told; see `durable/said.py`. `number` of its message
    that caused it, 0: another one's, or the application. It was said before the last `earlier` commits of SharedObjects."""
    BROADCAST = 13
    """room (empty: all), form: what every member is told, or all in a room."""
    SAID_KEPT = 14
    """entry, [session id, ...] (nil: those of the row before), number, form, order: what was said with an earlier entry, and to
    whom, behind the commit of that order. Snapshots alone have them."""
    SESSION_STATE = 15
    """session id, number, payload: its SessionState when it had done its message `number`."""
    OBJECT_RECENT = 16
    """kind, name, version, events (before the first of them), payload: rows of [version, events, asker, payload, order]: the last
    commits of a SharedObject, which some edge may lack. Snapshots alone have them."""


class ObjectKind(IntEnum):
    """Which objects of a group a row is about."""

    TEMPORARY = 0
    PERSISTENT = 1
    STATE = 2
    """Of the application alone."""


class JournalError(Exception):
    """What is in a group's journal is not what this program can read."""


_pack = msgpack.Packer(unicode_errors="surrogatepass").pack
_MOST_ROWS = 1000
"""A packer keeps the memory of the largest thing that it has packed: one for what is larger is not kept."""


def pack_rows(rows: list[list[Any]]) -> bytes:
    """An entry, or a snapshot."""
    pack = _pack if len(rows) <= _MOST_ROWS else msgpack.Packer(unicode_errors="surrogatepass").pack
    packed: bytes = pack(rows)
    return packed


def unpack_rows(data: bytes) -> list[list[Any]]:
    """The rows of an entry or snapshot. Raises JournalError."""
    try:
        rows: list[list[Any]] = msgpack.unpackb(data, unicode_errors="surrogatepass", strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise JournalError(f"an entry cannot be read: {error}") from error
    return rows


def replay(loaded: Loaded, apply: Callable[[list[Any], int], None]) -> None:
    """Give all rows of a journal to `apply`, in order, each with the number of its entry. Raises JournalError for what cannot be
    read or applied."""
    parts = loaded.entries if loaded.snapshot is None else [loaded.snapshot, *loaded.entries]
    first = loaded.snapshot_number + (loaded.snapshot is None)
    for at, data in enumerate(parts):
        try:
            for row in unpack_rows(data):
                apply(row, first + at)
        except (JournalError, LookupError, TypeError, ValueError, EnvelopeError) as error:
            raise JournalError(
                f"entry {first + at} of the journal: {error}; a newer Headwater may have written it: start that one, "
                "or drop this group's journal to begin without what it holds"
            ) from error
