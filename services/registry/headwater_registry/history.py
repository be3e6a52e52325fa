"""What has happened in the cluster: the last events, for operators. Pure; `Table` keeps it beside the rest of what lasts."""

from collections import deque
from collections.abc import Iterable
from typing import Any

KEPT = 1000
"""Events; older ones are forgotten."""
MAX_REASON = 200
"""Characters."""


class History:
    """Events count from 1. A row is as in `headwater_bus.control.History`."""

    def __init__(self, rows: Iterable[tuple[int, list[Any]]] = ()) -> None:
        self._rows: deque[tuple[int, list[Any]]] = deque(sorted(rows)[-KEPT:], maxlen=KEPT)
        self._new: list[tuple[int, list[Any]]] = []

    def add(
        self,
        at_s: int,
        event: str,
        subject: str,
        *,
        source: str = "",
        target: str = "",
        epoch: int = 0,
        reason: str = "",
    ) -> None:
        """Something has happened, `at_s` seconds since 1970."""
        last = (self._new or self._rows or [(0, [])])[-1][0]
        shown = "".join(char if char.isprintable() else " " for char in reason[:MAX_REASON])
        self._new.append((last + 1, [at_s, event, subject, source, target, epoch, shown]))

    def unsaved(self) -> list[tuple[int, list[Any]]]:
        """What was added since the last commit, numbered."""
        return self._new[-KEPT:]

    def saved(self) -> None:
        """Everything is committed."""
        self._rows.extend(self._new)
        self._new = []

    def undo(self) -> None:
        """Nothing has happened since the last commit."""
        self._new = []

    def last(self, count: int) -> list[list[Any]]:
        """The last `count` rows that are committed, oldest first."""
        return [row for _, row in self._rows][-count:] if count > 0 else []
