"""`headwater-registry` as operators run it: killed and started again, its commands, its keys, and what it says of bad input."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import psutil
import pytest
import zmq.green as zmq
from headwater_bus.control import (
    Assigned,
    Granted,
    Grants,
    Refused,
    Register,
    Registered,
    Release,
    Renew,
    Subscribe,
)
from headwater_bus.ports import registry_port
from headwater_bus.requests import Requester
from headwater_bus.security import Security
from support.cluster import BIN, Cluster
from support.peers import ANSWER_S, Peer, peers
from support.waiting import TIME_FACTOR, eventually

ALONE = {"balancer": 0, "origin": 0, "edge": 0}
PATIENT = {"registry": "--lease-ms 60000"}
"""Commands that a test waits for hold up the nodes that it plays: on a busy machine for longer than a lease of 3 s."""


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Cluster]:
    """A registry and nothing else."""
    cluster = Cluster(tmp_path, ALONE, PATIENT).start()
    yield cluster
    cluster.stop()
    assert cluster.trouble() == []


def address(cluster: Cluster) -> str:
    return f"tcp://127.0.0.1:{registry_port(cluster.base_port)}"


class Command:
    """A command that runs beside the test: greenlets run on while it is waited for."""

    def __init__(self, cluster: Cluster, *command: str) -> None:
        self._out = cluster.folder / f"command-{secrets.token_hex(4)}.out"
        self._err = self._out.with_suffix(".err")
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            env = {**os.environ, **cluster.env}
            self.process = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]], env=env, stdout=out, stderr=err
            )

    @property
    def lines(self) -> list[str]:
        """What it has printed."""
        return self._out.read_text().splitlines()

    @property
    def errors(self) -> str:
        """What it has complained about."""
        return self._err.read_text()

    def end(self, within_s: float = 20) -> int:
        """Wait for its end; returns the exit status."""
        eventually(lambda: self.process.poll() is not None, within_s, f"{self.process.args!r} ends")
        return self.process.returncode

    def ctrl_c(self) -> int:
        """Interrupt it; returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.end()


@pytest.fixture
def command() -> Iterator[Callable[..., Command]]:
    """Starts commands; those that still run at the end of the test are killed."""
    made: list[Command] = []

    def start(cluster: Cluster, *words: str) -> Command:
        made.append(Command(cluster, *words))
        return made[-1]

    yield start
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def test_kill_9_loses_no_group_and_no_epoch(alone: Cluster) -> None:
    with peers(address(alone), "origin-1", "balancer-1") as (origin, balancer):
        for number in range(40):
            granted = balancer.grant(f"g{number}", "origin-1")
            assert granted == Assigned(f"g{number}", "origin-1", number + 1)
        origin.ask(Release("g0", 1))
        alone.kill("registry.1")
        alone.start_process("registry.1")
        alone.wait_registered("registry.1", "origin.1")
        # Peers reconnect by themselves, are told that they are new, and register again with the same boot.
        eventually(lambda: origin.refused_renewals and balancer.refused_renewals, within_s=20)
        groups = alone.cli("headwater-registry", "groups", "--json")
        assert {row["group"]: row["epoch"] for row in groups} == {f"g{n}": n + 1 for n in range(1, 40)}
        assert balancer.grant("g0", "origin-1") == Assigned("g0", "origin-1", 41)
        eventually(lambda: "g0" in origin.view.groups, within_s=10)


def test_a_node_that_does_not_come_back_after_a_restart_is_given_up(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ALONE, {"registry": "--lease-ms 1500 --heartbeat-ms 300"}).start()
    try:
        with peers(address(cluster), "origin-1", "balancer-1") as (_, balancer):
            balancer.grant("g", "origin-1")
        cluster.kill("registry.1")
        cluster.start_process("registry.1")
        cluster.wait_registered("registry.1")
        eventually(lambda: set(cluster.nodes()) == {"registry-1"}, within_s=20)
        orphan = {"group": "g", "origin": "", "epoch": 1}
        assert cluster.cli("headwater-registry", "groups", "--json") == [orphan]
    finally:
        cluster.stop()


