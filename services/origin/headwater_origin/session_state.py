"""What an origin tells an edge to keep of a session, for the next origin: what the journal does not hold of it.

The edge gives it back as it got it (`Attach.state`). Only origins read it, also of the next versions: items may be added at the
end of each row, and lists behind the last.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from headwater_origin.session import Session


@dataclass(frozen=True, slots=True)
class StateOf:
    """Of one session. `streams` rows [id, publishes, plays, audio, video, paused, route]: names, empty for none; `objects` and
    `elsewhere` rows [name, persistent, access]: SharedObjects that it uses here, or has been sent on to; `guest_streams` rows
    [stream id, group, publishes]; `bandwidth_done`: it has been told; `publications` rows [stream id, proof, shift of its
    timestamps in ms, -1 for none]."""

    streams: list[list[Any]] = field(default_factory=list)
    objects: list[list[Any]] = field(default_factory=list)
    elsewhere: list[list[Any]] = field(default_factory=list)
    guest_streams: list[list[Any]] = field(default_factory=list)
    bandwidth_done: bool = False
    publications: list[list[Any]] = field(default_factory=list)


class StateError(ValueError):
    """A state that an edge has given back is none."""


def pack_state(session: "Session") -> bytes:
    """As it is now."""
    group = session.group
    packed: bytes = msgpack.packb(
        [
            group.streams.state_rows(session),
            group.objects.state_rows(session),
            group.objects.routes.state_rows(session),
            [list(about) for about in sorted(session.guest_streams or ())],
            session.bandwidth_done,
            group.streams.publication_rows(session),
        ],
        unicode_errors="surrogatepass",
    )
    return packed


def unpack_state(data: bytes) -> StateOf:
    """What `pack_state` gave; nothing for nothing. Raises StateError."""
    if not data:
        return StateOf()
    try:
        lists = msgpack.unpackb(data, unicode_errors="surrogatepass")
        streams, objects, elsewhere, guest_streams = _rows_of(lists[:4])
        publications = [_row_of(_PUBLICATION, row) for row in lists[5]] if len(lists) > 5 else []
        return StateOf(streams, objects, elsewhere, guest_streams, bool(lists[4]), publications)
    except (ValueError, LookupError, TypeError, msgpack.UnpackException) as error:
        raise StateError(f"the state of a session cannot be read: {error}") from error


_ROWS = (
    (int, str, str, bool, bool, bool, str),
    (str, bool, int),
    (str, bool, int),
    (int, str, bool),
)
"""The types of each list's rows."""
_PUBLICATION = (int, bytes, int)


def _rows_of(lists: list[Any]) -> list[list[list[Any]]]:
    return [
        # Most are empty.
        [_row_of(types, row) for row in rows] if rows else []
        for types, rows in zip(_ROWS, lists, strict=True)
    ]


def _row_of(types: tuple[type, ...], row: list[Any]) -> list[Any]:
    known = row[: len(types)]
    if tuple(map(type, known)) != types:
        raise ValueError(f"a row {str(row)[:80]}")
    return known
