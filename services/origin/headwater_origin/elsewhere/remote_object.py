"""A SharedObject that another group has, as the application of a scope sees it: a replica to read, requests to change it."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gevent.event import Event
from headwater_rtmp.slots import Slots

from headwater_origin.errors import ObjectUnavailable
from headwater_origin.objects.access import Access
from headwater_origin.objects.lock import LOCK_S, ObjectLock
from headwater_origin.objects.operations import UNAVAILABLE, Operation, Row
from headwater_origin.objects.overlay import Overlay
from headwater_origin.objects.slot_values import SlotLimits
from headwater_origin.objects.watchers import Watchers

if TYPE_CHECKING:
    from headwater_origin.elsewhere.scope_guest import ScopeGuest
    from headwater_origin.group import Group

OPEN_S = 5.0
"""So long who wants to read or change an object waits until its origin is found and has told the content."""
REPLY_S = 10.0
"""So long a change waits for its answer."""
_REFUSED_S = 1.0
"""A refusal stands so long; then it is asked again."""


class RemoteObject:
    """One object. Made and fed by its ScopeGuest, see there. As `headwater_origin.objects.view.ViewedTarget`."""

    waits = True

    def __init__(
        self,
        attachment: "ScopeGuest",
        home: "Group",
        name: str,
        persistent: bool,
        limits: SlotLimits,
        users: Callable[[], int],
    ) -> None:
        self._attachment, self._home = attachment, home
        self.name, self.persistent, self.limits = name, persistent, limits
        self._count_users = users
        self.content = Slots()
        """That of the replica of its link, and the last one while there is no link."""
        self.lock = ObjectLock()
        self.lock_overlay: Overlay | None = None
        self.watchers: Watchers | None = None
        self.resync_depth = -1
        self.auto_commit = True
        self._opened = Event()
        """Set when the content is there, or refused."""
        self._refusal: str | None = None
        self._refused_at = 0.0
        self._let_go = False
        self._known = False
        """Whether the content was there once."""
        self._permitted: Access | None = None

    # Reading

    @property
    def users(self) -> int:
        """Clients of this scope that use it."""
        return self._count_users()

    def ready(self) -> None:
        """Wait until the content is here. Raises ObjectUnavailable, also when the application has let it go."""
        if self._let_go:
            raise ObjectUnavailable(f"{self._where()}: closed; ask for it again (shared_object)")
        if self._opened.is_set():
            if self._refusal is None:
                return
            if time.monotonic() - self._refused_at >= _REFUSED_S:
                self._opened.clear()
                self._refusal = None
                self._attachment.use(self)
        self._attachment.want(self)
        self._opened.wait(timeout=OPEN_S)
        if self._refusal is not None:
            raise ObjectUnavailable(f"{self._where()}: refused: {self._refusal}")
        if not self._opened.is_set():
            raise ObjectUnavailable(
                f"{self._where()}: not there within {OPEN_S:g} s: {self._attachment.trouble}"
            )

    def writable(self) -> None:
        """Whether it can be changed is for its origin to say."""

    def watched(self) -> Watchers:
        """The application's callbacks."""
        if self.watchers is None:
            self.watchers = Watchers(self._home, self.name, self.content.values)
        return self.watchers

    def let_go(self) -> None:
        """The application holds it no longer."""
        self.watchers = None
        self._let_go = True
        self._attachment.let_go(self)

    def _where(self) -> str:
        return f"SharedObject {self.name!r} of {self._attachment.group}"

    # What its origin says

    def joined(self, content: Slots) -> None:
        """This scope uses the object, and here is the content; for a second time after a link was lost, or a commit."""
        before, self.content = self.content.values, content
        if self.watchers is not None and self._known:
            self.watchers.replaced(before, content.values)
        self._known = True
        self._refusal = None
        self._opened.set()

    def refused(self, code: str) -> None:
        """Its origin says no."""
        self._refusal, self._refused_at = code, time.monotonic()
        self._opened.set()

    def resumed(self) -> None:
        """The attachment is back, and the replica goes on where it was."""
        if self._refusal is None:
            self._opened.set()

    def interrupted(self) -> None:
        """The attachment is on its way to another link; who reads or changes waits until it is back."""
        if self._refusal is None:
            self._opened.clear()

    def lost(self) -> None:
        """The attachment is gone; who reads or changes waits until there is another."""
        self._opened.clear()
        self._refusal = None
        self._permitted = None
        # What updates the replica from here on is no news to this one.
        self.content = Slots.from_rows(self.content.version, self.content.base, self.content.rows())

    # Changing

    def carry_out(self, rows: Sequence[Row], holder: object | None) -> None:
        """Have rows applied as one commit, and wait until that is done. Raises ValueError where it is refused, ObjectUnavailable
        where it cannot be done now."""
        try:
            if holder is not None:
                rows = [*rows, (int(Operation.UNLOCK), "", b"")]
            self._request(rows, REPLY_S)
        finally:
            if holder is not None:
                self.lock.release(holder)
        for operation, key, _ in rows:
            if operation == Operation.RESYNC_DEPTH:
                self.resync_depth = int(key)
            elif operation == Operation.AUTO_COMMIT:
                self.auto_commit = key != "0"

    def acquire(self, holder: object) -> None:
        """Take the lock, here and at its origin. Raises LockTimeout or ObjectUnavailable."""
        self.lock.acquire(holder)
        if self.lock.depth > 1:
            return
        try:
            self._request([(int(Operation.LOCK), "", b"")], LOCK_S + REPLY_S)
        except BaseException:
            # It may have come through all the same.
            self.unlock(holder)
            raise

    def unlock(self, holder: object) -> None:
        """Give the lock back, without waiting until its origin knows."""
        if self.lock.holder is holder:
            self._attachment.post(self, [(int(Operation.UNLOCK), "", b"")])
            self.lock.release(holder)

    def permitted(self) -> Access:
        """What its origin lets this scope do. Raises ObjectUnavailable."""
        if self._permitted is None:
            self.ready()
            if self._permits(Access.ALL):
                self._permitted = Access.ALL
            else:
                rights = [right for right in Access.ALL if self._permits(right)]
                self._permitted = Access(sum(rights))
        return self._permitted

    def _permits(self, access: Access) -> bool:
        try:
            self._request([(int(Operation.PERMIT), str(int(access)), b"")], REPLY_S)
        except ValueError:
            return False
        return True

    def _request(self, rows: Sequence[Row], within_s: float) -> None:
        self.ready()
        error = self._attachment.request(self, rows, within_s)
        if error.startswith(UNAVAILABLE):
            raise ObjectUnavailable(f"{self._where()}: {error.removeprefix(UNAVAILABLE)}")
        if error:
            raise ValueError(f"{self._where()}: {error}")
