"""What a dead process costs: registry, balancer and origin nothing, an edge its own clients."""

from collections.abc import Callable

import pytest
from headwater_client import NetConnection
from support.cluster import Cluster
from support.waiting import eventually

pytestmark = pytest.mark.cluster


def connectable(url: str, *args: object) -> bool:
    """Whether a client is accepted there now."""
    try:
        with NetConnection(url, *args):
            return True
    except Exception:
        return False


def test_without_registry_and_balancer_what_is_assigned_goes_on_and_nothing_is_forgotten(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster()
    with (
        NetConnection(cluster.rtmp_url(1, "live/on")) as one,
        NetConnection(cluster.rtmp_url(2, "live/on")) as two,
    ):
        here, there = one.shared_object("board"), two.shared_object("board")
        here.wait_synced(10)
        there.wait_synced(10)
        groups = {row["group"]: row for row in cluster.cli("headwater-registry", "groups", "--json")}
        cluster.kill("registry.1")
        cluster.kill("balancer.1")
        here["x"] = 1.0
        here.flush(10)
        eventually(lambda: there.get("x") == 1.0, within_s=5)
        # A group that is assigned takes new clients, too; one that nobody has does not.
        with NetConnection(cluster.rtmp_url(2, "live/on")) as three:
            third = three.shared_object("board")
            third.wait_synced(10)
            assert dict(third) == {"x": 1.0}
        cluster.start_process("registry.1")
        cluster.start_process("balancer.1")
        cluster.wait_registered("registry.1", "balancer.1", "origin.1", "origin.2", "edge.1", "edge.2")
        assert {row["group"]: row for row in cluster.cli("headwater-registry", "groups", "--json")} == groups
        eventually(lambda: connectable(cluster.rtmp_url(1, "live/new")), within_s=10)
        there["x"] = 2.0
        there.flush(10)
        eventually(lambda: here["x"] == 2.0, within_s=5)
        epochs = [row["epoch"] for row in cluster.cli("headwater-registry", "groups", "--json")]
        assert max(epochs) > max(row["epoch"] for row in groups.values())


def test_clients_of_a_dead_origin_notice_nothing(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    with NetConnection(cluster.rtmp_url(1, "chat/room"), "ann") as ann:
        (group,) = cluster.cli("headwater-registry", "groups", "--json")
        assert ann.call("say", "one", timeout_s=10) == 1
        cluster.kill(group["origin"].replace("-", "."))
        assert ann.call("say", "two", timeout_s=20) == 2
        assert not ann.closed.is_set()
        # The name is taken still: it is the same member.
        assert not connectable(cluster.rtmp_url(2, "chat/room"), "ann")
    (again,) = cluster.cli("headwater-registry", "groups", "--json")
    assert again["origin"] != group["origin"]
    assert again["epoch"] > group["epoch"]
    eventually(lambda: connectable(cluster.rtmp_url(1, "chat/room"), "ann"), within_s=10)


def test_an_edge_that_dies_takes_only_its_own_clients_along(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(options={"origin": "--resume-grace-s 2"})
    with (
        NetConnection(cluster.rtmp_url(1, "chat/room"), "ann") as ann,
        NetConnection(cluster.rtmp_url(2, "chat/room"), "bob") as bob,
    ):
        users = bob.shared_object("users")
        users.wait_synced(10)
        assert set(users) == {"ann", "bob"}
        cluster.kill("edge.1")
        eventually(ann.closed.is_set, within_s=10)
        eventually(lambda: set(users) == {"bob"}, within_s=10)
        assert not bob.closed.is_set()
        cluster.start_process("edge.1")
        eventually(lambda: connectable(cluster.rtmp_url(1, "chat/room"), "ann"), within_s=10)


def test_a_second_process_of_a_name_is_refused_while_the_first_one_lives(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster()
    with NetConnection(cluster.rtmp_url(1, "chat/room"), "ann") as ann:
        before = cluster.cli("headwater-registry", "groups", "--json")
        second = cluster.run(
            "headwater-origin", "serve", "--app", "chat=apps.chat:Chat", "--node-id", before[0]["origin"]
        )
        assert second.returncode == 2, second.stdout
        assert "is here already" in second.stdout
        assert "--node-id" in second.stdout
        assert cluster.cli("headwater-registry", "groups", "--json") == before
        assert ann.call("say", "still here", timeout_s=10) == 1
    # A dead one is replaced at once, whatever is left of its lease.
    name = before[0]["origin"].replace("-", ".")
    boot = cluster.nodes()[before[0]["origin"]][2]
    cluster.kill(name)
    cluster.start_process(name)
    eventually(
        lambda: (node := cluster.nodes().get(before[0]["origin"])) is not None and node[2] != boot,
        within_s=10,
    )
