"""A SharedObject's rows in the journal, and from them the object again: its commits, its whole content, its last commits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headwater_bus.rows import pack_rows, unpack_rows
from headwater_rtmp.slots import Slots

from headwater_origin.durable.journal import RowKind
from headwater_origin.objects.recent import Asker, Commit, asker_of

if TYPE_CHECKING:
    from headwater_origin.durable.outputs import Outputs
    from headwater_origin.objects.shared_object import SharedObject

_OBJECT = int(RowKind.OBJECT)


def commit_row(shared: "SharedObject", version: int, asker: Asker | None, payload: bytes) -> list[Any]:
    """OBJECT: its last commit; `payload` as in ObjectUpdate."""
    asked = [*asker] if asker is not None else []
    return [_OBJECT, shared.kind, shared.name, version, shared.events, asked, payload]


def content_row(shared: "SharedObject") -> list[Any]:
    """OBJECT_SET: the whole object."""
    content = shared.content
    return [
        int(RowKind.OBJECT_SET),
        shared.kind,
        shared.name,
        content.version,
        content.base,
        shared.events,
        [shared.resync_depth, shared.auto_commit],
        pack_rows(content.rows()),
    ]


def recent_row(shared: "SharedObject") -> list[Any] | None:
    """OBJECT_RECENT: what an edge that comes back may lack; None: nothing."""
    recent = shared.recent
    if not recent.commits:
        return None
    return [
        int(RowKind.OBJECT_RECENT),
        shared.kind,
        shared.name,
        recent.version,
        recent.events,
        recent.pack(),
    ]


def replay(shared: "SharedObject", row: Sequence[Any], outputs: "Outputs") -> None:
    """Take an OBJECT."""
    version, events = row[3:5]
    # Of a former version there is nobody between `events` and the payload.
    asker, payload = ([], row[5]) if len(row) < 7 else row[5:7]
    shared.content.apply(version, unpack_rows(payload, int, str, bytes))
    shared.events, shared.journaled = events, True
    commit = Commit(version, events, asker_of(asker), payload, outputs.next_number, outputs.next_order())
    shared.recent.add(commit)


def restore_content(shared: "SharedObject", row: Sequence[Any]) -> None:
    """Take an OBJECT_SET."""
    version, base, events, settings, payload = row[3:8]
    shared.content = Slots.from_rows(version, base, unpack_rows(payload, str, bytes, int))
    if shared.recent.last_events != events:
        shared.recent.begin(version, events)
    shared.events, shared.journaled = events, True
    shared.resync_depth, shared.auto_commit = int(settings[0]), bool(settings[1])


def restore_recent(shared: "SharedObject", row: Sequence[Any], outputs: "Outputs") -> None:
    """Take an OBJECT_RECENT, which stands behind the OBJECT_SET."""
    version, events, payload = row[3:6]
    order = shared.recent.restore(version, events, payload, outputs.next_number)
    outputs.order = max(order, outputs.order)
    if shared.recent.last_events != shared.events:
        shared.recent.begin(shared.version, shared.events)
