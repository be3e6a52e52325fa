"""What clients' messages ask of the SharedObjects of a group: to use one, to release it, to change it, in order."""

from typing import TYPE_CHECKING

from headwater_rtmp.shared_object import EventType, SharedObjectMessage
from headwater_rtmp.status import StatusCode

from headwater_origin.names import BadName, check_name
from headwater_origin.objects.access import Access
from headwater_origin.objects.policy import (
    NOBODY,
    asks_each_change,
    client_access,
    refused_changes,
    scope_access,
)
from headwater_origin.objects.requests import BUSY, refuse, refuse_slots, refuse_use, request
from headwater_origin.objects.shared_object import SharedObject

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.objects.table import SharedObjects
    from headwater_origin.session import Session


class ObjectMessages:
    """See the module. `known`: the objects that there are, by name and persistence."""

    def __init__(
        self, objects: "SharedObjects", group: "Group", known: dict[tuple[str, bool], SharedObject]
    ) -> None:
        self._objects, self._group, self._known = objects, group, known

    def handle(self, session: "Session", message: SharedObjectMessage) -> None:
        """Do what a client's message asks for, in its order; where the object is elsewhere, have the edge send it there."""
        if not session.guest and self._objects.routes.takes(message):
            self._objects.routes.handle(session, message)
        else:
            self._walk(session, message, None, NOBODY)

    def handle_guest(
        self, session: "Session", message: SharedObjectMessage, access: Access, denied: frozenset[int]
    ) -> None:
        """The same for a message that the session's home has allowed, except for the events in `denied`."""
        shared = self._known.get((message.name, message.persistent))
        if (
            shared is not None
            and session.objects is not None
            and shared in session.objects
            and not session.scope
        ):
            session.objects[shared] = access
        self._walk(session, message, access, denied)

    def _walk(
        self, session: "Session", message: SharedObjectMessage, access: Access | None, denied: frozenset[int]
    ) -> None:
        """To use an object twice in one message is to use it once: one UseSuccess with the content says all."""
        start = 0
        events = message.events
        answered = False
        for index, event in enumerate(events):
            if event.type in (EventType.USE, EventType.RELEASE):
                self._request(session, message, start, index, denied)
                start = index + 1
                if session.closed:
                    return
                if event.type == EventType.RELEASE:
                    self._release(session, message)
                    answered = False
                elif not answered:
                    self._use(session, message, access)
                    answered = True
                if session.closed:
                    return
        self._request(session, message, start, len(events), denied)

    def asks(self, session: "Session", message: SharedObjectMessage) -> bool:
        """Whether to handle this message may be to wait: for the application, or for a lock."""
        if not session.guest and self._objects.routes.takes(message):
            return self._objects.routes.asks(session, message)
        shared = self._known.get((message.name, message.persistent))
        if shared is not None and shared.lock.busy:
            return True
        group = self._group
        if not session.guest:
            if asks_each_change(group):
                return True
            hook = "shared_object_access"
        elif session.scope:
            hook = "shared_object_proxy"
        else:
            return False
        if not group.waits(hook):
            return False
        used = shared is not None and session.objects is not None and shared in session.objects
        kinds = {event.type for event in message.events}
        return EventType.USE in kinds and (not used or EventType.RELEASE in kinds)

    def _use(self, session: "Session", message: SharedObjectMessage, access: Access | None) -> None:
        name, persistent = message.name, message.persistent
        shared = self._known.get((name, persistent))
        if shared is not None and session.objects is not None and shared in session.objects:
            shared.join(session, message.version)
            return
        try:
            check_name(name)
        except BadName:
            refuse_use(session, message, StatusCode.OBJECT_CREATION_FAILED)
            return
        if not session.guest:
            access = client_access(session, name, persistent)
        elif session.scope:
            access = scope_access(self._group, session.scope, name, persistent)
        assert access is not None
        if session.closed:
            return
        shared = self._known.get((name, persistent))
        config = self._group.config
        if access == Access.NONE or (shared is None and not access & Access.CREATE):
            code = StatusCode.OBJECT_CREATION_FAILED if shared is None else StatusCode.OBJECT_NO_READ_ACCESS
            refuse_use(session, message, code)
        elif (
            (not session.scope and len(session.objects or ()) >= config.objects_per_session)
            or (shared is None and len(self._known) >= config.objects_per_group)
            or (shared is not None and shared.crowded(session.edge))
        ):
            refuse_use(session, message, StatusCode.OBJECT_CREATION_FAILED)
        else:
            shared = self._objects.get(name, persistent)
            if session.objects is None:
                session.objects = {}
            session.objects[shared] = access
            shared.join(session, message.version)

    def _release(self, session: "Session", message: SharedObjectMessage) -> None:
        shared = self._known.get((message.name, message.persistent))
        if shared is not None and session.objects is not None and shared in session.objects:
            del session.objects[shared]
            shared.leave(session, tell=True)

    def used(
        self, session: "Session", name: str, persistent: bool
    ) -> tuple[SharedObject, Access] | tuple[None, None]:
        """An object that a session uses, and what it may do with it."""
        shared = self._known.get((name, persistent))
        access = session.objects.get(shared) if shared is not None and session.objects is not None else None
        return (None, None) if shared is None or access is None else (shared, access)

    def _request(
        self, session: "Session", message: SharedObjectMessage, start: int, end: int, denied: frozenset[int]
    ) -> None:
        if start == end:
            return
        events = message.events[start:end]
        shared, access = self.used(session, message.name, message.persistent)
        if shared is None or access is None:
            refuse_slots(session, message, events)
            return
        if not session.guest and asks_each_change(self._group):
            denied = refused_changes(session, message, access, events, start)
            if session.closed:
                return
        lock = shared.lock
        if not lock.busy:
            request(shared, session, access, events, start, denied)
        elif lock.waiting >= self._group.config.inbox_messages:
            refuse(shared, session, events, BUSY)
        else:
            with lock.turn():
                if not session.closed:
                    request(shared, session, access, events, start, denied)
