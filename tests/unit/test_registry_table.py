"""The registry's table: leases, boots, epochs, the feed's rows, undoing what was not committed. Time is moved by hand."""

import dataclasses
import json
from typing import Any

import pytest
from headwater_bus.control import (
    MAX_EPOCH,
    MAX_GROUP_BYTES,
    Assigned,
    Done,
    EpochSeen,
    Grant,
    Leave,
    Refused,
    Register,
    Registered,
    Release,
    Renew,
)
from headwater_bus.view import Assignment, NodeInfo
from headwater_registry import limits
from headwater_registry.saved import load_table, to_records
from headwater_registry.table import Table
from headwater_store import StoreError

LEASE_S = 3.0


class FakeRecords:
    """Records in memory."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def load(self, prefix: str = "") -> dict[str, bytes]:
        return {key: self.data[key] for key in sorted(self.data) if key.startswith(prefix)}

    def write(self, put: Any, delete: Any = ()) -> None:
        for key in delete:
            self.data.pop(key, None)
        self.data.update(put)

    def close(self) -> None:
        pass

    def save(self, table: Table) -> None:
        unsaved = table.unsaved()
        if unsaved is not None:
            self.write(*to_records(unsaved))
            table.saved()


def register(node_id: str = "origin-1", boot: str = "a", **more: Any) -> Register:
    return Register(
        node_id, node_id.partition("-")[0], boot, "tcp://127.0.0.1:1", more.pop("capacity", 1.0), more
    )


@pytest.fixture
def table() -> Table:
    made = Table(LEASE_S, now=0.0)
    made.register(register("origin-1"), 0.0, 100)
    made.register(register("origin-2"), 0.0, 100)
    made.register(register("edge-1"), 0.0, 100)
    made.saved()
    return made


def test_a_node_registers_once_and_repeating_it_changes_nothing() -> None:
    table = Table(LEASE_S, now=0.0)
    answer, changes = table.register(register(apps=["live"]), 0.0, 100)
    assert answer == Registered(3000)
    row = ["origin-1", "origin", "a", "tcp://127.0.0.1:1", 1.0, {"apps": ["live"], "since": 100}, {}]
    assert changes == [["node", row]]
    table.saved()
    assert table.register(register(apps=["live"]), 1.0, 200) == (Registered(3000), [])
    assert table.unsaved() is None
    _, changes = table.register(register(apps=["chat"]), 1.0, 200)
    assert changes[0][1][5] == {"apps": ["chat"], "since": 100}


def test_a_new_boot_frees_what_its_former_self_had(table: Table) -> None:
    table.grant(Grant("b", "origin-1"))
    table.grant(Grant("a", "origin-1"))
    table.grant(Grant("c", "origin-2"))
    answer, changes = table.register(register(boot="b"), 1.0, 200)
    assert answer == Registered(3000)
    assert changes[:2] == [["group-gone", "a"], ["group-gone", "b"]]
    assert changes[2][1][:3] == ["origin-1", "origin", "b"]
    assert set(table.groups) == {"c"}
    assert table.nodes["origin-1"].meta["since"] == 200


def test_two_processes_of_one_name_do_not_take_turns(table: Table) -> None:
    table.register(register(boot="b"), 1.0, 0)
    answer, changes = table.register(register(boot="a"), 1.1, 0)
    assert isinstance(answer, Refused)
    assert answer.code == "replaced"
    assert "give each its own --node-id" in answer.text
    assert changes == []
    assert table.register(register(boot="b"), 1.2, 0) == (Registered(3000), [])
    table.leave(Leave("origin-1", "b"))
    assert isinstance(table.register(register(boot="a"), 1.3, 0)[0], Registered)


def test_a_lease_ends_unless_it_is_renewed(table: Table) -> None:
    table.grant(Grant("a", "origin-1"))
    for node_id in ("origin-2", "edge-1"):
        assert table.renew(Renew(node_id, "a"), 2.0)[0] == Registered(3000)
    assert table.expire(2.9) == ([], [])
    gone, changes = table.expire(3.0)
    assert gone == ["origin-1"]
    assert changes == [["group-gone", "a"], ["node-gone", "origin-1"]]
    assert table.groups == {}
    answer, _ = table.renew(Renew("origin-1", "a"), 3.1)
    assert isinstance(answer, Refused)
    assert answer.code == "unknown-node"
    assert table.expire(4.9) == ([], [])
    assert table.expire(5.0)[0] == ["origin-2", "edge-1"]


def test_leases_run_on_while_the_registry_itself_was_held_up(table: Table) -> None:
    table.extend_leases(10.0)
    assert table.expire(12.9) == ([], [])
    assert len(table.expire(13.0)[0]) == 3


def test_loads_are_told_together_and_once(table: Table) -> None:
    table.renew(Renew("origin-2", "a", {"cpu_percent": 5}), 1.0)
    table.renew(Renew("origin-1", "a", {"cpu_percent": 1}), 1.0)
    table.renew(Renew("origin-1", "a", {"cpu_percent": 2}), 1.1)
    assert table.unsaved() is None
    assert table.loads() == [
        ["load", "origin-1", {"cpu_percent": 2}],
        ["load", "origin-2", {"cpu_percent": 5}],
    ]
    table.renew(Renew("origin-1", "a", {"cpu_percent": 2}), 1.2)
    assert table.loads() == []
    table.renew(Renew("origin-1", "a", {"cpu_percent": 3}), 1.3)
    table.leave(Leave("origin-1", "a"))
    assert table.loads() == []


def test_leave_is_of_the_boot_that_asks(table: Table) -> None:
    table.grant(Grant("a", "origin-1"))
    assert table.leave(Leave("origin-1", "former")) == (Done(), [])
    assert table.leave(Leave("origin-9", "a")) == (Done(), [])
    assert table.leave(Leave("origin-1", "a")) == (Done(), [["group-gone", "a"], ["node-gone", "origin-1"]])


def test_epochs_come_from_one_counter_and_never_go_back(table: Table) -> None:
    assert table.grant(Grant("a", "origin-1")) == (
        Assigned("a", "origin-1", 1),
        [["group", "a", "origin-1", 1]],
    )
    assert table.grant(Grant("b", "origin-2"))[0] == Assigned("b", "origin-2", 2)
    assert table.grant(Grant("a", "origin-2")) == (Assigned("a", "origin-1", 1), [])
    table.leave(Leave("origin-1", "a"))
    assert table.grant(Grant("a", "origin-2"))[0] == Assigned("a", "origin-2", 3)


@pytest.mark.parametrize(
    ("group", "origin", "code"),
    [
        ("a", "origin-9", "unknown-node"),
        ("a", "edge-1", "not-an-origin"),
        ("", "origin-1", "bad-name"),
        ("x" * (MAX_GROUP_BYTES + 1), "origin-1", "bad-name"),
        ("ü" * (MAX_GROUP_BYTES // 2 + 1), "origin-1", "bad-name"),
        ("a\nb", "origin-1", "bad-name"),
        ("a\ud800", "origin-1", "bad-name"),
        ("\ud800" * 255, "origin-1", "bad-name"),
        ("a", "origin-\ud800", "unknown-node"),
    ],
)
def test_a_grant_that_cannot_be_is_refused(table: Table, group: str, origin: str, code: str) -> None:
    answer, changes = table.grant(Grant(group, origin))
    assert isinstance(answer, Refused)
    assert answer.code == code
    assert changes == []
    assert table.unsaved() is None
    assert table.epoch == 0


def test_release_is_of_the_owner_at_its_epoch(table: Table) -> None:
    table.grant(Grant("x", "origin-2"))
    table.grant(Grant("a", "origin-1"))
    assert table.release(Release("a", 1), "origin-1") == (Done(), [])
    assert table.release(Release("nobody's", 2), "origin-1") == (Done(), [])
    answer, changes = table.release(Release("a", 2), "origin-2")
    assert isinstance(answer, Refused)
    assert (answer.code, changes) == ("not-yours", [])
    assert table.release(Release("a", 2), "origin-1") == (Done(), [["group-gone", "a"]])
    assert table.release(Release("x", 1), None) == (Done(), [["group-gone", "x"]])


def test_a_journal_that_is_ahead_raises_the_counter_and_its_origin_gets_a_new_epoch(table: Table) -> None:
    table.grant(Grant("a", "origin-1"))
    table.grant(Grant("b", "origin-2"))
    table.saved()
    assert table.epoch_seen(EpochSeen("a", 7), "origin-1") == (Done(), [["group", "a", "origin-1", 8]])
    unsaved = table.unsaved()
    assert unsaved is not None
    assert unsaved.epoch == 8
    # Asked again, because the answer was lost: nothing more.
    assert table.epoch_seen(EpochSeen("a", 7), "origin-1") == (Done(), [])
    table.saved()
    # The other group stays as it is until its own journal is seen to be ahead; the next epoch is above all.
    assert table.groups["b"].epoch == 2
    assert table.epoch_seen(EpochSeen("b", 5), None) == (Done(), [["group", "b", "origin-2", 9]])
    assert table.grant(Grant("c", "origin-1"))[0] == Assigned("c", "origin-1", 10)


def test_an_epoch_seen_at_what_was_granted_makes_way_for_a_new_one(table: Table) -> None:
    """Two processes were granted one epoch: the journal's other owner has it, so this one needs another."""
    table.grant(Grant("a", "origin-1"))
    assert table.epoch_seen(EpochSeen("a", 1), "origin-1") == (Done(), [["group", "a", "origin-1", 2]])


