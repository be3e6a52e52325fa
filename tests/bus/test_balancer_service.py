"""The balancer beside a registry: groups on first use, spread as they should be, one grant for many questions, and bad input."""

import fcntl
import os
import signal
import statistics
import struct
import termios
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import msgpack
import pytest
import zmq.green as zmq
from gevent import select, subprocess
from gevent.event import Event
from headwater_balancer.config import BalancerConfig
from headwater_balancer.policy import Pin, PolicyOptions, make_policy
from headwater_balancer.service import Balancer
from headwater_bus.control import Assigned, AssignRequest, Grants, HealthRequest, Leave, Refused
from headwater_bus.node import Node
from headwater_bus.ports import registry_port
from headwater_bus.view import Assignment
from headwater_registry.service import Registry
from support.cluster import BIN, Cluster
from support.peers import Peer, node_config, peers, running_registry
from support.waiting import TIME_FACTOR, eventually


@contextmanager
def running_balancer(
    folder: Path,
    registry: str,
    policy: str = "least-loaded",
    pins: tuple[Pin, ...] = (),
    heartbeat_ms: int = 200,
) -> Iterator[tuple[Balancer, Peer]]:
    """The balancer service in this process, and somebody who asks it."""
    node = Node(node_config("balancer-1", folder, registry, heartbeat_ms=heartbeat_ms))
    balancer = Balancer(node, BalancerConfig(policy, make_policy(policy, PolicyOptions(pins))))
    asking = Peer(balancer.start())
    try:
        eventually(node.registered.is_set, within_s=10)
        yield balancer, asking
    finally:
        asking.close()
        node.close()


def see_origins(balancer: Balancer, count: int) -> None:
    eventually(
        lambda: sum(n.role == "origin" for n in balancer.node.view.nodes.values()) == count, within_s=10
    )


def owners(registry: Registry) -> Counter[str]:
    return Counter(group.origin for group in registry.table.groups.values())


def test_a_group_is_assigned_on_first_use_and_stays(tmp_path: Path) -> None:
    with (
        running_registry(tmp_path) as (_, endpoint),
        peers(endpoint, "origin-1", "origin-2") as (first, _second),
        running_balancer(tmp_path, endpoint) as (balancer, asking),
    ):
        see_origins(balancer, 2)
        assert asking.ask(AssignRequest("chat/lobby")) == Assigned("chat/lobby", "origin-1", 1)
        assert asking.ask(AssignRequest("chat/hall")) == Assigned("chat/hall", "origin-2", 2)
        assert asking.ask(AssignRequest("chat/lobby")) == Assigned("chat/lobby", "origin-1", 1)
        eventually(lambda: len(first.view.groups) == 2, within_s=5)
        state = asking.ask(HealthRequest()).state
        assert (state["policy"], state["granted"], state["groups"]) == ("least-loaded", 2, 2)
        first.ask(Leave("origin-1", first.boot))
        # It has an origin again before anybody asks.
        moved = Assignment("chat/lobby", "origin-2", 3)
        eventually(lambda: balancer.node.view.groups["chat/lobby"] == moved, within_s=5)
        assert asking.ask(AssignRequest("chat/lobby")) == Assigned("chat/lobby", "origin-2", 3)


@pytest.mark.parametrize(("capacities", "shares"), [((1.0, 1.0), {20}), ((2.0, 1.0), {27, 13})])
def test_a_burst_of_40_groups_is_spread_as_evenly_as_one_by_one(
    tmp_path: Path, capacities: tuple[float, float], shares: set[int]
) -> None:
    given = dict(zip(("origin-1", "origin-2"), capacities, strict=True))
    with (
        running_registry(tmp_path) as (registry, endpoint),
        peers(endpoint, "origin-1", "origin-2", capacities=given),
        running_balancer(tmp_path, endpoint) as (balancer, asking),
    ):
        see_origins(balancer, 2)
        asked = [gevent.spawn(asking.ask, AssignRequest(f"live/room{n}")) for n in range(40)]
        answers = [greenlet.get(timeout=10) for greenlet in asked]
        assert all(isinstance(answer, Assigned) for answer in answers)
        assert set(owners(registry).values()) == shares
        assert owners(registry)["origin-1"] == max(shares)
        assert len({answer.epoch for answer in answers}) == 40


def test_many_questions_for_one_group_are_one_grant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        running_registry(tmp_path) as (registry, endpoint),
        peers(endpoint, "origin-1", "origin-2"),
        running_balancer(tmp_path, endpoint) as (balancer, asking),
    ):
        see_origins(balancer, 2)
        grants: list[Any] = []
        gate = Event()
        request_registry = balancer.node.request_registry

        def slow(envelope: Any, timeout_s: float = 1.5) -> Any:
            if isinstance(envelope, Grants):
                grants.append(envelope)
                assert gate.wait(30)
            return request_registry(envelope, timeout_s)

        monkeypatch.setattr(balancer.node, "request_registry", slow)
        asked = [gevent.spawn(asking.ask, AssignRequest("live/one")) for _ in range(100)]
        eventually(lambda: grants, within_s=5)
        asked += [gevent.spawn(asking.ask, AssignRequest("live/one")) for _ in range(100)]
        eventually(lambda: asking.ask(HealthRequest()).state["waiting"] == 200, within_s=5)
        gate.set()
        answers = {greenlet.get(timeout=10) for greenlet in asked}
        assert answers == {Assigned("live/one", "origin-1", 1)}
        assert grants == [Grants([["live/one", "origin-1"]])]
        assert registry.table.epoch == 1


