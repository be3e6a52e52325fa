"""Files that are read again when they have changed."""

import time
from collections.abc import Iterable
from pathlib import Path

SETTLED_S = 2.0
"""Files that have changed are left alone for so long: several are replaced one after the other."""
_Stamp = tuple[int, int, int] | None


class WatchedFiles:
    """Some files, which whoever makes this reads right behind it. They are looked at when somebody asks."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._read = self._seen = self._stamps()

    def changed(self) -> bool:
        """Whether they have changed since they were read, and settled: they are as they were when this was asked before, or have
        been so for SETTLED_S. Whoever hears so reads them; it is said once."""
        stamps, before = self._stamps(), self._seen
        self._seen = stamps
        if stamps == self._read or not (stamps == before or self._old()):
            return False
        self._read = stamps
        return True

    def reading(self) -> None:
        """They are about to be read, changed or not: what is written meanwhile is a change."""
        self._read = self._seen = self._stamps()

    def _old(self) -> bool:
        try:
            return time.time() - max(path.stat().st_ctime for path in self._paths) >= SETTLED_S
        except OSError:
            return False

    def _stamps(self) -> tuple[_Stamp, ...]:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> _Stamp:
    """What tells whether a file has changed; None: it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_ino, stat.st_size)
