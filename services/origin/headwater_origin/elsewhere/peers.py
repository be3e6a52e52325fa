"""The links of an origin to others, as an edge has them: over these its applications use SharedObjects of other groups.

Each link has one replica of each such object, however many scopes here use it. An origin has a link to itself as well, where
both are its own.
"""

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from headwater_bus import object_traffic, traffic
from headwater_bus.codec import EnvelopeError
from headwater_bus.link import EdgeLink, Link
from headwater_bus.logs import get_log
from headwater_bus.node import AssignError, Node
from headwater_bus.rows import unpack_rows
from headwater_bus.view import Assignment
from headwater_rtmp.slots import Slots

from headwater_origin.elsewhere.remote_object import RemoteObject
from headwater_origin.elsewhere.scope_guest import ScopeGuest
from headwater_origin.errors import ObjectUnavailable
from headwater_origin.objects.operations import Row

if TYPE_CHECKING:
    from headwater_origin.group import Group

_log = get_log("origin")
_ASSIGN_S = 2.0


class Replica:
    """An object of a group, as the origin that has it tells it. It goes on over another link when the group does. `members`: the
    objects of applications that show it, by session number."""

    __slots__ = ("content", "events", "group", "members", "name", "persistent", "stale")

    def __init__(self, opened: object_traffic.ObjectOpened) -> None:
        self.group, self.name, self.persistent = opened.group, opened.name, opened.persistent
        self.members: dict[int, RemoteObject] = {}
        self.content = Slots()
        self.events = 0
        self.stale = False
        """Whether a commit is missing; the content comes again."""
        self.open(opened)

    @property
    def key(self) -> "ReplicaKey":
        """What names it in the cluster."""
        return self.group, self.name, self.persistent

    def open(self, opened: object_traffic.ObjectOpened) -> None:
        """Take the whole content."""
        rows = unpack_rows(opened.payload, str, bytes, int)
        self.content = Slots.from_rows(opened.version, opened.base, rows)
        self.events, self.stale = opened.events, False
        for shared in self.members.values():
            shared.joined(self.content)

    def update(self, update: object_traffic.ObjectUpdate) -> bool:
        """Take a commit; returns whether the content has to be asked for, as one before it is missing."""
        if self.stale:
            return False
        if update.events != self.events + 1:
            self.stale = True
            return True
        rows: list[Row] = [
            (kind, key, value) for kind, key, value in unpack_rows(update.payload, int, str, bytes)
        ]
        self.content.apply(update.version, rows)
        self.events = update.events
        for session, shared in self.members.items():
            if shared.watchers is not None:
                shared.watchers.observe(rows, own=session == update.session)
        return False


ReplicaKey = tuple[str, str, bool]
"""Group, name, persistent."""


