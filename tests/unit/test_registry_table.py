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
)
from headwater_bus.view import Assignment, NodeInfo
from headwater_registry import limits
from headwater_registry.history import KEPT
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

    held_until = float("inf")

    def take(self) -> bool:
        return True

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


def grant(table: Table, group: str, origin: str) -> tuple[Assigned | Refused, Any]:
    """One grant, its row as an answer."""
    answer, changes = table.grants(Grants([[group, origin]]))
    assert isinstance(answer, Granted)
    ((named, given, epoch, code),) = answer.rows
    assert named == group
    return Refused(code, "") if code else Assigned(group, given, epoch), changes


@pytest.fixture
def table() -> Table:
    made = Table(LEASE_S, now=0.0)
    made.wall_s = 100
    made.register(register("origin-1"), 0.0)
    made.register(register("origin-2"), 0.0)
    made.register(register("edge-1"), 0.0)
    made.saved()
    return made


def test_a_node_registers_once_and_repeating_it_changes_nothing() -> None:
    table = Table(LEASE_S, now=0.0)
    table.wall_s = 100
    answer, changes = table.register(register(apps=["live"]), 0.0)
    assert answer == Registered(3000)
    row = ["origin-1", "origin", "a", "tcp://127.0.0.1:1", 1.0, {"apps": ["live"], "since": 100}, {}]
    assert changes == [["node", row]]
    table.saved()
    table.wall_s = 200
    assert table.register(register(apps=["live"]), 1.0) == (Registered(3000), [])
    assert table.unsaved() is None
    _, changes = table.register(register(apps=["chat"]), 1.0)
    assert changes[0][1][5] == {"apps": ["chat"], "since": 100}


def test_a_new_boot_orphans_what_its_former_self_had(table: Table) -> None:
    grant(table, "b", "origin-1")
    grant(table, "a", "origin-1")
    grant(table, "c", "origin-2")
    table.wall_s = 200
    answer, changes = table.register(register(boot="b"), 1.0)
    assert answer == Registered(3000)
    assert changes[0][1][:3] == ["origin-1", "origin", "b"]
    assert changes[1:] == [["group", "a", "", 2], ["group", "b", "", 1]]
    assert table.groups["a"] == Assignment("a", "", 2)
    assert table.orphans == {"a": "origin-1", "b": "origin-1"}
    # Its new self may have them again, with another epoch.
    assert grant(table, "a", "origin-1")[0] == Assigned("a", "origin-1", 4)
    assert table.nodes["origin-1"].meta["since"] == 200


def test_two_processes_of_one_name_do_not_take_turns(table: Table) -> None:
    table.register(register(boot="b"), 1.0)
    answer, changes = table.register(register(boot="a"), 1.1)
    assert isinstance(answer, Refused)
    assert answer.code == "replaced"
    assert "give each its own --node-id" in answer.text
    assert changes == []
    assert table.register(register(boot="b"), 1.2) == (Registered(3000), [])
    table.leave(Leave("origin-1", "b"))
    assert isinstance(table.register(register(boot="a"), 1.3)[0], Registered)


def test_a_lease_ends_unless_it_is_renewed(table: Table) -> None:
    grant(table, "a", "origin-1")
    for node_id in ("origin-2", "edge-1"):
        assert table.renew(Renew(node_id, "a"), 2.0)[0] == Registered(3000)
    assert table.expire(2.9) == ([], [])
    gone, changes = table.expire(3.0)
    assert gone == ["origin-1"]
    assert changes == [["node-gone", "origin-1"], ["group", "a", "", 1]]
    assert table.groups == {"a": Assignment("a", "", 1)}
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
    grant(table, "a", "origin-1")
    assert table.leave(Leave("origin-1", "former")) == (Done(), [])
    assert table.leave(Leave("origin-9", "a")) == (Done(), [])
    assert table.leave(Leave("origin-1", "a")) == (Done(), [["node-gone", "origin-1"], ["group", "a", "", 1]])


def test_epochs_come_from_one_counter_and_never_go_back(table: Table) -> None:
    assert grant(table, "a", "origin-1") == (
        Assigned("a", "origin-1", 1),
        [["group", "a", "origin-1", 1]],
    )
    assert grant(table, "b", "origin-2")[0] == Assigned("b", "origin-2", 2)
    assert grant(table, "a", "origin-2") == (Assigned("a", "origin-1", 1), [])
    table.leave(Leave("origin-1", "a"))
    assert grant(table, "a", "origin-2")[0] == Assigned("a", "origin-2", 3)


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
    answer, changes = grant(table, group, origin)
    assert isinstance(answer, Refused)
    assert answer.code == code
    assert changes == []
    assert table.unsaved() is None
    assert table.epoch == 0


