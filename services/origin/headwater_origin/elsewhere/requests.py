"""What applications elsewhere ask of SharedObjects here: each request is applied as a whole, as one commit, or refused."""

from typing import TYPE_CHECKING

import gevent
from headwater_bus.codec import EnvelopeError
from headwater_bus.object_traffic import ObjectRequest
from headwater_bus.rows import unpack_rows

from headwater_origin.objects.access import Access
from headwater_origin.objects.lock import LOCK_S, LockTimeout
from headwater_origin.objects.operations import CLEAR, REMOVE, SEND, SET, UNAVAILABLE, Operation, Row
from headwater_origin.objects.overlay import Overlay

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.objects.shared_object import SharedObject
    from headwater_origin.objects.table import SharedObjects
    from headwater_origin.session import Session

TURN_S = 5.0
"""So long a request waits for another's lock at most."""
_NEEDED = {
    SET: Access.WRITE,
    REMOVE: Access.DELETE,
    CLEAR: Access.DELETE,
    SEND: Access.SEND,
    Operation.PURGE: Access.DELETE,
    Operation.RESYNC_DEPTH: Access.WRITE,
    Operation.AUTO_COMMIT: Access.WRITE,
    Operation.COMMIT: Access.WRITE,
    Operation.LOCK: Access.WRITE,
    Operation.UNLOCK: Access.NONE,
}


class ApplicationRequests:
    """See the module."""

    def __init__(self, objects: "SharedObjects", group: "Group") -> None:
        self._objects, self._group = objects, group
        self._waiting: dict[tuple[Session, SharedObject], gevent.Greenlet[..., None]] = {}
        """Those that wait for a lock."""

    def carry_out(self, session: "Session", request: ObjectRequest) -> None:
        """Do what is asked and answer. May wait where the object is locked."""
        shared, access = self._objects.used(session, request.name, request.persistent)
        if shared is None or access is None:
            self._objects.reply(
                session, request.request, f"{UNAVAILABLE}the application does not use the object"
            )
            return
        try:
            rows: list[Row] = [
                (kind, key, value) for kind, key, value in unpack_rows(request.payload, int, str, bytes)
            ]
            refusal = self._refusal(access, rows)
        except (EnvelopeError, ValueError) as error:
            refusal, rows = str(error), []
        if refusal is None and rows and rows[0][0] == Operation.LOCK:
            # In a greenlet of its own: what the session asks about other objects need not wait.
            waiting = self._group.run(lambda: self._lock(session, shared, request.request))
            self._waiting[session, shared] = waiting
            waiting.rawlink(lambda ended: self._waits_no_more(session, shared, ended))
            return
        unlocks = bool(rows) and rows[-1][0] == Operation.UNLOCK
        if refusal is None:
            refusal = self._apply(session, shared, rows, unlocks)
        if refusal is not None and unlocks:
            shared.unlock(session)
        self._objects.reply(session, request.request, refusal or "")

    def _refusal(self, access: Access, rows: list[Row]) -> str | None:
        for operation, key, _ in rows:
            if operation == Operation.PERMIT:
                needed = Access(int(key))
            elif operation in _NEEDED:
                needed = _NEEDED[operation]
            else:
                return f"operation {operation} is not known here"
            if needed & ~access:
                return f"this scope may not do that: it needs {needed!r}, and has {access!r}"
        return None

    def _apply(
        self, session: "Session", shared: "SharedObject", rows: list[Row], unlocks: bool
    ) -> str | None:
        if unlocks and shared.lock.holder is not session:
            return self._has_no_lock(session, shared, rows)
        if self._group.stalled:
            return f"{UNAVAILABLE}the store cannot be reached; nothing was changed"
        holder = session if unlocks else None
        if not shared.lock.busy or shared.lock.holder is session:
            return self._commit(session, shared, rows, holder)
        try:
            with shared.lock.turn(TURN_S):
                return None if session.closed else self._commit(session, shared, rows, holder)
        except LockTimeout:
            return f"{UNAVAILABLE}locked by another for {TURN_S:g} s; nothing was changed"

    def _waits_no_more(
        self, session: "Session", shared: "SharedObject", ended: "gevent.Greenlet[..., None]"
    ) -> None:
        if self._waiting.get((session, shared)) is ended:
            del self._waiting[session, shared]

    def _has_no_lock(self, session: "Session", shared: "SharedObject", rows: list[Row]) -> str | None:
        """It gives back a lock that it waits for still, or that it had at a link that is lost: others have had their turn since,
        and what it writes may rest on what it read before."""
        waiting = self._waiting.pop((session, shared), None)
        if waiting is not None:
            waiting.kill(block=False)
        return None if len(rows) == 1 else f"{UNAVAILABLE}the lock was lost meanwhile; nothing was changed"

    def _commit(
        self, session: "Session", shared: "SharedObject", rows: list[Row], holder: object | None
    ) -> str | None:
        trial = Overlay(shared)
        try:
            for operation, key, value in rows:
                if operation in (SET, REMOVE):
                    trial.change({key: value if operation == SET else None})
                elif operation == CLEAR:
                    trial.clear()
                elif operation == SEND:
                    trial.send(value)
        except ValueError as error:
            return str(error)
        shared.carry_out(rows, holder, session)
        return None

    def _lock(self, session: "Session", shared: "SharedObject", request: int) -> None:
        try:
            shared.lock.acquire(session, LOCK_S)
        except LockTimeout:
            self._objects.reply(session, request, f"{UNAVAILABLE}locked by another for {LOCK_S:g} s")
            return
        if session.closed or session.objects is None or shared not in session.objects:
            shared.unlock(session)
        else:
            self._objects.reply(session, request, "")
