"""Rooms: scopes inside a scope. `tables/3` is inside `tables`: who is in it is in both."""

from typing import TYPE_CHECKING, Any

from headwater_origin import hooks
from headwater_origin.durable.journal import RowKind
from headwater_origin.errors import GroupLost, Reject
from headwater_origin.names import check_name
from headwater_origin.saying import broadcast
from headwater_origin.transaction import current, transaction

if TYPE_CHECKING:
    from headwater_origin.client import Client
    from headwater_origin.group import Group
    from headwater_origin.session import Session

MOST_ROOMS = 64
"""Of one client."""


class _Pending:
    """One transaction's joins (True) and leaves (False) of a client (an Overlay)."""

    __slots__ = ("_rooms", "_session", "changes")
    waits = False

    def __init__(self, rooms: "Rooms", session: "Session") -> None:
        self._rooms, self._session = rooms, session
        self.changes: dict[str, bool] = {}

    @property
    def paths(self) -> list[str]:
        """Where the client is with these changes; others may have changed it since this transaction began."""
        joined = self._rooms.joined.get(self._session, ())
        return [
            *(path for path in joined if self.changes.get(path, True)),
            *(path for path, joins in self.changes.items() if joins and path not in joined),
        ]

    def prepare(self) -> None:
        """Raises ValueError: too many, with those that others have had it join meanwhile."""
        paths = self.paths
        if len(paths) > MOST_ROOMS and len(paths) > len(self._rooms.joined.get(self._session, ())):
            raise ValueError(f"room {paths[-1]!r}: a client may be in {MOST_ROOMS} rooms at a time")

    def commit(self) -> None:
        """Apply and journal."""
        if self.changes and not self._session.departed:
            self._rooms.set(self._session, self.paths)

    def abandon(self) -> None:
        """Nothing is to be undone."""


class Rooms:
    """Who is in which room of a group."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self.joined: dict[Session, list[str]] = {}
        """Rooms that a session has joined, not those around them."""

    def set(self, session: "Session", paths: list[str]) -> None:
        """A commit: a session is in these rooms from now on."""
        if paths:
            self.joined[session] = paths
        else:
            self.joined.pop(session, None)
        durable = self._group.durable
        if session.session_id in durable.members.known:
            durable.record([int(RowKind.ROOMS), session.session_id, paths])

    def of(self, session: "Session") -> list[str]:
        """The rooms that a session has joined, as the running transaction sees it."""
        now = current()
        pending = now.peek((self, session)) if now is not None else None
        return list(pending.paths if isinstance(pending, _Pending) else self.joined.get(session, ()))

    def rooms_of(self, session: "Session") -> "tuple[Room, ...]":
        """The same as the application sees them."""
        return tuple(Room(self._group, path) for path in self.of(session))

    def sessions(self, path: str) -> "list[Session]":
        """Who is in a room or in one inside it."""
        inside = path + "/"
        return [
            session
            for session in self._group.members
            if any(own == path or own.startswith(inside) for own in self.of(session))
        ]

    def join(self, session: "Session", path: str) -> None:
        """See Room.join."""
        group = self._group
        with transaction(group) as now:
            pending = now.overlay((self, session), lambda: _Pending(self, session))
            paths = pending.paths
            if path in paths or session.closed:
                return
            if len(paths) >= MOST_ROOMS:
                raise ValueError(f"room {path!r}: a client may be in {MOST_ROOMS} rooms at a time")
            if group.waits("on_join"):
                assert group.application is not None
                answer = group.application.on_join(session.client, path)
                if isinstance(answer, Reject):
                    raise answer
            pending.changes[path] = True

    def leave(self, session: "Session", path: str) -> None:
        """See Room.leave."""
        group = self._group
        with transaction(group) as now:
            pending = now.overlay((self, session), lambda: _Pending(self, session))
            if path not in pending.paths:
                return
            pending.changes[path] = False
            if group.waits("on_leave"):
                assert group.application is not None
                group.application.on_leave(session.client, path)

    def leave_all(self, session: "Session") -> None:
        """A session is gone. Raises GroupLost."""
        for path in list(self.joined.get(session, ())):
            try:
                with transaction(self._group, session, must=True):
                    self.leave(session, path)
            except GroupLost:
                raise
            except hooks.FAILURES as error:
                hooks.failed(self._group, "on_leave", error)
        self.joined.pop(session, None)
        session.departed = True


class Room:
    """A room of a scope, by its path. It is there while somebody is in it."""

    __slots__ = ("_group", "name")

    def __init__(self, group: "Group", path: str) -> None:
        self._group = group
        self.name = check_name(path).strip("/")

    @property
    def clients(self) -> "tuple[Client, ...]":
        """Who is in it, or in a room inside it."""
        return tuple(session.client for session in self._group.rooms.sessions(self.name))

    def join(self, client: "Client") -> None:
        """Take a client in; `on_join` is asked. Raises the Reject of that; nothing happens to who is in it already."""
        self._group.rooms.join(client._session, self.name)

    def leave(self, client: "Client") -> None:
        """Take a client out; `on_leave` is told. Nothing happens to who is not in it."""
        self._group.rooms.leave(client._session, self.name)

    def broadcast(self, name: str, *args: Any) -> None:
        """Call a method of every client in it; no answers."""
        broadcast(self._group, name, args, self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Room) and (other._group, other.name) == (self._group, self.name)

    def __hash__(self) -> int:
        return hash((self._group, self.name))

    def __repr__(self) -> str:
        return f"<Room {self.name!r} of {self._group.name}>"
