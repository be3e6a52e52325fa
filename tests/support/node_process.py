"""A node that is a process of its own and does nothing but be registered: `node_process.py NODE REGISTRY...`."""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()

import sys
from pathlib import Path

from headwater_bus.node import Node, NodeConfig

if __name__ == "__main__":
    name, *registries = sys.argv[1:]
    node = Node(
        NodeConfig(name, name.partition("-")[0], tuple(registries), 1935, Path("."), heartbeat_ms=500)
    )
    server = node.serve({})
    node.start(server.bind("tcp://127.0.0.1:*"), {"apps": ["chat"]})
    raise SystemExit(node.run())