def test_a_registry_that_was_held_up_gives_nobody_up(tmp_path: Path) -> None:
    """Stopped for twice the lease: what nodes sent meanwhile waits in its socket."""
    lease_s = 1.0
    options = {"registry": f"--lease-ms {lease_s * 1000:.0f} --heartbeat-ms 200"}
    cluster = Cluster(tmp_path, ALONE, options).start()
    try:
        with peers(address(cluster), "origin-1", "balancer-1") as (origin, balancer):
            balancer.grant("g", "origin-1")
            cluster.kill("registry.1", signal.SIGSTOP)
            gevent.sleep(2 * lease_s)
            cluster.kill("registry.1", signal.SIGCONT)
            eventually(lambda: "held up; leases run on" in cluster.log("registry.1"), within_s=10)
            assert balancer.grant("g", "origin-1") == Assigned("g", "origin-1", 1)
            assert not origin.refused_renewals
            assert "node gone" not in cluster.log("registry.1")
            # And leases end as ever afterwards.
            origin.silent()
            eventually(lambda: "origin-1" not in balancer.view.nodes, within_s=10)
    finally:
        cluster.stop()


def test_nodes_and_groups(alone: Cluster) -> None:
    with peers(address(alone), "origin-2", "origin-1", capacities={"origin-1": 2.0}) as (second, first):
        first.load = {"cpu_percent": 41.5, "sessions": 17}
        edge = Peer(address(alone), "edge-1")
        assert isinstance(edge.register("", rtmp="127.0.0.1:1946", rtmp_shared="127.0.0.1:1935"), Registered)
        for group in ("b", "a", "c"):
            second.grant(group, "origin-2")
        rows = alone.cli("headwater-registry", "nodes", "--json")
        assert [row["node_id"] for row in rows] == ["edge-1", "origin-1", "origin-2", "registry-1"]
        assert set(rows[1]) == {"node_id", "role", "boot", "endpoint", "capacity", "meta", "load"}
        assert (rows[1]["role"], rows[1]["capacity"], rows[1]["boot"]) == ("origin", 2.0, first.boot)
        rows = alone.cli("headwater-registry", "groups", "--json")
        assert rows == [
            {"group": g, "origin": "origin-2", "epoch": e} for g, e in (("a", 2), ("b", 1), ("c", 3))
        ]
        eventually(lambda: alone.nodes()["origin-1"][6], within_s=10)
        table = alone.run("headwater-registry", "nodes").stdout
        assert all(len(line.rstrip()) <= 80 for line in table.splitlines())
        for part in ("origin-1", "127.0.0.1:1946, 1935", "42", "17", "registry-1"):
            assert part in table
        table = alone.run("headwater-registry", "groups").stdout
        assert [line.split() for line in table.splitlines()[2:]] == [
            ["a", "origin-2", "2"], ["b", "origin-2", "1"], ["c", "origin-2", "3"],
        ]  # fmt: skip
        edge.close()


def test_watch_prints_each_change_until_ctrl_c(alone: Cluster, command: Callable[..., Command]) -> None:
    with peers(address(alone), "origin-1", "balancer-1") as (origin, balancer):
        text = command(alone, "headwater-registry", "watch")
        rows = command(alone, "headwater-registry", "watch", "--json")
        # Each prints the table first.
        eventually(lambda: len(text.lines) >= 3 and len(rows.lines) >= 3, within_s=20)
        assert {line.split()[2] for line in text.lines} == {"registry-1", "origin-1", "balancer-1"}
        assert {json.loads(line)["change"] for line in rows.lines[:3]} == {"node"}
        balancer.grant("chat/lobby", "origin-1")
        eventually(
            lambda: any(line.endswith("group chat/lobby to origin-1 at epoch 1") for line in text.lines),
            within_s=10,
        )
        change = {"change": "group", "group": "chat/lobby", "origin": "origin-1", "epoch": 1}
        eventually(lambda: change in [json.loads(line) for line in rows.lines], within_s=10)
        # It goes on over a restart of the registry.
        alone.kill("registry.1")
        alone.start_process("registry.1")
        eventually(lambda: origin.refused_renewals and balancer.refused_renewals, within_s=20)
        balancer.grant("chat/hall", "origin-1")
        eventually(lambda: any("chat/hall" in line for line in text.lines), within_s=30)
        assert (text.ctrl_c(), rows.ctrl_c()) == (0, 0)
        for each in (text, rows):
            assert "Traceback" not in each.errors
            assert "KeyboardInterrupt" not in each.errors
        assert not any("load" in line for line in text.lines)


