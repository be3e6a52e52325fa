"""Commits of all groups of an origin: one append for everything that has gathered, in a thread beside the event loop.

While one commit is under way the next gathers. A store that is away is tried again, with the same entries, until it is back:
nothing that waits is given up.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event
from headwater_bus.logs import get_log
from headwater_bus.store_thread import StoreThread
from headwater_store import Append, Fenced, Journals, Loaded, StoreAway, StoreError, WentBack

from headwater_origin.config import OriginConfig
from headwater_origin.counters import Counters
from headwater_origin.durable.journal import pack_rows
from headwater_origin.durable.opening import Opening

if TYPE_CHECKING:
    from headwater_origin.group import Group

_log = get_log("origin")
_AGAIN_S, _MOST_AGAIN_S = 0.1, 1.0
_BROKEN_AGAIN_S = 5.0
"""A group whose journal alone is broken is tried so often."""
_HEALTHY_FACTOR = 4
"""While the store is there, so many times more than `pending_bytes` may wait for the commit that is under way."""


class _Flight:
    """An entry of a group on its way to the store."""

    __slots__ = ("again_at", "append", "group", "snapshot")

    def __init__(self, group: "Group", append: Append, snapshot: bytes | None) -> None:
        self.group, self.append, self.snapshot = group, append, snapshot
        self.again_at = 0.0

    @property
    def number(self) -> int:
        return self.append.after + 1


class Committer:
    """See the module. Without `journals` the journal is off: groups never wait, and nothing survives."""

    def __init__(
        self,
        journals: Journals | None,
        config: OriginConfig,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journals, self._config, self._counters, self._clock = journals, config, counters, clock
        self.off = journals is None
        self.limit_bytes = config.pending_bytes * _HEALTHY_FACTOR
        """Over so many bytes that wait, a group refuses changes."""
        self._thread = StoreThread()
        self._opening = (
            None if journals is None else Opening(journals, self._thread, config.store_patience_s, clock)
        )
        self._groups: dict[Group, None] = {}
        """Those that have their journal open."""
        self._dirty: dict[Group, None] = {}
        self._broken: list[_Flight] = []
        """What the store will not take, apart from the rest."""
        self._due: list[_Flight] = []
        """Those of them that are tried again now."""
        self._wake = Event()
        self._since: float | None = None
        """Since when the commit that is under way has not got through."""
        self._failing = False
        self._patient = True
        """Whether changes are still taken in."""

    # Groups

    def open(self, group: "Group") -> Loaded:
        """What the journal of a group holds; older epochs are fenced. Tries on while the store is away, but not longer than
        `store_patience_s`. Raises StoreError, Fenced among them."""
        assert self._opening is not None
        epoch, loaded = self._opening.open(group)
        self._groups[group] = None
        group.outputs.opened(epoch, loaded)
        return loaded

    def dirty(self, group: "Group") -> None:
        """A group has begun to gather an entry."""
        self._dirty[group] = None
        self._wake.set()

    def finish(self, group: "Group", keeps: bool) -> None:
        """The group has stopped: commit what it still has, then leave a snapshot, or nothing at all where nothing is to be
        kept (`keeps`: something is in any case, as its sessions go on elsewhere). Returns when that is done, or cannot be. Raises
        GroupLost."""
        if self.off or group not in self._groups:
            return
        assert self._journals is not None
        outputs = group.outputs
        while outputs.tail is not None:
            outputs.flushed()
        # From here on nothing is journaled: what still runs would write behind what is left here, to a journal that may be
        # the next owner's by then.
        outputs.give_up()
        try:
            if not keeps and not group.durable.keeps:
                self._thread.call(self._journals.drop, group.name, outputs.epoch)
            elif outputs.tail_entries:
                data = pack_rows(group.durable.rows())
                self._thread.call(
                    self._journals.snapshot, group.name, outputs.epoch, outputs.last_number, data
                )
                outputs.snapshot_taken(outputs.last_number, len(data))
        except Fenced as fenced:
            # All that it has said is committed, so nothing is lost here; what is left is the next owner's.
            group.host.on_fenced(group, fenced.epoch)
        except StoreError as error:
            # The entries say the same.
            _log.warning("no last snapshot", group=group.name, error=error)
        self.forget(group)

    def resume(self, group: "Group") -> None:
        """A group that was finished goes on after all, at the epoch that it had: nobody else has opened its journal, or the next
        append finds that out."""
        group.outputs.reopened()
        if not self.off:
            self._groups[group] = None

    def renewed(self, group: "Group") -> None:
        """The group was granted anew to this origin: whether its journal is as it was left is found out before any more is
        said."""
        if group in self._groups:
            group.outputs.begin()

    def forget(self, group: "Group") -> None:
        """The group is not this origin's any more."""
        self._groups.pop(group, None)

    # Commits

    def run(self) -> None:
        """Job: commit for ever."""
        commit_s = self._config.commit_ms / 1000
        while True:
            self._wake.wait()
            self._wake.clear()
            started = self._clock()
            self._commit()
            left_s = commit_s - (self._clock() - started)
            if left_s > 0:
                gevent.sleep(left_s)

    def _commit(self) -> None:
        groups, self._dirty = self._dirty, {}
        flights = [flight for group in groups if (flight := self._cut(group)) is not None]
        due, self._due = self._due, []
        for flight in due:
            if flight.group in self._groups:
                self._carry([flight])
        if not flights:
            return
        started = self._clock()
        self._carry(flights)
        self._counters.commits += 1
        self._counters.commit_us += int((self._clock() - started) * 1_000_000)

    def _cut(self, group: "Group") -> _Flight | None:
        outputs = group.outputs
        if outputs.flying is not None:
            return None  # Its former entry does not get through.
        entry = outputs.cut()
        if entry is None:
            return None
        data = pack_rows(entry.all_rows())
        # From the state as it is now, which this entry's rows have just led to.
        snapshot = pack_rows(group.durable.rows()) if outputs.snapshot_due(self._config, len(data)) else None
        after = outputs.last_number
        outputs.entry_cut(len(data))
        return _Flight(group, Append(group.name, outputs.epoch, after, [data]), snapshot)

    def _carry(self, flights: list[_Flight]) -> None:
        """Have entries committed, however long the store is away."""
        assert self._journals is not None
        delay_s = _AGAIN_S
        self._since = self._clock()
        while True:
            try:
                self._reopen(flights)
                flights = [flight for flight in flights if not flight.group.outputs.lost]
                appends = [flight.append for flight in flights]
                outcomes = self._thread.call(self._journals.append, appends) if appends else []
                break
            except StoreAway as error:
                self._away(error)
                gevent.sleep(delay_s)
                delay_s = min(delay_s * 2, _MOST_AGAIN_S)
            except StoreError as error:
                self._since = None
                self._one_by_one(flights, error)
                return
        self._since = None
        self._back()
        for flight, outcome in zip(flights, outcomes, strict=True):
            self._landed(flight, outcome)

    def _reopen(self, flights: list[_Flight]) -> None:
        """A group that was granted anew to this origin goes on at the higher epoch, unless another had it in between."""
        assert self._journals is not None
        for flight in flights:
            group, asked = flight.group, flight.append
            if group.epoch != asked.epoch:
                epoch = group.epoch
                try:
                    loaded = self._thread.call(self._journals.open, group.name, epoch)
                except Fenced:
                    continue  # As the append will be.
                if asked.epoch < loaded.epoch < epoch:
                    group.fenced(loaded.epoch)
                    continue
                group.outputs.epoch = epoch
                flight.append = Append(asked.group, epoch, asked.after, asked.entries)

    def _one_by_one(self, flights: list[_Flight], error: StoreError) -> None:
        """The store is there and will not do it: the journals that are sound go on."""
        if len(flights) > 1:
            for flight in flights:
                self._carry([flight])
            return
        (flight,) = flights
        if not flight.again_at:
            _log.error("group cannot be committed, trying on", group=flight.group.name, error=error)
        flight.again_at = self._clock() + _BROKEN_AGAIN_S
        flight.group.outputs.stalled = True
        self._broken.append(flight)

    def _landed(self, flight: _Flight, outcome: Fenced | WentBack | None) -> None:
        group = flight.group
        if isinstance(outcome, Fenced):
            group.fenced(outcome.epoch)
        elif isinstance(outcome, WentBack):
            self._went_back(flight, outcome)
        else:
            group.outputs.committed()
            self._settle(group)
            if flight.snapshot is not None:
                self._snapshot(flight, flight.snapshot)

    def _went_back(self, flight: _Flight, outcome: WentBack) -> None:
        """The store has lost entries: what the group holds is written anew, above the last number that was seen."""
        group = flight.group
        _log.error(
            "the store went back in time, the group is written anew",
            group=group.name,
            entries_lost=f"{outcome.tail + 1} to {outcome.expected}"
            if outcome.tail < outcome.expected
            else "none",
        )
        group.outputs.merge()
        data = pack_rows(group.durable.rows())
        self._since = self._clock()
        delay_s = _AGAIN_S
        while not self._snapshot(flight, data):
            gevent.sleep(delay_s)
            delay_s = min(delay_s * 2, _MOST_AGAIN_S)
        self._since = None
        self._back()
        group.outputs.committed()
        self._settle(group)

    def _snapshot(self, flight: _Flight, data: bytes) -> bool:
        """Write one; returns whether that is settled. One that fails is no loss: the entries are there."""
        assert self._journals is not None
        group = flight.group
        try:
            self._thread.call(self._journals.snapshot, group.name, group.outputs.epoch, flight.number, data)
        except Fenced as fenced:
            group.fenced(fenced.epoch)
        except StoreError as error:
            _log.warning("no snapshot", group=group.name, error=error)
            return False
        else:
            self._counters.snapshots += 1
            group.outputs.snapshot_taken(flight.number, len(data))
        return True

    # The store's health

    def tend(self, now: float) -> None:
        """Called now and then: changes are refused when the store has not answered for too long. `now`: of the clock."""
        if self._since is not None and now - self._since >= self._config.store_patience_s and self._patient:
            self._patient = False
            _log.error("store away for too long, changes are refused", since_s=round(now - self._since, 1))
            for group in self._groups:
                group.outputs.stalled = True
        due = [flight for flight in self._broken if flight.again_at <= now]
        if due:
            self._broken = [flight for flight in self._broken if flight.again_at > now]
            self._due += due
            self._wake.set()

    def held_up(self, late_s: float) -> None:
        """This process did not run for so long: that is no time in which the store has not answered."""
        if self._since is not None:
            self._since = min(self._since + late_s, self._clock())

    @property
    def away(self) -> bool:
        """Whether the store did not do the last commit."""
        return self._failing

    def _away(self, error: StoreError) -> None:
        self._counters.commits_failed += 1
        if not self._failing:
            self._failing = True
            _log.warning("store away, trying on", error=error)
            self.limit_bytes = self._config.pending_bytes
            for group in self._groups:
                self._settle(group)

    def _back(self) -> None:
        if self._failing or not self._patient:
            _log.info("store back")
        if not self._patient or self._failing:
            self._failing, self._patient = False, True
            self.limit_bytes = self._config.pending_bytes * _HEALTHY_FACTOR
            for group in self._groups:
                self._settle(group)

    def _settle(self, group: "Group") -> None:
        """Say whether a group takes changes in."""
        outputs = group.outputs
        broken = bool(self._broken) and any(flight.group is group for flight in self._broken)
        outputs.stalled = not self._patient or outputs.pending_bytes > self.limit_bytes or broken
        if outputs.gathering is not None and outputs.flying is None and group not in self._dirty:
            self.dirty(group)  # It has gathered while its former entry did not get through.

    def close(self) -> None:
        """Let go of the store."""
        if self._journals is not None:
            self._thread.end_with(self._journals.close)
