"""SharedObjects on the edge: one update in, one encoding per AMF version, every local member out.

The edge has the content once, and keeps it up to date as long as the origin has the object open here; it tells joining members,
and who asks in vain for a change, what it holds. The link keeps the order, so that is what the origin held when it said so. A
commit whose count is not the next makes the replica stale: it is asked for anew, and the members are told what differs.

Values travel AMF0-framed; an AMF3 client gets each behind the 0x11 marker (FACTS: the body stays AMF0-framed).
The requester of a change gets Success where the others get Change (RTMP 1.0, section 7.1.3).

A member for whom too much is queued gets no more changes of others. The version that it has is noted, and once its queue has
drained it gets the last value of each slot that is newer. Answers to its own requests and messages (`send`) are never left out:
who asks for more of them than it reads is closed at the limit of its queue.

A member that no origin goes on with yet is away: the replica is brought up to date for all, what the member has missed is held
back until the origin says up to which commit it is to be told, as it has missed more than this object.
"""

from collections import deque
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
from headwater_rtmp.slots import Slots

from headwater_edge.counters import Counters

if TYPE_CHECKING:
    from headwater_edge.client import Client
    from headwater_edge.groups import EdgeGroup

ObjectKey = tuple[str, bool]
"""Name and persistence."""
_log = get_log("edge")
_CHANGE, _SUCCESS, _SEND = int(EventType.CHANGE), int(EventType.SUCCESS), int(EventType.SEND_MESSAGE)
_CLEAR, _REMOVE, _STATUS = int(EventType.CLEAR), int(EventType.REMOVE), int(EventType.STATUS)
_NOTHING = -1
"""The version of who has nothing that a difference could begin with."""
_KEPT_JOINS = 16
"""Answers to joins that are kept until the next change: one for each AMF version and version that clients come back with."""
_MOST_HELD, _MOST_HELD_BYTES = 1000, 1024 * 1024
"""Commits that are held back, of one object; over either the oldest is told at once, out of its order with other things."""
_COMMIT_BYTES = 200
"""What one takes beside its keys and values, about."""


class _Held:
    """A commit that members who are away were not told. `before`: what the slots were that it has changed. `chunks`: for others
    than who asked for it, by AMF version."""

    __slots__ = ("before", "chunks", "count", "events", "requester", "size_bytes", "version")

    def __init__(
        self,
        version: int,
        count: int,
        requester: int,
        events: Sequence[Any],
        before: dict[str, bytes | None],
    ) -> None:
        self.version, self.count, self.requester, self.events = version, count, requester, events
        self.before = before
        self.chunks: dict[bool, bytes] = {}
        self.size_bytes = _COMMIT_BYTES + sum(len(key) + len(value) for _, key, value in events)


