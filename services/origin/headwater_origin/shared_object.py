"""One SharedObject of a scope: its slots, its users by edge, and one commit at a time (RTMP 1.0, 7.1.3).

Every slot that a client asks to change is answered, with Success, Change or Remove: Flash sends no further change before it
was.

The content goes to an edge once, when its first user joins (`ObjectOpened`); from then on the edge has a replica, which each
commit brings up to date (`ObjectUpdate`, once per edge). Whoever joins later, or is told what a slot holds (`ObjectAnswer`),
gets that from the replica: the link keeps the order, so it holds what the origin held when it said so. So what a client
asks for never crosses the link in many times the bytes of the question.
"""

from typing import TYPE_CHECKING

from headwater_bus.rows import pack_rows
from headwater_bus.traffic import (
    ObjectAnswer,
    ObjectClosed,
    ObjectJoined,
    ObjectLeft,
    ObjectOpened,
    ObjectUpdate,
)
from headwater_rtmp.shared_object import (
    Event,
    EventType,
)
from headwater_rtmp.status import StatusCode

from headwater_origin.application import Access
from headwater_origin.slot_values import NOTHING, sound_arguments, sound_value

if TYPE_CHECKING:
    from headwater_origin.edge_port import EdgePort
    from headwater_origin.group import Group
    from headwater_origin.session import Session


_Own = dict[tuple[EventType, str], None]
"""What concerns a requester alone, each once: rows of an ObjectAnswer."""
_ANSWER_ORDER = (EventType.STATUS, EventType.SUCCESS, EventType.REMOVE, EventType.CLEAR)
_DENIED = (EventType.STATUS, str(StatusCode.OBJECT_NO_WRITE_ACCESS))
_LINK_CONTENT_BYTES = 64 * 1024 * 1024
"""An object is not opened on an edge to which more would be under way with it: half of what ends the link."""


class _Users:
    """The users of an object on one edge, and the object's number on that link."""

    __slots__ = ("idle_since", "number", "sessions")

    def __init__(self, number: int) -> None:
        self.number = number
        self.sessions: dict[Session, None] = {}
        self.idle_since = 0.0
        """Since when there are none; the edge keeps its replica a while, in case somebody comes back."""


