"""Clients of a scope whose SharedObjects are elsewhere: each a group of its own (`spread`), or another scope's (proxied).

Here, at the session's home, it is decided what a client may do; then its message goes back to the edge, which sends it on to the
group that has the object, as a guest's (`Routed`). In a spread scope each SharedObject message of a client is answered to the
edge with one Routed or Unrouted.
"""

from typing import TYPE_CHECKING, Any

from headwater_bus.control import MAX_GROUP_BYTES
from headwater_bus.traffic import Routed, Unrouted
from headwater_rtmp.shared_object import Event, EventType, SharedObjectMessage, encode_shared_object
from headwater_rtmp.status import StatusCode

from headwater_origin.errors import ObjectUnavailable
from headwater_origin.names import BadName, check_name
from headwater_origin.objects.access import Access
from headwater_origin.objects.policy import client_access, refused_changes
from headwater_origin.objects.requests import refuse_slots, refuse_use

if TYPE_CHECKING:
    from headwater_origin.elsewhere.peers import Peers
    from headwater_origin.group import Group
    from headwater_origin.objects.table import SharedObjects
    from headwater_origin.session import Session

_HERE_NEXT, _STRAIGHT_NEXT, _NO_MORE = 0, 1, 2
"""`Routed.route`."""
_Key = tuple[str, bool]


