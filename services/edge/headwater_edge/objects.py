"""SharedObjects on the edge: one update in, one encoding per AMF version, every local member out.

Updates gather until `flush`, and leave as one message that members share (see `object_flush`). What a member has asked for it is
told at once, behind all that came before; and so is what is pending before anything else is said to a client (`tell_pending`).

The edge has the content once, and keeps it up to date as long as the origin has the object open here; it tells joining members,
and who asks in vain for a change, what it holds. The link keeps the order, so that is what the origin held when it said so. A
commit whose count is not the next makes the replica stale: it is asked for anew, and the members are told what differs.

A member for whom too much is queued gets no more changes of others. The version that it has is noted, and once its queue has
drained it gets the last value of each slot that is newer. Answers to its own requests and messages (`send`) are never left out:
who asks for more of them than it reads is closed at the limit of its queue.

A member that no origin goes on with yet is away: the replica is brought up to date for all, what the member has missed is held
back until the origin says up to which commit it is to be told, as it has missed more than this object.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headwater_rtmp.shared_object import EventType, encode_event, encode_status
from headwater_rtmp.slots import Slots

from headwater_edge.counters import Counters
from headwater_edge.object_held import HeldBack, HeldCommit
from headwater_edge.object_messages import CommitEvents, ObjectWriter
from headwater_edge.object_pending import Pending, tell_pending

if TYPE_CHECKING:
    from headwater_edge.client import Client
    from headwater_edge.groups import EdgeGroup

ObjectKey = tuple[str, bool]
"""Name and persistence."""
_SUCCESS, _SEND, _STATUS = int(EventType.SUCCESS), int(EventType.SEND_MESSAGE), int(EventType.STATUS)
_CLEAR, _REMOVE = int(EventType.CLEAR), int(EventType.REMOVE)
_NOTHING = -1
"""The version of who has nothing that a difference could begin with."""
_KEPT_JOINS = 16
"""Answers to joins that are kept until the next change: one for each AMF version and version that clients come back with."""


class ObjectFanout:
    """One SharedObject on this edge: a replica of its slots and its local members, by the numbers of their attachments.

    `number` is that of the link over which its commits come, 0 while its `group` has no origin that has named it.
    """

    __slots__ = (
        "_ahead",
        "_away",
        "_contents",
        "_counters",
        "_held",
        "_joined",
        "_missed",
        "_pending",
        "_prompt",
        "_restored",
        "_writer",
        "events",
        "gathered",
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
        self._counters = counters
        self._writer = ObjectWriter(name, persistent, chunk_size, counters)
        self._pending = Pending(self._writer)
        """Commits that not all members were told."""
        self.gathered = self._pending.commits
        """Those, the same list: whether there are any is asked for each of a client's objects before it is told anything."""
        self._ahead: dict[int, int] = {}
        """Who was told some of them: how many."""
        self._prompt: dict[int, Client] = {}
        """Members that nothing gathers for: what is said of them to origins, or stored, is that they were told."""
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
        self._held = HeldBack()
        """While there are some: what was committed since."""

    def join(self, number: int, client: "Client", since: int) -> None:
        """A member uses the object and has version `since`, or nothing (-1): UseSuccess, and the difference, or Clear and the
        whole content."""
        if not tell_pending(client):
            return
        self._enter(number, client)
        self._missed.pop(number, None)
        self._no_longer_away(number)
        amf3 = client.amf3
        if not self.slots.base <= since <= self.slots.version:
            since = _NOTHING
        chunks = self._joined.get((amf3, since))
        if chunks is None:
            if len(self._joined) >= _KEPT_JOINS:
                self._joined.clear()
            events = encode_event(EventType.USE_SUCCESS) + self._newer(since, amf3)
            chunks = self._joined[amf3, since] = self._writer.message(events, self.slots.version, amf3)
        client.enqueue(chunks)

    def _enter(self, number: int, client: "Client") -> None:
        self.members[number] = client
        if client.holds:
            self._prompt[number] = client
        self._has_all(number)

    def leave(self, number: int) -> None:
        """A member uses it no longer; unknown ones are ignored."""
        self.members.pop(number, None)
        self._prompt.pop(number, None)
        self._ahead.pop(number, None)
        self._missed.pop(number, None)
        self._no_longer_away(number)

    def update(self, version: int, count: int, requester: int, events: CommitEvents) -> bool:
        """Apply commit number `count`: [event type, key, value] each, asked for by the member `requester` (0: of nobody here),
        which is told at once, its own answers in place. Members get it in the order of commits. False: the replica lacks a
        commit, and has to be asked for; this is said once."""
        if self.stale or count != self.events + 1:
            return self._unapplied(requester, events)
        self.events = count
        self._counters.object_updates += 1
        before = self.slots.version
        if version != before:
            self._contents.clear()
            self._joined.clear()
        if self._away:
            self._hold(HeldCommit(version, count, requester, events))
        client = self.members.get(requester)
        if client is not None:
            tell_pending(client)
        self.slots.apply(version, events)
        if self.members:
            self._gather(version, requester, events, before)
        return True

    def _gather(self, version: int, requester: int, events: CommitEvents, before: int) -> None:
        """Tell those of a commit at once who do not wait for the next flush, see to it that the others get it."""
        gathered, members, missed, away = self.gathered, self.members, self._missed, self._away
        at_once = list(missed)
        if requester in members and requester not in missed:
            at_once.append(requester)
        is_full = len(at_once) < len(members) and self._pending.add(before, version, events)
        for number in at_once:
            if number in away:
                continue
            client = members[number]
            self._has_all(number)
            self._counters.object_deliveries += 1
            own = number == requester
            if number in missed or (client.objects_full and any(kind != _SEND for kind, _, _ in events)):
                self._merge(number, client, events, before, own)
            else:
                amf3 = client.amf3
                client.enqueue(self._writer.message(self._writer.commit(events, amf3, own), version, amf3))
        # A copy: a member that is closed because its queue is full leaves on the spot.
        for number, client in list(self._prompt.items()):
            if self.owes(number):
                self.tell(number, client)
        some_wait = len(at_once) < len(members) and not (self._prompt or away)
        if is_full:
            self.flush()
        elif gathered and not (some_wait or any(map(self.owes, members))):
            self._told_all()

    def _unapplied(self, requester: int, events: CommitEvents) -> bool:
        """A commit before this one is missing. Who asked for this one is answered all the same, as Flash sends no further change
        before it was; it gets the whole content once its queue has drained. Returns whether the content is asked for already."""
        client = self.members.get(requester)
        answers = [event for event in events if event[0] != _SEND]
        if client is not None and answers and requester not in self._away and tell_pending(client):
            self._fall_behind(requester, client, _NOTHING)
            body = self._writer.commit(answers, client.amf3, own=True)
            client.enqueue(self._writer.message(body, 0, client.amf3))
        asked, self.stale = self.stale, True
        self._counters.object_resyncs += not asked
        return asked

    def replace(self, slots: Slots, events: int) -> None:
        """The replica as the origin has it now, up to commit `events`: members are told what differs, slow ones get the whole
        content once they have caught up. Those that are away are told nothing: the origin sees to it that they get everything."""
        self.flush()
        self._held.clear()
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
            tell_pending(client)
            if client.objects_full:
                self._fall_behind(number, client, _NOTHING)
                continue
            amf3 = client.amf3
            if amf3 not in shared:
                body = b"".join([self._slot(key, amf3) for key in keys])
                shared[amf3] = self._writer.message(body, slots.version, amf3)
            client.enqueue(shared[amf3])

    def answer(self, number: int, rows: Iterable[Any]) -> None:
        """Tell one member alone: [event type, text] each, see ObjectAnswer."""
        client = self.members.get(number)
        if client is None or client.closed:
            return
        tell_pending(client)
        events: list[bytes] = []
        amf3 = client.amf3
        away = self._away.get(number)
        now = self.slots.values
        values = now if away is None else self._held.values_behind(now, away[1])
        for kind, text in rows:
            if kind == _STATUS:
                events.append(encode_status(text))
            elif kind == _SUCCESS:
                events.append(encode_event(_SUCCESS, text))
            elif kind == _REMOVE:
                events.append(self._writer.slot(text, values.get(text), amf3))
            elif kind == _CLEAR and away is None:
                events.append(self._content(amf3))
                if number in self._missed:
                    self._missed[number] = self.slots.version
            elif kind == _CLEAR:
                events.append(self._writer.content(values, amf3))
        has = self._missed.get(number, self.slots.version if away is None else away[0])
        client.enqueue(self._writer.message(b"".join(events), max(has, 0), amf3))

    # What is pending

    def flush(self) -> None:
        """Tell every member what it was not told yet. A client is closed only after the others have it: that removes members."""
        if not self.gathered:
            return
        broken: list[tuple[Client, OSError]] = []
        try:
            for number, client in self._share(broken):
                if self.owes(number):
                    tell_pending(client)
        finally:
            self._told_all()
        for client, failure in broken:
            client.close(f"socket: {failure.strerror}", gone=True)

    def _share(self, broken: list[tuple["Client", OSError]]) -> list[tuple[int, "Client"]]:
        """Send all that is pending to those who get just that, and return the others. The hot loop: whatever Python does in it
        beside the send counts for every member and flush."""
        pending, count = self._pending, len(self._pending.commits)
        apart = {*self._ahead, *self._missed, *self._away}
        others: list[tuple[int, Client]] = []
        shared: dict[bool, bytes] = {}
        total = told = 0
        for number, client in self.members.items():
            if client.outbox is not None or number in apart or len(client.objects) > 1:  # type: ignore[arg-type]  # it has one
                others.append((number, client))
                continue
            amf3 = client.amf3
            chunks = shared.get(amf3)
            if chunks is None:
                chunks = shared[amf3] = pending.message(0, count, amf3)
            try:
                sent = client.sock.send(chunks)  # type: ignore[union-attr]  # without an outbox it has one
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                broken.append((client, error))
                continue
            if sent != len(chunks):
                client.queue_rest(chunks, sent)  # type: ignore[attr-defined]  # as above
            total += sent
            told += 1
        self._counters.bytes_out += total
        self._counters.object_deliveries += told * count
        return others

    def _told_all(self) -> None:
        self._pending.clear()
        self._ahead.clear()

    def _has_all(self, number: int) -> None:
        """A member needs nothing of what is pending."""
        if self.gathered:
            self._ahead[number] = len(self.gathered)

    def owes(self, number: int) -> bool:
        """Whether a member has yet to be told something that is pending. One that is slow or away is told it another way."""
        return (
            self._ahead.get(number, 0) < len(self.gathered)
            and number in self.members
            and number not in self._missed
            and number not in self._away
        )

    def turns_of(self, number: int) -> list[tuple[int, int]]:
        """What a member has yet to be told: the place of each commit among those of all objects, and in what is pending."""
        start = self._ahead.get(number, 0)
        return list(zip(self._pending.turns[start:], range(start, len(self._pending.turns)), strict=True))

    def tell(self, number: int, client: "Client", count: int | None = None) -> None:
        """Queue what is pending for a member to which that is owed, or only the first `count` of it."""
        pending = self._pending
        everything = len(pending.commits)
        start = self._ahead.get(number, 0)
        end = behind = everything if count is None else count
        self._ahead[number] = end
        self._counters.object_deliveries += end - start
        if end == everything and client.objects_full:
            # What is said, it gets, and the changes before that; the rest it misses.
            behind = max(start, pending.said)
        if behind < end:
            self._counters.object_merges += sum(map(len, pending.commits[behind:end]))
            self._fall_behind(number, client, pending.versions[behind])
        if behind > start:
            client.enqueue(pending.message(start, behind, client.amf3))

    # Members that are away

    def goes_away(self, number: int) -> None:
        """No origin has a member any more: until one goes on with it, it is told nothing."""
        client = self.members.get(number)
        if client is not None and number not in self._away and tell_pending(client):
            self._away[number] = (self.slots.version, self.events)

    def member_state(self, number: int) -> tuple[int, int]:
        """What a member was told: version and count. One that is slow lacks changes since its version, but has every message and
        answer up to the count."""
        version, count = self.told(number)
        return self._missed.get(number, version), count

    def restore(self, number: int, client: "Client", told: tuple[int, int]) -> None:
        """A member that another edge had, which was `told` so much. Until its origin goes on with it, it is away."""
        self._enter(number, client)
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
        if client is None or number not in self._away or not tell_pending(client):
            return
        if told > self._away[number][1]:
            known = self._held.between(told - 1, told)
            self._away[number] = (known[0].version if known else self.slots.version, told)
        self._let_out(number, client, self.events if count < 0 else count)
        if count < 0 and number in self._away:
            self._no_longer_away(number)
            self._has_all(number)
            if number in self._missed:
                self._fall_behind(number, client, self._missed[number])
                if not client.objects_full:
                    self.catch_up(number, client)

    def _let_out(self, number: int, client: "Client", count: int) -> None:
        """Also a slow member gets all of it: more than is held back this cannot be."""
        version, told = self._away[number]
        slow = self._missed.get(number)
        amf3 = client.amf3
        for held in self._held.between(told, count):
            if client.closed:
                break
            version, told = held.version, held.count
            own = number == held.requester
            chunks = None if own or slow is not None else held.chunks.get(amf3)
            if chunks is None:
                body = self._writer.commit(held.events, amf3, own)
                chunks = self._writer.message(body, version if slow is None else max(slow, 0), amf3)
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

    def _hold(self, commit: HeldCommit) -> None:
        """Hold a commit back that is about to be applied."""
        self._held.hold(commit, self.slots.values)
        while oldest := self._held.oldest:
            for number, (_, told) in list(self._away.items()):
                if told < oldest:
                    self._let_out(number, self.members[number], oldest)
            # Nothing is held any more, where the last one that was away is closed, with all that was queued for it.
            self._held.drop_oldest()

    # Slow members

    def _fall_behind(self, number: int, client: "Client", version: int) -> None:
        self._missed[number] = version
        if client.behind is None:
            client.behind = {}
        client.behind[self] = number

    def _merge(self, number: int, client: "Client", events: CommitEvents, before: int, own: bool) -> None:
        """A slow member misses a commit, `before` which the version was another: answers to its own requests (`own`: these are)
        and messages go out."""
        if number not in self._missed:
            self._fall_behind(number, client, before)
        has = self._missed[number]
        if not own:
            changes = sum(kind != _SEND for kind, _, _ in events)
            self._counters.object_merges += changes
            if changes == len(events):
                return
        amf3 = client.amf3
        urgent: list[bytes] = []
        for event in events:
            if event[0] == _SEND:
                # It may speak of the changes before it, so they go first.
                urgent.append(self._newer(has, amf3))
                has = self._missed[number] = self.slots.version
            if event[0] == _SEND or own:
                urgent.append(self._writer.commit([event], amf3, own))
        tell_pending(client)
        client.enqueue(self._writer.message(b"".join(urgent), max(has, 0), amf3))

    def catch_up(self, number: int, client: "Client") -> None:
        """The queue of a member that missed something has drained."""
        if number in self._away:
            return  # It is seen to when it is back.
        has = self._missed.pop(number, None)
        if has is None or client.closed:
            return
        amf3 = client.amf3
        events = self._newer(has, amf3)
        if events:
            tell_pending(client)
            client.enqueue(self._writer.message(events, self.slots.version, amf3))

    def _newer(self, version: int, amf3: bool) -> bytes:
        """The events that bring who has a version up to date."""
        keys = self.slots.since(version)
        return self._content(amf3) if keys is None else b"".join([self._slot(key, amf3) for key in keys])

    def _content(self, amf3: bool) -> bytes:
        """Clear, and a Change for each slot."""
        events = self._contents.get(amf3)
        if events is None:
            events = self._contents[amf3] = self._writer.content(self.slots.values, amf3)
        return events

    def _slot(self, key: str, amf3: bool) -> bytes:
        return self._writer.slot(key, self.slots.values.get(key), amf3)


def _differing(old: dict[str, bytes], new: Slots) -> list[str]:
    """Slots that are not in both with the same value, deleted ones that nobody remembers first, in the order of changes."""
    rows = new.rows()
    known = {key for key, _, _ in rows}
    forgotten = [key for key in old if key not in known]
    return forgotten + [key for key, value, _ in rows if value != old.get(key, b"")]
