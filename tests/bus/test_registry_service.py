"""The registry's service over real sockets: durable before told, feed without gaps, leases, and bad input."""

import random
import threading
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import msgpack
import pytest
import zmq.green as zmq
from headwater_bus.control import (
    Assigned,
    Changed,
    Done,
    EpochSeen,
    Granted,
    Grants,
    HandOver,
    Health,
    HealthRequest,
    History,
    HistoryRequest,
    Leave,
    Refused,
    Register,
    Registered,
    Release,
    Renew,
    Snapshot,
    Subscribe,
)
from headwater_bus.node import Node
from headwater_bus.requests import RequestError
from headwater_bus.view import Assignment
from headwater_registry.service import ServeError
from headwater_store import Records, StoreError, open_records, sqlite_url
from support.peers import Peer, node_config, peers, running_registry
from support.waiting import TIME_FACTOR, eventually


class GatedRecords:
    """Records whose commits wait at a gate, or fail; they block in the disk's thread."""

    def __init__(self, folder: Path) -> None:
        self._inner: Records = open_records(sqlite_url(folder), "registry")
        self.gate = threading.Event()
        self.gate.set()
        self.failure: str | None = None
        self.waiting = 0
        self.writes: list[dict[str, bytes]] = []

    @property
    def held_until(self) -> float:
        return self._inner.held_until

    def take(self) -> bool:
        return self._inner.take()

    def load(self, prefix: str = "") -> dict[str, bytes]:
        return self._inner.load(prefix)

    def write(self, put: Mapping[str, bytes], delete: Collection[str] = ()) -> None:
        self.waiting += 1
        assert self.gate.wait(30)
        self.waiting -= 1
        if self.failure is not None:
            raise StoreError(self.failure)
        self.writes.append(dict(put))
        self._inner.write(put, delete)

    def close(self) -> None:
        self.gate.set()
        self._inner.close()


def test_nodes_groups_and_the_registry_itself_are_in_the_table(tmp_path: Path) -> None:
    with (
        running_registry(tmp_path) as (_, endpoint),
        peers(endpoint, "origin-1", "edge-1") as (origin, edge),
    ):
        assert edge.grant("chat/lobby", "origin-1") == Assigned("chat/lobby", "origin-1", 1)
        assert edge.grant("chat/lobby", "origin-9") == Assigned("chat/lobby", "origin-1", 1)
        eventually(lambda: origin.view.groups.get("chat/lobby"), within_s=5)
        eventually(lambda: set(edge.view.nodes) == {"registry-1", "origin-1", "edge-1"}, within_s=5)
        assert edge.view.nodes["registry-1"].endpoint == endpoint
        assert edge.view.nodes["origin-1"].meta["since"] > 1_600_000_000
        health = edge.ask(HealthRequest())
        assert isinstance(health, Health)
        assert (health.state["role"], health.state["groups"], health.state["epoch"]) == ("registry", 1, 1)
        assert origin.ask(Release("chat/lobby", 1)) == Done()
        eventually(lambda: "chat/lobby" not in edge.view.groups, within_s=5)
        assert origin.ask(Leave("origin-1", origin.boot)) == Done()
        eventually(lambda: "origin-1" not in edge.view.nodes, within_s=5)
        refused = edge.grant("chat/lobby", "origin-1")
        assert isinstance(refused, Refused)
        assert refused.code == "unknown-node"
        history = edge.ask(HistoryRequest(100))
        assert isinstance(history, History)
        assert [row[1:3] for row in history.rows if row[2] == "origin-1"] == [
            ["node-joined", "origin-1"], ["node-left", "origin-1"]
        ]  # fmt: skip
        assert edge.ask(HistoryRequest(1)).rows == history.rows[-1:]


def test_a_grant_is_told_to_nobody_before_it_is_committed(tmp_path: Path) -> None:
    records = GatedRecords(tmp_path)
    with (
        running_registry(tmp_path, records) as (_, endpoint),
        peers(endpoint, "origin-1", "edge-1") as (origin, edge),
    ):
        records.gate.clear()
        asked = gevent.spawn(edge.grant, "chat/lobby", "origin-1")
        eventually(lambda: records.waiting, within_s=5)
        # The loop goes on meanwhile: others' questions that need no table are answered.
        assert isinstance(origin.ask(HealthRequest()), Health)
        # Answers come in the order they were sent: an early one would be here before this.
        assert isinstance(edge.ask(HealthRequest()), Health)
        assert not asked.ready()
        assert origin.view.groups == {}
        assert "group/chat/lobby" not in records.load()
        late = gevent.spawn(edge.ask, Subscribe("edge-1"))
        gevent.sleep(0)  # It asks.
        assert isinstance(edge.ask(HealthRequest()), Health)
        assert not late.ready()
        records.gate.set()
        assert asked.get(timeout=5) == Assigned("chat/lobby", "origin-1", 1)
        assert "group/chat/lobby" in records.load()
        snapshot = late.get(timeout=5)
        assert snapshot.groups == [["chat/lobby", "origin-1", 1]]
        eventually(lambda: origin.view.groups, within_s=5)