def test_grants_are_made_together_and_each_has_its_answer(table: Table) -> None:
    grant(table, "mine", "origin-1")
    answer, changes = table.grants(
        Grants(
            [["b", "origin-2"], ["mine", "origin-2"], ["", "origin-1"], ["c", "edge-1"], ["b", "origin-1"]]
        )
    )
    assert answer == Granted(
        [
            ["b", "origin-2", 2, ""],
            ["mine", "origin-1", 1, ""],
            ["", "", 0, "bad-name"],
            ["c", "", 0, "not-an-origin"],
            ["b", "origin-2", 2, ""],
        ]
    )
    assert changes == [["group", "b", "origin-2", 2]]


@pytest.mark.parametrize("rows", [[["a"]], [["a", 1]], ["ab"], [["a", "b", "c"]], [1], [["a", "b"]] * 1001])
def test_grants_that_are_none_are_refused_together(table: Table, rows: list[Any]) -> None:
    answer, changes = table.grants(Grants([["a", "origin-1"], *rows]))
    assert isinstance(answer, Refused)
    assert (changes, table.unsaved(), table.groups) == ([], None, {})


def test_orphans_keep_their_epoch_until_another_origin_has_them(table: Table) -> None:
    for number in range(3):
        grant(table, f"g{number}", "origin-1")
    grant(table, "other", "origin-2")
    assert table.died("origin-1", "former") == []
    assert table.died("origin-1", "a") == [
        ["node-gone", "origin-1"], *(["group", f"g{n}", "", n + 1] for n in range(3))
    ]  # fmt: skip
    assert table.died("origin-1", "a") == []
    # Nobody but a grant changes an orphan, except who is not known and asks to release it.
    assert isinstance(table.release(Release("g0", 1), "origin-1")[0], Refused)
    assert isinstance(table.hand_over(HandOver("g0", 1, "origin-2", ""), "origin-1")[0], Refused)
    assert table.epoch_seen(EpochSeen("g0", 9), "origin-2") == (Done(), [])
    assert table.groups["g0"] == Assignment("g0", "", 1)
    answer, changes = table.grants(Grants([[f"g{n}", "origin-2"] for n in range(3)]))
    assert answer == Granted([[f"g{n}", "origin-2", 10 + n, ""] for n in range(3)])
    assert changes == [["group", f"g{n}", "origin-2", 10 + n] for n in range(3)]
    assert table.orphans == {}
    assert table.history.unsaved()[-2:] == [
        (4, [100, "node-died", "origin-1", "", "", 0, "nobody listens there any more"]),
        (5, [100, "taken-over", "g0 and 2 more", "origin-1", "origin-2", 10, ""]),
    ]


