"""`headwater-edge drain` on a real cluster: RTMPT clients behind a balancer go on, others are closed at the deadline."""

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from headwater_bus.ports import edge_rtmp_port
from headwater_client import NetConnection
from support.balancers import nginx
from support.cluster import BIN, Cluster
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster
Tool = Callable[[str], str]


@pytest.fixture
def two(make_cluster: Callable[..., Cluster]) -> Cluster:
    return make_cluster({"edge": 2, "origin": 1})


def connected_to(cluster: Cluster, name: str, stack: ExitStack) -> NetConnection:
    """A client that does as a ReconnectRequest asks, by the port that the edges share, at this one of them."""
    for _ in range(100):
        before = cluster.health(name)["clients"]
        client = NetConnection(cluster.shared_url("live/drained"), reconnect=True)
        client.connect()
        if cluster.health(name)["clients"] > before:
            stack.callback(client.close)
            return client
        client.close()
    raise AssertionError(f"no connection of 100 came to {name}")


@pytest.mark.parametrize("how", ["drain", "drain --stop", "SIGTERM"])
def test_an_edge_that_goes_is_left_by_all_and_rtmpt_clients_do_not_notice(
    two: Cluster, tool: Tool, tmp_path: Path, how: str
) -> None:
    edges = [("127.0.0.1", edge_rtmp_port(two.base_port, f"edge-{number}")) for number in (1, 2)]
    with ExitStack() as stack:
        balancer = stack.enter_context(nginx(tool("nginx"), tmp_path, edges))
        behind = [stack.enter_context(NetConnection(balancer.url("rtmpt", "live/drained"))) for _ in range(8)]
        boards = [one.shared_object("board") for one in behind]
        for board in boards:
            board.wait_synced()
        tunnels = {number: two.health(f"edge.{number}")["tunnels"] for number in (1, 2)}
        number = max(tunnels, key=tunnels.__getitem__)
        edge, other = f"edge.{number}", f"edge.{3 - number}"
        assert tunnels[number] > 0
        moving = connected_to(two, edge, stack)
        plain = stack.enter_context(NetConnection(two.rtmp_url(number, "live/drained")))
        codes: list[Any] = []
        moving.on_status(lambda info: codes.append(info["code"]))
        had = two.health(other)["clients"]
        if how == "SIGTERM":
            two.kill(edge, signal.SIGTERM)
        else:
            options = ["--deadline-s", "1", "--json", *how.split()[1:]]
            done = two.run("headwater-edge", "drain", f"edge-{number}", *options)
            assert (done.returncode, done.stderr) == (0, "")
            assert json.loads(done.stdout)["clients"] == 0
        assert plain.closed.wait(10 * TIME_FACTOR)
        assert plain.last_status["code"] == "NetConnection.Connect.AppShutdown"
        for count, board in enumerate(boards):
            board.update(**{f"k{count}": float(count)})

        def everybody_has_everything() -> bool:
            return all(len(board) == len(boards) for board in boards)

        eventually(everybody_has_everything, 20)
        eventually(lambda: moving.reconnects == 1, 10, "connected elsewhere")
        assert codes[0] == "NetConnection.Connect.ReconnectRequest"
        assert not any(one.closed.is_set() for one in [*behind, moving])
        assert two.health(other)["clients"] > had
        if how == "drain":
            health = two.health(edge)
            assert (health["draining"], health["clients"], health["tunnels"]) == (True, 0, 0)
        else:
            assert two.wait_ended(edge) == 0


def test_an_edge_that_is_not_there_is_one_line_and_status_2(two: Cluster) -> None:
    done = two.run("headwater-edge", "drain", "edge-7")
    assert done.returncode == 2
    assert "edge-7: no edge of this name is registered, expected one of: edge-1, edge-2" in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_the_command_and_not_the_drain(
    two: Cluster, started: list["subprocess.Popen[bytes]"]
) -> None:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    shown = bytearray()

    def has(text: bytes) -> bool:
        if select.select([ours], [], [], 0)[0]:
            shown.extend(os.read(ours, 65536))
        return text in shown

    try:
        with NetConnection(two.rtmp_url(1, "live/drained")) as plain:
            command = subprocess.Popen(
                [str(BIN / "headwater-edge"), "drain", "edge-1", "--deadline-s", "600"],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=two.command_env | {"TERM": "xterm"},
            )
            started.append(command)
            eventually(lambda: has(b"draining edge-1"), 20)
            command.send_signal(signal.SIGINT)
            eventually(lambda: has(b"\x1b[?25h"), 10, "the cursor is shown again")
            eventually(lambda: has(b"edge-1 is being drained, and goes on by itself"), 10)
            assert command.wait(10 * TIME_FACTOR) == 1
            assert b"Traceback" not in shown
            assert not plain.closed.is_set()
            assert two.health("edge.1")["draining"]
    finally:
        print(shown.decode(errors="replace"))
        os.close(theirs)
        os.close(ours)
