"""SharedObjects of a group: which there are, how they come, go and come back (Flash's remote SharedObjects).

Temporary and persistent objects of one name are two objects. Objects of a scope may be elsewhere, each in a group of its own or
in another scope: see `elsewhere/routes.py` for clients, `elsewhere/peers.py` for the application. For what clients ask of those
that are here see `messages.py`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gevent
from headwater_bus.object_traffic import ObjectReply, ObjectRequest

from headwater_origin.durable.journal import ObjectKind, RowKind
from headwater_origin.elsewhere.requests import ApplicationRequests
from headwater_origin.elsewhere.routes import Routes
from headwater_origin.names import check_name
from headwater_origin.objects import rows
from headwater_origin.objects.access import Access
from headwater_origin.objects.messages import ObjectMessages
from headwater_origin.objects.missed import Missed
from headwater_origin.objects.recent import Have
from headwater_origin.objects.shared_object import SharedObject
from headwater_origin.objects.slot_values import SlotLimits
from headwater_origin.objects.view import SharedObjectView

if TYPE_CHECKING:
    from headwater_origin.edge_port import EdgePort
    from headwater_origin.elsewhere.peers import Peers
    from headwater_origin.elsewhere.remote_object import RemoteObject
    from headwater_origin.group import Group
    from headwater_origin.session import Session

__all__ = ["SharedObject", "SharedObjects"]
_RESERVED_VERSIONS = 4096
"""So many versions at once are reserved for an object without `auto_commit`: one row of the journal for so many commits."""


class SharedObjects:
    """The objects of one group."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        config = group.config
        self.limits = SlotLimits(config.object_slots, config.object_value_bytes, config.object_total_bytes)
        self._objects: dict[tuple[str, bool], SharedObject] = {}
        self._floors = {False: 0, True: 0}
        """By `persistent`: the highest version of an object that is forgotten. A new one begins above."""
        self.routes = Routes(self, group)
        self._requests = ApplicationRequests(self, group)
        messages = ObjectMessages(self, group, self._objects)
        self.take, self.handle_guest = messages.take, messages.handle_guest
        self.asks, self.used = messages.asks, messages.used

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

    def forget(self, session: "Session") -> None:
        """A session is gone, and its edge knows, or its link is lost: until it is back it uses nothing and holds no lock."""
        used, session.objects = session.objects, None
        for shared in used or ():
            shared.leave(session, tell=False)
        self.routes.forget(session)

    suspend = forget

    # Sessions that come back

    def state_rows(self, session: "Session") -> list[list[Any]]:
        """What `resume` needs to know of the objects that a session uses here."""
        return [
            [shared.name, shared.persistent, int(access)]
            for shared, access in (session.objects or {}).items()
        ]

    def gone(self, session: "Session") -> None:
        """A session whose link was lost does not come back."""

    def resume(
        self, session: "Session", rows: list[list[Any]], held: list[list[Any]], applied: int = 0
    ) -> list[Missed]:
        """A session goes on, with the objects that it used (`state_rows`). `held`: rows of replicas that its edge has and that it
        is a member of, see Attach.objects; `applied`: the last of its messages of which its edge knows that it was done. Returns
        what it is to be told when its edge knows that it is attached."""
        missed: list[Missed] = []
        replicas: dict[tuple[str, bool], tuple[Have, Have, bool]] = {}
        for name, persistent, version, events, *told in held:
            have = Have(version, events)
            replicas[name, bool(persistent)] = have, Have(*told[:2]) if told else have, len(told) > 2
        for name, persistent, access in rows:
            shared = self.get(name, bool(persistent))
            if session.objects is None:
                session.objects = {}
            session.objects[shared] = Access(access)
            has, heard, is_new = replicas.pop((name, bool(persistent)), (None, None, False))
            missed.append(shared.resume(session, has, heard, applied, is_new))
        for (name, persistent), (replica, *_) in replicas.items():
            self.get(name, persistent).dismiss(session, replica)
        return missed

    def number_on(self, edge: "EdgePort", name: str, persistent: bool) -> int | None:
        """The number by which an edge knows an object, if it does."""
        shared = self._objects.get((name, persistent))
        return None if shared is None else shared.number_on(edge)

    # Origins

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

    def abandon(self) -> None:
        """The group ends here without a word: another origin may have it, and edges' replicas go on there. The application may
        still read what is here."""
        for shared in self._objects.values():
            shared.abandon()
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
        settled = self._group.outputs.settled
        awaited = bool(self._group.absent)
        # Edges of such sessions may die, or be dead, with commits that they have not told them.
        roams = bool(self._group.roaming) or any(session.fence for session in self._group.absent.values())
        for key, shared in list(self._objects.items()):
            shared.close(before)
            if not roams:
                shared.recent.settle(settled)
            if awaited and shared.idle_since is not None:
                shared.idle_since = now  # Somebody who uses it may come back.
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
        if shared.journaled or not self._group.journaled:
            self._floors[shared.persistent] = max(floor, shared.version)
            self._group.journal([int(RowKind.OBJECT_GONE), shared.kind, shared.name, shared.version])

    def reserve_versions(self, shared: SharedObject) -> int:
        """Have the journal know that versions of an object may be told to clients whose content it does not know; up to which."""
        persistent = shared.persistent
        reserved = max(self._floors[persistent], shared.version + _RESERVED_VERSIONS)
        self._floors[persistent] = reserved
        self._group.journal([int(RowKind.OBJECT_GONE), shared.kind, "", reserved])
        return reserved

    def restore(self, row: list[Any]) -> None:
        """Take a row of the journal: OBJECT, OBJECT_SET, OBJECT_RECENT or OBJECT_GONE of a temporary or persistent object. Raises
        EnvelopeError, LookupError, ValueError or TypeError for one that is not readable."""
        kind, which, name, version = row[:4]
        persistent = which == ObjectKind.PERSISTENT
        outputs = self._group.outputs
        if kind == RowKind.OBJECT:
            rows.replay(self.get(name, persistent), row, outputs)
        elif kind == RowKind.OBJECT_RECENT:
            rows.restore_recent(self.get(name, persistent), row, outputs)
        elif kind == RowKind.OBJECT_SET:
            shared = self.get(name, persistent)
            rows.restore_content(shared, row)
            shared.skip_versions(self._floors[persistent])
        else:
            self._objects.pop((name, persistent), None)
            self._floors[persistent] = max(self._floors[persistent], version)
            for shared in self._objects.values():
                if shared.persistent == persistent:
                    shared.skip_versions(version)

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
                yield rows.content_row(shared)
                recent = rows.recent_row(shared)
                if recent is not None:
                    yield recent

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
