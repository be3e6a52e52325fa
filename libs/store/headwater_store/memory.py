"""All kinds of a store in this process's memory: nothing survives. For tests, and to measure what a journal costs.

`memory:` is one of its own each time, `memory:NAME` the same for all in this process that name it.
"""

import math
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

from headwater_store.errors import Fenced, Held, Lost, StoreError, WentBack
from headwater_store.journals import Append, Loaded, judge
from headwater_store.leases import LeaseWrite, Taken
from headwater_store.url import StoreUrl


@dataclass(slots=True)
class _Journal:
    epoch: int = 0
    snapshot: bytes | None = None
    snapshot_number: int = 0
    entries: list[bytes] = field(default_factory=list)

    @property
    def tail(self) -> int:
        return self.snapshot_number + len(self.entries)


@dataclass(slots=True)
class _Lease:
    holder: str
    fence: int
    until: float
    data: bytes | None


class _Place:
    """What `memory:NAME` holds."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.journals: defaultdict[str, _Journal] = defaultdict(_Journal)
        self.leases: dict[str, dict[str, _Lease]] = defaultdict(dict)
        self.records: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.held: set[str] = set()


_PLACES: defaultdict[str, _Place] = defaultdict(_Place)


def _place(url: StoreUrl) -> _Place:
    url.only("files")
    return _PLACES[url.path] if url.path else _Place()


class MemoryRecords:
    """Implements `Records`."""

    def __init__(self, url: StoreUrl, name: str) -> None:
        self._place, self._name, self._closed = _place(url), name, False
        with self._place.lock:
            if name in self._place.held:
                raise StoreError(f"{url}: its {name} records are held already; close them first")
            self._place.held.add(name)

    @property
    def held_until(self) -> float:
        """See Records."""
        return math.inf

    def take(self) -> bool:
        """See Records."""
        return True

    def load(self, prefix: str = "") -> dict[str, bytes]:
        """See Records."""
        with self._place.lock:
            found = self._place.records[self._name]
            return {key: found[key] for key in sorted(found) if key.startswith(prefix)}

    def write(self, put: Mapping[str, bytes], delete: Collection[str] = ()) -> None:
        """See Records."""
        with self._place.lock:
            found = self._place.records[self._name]
            for key in delete:
                found.pop(key, None)
            found.update(put)

    def close(self) -> None:
        """See Records."""
        if not self._closed:
            self._closed = True
            self._place.held.discard(self._name)


class MemoryJournals:
    """Implements `Journals`."""

    def __init__(self, url: StoreUrl) -> None:
        self._place = _place(url)

    def open(self, group: str, epoch: int) -> Loaded:
        """See Journals."""
        with self._place.lock:
            before = self._place.journals[group].epoch
            journal = self._fenced(group, epoch)
            return Loaded(
                journal.snapshot, journal.snapshot_number, list(journal.entries), journal.tail, before
            )

    def open_many(self, wanted: Sequence[tuple[str, int]]) -> list[Loaded | StoreError]:
        """See Journals."""
        outcomes: list[Loaded | StoreError] = []
        for group, epoch in wanted:
            try:
                outcomes.append(self.open(group, epoch))
            except StoreError as error:
                outcomes.append(error)
        return outcomes

    def append(self, batch: Sequence[Append]) -> list[Fenced | WentBack | None]:
        """See Journals."""
        with self._place.lock:
            return [self._append(asked) for asked in batch]

    def snapshot(self, group: str, epoch: int, number: int, data: bytes) -> None:
        """See Journals."""
        with self._place.lock:
            before = self._place.journals[group]
            if before.epoch <= epoch and number < before.snapshot_number:
                raise StoreError(
                    f"group {group}: snapshot of entry {number}, expected {before.snapshot_number} or later"
                )
            journal = self._fenced(group, epoch)
            del journal.entries[: number - journal.snapshot_number]
            journal.snapshot, journal.snapshot_number = data, number

    def drop(self, group: str, epoch: int) -> None:
        """See Journals."""
        with self._place.lock:
            self._fenced(group, epoch)
            self._place.journals[group] = _Journal(epoch)

    def groups(self) -> list[str]:
        """See Journals."""
        with self._place.lock:
            journals = self._place.journals.items()
            return sorted(name for name, found in journals if found.tail or found.snapshot is not None)

    def close(self) -> None:
        """See Journals."""

    def _fenced(self, group: str, epoch: int) -> _Journal:
        journal = self._place.journals[group]
        if journal.epoch > epoch:
            raise Fenced(group, journal.epoch)
        journal.epoch = epoch
        return journal

    def _append(self, asked: Append) -> Fenced | WentBack | None:
        journal = self._place.journals.get(asked.group, _Journal())
        verdict = judge(asked, journal.epoch, journal.tail)
        if not isinstance(verdict, int):
            return verdict
        gone = max(0, min(verdict, journal.snapshot_number - asked.after))
        at = asked.after + gone - journal.snapshot_number
        if list(asked.entries[gone:verdict]) != journal.entries[at : at + verdict - gone]:
            return Fenced(asked.group, journal.epoch)
        journal.entries += asked.entries[verdict:]
        return None


class MemoryLeases:
    """Implements `Leases`; the clock is the monotonic one."""

    def __init__(self, url: StoreUrl, name: str, keep_s: float) -> None:
        self._place, self._keep_s, self._sweep_at = _place(url), keep_s, 0.0
        self._leases = self._place.leases[name]

    def take(self, key: str, holder: str, lease_s: float) -> Taken:
        """See Leases."""
        now = time.monotonic()
        with self._place.lock:
            self._sweep(now)
            found = self._leases.get(key)
            if found is not None and found.until < now - self._keep_s:
                found = None
            if found is not None and found.holder != holder and found.until > now:
                raise Held(key, found.holder)
            fence = max(time.monotonic_ns(), found.fence + 1 if found is not None else 0)
            data = found.data if found is not None else None
            self._leases[key] = _Lease(holder, fence, now + lease_s, data)
            return Taken(data, fence)

    def take_over(self, keys: Sequence[str], holder: str) -> list[Taken | None]:
        """See Leases."""
        now = time.monotonic()
        taken: list[Taken | None] = []
        with self._place.lock:
            for key in keys:
                found = self._leases.get(key)
                if found is None or found.until < now - self._keep_s:
                    taken.append(None)
                    continue
                found.holder, found.until = holder, now
                found.fence = max(time.monotonic_ns(), found.fence + 1)
                taken.append(Taken(found.data, found.fence))
        return taken

    def write(self, key: str, fence: int, data: bytes, lease_s: float) -> None:
        """See Leases."""
        with self._place.lock:
            found, now = self._leases.get(key), time.monotonic()
            if found is None or found.fence != fence or found.until < now - self._keep_s:
                raise Lost(key)
            found.data, found.until = data, now + lease_s

    def write_many(self, writes: Sequence[LeaseWrite], lease_s: float) -> list[bool]:
        """See Leases."""
        return [self._write(write, lease_s) for write in writes]

    def _write(self, write: LeaseWrite, lease_s: float) -> bool:
        try:
            self.write(write.key, write.fence, write.data, lease_s)
        except Lost:
            return False
        return True

    def release(self, key: str, fence: int) -> None:
        """See Leases."""
        with self._place.lock:
            found = self._leases.get(key)
            if found is not None and found.fence == fence:
                found.until = min(found.until, time.monotonic())

    def drop(self, key: str, fence: int) -> None:
        """See Leases."""
        with self._place.lock:
            found = self._leases.get(key)
            if found is not None and found.fence == fence:
                del self._leases[key]

    def close(self) -> None:
        """See Leases."""

    def _sweep(self, now: float) -> None:
        if now < self._sweep_at:
            return
        self._sweep_at = now + self._keep_s / 2
        for key in [key for key, found in self._leases.items() if found.until < now - self._keep_s]:
            del self._leases[key]
