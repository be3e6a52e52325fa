"""SharedObjects on the edge: one update in, one encoding per AMF version, every local member out.

The edge has the content once, and keeps it up to date as long as the origin has the object open here; it tells joining members,
and who asks in vain for a change, what it holds. The link keeps the order, so that is what the origin held when it said so.

Values travel AMF0-framed; an AMF3 client gets each behind the 0x11 marker (FACTS: the body stays AMF0-framed).
The requester of a change gets Success where the others get Change (RTMP 1.0, section 7.1.3).

A member for whom too much is queued gets no more changes of others; what it misses is merged, and it gets the last value of each
slot once its queue has drained. Answers to its own requests and messages (`send`) are never left out: who asks for more of them
than it reads is closed at the limit of its queue.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headwater_amf import AmfError
from headwater_bus.logs import get_log
from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.errors import RtmpError
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import (
    EventType,
    arguments_for,
    encode_event,
    encode_header,
    encode_status,
    value_for,
)

from headwater_edge.counters import Counters

if TYPE_CHECKING:
    from headwater_edge.client import Client

_log = get_log("edge")
_CHANGE, _SUCCESS, _SEND = int(EventType.CHANGE), int(EventType.SUCCESS), int(EventType.SEND_MESSAGE)
_CLEAR, _REMOVE, _STATUS = int(EventType.CLEAR), int(EventType.REMOVE), int(EventType.STATUS)
_MISSED_SLOTS = 4096
"""A member that missed more gets the whole content instead."""


class _Changes:
    """Which slots have changed since some member fell behind. A member is behind a commit, known by its number: so one commit
    is noted once, however many members are slow."""

    __slots__ = ("_at", "_everything", "number")

    def __init__(self) -> None:
        self.number = 0
        """Of the last commit that was noted."""
        self._at: dict[str, int] = {}
        """Slots by the commit that changed them last, in that order."""
        self._everything = 0
        """Who lacks this commit lacks more than `_at` tells: all was cleared, or too much has changed."""

    def note(self, events: Sequence[Any]) -> None:
        """Take a commit's events: [event type, key, value] each."""
        self.number += 1
        at = self._at
        for kind, key, _ in events:
            if kind == _CLEAR:
                at.clear()
                self._everything = self.number
            elif kind != _SEND:
                at.pop(key, None)
                at[key] = self.number
        while len(at) > _MISSED_SLOTS:
            self._everything = at.pop(next(iter(at)))

    def since(self, number: int) -> list[str] | None:
        """Slots that changed after that commit, in the order of their last change; None: all of them, and some are gone."""
        if number < self._everything:
            return None
        keys: list[str] = []
        for key, at in reversed(self._at.items()):
            if at <= number:
                break
            keys.append(key)
        return keys[::-1]

    def forget(self) -> None:
        """Nobody is behind any more."""
        self._at.clear()
        self._everything = self.number


