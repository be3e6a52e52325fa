"""What one user of a SharedObject is told alone, as its replica has got over commits that it has not heard of: with the content
as a whole go neither the messages among them nor the answers to what it asked for itself."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headwater_bus.rows import unpack_rows
from headwater_rtmp.shared_object import Event, EventType, arguments_for, value_for
from headwater_rtmp.slots import Slots

from headwater_origin.objects.operations import REMOVE, SEND, SET
from headwater_origin.objects.recent import Commit

if TYPE_CHECKING:
    from headwater_origin.session import Session


def missed_by(session: "Session", commits: Iterable[Commit], content: Slots) -> list[Event]:
    """Messages and answers of these commits in their order, then slots that are not what it takes them for by then."""
    told: list[Event] = []
    answered: dict[str, bytes | None] = {}
    for commit in commits:
        own = commit.asker is not None and commit.asker.session_id == session.session_id
        for kind, key, value in unpack_rows(commit.payload, int, str, bytes):
            if kind == SEND:
                if not (own and session.scope):  # An application does not hear itself.
                    arguments = arguments_for(value, session.amf3)
                    told.append(Event(EventType.SEND_MESSAGE, None, arguments))
            elif own and (kind == SET or (kind == REMOVE and value)):
                told.append(Event(EventType.SUCCESS, key))
                answered[key] = value if kind == SET else None
    for key, taken in answered.items():
        raw = content.values.get(key)
        if raw == taken:
            continue
        if raw is None:
            told.append(Event(EventType.REMOVE, key))
        else:
            told.append(Event(EventType.CHANGE, key, value_for(raw, session.amf3)))
    return told