class PeerLink:
    """What one link is used for: attachments by session number, replicas by the origin's number. `replicas_by_key`: all of this
    origin process, over whatever link."""

    def __init__(self, replicas_by_key: dict[ReplicaKey, Replica]) -> None:
        self.attachments: dict[int, ScopeGuest] = {}
        self.replicas: dict[int, Replica] = {}
        self._by_key = replicas_by_key
        self._handlers: dict[type, Callable[[Link, Any], None]] = {
            traffic.Applied: self._applied,
            object_traffic.ObjectClosed: self._closed,
            object_traffic.ObjectJoined: self._joined,
            object_traffic.ObjectLeft: self._left,
            object_traffic.ObjectOpened: self._opened,
            object_traffic.ObjectResumed: self._resumed,
            object_traffic.ObjectUpdate: self._update,
        }

    def take(self, link: Link, envelope: Any) -> None:
        """Carry out one envelope."""
        handler = self._handlers.get(type(envelope))
        if handler is not None:
            handler(link, envelope)
            return
        attachment = self.attachments.get(getattr(envelope, "session", 0))
        if attachment is not None:
            attachment.take(envelope)

    def _applied(self, link: Link, applied: traffic.Applied) -> None:
        rows = applied.rows
        for at in range(0, len(rows) - 2, 3):
            attachment = self.attachments.get(rows[at])
            if attachment is not None:
                attachment.applied(rows[at + 1], rows[at + 2])

    def _opened(self, link: Link, opened: object_traffic.ObjectOpened) -> None:
        replica = self.replicas.get(opened.shared_object)
        if replica is None:
            replica = self._by_key.get((opened.group, opened.name, opened.persistent))
        if replica is None:
            replica = Replica(opened)
            self._by_key[replica.key] = replica
        else:
            replica.open(opened)
        self.replicas[opened.shared_object] = replica

    def _resumed(self, link: Link, resumed: object_traffic.ObjectResumed) -> None:
        replica = self._by_key.get((resumed.group, resumed.name, resumed.persistent))
        if replica is None or replica.events != resumed.events:
            link.send(object_traffic.ObjectResync(resumed.shared_object))
            return
        replica.stale = False
        self.replicas[resumed.shared_object] = replica

    def _update(self, link: Link, update: object_traffic.ObjectUpdate) -> None:
        replica = self.replicas.get(update.shared_object)
        if replica is not None and replica.update(update):
            link.send(object_traffic.ObjectResync(update.shared_object))

    def _closed(self, link: Link, closed: object_traffic.ObjectClosed) -> None:
        replica = self.replicas.pop(closed.shared_object, None)
        if replica is not None and self._by_key.get(replica.key) is replica:
            del self._by_key[replica.key]

    def _joined(self, link: Link, joined: object_traffic.ObjectJoined) -> None:
        replica = self.replicas.get(joined.shared_object)
        attachment = self.attachments.get(joined.session)
        if replica is None or attachment is None:
            return
        shared = attachment.objects.get((replica.name, replica.persistent))
        if shared is None:
            return  # It was let go meanwhile; its Release is on its way.
        if joined.resumed and joined.session in replica.members:
            shared.resumed()
            return
        replica.members[joined.session] = shared
        shared.joined(replica.content)

    def _left(self, link: Link, left: object_traffic.ObjectLeft) -> None:
        replica = self.replicas.get(left.shared_object)
        if replica is not None:
            replica.members.pop(left.session, None)

    def leave_group(self, group: str) -> None:
        """A group has another origin: whatever this one still says about its objects means nothing."""
        for number, replica in list(self.replicas.items()):
            if replica.group == group:
                del self.replicas[number]