class Routes:
    """See the module. Which sessions use which objects elsewhere, and what they may do with them."""

    def __init__(self, objects: "SharedObjects", group: "Group") -> None:
        self._objects, self._group = objects, group
        self._proxied: dict[_Key, str] = {}
        """Scopes that have objects of these names."""
        self._used: dict[Session, dict[_Key, Access]] = {}
        self._users: dict[_Key, int] = {}

    # Where objects are

    def takes(self, message: SharedObjectMessage) -> bool:
        """Whether the object of a message is elsewhere."""
        if not self._proxied:
            return self._group.spread_objects
        return self._group.spread_objects or (message.name, message.persistent) in self._proxied

    def target(self, name: str, persistent: bool) -> str | None:
        """The group that has an object of this scope; None: this one."""
        scope = self._proxied.get((name, persistent))
        if scope is not None:
            return self.group_of(scope, name)
        return f"{self._group.scope}#so:{name}" if self._group.spread_objects else None

    def group_of(self, scope: str, name: str) -> str:
        """The group that has an object of any scope."""
        app = scope.partition("/")[0]
        if app == self._group.scope.partition("/")[0]:
            spread = self._group.policy.shared_objects == "spread"
        else:
            nodes = self._group.host.node.view.nodes.values()
            spread = any(
                app in node.meta.get("spread_objects", ()) for node in nodes if node.role == "origin"
            )
        return f"{scope}#so:{name}" if spread else scope

    def proxy(self, name: str, persistent: bool, scope: str) -> None:
        """From now on clients that use this name use the object of another scope. Raises ValueError."""
        check_name(name)
        app, _, instance = scope.partition("/")
        if not app or not instance or "#" in scope or scope == self._group.scope:
            raise ValueError(f"proxied object {name!r}: {scope!r:.80}, expected another scope, APP/INSTANCE")
        self.peers()
        self._proxied[name, persistent] = scope

    def forget_proxied(self) -> None:
        """No name is another scope's any more."""
        self._proxied.clear()

    def peers(self) -> "Peers":
        """The links to other origins. Raises ObjectUnavailable."""
        peers = self._group.host.peers
        if peers is None:
            raise ObjectUnavailable("objects of other groups: this origin has no links to other origins")
        return peers

    # Sessions

    def users(self, name: str, persistent: bool) -> int:
        """How many clients of this scope use an object."""
        return self._users.get((name, persistent), 0)

    def begins_group(self, message: SharedObjectMessage) -> bool:
        """Whether a message may make a group begin, as nobody of this scope uses its object yet."""
        return (
            self._group.spread_objects
            and (message.name, message.persistent) not in self._users
            and any(event.type == EventType.USE for event in message.events)
        )

    def asks(self, session: "Session", message: SharedObjectMessage) -> bool:
        """Whether to handle a message may be to wait."""
        if self._group.asks_changes:
            return True
        proxied = (message.name, message.persistent) in self._proxied
        return (proxied or self._group.waits("shared_object_access")) and any(
            event.type == EventType.USE for event in message.events
        )

    def handle(self, session: "Session", message: SharedObjectMessage) -> None:
        """Send on what a client may do, and answer the rest, when everything is asked that has to be. Answers come before what is
        sent on, as Use tells the content."""
        key = (message.name, message.persistent)
        target = self.target(*key) or ""
        access = self._used.get(session, {}).get(key)
        granted = access or Access.NONE
        each_change = self._group.asks_changes
        kept: list[Event] = []
        astray: list[Event] = []
        refusals: list[StatusCode] = []
        denied: set[int] = set()
        for event in message.events:
            if event.type == EventType.USE:
                if access is None:
                    begun = self._begin(session, message)
                    if isinstance(begun, Access):
                        access = begun
                    else:
                        refusals.append(begun)
                if access is not None:
                    granted = access
                    kept.append(event)
            elif access is None:
                if event.type != EventType.RELEASE:
                    astray.append(event)
            elif event.type == EventType.RELEASE:
                self._end(session, key)
                session.mark_state()
                access = None
                kept.append(event)
            else:
                if each_change:
                    denied |= refused_changes(session, message, access, [event], len(kept))
                kept.append(event)
            if session.closed:
                return
        for code in refusals:
            refuse_use(session, message, code)
        if astray:
            refuse_slots(session, message, astray)
        if kept:
            if access is None:
                route = _NO_MORE
            else:
                route = _HERE_NEXT if each_change or key in self._proxied else _STRAIGHT_NEXT
            self._send_on(session, message, kept, target, route, granted, sorted(denied))
        elif self._group.spread_objects:
            self._group.send(session.edge, Unrouted(session.number, *key), session)

    def _send_on(
        self,
        session: "Session",
        message: SharedObjectMessage,
        events: list[Event],
        target: str,
        route: int,
        access: Access,
        denied: list[int],
    ) -> None:
        made = encode_shared_object(message.name, message.version, message.persistent, events, session.amf3)
        routed = Routed(session.number, target, route, int(access), denied, made.type_id, 0, 0, made.payload)
        self._group.send(session.edge, routed, session)

    def _begin(self, session: "Session", message: SharedObjectMessage) -> Access | StatusCode:
        """A client wants to use an object: what it may do with it, or why it may not. May wait."""
        key = (message.name, message.persistent)
        try:
            check_name(message.name)
            if len((self.target(*key) or "").encode()) > MAX_GROUP_BYTES:
                raise BadName("the name of the object is too long, with that of its scope")
            access = client_access(session, *key)
            if access and key in self._proxied:
                access &= self.peers().remote(self._group, self.target(*key) or "", *key).permitted()
        except (BadName, ObjectUnavailable):
            access = Access.NONE
        if session.closed:
            return StatusCode.OBJECT_CREATION_FAILED
        used, config = self._used.get(session, {}), self._group.config
        if (
            not access
            or len(used) + len(session.objects or ()) >= config.objects_per_session
            or (key not in self._users and len(self._users) >= config.objects_per_group)
        ):
            made = self._objects.made_by_application(*key)
            return (
                StatusCode.OBJECT_NO_READ_ACCESS if made and not access else StatusCode.OBJECT_CREATION_FAILED
            )
        self._add(session, key, access)
        session.mark_state()
        return access

    def _add(self, session: "Session", key: _Key, access: Access) -> None:
        self._used.setdefault(session, {})[key] = access
        self._users[key] = self._users.get(key, 0) + 1

    def state_rows(self, session: "Session") -> list[list[Any]]:
        """What `resume` needs to know of the objects elsewhere that a session uses."""
        return [[*key, int(access)] for key, access in self._used.get(session, {}).items()]

    def resume(self, session: "Session", rows: list[list[Any]]) -> None:
        """A session goes on, with the objects elsewhere that it used (`state_rows`)."""
        for name, persistent, access in rows:
            self._add(session, (name, bool(persistent)), Access(access))

    def _end(self, session: "Session", key: _Key) -> None:
        del self._used[session][key]
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]

    def forget(self, session: "Session") -> None:
        """A session is gone, or its link."""
        for key in list(self._used.get(session, ())):
            self._end(session, key)
        self._used.pop(session, None)