@pytest.mark.parametrize("options", [(), ("--load", "--json")])
def test_watch_ends_quietly_when_nobody_reads_it(alone: Cluster, options: tuple[str, ...]) -> None:
    process = subprocess.Popen(
        [str(BIN / "headwater-registry"), "watch", *options],
        env={**os.environ, **alone.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert b"registry-1" in process.stdout.readline()
        process.stdout.close()
        eventually(lambda: process.poll() is not None, within_s=20)
        assert (process.returncode, process.stderr.read()) == (0, b"")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_watch_says_why_it_cannot_begin(alone: Cluster, command: Callable[..., Command]) -> None:
    too_long = f"ipc://{'x' * 200}"
    watch = command(alone, "headwater-registry", "watch", "--registry", too_long)
    eventually(lambda: watch.errors, within_s=20)
    assert watch.ctrl_c() == 0
    assert "no endpoint to connect to" in watch.errors
    assert len(watch.errors.splitlines()) == 1


def reached(cluster: Cluster, registry: str) -> dict[str, str]:
    """Start a cluster and stop it: where its registry says that its nodes are, origins without the port."""
    try:
        cluster.start_process("registry.1")
        cluster.start_process("origin.1")
        waiting = ("wait", "registry=1,origin=1", "--registry", registry, "--json", "--timeout", "60")
        nodes = {row["node_id"]: row["endpoint"] for row in cluster.cli("headwater-registry", *waiting)}
    finally:
        cluster.stop()
    assert cluster.trouble() == []
    return {**nodes, "origin-1": nodes["origin-1"].rstrip("0123456789")}


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6(tmp_path: Path, host: str) -> None:
    cluster = Cluster(tmp_path, {**ALONE, "origin": 1}, {"registry": f"--bind {host}"})
    registry = f"tcp://[::1]:{registry_port(cluster.base_port)}"
    cluster.add_options("origin", f"--bind {host} --registry {registry}")
    assert reached(cluster, registry) == {"registry-1": registry, "origin-1": "tcp://[::1]:"}


def test_a_registry_on_an_ipc_endpoint(tmp_path: Path) -> None:
    registry = f"ipc://{tmp_path}/registry"
    cluster = Cluster(
        tmp_path,
        {**ALONE, "origin": 1},
        {"registry": f"--registry {registry}", "origin": f"--registry {registry}"},
    )
    assert reached(cluster, registry) == {"registry-1": registry, "origin-1": "tcp://127.0.0.1:"}


def test_wait_says_when_all_are_there_and_what_to_try(
    tmp_path: Path, command: Callable[..., Command]
) -> None:
    cluster = Cluster(tmp_path, ALONE, PATIENT)
    try:
        # It may begin before the registry does.
        waiting = command(cluster, "headwater-registry", "wait", "registry=1,edge=2", "--timeout", "300")
        cluster.start_process("registry.1")
        cluster.wait_registered("registry.1")
        made = [Peer(address(cluster), f"edge-{number}") for number in (1, 2)]
        for number, edge in enumerate(made, 1):
            assert waiting.process.poll() is None
            own, shared = f"127.0.0.1:{cluster.base_port + 10 + number}", f"127.0.0.1:{cluster.base_port}"
            edge.keep("", rtmp=own, rtmp_shared=shared)
        assert (waiting.end(), waiting.errors) == (0, "")
        assert waiting.lines[0].startswith("ready: ")
        for port in (cluster.base_port, cluster.base_port + 11, cluster.base_port + 12):
            assert f"rtmp://127.0.0.1:{port}" in waiting.lines[0]
        assert 4 <= len(waiting.lines) <= 5
        for edge in made:
            edge.close()
        failed = cluster.run("headwater-registry", "wait", "registry=1,origin=2", "--timeout", "0.5")
        assert failed.returncode == 2
        assert "missing origin 0 of 2" in failed.stderr
        interrupted = command(cluster, "headwater-registry", "wait", "origin=2")
        eventually(lambda: _is_connected(interrupted, registry_port(cluster.base_port)), within_s=20)
        assert (interrupted.ctrl_c(), interrupted.lines, interrupted.errors) == (0, [], "")
    finally:
        cluster.stop()


def _is_connected(command: Command, port: int) -> bool:
    """Whether a command talks to a port of this machine: then it has begun."""
    return any(
        connection.raddr and connection.raddr.port == port and connection.status == psutil.CONN_ESTABLISHED
        for connection in psutil.Process(command.process.pid).net_connections()
    )


def test_wait_without_a_registry_says_so(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ALONE)
    failed = cluster.run("headwater-registry", "wait", "registry=1", "--timeout", "0.5")
    cluster.stop()
    assert failed.returncode == 2
    assert f"nobody listens at {address(cluster)}" in failed.stderr


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["nodes"], "is the cluster running (make run), on this --base-port, with these --keys?"),
        (["wait", "edges=2"], "expected ROLE=NUMBER, such as edge=2"),
        (["serve", "--lease-ms", "1500"], "--lease-ms 1500: expected more than two heartbeats (2000 ms)"),
        (["serve", "--store", "nosuch:x"], "scheme nosuch: is not known; expected one of"),
        (["serve", "--node-id", "edge-1"], "--node-id edge-1: expected registry-NAME"),
        (["serve", "--bind", "0.0.0.0"], "give --keys (headwater-keys make), or bind 127.0.0.1"),
        (["serve", "--registry", "ipc:///nowhere/at/all"], "cannot listen there"),
        (["serve", "--nope"], "No such option"),
        (["nodes", "--base-port", "abc"], "'abc' is not a valid integer range"),
        (["nosuch"], "No such command 'nosuch'; see headwater-registry --help"),
    ],
)
def test_bad_input_is_told_in_a_line(tmp_path: Path, command: list[str], expected: str) -> None:
    cluster = Cluster(tmp_path, ALONE)
    failed = cluster.run("headwater-registry", *command)
    cluster.stop()
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert expected in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


