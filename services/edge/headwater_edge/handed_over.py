"""What a draining edge has handed over: should its clients come to no other edge, their origins are told at last."""

from collections import deque
from collections.abc import Iterable

from headwater_bus.link import Link
from headwater_bus.traffic import Detach


class HandedOver:
    """Numbers of attachments that have left this edge without a word. An origin where another edge has the session by now has
    forgotten the number, and ignores its Detach."""

    def __init__(self) -> None:
        self._left: deque[tuple[float, Link, int]] = deque()

    def add(self, left: Iterable[tuple[Link, int]], until: float) -> None:
        """These have left, each by its link; other edges have until then (monotonic seconds)."""
        self._left.extend((until, link, number) for link, number in left)

    def check(self, now: float) -> None:
        """Detach those whose time is up. Where the link is lost meanwhile, the origin has found out by that. `now`: monotonic
        seconds."""
        while self._left and self._left[0][0] < now:
            _, link, number = self._left.popleft()
            if link.failure is None:
                link.send(Detach(number, "handed over, and no other edge has it"))