def test_without_an_origin_the_answer_says_so(tmp_path: Path) -> None:
    with (
        running_registry(tmp_path) as (_, endpoint),
        running_balancer(tmp_path, endpoint) as (balancer, asking),
    ):
        refused = asking.ask(AssignRequest("chat/lobby"))
        assert refused == Refused(
            "no-origin", "chat/lobby: no origin serves its application (headwater-origin serve --app)"
        )
        with peers(endpoint, "origin-1"):
            see_origins(balancer, 1)
            assert asking.ask(AssignRequest("chat/lobby")) == Assigned("chat/lobby", "origin-1", 1)
        refused = asking.ask(AssignRequest("x" * 1400))
        assert isinstance(refused, Refused)
        assert refused.code == "bad-name"
        for group in ("live/a\nb", "live/\ud800"):
            refused = asking.ask(AssignRequest(group))
            assert isinstance(refused, Refused)
            assert refused.code == "bad-name"


def test_an_origin_that_says_nonsense_harms_nobody(tmp_path: Path) -> None:
    with (
        running_registry(tmp_path) as (_, endpoint),
        peers(endpoint, "origin-2"),
        running_balancer(tmp_path, endpoint) as (balancer, asking),
    ):
        odd = Peer(endpoint, "origin-1").keep(apps=5)
        see_origins(balancer, 2)
        assert asking.ask(AssignRequest("live/a")) == Assigned("live/a", "origin-2", 1)
        assert not balancer.node.stop_event.is_set()
        odd.close()


def test_while_the_registry_is_away_known_groups_are_answered(tmp_path: Path) -> None:
    with running_registry(tmp_path) as (_, endpoint), peers(endpoint, "origin-1"):
        node = Node(node_config("balancer-1", tmp_path, endpoint, heartbeat_ms=100))
        policy = make_policy("least-loaded", PolicyOptions())
        balancer = Balancer(node, BalancerConfig("least-loaded", policy, request_s=0.3))
        asking = Peer(balancer.start())
        see_origins(balancer, 1)
        known = asking.ask(AssignRequest("live/known"))
        eventually(lambda: "live/known" in node.view.groups, within_s=5)
    try:
        refused = asking.ask(AssignRequest("live/new"))
        assert isinstance(refused, Refused)
        assert refused.code == "registry-away"
        eventually(lambda: not node.registered.is_set(), within_s=10)
        refused = asking.ask(AssignRequest("live/new"))
        assert refused == Refused(
            "registry-away", "live/new: nobody has it yet, and the registry is away; ask again"
        )
        assert asking.ask(AssignRequest("live/known")) == known
    finally:
        asking.close()
        node.close()


def test_an_origin_that_has_just_gone_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows before the balancer's mirror does: here the news is lost altogether."""
    with (
        running_registry(tmp_path) as (registry, endpoint),
        peers(endpoint, "origin-1", "origin-2") as (first, _second),
        running_balancer(tmp_path, endpoint, heartbeat_ms=60_000) as (balancer, asking),
    ):
        see_origins(balancer, 2)
        monkeypatch.setattr(registry.server, "push", lambda identity, envelope: None)
        first.silent()
        first.ask(Leave("origin-1", first.boot))
        assert "origin-1" in balancer.node.view.nodes
        assert asking.ask(AssignRequest("live/a")) == Assigned("live/a", "origin-2", 1)


def test_pins_are_followed_and_a_missing_origin_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pins = (Pin("vip/*", "origin-2"), Pin("lost/*", "origin-9"))
    with (
        running_registry(tmp_path) as (_, endpoint),
        peers(endpoint, "origin-1", "origin-2"),
        running_balancer(tmp_path, endpoint, "pinned", pins) as (balancer, asking),
    ):
        see_origins(balancer, 2)
        assert {asking.ask(AssignRequest(f"vip/{n}")).origin for n in range(5)} == {"origin-2"}
        assert {asking.ask(AssignRequest(f"lost/{n}")).origin for n in range(5)} == {"origin-1"}
        told = [
            record.message
            for record in caplog.records
            if "is not here, least-loaded decides" in record.message
        ]
        assert told == ["--pin lost/*=origin-9: origin-9 is not here, least-loaded decides"]


