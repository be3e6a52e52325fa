"""Nodes that die: seen at once where their process is gone, and by their lease where nothing is known."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer
from headwater_bus.control import Changed, Done, Granted, Grants, HistoryRequest, Suspect
from headwater_bus.view import Assignment, NodeInfo
from headwater_registry import deaths
from headwater_registry.deaths import Deaths, control_endpoint, listens
from support.peers import Peer, peers, running_registry
from support.waiting import eventually

NODE = Path(__file__).parents[1] / "support" / "node_process.py"
QUICK_S = 2.0
"""Far less than the leases of these tests, which are for a minute."""
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Start]:
    """Starts nodes, processes of their own."""
    made: list[subprocess.Popen[bytes]] = []

    def start(name: str, registry: str) -> "subprocess.Popen[bytes]":
        with open(tmp_path / f"{name}.out", "wb") as out:
            made.append(subprocess.Popen([sys.executable, str(NODE), name, registry], stdout=out, stderr=out))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.wait()


def reached(registry: Any, *names: str) -> bool:
    return all(name in registry.table.reachable for name in names)


def events(peer: Peer, name: str) -> list[list[Any]]:
    """What the history says of a node: events and reasons."""
    return [[row[1], row[6]] for row in peer.ask(HistoryRequest(100)).rows if row[2] == name]


def test_a_node_that_is_killed_is_gone_at_once_and_its_groups_are_orphans(
    tmp_path: Path, node: Start
) -> None:
    with (
        running_registry(tmp_path, lease_ms=60_000) as (registry, endpoint),
        peers(endpoint, "edge-1", "balancer-1") as (edge, balancer),
    ):
        process = node("origin-1", endpoint)
        other = node("origin-2", endpoint)
        eventually(lambda: reached(registry, "origin-1", "origin-2"), within_s=20)
        for number, origin in enumerate(("origin-1", "origin-2", "origin-1")):
            balancer.grant(f"g{number}", origin)
        eventually(lambda: "g2" in edge.view.groups, within_s=10)
        edge.pushed.clear()
        process.kill()
        eventually(lambda: "origin-1" not in edge.view.nodes, within_s=QUICK_S)
        assert [change for changed in edge.pushed for change in changed.changes if change[0] != "load"] == [
            ["node-gone", "origin-1"], ["group", "g0", "", 1], ["group", "g2", "", 3]
        ]  # fmt: skip
        assert edge.view.groups["g1"] == Assignment("g1", "origin-2", 2)
        assert events(edge, "origin-1") == [
            ["node-joined", ""],
            ["node-died", "nobody listens there any more"],
        ]
        # A restarted one is another node, which has nothing.
        other.kill()
        node("origin-2", endpoint)
        eventually(lambda: events(edge, "origin-2")[2:] == [["node-joined", ""]], within_s=20)
        eventually(lambda: edge.view.groups["g1"] == Assignment("g1", "", 2), within_s=10)


def test_a_node_that_hangs_is_gone_when_its_lease_ends_and_not_before(tmp_path: Path, node: Start) -> None:
    with (
        running_registry(tmp_path, lease_ms=3000) as (registry, endpoint),
        peers(endpoint, "edge-1") as (edge,),
    ):
        process = node("origin-1", endpoint)
        eventually(lambda: reached(registry, "origin-1"), within_s=20)
        eventually(lambda: "origin-1" in edge.view.nodes, within_s=20)
        boot = edge.view.nodes["origin-1"].boot
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        # Others have lost it; but its machine takes connections, so nothing is known.
        assert edge.ask(Suspect("origin-1", boot)) == Done()
        eventually(lambda: "origin-1" not in edge.view.nodes, within_s=10)
        assert time.monotonic() - began > 1.5
        assert events(edge, "origin-1")[-1] == ["node-died", "its lease ended"]


def test_a_suspicion_harms_nobody_that_lives(tmp_path: Path, node: Start) -> None:
    with (
        running_registry(tmp_path, lease_ms=60_000) as (registry, endpoint),
        peers(endpoint, "edge-1") as (edge,),
    ):
        node("origin-1", endpoint)
        eventually(lambda: reached(registry, "origin-1"), within_s=20)
        eventually(lambda: "origin-1" in edge.view.nodes, within_s=20)
        boot = edge.view.nodes["origin-1"].boot
        for _ in range(20):
            for suspected in ((("origin-1", boot)), ("origin-1", "former"), ("nobody", "x"), ("\ud800", "")):
                assert edge.ask(Suspect(*suspected)) == Done()
        # Who was never reached may stand behind a firewall that refuses.
        assert edge.ask(Suspect("edge-1", edge.boot)) == Done()
        gevent.sleep(2 * sum(deaths._LOOKS))
        assert {"origin-1", "edge-1"} <= set(registry.table.nodes)
        assert events(edge, "origin-1") == [["node-joined", ""]]


def test_who_died_while_the_registry_was_away_is_found_at_its_start(tmp_path: Path, node: Start) -> None:
    with running_registry(tmp_path, lease_ms=60_000) as (registry, endpoint):
        dead, _ = node("origin-1", endpoint), node("edge-1", endpoint)
        eventually(lambda: reached(registry, "origin-1", "edge-1"), within_s=20)
        with peers(endpoint, "balancer-1") as (balancer,):
            balancer.grant("g", "origin-1")
    dead.kill()
    with running_registry(tmp_path, lease_ms=60_000, endpoint=endpoint) as (registry, _):
        eventually(lambda: "origin-1" not in registry.table.nodes, within_s=QUICK_S)
        assert registry.table.orphans == {"g": "origin-1"}
        eventually(lambda: "restored" not in registry.table.nodes["edge-1"].meta, within_s=20)


def test_the_death_of_an_origin_with_5000_groups_is_one_commit_and_few_messages(
    tmp_path: Path, node: Start
) -> None:
    with (
        running_registry(tmp_path, lease_ms=60_000) as (registry, endpoint),
        peers(endpoint, "edge-1", "origin-2") as (edge, origin),
    ):
        process = node("origin-1", endpoint)
        eventually(lambda: reached(registry, "origin-1"), within_s=20)
        names = [f"chat/room-{number:05}" for number in range(5001)]
        for first in range(0, 5001, 200):
            origin.ask(Grants([[name, "origin-1"] for name in names[first : first + 200]]))
        eventually(lambda: len(edge.view.groups) == 5001, within_s=20)
        edge.pushed.clear()
        commits = registry.health()["commits"]
        process.kill()
        eventually(
            lambda: sum(not group.origin for group in edge.view.groups.values()) == 5001, within_s=QUICK_S
        )
        assert registry.health()["commits"] <= commits + 1
        told = [changed for changed in edge.pushed if any(row[0] == "group" for row in changed.changes)]
        assert [len(changed.changes) for changed in told] == [5000, 2]
        assert [changed.seq for changed in told] == [told[0].seq, told[0].seq + 1]
        answer = origin.ask(Grants([[name, "origin-2"] for name in names[:1000]]))
        assert isinstance(answer, Granted)
        assert {(row[1], row[3]) for row in answer.rows} == {("origin-2", "")}
        last = edge.ask(HistoryRequest(1)).rows[0]
        assert last[1:6] == ["taken-over", f"{names[0]} and 999 more", "origin-1", "origin-2", 5002]


def test_a_change_that_is_too_much_for_a_message_comes_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater_registry.service.MAX_CHANGES", 3)
    with running_registry(tmp_path) as (_, endpoint), peers(endpoint, "origin-1", "edge-1") as (origin, edge):
        edge.pushed.clear()
        origin.ask(Grants([[f"g{number}", "origin-1"] for number in range(8)]))
        eventually(lambda: len(edge.view.groups) == 8, within_s=5)
        told = [changed for changed in edge.pushed if isinstance(changed, Changed)]
        assert max(len(changed.changes) for changed in told) == 3


# Looking


def info(node_id: str, endpoint: str, **meta: Any) -> NodeInfo:
    return NodeInfo(node_id, node_id.partition("-")[0], "b", endpoint, 1.0, meta)


@pytest.mark.parametrize(
    ("endpoint", "meta", "found"),
    [
        ("tcp://127.0.0.1:5", {}, "tcp://127.0.0.1:5"),
        ("tcp://127.0.0.1:5", {"control": "tcp://[::1]:6"}, "tcp://[::1]:6"),
        ("tcp://127.0.0.1:5", {"control": ""}, "tcp://127.0.0.1:5"),
        ("tcp://127.0.0.1:5", {"control": 5}, "tcp://127.0.0.1:5"),
        ("", {"control": "tcp://origin.example:6"}, "tcp://origin.example:6"),
        ("ipc:///run/x", {}, ""),
        ("", {}, ""),
        ("tcp://127.0.0.1", {}, ""),
    ],
)
def test_where_to_look_for_a_node(endpoint: str, meta: dict[str, Any], found: str) -> None:
    assert control_endpoint(info("origin-1", endpoint, **meta)) == found


def test_who_listens() -> None:
    for host, name in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("127.0.0.1", "localhost")):
        server = StreamServer((host, 0), lambda *_: None)
        server.start()
        endpoint = f"tcp://{name}:{server.server_port}"
        assert listens(endpoint) is True
        server.stop()
        assert listens(endpoint) is False
    assert listens("ipc:///run/x") is None
    assert listens("tcp://no such host:1") is None
    assert listens(f"tcp://{'x' * 70}.invalid:1") is None


def test_a_connection_to_itself_is_nobody_that_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may give a connection to a free port of this machine that very port: it is then connected to itself."""
    with socket.socket() as itself:
        itself.bind(("127.0.0.1", 0))
        itself.connect(itself.getsockname())
        monkeypatch.setattr("gevent.socket.create_connection", lambda *args, **more: itself)
        assert listens("tcp://127.0.0.1:5") is False