def test_requests_that_come_during_a_commit_share_the_next(tmp_path: Path) -> None:
    records = GatedRecords(tmp_path)
    with (
        running_registry(tmp_path, records) as (registry, endpoint),
        peers(endpoint, "origin-1") as (origin,),
    ):
        eventually(lambda: "registry-1" in registry.table.nodes and not records.waiting, within_s=5)
        records.gate.clear()
        first = gevent.spawn(origin.grant, "g0", "origin-1")
        eventually(lambda: records.waiting, within_s=5)
        before = len(records.writes)
        others = [gevent.spawn(origin.grant, f"g{n}", "origin-1") for n in range(1, 51)]
        eventually(lambda: len(registry._waiting) >= 50, within_s=5)
        records.gate.set()
        epochs = [greenlet.get(timeout=5).epoch for greenlet in [first, *others]]
        assert epochs == list(range(1, 52))
        assert len(records.writes) == before + 2


def test_a_commit_that_fails_is_as_if_nothing_was_asked(tmp_path: Path) -> None:
    records = GatedRecords(tmp_path)
    with (
        running_registry(tmp_path, records) as (_, endpoint),
        peers(endpoint, "origin-1", "edge-1") as (origin, edge),
    ):
        assert edge.grant("before", "origin-1") == Assigned("before", "origin-1", 1)
        records.failure = "registry.sqlite: the disk is full; make room, nothing was changed"
        refused = edge.grant("during", "origin-1")
        assert refused == Refused("store", records.failure)
        assert edge.grant("before", "origin-1") == Assigned("before", "origin-1", 1)
        assert edge.subscribe().groups == [["before", "origin-1", 1]]
        # Who is here stays here, and a node that cannot be removed does no harm.
        assert edge.ask(Renew("edge-1", edge.boot)) == Registered(3000)
        assert isinstance(origin.ask(Leave("origin-1", origin.boot)), Refused)
        records.failure = None
        assert edge.grant("during", "origin-1") == Assigned("during", "origin-1", 2)
        assert edge.ask(HealthRequest()).state["failed_commits"] >= 2


def test_a_lease_that_ends_orphans_groups_and_tells_everybody(tmp_path: Path) -> None:
    with (
        running_registry(tmp_path, lease_ms=1500) as (_, endpoint),
        peers(endpoint, "origin-1", "origin-2", "edge-1") as (first, _, edge),
    ):
        assert edge.grant("a", "origin-1") == Assigned("a", "origin-1", 1)
        assert edge.grant("b", "origin-2") == Assigned("b", "origin-2", 2)
        eventually(lambda: len(edge.view.groups) == 2, within_s=5)
        first.silent()
        eventually(lambda: "origin-1" not in edge.view.nodes, within_s=10)
        assert edge.view.groups["a"] == Assignment("a", "", 1)
        assert edge.grant("a", "origin-2") == Assigned("a", "origin-2", 3)
        assert edge.view.groups["b"] == Assignment("b", "origin-2", 2)
        refused = first.ask(Renew("origin-1", first.boot))
        assert isinstance(refused, Refused)
        assert refused.code == "unknown-node"


def test_a_table_that_went_back_in_time_goes_on_above_what_a_journal_has_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        running_registry(tmp_path) as (_, endpoint),
        peers(endpoint, "origin-1", "origin-2") as (origin, other),
    ):
        assert origin.grant("g", "origin-1") == Assigned("g", "origin-1", 1)
        refused = other.ask(EpochSeen("g", 7))
        assert isinstance(refused, Refused)
        assert refused.code == "not-yours"
        assert origin.ask(EpochSeen("g", 7)) == origin.ask(EpochSeen("g", 7)) == Done()
        eventually(lambda: other.view.groups.get("g") == Assignment("g", "origin-1", 8), within_s=5)
        assert other.grant("h", "origin-2") == Assigned("h", "origin-2", 9)
    told = [record for record in caplog.records if "the table is behind the journals" in record.getMessage()]
    assert [record.__dict__["fields"] for record in told] == [
        {"group": "g", "origin": "origin-1", "seen": 7, "table": 1}
    ]
    with running_registry(tmp_path) as (registry, _):
        assert registry.table.epoch == 9