SERVICES = ("registry", "balancer", "origin", "edge")
INTERRUPTED = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "gevent":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
import headwater_{service}.__main__
"""


@pytest.mark.parametrize("service", SERVICES)
def test_ctrl_c_while_a_service_is_still_importing_is_quiet(service: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(service=service)],
        capture_output=True,
        check=False,
        timeout=60 * TIME_FACTOR,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.parametrize("service", SERVICES)
def test_usage_errors_of_every_service_are_one_line(tmp_path: Path, service: str) -> None:
    cluster = Cluster(tmp_path, ALONE)
    failed = cluster.run(f"headwater-{service}", "serve", "--nope")
    cluster.stop()
    assert (failed.returncode, len(failed.stderr.splitlines())) == (2, 1), failed.stderr
    assert f"see headwater-{service} serve --help" in failed.stderr


def test_a_damaged_store_is_told_in_a_line(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ALONE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "registry.sqlite").write_bytes(b"damaged" * 1000)
    failed = cluster.run("headwater-registry", "serve")
    cluster.stop()
    assert failed.returncode == 2
    assert "registry.sqlite: not a SQLite file; restore it from a backup" in failed.stderr


def test_keys_say_who_may_do_what(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    names = ["registry-1", "balancer-1", "origin-1", "origin-2", "edge-1", "operator-1"]
    subprocess.run([str(BIN / "headwater-keys"), "make", str(keys), *names], check=True, capture_output=True)
    cluster = Cluster(tmp_path, ALONE, options={"registry": f"--keys {keys} --lease-ms 60000"})
    cluster.start_process("registry.1")
    context: Any = zmq.Context.instance()
    asking: dict[str, Requester] = {}
    try:
        for name in names[1:]:
            asking[name] = Requester(context, Security.from_keys(keys, name), address(cluster), "registry-1")

        def ask(name: str, envelope: Any) -> Any:
            return asking[name].request(envelope, ANSWER_S * 2)

        def register(node_id: str) -> Register:
            return Register(node_id, node_id.partition("-")[0], "boot", "tcp://127.0.0.1:9", 1.0)

        for name in ("balancer-1", "origin-1", "origin-2", "edge-1"):
            assert ask(name, register(name)) == Registered(60_000)
        assert ask("balancer-1", Grants([["g", "origin-1"]])) == Granted([["g", "origin-1", 1, ""]])
        for name, envelope in [
            ("edge-1", register("origin-1")),
            ("origin-2", Renew("origin-1", "boot")),
            ("edge-1", Grants([["h", "origin-1"]])),
            ("operator-1", Grants([["h", "origin-1"]])),
            ("operator-1", register("operator-1")),
            ("edge-1", Release("g", 1)),
        ]:
            refused = ask(name, envelope)
            assert isinstance(refused, Refused), (name, envelope)
            assert refused.code in ("not-allowed", "bad-name")
        refused = ask("origin-2", Release("g", 1))
        assert isinstance(refused, Refused)
        assert refused.code == "not-yours"
        assert ask("operator-1", Subscribe("operator-1")).groups == [["g", "origin-1", 1]]
        shown = cluster.cli("headwater-registry", "groups", "--json", "--keys", str(keys))
        assert [row["group"] for row in shown] == ["g"]
        refused_plain = cluster.run("headwater-registry", "groups")
        assert refused_plain.returncode == 2
    finally:
        for requester in asking.values():
            requester.close()
        cluster.stop()
    assert cluster.trouble() == []
