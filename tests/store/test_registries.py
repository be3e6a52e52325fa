"""Several registries on one Redis: one leads, another is there at once when it is killed, hangs or is stopped."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq.green as zmq
from headwater_bus.control import Assigned, Health, HealthRequest, Refused, Snapshot, Subscribe
from headwater_bus.requests import Requester, RequestError, ask
from headwater_bus.security import Security
from support.cluster import Cluster
from support.peers import Peer
from support.redis import RedisServer
from support.waiting import TIME_FACTOR, eventually

TWO = {"registry": 2, "balancer": 0, "origin": 0, "edge": 0}
NODE = Path(__file__).parents[1] / "support" / "node_process.py"
PLAIN = Security.plain()


@pytest.fixture
def redis(make_redis: Callable[..., RedisServer]) -> RedisServer:
    return make_redis()


@pytest.fixture
def two(redis: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    """Two registries, not started yet."""
    cluster = Cluster(tmp_path, TWO, {"registry": f"--lease-ms 60000 --store {redis.url}"})
    yield cluster
    cluster.stop()
    assert cluster.trouble() == []


@pytest.fixture
def node(two: Cluster) -> Iterator[Callable[[str], None]]:
    """Starts nodes, processes of their own that know both registries."""
    made: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> None:
        with open(two.folder / f"{name}.out", "wb") as out:
            command = [sys.executable, str(NODE), name, *two.registries]
            made.append(subprocess.Popen(command, stdout=out, stderr=out))

    yield start
    for process in made:
        process.kill()
        process.wait()


def state(endpoint: str) -> dict[str, Any]:
    """What a registry says of itself; empty while it does not answer."""
    try:
        answer = ask(
            zmq.Context.instance(), PLAIN, endpoint, "", HealthRequest(), 2.0 * TIME_FACTOR, patient=False
        )
    except RequestError:
        return {}
    assert isinstance(answer, Health)
    return answer.state


def leads(endpoint: str) -> bool:
    return state(endpoint).get("leading") is True


def both_started(cluster: Cluster) -> tuple[str, str, str, str]:
    """Names and endpoints of the one that leads and of the other."""
    for name in ("registry.1", "registry.2"):
        cluster.start_process(name)
    first, second = cluster.registries
    eventually(lambda: state(first) and state(second) and (leads(first) or leads(second)), within_s=60)
    assert not (leads(first) and leads(second))
    if leads(first):
        return "registry.1", first, "registry.2", second
    return "registry.2", second, "registry.1", first


def all_here(cluster: Cluster, *wanted: str) -> bool:
    """Whether these nodes are registered, each heard of by the registry that leads."""
    rows = cluster.nodes()
    return all(name in rows and not rows[name][5].get("restored") for name in wanted)


def test_nodes_find_the_one_that_leads_though_they_were_there_before_any(
    two: Cluster, node: Callable[[str], None]
) -> None:
    node("edge-1")
    node("origin-1")
    leader, endpoint, standby, other = both_started(two)
    eventually(lambda: all_here(two, "edge-1", "origin-1", "registry-1", "registry-2"), within_s=30)
    # The standby says what it is, to nodes and to people, and commands find the one that leads.
    refused = _asked(other, Subscribe("test-observer"))
    assert isinstance(refused, Refused)
    assert refused.code == "standby"
    assert isinstance(_asked(endpoint, Subscribe("test-observer")), Snapshot)
    alone = two.run("headwater-registry", "nodes", "--registry", other)
    assert alone.returncode == 2
    assert "this registry does not lead: another one does; ask another one" in alone.stderr
    assert len(alone.stderr.splitlines()) == 1
    for order in ((other, endpoint), (endpoint, other)):
        options = [part for each in order for part in ("--registry", each)]
        rows = two.cli("headwater-registry", "nodes", "--json", *options)
        assert {row["node_id"] for row in rows} == {"edge-1", "origin-1", "registry-1", "registry-2"}
        done = two.run("headwater-registry", "wait", "registry=2,edge=1", "--timeout", "20", *options)
        assert done.returncode == 0, done.stderr
    assert 'standing by because="another one does"' in two.log(standby)
    assert "leading" in two.log(leader)


def _asked(endpoint: str, message: Any) -> Any:
    requester = Requester(zmq.Context.instance(), PLAIN, endpoint, "")
    try:
        return requester.request(message, 5.0 * TIME_FACTOR)
    finally:
        requester.close()


def test_when_the_leader_is_killed_the_other_one_leads_and_everybody_is_there(
    two: Cluster, node: Callable[[str], None]
) -> None:
    leader, endpoint, standby, other = both_started(two)
    for name in ("edge-1", "origin-1"):
        node(name)
    eventually(lambda: all_here(two, "edge-1", "origin-1", "registry-1", "registry-2"), within_s=30)
    balancer = Peer(endpoint, "balancer-1").keep()
    for number in range(20):
        assert balancer.grant(f"g{number}", "origin-1") == Assigned(f"g{number}", "origin-1", number + 1)
    balancer.close()
    began = time.monotonic()
    two.kill(leader)
    eventually(lambda: leads(other), within_s=3)
    eventually(lambda: all_here(two, "edge-1", "origin-1", standby.replace(".", "-")), within_s=3)
    assert time.monotonic() - began < 3.0 * TIME_FACTOR
    balancer = Peer(other, "balancer-1").keep()
    assert balancer.grant("g7", "origin-1") == Assigned("g7", "origin-1", 8)
    assert balancer.grant("new", "origin-1") == Assigned("new", "origin-1", 21)
    # The killed one comes back, and stands by.
    two.start_process(leader)
    eventually(lambda: all_here(two, leader.replace(".", "-")), within_s=30)
    assert not leads(endpoint)
    # The orderly end of a leader is no end of a lease: the other one is there at once.
    two.kill(standby, signal.SIGTERM)
    eventually(lambda: leads(endpoint), within_s=3)
    assert two.wait_ended(standby) == 0
    eventually(lambda: all_here(two, "edge-1", "origin-1"), within_s=5)
    balancer.close()


def test_a_leader_that_hung_leads_no_more_and_grants_nothing(
    two: Cluster, node: Callable[[str], None]
) -> None:
    leader, endpoint, _, other = both_started(two)
    node("origin-1")
    eventually(lambda: all_here(two, "origin-1", "registry-1", "registry-2"), within_s=30)
    old = Peer(endpoint, "balancer-1")
    old.register()
    assert old.grant("g", "origin-1") == Assigned("g", "origin-1", 1)
    two.kill(leader, signal.SIGSTOP)
    eventually(lambda: leads(other), within_s=4)
    # Asked of the one that hangs; it reads this when it goes on.
    late = gevent.spawn(old.grant, "late", "origin-1")
    again = gevent.spawn(old.ask, Subscribe("balancer-1"))
    new = Peer(other, "balancer-2").keep()
    assert new.grant("g", "origin-1") == Assigned("g", "origin-1", 1)
    assert new.grant("h", "origin-1") == Assigned("h", "origin-1", 2)
    eventually(lambda: all_here(two, "origin-1"), within_s=5)
    two.kill(leader, signal.SIGCONT)
    for asked in (late, again):
        refused = asked.get(timeout=10 * TIME_FACTOR)
        assert isinstance(refused, Refused)
        assert refused.code == "standby"
    eventually(lambda: "leads no more" in two.log(leader), within_s=10)
    assert not leads(endpoint)
    # It is a node again, at the one that leads.
    eventually(lambda: all_here(two, leader.replace(".", "-")), within_s=10)
    assert new.grant("late", "origin-1") == Assigned("late", "origin-1", 3)
    groups = two.cli("headwater-registry", "groups", "--json")
    assert {row["group"]: row["epoch"] for row in groups} == {"g": 1, "h": 2, "late": 3}
    for peer in (old, new):
        peer.close()


def test_a_lone_registry_that_is_held_up_for_longer_than_its_lease_goes_on(
    redis: RedisServer, tmp_path: Path
) -> None:
    options = {"registry": f"--lease-ms 2000 --heartbeat-ms 200 --store {redis.url}"}
    cluster = Cluster(tmp_path, {**TWO, "registry": 1}, options).start()
    (endpoint,) = cluster.registries
    origin = Peer(endpoint, "origin-1").keep()
    try:
        assert origin.grant("g", "origin-1") == Assigned("g", "origin-1", 1)
        feed = state(endpoint)["feed"]
        cluster.kill("registry.1", signal.SIGSTOP)
        gevent.sleep(4.0)
        cluster.kill("registry.1", signal.SIGCONT)
        eventually(lambda: "held up; leases run on" in cluster.log("registry.1"), within_s=10)
        assert origin.grant("h", "origin-1") == Assigned("h", "origin-1", 2)
        assert state(endpoint)["feed"] == feed
        assert "node gone" not in cluster.log("registry.1")
        assert "leads no more" not in cluster.log("registry.1")
    finally:
        origin.close()
        cluster.stop()
    assert cluster.trouble() == []


def test_while_the_store_is_away_nobody_leads_and_then_one_does_again(
    two: Cluster, redis: RedisServer, node: Callable[[str], None]
) -> None:
    _, endpoint, _, other = both_started(two)
    node("origin-1")
    eventually(lambda: all_here(two, "origin-1", "registry-1", "registry-2"), within_s=30)
    balancer = Peer(endpoint, "balancer-1").keep()
    assert balancer.grant("g", "origin-1") == Assigned("g", "origin-1", 1)
    balancer.close()
    redis.kill()
    eventually(lambda: not leads(endpoint) and not leads(other), within_s=10)
    refused = _asked(endpoint, Subscribe("test-observer"))
    assert isinstance(refused, Refused)
    assert "cannot be reached" in refused.text
    redis.start()
    eventually(lambda: all_here(two, "origin-1", "registry-1", "registry-2"), within_s=20)
    assert leads(endpoint) is not leads(other)
    groups = json.loads(two.run("headwater-registry", "groups", "--json").stdout)
    assert groups == [{"group": "g", "origin": "origin-1", "epoch": 1}]


def test_two_registries_on_files_are_one_too_many(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, TWO)
    cluster.start_process("registry.1")
    try:
        eventually(lambda: leads(cluster.registries[0]), within_s=30)
        second = cluster.run("headwater-registry", "serve", "--node-id", "registry-2")
        assert second.returncode == 2
        assert "registry.sqlite: another process has it open; stop that one" in second.stderr
        assert len(second.stderr.splitlines()) == 1
    finally:
        cluster.stop()
