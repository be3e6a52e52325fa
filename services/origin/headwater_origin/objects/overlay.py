"""The changes of one SharedObject that are not seen yet: those of a transaction, or of a lock.

Who writes reads its own writes. All of it becomes one version in the end, and the events keep their order as far as anybody could
tell: of several changes to a slot between two messages only the last goes out.
"""

from collections.abc import Iterator
from typing import Protocol

from headwater_rtmp.slots import Slots

from headwater_origin.objects.operations import CLEAR, REMOVE, SEND, SET, Operation, Row
from headwater_origin.objects.slot_values import SlotLimits


class Target(Protocol):
    """An object that an overlay lies on: one of this origin, or the replica of one elsewhere."""

    @property
    def name(self) -> str: ...

    @property
    def waits(self) -> bool:
        """Whether `carry_out` waits and may raise."""
        ...

    @property
    def content(self) -> Slots: ...

    @property
    def limits(self) -> SlotLimits: ...

    def carry_out(self, rows: list[Row], holder: object | None) -> None:
        """Apply rows as one commit. `holder`: give this one's lock back with it. The target of another origin waits until it is
        committed there, and raises ValueError or ObjectUnavailable; then nothing was changed."""

    def unlock(self, holder: object) -> None:
        """Give a lock back without a change."""


class Overlay:
    """See the module. `waits`: to commit it is to wait. As `headwater_origin.transaction.Overlay`."""

    __slots__ = (
        "_after",
        "_before",
        "_cleared",
        "_count",
        "_marks",
        "_size_bytes",
        "_values",
        "holder",
        "target",
        "waits",
    )

    def __init__(self, target: Target) -> None:
        self.target, self.waits = target, target.waits
        self.holder: object | None = None
        """Who has the object locked until this is committed."""
        self._forget()

    def _forget(self) -> None:
        self._before: list[Row] = []
        """What was written up to the last row that is no change of slots."""
        self._after: dict[str, Row] = {}
        """Changes of slots since then, by key, in the order of the last of each; Clear first, as key ""."""
        self._marks: list[Row] = []
        self._values: dict[str, bytes | None] = {}
        """Slots as they will be, of those that were touched since all were cleared."""
        self._cleared = False
        self._count = 0
        """How many slots more (or, below 0, less) than the content has; all of them once it was cleared."""
        self._size_bytes = 0
        """Likewise for bytes."""

    # Reading

    def get(self, key: str) -> bytes | None:
        """A slot as it will be."""
        if key in self._values:
            return self._values[key]
        return None if self._cleared else self.target.content.values.get(key)

    def keys(self) -> Iterator[str]:
        """Of the slots that there will be; changes meanwhile do no harm."""
        if not self._values and not self._cleared:
            return iter(list(self.target.content.values))
        kept = [] if self._cleared else [key for key in self.target.content.values if key not in self._values]
        return iter(kept + [key for key, value in self._values.items() if value is not None])

    def __len__(self) -> int:
        if not self._values:
            return 0 if self._cleared else len(self.target.content.values)
        return sum(1 for _ in self.keys())

    # Writing

    def change(self, items: dict[str, bytes | None]) -> None:
        """Set slots, or with None delete them. Raises ValueError over a limit; then none of them is changed."""
        limits, content = self.target.limits, self.target.content
        count, size_bytes = self._count, self._size_bytes
        if not self._cleared:
            count, size_bytes = count + len(content.values), size_bytes + content.size_bytes
        for key, value in items.items():
            old = self.get(key)
            # Deletes count first: a full object may be filled anew in one change.
            if value is None and old is not None:
                count, size_bytes = count - 1, size_bytes - _size(key, old)
        for key, value in items.items():
            if value is None:
                continue
            old = self.get(key)
            problem = limits.refusal(key, old, value, count, size_bytes)
            if problem is not None:
                raise ValueError(f"SharedObject {self.target.name!r}, slot {key!r}: {problem}")
            count += old is None
            size_bytes += _size(key, value) - _size(key, old)
        for key, value in items.items():
            if value is None and self.get(key) is None:
                continue
            self._write(key, value)

    def _write(self, key: str, value: bytes | None) -> None:
        old = self.get(key)
        self._count += (value is not None) - (old is not None)
        self._size_bytes += _size(key, value) - _size(key, old)
        self._values.pop(key, None)
        self._values[key] = value
        self._after.pop(key, None)
        self._after[key] = (REMOVE, key, b"") if value is None else (SET, key, value)

    def clear(self) -> None:
        """Delete all slots."""
        if next(self.keys(), None) is None:
            return
        self._values.clear()
        self._cleared = True
        self._count = self._size_bytes = 0
        # What was changed before is gone; a Clear of an empty key cannot be mistaken, as no slot has that name.
        self._after = {"": (CLEAR, "", b"")}

    def send(self, arguments: bytes, mark: bool = False) -> None:
        """A message to all users, here in the order of changes, or (`mark`) behind them. Raises ValueError."""
        problem = self.target.limits.too_long(arguments)
        if problem is not None:
            raise ValueError(f"SharedObject {self.target.name!r}, send: {problem}")
        row = (SEND, "", arguments)
        if mark:
            self._marks.append(row)
        else:
            self._add(row)

    def operate(self, operation: Operation, number: int = 0) -> None:
        """What is neither a change nor a message."""
        self._add((int(operation), str(number), b""))

    def _add(self, row: Row) -> None:
        self._before += self._after.values()
        self._after = {}
        self._before.append(row)

    # The end

    def prepare(self) -> None:
        """Raise ValueError where others' changes meanwhile have left no room for this one's."""
        content, limits = self.target.content, self.target.limits
        values = {} if self._cleared else content.values
        count, size_bytes = (0, 0) if self._cleared else (len(values), content.size_bytes)
        for key, value in self._values.items():
            old = values.get(key)
            count += (value is not None) - (old is not None)
            size_bytes += _size(key, value) - _size(key, old)
        problem = limits.over(count, size_bytes)
        if problem is not None and (count > len(content.values) or size_bytes > content.size_bytes):
            raise ValueError(f"SharedObject {self.target.name!r}: {problem}")

    def commit(self) -> None:
        """Apply it. Raises what `Target.carry_out` does."""
        rows = [*self._before, *self._after.values(), *self._marks]
        holder, self.holder = self.holder, None
        self._forget()
        if rows:
            self.target.carry_out(rows, holder)
        elif holder is not None:
            self.target.unlock(holder)

    def abandon(self) -> None:
        """Forget it."""
        holder, self.holder = self.holder, None
        self._forget()
        if holder is not None:
            self.target.unlock(holder)


def _size(key: str, value: bytes | None) -> int:
    return 0 if value is None else len(key.encode()) + len(value)