class Peers:
    """See the module. `make_link` makes a link to an origin and starts it; by default over the node's sockets."""

    def __init__(self, node: Node, make_link: Callable[["Peers", str], Link] | None = None) -> None:
        self._node = node
        self._make_link = make_link or _make_link
        self._links: dict[str, Link] = {}
        self.replicas: dict[ReplicaKey, Replica] = {}
        self._attachments: dict[tuple[Group, str], ScopeGuest] = {}
        """By the group of the application and the name of the one that it is attached to."""
        self._numbers = count(1)
        node.view.on_change(self._table_changed)

    # For applications

    def remote(self, home: "Group", group: str, name: str, persistent: bool) -> RemoteObject:
        """An object that another group has; the application of `home` holds it from now on. Nothing waits yet."""
        attachment = self._attachments.get((home, group))
        if attachment is None:
            attachment = self._attachments[home, group] = ScopeGuest(self, home.scope, group)
        shared = attachment.objects.get((name, persistent))
        if shared is None:
            objects = home.objects
            shared = RemoteObject(
                attachment,
                home,
                name,
                persistent,
                objects.limits,
                lambda: objects.routes.users(name, persistent),
            )
            attachment.want(shared)
        return shared

    def holds(self, home: "Group", group: str, name: str, persistent: bool) -> bool:
        """Whether the application holds such an object."""
        attachment = self._attachments.get((home, group))
        return attachment is not None and (name, persistent) in attachment.objects

    def of(self, home: "Group") -> list[ScopeGuest]:
        """The attachments of an application."""
        return [attachment for (group, _), attachment in self._attachments.items() if group is home]

    def release(self, home: "Group") -> None:
        """A scope stops: it uses nothing any more."""
        for attachment in self.of(home):
            attachment.close("the application instance has stopped")

    # For attachments

    def assign(self, group: str) -> Assignment:
        """Who has a group. Raises AssignError."""
        assignment = self._node.assign(group, timeout_s=_ASSIGN_S)
        if not assignment.origin:
            raise AssignError(f"{group} has no origin yet")
        return assignment

    def new_session(self) -> tuple[int, str]:
        """The number of an attachment, on whatever link, and its name in the cluster."""
        number = next(self._numbers)
        return number, f"{self._node.boot}-app-{number}"

    def register(self, attachment: ScopeGuest, link: Link) -> None:
        """An attachment is about to begin over a link."""
        peer: PeerLink = link.data
        peer.attachments[attachment.number] = attachment

    def unregister(self, number: int, link: Link) -> None:
        """What is said over this link about an attachment means nothing any more."""
        peer: PeerLink = link.data
        peer.attachments.pop(number, None)

    def forget(self, number: int) -> None:
        """The session of an attachment is over."""
        for replica in self.replicas.values():
            replica.members.pop(number, None)

    def replicas_of(self, attachment: ScopeGuest) -> list[list[Any]]:
        """Rows of its Attach: the replicas that it is a member of."""
        found = []
        for name, persistent in attachment.objects:
            replica = self.replicas.get((attachment.group, name, persistent))
            if replica is not None and attachment.number in replica.members:
                found.append([name, persistent, replica.content.version, replica.events])
        return found

    def ended(self, attachment: ScopeGuest) -> None:
        """An attachment is closed."""
        for key, known in list(self._attachments.items()):
            if known is attachment:
                del self._attachments[key]

    def link_to(self, origin: str) -> Link:
        """The link to an origin, opened if need be. Raises ObjectUnavailable."""
        link = self._links.get(origin)
        if link is None or link.failure is not None:
            link = self._links[origin] = self._make_link(self, origin)
        return link

    # Links

    def open(self, origin: str) -> Link:
        """A new link over the node's sockets. Raises ObjectUnavailable."""
        node = self._node.view.nodes.get(origin)
        if node is None:
            raise ObjectUnavailable(f"{origin} is not registered")
        link = EdgeLink(
            context=self._node.context,
            security=self._node.security,
            node_id=self._node.node_id,
            boot=self._node.boot,
            origin=origin,
            endpoint=node.endpoint,
            on_batch=self.batch,
            on_up=lambda up: _log.info("link up", origin=up.peer),
            on_down=self.down,
        )
        link.data = PeerLink(self.replicas)
        link.start()
        return link

    def batch(self, link: Link, envelopes: list[Any]) -> None:
        """Carry out what an origin says, in order."""
        peer: PeerLink = link.data
        for envelope in envelopes:
            try:
                peer.take(link, envelope)
            except EnvelopeError as error:
                _log.error("envelope not readable", origin=link.peer, error=str(error))

    def down(self, link: Link, reason: str) -> None:
        """A link is over: what was attached through it looks for its group again."""
        for origin, known in list(self._links.items()):
            if known is link:
                del self._links[origin]
                _log.warning("link down", origin=origin, reason=reason)
        peer: PeerLink = link.data
        for attachment in list(peer.attachments.values()):
            attachment.interrupt(f"its origin is lost: {reason}")
        for replica in peer.replicas.values():
            if not replica.members and self.replicas.get(replica.key) is replica:
                del self.replicas[replica.key]
        peer.replicas.clear()

    def _table_changed(self, change: list[Any]) -> None:
        """The registry's table says something new: a group may have another origin, an origin may be gone."""
        if change[0] == "group":
            self._moved(change[1], change[2])
        elif change[0] == "node-gone":
            link = self._links.get(change[1])
            if isinstance(link, EdgeLink):
                link.give_up("the registry says that it is gone")

    def _moved(self, group: str, origin: str) -> None:
        for (_, name), attachment in list(self._attachments.items()):
            if name == group and attachment.origin and attachment.origin != origin:
                link = self._links.get(attachment.origin)
                if link is not None:
                    link.data.leave_group(group)
                attachment.interrupt(f"{origin or 'another origin'} has it now")

    def close(self, reason: str) -> None:
        """End everything."""
        for attachment in list(self._attachments.values()):
            attachment.close(reason)
        for link in list(self._links.values()):
            if isinstance(link, EdgeLink):
                link.close(reason)
        self._links.clear()

    def health(self) -> dict[str, Any]:
        """Links to other origins, and the objects that applications here use over them."""
        return {
            origin: {
                "attachments": len(link.data.attachments),
                "objects": len(link.data.replicas),
                "queued_bytes": link.queued_bytes,
            }
            for origin, link in sorted(self._links.items())
        }


def _make_link(peers: Peers, origin: str) -> Link:
    return peers.open(origin)
