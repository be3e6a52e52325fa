"""The balancer beside a registry and origins that hand groups over: orphans, orders, drains, loads, and several balancers."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from headwater_balancer import loads, mover, rebalancing
from headwater_balancer.config import BalancerConfig
from headwater_balancer.policy import PolicyOptions, make_policy
from headwater_balancer.service import Balancer
from headwater_bus.control import (
    Assigned,
    AssignRequest,
    BalanceRequest,
    Changed,
    Grants,
    GroupLoads,
    GroupLoadsRequest,
    HandOver,
    HistoryRequest,
    MoveGroup,
    Order,
    Ordered,
    Progress,
    ProgressRequest,
    Refused,
)
from headwater_bus.node import Node
from headwater_bus.requests import Caller
from headwater_registry.service import Registry
from support.peers import Peer, node_config, running_registry
from support.waiting import TIME_FACTOR, eventually


class HandingOver:
    """An origin as the balancer sees it: a node that serves applications, tells loads and hands groups over. `gate` holds moves
    up, `refusals` are given first, and a `silent` one does what it is asked but never answers. It says that it has nothing to
    do: all are in one process, whose CPU would be counted for some of them and not for others."""

    def __init__(self, node_id: str, folder: Path, registry: str) -> None:
        self.node = Node(node_config(node_id, folder, registry, heartbeat_ms=200))
        self.gate = Event()
        self.gate.set()
        self.refusals: list[Refused] = []
        self.silent = False
        self.rates: dict[str, int] = {}
        self.members: dict[str, int] = {}
        self.moving = self.most_moving = 0
        self.asked: list[str] = []
        self.node.load_provider = lambda: {"cpu_percent": 0.0}
        self.node.on_request(MoveGroup, self._move)
        self.node.on_request(GroupLoadsRequest, self._loads)
        self.node.start("tcp://127.0.0.1:9", meta={"apps": ["live", "chat"]})

    def groups(self) -> list[str]:
        view = self.node.view
        return [name for name, known in view.groups.items() if known.origin == self.node.node_id]

    def _move(self, caller: Caller, request: MoveGroup) -> Refused | None:
        self.asked.append(request.group)
        if self.refusals:
            return self.refusals.pop()
        gevent.spawn(self._hand_over, caller, request)
        return None

    def _hand_over(self, caller: Caller, request: MoveGroup) -> None:
        self.moving += 1
        self.most_moving = max(self.most_moving, self.moving)
        self.gate.wait()
        answer = self.node.request_registry(
            HandOver(request.group, request.epoch, request.origin, request.reason)
        )
        self.moving -= 1
        if not self.silent:
            self.node.health_server.answer(caller, answer)

    def _loads(self, caller: Caller, request: GroupLoadsRequest) -> GroupLoads:
        now = time.monotonic()
        epochs = self.node.view.groups
        return GroupLoads(
            [
                [name, epochs[name].epoch, self.members.get(name, 1), int(self.rates.get(name, 0) * now), 0]
                for name in self.groups()
            ]
        )


class Cluster:
    """A registry, origins and balancers in this process."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self.registry: Registry
        self.registry, self.endpoint = stack.enter_context(running_registry(folder))
        self.origins: dict[str, HandingOver] = {}
        self.balancers: dict[str, Balancer] = {}
        self.asking: dict[str, Peer] = {}

    def origin(self, node_id: str) -> HandingOver:
        made = self.origins[node_id] = HandingOver(node_id, self._folder, self.endpoint)
        self._stack.callback(made.node.close)
        eventually(lambda: node_id in self.registry.table.nodes, within_s=10)
        return made

    def balancer(self, node_id: str = "balancer-1", **config: Any) -> Balancer:
        node = Node(node_config(node_id, self._folder, self.endpoint, heartbeat_ms=200))
        policy = make_policy("least-loaded", PolicyOptions())
        balancer = self.balancers[node_id] = Balancer(node, BalancerConfig("least-loaded", policy, **config))
        self.asking[node_id] = Peer(balancer.start())
        self._stack.callback(node.close)
        self._stack.callback(self.asking[node_id].close)
        eventually(node.registered.is_set, within_s=10)
        eventually(lambda: self.origins.keys() <= node.view.nodes.keys(), within_s=10)
        return balancer

    def ask(self, envelope: Any, balancer: str = "balancer-1") -> Any:
        return self.asking[balancer].ask(envelope)

    def order(self, order: str, *values: str, **more: Any) -> Any:
        return self.ask(Order(order, list(values), **more))

    def grant(self, count: int, name: str = "live/room{}") -> list[str]:
        """Groups, granted one after the other, and that the balancer sees in the registry's table."""
        names = [name.format(number) for number in range(count)]
        for group in names:
            answer = self.ask(AssignRequest(group))
            assert isinstance(answer, Assigned), answer
        seen = self.balancers["balancer-1"].node.view.groups
        eventually(lambda: seen.keys() >= set(names), within_s=10)
        return names

    def owners(self) -> Counter[str]:
        return Counter(group.origin for group in self.registry.table.groups.values())

    def owner(self, group: str) -> str:
        return self.registry.table.groups[group].origin

    def history(self) -> list[list[Any]]:
        peer = Peer(self.endpoint)
        try:
            rows: list[list[Any]] = peer.ask(HistoryRequest(1000)).rows
            return rows
        finally:
            peer.close()

    def progress(self, job: str) -> list[list[Any]]:
        answer = self.ask(ProgressRequest(job))
        assert isinstance(answer, Progress), answer
        return answer.rows


