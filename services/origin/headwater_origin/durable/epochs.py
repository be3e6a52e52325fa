"""Tells the registry of epochs that the store has and that are above what it granted: its table went back in time."""

import gevent
from headwater_bus.control import EpochSeen, Refused
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_bus.requests import RequestError

_log = get_log("origin")
_AGAIN_S = 1.0


class Epochs:
    """See the module. Each is told until the registry has answered."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._untold: dict[str, int] = {}
        self._job: gevent.Greenlet[..., None] | None = None

    def seen(self, group: str, epoch: int) -> None:
        """The store says that a group was opened at this epoch."""
        self._untold[group] = max(epoch, self._untold.get(group, 0))
        if self._job is None or self._job.dead:
            self._job = gevent.spawn(self._tell)

    def _tell(self) -> None:
        refused: dict[str, Refused] = {}
        while self._untold:
            group, epoch = next(iter(self._untold.items()))
            try:
                answer = self._node.request_registry(EpochSeen(group, epoch))
            except RequestError:
                gevent.sleep(_AGAIN_S)  # Its grant must wait for it as well.
                continue
            if isinstance(answer, Refused):
                refused[group] = answer
            if self._untold.get(group) == epoch:
                del self._untold[group]
        if refused:
            # One line for all: an origin that was away longer than its lease finds many.
            group, answer = next(iter(refused.items()))
            _log.info(
                "registry knows better of groups", groups=len(refused), such_as=group, reason=answer.text
            )
