"""The table as records: `node/ID`, `group/NAME` and `epoch`, JSON each, so that people can read the file too."""

import json
from typing import Any

from headwater_bus.view import Assignment, NodeInfo
from headwater_store import Records, StoreError

from headwater_registry.table import Table, Unsaved

_NODE, _GROUP, _EPOCH = "node/", "group/", "epoch"


def load_table(records: Records, lease_s: float, now: float) -> Table:
    """The table as it was last committed. Raises StoreError where a record is not readable."""
    nodes: list[NodeInfo] = []
    groups: list[Assignment] = []
    epoch = 0
    for key, data in records.load().items():
        try:
            value: Any = json.loads(data)
            if key.startswith(_NODE):
                role, boot, endpoint, capacity, meta = value
                nodes.append(
                    NodeInfo(key.removeprefix(_NODE), role, boot, endpoint, float(capacity), dict(meta))
                )
            elif key.startswith(_GROUP):
                origin, number = value
                groups.append(Assignment(key.removeprefix(_GROUP), origin, int(number)))
            elif key == _EPOCH:
                epoch = int(value)
        except (ValueError, TypeError) as error:
            text = f"registry's table: record {key!r} is not readable: {error}; restore the file from a backup, or move it away"
            raise StoreError(text) from error
    return Table(lease_s, tuple(nodes), tuple(groups), epoch, now=now)


def to_records(unsaved: Unsaved) -> tuple[dict[str, bytes], list[str]]:
    """What to put and what to delete, in one transaction."""
    put: dict[str, bytes] = {_EPOCH: json.dumps(unsaved.epoch).encode()}
    delete: list[str] = []
    for node_id, node in unsaved.nodes.items():
        if node is None:
            delete.append(_NODE + node_id)
        else:
            put[_NODE + node_id] = json.dumps(
                [node.role, node.boot, node.endpoint, node.capacity, node.meta]
            ).encode()
    for name, group in unsaved.groups.items():
        if group is None:
            delete.append(_GROUP + name)
        else:
            put[_GROUP + name] = json.dumps([group.origin, group.epoch]).encode()
    return put, delete
