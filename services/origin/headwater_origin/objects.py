"""SharedObjects of a scope: who uses them, and one commit at a time (RTMP 1.0, 7.1.3; Flash's remote SharedObjects).

Every slot that a client asks to change is answered, with Success, Change or Remove: Flash sends no further change before it
was. A commit travels once to each edge that has a user (`ObjectUpdate`); what concerns the requester alone goes to it as
a SharedObject message of its own. Temporary and persistent objects of one name are two objects.
"""

from typing import TYPE_CHECKING, Any

from headwater_bus.traffic import ObjectClosed, ObjectJoined, ObjectLeft, ObjectOpened, ObjectUpdate
from headwater_rtmp.shared_object import (
    Event,
    EventType,
    SharedObjectMessage,
    encode_shared_object,
    value_for,
)
from headwater_rtmp.status import StatusCode

from headwater_origin import hooks
from headwater_origin.application import Access
from headwater_origin.errors import Reject
from headwater_origin.names import BadName, check_name
from headwater_origin.object_view import SharedObjectView
from headwater_origin.slot_values import NOTHING, sound_arguments, sound_value

if TYPE_CHECKING:
    from headwater_origin.edge_port import EdgePort
    from headwater_origin.group import Group
    from headwater_origin.session import Session


_ANSWER_ORDER = (EventType.STATUS, EventType.SUCCESS, EventType.REMOVE, EventType.CLEAR)


class _Users:
    """The users of an object on one edge, and the object's number on that link."""

    __slots__ = ("number", "sessions")

    def __init__(self, number: int) -> None:
        self.number = number
        self.sessions: dict[Session, None] = {}


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

    def join(self, session: "Session") -> None:
        """A session uses the object (again): it gets the whole content."""
        edge = session.edge
        users = self._users.get(edge)
        if users is None:
            users = self._users[edge] = _Users(edge.next_number())
            edge.link.send(ObjectOpened(users.number, self.name, self.persistent))
        users.sessions[session] = None
        self.idle_since = None
        slots: list[list[object]] = [[key, value] for key, value in self.slots.items()]
        edge.link.send(ObjectJoined(session.number, users.number, self.version, slots))

    def leave(self, session: "Session", tell: bool) -> None:
        """A session uses it no longer. `tell`: its edge does not know yet."""
        users = self._users.get(session.edge)
        if users is None or users.sessions.pop(session, 0) == 0:
            return
        if tell:
            session.edge.link.send(ObjectLeft(session.number, users.number))
        if not users.sessions:
            del self._users[session.edge]
            session.edge.link.send(ObjectClosed(users.number))
        if not self._users:
            self.idle_since = self._group.clock()

    # Changes

    def commit(self, changes: "list[tuple[int, str, bytes]]", requester: "Session | None") -> None:
        """Tell every edge once what has changed: (event type, key, value) each. A batch that changed slots is a new version."""
        if not changes:
            return
        if any(kind != EventType.SEND_MESSAGE for kind, _, _ in changes):
            self.version = (self.version + 1) & 0xFFFFFFFF
            self._group.counters.object_commits += 1
        for edge, users in self._users.items():
            number = requester.number if requester is not None and requester.edge is edge else 0
            events: list[list[object]] = [[kind, key, value, number] for kind, key, value in changes]
            self._group.counters.object_updates_out += 1
            edge.link.send(ObjectUpdate(users.number, self.version, events))

    def put(self, key: str, value: bytes) -> str | None:
        """Set a slot; returns why that is refused, or None."""
        config = self._group.config
        old = self.slots.get(key)
        if not key:
            return "the name of a slot is empty"
        if len(value) > config.object_value_bytes:
            return f"a value has at most {config.object_value_bytes} bytes"
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
        """Apply what one message of a client asks for, as one commit. Answers that are for the requester alone are made and
        sent behind it, so they say what the object holds by then."""
        changes: list[tuple[int, str, bytes]] = []
        own: list[Event] = []
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

    def _change(
        self, event: Event, writes: bool, changes: list[tuple[int, str, bytes]], own: list[Event]
    ) -> None:
        key, value = event.key or "", event.value or b""
        if not writes or not sound_value(value):
            self._deny_slot(key, own)
        elif value in NOTHING:
            # The value tells the edge that this Remove answers a change, so the requester gets Success.
            if self.take(key):
                changes.append((EventType.REMOVE, key, value))
            else:
                own.append(Event(EventType.SUCCESS, key))
        elif self.put(key, value) is not None:
            self._deny_slot(key, own)
        else:
            changes.append((EventType.CHANGE, key, value))

    def _remove(
        self, key: str, writes: bool, changes: list[tuple[int, str, bytes]], own: list[Event]
    ) -> None:
        if not writes:
            self._deny_slot(key, own)
        elif self.take(key):
            changes.append((EventType.REMOVE, key, b""))
        else:
            own.append(Event(EventType.REMOVE, key))

    def _clear(self, writes: bool, changes: list[tuple[int, str, bytes]], own: list[Event]) -> None:
        if not writes:
            self._deny(own)
            own.append(Event(EventType.CLEAR))
        elif self.empty():
            changes.append((EventType.CLEAR, "", b""))
        else:
            own.append(Event(EventType.CLEAR))

    def _deny(self, own: list[Event]) -> None:
        self._group.counters.object_changes_refused += 1
        if not any(event.type == EventType.STATUS for event in own):
            own.append(Event(EventType.STATUS, code=StatusCode.OBJECT_NO_WRITE_ACCESS, level="error"))

    def _deny_slot(self, key: str, own: list[Event]) -> None:
        """Status, and the slot as it is: the client takes its own change back."""
        self._deny(own)
        own.append(Event(EventType.REMOVE, key))

    def _answer(self, session: "Session", events: list[Event], alone: bool) -> None:
        """Send events to one session: Remove stands for a slot as it is now, Clear for all of them. They come last, and Success
        (of a slot set to nothing that was not there) only `alone`, when nothing was committed: behind a commit a client could
        take it for the answer to another change of that slot."""
        amf3 = session.amf3
        answers: list[Event] = []
        for event in sorted(events, key=lambda event: _ANSWER_ORDER.index(event.type)):
            key = event.key
            if key is not None and not (alone and event.type == EventType.SUCCESS):
                value = self.slots.get(key)
                answers.append(
                    Event(EventType.REMOVE, key)
                    if value is None
                    else Event(EventType.CHANGE, key, value_for(value, amf3))
                )
                continue
            answers.append(event)
            if event.type == EventType.CLEAR:
                answers += [
                    Event(EventType.CHANGE, name, value_for(value, amf3))
                    for name, value in self.slots.items()
                ]
        session.send(encode_shared_object(self.name, self.version, self.persistent, answers, amf3))


