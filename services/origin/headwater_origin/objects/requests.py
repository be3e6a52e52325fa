"""What one message of a client asks of a SharedObject, as one commit.

Every slot that a client asks to change is answered, with Success, Change or Remove: Flash sends no further change before it
was. Answers that are for the requester alone are sent behind the commit, so they say what the object holds by then, and so once
for each slot, however often the message has named it.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from headwater_rtmp.shared_object import Event, EventType, SharedObjectMessage, encode_shared_object
from headwater_rtmp.status import StatusCode

from headwater_origin.objects.access import Access
from headwater_origin.objects.operations import CLEAR, REMOVE, SEND, SET, Row
from headwater_origin.objects.slot_values import NOTHING, sound_arguments, sound_value

if TYPE_CHECKING:
    from headwater_origin.objects.shared_object import SharedObject
    from headwater_origin.session import Session

STORE_UNAVAILABLE = "SharedObject.StoreUnavailable"
"""Status: the store has been away too long; nothing was changed."""
BUSY = "SharedObject.Busy"
"""Status: too many wait for the lock of the object; nothing was changed."""
_REQUEST_CHANGE, _REQUEST_REMOVE, _REQUEST_CLEAR = (
    int(EventType.REQUEST_CHANGE),
    int(EventType.REQUEST_REMOVE),
    int(EventType.REQUEST_CLEAR),
)
_STATUS, _SUCCESS = int(EventType.STATUS), int(EventType.SUCCESS)
_ANSWER_ORDER = (_STATUS, _SUCCESS, REMOVE, CLEAR)
_WRITE, _DELETE, _SEND = int(Access.WRITE), int(Access.DELETE), int(Access.SEND)


def request(
    shared: "SharedObject",
    session: "Session",
    access: Access,
    events: Sequence[Event],
    start: int = 0,
    denied: Collection[int] = (),
) -> None:
    """Apply it. Events are numbered from `start`; those in `denied` are refused."""
    if shared.stalled:
        refuse(shared, session, events, STORE_UNAVAILABLE)
    else:
        _Request(shared, int(access)).carry_out(session, events, start, denied)


def refuse(shared: "SharedObject", session: "Session", events: Sequence[Event], code: str) -> None:
    """Change nothing of it, and say why."""
    asked = _Request(shared, 0)
    for event in events:
        asked.deny(event, code)
    asked.answer(session)


def refuse_use(session: "Session", message: SharedObjectMessage, code: StatusCode) -> None:
    """Tell a client that it cannot use an object."""
    event = Event(EventType.STATUS, code=code, level="error")
    session.send(encode_shared_object(message.name, 0, message.persistent, [event], session.amf3))


def refuse_slots(session: "Session", message: SharedObjectMessage, events: Sequence[Event]) -> None:
    """Answer a client that does not use the object: each slot is taken back, and nothing of the content is shown."""
    session.group.counters.object_changes_refused += 1
    answers = [Event(EventType.STATUS, code=StatusCode.OBJECT_NO_WRITE_ACCESS, level="error")]
    for key in dict.fromkeys(
        event.key for event in events if event.type in (_REQUEST_CHANGE, _REQUEST_REMOVE)
    ):
        answers.append(Event(EventType.REMOVE, key))
    session.send(encode_shared_object(message.name, 0, message.persistent, answers, session.amf3))


class _Request:
    __slots__ = ("_changes", "_own", "_rights", "_shared", "_version")

    def __init__(self, shared: "SharedObject", rights: int) -> None:
        self._shared, self._rights = shared, rights
        self._version = shared.content.next_version()
        self._changes: list[Row] = []
        self._own: dict[tuple[int, str], None] = {}
        """What concerns the requester alone, each once: rows of an ObjectAnswer."""

    def carry_out(
        self, session: "Session", events: Sequence[Event], start: int, denied: Collection[int]
    ) -> None:
        """Apply what is allowed, and answer the rest."""
        for index, event in enumerate(events, start):
            kind = event.type
            if denied and index in denied:
                self.deny(event)
            elif kind == _REQUEST_CHANGE:
                self._change(event)
            elif kind == _REQUEST_REMOVE:
                self._remove(event)
            elif kind == SEND:
                self._send(event)
            elif kind == _REQUEST_CLEAR:
                self._clear(event)
        self._shared.commit(self._changes, session)
        if self._own:
            self.answer(session)

    def _change(self, event: Event) -> None:
        key, value = event.key or "", event.value or b""
        shared = self._shared
        content = shared.content
        if value in NOTHING:
            # The value tells the edge that this Remove answers a change, so the requester gets Success.
            if not self._rights & _DELETE:
                self.deny(event)
            elif key in content.values:
                self._do((REMOVE, key, value))
            else:
                self._own[_SUCCESS, key] = None
            return
        values = content.values
        if (
            self._rights & _WRITE
            and sound_value(value)
            and shared.limits.refusal(key, values.get(key), value, len(values), content.size_bytes) is None
        ):
            row = (SET, key, value)  # As _do does it, without the call: nearly all changes are this.
            content.apply(self._version, (row,))
            self._changes.append(row)
        else:
            self.deny(event)

    def _remove(self, event: Event) -> None:
        key = event.key or ""
        if not self._rights & _DELETE:
            self.deny(event)
        elif key in self._shared.content.values:
            self._do((REMOVE, key, b""))
        else:
            self._own[REMOVE, key] = None

    def _send(self, event: Event) -> None:
        if self._rights & _SEND and event.value is not None and sound_arguments(event.value):
            self._changes.append((SEND, "", event.value))
        else:
            self.deny(event)

    def _clear(self, event: Event) -> None:
        if not self._rights & _DELETE:
            self.deny(event)
        elif self._shared.content.values:
            self._do((CLEAR, "", b""))
        else:
            self._own[CLEAR, ""] = None

    def _do(self, row: Row) -> None:
        self._shared.content.apply(self._version, (row,))
        self._changes.append(row)

    def deny(self, event: Event, code: str = StatusCode.OBJECT_NO_WRITE_ACCESS) -> None:
        """Status, and the slot as it is: the client takes its own change back."""
        kind = event.type
        if kind in (_REQUEST_CHANGE, _REQUEST_REMOVE):
            self._own[REMOVE, event.key or ""] = None
        elif kind == _REQUEST_CLEAR:
            self._own[CLEAR, ""] = None
        elif kind != SEND:
            return
        self._shared.count_refusal()
        self._own[_STATUS, str(code)] = None

    def answer(self, session: "Session") -> None:
        """Remove stands for a slot as it is now, Clear for all of them. They come last, and Success (of a slot set to nothing
        that was not there) only when nothing was committed: behind a commit a client could take it for the answer to another
        change of that slot."""
        own = self._own
        if self._changes:
            own = {(REMOVE if kind == _SUCCESS else kind, text): None for kind, text in own}
        if own:
            self._shared.answer(session, sorted(own, key=lambda row: _ANSWER_ORDER.index(row[0])))