def test_an_orphan_can_be_given_to_somebody_however_full_the_table_is(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater_registry.table.MAX_GROUPS_BYTES", limits.group_bytes("g1"))
    longest = "origin-" + "x" * 57
    table.register(register(longest), 0.0)
    assert isinstance(grant(table, "g1", "origin-1")[0], Assigned)
    table.died("origin-1", "a")
    assert isinstance(grant(table, "g2", "origin-2")[0], Refused)
    assert grant(table, "g1", longest)[0] == Assigned("g1", longest, 2)


def test_a_hand_over_is_one_change_and_may_be_asked_for_again(table: Table) -> None:
    grant(table, "a", "origin-1")
    table.saved()
    asked = HandOver("a", 1, "origin-2", "balance\n" + "x" * 300)
    done = Assigned("a", "origin-2", 2)
    assert table.hand_over(asked, "origin-1") == (done, [["group", "a", "origin-2", 2]])
    assert table.orphans == {}
    table.saved()
    assert table.hand_over(asked, "origin-1") == (done, [])
    assert table.hand_over(asked, None) == (done, [])
    assert table.unsaved() is None
    ((*event, reason),) = table.history.last(1)
    assert event == [100, "moved", "a", "origin-1", "origin-2", 2]
    assert reason == "balance " + "x" * 192


@pytest.mark.parametrize(
    ("message", "owner", "code"),
    [
        (HandOver("a", 1, "origin-2", ""), "origin-2", "not-yours"),
        (HandOver("a", 2, "origin-2", ""), "origin-1", "not-yours"),
        (HandOver("a", 0, "origin-2", ""), "origin-1", "not-yours"),
        (HandOver("nobody's", 1, "origin-2", ""), "origin-1", "not-yours"),
        (HandOver("a", 1, "origin-9", ""), "origin-1", "unknown-node"),
        (HandOver("a", 1, "origin-\ud800", ""), "origin-1", "unknown-node"),
        (HandOver("a", 1, "edge-1", ""), "origin-1", "not-an-origin"),
    ],
)
def test_a_hand_over_that_cannot_be_is_refused(
    table: Table, message: HandOver, owner: str, code: str
) -> None:
    grant(table, "a", "origin-1")
    table.saved()
    answer, changes = table.hand_over(message, owner)
    assert isinstance(answer, Refused)
    assert (answer.code, changes, table.unsaved()) == (code, [], None)


def test_settings_are_of_who_has_seen_the_last_ones(table: Table) -> None:
    table.saved()
    first = {"pins": {"chat/*": "origin-1"}}
    assert table.put_settings(PutSettings(0, first)) == (Done(), [["settings", {**first, "version": 1}]])
    table.saved()
    # The answer was lost.
    assert table.put_settings(PutSettings(0, first)) == (Done(), [])
    refused, changes = table.put_settings(PutSettings(0, {"pins": {}}))
    assert isinstance(refused, Refused)
    assert (refused.code, changes, table.unsaved()) == ("changed", [], None)
    assert table.put_settings(PutSettings(1, {"drained": ["origin-2"]}))[0] == Done()
    assert table.settings == {"drained": ["origin-2"], "version": 2}
    table.undo()
    assert table.settings == {**first, "version": 1}
    assert [row[1:3] for row in table.history.last(1)] == [["settings", "pins"]]
    for bad in ({"x": b""}, {"x": "y" * limits.MAX_SETTINGS_BYTES}):
        assert isinstance(table.put_settings(PutSettings(1, bad))[0], Refused)


def test_the_history_is_bounded_and_forgets_what_was_not_committed(table: Table) -> None:
    records = FakeRecords()
    records.save(table)
    for number in range(KEPT + 50):
        table.register(register("edge-2", f"boot-{number}"), 0.0)
        records.save(table)
    table.leave(Leave("edge-2", f"boot-{KEPT + 49}"))
    table.undo()
    rows = table.history.last(10_000)
    assert len(rows) == KEPT
    assert {row[1] for row in rows} == {"node-joined"}
    assert sum(key.startswith("history/") for key in records.data) == KEPT
    again = load_table(records, LEASE_S, 0.0)
    assert again.history.last(10_000) == rows
    assert again.history.last(3) == rows[-3:]
    assert (again.history.last(0), again.history.last(-1)) == ([], [])
    again.leave(Leave("edge-1", "a"))
    records.save(again)
    assert load_table(records, LEASE_S, 0.0).history.last(KEPT) == [*rows[1:], again.history.last(1)[0]]


def test_release_is_of_the_owner_at_its_epoch(table: Table) -> None:
    grant(table, "x", "origin-2")
    grant(table, "a", "origin-1")
    assert table.release(Release("a", 1), "origin-1") == (Done(), [])
    assert table.release(Release("nobody's", 2), "origin-1") == (Done(), [])
    answer, changes = table.release(Release("a", 2), "origin-2")
    assert isinstance(answer, Refused)
    assert (answer.code, changes) == ("not-yours", [])
    assert table.release(Release("a", 2), "origin-1") == (Done(), [["group-gone", "a"]])
    assert table.release(Release("x", 1), None) == (Done(), [["group-gone", "x"]])


def test_a_journal_that_is_ahead_raises_the_counter_and_its_origin_gets_a_new_epoch(table: Table) -> None:
    grant(table, "a", "origin-1")
    grant(table, "b", "origin-2")
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
    assert grant(table, "c", "origin-1")[0] == Assigned("c", "origin-1", 10)


def test_an_epoch_seen_at_what_was_granted_makes_way_for_a_new_one(table: Table) -> None:
    """Two processes were granted one epoch: the journal's other owner has it, so this one needs another."""
    grant(table, "a", "origin-1")
    assert table.epoch_seen(EpochSeen("a", 1), "origin-1") == (Done(), [["group", "a", "origin-1", 2]])


def test_a_former_owner_that_meets_the_present_epoch_changes_nothing(table: Table) -> None:
    """It was stopped, and speaks before it has registered again: nobody knows whose word it is."""
    grant(table, "a", "origin-1")
    assert table.epoch_seen(EpochSeen("a", 1), None) == (Done(), [])
    assert table.epoch == 1


def test_an_epoch_seen_counts_though_the_group_is_not_assigned(table: Table) -> None:
    assert table.epoch_seen(EpochSeen("a", 7), "origin-1") == (Done(), [])
    unsaved = table.unsaved()
    assert unsaved is not None
    assert (unsaved.epoch, unsaved.groups, unsaved.nodes) == (7, {}, {})
    records = FakeRecords()
    records.save(table)
    assert table.unsaved() is None
    assert load_table(records, LEASE_S, 0.0).epoch == 7
    assert grant(table, "a", "origin-1")[0] == Assigned("a", "origin-1", 8)


def test_an_epoch_seen_that_was_not_committed_is_undone(table: Table) -> None:
    grant(table, "a", "origin-1")
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
    grant(table, "a", "origin-1")
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
    answer, changes = table.register(dataclasses.replace(register(), **change), 0.0)
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
    answer, _ = table.register(register("edge-2"), 0.0)
    assert isinstance(answer, Refused)
    assert answer.code == "too-many"
    assert isinstance(table.register(register("edge-1"), 0.0)[0], Registered)
    size = limits.group_bytes("g1")
    monkeypatch.setattr("headwater_registry.table.MAX_GROUPS_BYTES", 2 * size)
    assert isinstance(grant(table, "g1", "origin-1")[0], Assigned)
    assert isinstance(grant(table, "g2", "origin-1")[0], Assigned)
    answer, _ = grant(table, "g3", "origin-1")
    assert isinstance(answer, Refused)
    assert answer.code == "too-many"
    table.release(Release("g1", 1), None)
    assert isinstance(grant(table, "g3", "origin-1")[0], Assigned)


def test_the_table_lasts() -> None:
    records = FakeRecords()
    table = load_table(records, LEASE_S, 0.0)
    table.wall_s = 100
    table.register(register("origin-1", capacity=2.5, apps=["live"]), 0.0)
    table.register(register("origin-2"), 0.0)
    grant(table, "a/ü", "origin-1")
    grant(table, "b", "origin-2")
    table.renew(Renew("origin-1", "a", {"cpu_percent": 4}), 0.5)
    records.save(table)
    grant(table, "never committed", "origin-1")

    again = load_table(records, LEASE_S, 1000.0)
    assert again.groups == {"a/ü": Assignment("a/ü", "origin-1", 1), "b": Assignment("b", "origin-2", 2)}
    meta = {"apps": ["live"], "since": 100, "restored": True}
    assert again.nodes["origin-1"] == NodeInfo("origin-1", "origin", "a", "tcp://127.0.0.1:1", 2.5, meta)
    assert again.unsaved() is None
    again.register(register("origin-1", capacity=2.5, apps=["live"]), 1000.0)
    assert again.nodes["origin-1"].meta == {"apps": ["live"], "since": 100}
    assert set(again.groups) == {"a/ü", "b"}
    assert again.expire(1002.9) == ([], [])
    gone, changes = again.expire(1003.0)
    assert set(gone) == {"origin-1", "origin-2"}
    assert ["group", "a/ü", "", 1] in changes
    records.save(again)

    empty = load_table(records, LEASE_S, 2000.0)
    assert (empty.nodes, empty.orphans) == ({}, {"a/ü": "origin-1", "b": "origin-2"})
    empty.register(register(), 2000.0)
    assert grant(empty, "a", "origin-1")[0] == Assigned("a", "origin-1", 3)
    assert grant(empty, "b", "origin-1")[0] == Assigned("b", "origin-1", 4)


def test_a_group_of_nobody_is_an_orphan_at_the_start() -> None:
    records = FakeRecords()
    records.data = {"group/a": b'["origin-1", 7]'}
    table = load_table(records, LEASE_S, 0.0)
    assert (table.groups, table.epoch) == ({"a": Assignment("a", "", 7)}, 7)
    records.save(table)
    assert json.loads(records.data["group/a"]) == ["", 7, "origin-1"]
    assert load_table(records, LEASE_S, 0.0).orphans == {"a": "origin-1"}


def test_records_of_a_former_version_are_read() -> None:
    records = FakeRecords()
    records.data = {
        "node/origin-1": b'["origin", "a", "tcp://127.0.0.1:1", 1.0, {"since": 5}]',
        "group/a": b'["origin-1", 3]',
        "epoch": b"4",
    }
    table = load_table(records, LEASE_S, 0.0)
    assert table.groups == {"a": Assignment("a", "origin-1", 3)}
    assert (table.epoch, table.settings, table.reachable) == (4, {}, set())
    assert table.nodes["origin-1"].meta["since"] == 5


def test_who_was_reached_is_known_until_it_is_another_process(table: Table) -> None:
    records = FakeRecords()
    records.save(table)
    for node_id, boot in (("origin-1", "a"), ("origin-2", "former"), ("nobody", "a"), ("edge-1", "a")):
        table.reached(node_id, boot)
    records.save(table)
    table.reached("origin-1", "a")
    assert table.unsaved() is None
    again = load_table(records, LEASE_S, 0.0)
    assert again.reachable == {"origin-1", "edge-1"}
    again.register(register("origin-1", "b"), 1.0)
    again.leave(Leave("edge-1", "a"))
    records.save(again)
    assert load_table(records, LEASE_S, 0.0).reachable == set()


@pytest.mark.parametrize("data", [b"", b"\xff", b"[1]", b'["", 1', b'["origin", 1'])
@pytest.mark.parametrize("key", ["node/origin-1", "group/a", "epoch", "settings", "history/1"])
def test_a_record_that_is_not_readable_is_named(key: str, data: bytes) -> None:
    records = FakeRecords()
    records.data = {key: data}
    with pytest.raises(StoreError, match=f"record '{key}' is not readable"):
        load_table(records, LEASE_S, 0.0)


def state(table: Table) -> tuple[Any, ...]:
    nodes, groups = table.rows()
    return (
        dict(table.nodes),
        dict(table.groups),
        dict(table.orphans),
        table.epoch,
        table._groups_bytes,
        table.settings,
        table.history.last(100),
        sorted(nodes, key=str),
        sorted(groups),
    )


def test_undo_brings_back_the_last_commit(table: Table) -> None:
    table.register(register("origin-3"), 0.0)
    grant(table, "a", "origin-1")
    grant(table, "b", "origin-2")
    grant(table, "orphan", "origin-3")
    table.died("origin-3", "a")
    table.put_settings(PutSettings(0, {"paused": True}))
    table.saved()
    before = state(table)
    grant(table, "orphan", "origin-2")
    table.hand_over(HandOver("a", 1, "origin-2", ""), None)
    table.put_settings(PutSettings(1, {"paused": False}))
    grant(table, "c", "origin-1")
    table.release(Release("b", 2), None)
    table.register(register("origin-2", "b"), 1.0)
    table.register(register("edge-2"), 1.0)
    table.leave(Leave("origin-1", "a"))
    assert state(table) != before
    table.undo()
    assert state(table) == before
    assert table.unsaved() is None
    # The one whose new boot was undone goes on, and so does the one whose removal was.
    assert isinstance(table.register(register("origin-2", "a"), 1.5)[0], Registered)
    assert isinstance(table.renew(Renew("origin-1", "a"), 1.5)[0], Registered)
    assert grant(table, "c", "origin-1")[0] == Assigned("c", "origin-1", 4)
    assert table.leave(Leave("origin-1", "a"))[1][0] == ["node-gone", "origin-1"]
    assert table.orphans == {"a": "origin-1", "c": "origin-1", "orphan": "origin-3"}


def test_a_removal_that_was_undone_is_tried_again(table: Table) -> None:
    assert len(table.expire(3.0)[0]) == 3
    table.undo()
    table.renew(Renew("edge-1", "a"), 3.1)
    assert table.expire(3.2)[0] == ["origin-1", "origin-2"]


def test_a_rival_is_another_process_with_the_same_name(table: Table) -> None:
    assert table.rival(register("origin-1")) is None
    assert table.rival(register("origin-9")) is None
    assert table.rival(register("origin-1", "b")) == table.nodes["origin-1"]
    table.register(register("origin-1", "b"), 1.0)
    # The former one is refused without a question: it was replaced.
    assert table.rival(register("origin-1", "a")) is None
