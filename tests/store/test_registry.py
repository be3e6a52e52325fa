"""A registry whose table is in Redis: all it takes is the URL."""

from collections.abc import Callable
from pathlib import Path

from headwater_bus.control import Assigned, Refused
from headwater_bus.ports import registry_port
from support.cluster import Cluster
from support.peers import peers
from support.redis import RedisServer
from support.waiting import eventually

ALONE = {"balancer": 0, "origin": 0, "edge": 0}
PASSWORD = "open-sesame"


def test_a_table_in_redis_outlives_kill_9_and_an_absence_of_the_server(
    make_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = make_redis(options={"requirepass": PASSWORD})
    url = f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"
    cluster = Cluster(tmp_path, ALONE, {"registry": f"--lease-ms 60000 --store {url}"}).start()
    try:
        address = f"tcp://127.0.0.1:{registry_port(cluster.base_port)}"
        with peers(address, "origin-1", "balancer-1") as (origin, balancer):
            for number in range(5):
                assert balancer.grant(f"g{number}", "origin-1") == Assigned(
                    f"g{number}", "origin-1", number + 1
                )
            cluster.kill("registry.1")
            cluster.start_process("registry.1")
            cluster.wait_registered("registry.1")
            eventually(lambda: origin.refused_renewals and balancer.refused_renewals, within_s=20)
            assert balancer.grant("g3", "origin-1") == Assigned("g3", "origin-1", 4)
            assert balancer.grant("new", "origin-1") == Assigned("new", "origin-1", 6)
            server.kill()
            refused = balancer.grant("late", "origin-1")
            assert isinstance(refused, Refused)
            assert refused.code == "store"
            assert f"redis://***@127.0.0.1:{server.port}/0: cannot be reached" in refused.text
            server.start()
            granted = eventually(
                lambda: isinstance(answer := balancer.grant("late", "origin-1"), Assigned) and answer,
                within_s=20,
            )
            assert granted == Assigned("late", "origin-1", 7)
    finally:
        cluster.stop()
    assert PASSWORD not in cluster.log("registry.1")
    assert [line for line in cluster.trouble() if "change not committed" not in line] == []
