"""Versioned slots as a mapping, whose changes belong to the transaction that they are made in, if there is one."""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Protocol

from gevent import getcurrent

from headwater_origin.objects.lock import ObjectLock
from headwater_origin.objects.overlay import Overlay, Target
from headwater_origin.objects.slot_values import checked_key, decoded_value, encoded_value
from headwater_origin.transaction import current


class MappedTarget(Target, Protocol):
    """What a mapping needs of an object."""

    lock: ObjectLock
    lock_overlay: Overlay | None

    def ready(self) -> None:
        """Wait until the content is there. Raises ObjectUnavailable."""

    def writable(self) -> None:
        """Raise StoreUnavailable where nothing can be changed now."""


class SlotMapping(MutableMapping[str, Any]):
    """Keys are slot names, values what AMF can say; each read gives a copy. Setting a slot to None deletes it."""

    __slots__ = ("_target",)

    def __init__(self, target: MappedTarget) -> None:
        self._target = target

    def _changes(self) -> Overlay | None:
        """What the caller has changed and nobody else sees yet."""
        target = self._target
        if target.lock_overlay is not None and target.lock.holder is getcurrent():
            return target.lock_overlay
        running = current()
        found = running.peek(target) if running is not None else None
        return found if isinstance(found, Overlay) else None

    def _read(self) -> Overlay:
        """What the caller sees."""
        self._target.ready()
        changes = self._changes()
        return Overlay(self._target) if changes is None else changes

    @contextmanager
    def _writing(self) -> Iterator[Overlay]:
        """Where to write; outside of a transaction and a lock it is committed at the end."""
        target = self._target
        target.ready()
        changes, running = self._changes(), current()
        if changes is not None:
            yield changes
        elif running is not None:
            yield running.overlay(target, lambda: Overlay(target))
        else:
            target.writable()
            changes = Overlay(target)
            yield changes
            changes.commit()

    def __getitem__(self, key: str) -> Any:
        raw = self._read().get(key)
        if raw is None:
            raise KeyError(key)
        return decoded_value(raw)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._read().get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return self._read().keys()

    def __len__(self) -> int:
        return len(self._read())

    def __setitem__(self, key: str, value: Any) -> None:
        self.change({key: value})

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self.change({key: None})

    def change(self, items: Mapping[str, Any]) -> None:
        """Set (or with None delete) several slots at once. Raises ValueError for a value without an AMF form (AmfEncodeError),
        a key that is none, or over a limit of the object; then nothing is changed. Raises ObjectUnavailable, and outside of a
        transaction, which does so at its end, StoreUnavailable."""
        encoded: dict[str, bytes | None] = {}
        try:
            for key, value in items.items():
                encoded[checked_key(key)] = encoded_value(key, value)
        except ValueError as error:
            raise ValueError(f"SharedObject {self._target.name!r}: {error}") from error
        with self._writing() as changes:
            changes.change(encoded)

    def clear(self) -> None:
        """Delete every slot."""
        with self._writing() as changes:
            changes.clear()
