"""The registry as a process."""

from headwater_bus.logs import get_log
from headwater_bus.node import Node, NodeConfig
from headwater_store import StoreError, open_records, shown_url

from headwater_registry.config import RegistryConfig
from headwater_registry.service import Registry, ServeError

_log = get_log("registry")


def run(node_config: NodeConfig, config: RegistryConfig) -> int:
    """Serve until a signal; returns the exit status. Raises StoreError or ServeError before anything is served."""
    records = open_records(config.store, "registry", take=False)
    node = Node(node_config)
    registry = Registry(node, config, records)
    try:
        endpoint = registry.start()
    except (ServeError, StoreError):
        node.close()
        registry.close()
        raise
    _log.info("serving", endpoint=endpoint, store=shown_url(config.store))
    status = node.run()
    registry.close()
    return status