def test_a_restart_keeps_groups_and_epochs_and_nodes_come_back_to_it(tmp_path: Path) -> None:
    with running_registry(tmp_path) as (registry, endpoint):
        node = Node(node_config("origin-1", tmp_path, endpoint, heartbeat_ms=100))
        node.start("tcp://127.0.0.1:9")
        eventually(node.registered.is_set, within_s=5)
        with peers(endpoint, "balancer-1") as (balancer,):
            for number in range(3):
                balancer.grant(f"g{number}", "origin-1")
            balancer.ask(Leave("balancer-1", balancer.boot))
        feed = registry.feed
    try:
        # The former self is gone without a word; its successor has the same address and file.
        with running_registry(tmp_path, endpoint=endpoint) as (registry, _):
            assert registry.feed != feed
            assert registry.table.groups == {
                f"g{n}": Assignment(f"g{n}", "origin-1", n + 1) for n in range(3)
            }
            eventually(lambda: node.view.feed == registry.feed and node.registered.is_set(), within_s=20)
            with peers(endpoint, "balancer-1") as (balancer,):
                assert balancer.grant("g0", "origin-1") == Assigned("g0", "origin-1", 1)
                assert balancer.grant("new", "origin-1") == Assigned("new", "origin-1", 4)
                eventually(lambda: "new" in node.view.groups, within_s=5)
    finally:
        node.close()


def test_a_node_that_missed_a_change_asks_for_the_table_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_registry(tmp_path) as (registry, endpoint), peers(endpoint, "balancer-1") as (balancer,):
        node = Node(node_config("origin-1", tmp_path, endpoint, heartbeat_ms=100))
        node.start("tcp://127.0.0.1:9")
        try:
            eventually(node.registered.is_set, within_s=5)
            push = registry.server.push
            lost: list[Any] = []

            def lossy(identities: Any, envelope: Any) -> None:
                if isinstance(envelope, Changed) and any(change[0] == "group" for change in envelope.changes):
                    lost.append(envelope)
                else:
                    push(identities, envelope)

            monkeypatch.setattr(registry.server, "push", lossy)
            balancer.grant("lost", "origin-1")
            assert lost
            # Loads are told every second: the next change shows the gap.
            eventually(lambda: "lost" in node.view.groups, within_s=10)
        finally:
            node.close()


def test_changes_are_numbered_and_a_snapshot_continues_them(tmp_path: Path) -> None:
    with running_registry(tmp_path) as (registry, endpoint), peers(endpoint, "origin-1") as (origin,):
        observer = Peer(endpoint, "observer-1")
        snapshot = observer.subscribe()
        assert snapshot.feed == registry.feed
        for number in range(20):
            origin.grant(f"g{number}", "origin-1")
            if number == 10:
                again = observer.subscribe()
                assert len(again.groups) >= 11
        eventually(lambda: len(observer.view.groups) == 20, within_s=5)
        seqs = [changed.seq for changed in observer.pushed if isinstance(changed, Changed)]
        assert seqs == list(range(snapshot.seq + 1, snapshot.seq + 1 + len(seqs)))
        observer.close()


def test_loads_are_told_at_most_once_a_second_in_one_change(tmp_path: Path) -> None:
    with (
        running_registry(tmp_path) as (registry, endpoint),
        peers(endpoint, "origin-1", "origin-2", "edge-1") as (a, b, edge),
    ):
        a.load, b.load = {"cpu_percent": 1}, {"cpu_percent": 2}
        eventually(lambda: edge.view.nodes["origin-2"].load and edge.view.nodes["origin-1"].load, within_s=5)
        edge.pushed.clear()
        for number in range(30):
            a.ask(Renew("origin-1", a.boot, {"cpu_percent": number}))
            b.ask(Renew("origin-2", b.boot, {"cpu_percent": number}))
        a.load = b.load = {"cpu_percent": 29}
        wanted = {"cpu_percent": 29}
        eventually(lambda: all(edge.view.nodes[f"origin-{n}"].load == wanted for n in (1, 2)), within_s=5)
        told = [c for c in edge.pushed if any(change[0] == "load" for change in c.changes)]
        assert len(told) <= 3 * TIME_FACTOR
        assert registry.table.unsaved() is None


def test_a_renewal_on_a_new_connection_asks_for_registration(tmp_path: Path) -> None:
    """After a reconnect ZeroMQ gives a new identity: what was subscribed is not any more, and only Register says so."""
    with running_registry(tmp_path) as (_, endpoint), peers(endpoint, "origin-1") as (origin,):
        other = Peer(endpoint, "origin-1")
        other.boot = origin.boot
        refused = other.ask(Renew("origin-1", origin.boot))
        assert isinstance(refused, Refused)
        assert refused.code == "unknown-node"
        assert other.register() == Registered(3000)
        assert other.ask(Renew("origin-1", origin.boot)) == Registered(3000)
        other.close()


