"""Any order of requests, failed commits, restarts and waiting keeps the registry's promises."""

from collections.abc import Iterable, Mapping

from headwater_bus.control import (
    Assigned,
    Changed,
    EpochSeen,
    Grant,
    Leave,
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

    def close(self) -> None:
        pass


class RegistryMachine(RuleBasedStateMachine):
    """The table as the service uses it: requests, then a commit that succeeds or fails, then the feed to a mirror."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.records = Memory()
        self.seen_epochs: set[int] = set()
        self.table: Table
        self.restart()

    @rule()
    def restart(self) -> None:
        self.table = load_table(self.records, LEASE_S, self.now)
        self.mirror, self.seq = ClusterView(), 0
        self.mirror.replace(Snapshot("f", 0, *self.table.rows()))

    def tell(self, changes: Changes) -> None:
        self.seq += 1
        assert self.mirror.apply(Changed("f", self.seq, changes))

    def commit(self, changes: Changes, fails: bool) -> bool:
        unsaved = self.table.unsaved()
        if unsaved is None:
            assert not changes
            return True
        if fails:
            self.table.undo()
            return False
        self.records.write(*to_records(unsaved))
        self.table.saved()
        self.tell(changes)
        return True

    @rule(node_id=NODES, boot=BOOTS, capacity=st.floats(0.5, 4), fails=st.booleans())
    def register(self, node_id: str, boot: str, capacity: float, fails: bool) -> None:
        role = node_id.partition("-")[0]
        answer, changes = self.table.register(
            Register(node_id, role, boot, "", capacity), self.now, int(self.now)
        )
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

    @rule(group=GROUPS, origin=NODES, fails=st.booleans())
    def grant(self, group: str, origin: str, fails: bool) -> None:
        before = self.table.groups.get(group)
        answer, changes = self.table.grant(Grant(group, origin))
        if not self.commit(changes, fails) or isinstance(answer, Refused):
            return
        assert isinstance(answer, Assigned)
        if before is not None:
            assert (answer.origin, answer.epoch) == (before.origin, before.epoch)
        else:
            assert answer.epoch > max(self.seen_epochs, default=0)
            self.seen_epochs.add(answer.epoch)

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
        mine = known is None or known.origin == owner
        assert isinstance(answer, Refused) is not mine
        assert bool(changes) is (known is not None and mine and known.epoch <= seen)
        if self.commit(changes, fails) and mine:
            assert self.table.epoch >= seen
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

    @invariant()
    def the_file_is_the_table(self) -> None:
        saved = load_table(self.records, LEASE_S, self.now)
        assert saved.groups == self.table.groups
        assert saved.epoch == self.table.epoch
        assert {(n.node_id, n.boot) for n in saved.nodes.values()} == {
            (n.node_id, n.boot) for n in self.table.nodes.values()
        }

    @invariant()
    def every_group_is_of_an_origin_that_is_here(self) -> None:
        for group in self.table.groups.values():
            assert self.table.nodes[group.origin].role == "origin"
            assert group.epoch in self.seen_epochs


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