class ObjectFanout:
    """One SharedObject on this edge: a replica of its slots and its local members, by the numbers of their attachments.

    `number` is that of the link over which its commits come, 0 while its `group` has no origin that has named it.
    """

    __slots__ = (
        "_away",
        "_chunk_size",
        "_contents",
        "_counters",
        "_held",
        "_held_bytes",
        "_joined",
        "_missed",
        "_restored",
        "events",
        "group",
        "members",
        "name",
        "number",
        "persistent",
        "slots",
        "stale",
    )

    def __init__(
        self, name: str, persistent: bool, slots: Slots, events: int, chunk_size: int, counters: Counters
    ) -> None:
        self.name, self.persistent = name, persistent
        self.group: EdgeGroup | None = None
        self.number = 0
        self.members: dict[int, Client] = {}
        self.slots = slots
        self.events = events
        """The count of commits (see ObjectUpdate) up to which the replica has all."""
        self.stale = False
        """Whether it lacks a commit: updates mean nothing until it is replaced."""
        self._chunk_size = chunk_size
        self._counters = counters
        self._contents: dict[bool, bytes] = {}
        """The events Clear and Change for all slots, by AMF version; empty after a change."""
        self._joined: dict[tuple[bool, int], bytes] = {}
        """What a joining member gets, in chunks, by the version that it has too; likewise."""
        self._missed: dict[int, int] = {}
        """Slow members, and the version that each has."""
        self._away: dict[int, tuple[int, int]] = {}
        """Members that are away, and the version and count of the last commit that each was told."""
        self._restored: dict[int, tuple[int, int]] = {}
        """Those of them that another edge had: what each was told there."""
        self._held: deque[_Held] = deque()
        """While there are some: what was committed since."""
        self._held_bytes = 0

    def join(self, number: int, client: "Client", since: int) -> None:
        """A member uses the object and has version `since`, or nothing (-1): UseSuccess, and the difference, or Clear and the
        whole content."""
        self.members[number] = client
        self._missed.pop(number, None)
        self._no_longer_away(number)
        amf3 = client.amf3
        if not self.slots.base <= since <= self.slots.version:
            since = _NOTHING
        chunks = self._joined.get((amf3, since))
        if chunks is None:
            if len(self._joined) >= _KEPT_JOINS:
                self._joined.clear()
            events = [encode_event(EventType.USE_SUCCESS), *self._newer(since, amf3)]
            chunks = self._joined[amf3, since] = self._chunks(events, amf3)
        client.enqueue(chunks)

    def leave(self, number: int) -> None:
        """A member uses it no longer; unknown ones are ignored."""
        self.members.pop(number, None)
        self._missed.pop(number, None)
        self._no_longer_away(number)

    def update(self, version: int, count: int, requester: int, events: Sequence[Any]) -> bool:
        """Apply commit number `count` and fan it out: [event type, key, value] each, asked for by the member `requester` (0: of
        nobody here). Members get it in the order of commits, the requester its own answers in place. False: the replica lacks
        a commit, and has to be asked for; this is said once."""
        if self.stale or count != self.events + 1:
            return self._unapplied(requester, events)
        self.events = count
        self._counters.object_updates += 1
        before = self.slots.version
        if version != before:
            self._contents.clear()
            self._joined.clear()
        if self._away:
            self._hold(version, count, requester, events)
        self.slots.apply(version, events)
        shared: dict[bool, bytes] = {}
        missed = self._missed
        changes = sum(kind != _SEND for kind, _, _ in events)
        # A copy: a member that is closed because its queue is full leaves on the spot.
        for number, client in list(self.members.items()):
            if client.closed or number in self._away:
                continue
            amf3 = client.amf3
            if number in missed or (client.objects_full and changes):
                self._merge(number, client, events, before, changes, number == requester)
            elif number == requester:
                client.enqueue(self._chunks([self._own(event, amf3) for event in events], amf3))
            else:
                chunks = shared.get(amf3)
                if chunks is None:
                    body = [self._event(kind, key, value, amf3) for kind, key, value in events]
                    chunks = shared[amf3] = self._chunks(body, amf3)
                client.enqueue(chunks)
            self._counters.object_deliveries += 1
        return True

    def _unapplied(self, requester: int, events: Sequence[Any]) -> bool:
        """A commit before this one is missing. Who asked for this one is answered all the same, as Flash sends no further change
        before it was; it gets the whole content once its queue has drained. Returns whether the content is asked for already."""
        client = self.members.get(requester)
        if client is not None and not client.closed and requester not in self._away:
            amf3 = client.amf3
            answers = [self._own(event, amf3) for event in events if event[0] != _SEND]
            if answers:
                self._fall_behind(requester, client, _NOTHING)
                client.enqueue(self._chunks(answers, amf3, _NOTHING))
        asked, self.stale = self.stale, True
        self._counters.object_resyncs += not asked
        return asked

    def replace(self, slots: Slots, events: int) -> None:
        """The replica as the origin has it now, up to commit `events`: members are told what differs, slow ones get the whole
        content once they have caught up. Those that are away are told nothing: the origin sees to it that they get everything."""
        self._held.clear()
        self._held_bytes = 0
        for number, (_, told) in self._away.items():
            if told < events:
                self._away[number] = (_NOTHING, events)
        old, self.slots = self.slots.values, slots
        self.events, self.stale = events, False
        self._contents.clear()
        self._joined.clear()
        # What slow ones have is a version of the old replica: where the origin is another now, that may not be one of the new.
        self._missed = dict.fromkeys(self._missed, _NOTHING)
        keys = _differing(old, slots)
        if not keys:
            return
        shared: dict[bool, bytes] = {}
        for number, client in list(self.members.items()):
            if client.closed or number in self._missed or number in self._away:
                continue
            if client.objects_full:
                self._fall_behind(number, client, _NOTHING)
                continue
            amf3 = client.amf3
            if amf3 not in shared:
                shared[amf3] = self._chunks([self._slot(key, amf3) for key in keys], amf3)
            client.enqueue(shared[amf3])

    def answer(self, number: int, rows: Iterable[Any]) -> None:
        """Tell one member alone: [event type, text] each, see ObjectAnswer."""
        client = self.members.get(number)
        if client is None or client.closed:
            return
        events: list[bytes] = []
        amf3 = client.amf3
        away = self._away.get(number)
        values = self.slots.values if away is None else self._values_behind(away[1])
        for kind, text in rows:
            if kind == _STATUS:
                events.append(encode_status(text))
            elif kind == _SUCCESS:
                events.append(encode_event(_SUCCESS, text))
            elif kind == _REMOVE:
                events.append(self._slot(text, amf3, values))
            elif kind == _CLEAR and away is None:
                events.append(self._content(amf3))
                if number in self._missed:
                    self._missed[number] = self.slots.version
            elif kind == _CLEAR:
                events.append(self._all(amf3, values))
        has = self._missed.get(number, None if away is None else away[0])
        client.enqueue(self._chunks(events, amf3, has))

    # Members that are away

    def goes_away(self, number: int) -> None:
        """No origin has a member any more: until one goes on with it, it is told nothing."""
        if number in self.members and number not in self._away:
            self._away[number] = (self.slots.version, self.events)

    def member_state(self, number: int) -> tuple[int, int]:
        """What a member was told: version and count. One that is slow lacks changes since its version, but has every message and
        answer up to the count."""
        version, count = self.told(number)
        return self._missed.get(number, version), count

    def restore(self, number: int, client: "Client", told: tuple[int, int]) -> None:
        """A member that another edge had, which was `told` so much. Until its origin goes on with it, it is away."""
        self.members[number] = client
        # What comes behind either is held back from it: the origin tells it what lies between.
        self._away[number] = told if told[1] >= self.events else (self.slots.version, self.events)
        self._restored[number] = told

    def told(self, number: int) -> tuple[int, int]:
        """The version that a member has been told, and the count of the last commit that it has."""
        return self._restored.get(number) or self._away.get(number, (self.slots.version, self.events))

    def is_restored(self, number: int) -> bool:
        """Whether another edge had a member, and its origin has not gone on with it yet."""
        return number in self._restored

    def let_out(self, number: int, count: int, told: int = -1) -> None:
        """An origin goes on with a member, which is told what was held back up to commit `count`; -1: all, it is back. Up to
        commit `told` it has been told already."""
        client = self.members.get(number)
        if client is None or number not in self._away:
            return
        if told > self._away[number][1]:
            held = next((held for held in self._held if held.count == told), None)
            self._away[number] = (self.slots.version if held is None else held.version, told)
        self._let_out(number, client, self.events if count < 0 else count)
        if count < 0 and number in self._away:
            self._no_longer_away(number)
            if number in self._missed:
                self._fall_behind(number, client, self._missed[number])
                if not client.objects_full:
                    self.catch_up(number, client)

    def _let_out(self, number: int, client: "Client", count: int) -> None:
        """Also a slow member gets all of it: more than is held back this cannot be."""
        version, told = self._away[number]
        slow = self._missed.get(number)
        amf3 = client.amf3
        for held in list(self._held):
            if held.count <= told:
                continue
            if held.count > count or client.closed:
                break
            version, told = held.version, held.count
            own = number == held.requester
            chunks = None if own or slow is not None else held.chunks.get(amf3)
            if chunks is None:
                body = [
                    self._own(event, amf3) if own else self._event(event[0], event[1], event[2], amf3)
                    for event in held.events
                ]
                chunks = self._chunks(body, amf3, version if slow is None else slow)
                if not own and slow is None:
                    held.chunks[amf3] = chunks
            client.enqueue(chunks)
            self._counters.object_deliveries += 1
        if number in self._away:
            self._away[number] = (version, told)

    def _no_longer_away(self, number: int) -> None:
        self._restored.pop(number, None)
        if self._away.pop(number, None) is not None and not self._away:
            self._held.clear()
            self._held_bytes = 0

    def _hold(self, version: int, count: int, requester: int, events: Sequence[Any]) -> None:
        """Hold a commit back that is about to be applied."""
        values = self.slots.values
        before: dict[str, bytes | None] = {}
        for kind, key, _ in events:
            if kind == _CLEAR:
                for gone, value in values.items():
                    before.setdefault(gone, value)
            elif kind != _SEND:
                before.setdefault(key, values.get(key))
        held = _Held(version, count, requester, events, before)
        self._held.append(held)
        self._held_bytes += held.size_bytes
        while len(self._held) > _MOST_HELD or self._held_bytes > _MOST_HELD_BYTES:
            oldest = self._held[0]
            for number, (_, told) in list(self._away.items()):
                if told < oldest.count:
                    self._let_out(number, self.members[number], oldest.count)
            if not self._held:
                break  # The last one that was away is closed, with all that was queued for it.
            self._held.popleft()
            self._held_bytes -= oldest.size_bytes

    def _values_behind(self, count: int) -> dict[str, bytes]:
        """The slots as they were behind a commit, as far back as commits are held."""
        values = dict(self.slots.values)
        for held in reversed(self._held):
            if held.count <= count:
                break
            for key, value in held.before.items():
                if value is None:
                    values.pop(key, None)
                else:
                    values[key] = value
        return values

    # Slow members

    def _fall_behind(self, number: int, client: "Client", version: int) -> None:
        self._missed[number] = version
        if client.behind is None:
            client.behind = {}
        client.behind[self] = number

    def _merge(
        self, number: int, client: "Client", events: Sequence[Any], before: int, changes: int, own: bool
    ) -> None:
        """A slow member misses a commit, `before` which the version was another: answers to its own requests (`own`: these are)
        and messages go out. `changes`: how many of the events are no messages."""
        has = self._missed.get(number)
        if has is None:
            has = before
            self._fall_behind(number, client, has)
        if not own:
            self._counters.object_merges += changes
            if changes == len(events):
                return
        amf3 = client.amf3
        urgent: list[bytes] = []
        for event in events:
            kind, key, value = event
            if kind == _SEND:
                # It may speak of the changes before it, so they go first.
                urgent += self._newer(has, amf3)
                has = self._missed[number] = self.slots.version
            if kind == _SEND or own:
                urgent.append(self._own(event, amf3) if own else self._event(kind, key, value, amf3))
        client.enqueue(self._chunks(urgent, amf3, has))

    def catch_up(self, number: int, client: "Client") -> None:
        """The queue of a member that missed something has drained."""
        if number in self._away:
            return  # It is seen to when it is back.
        has = self._missed.pop(number, None)
        if has is None or client.closed:
            return
        events = self._newer(has, client.amf3)
        if events:
            client.enqueue(self._chunks(events, client.amf3))

    # Encoding

    def _newer(self, version: int, amf3: bool) -> list[bytes]:
        """The events that bring who has a version up to date."""
        keys = self.slots.since(version)
        return [self._content(amf3)] if keys is None else [self._slot(key, amf3) for key in keys]

    def _content(self, amf3: bool) -> bytes:
        """Clear, and a Change for each slot."""
        events = self._contents.get(amf3)
        if events is None:
            events = self._contents[amf3] = self._all(amf3, self.slots.values)
        return events

    def _all(self, amf3: bool, values: Mapping[str, bytes]) -> bytes:
        return encode_event(_CLEAR) + b"".join(self._slot(key, amf3, values) for key in values)

    def _slot(self, key: str, amf3: bool, values: Mapping[str, bytes] | None = None) -> bytes:
        value = (self.slots.values if values is None else values).get(key)
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

    def _chunks(self, events: Iterable[bytes], amf3: bool, has: int | None = None) -> bytes:
        """A message. `has`: the version that a slow member has apart from it; it must not come back with one of which it lacks
        a part."""
        version = self.slots.version if has is None else max(has, 0)
        payload = encode_header(self.name, version, self.persistent, amf3) + b"".join(events)
        type_id = MessageType.SHARED_OBJECT_AMF3 if amf3 else MessageType.SHARED_OBJECT_AMF0
        return encode_message(Message(type_id, 0, 0, payload), csid_for(type_id), self._chunk_size)


def _differing(old: dict[str, bytes], new: Slots) -> list[str]:
    """Slots that are not in both with the same value, deleted ones that nobody remembers first, in the order of changes."""
    rows = new.rows()
    known = {key for key, _, _ in rows}
    forgotten = [key for key in old if key not in known]
    return forgotten + [key for key, value, _ in rows if value != old.get(key, b"")]