def test_garbage_does_no_harm(tmp_path: Path) -> None:
    with (
        running_registry(tmp_path) as (_, endpoint),
        peers(endpoint, "origin-1"),
        running_balancer(tmp_path, endpoint) as (balancer, asking),
    ):
        see_origins(balancer, 1)
        attacker: Any
        with zmq.Context.instance().socket(zmq.DEALER) as attacker:
            attacker.set(zmq.LINGER, 0)
            attacker.connect(balancer.node.view.nodes["balancer-1"].endpoint)
            for frames in (
                [b""],
                [b"\x91\x01"],
                [b"\x91\x01", b"\xc1"],
                [b"\x91\x01", b"\x91\x92\x6f\x81\x90\x01"],
            ):
                attacker.send_multipart(frames)
            attacker.send_multipart([msgpack.packb([1]), msgpack.packb([[115, [["g", "origin-1"]]]])])
            attacker.send_multipart([msgpack.packb([1]), msgpack.packb([[111, 5]])])
            eventually(lambda: balancer.server.refused >= 6, within_s=5)
        assert isinstance(asking.ask(AssignRequest("live/fine")), Assigned)
        assert isinstance(asking.ask(Grants([["g", "origin-1"]])), Refused)


def test_processes_assign_in_milliseconds_and_status_shows_it(tmp_path: Path) -> None:
    # Commands that this waits for hold up the origins that it plays.
    options = {"registry": "--lease-ms 60000"}
    cluster = Cluster(tmp_path, {"balancer": 1, "origin": 0, "edge": 0}, options).start()
    try:
        registry = f"tcp://127.0.0.1:{registry_port(cluster.base_port)}"
        given = {"origin-1": 2.0, "origin-2": 1.0}
        with peers(registry, "origin-1", "origin-2", capacities=given) as (first, _):
            first.load = {"cpu_percent": 33.3, "sessions": 11}
            eventually(lambda: cluster.nodes().get("origin-1", [None] * 7)[6], within_s=10)
            asking = Peer(cluster.nodes()["balancer-1"][3])
            took: list[float] = []
            for number in range(42):
                began = time.perf_counter()
                answer = asking.ask(AssignRequest(f"live/room{number}"))
                took.append((time.perf_counter() - began) * 1000)
                assert isinstance(answer, Assigned), answer
            asking.close()
            # The promise is 20 ms; the median says whether it holds, the rest is the machine's.
            print(f"assigned on first use: p50 {statistics.median(took):.2f} ms, max {max(took):.2f} ms")
            assert statistics.median(took) < 20 * TIME_FACTOR
            status = cluster.cli("headwater-balancer", "status", "--json")
            assert (status["balancer"], status["policy"], status["groups"]) == (
                "balancer-1",
                "least-loaded",
                42,
            )
            assert [(row["node_id"], row["groups"]) for row in status["origins"]] == [
                ("origin-1", 28),
                ("origin-2", 14),
            ]
            assert status["origins"][0]["capacity_percent"] == status["origins"][0]["groups_percent"] == 66.7
            shown = cluster.run("headwater-balancer", "status").stdout
            assert all(len(line.rstrip()) <= 80 for line in shown.splitlines())
            for part in ("origin-1", "66.7 %", "33", "11", "42", "policy least-loaded"):
                assert part in shown
            cluster.kill("balancer.1", signal.SIGTERM)
            eventually(lambda: "balancer-1" not in cluster.nodes(), within_s=20)
            shown = cluster.run("headwater-balancer", "status").stdout
            assert "no balancer is registered" in shown
    finally:
        statuses = cluster.stop()
    assert cluster.trouble() == []
    assert set(statuses.values()) == {0}


def test_a_live_status_is_ended_by_ctrl_c_and_gives_the_terminal_back(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, {"balancer": 1, "origin": 0, "edge": 0}).start()
    ours, theirs = os.openpty()
    # 24 rows of 80 columns.
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        command = subprocess.Popen(
            [str(BIN / "headwater-balancer"), "status", "--watch"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=cluster.command_env | {"TERM": "xterm"},
        )
        shown = bytearray()

        def has(text: bytes) -> bool:
            if select.select([ours], [], [], 0)[0]:
                shown.extend(os.read(ours, 65536))
            return text in shown

        eventually(lambda: has(b"balancer-1: policy least-loaded"), within_s=20)
        command.send_signal(signal.SIGINT)
        eventually(lambda: has(b"\x1b[?25h"), within_s=10, what="the cursor is shown again")
        assert command.wait(10 * TIME_FACTOR) == 0
        assert b"KeyboardInterrupt" not in shown
    finally:
        os.close(theirs)
        os.close(ours)
        cluster.stop()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ["serve", "--policy", "nope"],
            "--policy nope: not known; expected one of least-loaded, pinned, rendezvous",
        ),
        (["serve", "--pin", "chat"], "--pin 'chat': expected GLOB=ORIGIN, such as 'chat/*=origin-1'"),
        (["serve", "--policy", "rendezvous", "--pin", "a=origin-1"], "use --policy pinned"),
        (["serve", "--nope"], "No such option"),
        (["status", "--base-port", "abc"], "'abc' is not a valid integer range"),
        (["status"], "is the cluster running (make run), on this --base-port, with these --keys?"),
    ],
)
def test_bad_input_is_told_in_a_line(tmp_path: Path, command: list[str], expected: str) -> None:
    cluster = Cluster(tmp_path, {})
    failed = cluster.run("headwater-balancer", *command)
    cluster.stop()
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert expected in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert "Traceback" not in failed.stderr
