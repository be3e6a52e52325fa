"""One SharedObject of a group: its slots, its users by edge, and one commit at a time (RTMP 1.0, 7.1.3).

The content goes to an edge once, when its first user joins (`ObjectOpened`); from then on the edge has a replica, which each
commit brings up to date (`ObjectUpdate`, once per edge). Whoever joins later, or is told what a slot holds (`ObjectAnswer`),
gets that from the replica: the link keeps the order, so it holds what the origin held when it said so. So what a client
asks for never crosses the link in many times the bytes of the question.

All of it leaves by `Group.send`: when what the journal was given before is committed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headwater_bus.codec import constructor
from headwater_bus.logs import get_log
from headwater_bus.object_traffic import (
    ObjectAnswer,
    ObjectClosed,
    ObjectJoined,
    ObjectLeft,
    ObjectOpened,
    ObjectResumed,
    ObjectUpdate,
)
from headwater_bus.rows import pack_rows
from headwater_rtmp.slots import Slots

from headwater_origin.durable.journal import ObjectKind
from headwater_origin.errors import ObjectUnavailable, StoreUnavailable
from headwater_origin.objects.lock import ObjectLock
from headwater_origin.objects.missed import Missed
from headwater_origin.objects.operations import CLEAR, EVENTS, REMOVE, SEND, Operation, Row
from headwater_origin.objects.recent import Asker, Commit, Have, Recent, new_row
from headwater_origin.objects.rows import commit_row, content_row
from headwater_origin.objects.slot_values import SlotLimits
from headwater_origin.objects.watchers import Watchers

if TYPE_CHECKING:
    from headwater_origin.edge_port import EdgePort
    from headwater_origin.group import Group
    from headwater_origin.objects.overlay import Overlay
    from headwater_origin.session import Session


_log = get_log("origin")
_make_update = constructor(ObjectUpdate)
_LINK_CONTENT_BYTES = 64 * 1024 * 1024
"""An object is not opened on an edge to which more would be under way with it: half of what ends the link."""
_SKIPPED = 4096
"""What a store that went back in time may have lost is not known exactly: the count goes on so far above what was seen."""


class _Users:
    """The users of an object on one edge, and the object's number on that link. `since`: the replica there began with the
    content, and was told of every commit behind that number; 0: it went on where it was."""

    __slots__ = ("idle_since", "number", "sessions", "since")

    def __init__(self, number: int) -> None:
        self.number = number
        self.since = 0
        self.sessions: dict[Session, None] = {}
        self.idle_since = 0.0
        """Since when there are none; the edge keeps its replica a while, in case somebody comes back."""


class SharedObject:
    """One object. `events` counts its commits, also those that only send. `limits`: of its content."""

    __slots__ = (
        "_group",
        "_users",
        "acquired",
        "auto_commit",
        "content",
        "events",
        "idle_since",
        "journaled",
        "kind",
        "limits",
        "lock",
        "lock_overlay",
        "name",
        "persistent",
        "recent",
        "reserved",
        "resync_depth",
        "uncommitted",
        "watchers",
    )

    def __init__(
        self, group: "Group", kind: ObjectKind, name: str, limits: SlotLimits, floor: int = 0
    ) -> None:
        self._group = group
        self.kind, self.name, self.limits = int(kind), name, limits
        self.persistent = kind is not ObjectKind.TEMPORARY
        self.content = Slots(floor)
        self.events = 0
        self.recent = Recent(floor)
        self.resync_depth = -1
        self.auto_commit = True
        self.uncommitted = False
        """Whether there is something that the journal does not know, without `auto_commit`."""
        self.reserved = 0
        """Versions up to here are never counted again, whatever becomes of what the journal does not know."""
        self.journaled = False
        """Whether the journal knows of it."""
        self.lock = ObjectLock()
        self.acquired = False
        """Whether the application holds it."""
        self.idle_since: float | None = group.clock()
        self.watchers: Watchers | None = None
        self.lock_overlay: Overlay | None = None
        """Changes of the greenlet that holds the lock."""
        self._users: dict[EdgePort, _Users] = {}

    @property
    def version(self) -> int:
        """Counts commits that changed a slot."""
        return self.content.version

    @property
    def durable(self) -> bool:
        """Whether it stays when nobody uses it."""
        return self.persistent and bool(self.content.values)

    # Users

    @property
    def users(self) -> int:
        """How many clients use it."""
        return sum(sum(not session.scope for session in users.sessions) for users in self._users.values())

    def crowded(self, edge: "EdgePort") -> bool:
        """Whether the edge lacks the content and has too much to take before it."""
        return (
            edge not in self._users and edge.link.queued_bytes + self.content.size_bytes > _LINK_CONTENT_BYTES
        )

    def join(self, session: "Session", version: int = 0) -> None:
        """A session uses the object (again): its edge tells it the whole content, or what is newer than `version`, which it has
        (0: nothing)."""
        edge = session.edge
        users = self._users.get(edge)
        if users is None:
            users = self._known_to(edge)
            self._open(edge, users, again=bool(self._group.absent) and not session.scope)
        users.sessions[session] = None
        self.idle_since = None
        self._group.send(edge, ObjectJoined(session.number, users.number, self._since(version)), session)

    def _known_to(self, edge: "EdgePort") -> _Users:
        """From now on an edge knows the object by a number."""
        users = self._users[edge] = _Users(edge.next_number())
        edge.objects[users.number] = self
        edge.closed.pop(self._key, None)
        return users

    def _open(self, edge: "EdgePort", users: _Users, again: bool = False) -> None:
        """Give an edge the content. `again`: somebody there may come back who has not heard of the last commits. They follow,
        from the first one that is known: they make of the content what it is already."""
        content, recent = self.content, self.recent
        payload = pack_rows(content.rows())
        users.since = recent.events if again else self.events
        self._group.counters.object_snapshots_out += 1
        self._group.send(
            edge,
            ObjectOpened(
                users.number,
                self.name,
                self.persistent,
                content.version,
                content.base,
                users.since,
                self._group.name,
                payload,
            ),
        )
        if again:
            for commit in recent.commits:
                self._tell_of(edge, users, commit)

    @property
    def _key(self) -> tuple[str, str, bool]:
        return self._group.name, self.name, self.persistent

    def number_on(self, edge: "EdgePort") -> int | None:
        """The number by which an edge knows it."""
        users = self._users.get(edge)
        return None if users is None else users.number

    def _since(self, version: int) -> int:
        """From which version on a client that has `version` may be told a difference; -1: it is told everything. Only who comes
        back to a persistent object can have one that means anything, and only with a journal: without, versions are counted
        anew each time the group begins."""
        content = self.content
        if (
            not self.persistent
            or self._group.outputs.off
            or not 0 < version <= content.version
            or version < content.base
        ):
            return -1
        near = self.resync_depth < 0 or content.version - version <= self.resync_depth
        return version if near else -1

    def resync(self, edge: "EdgePort", number: int) -> None:
        """An edge lacks a commit of the object that it knows by this number: it gets the content again."""
        users = self._users.get(edge)
        if users is not None and users.number == number:
            self._open(edge, users)

    # Coming back, over another link

    def resume(
        self, session: "Session", have: Have | None, told: Have | None, answered: int, is_new: bool = False
    ) -> Missed:
        """A session that used the object goes on. `have`: its edge's replica; `told`: what of it the session, a member of it, was
        told; both None where it is none, as it was never told that it has joined. Everything that its messages up to number
        `answered` have caused was told. `is_new`: another edge had the session. Brings the replica up to
        date; returns what the session is to be told when it is attached."""
        users = self._bring_back(session, have)
        users.sessions[session] = None
        self.idle_since = None
        return Missed(self, session, users.number, users.since, told, answered, is_new)

    def covers(self, have: Have) -> bool:
        """Whether all is known that somebody lacks who has this."""
        # Without a journal versions and events of another origin's object mean nothing here.
        return self._group.journaled and self.recent.since(have) is not None

    def dismiss(self, session: "Session", have: Have) -> None:
        """A session's edge has it as a user still, and it is none any more."""
        users = self._bring_back(session, have)
        users.idle_since = self._group.clock()
        self._group.send(session.edge, ObjectLeft(session.number, users.number), session)

    def _bring_back(self, session: "Session", have: Have | None) -> _Users:
        """Have the replica of a session's edge go on, if this link does not know of it yet: with what it lacks, or with the whole
        content."""
        edge = session.edge
        users = self._users.get(edge)
        if users is not None:
            return users
        # What its edge says it has of one that was closed may be older than what it has by now.
        was_closed = self._key in edge.closed
        users = self._known_to(edge)
        lacking = None
        if have is not None and not was_closed and self.covers(have):
            lacking = self.recent.since(have)
        if have is None or lacking is None:
            if have is not None and not was_closed:
                self._found(edge, have)
            self._open(edge, users, again=not session.scope)
            return users
        group = self._group
        resumed = ObjectResumed(users.number, group.name, self.name, self.persistent, have.events)
        group.send(edge, resumed)
        for commit in lacking:
            self._tell_of(edge, users, commit)
        return users

    def _found(self, edge: "EdgePort", have: Have) -> None:
        """An edge has a replica that is no copy of this history. Where it has seen more than there ever was, the store went back
        in time: what comes from here on is above that."""
        group = self._group
        ahead = have.version > self.version or (have.events > self.events and self.journaled)
        if not ahead or group.outputs.off or not self.auto_commit:
            return
        _log.error(
            "the store went back in time, the object goes on above what an edge has seen",
            group=group.name,
            object=self.name,
            edge=edge.link.peer,
            commits_lost=f"{self.events + 1} to {have.events}",
        )
        content = self.content
        content.version = content.base = max(content.version, have.version) + _SKIPPED
        self.events = have.events + _SKIPPED
        self.recent.begin(content.version, self.events)
        self.journaled = True
        group.journal(content_row(self))
        for other, users in self._users.items():
            if other is not edge:
                self._open(other, users)

    def leave(self, session: "Session", tell: bool) -> None:
        """A session uses it no longer. `tell`: its edge does not know yet."""
        users = self._users.get(session.edge)
        if users is None or users.sessions.pop(session, 0) == 0:
            return
        self.lock.release(session)
        if tell:
            self._group.send(session.edge, ObjectLeft(session.number, users.number), session)
        if not users.sessions:
            users.idle_since = self._group.clock()
            if not session.edge.up:
                self._forget_edge(session.edge, users)
            if not any(users.sessions for users in self._users.values()):
                self.idle_since = users.idle_since

    def close(self, before: float) -> None:
        """Free the replicas of the edges that have had no user since `before`."""
        for edge, users in list(self._users.items()):
            if not users.sessions and users.idle_since <= before:
                self._forget_edge(edge, users)
                edge.note_closed(self._key)
                self._group.send(edge, ObjectClosed(users.number))

    def abandon(self) -> None:
        """It ends here without a word to the edges."""
        for edge, users in list(self._users.items()):
            self._forget_edge(edge, users)

    def _forget_edge(self, edge: "EdgePort", users: _Users) -> None:
        del self._users[edge]
        edge.objects.pop(users.number, None)

    # The application's side, see `headwater_origin.objects.view.ViewedTarget`

    waits = False

    def ready(self) -> None:
        """It is here. Raises ObjectUnavailable when the application has let it go."""
        if not self.acquired:
            raise ObjectUnavailable(f"SharedObject {self.name!r}: closed; ask for it again (shared_object)")

    def writable(self) -> None:
        """Raise StoreUnavailable while the store is away."""
        if self._group.stalled:
            raise StoreUnavailable

    def acquire(self, holder: object) -> None:
        """Take the lock. Raises LockTimeout."""
        self.lock.acquire(holder)

    def watched(self) -> Watchers:
        """The application's callbacks."""
        if self.watchers is None:
            self.watchers = Watchers(self._group, self.name, self.content.values)
        return self.watchers

    def let_go(self) -> None:
        """The application holds it no longer."""
        self.acquired = False
        self.watchers = None

    # Commits

    def carry_out(
        self, rows: Sequence[Row], holder: object | None = None, requester: "Session | None" = None
    ) -> None:
        """Apply what application code wants, as one commit, and give the lock of `holder` back. `requester`: the application of
        another origin."""
        content, version = self.content, self.content.next_version()
        changes: list[Row] = []
        rewritten = False
        for row in rows:
            operation, key, _ = row
            if operation == Operation.PURGE:
                content.purge(int(key))
                rewritten = True
            elif operation == Operation.RESYNC_DEPTH:
                self.resync_depth = int(key)
                rewritten = True
            elif operation == Operation.AUTO_COMMIT:
                self.auto_commit = key != "0"
                rewritten = True
            elif operation == Operation.COMMIT:
                rewritten = rewritten or self.uncommitted
            elif operation in EVENTS and self._has_effect(operation, key):
                if operation != SEND:
                    content.apply(version, (row,))
                changes.append(row)
        self.commit(changes, requester)
        if rewritten:
            self.uncommitted = False
            self.journaled = True
            self._group.journal(content_row(self))
        if holder is not None:
            self.unlock(holder)

    def _has_effect(self, operation: int, key: str) -> bool:
        values = self.content.values
        return key in values if operation == REMOVE else bool(values) if operation == CLEAR else True

    def unlock(self, holder: object) -> None:
        """Give a lock back, however often it was taken."""
        self.lock.release(holder)

    def commit(self, changes: Sequence[Row], requester: "Session | None") -> None:
        """Journal changes that the content has already, and tell every edge once: (event type, key, value) each. A batch that
        changed slots is a new version."""
        if not changes:
            return
        group, version = self._group, self.content.version
        self.events = events = self.events + 1
        if changes[0][0] != SEND or any(row[0] != SEND for row in changes):
            group.counters.object_commits += 1
        payload = pack_rows(changes)
        peer, asker = ("", 0) if requester is None else (requester.edge.peer, requester.number)
        if group.journaled:
            self._keep(version, payload, requester)
        group.counters.object_updates_out += len(self._users)
        send = group.outputs.send
        for edge, users in self._users.items():
            number = asker if edge.peer == peer else 0
            send(edge, _make_update(users.number, version, events, number, payload))
        if self.watchers is not None:
            self.watchers.observe(changes, own=requester is None)

    def _keep(self, version: int, payload: bytes, requester: "Session | None") -> None:
        """Journal a commit, and note it for replicas that may lack it."""
        group, events, asker = self._group, self.events, None
        outputs = group.outputs
        if requester is not None:
            edge = requester.edge
            asker = new_row(Asker, (requester.session_id, requester.handling, edge.peer, requester.number))
        entry = outputs.last_number + 1
        if self.auto_commit:
            self.journaled = True
            group.journal(commit_row(self, version, asker, payload))
        else:
            self.uncommitted = True
            if version > self.reserved:
                self.reserved = group.objects.reserve_versions(self)
        if outputs.off:
            self.recent.begin(version, events)
        else:
            outputs.order = order = outputs.order + 1
            self.recent.add(new_row(Commit, (version, events, asker, payload, entry, order)))

    def _tell_of(self, edge: "EdgePort", users: _Users, commit: Commit) -> None:
        number = commit.attachment(edge.peer)
        self._group.counters.object_updates_out += 1
        update = _make_update(users.number, commit.version, commit.events, number, commit.payload)
        self._group.send(edge, update)

    def answer(self, session: "Session", rows: Sequence[tuple[int, str]]) -> None:
        """Have the edge tell one session: rows of an ObjectAnswer. It comes behind what was committed before."""
        users = self._users.get(session.edge)
        if users is None:
            return
        answer = ObjectAnswer(session.number, users.number, pack_rows(rows))
        if self._group.stalled:
            # Not behind what waits for the store.
            self._group.reply(session, answer)
        else:
            self._group.send(session.edge, answer, session)

    @property
    def stalled(self) -> bool:
        """Whether nothing can be changed, as the store is away."""
        return self._group.outputs.stalled

    def count_refusal(self) -> None:
        """One more change that was refused."""
        self._group.counters.object_changes_refused += 1

    def skip_versions(self, reserved: int) -> None:
        """Versions up to `reserved` may have been told to clients with content that is lost: begin above them, and tell everybody
        who comes back everything."""
        content = self.content
        if not self.auto_commit and content.version <= reserved:
            content.version = content.base = reserved + 1
            self.recent.begin(content.version, self.events)
