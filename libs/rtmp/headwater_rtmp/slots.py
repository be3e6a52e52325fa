"""The content of a SharedObject with the history that a difference needs: the authority's, and every replica's.

Slot values stay the bytes they came as. `version` counts commits that changed a slot; each slot knows the version of its last
change, and a deleted one stays as a tombstone, so that who has version c can be told only what is newer (FACTS: resync).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

MAX_TOMBSTONES = 4096
"""Deleted slots that are remembered; over it the oldest are forgotten and `base` rises."""
_CHANGE: Final = 4  # EventType
_REMOVE: Final = 9
_CLEAR: Final = 8
_VERSIONS: Final = 0xFFFFFFFF

SlotEvent = tuple[int, str, bytes]
"""(event type, key, value) of one change: CHANGE, REMOVE (key) or CLEAR (neither)."""


class Slots:
    """See the module. `base` is the lowest version whose holder can be told a difference."""

    __slots__ = ("_changed", "base", "size_bytes", "values", "version")

    def __init__(self, version: int = 0, base: int | None = None) -> None:
        self.values: dict[str, bytes] = {}
        self.version = version
        self.base = version if base is None else base
        self.size_bytes = 0
        """Keys and values together."""
        self._changed: dict[str, int] = {}
        """The version of each slot's last change, tombstones too, in the order of these changes."""

    @property
    def tombstones(self) -> int:
        """How many deleted slots are remembered."""
        return len(self._changed) - len(self.values)

    def next_version(self) -> int:
        """The version of the next commit."""
        return (self.version + 1) & _VERSIONS

    def apply(self, version: int, events: Iterable[Sequence[Any]]) -> None:
        """Take one commit's events: rows that begin with (type, key, value); other types mean nothing here. Deletes what is not
        there without complaint, so that a commit may be applied to any state."""
        self.version = version
        for kind, key, value in events:
            if kind == _CHANGE:
                self._set(key, value, version)
            elif kind == _REMOVE:
                self._delete(key, version)
            elif kind == _CLEAR:
                for gone in list(self.values):
                    self._delete(gone, version)
        if self.tombstones > MAX_TOMBSTONES:
            self._forget_oldest()

    def _set(self, key: str, value: bytes, version: int) -> None:
        old = self.values.get(key)
        self.size_bytes += len(value) - (len(old) if old is not None else -len(key.encode()))
        self.values[key] = value
        self._changed.pop(key, None)
        self._changed[key] = version

    def _delete(self, key: str, version: int) -> None:
        old = self.values.pop(key, None)
        if old is not None:
            self.size_bytes -= len(key.encode()) + len(old)
            self._changed.pop(key, None)
            self._changed[key] = version

    def _forget_oldest(self) -> None:
        """An eighth of them at once, as each time costs as much as there are slots."""
        most = MAX_TOMBSTONES - MAX_TOMBSTONES // 8
        for key, version in list(self._changed.items()):
            if self.tombstones <= most:
                break
            if key not in self.values:
                del self._changed[key]
                self.base = version

    def purge(self, version: int) -> None:
        """Forget tombstones older than a version: who has less than that gets the whole content from now on."""
        for key, at in list(self._changed.items()):
            if at >= version:
                break
            if key not in self.values:
                del self._changed[key]
        self.base = max(self.base, min(version, self.version))

    def since(self, version: int) -> list[str] | None:
        """Slots that changed after a version, in the order of their last change: those without a value are deleted. None: no
        difference is known from there, the whole content is needed."""
        if not self.base <= version <= self.version:
            return None
        keys: list[str] = []
        for key, at in reversed(self._changed.items()):
            if at <= version:
                break
            keys.append(key)
        return keys[::-1]

    def rows(self) -> list[tuple[str, bytes, int]]:
        """Everything, as (key, value, version) in the order of changes; a tombstone's value is empty."""
        values = self.values
        return [(key, values.get(key, b""), version) for key, version in self._changed.items()]

    @classmethod
    def from_rows(cls, version: int, base: int, rows: Iterable[Sequence[Any]]) -> "Slots":
        """What `rows` gave, with its version and base."""
        slots = cls(version, base)
        for key, value, at in rows:
            slots._changed[key] = at
            if value:
                slots.values[key] = value
                slots.size_bytes += len(key.encode()) + len(value)
        return slots