class SharedObject:
    """One object. Slot values stay the bytes they came as. The version counts commits that changed a slot."""

    __slots__ = (
        "_group",
        "_users",
        "acquired",
        "idle_since",
        "name",
        "persistent",
        "size_bytes",
        "slots",
        "version",
    )

    def __init__(self, group: "Group", name: str, persistent: bool) -> None:
        self._group = group
        self.name, self.persistent = name, persistent
        self.version = 0
        self.slots: dict[str, bytes] = {}
        self.size_bytes = 0
        """Keys and values together."""
        self.acquired = False
        """Whether the application holds it."""
        self.idle_since: float | None = group.clock()
        self._users: dict[EdgePort, _Users] = {}

    # Users

    @property
    def users(self) -> int:
        """How many sessions use it."""
        return sum(len(users.sessions) for users in self._users.values())

    def crowded(self, edge: "EdgePort") -> bool:
        """Whether the edge lacks the content and has too much to take before it."""
        return edge not in self._users and edge.link.queued_bytes + self.size_bytes > _LINK_CONTENT_BYTES

    def join(self, session: "Session") -> None:
        """A session uses the object (again): its edge tells it the whole content."""
        edge = session.edge
        users = self._users.get(edge)
        if users is None:
            users = self._users[edge] = _Users(edge.next_number())
            content = pack_rows([*self.slots.items()])
            edge.link.send(ObjectOpened(users.number, self.name, self.persistent, self.version, content))
        users.sessions[session] = None
        self.idle_since = None
        edge.link.send(ObjectJoined(session.number, users.number))

    def leave(self, session: "Session", tell: bool) -> None:
        """A session uses it no longer. `tell`: its edge does not know yet."""
        users = self._users.get(session.edge)
        if users is None or users.sessions.pop(session, 0) == 0:
            return
        if tell:
            session.edge.link.send(ObjectLeft(session.number, users.number))
        if not users.sessions:
            users.idle_since = self._group.clock()
            if not self.users:
                self.idle_since = users.idle_since

    def close(self, before: float | None = None) -> None:
        """Free the replicas of the edges that have had no user since `before`; without it, all."""
        for edge, users in list(self._users.items()):
            if before is None or (not users.sessions and users.idle_since <= before):
                del self._users[edge]
                edge.link.send(ObjectClosed(users.number))

    # Changes

    def commit(self, changes: "list[tuple[int, str, bytes]]", requester: "Session | None") -> None:
        """Tell every edge once what has changed: (event type, key, value) each. A batch that changed slots is a new version."""
        if not changes:
            return
        if any(kind != EventType.SEND_MESSAGE for kind, _, _ in changes):
            self.version = (self.version + 1) & 0xFFFFFFFF
            self._group.counters.object_commits += 1
        if not self._users:
            return
        events = pack_rows(changes)
        for edge, users in self._users.items():
            number = requester.number if requester is not None and requester.edge is edge else 0
            self._group.counters.object_updates_out += 1
            edge.link.send(ObjectUpdate(users.number, self.version, number, events))

    def too_long(self, value: bytes) -> str | None:
        """Why a value, or the arguments of a `send`, cannot be that long, or None."""
        most = self._group.config.object_value_bytes
        return f"a value has at most {most} bytes" if len(value) > most else None

    def put(self, key: str, value: bytes) -> str | None:
        """Set a slot; returns why that is refused, or None."""
        config = self._group.config
        old = self.slots.get(key)
        if not key:
            return "the name of a slot is empty"
        if (problem := self.too_long(value)) is not None:
            return problem
        size = self.size_bytes + len(value) - (len(old) if old is not None else -len(key.encode()))
        if size > config.object_total_bytes:
            return f"an object has at most {config.object_total_bytes} bytes"
        if old is None and len(self.slots) >= config.object_slots:
            return f"an object has at most {config.object_slots} slots"
        self.slots[key] = value
        self.size_bytes = size
        return None

    def take(self, key: str) -> bool:
        """Delete a slot; returns whether it was there."""
        value = self.slots.pop(key, None)
        if value is None:
            return False
        self.size_bytes -= len(key.encode()) + len(value)
        return True

    def empty(self) -> bool:
        """Delete all slots; returns whether there were any."""
        had = bool(self.slots)
        self.slots.clear()
        self.size_bytes = 0
        return had

    def request(self, session: "Session", access: Access, events: "list[Event]") -> None:
        """Apply what one message of a client asks for, as one commit. Answers that are for the requester alone are sent behind
        it, so they say what the object holds by then, and so once for each slot, however often the message has named it."""
        changes: list[tuple[int, str, bytes]] = []
        own: _Own = {}
        writes = access >= Access.WRITE
        for event in events:
            kind = event.type
            if kind == EventType.REQUEST_CHANGE:
                self._change(event, writes, changes, own)
            elif kind == EventType.REQUEST_REMOVE:
                self._remove(event.key or "", writes, changes, own)
            elif kind == EventType.SEND_MESSAGE:
                if writes and event.value is not None and sound_arguments(event.value):
                    changes.append((EventType.SEND_MESSAGE, "", event.value))
                else:
                    self._deny(own)
            elif kind == EventType.REQUEST_CLEAR:
                self._clear(writes, changes, own)
        self.commit(changes, session)
        if own:
            self._answer(session, own, alone=not changes)

    def _change(self, event: Event, writes: bool, changes: list[tuple[int, str, bytes]], own: _Own) -> None:
        key, value = event.key or "", event.value or b""
        if not writes or not sound_value(value):
            self._deny_slot(key, own)
        elif value in NOTHING:
            # The value tells the edge that this Remove answers a change, so the requester gets Success.
            if self.take(key):
                changes.append((EventType.REMOVE, key, value))
            else:
                own[EventType.SUCCESS, key] = None
        elif self.put(key, value) is not None:
            self._deny_slot(key, own)
        else:
            changes.append((EventType.CHANGE, key, value))

    def _remove(self, key: str, writes: bool, changes: list[tuple[int, str, bytes]], own: _Own) -> None:
        if not writes:
            self._deny_slot(key, own)
        elif self.take(key):
            changes.append((EventType.REMOVE, key, b""))
        else:
            own[EventType.REMOVE, key] = None

    def _clear(self, writes: bool, changes: list[tuple[int, str, bytes]], own: _Own) -> None:
        if not writes:
            self._deny(own)
            own[EventType.CLEAR, ""] = None
        elif self.empty():
            changes.append((EventType.CLEAR, "", b""))
        else:
            own[EventType.CLEAR, ""] = None

    def _deny(self, own: _Own) -> None:
        self._group.counters.object_changes_refused += 1
        own[_DENIED] = None

    def _deny_slot(self, key: str, own: _Own) -> None:
        """Status, and the slot as it is: the client takes its own change back."""
        self._deny(own)
        own[EventType.REMOVE, key] = None

    def _answer(self, session: "Session", own: _Own, alone: bool) -> None:
        """Have the edge tell one session: Remove stands for a slot as it is now, Clear for all of them. They come last, and
        Success (of a slot set to nothing that was not there) only `alone`, when nothing was committed: behind a commit a client
        could take it for the answer to another change of that slot."""
        users = self._users.get(session.edge)
        if users is None:
            return
        if not alone:
            own = {
                (EventType.REMOVE if kind == EventType.SUCCESS else kind, text): None for kind, text in own
            }
        rows = sorted(own, key=lambda row: _ANSWER_ORDER.index(row[0]))
        session.edge.link.send(ObjectAnswer(session.number, users.number, pack_rows(rows)))