class ObjectFanout:
    """One SharedObject on this edge: a replica of its slots and its local members, by session number."""

    __slots__ = (
        "_changes",
        "_chunk_size",
        "_contents",
        "_counters",
        "_joined",
        "_missed",
        "members",
        "name",
        "persistent",
        "slots",
        "version",
    )

    def __init__(
        self,
        name: str,
        persistent: bool,
        version: int,
        slots: Mapping[str, bytes],
        chunk_size: int,
        counters: Counters,
    ) -> None:
        self.name, self.persistent = name, persistent
        self.members: dict[int, Client] = {}
        self.slots = dict(slots)
        self.version = version
        self._chunk_size = chunk_size
        self._counters = counters
        self._contents: dict[bool, bytes] = {}
        """The events Clear and Change for all slots, by AMF version; empty after a change."""
        self._joined: dict[bool, bytes] = {}
        """What a joining member gets, in chunks; likewise."""
        self._changes = _Changes()
        self._missed: dict[int, int] = {}
        """Slow members, and up to which commit each has all."""

    def join(self, session: int, client: "Client") -> None:
        """A session uses the object: UseSuccess, Clear and the whole content."""
        self.members[session] = client
        self._has_all(session)
        chunks = self._joined.get(client.amf3)
        if chunks is None:
            events = (encode_event(EventType.USE_SUCCESS), self._content(client.amf3))
            chunks = self._joined[client.amf3] = self._chunks(events, client.amf3)
        client.enqueue(chunks)

    def leave(self, session: int) -> None:
        """A session uses it no longer; unknown ones are ignored."""
        self.members.pop(session, None)
        self._has_all(session)

    def update(self, version: int, requester: int, events: Sequence[Any]) -> None:
        """Apply one commit and fan it out: [event type, key, value] each, asked for by the session `requester` (0: of nobody
        here). Members get it in the order of commits, the requester its own answers in place."""
        self._counters.object_updates += 1
        self._apply(version, events)
        shared: dict[bool, bytes] = {}
        noted = False
        # A copy: a member that is closed because its queue is full leaves on the spot.
        for session, client in list(self.members.items()):
            if client.closed:
                continue
            amf3 = client.amf3
            if client.objects_full or session in self._missed:
                if not noted:
                    noted = True
                    self._changes.note(events)
                    silent = sum(kind != _SEND for kind, _, _ in events)
                self._merge(session, client, events, silent, session == requester)
            elif session == requester:
                client.enqueue(self._chunks([self._own(event, amf3) for event in events], amf3))
            else:
                chunks = shared.get(amf3)
                if chunks is None:
                    body = [self._event(kind, key, value, amf3) for kind, key, value in events]
                    chunks = shared[amf3] = self._chunks(body, amf3)
                client.enqueue(chunks)
            self._counters.object_deliveries += 1

    def _apply(self, version: int, events: Sequence[Any]) -> None:
        if version != self.version:
            self.version = version
            self._contents.clear()
            self._joined.clear()
        for kind, key, value in events:
            if kind == _CHANGE:
                self.slots[key] = value
            elif kind == _REMOVE:
                self.slots.pop(key, None)
            elif kind == _CLEAR:
                self.slots.clear()

    def answer(self, session: int, rows: Iterable[Any]) -> None:
        """Tell one member alone: [event type, text] each, see ObjectAnswer."""
        client = self.members.get(session)
        if client is None or client.closed:
            return
        events: list[bytes] = []
        for kind, text in rows:
            if kind == _STATUS:
                events.append(encode_status(text))
            elif kind == _SUCCESS:
                events.append(encode_event(_SUCCESS, text))
            elif kind == _REMOVE:
                events.append(self._slot(text, client.amf3))
            elif kind == _CLEAR:
                events.append(self._content(client.amf3))
                if session in self._missed:
                    self._missed[session] = self._changes.number
        client.enqueue(self._chunks(events, client.amf3))

    # Slow members

    def _merge(self, session: int, client: "Client", events: Sequence[Any], silent: int, own: bool) -> None:
        """A slow member misses a commit, which was noted: answers to its own requests (`own`: these are) and messages go out.
        `silent`: how many of the events are none."""
        since = self._missed.get(session)
        if since is None:
            since = self._missed[session] = self._changes.number - 1
            if client.behind is None:
                client.behind = set()
            client.behind.add(self)
        if not own:
            self._counters.object_merges += silent
            if silent == len(events):
                return
        amf3 = client.amf3
        urgent: list[bytes] = []
        for event in events:
            kind, key, value = event
            if kind == _SEND:
                # It may speak of the changes before it, so they go first.
                urgent += self._lacking(since, amf3)
                since = self._missed[session] = self._changes.number
            if kind == _SEND or own:
                urgent.append(self._own(event, amf3) if own else self._event(kind, key, value, amf3))
        client.enqueue(self._chunks(urgent, amf3))

    def _lacking(self, since: int, amf3: bool) -> list[bytes]:
        """The events that bring a member up to date which has all up to a commit."""
        keys = self._changes.since(since)
        return [self._content(amf3)] if keys is None else [self._slot(key, amf3) for key in keys]

    def _has_all(self, session: int) -> int | None:
        """A member is behind no more; returns the commit up to which it had all, None where it was not behind."""
        since = self._missed.pop(session, None)
        if since is not None and not self._missed:
            self._changes.forget()
        return since

    def catch_up(self, client: "Client") -> None:
        """The queue of a member that missed something has drained."""
        since = self._missed.get(client.session)
        events = [] if since is None or client.closed else self._lacking(since, client.amf3)
        self._has_all(client.session)
        if events:
            client.enqueue(self._chunks(events, client.amf3))

    # Encoding

    def _content(self, amf3: bool) -> bytes:
        """Clear, and a Change for each slot."""
        events = self._contents.get(amf3)
        if events is None:
            changes = [self._slot(key, amf3) for key in self.slots]
            events = self._contents[amf3] = encode_event(_CLEAR) + b"".join(changes)
        return events

    def _slot(self, key: str, amf3: bool) -> bytes:
        value = self.slots.get(key)
        return encode_event(_REMOVE, key) if value is None else self._event(_CHANGE, key, value, amf3)

    def _own(self, event: Any, amf3: bool) -> bytes:
        """An event as the member reads it who has asked for it. A Remove with a value answers a change to nothing."""
        kind, key, value = event
        if kind == _CHANGE or (kind == _REMOVE and value):
            return encode_event(_SUCCESS, key)
        return self._event(kind, key, value, amf3)

    def _event(self, kind: int, key: str, value: bytes, amf3: bool) -> bytes:
        try:
            if kind == _CHANGE:
                return encode_event(kind, key, value_for(value, amf3))
            if kind == _SEND:
                return encode_event(kind, None, arguments_for(value, amf3))
        except (AmfError, RtmpError) as error:
            # The origin checks what clients set; this is an application's, and the others' changes must not suffer.
            self._counters.internal_errors += 1
            _log.error("value not encoded", object=self.name, slot=key, error=str(error))
            return encode_event(_REMOVE, key) if kind == _CHANGE else b""
        return encode_event(kind, key if kind == _REMOVE else None)

    def _chunks(self, events: Iterable[bytes], amf3: bool) -> bytes:
        payload = encode_header(self.name, self.version, self.persistent, amf3) + b"".join(events)
        type_id = MessageType.SHARED_OBJECT_AMF3 if amf3 else MessageType.SHARED_OBJECT_AMF0
        return encode_message(Message(type_id, 0, 0, payload), csid_for(type_id), self._chunk_size)