def test_an_epoch_seen_counts_though_the_group_is_not_assigned(table: Table) -> None:
    assert table.epoch_seen(EpochSeen("a", 7), "origin-1") == (Done(), [])
    unsaved = table.unsaved()
    assert unsaved is not None
    assert (unsaved.epoch, unsaved.groups, unsaved.nodes) == (7, {}, {})
    records = FakeRecords()
    records.save(table)
    assert table.unsaved() is None
    assert load_table(records, LEASE_S, 0.0).epoch == 7
    assert table.grant(Grant("a", "origin-1"))[0] == Assigned("a", "origin-1", 8)


def test_an_epoch_seen_that_was_not_committed_is_undone(table: Table) -> None:
    table.grant(Grant("a", "origin-1"))
    table.saved()
    table.epoch_seen(EpochSeen("a", 7), "origin-1")
    table.undo()
    assert (table.epoch, table.groups["a"].epoch) == (1, 1)
    table.epoch_seen(EpochSeen("nobody's", 7), "origin-1")
    table.undo()
    assert table.epoch == 1
    assert table.unsaved() is None


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (EpochSeen("a", 7), "not-yours"),
        (EpochSeen("", 7), "bad-name"),
        (EpochSeen("x" * (MAX_GROUP_BYTES + 1), 7), "bad-name"),
        (EpochSeen("b", 0), "bad-epoch"),
        (EpochSeen("b", MAX_EPOCH), "bad-epoch"),
    ],
)
def test_an_epoch_seen_that_will_not_do_is_refused(table: Table, message: EpochSeen, code: str) -> None:
    table.grant(Grant("a", "origin-1"))
    table.saved()
    answer, changes = table.epoch_seen(message, "origin-2")
    assert isinstance(answer, Refused)
    assert (answer.code, changes) == (code, [])
    assert table.unsaved() is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"node_id": "origin-" + "x" * 58}, "bad-name"),
        ({"node_id": ""}, "bad-name"),
        ({"node_id": "printer-1", "role": "printer"}, "bad-name"),
        ({"node_id": "edge-1"}, "bad-name"),
        ({"node_id": "operator-1", "role": "operator"}, "bad-name"),
        ({"node_id": "origin-\ud800"}, "bad-name"),
        ({"role": "origin\ud800"}, "bad-name"),
        ({"boot": ""}, "bad-name"),
        ({"boot": "\ud800"}, "bad-name"),
        ({"endpoint": "tcp://\ud800:1"}, "bad-name"),
        ({"endpoint": "e" * 257}, "bad-name"),
        ({"capacity": 0.0}, "bad-capacity"),
        ({"capacity": float("nan")}, "bad-capacity"),
        ({"capacity": float("inf")}, "bad-capacity"),
        ({"meta": {"x": "y" * 2048}}, "bad-map"),
        ({"meta": {"x": b"bytes"}}, "bad-map"),
        ({"meta": {b"x": 1}}, "bad-map"),
        ({"meta": {"x": "\ud800"}}, "bad-map"),
        ({"meta": {"\ud800": 1}}, "bad-map"),
        ({"meta": {"x": ["\ud800"]}}, "bad-map"),
        ({"meta": {"x": float("nan")}}, "bad-map"),
        ({"meta": {"x": json.loads("[" * 16 + "]" * 16)}}, "bad-map"),
    ],
)
def test_a_registration_that_cannot_be_is_refused(change: dict[str, Any], code: str) -> None:
    table = Table(LEASE_S, now=0.0)
    answer, changes = table.register(dataclasses.replace(register(), **change), 0.0, 0)
    assert isinstance(answer, Refused)
    assert answer.code == code
    assert (changes, table.nodes, table.unsaved()) == ([], {}, None)