def test_a_port_that_is_closed_a_moment_after_the_connection_is_looked_at_again() -> None:
    """A process that ends closes its sockets one after the other."""
    server: Any = StreamServer(("127.0.0.1", 0), lambda *_: server.stop())
    server.start()
    dead: list[str] = []
    looking = Deaths(lambda node: dead.append(node.node_id), lambda node: None)
    job = gevent.spawn(looking.run)
    looking.suspect(info("origin-1", f"tcp://127.0.0.1:{server.server_port}"))
    eventually(lambda: dead == ["origin-1"], within_s=10)
    job.kill()


def test_suspects_are_looked_at_by_and_by_however_often_they_are_suspected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []
    answers: list[bool | None] = [None, True, None, True, False]
    died: list[str] = []

    def look(endpoint: str) -> bool | None:
        looked.append(endpoint)
        return answers.pop(0) if answers else True

    monkeypatch.setattr(deaths, "listens", look)
    monkeypatch.setattr(deaths, "_LOOKS", (0.0, *[0.01] * 9))
    looking = Deaths(lambda node: died.append(node.node_id), lambda node: None)
    job = gevent.spawn(looking.run)
    suspect = info("origin-1", "tcp://127.0.0.1:5")
    for _ in range(1000):
        looking.suspect(suspect)
        looking.suspect(info("edge-1", ""))
    # It goes on listening for a while, and some looks get no answer.
    eventually(lambda: died == ["origin-1"], within_s=5)
    assert looked == ["tcp://127.0.0.1:5"] * 5
    # Whoever is suspected again while it is looked at is looked at once more, when that is over.
    looking.suspect(suspect)
    eventually(lambda: len(looked) > 5, within_s=5)
    looking.suspect(suspect)
    eventually(lambda: len(looked) == 25, within_s=5)
    looking.suspect(suspect)
    looking.forget()
    gevent.sleep(2 * deaths.SWEEP_S)
    assert len(looked) == 25
    assert died == ["origin-1"]
    job.kill()
