"""Any order of requests, failed commits, restarts and waiting keeps the registry's promises."""

from collections.abc import Iterable, Mapping

from headwater_bus.control import (
    Assigned,
    Changed,
    EpochSeen,
    Granted,
    Grants,
    HandOver,
    Leave,
    PutSettings,
    Refused,
    Register,
    Registered,
    Release,
    Renew,
    Snapshot,
)
from headwater_bus.view import ClusterView
from headwater_registry.saved import load_table, to_records
from headwater_registry.table import Changes, Table
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

NODES = st.sampled_from(["origin-1", "origin-2", "origin-3", "edge-1"])
GROUPS = st.sampled_from(["a", "b", "c", "chat/lobby"])
BOOTS = st.sampled_from(["1", "2", "3"])
LEASE_S = 3.0


class Memory:
    """Records in memory."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def load(self, prefix: str = "") -> dict[str, bytes]:
        return dict(sorted(self.data.items()))

    def write(self, put: Mapping[str, bytes], delete: Iterable[str] = ()) -> None:
        for key in delete:
            self.data.pop(key, None)
        self.data.update(put)

    held_until = float("inf")

    def take(self) -> bool:
        return True

    def close(self) -> None:
        pass


class RegistryMachine(RuleBasedStateMachine):
    """The table as the service uses it: requests, then a commit that succeeds or fails, then the feed to a mirror."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.records = Memory()
        self.seen_epochs: set[int] = set()
        self.granted: set[int] = set()
        self.owners: dict[str, tuple[str, int]] = {}
        self.table: Table
        self.restart()

    @rule()
    def restart(self) -> None:
        self.table = load_table(self.records, LEASE_S, self.now)
        self.mirror, self.seq = ClusterView(), 0
        self.mirror.replace(Snapshot("f", 0, *self.table.rows(), self.table.settings))

    def tell(self, changes: Changes) -> None:
        self.seq += 1
        assert self.mirror.apply(Changed("f", self.seq, changes))

    def commit(self, changes: Changes, fails: bool) -> bool:
        unsaved = self.table.unsaved()
        if unsaved is None:
            assert not changes
            return not fails
        if fails:
            self.table.undo()
            return False
        self.records.write(*to_records(unsaved))
        self.table.saved()
        if changes:
            self.tell(changes)
        return True

    @rule(node_id=NODES, boot=BOOTS, capacity=st.floats(0.5, 4), fails=st.booleans())
    def register(self, node_id: str, boot: str, capacity: float, fails: bool) -> None:
        role = node_id.partition("-")[0]
        answer, changes = self.table.register(Register(node_id, role, boot, "", capacity), self.now)
        if isinstance(answer, Refused):
            assert (answer.code, changes) == ("replaced", [])
        if self.commit(changes, fails) and isinstance(answer, Registered):
            assert self.table.nodes[node_id].boot == boot

    @rule(node_id=NODES, boot=BOOTS, cpu=st.integers(0, 3))
    def renew(self, node_id: str, boot: str, cpu: int) -> None:
        answer, changes = self.table.renew(Renew(node_id, boot, {"cpu_percent": cpu}), self.now)
        assert changes == []
        known = self.table.nodes.get(node_id)
        assert isinstance(answer, Registered) is (known is not None and known.boot == boot)
        loads = self.table.loads()
        if loads:
            self.tell(loads)

    @rule(rows=st.lists(st.tuples(GROUPS, NODES), max_size=4), fails=st.booleans())
    def grants(self, rows: list[tuple[str, str]], fails: bool) -> None:
        before = dict(self.table.groups)
        answer, changes = self.table.grants(Grants([[*row] for row in rows]))
        assert isinstance(answer, Granted)
        assert [row[0] for row in answer.rows] == [group for group, _ in rows]
        if not self.commit(changes, fails):
            return
        given: set[str] = set()
        for group, origin, epoch, code in answer.rows:
            had = before.get(group)
            if code:
                assert (origin, epoch) == ("", 0)
            elif had is not None and had.origin:
                assert (origin, epoch) == (had.origin, had.epoch)
            elif group not in given:
                given.add(group)
                self.new_epoch(epoch)

    def new_epoch(self, epoch: int) -> None:
        """One that was never granted, and above all that were seen."""
        assert epoch > max(self.seen_epochs | self.granted, default=0)
        self.seen_epochs.add(epoch)
        self.granted.add(epoch)

    @rule(group=GROUPS, owner=NODES, origin=NODES, back=st.integers(-1, 2), fails=st.booleans())
    def hand_over(self, group: str, owner: str, origin: str, back: int, fails: bool) -> None:
        known = self.table.groups.get(group)
        epoch = (known.epoch if known else 1) - back
        answer, changes = self.table.hand_over(HandOver(group, epoch, origin, "why"), owner)
        if not self.commit(changes, fails):
            return
        if changes:
            assert known is not None
            assert (known.origin, known.epoch) == (owner, epoch)
            assert isinstance(answer, Assigned)
            assert self.table.groups[group].origin == origin
            self.new_epoch(answer.epoch)
        elif isinstance(answer, Assigned):
            assert known is not None
            assert (answer.origin, answer.epoch) == (known.origin, known.epoch)

    @rule(seen=st.integers(0, 3), name=GROUPS, fails=st.booleans())
    def put_settings(self, seen: int, name: str, fails: bool) -> None:
        version = self.table.settings.get("version", 0)
        answer, changes = self.table.put_settings(PutSettings(seen, {"pins": name}))
        assert bool(changes) is (seen == version)
        if self.commit(changes, fails) and not isinstance(answer, Refused):
            assert self.table.settings == {"pins": name, "version": seen + 1}

    @rule(node_id=NODES, boot=BOOTS, fails=st.booleans())
    def died(self, node_id: str, boot: str, fails: bool) -> None:
        held = {name for name, group in self.table.groups.items() if group.origin == node_id}
        changes = self.table.died(node_id, boot)
        if self.commit(changes, fails) and changes:
            assert {name for name in held if self.table.orphans[name] == node_id} == held
            assert len(changes) == len(held) + 1

    @rule(node_id=NODES, boot=BOOTS, fails=st.booleans())
    def reached(self, node_id: str, boot: str, fails: bool) -> None:
        self.table.reached(node_id, boot)
        self.commit([], fails)

    @rule(group=GROUPS, owner=NODES, back=st.integers(0, 1), fails=st.booleans())
    def release(self, group: str, owner: str, back: int, fails: bool) -> None:
        known = self.table.groups.get(group)
        epoch = (known.epoch if known else 1) - back
        _, changes = self.table.release(Release(group, epoch), owner)
        assert bool(changes) is (known is not None and back == 0 and known.origin == owner)
        self.commit(changes, fails)

    @rule(group=GROUPS, owner=NODES, ahead=st.integers(-1, 5), fails=st.booleans())
    def epoch_seen(self, group: str, owner: str, ahead: int, fails: bool) -> None:
        known, seen = self.table.groups.get(group), max(1, self.table.epoch + ahead)
        answer, changes = self.table.epoch_seen(EpochSeen(group, seen), owner)
        mine = known is None or known.origin in ("", owner)
        assert isinstance(answer, Refused) is not mine
        assert bool(changes) is (known is not None and known.origin == owner and known.epoch <= seen)
        if self.commit(changes, fails) and mine:
            assert self.table.epoch >= seen
            if changes:
                self.granted.add(self.table.epoch)
            self.seen_epochs.add(self.table.epoch)

    @rule(node_id=NODES, boot=BOOTS, fails=st.booleans())
    def leave(self, node_id: str, boot: str, fails: bool) -> None:
        self.commit(self.table.leave(Leave(node_id, boot))[1], fails)

    @rule(by_s=st.floats(0.1, 2.0), fails=st.booleans())
    def wait(self, by_s: float, fails: bool) -> None:
        self.now += by_s
        _, changes = self.table.expire(self.now)
        self.commit(changes, fails)

    @invariant()
    def the_mirror_is_the_table(self) -> None:
        assert self.mirror.nodes == self.table.nodes
        assert self.mirror.groups == self.table.groups
        assert self.mirror.settings == self.table.settings

    @invariant()
    def the_file_is_the_table(self) -> None:
        saved = load_table(self.records, LEASE_S, self.now)
        assert saved.groups == self.table.groups
        assert saved.epoch == self.table.epoch
        assert saved.orphans == self.table.orphans
        assert saved.settings == self.table.settings
        assert saved.history.last(1000) == self.table.history.last(1000)
        assert saved.reachable <= self.table.reachable
        assert {(n.node_id, n.boot) for n in saved.nodes.values()} == {
            (n.node_id, n.boot) for n in self.table.nodes.values()
        }

    @invariant()
    def every_group_is_of_an_origin_that_is_here_or_an_orphan(self) -> None:
        assert set(self.table.orphans) == {
            name for name, group in self.table.groups.items() if not group.origin
        }
        for group in self.table.groups.values():
            assert not group.origin or self.table.nodes[group.origin].role == "origin"
            assert group.epoch in self.seen_epochs

    @invariant()
    def one_epoch_is_never_of_two_owners(self) -> None:
        for name, group in self.table.groups.items():
            former, epoch = self.owners.get(name, ("", 0))
            assert group.epoch >= epoch
            if group.epoch == epoch and group.origin and former:
                assert group.origin == former
            if group.origin:
                self.owners[name] = (group.origin, group.epoch)


