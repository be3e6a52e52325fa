"""What application code does in one hook or method takes effect all at once when it returns, or not at all.

While it runs, its changes are in overlays, one for each object that it changed: it sees them, nobody else does. Greenlets that it
spawns are outside of its transaction.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from gevent import getcurrent
from headwater_bus.logs import get_log

from headwater_origin.errors import StoreUnavailable

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import Session

_log = get_log("origin")


class Overlay(Protocol):
    """One transaction's changes of one object."""

    @property
    def waits(self) -> bool:
        """Whether `commit` waits (an object of another group): such are committed before all others."""
        ...

    def prepare(self) -> None:
        """Raise where `commit` could not be carried out, over a limit say. Changes nothing and does not wait. Of an
        overlay whose `commit` waits it is never asked."""
        ...

    def commit(self) -> None:
        """Apply the changes. Only one that waits may raise."""
        ...

    def abandon(self) -> None:
        """Forget the changes."""
        ...


AnyOverlay = TypeVar("AnyOverlay", bound=Overlay)


class Transaction:
    """See the module. `session`: whose message it is about, if any. `must`: it tells of what has happened, such as a client's
    end, so it is committed some time even if the store is away."""

    __slots__ = ("_effects", "_journals", "_overlays", "group", "must", "session")

    def __init__(self, group: "Group", session: "Session | None" = None, must: bool = False) -> None:
        self.group, self.session, self.must = group, session, must
        self._overlays: dict[object, Overlay] = {}
        self._effects: list[Callable[[], None]] = []
        self._journals = False
        """Whether an effect journals something."""

    def overlay(self, target: object, make: Callable[[], AnyOverlay]) -> AnyOverlay:
        """The changes of `target` in this transaction; made at the first call."""
        found = self._overlays.get(target)
        if found is None:
            found = self._overlays[target] = make()
        return cast(AnyOverlay, found)

    def peek(self, target: object) -> Overlay | None:
        """The changes of `target` in this transaction, if there are any."""
        return self._overlays.get(target)

    def after(self, effect: Callable[[], None], journals: bool = False) -> None:
        """Have something done when the changes are applied, in the order of these calls. It must not wait. `journals`: it is
        going to be journaled."""
        self._effects.append(effect)
        self._journals = self._journals or journals

    def commit(self) -> None:
        """Apply everything. Raises what an overlay refuses, StoreUnavailable or GroupLost; then nothing is applied (but for
        objects of other groups that were committed before the refusal)."""
        group, overlays = self.group, self._overlays
        if group.outputs.lost and (overlays or self._effects):
            raise group.outputs.loss()
        if group.outputs.stalled and not self.must and (overlays or self._journals):
            raise StoreUnavailable
        if overlays:
            local = [overlay for overlay in overlays.values() if not overlay.waits]
            for overlay in local:
                overlay.prepare()
            if len(local) < len(overlays):
                self._commit_others(local)
            before = group.outputs.count
            for overlay in local:
                overlay.commit()
            if self.session is not None and group.outputs.count != before:
                group.outputs.hold(self.session)
        for effect in self._effects:
            try:
                effect()
            except Exception as error:
                # A fault of this program. The changes are made, so nobody must hear that they were not.
                group.counters.internal_errors += 1
                _log.error("effect failed", group=group.name, error=repr(error))

    def _commit_others(self, local: list[Overlay]) -> None:
        # What it has read of this group is not to be seen elsewhere before it is committed.
        self.group.flushed()
        for overlay in self._overlays.values():
            if overlay.waits:
                overlay.commit()
        # The group may have been changed, or lost, while this one waited.
        if self.group.outputs.lost:
            raise self.group.outputs.loss()
        for overlay in local:
            overlay.prepare()

    def abandon(self) -> None:
        """Forget everything."""
        for overlay in self._overlays.values():
            overlay.abandon()


_running: dict[object, Transaction] = {}
"""By greenlet."""


def current() -> Transaction | None:
    """The transaction of the running greenlet."""
    return _running.get(getcurrent()) if _running else None


class _Span:
    """What `transaction` gives. Not a generator with @contextmanager: each call of a client goes through it."""

    __slots__ = ("_begun", "_given", "_greenlet")

    def __init__(self, *given: Any) -> None:
        self._given = given
        self._begun: Transaction | None = None
        self._greenlet: object = None

    def __enter__(self) -> Transaction:
        greenlet = getcurrent()
        outer = _running.get(greenlet)
        if outer is not None:
            return outer
        self._greenlet = greenlet
        self._begun = _running[greenlet] = Transaction(*self._given)
        return self._begun

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        begun, self._begun = self._begun, None
        if begun is None:
            return
        del _running[self._greenlet]
        if error is not None:
            begun.abandon()
            return
        try:
            begun.commit()
        except BaseException:
            begun.abandon()
            raise


def transaction(
    group: "Group", session: "Session | None" = None, must: bool = False
) -> AbstractContextManager[Transaction]:
    """Join the running greenlet's transaction, or begin one that is committed at the end and abandoned on any exception."""
    return _Span(group, session, must)