@pytest.mark.parametrize("load", [{"x": "y" * 3000}, {"x": "\ud800"}, {"\ud800": 1}])
def test_a_load_that_cannot_be_is_refused_and_does_not_renew(table: Table, load: dict[str, Any]) -> None:
    answer, _ = table.renew(Renew("origin-1", "a", load), 2.0)
    assert isinstance(answer, Refused)
    assert answer.code == "bad-map"
    assert "origin-1" in table.expire(3.0)[0]


def test_tables_have_an_end(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater_registry.table.MAX_NODES", 3)
    answer: Registered | Assigned | Refused
    answer, _ = table.register(register("edge-2"), 0.0, 0)
    assert isinstance(answer, Refused)
    assert answer.code == "too-many"
    assert isinstance(table.register(register("edge-1"), 0.0, 0)[0], Registered)
    size = limits.group_row_bytes("g1", "origin-1")
    monkeypatch.setattr("headwater_registry.table.MAX_GROUPS_BYTES", 2 * size)
    assert isinstance(table.grant(Grant("g1", "origin-1"))[0], Assigned)
    assert isinstance(table.grant(Grant("g2", "origin-1"))[0], Assigned)
    answer, _ = table.grant(Grant("g3", "origin-1"))
    assert isinstance(answer, Refused)
    assert answer.code == "too-many"
    table.release(Release("g1", 1), None)
    assert isinstance(table.grant(Grant("g3", "origin-1"))[0], Assigned)


def test_the_table_lasts() -> None:
    records = FakeRecords()
    table = load_table(records, LEASE_S, 0.0)
    table.register(register("origin-1", capacity=2.5, apps=["live"]), 0.0, 100)
    table.register(register("origin-2"), 0.0, 100)
    table.grant(Grant("a/ü", "origin-1"))
    table.grant(Grant("b", "origin-2"))
    table.renew(Renew("origin-1", "a", {"cpu_percent": 4}), 0.5)
    records.save(table)
    table.grant(Grant("never committed", "origin-1"))

    again = load_table(records, LEASE_S, 1000.0)
    assert again.groups == {"a/ü": Assignment("a/ü", "origin-1", 1), "b": Assignment("b", "origin-2", 2)}
    meta = {"apps": ["live"], "since": 100, "restored": True}
    assert again.nodes["origin-1"] == NodeInfo("origin-1", "origin", "a", "tcp://127.0.0.1:1", 2.5, meta)
    assert again.unsaved() is None
    again.register(register("origin-1", capacity=2.5, apps=["live"]), 1000.0, 200)
    assert again.nodes["origin-1"].meta == {"apps": ["live"], "since": 100}
    assert set(again.groups) == {"a/ü", "b"}
    assert again.expire(1002.9) == ([], [])
    gone, changes = again.expire(1003.0)
    assert set(gone) == {"origin-1", "origin-2"}
    assert ["group-gone", "a/ü"] in changes
    records.save(again)

    empty = load_table(records, LEASE_S, 2000.0)
    assert (empty.nodes, empty.groups) == ({}, {})
    empty.register(register(), 2000.0, 0)
    assert empty.grant(Grant("a", "origin-1"))[0] == Assigned("a", "origin-1", 3)


def test_a_group_of_nobody_is_freed_at_the_start() -> None:
    records = FakeRecords()
    records.data = {"group/a": b'["origin-1", 7]'}
    table = load_table(records, LEASE_S, 0.0)
    assert (table.groups, table.epoch) == ({}, 7)
    records.save(table)
    assert "group/a" not in records.data
    assert load_table(records, LEASE_S, 0.0).epoch == 7


@pytest.mark.parametrize("data", [b"", b"\xff", b"[1]", b'{"a": 1}', b'["origin", 1'])
@pytest.mark.parametrize("key", ["node/origin-1", "group/a", "epoch"])
def test_a_record_that_is_not_readable_is_named(key: str, data: bytes) -> None:
    records = FakeRecords()
    records.data = {key: data}
    with pytest.raises(StoreError, match=f"record '{key}' is not readable"):
        load_table(records, LEASE_S, 0.0)


def state(table: Table) -> tuple[Any, ...]:
    return dict(table.nodes), dict(table.groups), table.epoch, table._groups_bytes, table.rows()


def test_undo_brings_back_the_last_commit(table: Table) -> None:
    table.grant(Grant("a", "origin-1"))
    table.grant(Grant("b", "origin-2"))
    table.saved()
    before = state(table)
    table.grant(Grant("c", "origin-1"))
    table.release(Release("b", 2), None)
    table.register(register("origin-2", "b"), 1.0, 0)
    table.register(register("edge-2"), 1.0, 0)
    table.leave(Leave("origin-1", "a"))
    assert state(table) != before
    table.undo()
    assert [sorted(part, key=str) if isinstance(part, list) else part for part in state(table)[:4]] == list(
        before[:4]
    )
    assert table.unsaved() is None
    # The one whose new boot was undone goes on, and so does the one whose removal was.
    assert isinstance(table.register(register("origin-2", "a"), 1.5, 0)[0], Registered)
    assert isinstance(table.renew(Renew("origin-1", "a"), 1.5)[0], Registered)
    assert table.grant(Grant("c", "origin-1"))[0] == Assigned("c", "origin-1", 3)
    assert table.leave(Leave("origin-1", "a"))[1][-1] == ["node-gone", "origin-1"]
    assert set(table.groups) == {"b"}


def test_a_removal_that_was_undone_is_tried_again(table: Table) -> None:
    assert len(table.expire(3.0)[0]) == 3
    table.undo()
    table.renew(Renew("edge-1", "a"), 3.1)
    assert table.expire(3.2)[0] == ["origin-1", "origin-2"]


def test_a_rival_is_another_process_with_the_same_name(table: Table) -> None:
    assert table.rival(register("origin-1")) is None
    assert table.rival(register("origin-9")) is None
    assert table.rival(register("origin-1", "b")) == table.nodes["origin-1"]
    table.register(register("origin-1", "b"), 1.0, 100)
    # The former one is refused without a question: it was replaced.
    assert table.rival(register("origin-1", "a")) is None
