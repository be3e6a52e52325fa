"""A SharedObject server in a few lines, for tests of the client: commits to everybody in one order, then what concerns the
requester alone, as FACTS section 2 and the origin have it."""

from collections.abc import Callable, Hashable

from headwater_amf import amf0
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import Event, EventType, arguments_for, encode_shared_object, value_for

NO_WRITE = "SharedObject.NoWriteAccess"
Deliveries = list[tuple[Hashable, Message]]


class ModelObject:
    """`refuses(client, key, value)` says which changes are refused; `value` is None for a removal or a clear."""

    def __init__(
        self,
        name: str = "board",
        persistent: bool = False,
        refuses: Callable[[Hashable, str, object], bool] = lambda *_: False,
    ) -> None:
        self.name, self.persistent = name, persistent
        self.refuses = refuses
        self.slots: dict[str, bytes] = {}
        self.version = 0
        self.changed: dict[str, int] = {}
        """Slot, deleted ones too, to the version that it was last changed in."""
        self.users: dict[Hashable, bool] = {}
        """Client to whether it speaks AMF3."""

    @property
    def contents(self) -> dict[str, object]:
        return {key: amf0.decode(value)[0] for key, value in self.slots.items()}

    def _message(self, client: Hashable, events: list[Event]) -> Message:
        amf3 = self.users.get(client, False)
        written = []
        for event in events:
            value = event.value
            if event.type == EventType.CHANGE and value is not None:
                value = value_for(value, amf3)
            elif event.type == EventType.SEND_MESSAGE and value is not None:
                value = arguments_for(value, amf3)
            written.append(Event(event.type, event.key, value, event.code, event.level))
        return encode_shared_object(self.name, self.version, self.persistent, written, amf3)

    def _changes(self) -> list[Event]:
        return [Event(EventType.CHANGE, key, value) for key, value in self.slots.items()]

    def resync(self, client: Hashable) -> Deliveries:
        """UseSuccess, Clear and the whole content: to one who joins, or unasked after a fail-over."""
        events = [Event(EventType.USE_SUCCESS), Event(EventType.CLEAR), *self._changes()]
        return [(client, self._message(client, events))]

    def difference(self, client: Hashable, since: int) -> Deliveries:
        """UseSuccess and what has changed after a version: to one who has it."""
        events = [
            Event(EventType.CHANGE, key, self.slots[key])
            if key in self.slots
            else Event(EventType.REMOVE, key)
            for key, version in self.changed.items()
            if version > since
        ]
        return [(client, self._message(client, [Event(EventType.USE_SUCCESS), *events]))]

    def request(
        self, client: Hashable, events: list[Event], amf3: bool = False, version: int = 0
    ) -> Deliveries:
        """What one message of a client causes, who says that it has this version."""
        out: Deliveries = []
        changes: list[Event] = []
        own: list[Event] = []
        for event in events:
            if event.type == EventType.USE:
                self.users[client] = amf3
                known = self.persistent and 0 < version <= self.version
                out += self.difference(client, version) if known else self.resync(client)
            elif event.type == EventType.RELEASE:
                self.users.pop(client, None)
            else:
                self._apply(client, event, changes, own)
        out += self.commit(changes, client)
        if own:
            out.append((client, self._message(client, own)))
        return out

    def commit(self, changes: list[Event], requester: Hashable = None) -> Deliveries:
        """One version for one batch; the requester of a change gets Success in its place."""
        if any(event.type != EventType.SEND_MESSAGE for event in changes):
            self.version += 1
        for event in changes:
            if event.type == EventType.CLEAR:
                self.changed = dict.fromkeys(self.changed, self.version)
            elif event.key is not None:
                self.changed[event.key] = self.version
        out: Deliveries = []
        for user in self.users if changes else ():
            events = [
                Event(EventType.SUCCESS, event.key)
                if user == requester and event.type == EventType.CHANGE
                else event
                for event in changes
            ]
            out.append((user, self._message(user, events)))
        return out

    def set(self, key: str, value: object) -> Deliveries:
        """The application sets a slot."""
        data = self.slots[key] = amf0.encode(value)
        return self.commit([Event(EventType.CHANGE, key, data)])

    def _apply(self, client: Hashable, event: Event, changes: list[Event], own: list[Event]) -> None:
        key, data = event.key or "", event.value or b""
        value = amf0.decode(data)[0] if event.type == EventType.REQUEST_CHANGE else None
        if event.type == EventType.SEND_MESSAGE:
            changes.append(event)
        elif self.refuses(client, key, value):
            if not own or own[0].type != EventType.STATUS:
                own.insert(0, Event(EventType.STATUS, code=NO_WRITE, level="error"))
            if event.type == EventType.REQUEST_CLEAR:
                own += [Event(EventType.CLEAR), *self._changes()]
            elif key in self.slots:
                own.append(Event(EventType.CHANGE, key, self.slots[key]))
            else:
                own.append(Event(EventType.REMOVE, key))
        elif event.type == EventType.REQUEST_CHANGE:
            self.slots[key] = data
            changes.append(Event(EventType.CHANGE, key, data))
        elif event.type == EventType.REQUEST_REMOVE:
            (changes if self.slots.pop(key, None) is not None else own).append(Event(EventType.REMOVE, key))
        elif event.type == EventType.REQUEST_CLEAR:
            (changes if self.slots else own).append(Event(EventType.CLEAR))
            self.slots.clear()