@contextmanager
def a_cluster(folder: Path, *origins: str) -> Iterator[Cluster]:
    with ExitStack() as stack:
        cluster = Cluster(stack, folder)
        for node_id in origins:
            cluster.origin(node_id)
        yield cluster


def test_orphans_get_an_origin_at_once_in_batches_the_busiest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_cluster(tmp_path, "origin-1", "origin-2") as cluster:
        balancer = cluster.balancer(request_s=30.0)
        asked = [gevent.spawn(cluster.ask, AssignRequest(f"live/room{n}")) for n in range(1000)]
        gevent.joinall(asked, timeout=30 * TIME_FACTOR, raise_error=True)
        assert cluster.owners() == {"origin-1": 500, "origin-2": 500}
        asking = balancer.node.request_registry
        batches: list[list[str]] = []

        def seen(envelope: Any, timeout_s: float = 1.5) -> Any:
            if isinstance(envelope, Grants):
                batches.append([row[0] for row in envelope.grants])
            return asking(envelope, timeout_s)

        monkeypatch.setattr(balancer.node, "request_registry", seen)
        lost = cluster.origins["origin-1"].groups()
        members = {name: number * 7 % 500 for number, name in enumerate(lost)}
        for origin in cluster.origins.values():
            origin.members = members
        book = balancer.rebalancer.book
        eventually(lambda: all(book.rates(name).members == members[name] for name in lost), within_s=20)
        began = time.monotonic()
        cluster.origins["origin-1"].node.leave()
        eventually(lambda: cluster.owners() == {"origin-2": 1000}, within_s=10)
        print(f"500 orphans granted in {(time.monotonic() - began) * 1000:.0f} ms")
        assert [len(batch) for batch in batches] == [200, 200, 100]
        order = [members[name] for batch in batches for name in batch]
        assert order == sorted(order, reverse=True)
        events = cluster.history()
        assert any(row[1] == "taken-over" for row in events)


def test_an_orphan_that_nobody_could_have_gets_the_first_origin_that_comes(tmp_path: Path) -> None:
    with a_cluster(tmp_path, "origin-1") as cluster:
        cluster.balancer()
        (group,) = cluster.grant(1)
        cluster.origins["origin-1"].node.leave()
        eventually(lambda: cluster.owner(group) == "", within_s=10)
        answer = cluster.ask(AssignRequest(group))
        assert isinstance(answer, Refused)
        assert answer.code == "no-origin"
        cluster.origin("origin-2")
        eventually(lambda: cluster.owner(group) == "origin-2", within_s=10)


