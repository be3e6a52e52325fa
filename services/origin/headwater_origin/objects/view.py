"""A SharedObject as the application sees it: a mapping whose changes reach every user."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from gevent import getcurrent
from headwater_bus.logs import get_log

from headwater_origin.errors import ObjectUnavailable
from headwater_origin.objects.lock import LockTimeout
from headwater_origin.objects.operations import Operation
from headwater_origin.objects.overlay import Overlay
from headwater_origin.objects.slot_mapping import MappedTarget, SlotMapping
from headwater_origin.objects.slot_values import encoded_arguments
from headwater_origin.transaction import current

if TYPE_CHECKING:
    from headwater_origin.objects.watchers import Watchers

_log = get_log("origin")


class ViewedTarget(MappedTarget, Protocol):
    """What a view needs of an object."""

    resync_depth: int
    auto_commit: bool

    @property
    def persistent(self) -> bool: ...

    @property
    def users(self) -> int: ...

    def watched(self) -> "Watchers":
        """The application's callbacks."""
        ...

    def acquire(self, holder: object) -> None:
        """Take the lock; waits. Raises LockTimeout or ObjectUnavailable."""

    def let_go(self) -> None:
        """The application holds it no longer."""


class SharedObjectView(SlotMapping):
    """An object of this scope or another, here or at another origin: all the same, but that operations on one elsewhere wait for
    its origin, and raise ObjectUnavailable where that is not reached within seconds.

    Changes of a hook, a method or an `atomic()` block are one version when it ends; anywhere else each operation is one."""

    __slots__ = ()

    _target: ViewedTarget

    def __init__(self, target: ViewedTarget) -> None:
        super().__init__(target)

    @property
    def name(self) -> str:
        """The object's name."""
        return self._target.name

    @property
    def persistent(self) -> bool:
        """Whether it stays when nobody uses it."""
        return self._target.persistent

    @property
    def version(self) -> int:
        """Counts commits that changed a slot."""
        self._target.ready()
        return self._target.content.version

    @property
    def users(self) -> int:
        """How many clients use it; of an object elsewhere: clients of this scope."""
        return self._target.users

    # Messages

    def send(self, handler: str, *args: Any) -> None:
        """Call a handler of every user's object. Raises ValueError for what has no AMF form, or over the limit of a value."""
        self._send(handler, args, mark=False)

    def mark(self, handler: str, *args: Any) -> None:
        """The same behind all changes of this transaction or lock, in one message with them."""
        self._send(handler, args, mark=True)

    def _send(self, handler: str, args: tuple[Any, ...], mark: bool) -> None:
        try:
            raw = encoded_arguments(handler, args)
        except ValueError as error:
            raise ValueError(f"SharedObject {self.name!r}: {error}") from error
        with self._writing() as changes:
            changes.send(raw, mark)

    def on_change(self, function: Callable[[dict[str, Any]], object]) -> None:
        """Have a function called, in a transaction, with the slots that others (clients, other scopes) have changed; None: it is
        gone."""
        self._target.ready()
        self._target.watched().on_change(function)

    def on_message(self, handler: str, function: Callable[..., object]) -> None:
        """Have a function called, in a transaction, with the arguments of others' messages for `handler`."""
        self._target.ready()
        self._target.watched().on_message(handler, function)

    # Locks

    def lock(self) -> None:
        """Let clients' changes, and others that lock, wait until `unlock` (as often as this is called) or until the hook or
        method ends. Waits for its turn; raises ObjectUnavailable after 30 s. Changes until then are one version."""
        target, running = self._target, current()
        target.ready()
        here = getcurrent()
        # The caller may have it already, from before its transaction.
        holder: object = here if running is None or target.lock.holder is here else running
        first = target.lock.holder is not holder
        try:
            target.acquire(holder)
        except LockTimeout:
            raise ObjectUnavailable(f"SharedObject {self.name!r}: locked by another for too long") from None
        if not first:
            return
        if running is not None:
            running.overlay(target, lambda: Overlay(target)).holder = holder
            return
        target.lock_overlay = overlay = Overlay(target)
        overlay.holder = holder
        target.lock.watch(here, lambda: self._forgotten(overlay))

    def unlock(self) -> None:
        """Give the lock back: what was changed since `lock` is committed; inside of a hook or method that is when it ends.
        Raises RuntimeError where the caller has no lock, and what `change` raises."""
        target, running = self._target, current()
        lock = target.lock
        if running is not None and lock.holder is running:
            lock.nest(running)
            return
        if lock.holder is not getcurrent() or target.lock_overlay is None:
            raise RuntimeError(f"SharedObject {self.name!r}: unlock without lock")
        if lock.depth > 1:
            lock.nest(lock.holder)
            return
        overlay, target.lock_overlay = target.lock_overlay, None
        try:
            if not overlay.waits:
                target.writable()
                overlay.prepare()
            overlay.commit()
        except BaseException:
            overlay.abandon()
            raise

    @contextmanager
    def locked(self) -> Iterator["SharedObjectView"]:
        """`lock` and `unlock` around a block; outside of a transaction an exception takes back what was changed in it."""
        self.lock()
        try:
            yield self
        except BaseException:
            overlay = self._target.lock_overlay
            if overlay is not None and overlay.holder is getcurrent():
                self._target.lock_overlay = None
                overlay.abandon()
            else:
                self.unlock()
            raise
        self.unlock()

    def _forgotten(self, overlay: Overlay) -> None:
        if self._target.lock_overlay is overlay:
            self._target.lock_overlay = None
            _log.error("a greenlet ended with a lock: its changes are dropped", object=self.name)
            overlay.abandon()

    # Persistence

    @property
    def resync_depth(self) -> int:
        """A client that comes back to a persistent object is told only what differs where its version is at most so far behind;
        otherwise everything. -1: any, where the object remembers enough."""
        return self._target.resync_depth

    @resync_depth.setter
    def resync_depth(self, depth: int) -> None:
        self._persistent("resync_depth")
        with self._writing() as changes:
            changes.operate(Operation.RESYNC_DEPTH, max(-1, int(depth)))

    @property
    def auto_commit(self) -> bool:
        """Whether changes of a persistent object are kept as they come, before anybody sees them (the default), or at `commit`:
        then what came since the last one is lost with this origin."""
        return self._target.auto_commit

    @auto_commit.setter
    def auto_commit(self, on: bool) -> None:
        self._persistent("auto_commit")
        with self._writing() as changes:
            changes.operate(Operation.AUTO_COMMIT, int(on))

    def commit(self) -> None:
        """Keep what was changed while `auto_commit` is off."""
        self._persistent("commit")
        with self._writing() as changes:
            changes.operate(Operation.COMMIT)

    def _persistent(self, what: str) -> None:
        if not self.persistent:
            raise ValueError(
                f"SharedObject {self.name!r}: {what} is for persistent objects, this one is temporary"
            )

    def purge(self, version: int) -> None:
        """Forget slots that were deleted before a version: who comes back with a lower one is told everything."""
        with self._writing() as changes:
            changes.operate(Operation.PURGE, max(0, int(version)))

    def close(self) -> None:
        """Let the object go: a temporary one vanishes when no client uses it. Callbacks are forgotten, and all views of it raise
        ObjectUnavailable until it is asked for again."""
        self._target.let_go()

    def __repr__(self) -> str:
        return f"<SharedObjectView {self.name!r} version {self._target.content.version}>"
