"""`headwater-edge drain` on a real cluster: RTMPT clients behind a balancer go on, others are closed at the deadline."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from headwater_bus.ports import edge_rtmp_port
from headwater_client import NetConnection
from support.balancers import nginx
from support.cluster import Cluster
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster
Tool = Callable[[str], str]


@pytest.fixture
def two(make_cluster: Callable[..., Cluster]) -> Cluster:
    return make_cluster({"edge": 2, "origin": 1})


def test_a_drained_edge_is_left_by_all_and_rtmpt_clients_do_not_notice(
    two: Cluster, tool: Tool, tmp_path: Path
) -> None:
    edges = [("127.0.0.1", edge_rtmp_port(two.base_port, f"edge-{number}")) for number in (1, 2)]
    with ExitStack() as stack:
        balancer = stack.enter_context(nginx(tool("nginx"), tmp_path, edges))
        behind = [stack.enter_context(NetConnection(balancer.url("rtmpt", "live/drained"))) for _ in range(8)]
        boards = [one.shared_object("board") for one in behind]
        for board in boards:
            board.wait_synced()
        plain = stack.enter_context(NetConnection(two.rtmp_url(1, "live/drained")))
        assert two.health("edge.1")["tunnels"] + two.health("edge.2")["tunnels"] >= len(behind)
        done = two.run("headwater-edge", "drain", "edge-1", "--deadline-s", "1", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["clients"] == 0
        assert plain.closed.wait(10 * TIME_FACTOR)
        assert plain.last_status["code"] == "NetConnection.Connect.AppShutdown"
        for number, board in enumerate(boards):
            board.update(**{f"k{number}": float(number)})

        def everybody_has_everything() -> bool:
            return all(len(board) == len(boards) for board in boards)

        eventually(everybody_has_everything, 20)
        assert not any(one.closed.is_set() for one in behind)
        health = two.health("edge.1")
        assert (health["draining"], health["clients"], health["tunnels"]) == (True, 0, 0)


def test_an_edge_that_is_not_there_is_one_line_and_status_2(two: Cluster) -> None:
    done = two.run("headwater-edge", "drain", "edge-7")
    assert done.returncode == 2
    assert "edge-7: no edge of this name is registered, expected one of: edge-1, edge-2" in done.stderr
    assert done.stderr.count("\n") == 1
