"""Which ports a cluster uses on one machine: all count from its base port; the rest bind any free one and register it."""

import re

DEFAULT_BASE_PORT = 1935
DEFAULT_REGISTRIES = 2
"""So many registries of one machine are looked for where none is named."""
_MAX_EDGES = 100


def shared_rtmp_port(base_port: int) -> int:
    """RTMP, shared by all edges of the machine."""
    return base_port


def registry_port(base_port: int, number: int = 1) -> int:
    """A registry's, which are numbered from 1."""
    return base_port + number


def edge_rtmp_port(base_port: int, node_id: str) -> int:
    """RTMP of one edge alone: its number (`edge-2`) counts. Raises ValueError for a number over 100."""
    number = node_number(node_id)
    if number > _MAX_EDGES:
        raise ValueError(
            f"{node_id}: number {number}, expected {_MAX_EDGES} at most on one machine; give --own-port"
        )
    return base_port + 10 + number


def edge_proxy_port(base_port: int, node_id: str) -> int:
    """The same of one edge alone, behind a load-balancer that sends a PROXY protocol header. Raises ValueError as well."""
    return edge_rtmp_port(base_port, node_id) + _MAX_EDGES


def node_number(node_id: str) -> int:
    """The digits that a node id ends with; 0 without."""
    found = re.search(r"(\d+)$", node_id)
    return int(found.group(1)) if found else 0