def test_two_nodes_of_one_name_are_told(tmp_path: Path) -> None:
    with running_registry(tmp_path) as (registry, endpoint), peers(endpoint, "origin-1") as (first,):
        second = Peer(endpoint, "origin-1").keep()
        try:
            # The former self asks to register again, and is refused for as long as its successor is there.
            eventually(lambda: first.refused_renewals, within_s=5)
            refused = first.register()
            assert isinstance(refused, Refused)
            assert refused.code == "replaced"
            assert registry.table.nodes["origin-1"].boot == second.boot
        finally:
            second.close()


def test_garbage_does_no_harm(tmp_path: Path) -> None:
    """Whatever arrives is answered or dropped; who is registered stays so and can go on."""
    chance = random.Random(4)
    with running_registry(tmp_path) as (registry, endpoint), peers(endpoint, "origin-1") as (origin,):
        valid = [msgpack.packb([1]), msgpack.packb([[115, [["g", "origin-1"]]]])]
        messages: list[list[bytes]] = [
            [],
            [b""],
            [b"", b""],
            [msgpack.packb([1])],
            [msgpack.packb([1]), b""],
            [msgpack.packb([1]), msgpack.packb([])],
            [msgpack.packb([1]), msgpack.packb([[115]])],
            [msgpack.packb([1]), msgpack.packb([[115, 1, 2]])],
            [msgpack.packb([1]), msgpack.packb([[102, "origin-1", "a", [1]]])],
            # A map whose key is an array: nothing that Python can hold.
            [msgpack.packb([1]), b"\x91\x94\x66\xa8origin-1\xa1a\x81\x90\x01"],
            [msgpack.packb({"a": 1}), msgpack.packb([[115, [["g", "origin-1"]]]])],
            [b"\x81\x90\x01", b"\x90"],
            [msgpack.packb([2**63]), msgpack.packb([[999, 1]])],
            [msgpack.packb([1]), b"\x91" * 5000],
            [msgpack.packb([1]), b"\xdd\xff\xff\xff\xff"],
            [msgpack.packb([-5]), valid[1]],
            [msgpack.packb([None]), valid[1]],
        ]
        for _ in range(300):
            frames = [bytearray(frame) for frame in valid]
            for _ in range(chance.randrange(1, 4)):
                frame = chance.choice(frames)
                frame[chance.randrange(len(frame))] = chance.randrange(256)
            messages.append([bytes(frame) for frame in frames])
        attacker: Any
        with zmq.Context.instance().socket(zmq.DEALER) as attacker:
            attacker.set(zmq.LINGER, 0)
            attacker.connect(endpoint)
            for message in messages:
                attacker.send_multipart(message or [b""])
            assert origin.grant("fine", "origin-1").origin == "origin-1"
            eventually(lambda: registry.server.refused > 15, within_s=5)
            assert isinstance(origin.ask(HealthRequest()), Health)
        assert not registry.node.stop_event.is_set()
        assert isinstance(origin.subscribe(), Snapshot)


LONE = "\ud800"
"""Half a character: the bus carries it, nothing else takes it."""


def test_text_that_is_none_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    with running_registry(tmp_path) as (registry, endpoint), peers(endpoint, "origin-1") as (origin,):
        other = Peer(endpoint, "edge-1")
        register = Register("edge-1", "edge", "b", "tcp://127.0.0.1:9", 1.0)
        for message in (
            replace(register, node_id=f"edge-{LONE}"),
            replace(register, role=LONE),
            replace(register, boot=LONE),
            replace(register, endpoint=LONE),
            replace(register, meta={"rtmp": LONE}),
            Renew("origin-1", LONE),
            Renew(LONE, "b"),
            HandOver(LONE, 1, "origin-1", LONE),
        ):
            assert isinstance(other.ask(message), Refused), message
        refused = other.ask(Grants([[LONE, "origin-1"], ["g", LONE]]))
        assert refused == Granted([[LONE, "", 0, "bad-name"], ["g", "", 0, "unknown-node"]])
        assert isinstance(origin.ask(Renew("origin-1", origin.boot, {"x": LONE})), Refused)
        assert other.ask(Leave(LONE, LONE)) == other.ask(Release(LONE, 1)) == Done()
        assert isinstance(other.ask(Subscribe(LONE)), Snapshot)
        assert origin.grant("fine", "origin-1") == Assigned("fine", "origin-1", 1)
        assert not registry.node.stop_event.is_set()
        other.close()


