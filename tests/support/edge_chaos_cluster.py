"""The cluster of the edges' chaos suite, with a balancer in front of its edges."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from headwater_bus.ports import edge_rtmp_port

from support.balancers import Balancer, haproxy, nginx
from support.chaos_cluster import APPS
from support.cluster import Cluster
from support.edge_chaos_results import Config
from support.redis import RedisServer
from support.waiting import eventually

BALANCERS = ("nginx", "haproxy")
_KNOWN_S = 45.0
_LOOK_S = 0.05


class EdgeCluster(Cluster):
    """Its edges are where the balancer's configuration says, also after a kill."""

    def __init__(self, folder: Path, config: Config, store: str) -> None:
        given = f"--store {store}" if store else ""
        counts = {"origin": config.origins, "edge": config.edges}
        options = {"origin": f"{APPS} {given}", "registry": given, "edge": f"{given} --trust 127.0.0.0/8"}
        super().__init__(folder, counts, options)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Of the edges' own listeners."""
        return [
            ("127.0.0.1", edge_rtmp_port(self.base_port, name.replace(".", "-")))
            for name in self.names_of("edge")
        ]

    def wait_known(self, name: str) -> None:
        """Wait until the registry knows this very process: what it was before may be known for a while."""
        node_id = name.replace(".", "-")

        def known() -> bool:
            if node_id not in self.nodes():
                return False
            try:
                return bool(self.health(name)["pid"] == self.pid(name))
            except Exception:
                return False

        eventually(known, _KNOWN_S, f"{name} is registered", _LOOK_S)


@contextmanager
def running(config: Config, folder: Path, tools: dict[str, str]) -> Iterator[tuple[EdgeCluster, Balancer]]:
    """Both, stopped at the end, where they run still. `tools`: the programs' paths by name."""
    with ExitStack() as ending:
        url = ""
        if config.store == "redis":
            server = RedisServer(tools["redis-server"], folder / "redis")
            ending.callback(server.stop)
            url = server.url
        cluster = EdgeCluster(folder, config, url)
        ending.callback(cluster.stop)
        cluster.start()
        make = {"nginx": nginx, "haproxy": haproxy}[config.balancer]
        balancer = make(tools[config.balancer], folder, cluster.addresses)
        ending.callback(balancer.stop)
        balancer.start()
        yield cluster, balancer


def needed(config: Config) -> list[str]:
    """Names of the programs that a run needs."""
    programs = ["ffmpeg", "rtmpdump"] if config.programs else []
    return [config.balancer, *programs, *(["redis-server"] if config.store == "redis" else [])]
