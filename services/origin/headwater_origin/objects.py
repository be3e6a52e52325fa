"""SharedObjects of a scope: which there are, who may use them, and what clients ask of them (Flash's remote SharedObjects).

Temporary and persistent objects of one name are two objects.
"""

from typing import TYPE_CHECKING, Any

from headwater_rtmp.shared_object import Event, EventType, SharedObjectMessage, encode_shared_object
from headwater_rtmp.status import StatusCode

from headwater_origin import hooks
from headwater_origin.application import Access
from headwater_origin.errors import Reject
from headwater_origin.names import BadName, check_name
from headwater_origin.object_view import SharedObjectView
from headwater_origin.shared_object import SharedObject

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import Session

__all__ = ["SharedObject", "SharedObjects"]


class SharedObjects:
    """The objects of one scope."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self._objects: dict[tuple[str, bool], SharedObject] = {}
        self._closed = False

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
        """Do what a client's message asks for, in its order. To use an object twice in one message is to use it once: one
        UseSuccess with the content says all."""
        start = 0
        events = message.events
        answered = False
        for index, event in enumerate(events):
            if event.type in (EventType.USE, EventType.RELEASE):
                self._request(session, message, events[start:index])
                start = index + 1
                if event.type == EventType.RELEASE:
                    self._release(session, message)
                    answered = False
                elif not answered:
                    self._use(session, message)
                    answered = True
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
        elif (
            len(session.objects or ()) >= config.objects_per_session
            or (shared is None and len(self._objects) >= config.objects_per_group)
            or (shared is not None and shared.crowded(session.edge))
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
        asked = (EventType.REQUEST_CHANGE, EventType.REQUEST_REMOVE)
        for key in dict.fromkeys(event.key for event in events if event.type in asked):
            answers.append(Event(EventType.REMOVE, key))
        session.send(encode_shared_object(message.name, 0, message.persistent, answers, session.amf3))

    def forget(self, session: "Session") -> None:
        """A session is gone; its edge knows."""
        used, session.objects = session.objects, None
        for shared in used or ():
            shared.leave(session, tell=False)
        if self._group.stopped and not self._closed:
            self.close()

    def close(self) -> None:
        """The group stops: edges need no replicas any more. The application may still read."""
        self._closed = True
        for shared in self._objects.values():
            shared.close()

    def tick(self, now: float) -> None:
        """Forget temporary objects that had no user for a while, and persistent ones that are empty as well; free the replicas
        of edges where nobody has used an object for as long, and before the group itself is dropped."""
        config = self._group.config
        linger_s = config.object_linger_s
        before = now - min(linger_s, config.group_linger_s)
        for key, shared in list(self._objects.items()):
            shared.close(before)
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