def test_a_request_that_fails_inside_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = GatedRecords(tmp_path)
    with (
        running_registry(tmp_path, records) as (registry, endpoint),
        peers(endpoint, "origin-1") as (origin,),
    ):

        def fail(*args: Any) -> Any:
            raise KeyError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(registry.table, "grants", fail)
            assert origin.grant("a", "origin-1") == Refused("internal", "Grants: internal error")
        with monkeypatch.context() as patch:
            patch.setattr("headwater_registry.service.to_records", fail)
            refused = origin.grant("a", "origin-1")
            assert (refused.code, refused.text) == ("store", "internal error: KeyError('a bug')")
        assert origin.grant("a", "origin-1") == Assigned("a", "origin-1", 1)
        assert not registry.node.stop_event.is_set()


def test_a_flood_of_requests_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater_registry.service.MAX_WAITING", 20)
    records = GatedRecords(tmp_path)
    with (
        running_registry(tmp_path, records) as (registry, endpoint),
        peers(endpoint, "origin-1") as (origin,),
    ):
        eventually(lambda: "registry-1" in registry.table.nodes and not records.waiting, within_s=5)
        origin.silent()
        records.gate.clear()
        asked = [gevent.spawn(origin.grant, f"g{n}", "origin-1") for n in range(100)]
        busy = Refused("busy", "20 requests wait here, ask again")
        eventually(lambda: any(g.ready() and g.value == busy for g in asked), within_s=5)
        records.gate.set()
        answers = [greenlet.get(timeout=5) for greenlet in asked]
        assert any(isinstance(answer, Assigned) for answer in answers)


def test_an_address_in_use_is_told(tmp_path: Path) -> None:
    with (
        running_registry(tmp_path) as (_, endpoint),
        pytest.raises(ServeError, match=r"cannot listen there: .*is another registry running"),
        running_registry(tmp_path / "other", endpoint=endpoint),
    ):
        pass


def test_nobody_answers_after_the_end(tmp_path: Path) -> None:
    with running_registry(tmp_path) as (_, endpoint):
        observer = Peer(endpoint, "observer-1")
        observer.subscribe()
    with pytest.raises(RequestError, match="no answer from"):
        observer.ask(Subscribe("observer-1"), timeout_s=0.2)
    observer.close()


def test_a_name_whose_process_is_dead_goes_to_the_first_that_asks(tmp_path: Path) -> None:
    """The table changes at the next tick: until then a third process must not take the first one for the dead one."""
    records = GatedRecords(tmp_path)
    with running_registry(tmp_path, records) as (registry, endpoint):
        dead, second, third = (Peer(endpoint, "origin-1") for _ in range(3))
        other = Peer(endpoint, "edge-1")
        try:
            dead.register(control="tcp://127.0.0.1:1")
            records.gate.clear()
            held_up = gevent.spawn(other.register)
            eventually(lambda: records.waiting, within_s=10)
            taking = gevent.spawn(second.register, control="tcp://127.0.0.1:1")
            eventually(lambda: registry._waiting, within_s=10)
            late = third.ask(
                Register(
                    "origin-1",
                    "origin",
                    third.boot,
                    "tcp://127.0.0.1:9",
                    1.0,
                    {"control": "tcp://127.0.0.1:1"},
                )
            )
            assert isinstance(late, Refused)
            assert late.code == "busy"
            records.gate.set()
            assert isinstance(held_up.get(timeout=10 * TIME_FACTOR), Registered)
            assert isinstance(taking.get(timeout=10 * TIME_FACTOR), Registered)
            assert registry.table.nodes["origin-1"].boot == second.boot
        finally:
            for peer in (dead, second, third, other):
                peer.close()


def test_a_name_whose_process_lives_is_not_given_away(tmp_path: Path) -> None:
    with (
        running_registry(tmp_path) as (registry, endpoint),
        running_registry(tmp_path / "other") as (witness, alive),
        peers(endpoint) as _,
    ):
        first, second = Peer(endpoint, "origin-1"), Peer(endpoint, "origin-1")
        try:
            # Whoever answers at its control endpoint with its boot id lives.
            first.boot = witness.node.boot
            first.register(control=alive)
            refused = second.ask(Register("origin-1", "origin", second.boot, "tcp://127.0.0.1:9", 1.0))
            assert isinstance(refused, Refused)
            assert refused.code == "taken"
            assert "is here already" in refused.text
            assert registry.table.nodes["origin-1"].boot == first.boot
        finally:
            first.close()
            second.close()
