"""The edge process: node, listeners, jobs, drain."""

from typing import Any

from headwater_bus.logs import get_log
from headwater_bus.node import Node, NodeConfig

from headwater_edge.config import EdgeConfig
from headwater_edge.edge import Edge
from headwater_edge.listener import Listener

_log = get_log("edge")


def run(node_config: NodeConfig, config: EdgeConfig) -> int:
    """Serve until a signal; returns the exit status. Raises ListenError before anything is served."""
    node = Node(node_config)
    edge = Edge(node, config)
    listeners = [Listener(host, port, edge.accept, shared=True) for host, port in config.listen]
    node.load_provider = lambda: {"sessions": len(edge.clients)}
    node.health_provider = edge.health
    if config.flush_ms > 0:
        node.spawn("flush", edge.cluster.flush_job)
    node.spawn("sweep", edge.sweep)
    node.start(endpoint="", meta=_meta(listeners))
    _log.info("listening", rtmp=" ".join(f"{listener.host}:{listener.port}" for listener in listeners))

    def drain(deadline_s: float) -> None:
        for listener in listeners:
            listener.close()
        edge.shutdown("the edge is stopping")

    return node.run(drain=drain)


def _meta(listeners: list[Listener]) -> dict[str, Any]:
    """What the registry tells others: the shared RTMP address first, then the edge's own."""
    addresses = [f"{listener.host}:{listener.port}" for listener in listeners]
    return {"rtmp_shared": addresses[0], "rtmp": addresses[-1]}