def test_a_group_is_moved_and_the_history_says_why(tmp_path: Path) -> None:
    with a_cluster(tmp_path, "origin-1", "origin-2") as cluster:
        cluster.balancer()
        (group,) = cluster.grant(1)
        planned = cluster.order("move", group, "origin-2", dry_run=True)
        assert [row[:3] for row in planned.moves] == [[group, "origin-1", "origin-2"]]
        assert (planned.job, cluster.owner(group)) == ("", "origin-1")
        ordered = cluster.order("move", group, "origin-2")
        eventually(
            lambda: cluster.progress(ordered.job) == [[group, "origin-1", "origin-2", "moved", ""]],
            within_s=10,
        )
        assert cluster.owner(group) == "origin-2"
        moved = [row for row in cluster.history() if row[1] == "moved"]
        assert [row[2:5] + row[6:] for row in moved] == [
            [group, "origin-1", "origin-2", "ordered by operator"]
        ]
        refused = cluster.order("move", group, "origin-2")
        assert isinstance(refused, Refused)
        assert (refused.code, refused.text) == ("already", f"{group} is on origin-2 already")
        for bad in (Order("move", ["x"]), Order("dance"), Order("rebalance", [], moves=[["a", 5, "b"]])):
            assert isinstance(cluster.ask(bad), Refused)
        assert cluster.ask(ProgressRequest("99")).code == "unknown-job"


def test_what_a_move_came_to_is_found_out_when_its_answer_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "MOVE_S", 0.5)
    monkeypatch.setattr(mover, "_BUSY_AGAIN_S", 0.01)
    with a_cluster(tmp_path, "origin-1", "origin-2") as cluster:
        cluster.balancer()
        names = cluster.grant(4)
        origin = cluster.origins["origin-1"]
        origin.silent = True
        silent, busy = sorted(name for name in names if cluster.owner(name) == "origin-1")
        job = cluster.order("move", silent, "origin-2").job
        eventually(lambda: cluster.progress(job)[0][3] == "moved", within_s=10)
        origin.silent = False
        origin.refusals = [Refused("busy", "it moves already")]
        job = cluster.order("move", busy, "origin-2").job
        eventually(lambda: cluster.progress(job)[0][3] == "moved", within_s=10)
        origin = cluster.origins["origin-2"]
        origin.refusals = [Refused("store-away", "it could not be committed in time")]
        job = cluster.order("move", busy, "origin-1").job
        eventually(lambda: cluster.progress(job)[0][3] == "failed", within_s=10)
        assert cluster.progress(job)[0][4] == "it could not be committed in time"
        origin.gate.clear()
        job = cluster.order("move", busy, "origin-1").job
        eventually(lambda: cluster.progress(job)[0][3] == "failed", within_s=10)
        assert cluster.progress(job)[0][4] == "no answer from origin-2"
        origin.gate.set()


def test_a_drain_is_limited_survives_the_balancer_and_keeps_the_origin_empty(tmp_path: Path) -> None:
    with a_cluster(tmp_path, "origin-1", "origin-2") as cluster:
        first = cluster.balancer()
        cluster.grant(60)
        leaving = cluster.origins["origin-1"]
        leaving.gate.clear()
        ordered = cluster.order("drain", "origin-1")
        assert len(ordered.moves) == 30
        eventually(lambda: leaving.moving == mover.AT_ONCE, within_s=10)
        assert cluster.order("drain", "origin-2").code == "last"
        # Killed in the middle: the next one goes on, because the rule is in the registry.
        first.node.close()
        leaving.gate.set()
        cluster.balancer("balancer-2")
        eventually(lambda: cluster.owners() == {"origin-2": 60}, within_s=20)
        # Those that the one before had asked for, and as many more.
        assert leaving.most_moving <= 2 * mover.AT_ONCE
        answer = cluster.ask(AssignRequest("live/new"), "balancer-2")
        assert answer.origin == "origin-2"
        state = cluster.ask(BalanceRequest(), "balancer-2").state
        assert state["rules"]["drained"] == ["origin-1"]


def test_a_drain_begins_at_once_and_moves_each_group_once_however_late_the_feed_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebalancing, "ROUND_S", 600.0)
    with a_cluster(tmp_path, "origin-1", "origin-2", "origin-3") as cluster:
        balancer = cluster.balancer()
        cluster.grant(30)
        view = balancer.node.view
        heard = view.apply

        def late(changed: Changed) -> bool:
            gevent.sleep(0.15)
            return heard(changed)

        monkeypatch.setattr(view, "apply", late)
        leaving = cluster.origins["origin-1"]
        left = leaving.groups()
        assert isinstance(cluster.order("drain", "origin-1"), Ordered)
        eventually(lambda: cluster.owners()["origin-1"] == 0, within_s=20)
        eventually(lambda: all(known.origin != "origin-1" for known in view.groups.values()), within_s=10)
        eventually(lambda: not balancer.mover.under_way(), within_s=10)
        assert sorted(leaving.asked) == sorted(left)
        assert balancer.mover.failed == 0


