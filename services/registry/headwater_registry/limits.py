"""What the registry takes: sizes of names and tables, so that the whole table fits one message and one node cannot fill it."""

import json
import math
from typing import Any

from headwater_bus.control import Refused, Register
from headwater_bus.security import SecurityError, role_of

MAX_ID_BYTES = 64
"""Of a node id or boot id."""
MAX_ENDPOINT_BYTES = 256
MAX_META_BYTES = 2048
"""Of `meta` or `load`, as JSON."""
MAX_META_DEPTH = 16
MAX_CAPACITY = 1e6
MAX_NODES = 1000
"""1000 nodes with the most meta and load are under 5 MB, groups at most 10 MB: a Snapshot stays below the 16 MiB of a request."""
MAX_GROUPS_BYTES = 10 * 1024 * 1024
"""Of all groups' rows: about 100,000 groups with names of 20 bytes."""
MAX_SETTINGS_BYTES = 256 * 1024
"""Of the balancers' settings, as JSON."""
MAX_GRANTS = 1000
"""Groups in one request."""


def group_bytes(group: str) -> int:
    """What a group counts for MAX_GROUPS_BYTES: its name, the longest name of an origin, and an allowance for the epoch and
    framing. It is the same whoever has the group: a group that is there can always be given to somebody."""
    return len(group.encode()) + MAX_ID_BYTES + 16


def bad_name(what: str, name: str, most: int) -> Refused | None:
    """Refused where a name is empty, longer than `most` bytes of UTF-8, or not printable."""
    # The bus carries lone surrogates; a store, a terminal and `encode` do not. They are not printable.
    size = len(name.encode(errors="surrogatepass"))
    if not 0 < size <= most:
        return Refused("bad-name", f"{what}: {size} bytes, expected 1 to {most}")
    if not name.isprintable():
        return Refused("bad-name", f"{what} {name!r}: expected printable characters")
    return None


def _deep(value: Any, levels: int) -> bool:
    """Whether lists and maps are nested deeper than so many levels. json's own limit differs between Pythons."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deep(item, levels - 1) for item in inner)


def bad_grants(rows: list[Any]) -> Refused | None:
    """Refused where these are no rows [group, origin], or too many."""
    if len(rows) > MAX_GRANTS:
        return Refused("too-many", f"{len(rows)} grants, expected at most {MAX_GRANTS} in a request")
    for row in rows:
        if not isinstance(row, list) or [*map(type, row)] != [str, str]:
            return Refused("bad-request", "grants: expected rows [group, origin]")
    return None


def bad_map(what: str, value: dict[str, Any], most: int = MAX_META_BYTES) -> Refused | None:
    """Refused where a map is larger than `most` as JSON, or holds what no command line could show (bytes, NaN, lone
    surrogates)."""
    if _deep(value, MAX_META_DEPTH):
        return Refused("bad-map", f"{what}: expected at most {MAX_META_DEPTH} levels")
    try:
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        return Refused("bad-map", f"{what}: expected text, numbers, lists and maps only: {error}")
    if size > most:
        return Refused("bad-map", f"{what}: {size} bytes as JSON, expected at most {most}")
    return None


def bad_register(message: Register) -> Refused | None:
    """Refused where a node's registration cannot be taken."""
    found = bad_name("node id", message.node_id, MAX_ID_BYTES) or bad_name("boot", message.boot, MAX_ID_BYTES)
    if found is None and message.endpoint:
        found = bad_name("endpoint", message.endpoint, MAX_ENDPOINT_BYTES)
    if found is not None:
        return found
    try:
        role = role_of(message.node_id)
    except SecurityError as error:
        return Refused("bad-name", str(error))
    if role != message.role or role == "operator":
        return Refused(
            "bad-name",
            f"node id {message.node_id}: role {message.role[:64]!r}, expected {role}-NAME of a service",
        )
    if not (math.isfinite(message.capacity) and 0 < message.capacity <= MAX_CAPACITY):
        return Refused(
            "bad-capacity", f"capacity {message.capacity}: expected more than 0, at most {MAX_CAPACITY:g}"
        )
    return bad_map("meta", message.meta)
