"""An application's objects, each a group of its own, when the origin that has one dies: the application finds it again, with all
that was acknowledged."""

from collections.abc import Callable
from typing import Any

import pytest
from headwater_client import CallFailed, NetConnection
from support.cluster import Cluster
from support.waiting import eventually

pytestmark = pytest.mark.cluster
OPTIONS = {"origin": "--app spread=tests.support.shared_app:Spread"}
AGAIN_S = 20


def owner(cluster: Cluster, group: str) -> str | None:
    """The origin that runs a group."""
    for number in (1, 2, 3):
        name = f"origin.{number}"
        if group in cluster.health(name)["groups"]:
            return name
    return None


def elsewhere(cluster: Cluster, client: NetConnection, scope: str) -> tuple[str, str]:
    """The name of an object that is not where the scope is, and its origin."""
    home = owner(cluster, scope)
    for number in range(20):
        name = f"kept{number}"
        client.call("put", name, {"x": 1.0})
        has = owner(cluster, f"{scope}#so:{name}")
        if has is not None and has != home:
            return name, has
    raise AssertionError("all objects are where the scope is")


def put(client: NetConnection, name: str, values: dict[str, Any]) -> Any:
    """Have the application change its object; what it holds then, None while that cannot be done."""
    try:
        return client.call("put", name, values, timeout_s=20)
    except CallFailed:
        return None


@pytest.mark.parametrize("again", [True, False])
def test_the_application_sees_its_object_again(make_cluster: Callable[..., Cluster], again: bool) -> None:
    """`again`: the origin that has died comes back under its name."""
    cluster = make_cluster({"origin": 3}, OPTIONS)
    with NetConnection(cluster.rtmp_url(1, "spread/room"), timeout_s=20) as client:
        name, origin = elsewhere(cluster, client, "spread/room")
        values = {f"slot{number}": float(number) for number in range(50)}
        before = client.call("put", name, values)
        cluster.kill(origin)
        if again:
            cluster.start_process(origin)
        after = {**before, "y": 2.0}
        eventually(lambda: put(client, name, {"y": 2.0}) == after, within_s=AGAIN_S)
        # And so do clients, at whichever origin it is now.
        with NetConnection(cluster.rtmp_url(2, "spread/room"), timeout_s=20) as other:
            shared = other.shared_object(name)
            shared.wait_synced(10)
            assert dict(shared) == after
            shared["z"] = 3.0
            shared.flush(10)
            eventually(lambda: client.call("contents", name) == {**after, "z": 3.0}, within_s=10)
