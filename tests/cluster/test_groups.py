"""Groups over origins, and one connection between an edge and an origin."""

import json
import subprocess
from collections import Counter
from collections.abc import Callable

import gevent
import pytest
from headwater_client import NetConnection
from support.cluster import Cluster

pytestmark = pytest.mark.cluster


def test_40_groups_follow_the_capacities_and_500_clients_use_one_connection_per_edge_and_origin(
    cluster: Cluster,
) -> None:
    connections: list[NetConnection] = []

    def connect(number: int) -> None:
        url = cluster.rtmp_url(1 + number // 40 % 2, f"live/room{number % 40}")
        connection = NetConnection(url, timeout_s=30)
        connection.connect()
        connections.append(connection)

    # The first 40 one after the other, so that each is a decision of its own.
    for number in range(40):
        connect(number)
    for start in range(40, 500, 46):
        gevent.joinall(
            [gevent.spawn(connect, n) for n in range(start, start + 46)], raise_error=True, timeout=60
        )
    assert len(connections) == 500

    groups = cluster.cli("headwater-registry", "groups", "--json")
    owners = Counter(row["origin"] for row in groups if row["group"].startswith("live/room"))
    assert sum(owners.values()) == 40
    assert set(owners) == {"origin-1", "origin-2"}
    assert max(owners.values()) - min(owners.values()) <= 4

    nodes = {row["node_id"]: row for row in cluster.cli("headwater-registry", "nodes", "--json")}
    for origin in ("origin-1", "origin-2"):
        port = nodes[origin]["endpoint"].rsplit(":", 1)[1]
        shown = subprocess.run(
            ["ss", "-Htn", "state", "established", f"( sport = :{port} )"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(shown.stdout.splitlines()) == 2, shown.stdout
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
