"""What clients' messages ask of the SharedObjects of a group: to use one, to release it, to change it, in order."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from headwater_rtmp.shared_object import Event, EventType, SharedObjectMessage
from headwater_rtmp.status import StatusCode

from headwater_origin.names import BadName, check_name
from headwater_origin.objects.access import Access
from headwater_origin.objects.policy import NOBODY, client_access, refused_changes, scope_access
from headwater_origin.objects.requests import BUSY, refuse, refuse_slots, refuse_use, request
from headwater_origin.objects.shared_object import SharedObject

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.objects.table import SharedObjects
    from headwater_origin.session import Session


_USE, _RELEASE = int(EventType.USE), int(EventType.RELEASE)
_USES = (_USE, _RELEASE)


class ObjectMessages:
    """See the module. `known`: the objects that there are, by name and persistence."""

    def __init__(
        self, objects: "SharedObjects", group: "Group", known: dict[tuple[str, bool], SharedObject]
    ) -> None:
        self._objects, self._group, self._known = objects, group, known

    def take(self, session: "Session", message: SharedObjectMessage, size: int, number: int) -> None:
        """Do what a client's message asks for, of so many bytes and with this number, when its turn has come."""
        changes = None
        if not session.busy and (session.guest or not self._objects.routes.takes(message)):
            changes = self._changes(session, message, NOBODY)
        if changes is not None:
            session.carry_out(changes, number)
        else:
            handle = partial(self._handle, session, message)
            session.post(handle, waits=self.asks(session, message), size=size, number=number)

    def _handle(self, session: "Session", message: SharedObjectMessage) -> None:
        """Where the object is elsewhere, have the edge send it there."""
        if not session.guest and self._objects.routes.takes(message):
            self._objects.routes.handle(session, message)
        else:
            self._carry_out(session, message, None, NOBODY)

    def handle_guest(
        self, session: "Session", message: SharedObjectMessage, access: Access, denied: frozenset[int]
    ) -> None:
        """The same for a message that the session's home has allowed, except for the events in `denied`."""
        shared, before = self.used(session, message.name, message.persistent)
        if shared is not None and before != access and session.objects is not None and not session.scope:
            session.objects[shared] = access
            session.mark_state()
        self._carry_out(session, message, access, denied)

    def _carry_out(
        self, session: "Session", message: SharedObjectMessage, access: Access | None, denied: frozenset[int]
    ) -> None:
        """First all that may wait: the application is asked, another's lock waited for. Then the whole message without a wait, so
        that it is done as a whole or not at all."""
        changes = self._changes(session, message, denied)
        if changes is not None:
            changes()
            return
        # Of another scope it is the application here that decides.
        asked = self._ask(session, message, None if session.scope else access, denied)
        if session.closed:
            return
        shared = self._known.get((message.name, message.persistent)) if asked.changes else None
        if shared is None or not shared.lock.busy:
            self._walk(session, message, asked)
        elif shared.lock.waiting >= self._group.config.inbox_messages:
            asked.busy = True
            self._walk(session, message, asked)
        else:
            with shared.lock.turn():
                if not session.closed:
                    self._walk(session, message, asked)

    def _changes(
        self, session: "Session", message: SharedObjectMessage, denied: frozenset[int]
    ) -> Callable[[], None] | None:
        """What most messages are: changes of an object that the session uses, about which nobody is asked. What carries them out;
        None: it is another one."""
        objects = session.objects
        if objects is None or (self._group.asks_changes and not session.guest):
            return None
        shared = self._known.get((message.name, message.persistent))
        access = None if shared is None else objects.get(shared)
        if shared is None or access is None or shared.lock.busy:
            return None
        events = message.events
        for event in events:
            if event.type in _USES:
                return None
        return partial(request, shared, session, access, events, 0, denied)

    def _ask(
        self, session: "Session", message: SharedObjectMessage, access: Access | None, denied: frozenset[int]
    ) -> "_Asked":
        """What the application allows of a message, in the order of its events. May wait; when the session is closed meanwhile
        the rest is not asked."""
        asked = _Asked(access, denied)
        each_change = self._group.asks_changes and not session.guest
        _, granted = self.used(session, message.name, message.persistent)
        for index, event in enumerate(message.events):
            if event.type == _USE:
                asked.uses = True
                if granted is None:
                    if asked.access is None:
                        asked.access = self._access(session, message)
                    granted = (
                        asked.access if self._use_refusal(session, message, asked.access) is None else None
                    )
            elif event.type == _RELEASE:
                asked.uses = True
                granted = None
            elif granted is not None:
                asked.changes = True
                if each_change:
                    asked.denied |= refused_changes(session, message, granted, [event], index)
            if session.closed:
                break
        return asked

    def _access(self, session: "Session", message: SharedObjectMessage) -> Access:
        name, persistent = message.name, message.persistent
        try:
            check_name(name)
        except BadName:
            return Access.NONE
        if not session.guest:
            return client_access(session, name, persistent)
        return scope_access(self._group, session.scope, name, persistent) if session.scope else Access.NONE

    def _walk(self, session: "Session", message: SharedObjectMessage, asked: "_Asked") -> None:
        """To use an object twice in one message is to use it once: one UseSuccess with the content says all."""
        events = message.events
        if not asked.uses:
            self._request(session, message, events, 0, asked)
            return
        start = 0
        answered = False
        if asked.changes and not self._group.stalled:
            # Nothing of it is to be heard before the journal has it.
            self._group.outputs.begin()
        for index, event in enumerate(events):
            if event.type in _USES:
                self._request(session, message, events[start:index], start, asked)
                start = index + 1
                if event.type == _RELEASE:
                    self._release(session, message)
                    answered = False
                elif not answered:
                    self._use(session, message, asked.access)
                    answered = True
        self._request(session, message, events[start:], start, asked)

    def asks(self, session: "Session", message: SharedObjectMessage) -> bool:
        """Whether to handle this message may be to wait: for the application, or for a lock."""
        if not session.guest and self._objects.routes.takes(message):
            return self._objects.routes.asks(session, message)
        group = self._group
        shared = self._known.get((message.name, message.persistent))
        if shared is not None and shared.lock.busy:
            return True
        if not session.guest:
            if group.asks_changes:
                return True
            hook = "shared_object_access"
        elif session.scope:
            hook = "shared_object_proxy"
        else:
            return False
        if not group.waits(hook):
            return False
        kinds = {event.type for event in message.events}
        if _USE not in kinds:
            return False
        used = shared is not None and session.objects is not None and shared in session.objects
        return not used or _RELEASE in kinds

    def _use(self, session: "Session", message: SharedObjectMessage, access: Access | None) -> None:
        name, persistent = message.name, message.persistent
        shared, _ = self.used(session, name, persistent)
        if shared is not None:
            shared.join(session, message.version)
            return
        refusal = self._use_refusal(session, message, access)
        if refusal is not None:
            refuse_use(session, message, refusal)
            return
        assert access is not None
        shared = self._objects.get(name, persistent)
        if session.objects is None:
            session.objects = {}
        session.objects[shared] = access
        session.mark_state()
        shared.join(session, message.version)

    def _use_refusal(
        self, session: "Session", message: SharedObjectMessage, access: Access | None
    ) -> StatusCode | None:
        """Why a session cannot begin to use an object now; None: it can."""
        try:
            check_name(message.name)
        except BadName:
            return StatusCode.OBJECT_CREATION_FAILED
        shared = self._known.get((message.name, message.persistent))
        config = self._group.config
        if not access or (shared is None and not access & Access.CREATE):
            return StatusCode.OBJECT_CREATION_FAILED if shared is None else StatusCode.OBJECT_NO_READ_ACCESS
        if (
            (not session.scope and len(session.objects or ()) >= config.objects_per_session)
            or (shared is None and len(self._known) >= config.objects_per_group)
            or (shared is not None and shared.crowded(session.edge))
        ):
            return StatusCode.OBJECT_CREATION_FAILED
        return None

    def _release(self, session: "Session", message: SharedObjectMessage) -> None:
        shared = self._known.get((message.name, message.persistent))
        if shared is not None and session.objects is not None and shared in session.objects:
            del session.objects[shared]
            session.mark_state()
            shared.leave(session, tell=True)

    def used(
        self, session: "Session", name: str, persistent: bool
    ) -> tuple[SharedObject, Access] | tuple[None, None]:
        """An object that a session uses, and what it may do with it."""
        shared = self._known.get((name, persistent))
        access = session.objects.get(shared) if shared is not None and session.objects is not None else None
        return (None, None) if shared is None or access is None else (shared, access)

    def _request(
        self,
        session: "Session",
        message: SharedObjectMessage,
        events: Sequence[Event],
        start: int,
        asked: "_Asked",
    ) -> None:
        if not events:
            return
        shared, access = self.used(session, message.name, message.persistent)
        if shared is None or access is None:
            refuse_slots(session, message, events)
        elif asked.busy:
            refuse(shared, session, events, BUSY)
        else:
            request(shared, session, access, events, start, asked.denied)


class _Asked:
    """What was found out about a message before it is carried out. `access` where it begins to use the object; `denied`: indexes
    of events; `changes`: whether it asks for changes of an object that the session uses; `uses`: whether it begins or ends its
    use; `busy`: too many wait for its lock."""

    __slots__ = ("access", "busy", "changes", "denied", "uses")

    def __init__(self, access: Access | None, denied: frozenset[int]) -> None:
        self.access, self.denied = access, denied
        self.changes = self.uses = self.busy = False