class SharedObjects:
    """The objects of one scope."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self._objects: dict[tuple[str, bool], SharedObject] = {}

    @property
    def holds_persistent(self) -> bool:
        """Whether a persistent object has content."""
        return any(shared.persistent and shared.slots for shared in self._objects.values())

    def made_by_application(self, name: str, persistent: bool) -> bool:
        """Whether the application holds this object."""
        shared = self._objects.get((name, persistent))
        return shared is not None and shared.acquired

    def view(self, name: str, persistent: bool) -> SharedObjectView:
        """The application's view of an object, which it holds from now on. Raises BadName."""
        shared = self._get(check_name(name), persistent)
        shared.acquired = True
        return SharedObjectView(shared)

    def _get(self, name: str, persistent: bool) -> SharedObject:
        shared = self._objects.get((name, persistent))
        if shared is None:
            shared = self._objects[name, persistent] = SharedObject(self._group, name, persistent)
        return shared

    # Clients

    def handle(self, session: "Session", message: SharedObjectMessage) -> None:
        """Do what a client's message asks for, in its order."""
        start = 0
        events = message.events
        for index, event in enumerate(events):
            if event.type in (EventType.USE, EventType.RELEASE):
                self._request(session, message, events[start:index])
                start = index + 1
                if event.type == EventType.USE:
                    self._use(session, message)
                else:
                    self._release(session, message)
                if session.closed:
                    return
        self._request(session, message, events[start:])

    def asks(self, session: "Session", message: SharedObjectMessage) -> bool:
        """Whether the application is asked for access by this message."""
        shared = self._objects.get((message.name, message.persistent))
        used = shared is not None and session.objects is not None and shared in session.objects
        kinds = {event.type for event in message.events}
        return EventType.USE in kinds and (not used or EventType.RELEASE in kinds)

    def _use(self, session: "Session", message: SharedObjectMessage) -> None:
        key = (message.name, message.persistent)
        shared = self._objects.get(key)
        if shared is not None and session.objects is not None and shared in session.objects:
            shared.join(session)
            return
        config = self._group.config
        try:
            check_name(message.name)
        except BadName:
            self._refuse(session, message, StatusCode.OBJECT_CREATION_FAILED)
            return
        access = self._access(session, message)
        if session.closed:
            return
        shared = self._objects.get(key)
        if access == Access.NONE:
            code = StatusCode.OBJECT_CREATION_FAILED if shared is None else StatusCode.OBJECT_NO_READ_ACCESS
            self._refuse(session, message, code)
        elif len(session.objects or ()) >= config.objects_per_session or (
            shared is None and len(self._objects) >= config.objects_per_group
        ):
            self._refuse(session, message, StatusCode.OBJECT_CREATION_FAILED)
        else:
            shared = self._get(message.name, message.persistent)
            if session.objects is None:
                session.objects = {}
            session.objects[shared] = access
            shared.join(session)

    def _access(self, session: "Session", message: SharedObjectMessage) -> Access:
        try:
            answer = self._group.application.shared_object_access(
                session.client, message.name, message.persistent
            )
            return Access.NONE if isinstance(answer, Reject) else Access(answer)
        except Reject:
            return Access.NONE
        except hooks.FAILURES as error:
            hooks.failed(self._group, "shared_object_access", error)
            return Access.NONE

    def _release(self, session: "Session", message: SharedObjectMessage) -> None:
        shared = self._objects.get((message.name, message.persistent))
        if shared is not None and session.objects is not None and shared in session.objects:
            del session.objects[shared]
            shared.leave(session, tell=True)

    def _request(self, session: "Session", message: SharedObjectMessage, events: "list[Event]") -> None:
        if not events:
            return
        shared = self._objects.get((message.name, message.persistent))
        access = session.objects.get(shared) if shared is not None and session.objects is not None else None
        if shared is None or access is None:
            self._refuse_slots(session, message, events)
        else:
            shared.request(session, access, events)

    def _refuse(self, session: "Session", message: SharedObjectMessage, code: StatusCode) -> None:
        event = Event(EventType.STATUS, code=code, level="error")
        session.send(encode_shared_object(message.name, 0, message.persistent, [event], session.amf3))

    def _refuse_slots(self, session: "Session", message: SharedObjectMessage, events: "list[Event]") -> None:
        """Requests of a client that does not use the object: each slot is taken back, and nothing of the content is shown."""
        self._group.counters.object_changes_refused += 1
        answers = [Event(EventType.STATUS, code=StatusCode.OBJECT_NO_WRITE_ACCESS, level="error")]
        for event in events:
            if event.type in (EventType.REQUEST_CHANGE, EventType.REQUEST_REMOVE):
                answers.append(Event(EventType.REMOVE, event.key))
        session.send(encode_shared_object(message.name, 0, message.persistent, answers, session.amf3))

    def forget(self, session: "Session") -> None:
        """A session is gone; its edge knows."""
        used, session.objects = session.objects, None
        for shared in used or ():
            shared.leave(session, tell=False)

    def tick(self, now: float) -> None:
        """Forget temporary objects that had no user for a while, and persistent ones that are empty as well."""
        linger_s = self._group.config.object_linger_s
        for key, shared in list(self._objects.items()):
            if (
                shared.idle_since is not None
                and not shared.acquired
                and not (shared.persistent and shared.slots)
                and now - shared.idle_since >= linger_s
            ):
                del self._objects[key]

    def health(self) -> dict[str, Any]:
        """Users, slots and version of each."""
        return {
            f"{shared.name}{' (persistent)' if shared.persistent else ''}": {
                "users": shared.users,
                "slots": len(shared.slots),
                "version": shared.version,
            }
            for shared in self._objects.values()
        }
