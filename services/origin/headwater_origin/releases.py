"""Groups of this origin that nobody uses go back to the registry.

One rule: a group that the table gives to this origin and that has not run here for the linger time is released, again and
again until the change feed says that it is gone. So it does not matter why it does not run (nobody ever attached, it lingered
out, its application does not start), nor whether the registry was there at the time.
"""

import time
from collections.abc import Callable

import gevent
from headwater_bus.control import Refused, Release
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_bus.requests import RequestError

_log = get_log("origin")
_AWAY_S = 1.0
"""While the registry does not answer, it is tried so often, with one group."""
_AGAIN_S = 5.0
"""A group that was answered for and is in the table still is released again after so long."""


class _Unused:
    """`due`: when it is released (again), in monotonic seconds. `asked`: the registry may have taken it back already."""

    __slots__ = ("asked", "due", "epoch")

    def __init__(self, epoch: int, due: float) -> None:
        self.epoch, self.due, self.asked = epoch, due, False


class Releases:
    """See the module."""

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._clock = node, clock
        self._unused: dict[str, _Unused] = {}
        self._away_until = 0.0
        self._away = False
        self._job: gevent.Greenlet[..., None] | None = None

    def __len__(self) -> int:
        return len(self._unused)

    def unused(self, name: str, epoch: int, due: float) -> None:
        """A group of this origin does not run: release it from `due` on, or from the earlier time that is known already."""
        known = self._unused.get(name)
        if known is None or known.epoch != epoch:
            self._unused[name] = _Unused(epoch, due)
        elif not known.asked:
            known.due = min(known.due, due)

    def settled(self, name: str) -> None:
        """A group runs here, or is not this origin's any more."""
        self._unused.pop(name, None)

    def under_way(self, name: str, epoch: int) -> bool:
        """Whether the registry may have taken the group back, so that it must not begin here before the feed has told: another
        origin may have it. False as soon as the registry is seen to be away: what is assigned goes on."""
        unused = self._unused.get(name)
        return unused is not None and unused.asked and epoch <= unused.epoch

    def tend(self, now: float) -> None:
        """Release what is due. The registry is asked for one after the other, beside the caller."""
        if now < self._away_until or (self._job is not None and not self._job.dead):
            return
        due = [(name, unused) for name, unused in self._unused.items() if unused.due <= now]
        if due:
            self._job = gevent.spawn(self._release, due)

    def _release(self, due: list[tuple[str, _Unused]]) -> None:
        for name, unused in due:
            if self._unused.get(name) is not unused:
                continue  # It has run here since, or was granted anew.
            unused.asked = True
            try:
                answer = self._node.request_registry(Release(name, unused.epoch))
            except RequestError as error:
                unused.asked = False
                self._away_until = self._clock() + _AWAY_S
                if not self._away:
                    _log.warning("groups not released, trying on", groups=len(self._unused), error=error)
                self._away = True
                return
            self._away = False
            unused.due = self._clock() + _AGAIN_S
            if isinstance(answer, Refused):
                unused.asked = False
                _log.warning("group not released, trying on", group=name, reason=answer.text)
