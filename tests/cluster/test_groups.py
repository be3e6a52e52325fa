"""Groups over origins, and one connection between an edge and an origin."""

import json
import socket
import subprocess
from collections import Counter
from collections.abc import Callable

import gevent
import psutil
import pytest
from headwater_bus.ports import edge_rtmp_port
from headwater_client import NetConnection
from headwater_rtmp.chunk import encode_message
from headwater_rtmp.command import encode_command
from support.cluster import Cluster
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster


def together(greenlets: "list[gevent.Greenlet[..., None]]") -> None:
    """Wait for all of them; what one raises is raised."""
    gevent.joinall(greenlets, raise_error=True, timeout=60 * TIME_FACTOR)
    assert all(greenlet.ready() for greenlet in greenlets)


def table(cluster: Cluster) -> dict[str, str]:
    """The origin of each group, as the registry says."""
    return {row["group"]: row["origin"] for row in cluster.cli("headwater-registry", "groups", "--json")}


def test_40_groups_follow_the_capacities_and_500_clients_use_one_connection_per_edge_and_origin(
    cluster: Cluster, tool: Callable[[str], str]
) -> None:
    ss = tool("ss")
    connections: list[NetConnection] = []

    def connect(number: int) -> None:
        url = cluster.rtmp_url(1 + number // 40 % 2, f"live/room{number % 40}")
        connection = NetConnection(url, timeout_s=30 * TIME_FACTOR)
        connection.connect()
        connections.append(connection)

    # The first 40 one after the other, so that each is a decision of its own.
    for number in range(40):
        connect(number)
    for start in range(40, 500, 46):
        together([gevent.spawn(connect, n) for n in range(start, start + 46)])
    assert len(connections) == 500

    groups = cluster.cli("headwater-registry", "groups", "--json")
    owners = Counter(row["origin"] for row in groups if row["group"].startswith("live/room"))
    assert sum(owners.values()) == 40
    assert set(owners) == {"origin-1", "origin-2"}
    assert max(owners.values()) - min(owners.values()) <= 4

    nodes = {row["node_id"]: row for row in cluster.cli("headwater-registry", "nodes", "--json")}
    # Origins may have links to each other as well, for what applications do elsewhere.
    edges = {
        str(connection.laddr.port)
        for number in (1, 2)
        for connection in psutil.Process(cluster.pid(f"edge.{number}")).net_connections("tcp")
    }
    for origin in ("origin-1", "origin-2"):
        port = nodes[origin]["endpoint"].rsplit(":", 1)[1]
        shown = subprocess.run(
            [ss, "-Htn", "state", "established", f"( sport = :{port} )"],
            capture_output=True,
            text=True,
            check=True,
        )
        peers = [line.rsplit(":", 1)[1].strip() for line in shown.stdout.splitlines()]
        assert len([port for port in peers if port in edges]) == 2, shown.stdout
    status = cluster.cli("headwater-balancer", "status", "--json")
    assert "origin-1" in json.dumps(status)
    for connection in connections:
        connection.close()


def test_an_origin_of_twice_the_capacity_gets_twice_the_groups(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(options={"origin.1": "--capacity 2"})
    connections = [
        NetConnection(cluster.rtmp_url(1 + number % 2, f"live/room{number}")) for number in range(39)
    ]
    try:
        for connection in connections:
            connection.connect()
        owners = Counter(row["origin"] for row in cluster.cli("headwater-registry", "groups", "--json"))
        assert sum(owners.values()) == 39
        assert 23 <= owners["origin-1"] <= 29, owners
    finally:
        for connection in connections:
            connection.close()


def come_and_go(cluster: Cluster, number: int) -> None:
    """A client that sends connect and is gone: its edge asks for the group and has nobody to attach to it."""
    port = edge_rtmp_port(cluster.base_port, f"edge-{1 + number % 2}")
    app = f"live/junk{number}"
    command = encode_command("connect", 1, {"app": app, "tcUrl": f"rtmp://127.0.0.1/{app}"})
    with socket.create_connection(("127.0.0.1", port), timeout=10 * TIME_FACTOR) as sock:
        sock.sendall(b"\x03" + bytes(1536))
        answer = b""
        while len(answer) < 3073:
            more = sock.recv(3073 - len(answer))
            assert more, "closed during the handshake"
            answer += more
        sock.sendall(answer[1:1537] + encode_message(command, 3, 128))


def test_groups_that_nobody_attached_leave_the_table(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(options={"origin": "--group-linger-s 1"})
    for number in range(100):
        come_and_go(cluster, number)

    def last_epoch() -> int:
        with NetConnection(cluster.rtmp_url(1, "live/probe"), timeout_s=30 * TIME_FACTOR):
            rows = cluster.cli("headwater-registry", "groups", "--json")
        return int(max(row["epoch"] for row in rows))

    # Each grant has an epoch of its own, so this says how many there were, also of groups that are gone by now.
    eventually(lambda: last_epoch() > 50, within_s=30, what="more than 50 groups were granted")
    eventually(lambda: not table(cluster), within_s=30, what="all groups released")


def test_a_group_that_is_left_while_the_registry_is_away_leaves_the_table_when_it_is_back(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(options={"origin": "--group-linger-s 1"})
    with NetConnection(cluster.rtmp_url(1, "live/stays")):
        with NetConnection(cluster.rtmp_url(2, "live/left")):
            before = table(cluster)
            assert set(before) == {"live/stays", "live/left"}
            cluster.kill("registry.1")
        origin = before["live/left"].replace("-", ".")
        stopped = "group stopped group=live/left"
        eventually(lambda: stopped in cluster.log(origin), within_s=20, what=stopped)
        # It is assigned still, so it takes new clients although it had stopped.
        with NetConnection(cluster.rtmp_url(1, "live/left"), timeout_s=10 * TIME_FACTOR):
            pass
        eventually(lambda: cluster.log(origin).count(stopped) == 2, within_s=20, what=f"again: {stopped}")
        cluster.start_process("registry.1")
        cluster.wait_registered("registry.1", "origin.1", "origin.2")
        eventually(lambda: set(table(cluster)) == {"live/stays"}, within_s=30, what="the group is released")
    eventually(lambda: not table(cluster), within_s=30, what="all groups released")
