"""SharedObjects of a group: which there are, who may use them, and what clients ask of them (Flash's remote SharedObjects).

Temporary and persistent objects of one name are two objects. Objects of a scope may be elsewhere, each in a group of its own or
in another scope: see `headwater_origin.routes` for clients, `headwater_origin.peers` for the application.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gevent
from headwater_bus.traffic import ObjectReply, ObjectRequest
from headwater_rtmp.shared_object import EventType, SharedObjectMessage
from headwater_rtmp.status import StatusCode

from headwater_origin.access import Access
from headwater_origin.application_requests import ApplicationRequests
from headwater_origin.journal import ObjectKind, RowKind
from headwater_origin.names import BadName, check_name
from headwater_origin.object_policy import (
    NOBODY,
    asks_each_change,
    client_access,
    refused_changes,
    scope_access,
)
from headwater_origin.object_requests import BUSY, refuse, refuse_slots, refuse_use, request
from headwater_origin.object_view import SharedObjectView
from headwater_origin.routes import Routes
from headwater_origin.shared_object import SharedObject
from headwater_origin.slot_values import SlotLimits

if TYPE_CHECKING:
    from headwater_origin.edge_port import EdgePort
    from headwater_origin.group import Group
    from headwater_origin.peers import Peers
    from headwater_origin.remote_object import RemoteObject
    from headwater_origin.session import Session

__all__ = ["SharedObject", "SharedObjects"]


class SharedObjects:
    """The objects of one group."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        config = group.config
        self.limits = SlotLimits(config.object_slots, config.object_value_bytes, config.object_total_bytes)
        self._objects: dict[tuple[str, bool], SharedObject] = {}
        self._floors = {False: 0, True: 0}
        """By `persistent`: the highest version of an object that is forgotten. A new one begins above."""
        self._closed = False
        self.routes = Routes(self, group)
        self._requests = ApplicationRequests(self, group)

    @property
    def holds_persistent(self) -> bool:
        """Whether a persistent object has content."""
        return any(shared.durable for shared in self._objects.values())

    @property
    def durable(self) -> bool:
        """Whether there is something to be kept when the group stops: persistent content, or the version of what had some."""
        return self._floors[True] > 0 or any(
            shared.persistent and (shared.durable or shared.version > 0) for shared in self._objects.values()
        )

    def made_by_application(self, name: str, persistent: bool) -> bool:
        """Whether the application holds this object."""
        if (target := self.routes.target(name, persistent)) is not None:
            peers = self._group.host.peers
            return peers is not None and peers.holds(self._group, target, name, persistent)
        shared = self._objects.get((name, persistent))
        return shared is not None and shared.acquired

    def view(self, name: str, persistent: bool, scope: str | None = None) -> SharedObjectView:
        """The application's view of an object, of its scope or another, which it holds from now on. Raises BadName, and
        ObjectUnavailable where this origin has no links to others."""
        check_name(name)
        if scope is None or scope == self._group.scope:
            target = self.routes.target(name, persistent)
        else:
            target = self.routes.group_of(scope, name)
        if target is not None:
            return SharedObjectView(self._remote(target, name, persistent))
        shared = self.get(name, persistent)
        shared.acquired = True
        return SharedObjectView(shared)

    def _remote(self, target: str, name: str, persistent: bool) -> "RemoteObject":
        return self.routes.peers().remote(self._group, target, name, persistent)

    def get(self, name: str, persistent: bool) -> SharedObject:
        """An object, made if need be."""
        shared = self._objects.get((name, persistent))
        if shared is None:
            kind = ObjectKind.PERSISTENT if persistent else ObjectKind.TEMPORARY
            floor = self._floors[persistent]
            shared = self._objects[name, persistent] = SharedObject(
                self._group, kind, name, self.limits, floor
            )
        return shared

    # Clients

    def handle(self, session: "Session", message: SharedObjectMessage) -> None:
        """Do what a client's message asks for, in its order; where the object is elsewhere, have the edge send it there."""
        if not session.guest and self.routes.takes(message):
            self.routes.handle(session, message)
        else:
            self._walk(session, message, None, NOBODY)

    def handle_guest(
        self, session: "Session", message: SharedObjectMessage, access: Access, denied: frozenset[int]
    ) -> None:
        """The same for a message that the session's home has allowed, except for the events in `denied`."""
        shared = self._objects.get((message.name, message.persistent))
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
        if not session.guest and self.routes.takes(message):
            return self.routes.asks(session, message)
        shared = self._objects.get((message.name, message.persistent))
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
        shared = self._objects.get((name, persistent))
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
        shared = self._objects.get((name, persistent))
        config = self._group.config
        if access == Access.NONE or (shared is None and not access & Access.CREATE):
            code = StatusCode.OBJECT_CREATION_FAILED if shared is None else StatusCode.OBJECT_NO_READ_ACCESS
            refuse_use(session, message, code)
        elif (
            (not session.scope and len(session.objects or ()) >= config.objects_per_session)
            or (shared is None and len(self._objects) >= config.objects_per_group)
            or (shared is not None and shared.crowded(session.edge))
        ):
            refuse_use(session, message, StatusCode.OBJECT_CREATION_FAILED)
        else:
            shared = self.get(name, persistent)
            if session.objects is None:
                session.objects = {}
            session.objects[shared] = access
            shared.join(session, message.version)

    def _release(self, session: "Session", message: SharedObjectMessage) -> None:
        shared = self._objects.get((message.name, message.persistent))
        if shared is not None and session.objects is not None and shared in session.objects:
            del session.objects[shared]
            shared.leave(session, tell=True)

    def used(
        self, session: "Session", name: str, persistent: bool
    ) -> tuple[SharedObject, Access] | tuple[None, None]:
        """An object that a session uses, and what it may do with it."""
        shared = self._objects.get((name, persistent))
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

    def forget(self, session: "Session") -> None:
        """A session is gone; its edge knows."""
        used, session.objects = session.objects, None
        for shared in used or ():
            shared.leave(session, tell=False)
        self.routes.forget(session)
        if self._group.stopped and not self._closed:
            self.close()

    # Origins

    def resync(self, edge: "EdgePort", number: int) -> None:
        """An edge lacks a commit of the object that it knows by this number."""
        for shared in self._objects.values():
            if shared.resync(edge, number):
                return

    def request_from_application(self, session: "Session", request: ObjectRequest) -> None:
        """Changes of an application elsewhere, as one commit. Answered by ObjectReply, behind the update."""
        self._requests.carry_out(session, request)

    def request_waits(self, session: "Session", request: ObjectRequest) -> bool:
        """Whether to carry that out may be to wait."""
        shared = self._objects.get((request.name, request.persistent))
        return shared is not None and shared.lock.busy

    def reply(self, session: "Session", request: int, error: str) -> None:
        """Answer a request, when it is committed."""
        self._group.send(session.edge, ObjectReply(session.number, request, error), session)

    # Time and the journal

    def close(self) -> None:
        """The group stops: edges need no replicas any more. The application may still read what is here."""
        self._closed = True
        for shared in self._objects.values():
            shared.close()
        peers = self._group.host.peers
        if peers is not None and peers.of(self._group):
            gevent.spawn(self._leave, peers)

    def _leave(self, peers: "Peers") -> None:
        """Let go of what is elsewhere, when `on_stop` has returned."""
        if self._group.ending is not None:
            self._group.ending.join()
        peers.release(self._group)

    def forget_application(self) -> None:
        """Another object of the application takes over: it asks anew for what it wants to be told, and which are proxied."""
        self.routes.forget_proxied()
        for shared in self._objects.values():
            shared.watchers = None
        peers = self._group.host.peers
        for attachment in peers.of(self._group) if peers is not None else ():
            for remote in attachment.objects.values():
                remote.watchers = None

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
                and not shared.durable
                and not shared.lock.busy
                and now - shared.idle_since >= linger_s
            ):
                del self._objects[key]
                self._forget(shared)

    def _forget(self, shared: SharedObject) -> None:
        floor = self._floors[shared.persistent]
        if shared.journaled:
            self._floors[shared.persistent] = max(floor, shared.version)
            self._group.journal([int(RowKind.OBJECT_GONE), shared.kind, shared.name, shared.version])

    def restore(self, row: list[Any]) -> None:
        """Take a row of the journal: OBJECT, OBJECT_SET or OBJECT_GONE of a temporary or persistent object. Raises EnvelopeError,
        ValueError or TypeError for one that is not readable."""
        kind, which, name, version = row[:4]
        persistent = which == ObjectKind.PERSISTENT
        if kind == RowKind.OBJECT:
            self.get(name, persistent).replay(version, *row[4:6])
        elif kind == RowKind.OBJECT_SET:
            self.get(name, persistent).restore(version, *row[4:8])
        else:
            self._objects.pop((name, persistent), None)
            self._floors[persistent] = max(self._floors[persistent], version)

    def snapshot_rows(self) -> list[list[Any]]:
        """Rows that `restore` makes all of it from."""
        return list(self._rows())

    def _rows(self) -> Iterator[list[Any]]:
        for persistent, floor in self._floors.items():
            if floor:
                kind = ObjectKind.PERSISTENT if persistent else ObjectKind.TEMPORARY
                yield [int(RowKind.OBJECT_GONE), int(kind), "", floor]
        for shared in self._objects.values():
            if shared.journaled:
                yield shared.row()

    def health(self) -> dict[str, Any]:
        """Users, slots and version of each."""
        return {
            f"{shared.name}{' (persistent)' if shared.persistent else ''}": {
                "users": shared.users,
                "slots": len(shared.content.values),
                "version": shared.version,
            }
            for shared in self._objects.values()
        }