class Held(Memory):
    """Records that one registry at a time holds."""

    def __init__(self) -> None:
        super().__init__()
        self.holder = 0

    def write_as(self, number: int, put: Mapping[str, bytes], delete: Iterable[str]) -> bool:
        """Whether it was carried out: those of a former holder are not."""
        if self.holder != number:
            return False
        self.write(put, delete)
        return True


class TwoRegistriesMachine(RuleBasedStateMachine):
    """Two registries take turns at any moment; the one that lost the records does not know it until it writes."""

    @initialize()
    def begin(self) -> None:
        self.records = Held()
        self.tables = [Table(LEASE_S, now=0.0), Table(LEASE_S, now=0.0)]
        self.leads = [False, False]
        self.told: dict[int, str] = {}
        self.take(0)

    @rule(number=st.integers(0, 1))
    def take(self, number: int) -> None:
        """The other one hung for longer than its lease, or was killed."""
        if not self.leads[number]:
            self.records.holder = number
            self.tables[number], self.leads[number] = load_table(self.records, LEASE_S, 0.0), True

    def commit(self, number: int) -> bool:
        table = self.tables[number]
        unsaved = table.unsaved()
        if unsaved is None:
            return self.records.holder == number
        if not self.records.write_as(number, *to_records(unsaved)):
            self.leads[number] = False
            return False
        table.saved()
        return True

    @rule(number=st.integers(0, 1), node_id=NODES, boot=BOOTS)
    def register(self, number: int, node_id: str, boot: str) -> None:
        if self.leads[number]:
            role = node_id.partition("-")[0]
            self.tables[number].register(Register(node_id, role, boot, "", 1.0), 0.0)
            self.commit(number)

    @rule(number=st.integers(0, 1), node_id=NODES, boot=BOOTS)
    def died(self, number: int, node_id: str, boot: str) -> None:
        if self.leads[number]:
            self.tables[number].died(node_id, boot)
            self.commit(number)

    @rule(number=st.integers(0, 1), group=GROUPS, origin=NODES)
    def grant(self, number: int, group: str, origin: str) -> None:
        if not self.leads[number]:
            return
        answer, changes = self.tables[number].grants(Grants([[group, origin]]))
        if self.commit(number) and changes:
            assert isinstance(answer, Granted)
            epoch = answer.rows[0][2]
            assert epoch not in self.told
            assert epoch > max(self.told, default=0)
            self.told[epoch] = origin

    @rule(number=st.integers(0, 1), group=GROUPS, origin=NODES)
    def hand_over(self, number: int, group: str, origin: str) -> None:
        known = self.tables[number].groups.get(group)
        if not self.leads[number] or known is None:
            return
        answer, changes = self.tables[number].hand_over(
            HandOver(group, known.epoch, origin, ""), known.origin
        )
        if self.commit(number) and changes:
            assert isinstance(answer, Assigned)
            assert answer.epoch > max(self.told, default=0)
            self.told[answer.epoch] = origin

    @invariant()
    def who_holds_the_records_has_the_table(self) -> None:
        number = self.records.holder
        saved = load_table(self.records, LEASE_S, 0.0)
        assert self.leads[number]
        assert (saved.groups, saved.epoch) == (self.tables[number].groups, self.tables[number].epoch)


TestRegistry = RegistryMachine.TestCase
TestTwoRegistries = TwoRegistriesMachine.TestCase
TestTwoRegistries.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRegistry.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