def test_loads_are_evened_out_by_themselves_unless_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebalancing, "ROUND_S", 0.5)
    monkeypatch.setattr(loads, "SMOOTH_S", 2.0)
    with a_cluster(tmp_path, "origin-1", "origin-2") as cluster:
        balancer = cluster.balancer(patience_s=0.1)
        names = cluster.grant(8)
        assert isinstance(cluster.order("pause"), Ordered)
        busy = [name for name in names if cluster.owner(name) == "origin-1"]
        for origin in cluster.origins.values():
            origin.rates = dict.fromkeys(busy, 1000)
        eventually(lambda: balancer.rebalancer.book.rates(busy[0]).load > 8, within_s=20)
        eventually(lambda: balancer.rebalancer.last.uneven, within_s=10)
        planned = cluster.order("rebalance", dry_run=True)
        assert {row[0] for row in planned.moves[:2]} <= set(busy)
        assert cluster.owners() == {"origin-1": 4, "origin-2": 4}
        assert isinstance(cluster.order("resume"), Ordered)
        eventually(lambda: sum(cluster.owner(name) == "origin-2" for name in busy) == 2, within_s=20)
        history = [row for row in cluster.history() if row[1] == "moved"]
        assert all(row[6].startswith("load: origin-") for row in history)


def test_pins_bring_groups_home_and_pairs_are_parted(tmp_path: Path) -> None:
    with a_cluster(tmp_path, "origin-1", "origin-2", "origin-3") as cluster:
        cluster.balancer()
        cluster.grant(6)
        ordered = cluster.order("pin", "live/*", "origin-3")
        assert len(ordered.moves) == 4
        eventually(lambda: {row[3] for row in cluster.progress(ordered.job)} == {"moved"}, within_s=10)
        assert cluster.owners() == {"origin-3": 6}
        assert cluster.order("move", "live/room0", "origin-1").code == "not-there"
        cluster.order("unpin", "live/*")
        ordered = cluster.order("apart", "live/room0", "live/room1")
        assert len(ordered.moves) == 1
        eventually(lambda: cluster.owner("live/room0") != cluster.owner("live/room1"), within_s=10)
        # Rules hold for groups that come, too.
        cluster.order("pin", "chat/*", "origin-2")
        assert {cluster.ask(AssignRequest(f"chat/{n}")).origin for n in range(5)} == {"origin-2"}


def test_of_two_balancers_one_acts_and_the_other_takes_over(tmp_path: Path) -> None:
    with a_cluster(tmp_path, "origin-1", "origin-2") as cluster:
        first = cluster.balancer("balancer-1")
        cluster.grant(10)
        second = cluster.balancer("balancer-2")
        eventually(lambda: second.leader() == "balancer-1", within_s=10)
        assert (first.leads(), second.leads()) == (True, False)
        for question in (AssignRequest("live/new"), Order("pause")):
            refused = cluster.ask(question, "balancer-2")
            assert refused == Refused("standby", "balancer-1 decides, not balancer-2")
        assert isinstance(cluster.ask(AssignRequest("live/room0"), "balancer-2"), Assigned)
        assert isinstance(cluster.ask(Order("policy", ["round-robin"])), Ordered)
        eventually(lambda: second.health()["policy"] == "round-robin", within_s=10)
        first.node.leave()
        first.node.close()
        eventually(second.leads, within_s=10)
        cluster.origins["origin-1"].node.leave()
        eventually(lambda: cluster.owners() == {"origin-2": 10}, within_s=10)
        assert isinstance(cluster.ask(Order("pause"), "balancer-2"), Ordered)


def test_an_order_needs_the_registry(tmp_path: Path) -> None:
    with a_cluster(tmp_path, "origin-1", "origin-2") as cluster:
        balancer = cluster.balancer()
        cluster.registry.node.close()
        eventually(lambda: not balancer.node.registered.is_set(), within_s=10)
        refused = cluster.order("pause")
        assert isinstance(refused, Refused)
        assert refused.code == "registry-away"
        assert isinstance(cluster.order("rebalance", dry_run=True), Ordered)
