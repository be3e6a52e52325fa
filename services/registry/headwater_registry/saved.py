"""The table as records, JSON each, so that people can read the file too:

`node/ID` [role, boot, endpoint, capacity, meta, reachable], `group/NAME` [origin, epoch] or of an orphan ["", epoch, last
origin], `epoch`, `settings`, and `history/N` [number, row], the last of them by their number modulo `history.KEPT`.
"""

import json
from typing import Any

from headwater_bus.view import Assignment, NodeInfo
from headwater_store import Records, StoreError

from headwater_registry.history import KEPT
from headwater_registry.table import Saved, Table, Unsaved

_NODE, _GROUP, _EPOCH, _SETTINGS, _HISTORY = "node/", "group/", "epoch", "settings", "history/"


def load_table(records: Records, lease_s: float, now: float) -> Table:
    """The table as it was last committed. Raises StoreError where a record is not readable."""
    nodes: list[NodeInfo] = []
    groups: list[Assignment] = []
    orphans: dict[str, str] = {}
    reachable: set[str] = set()
    settings: dict[str, Any] = {}
    history: list[tuple[int, list[Any]]] = []
    epoch = 0
    for key, data in records.load().items():
        try:
            value: Any = json.loads(data)
            if key.startswith(_NODE):
                role, boot, endpoint, capacity, meta, *more = value
                name = key.removeprefix(_NODE)
                nodes.append(NodeInfo(name, role, boot, endpoint, float(capacity), dict(meta)))
                if more and more[0]:
                    reachable.add(name)
            elif key.startswith(_GROUP):
                origin, number, *more = value
                name = key.removeprefix(_GROUP)
                groups.append(Assignment(name, str(origin), int(number)))
                if not origin:
                    orphans[name] = str(more[0])
            elif key.startswith(_HISTORY):
                number, row = value
                history.append((int(number), list(row)))
            elif key == _EPOCH:
                epoch = int(value)
            elif key == _SETTINGS:
                settings = dict(value)
        except (ValueError, TypeError, IndexError) as error:
            text = f"registry's table: record {key!r} is not readable: {error}; restore the file from a backup, or move it away"
            raise StoreError(text) from error
    saved = Saved(tuple(nodes), tuple(groups), epoch, orphans, frozenset(reachable), settings, tuple(history))
    return Table(lease_s, saved, now=now)


def to_records(unsaved: Unsaved) -> tuple[dict[str, bytes], list[str]]:
    """What to put and what to delete, in one transaction."""
    put: dict[str, bytes] = {_EPOCH: _packed(unsaved.epoch)}
    delete: list[str] = []
    for node_id, node in unsaved.nodes.items():
        if node is None:
            delete.append(_NODE + node_id)
        else:
            is_reachable = node_id in unsaved.reachable
            put[_NODE + node_id] = _packed(
                [node.role, node.boot, node.endpoint, node.capacity, node.meta, is_reachable]
            )
    for name, group in unsaved.groups.items():
        if group is None:
            delete.append(_GROUP + name)
        elif group.origin:
            put[_GROUP + name] = _packed([group.origin, group.epoch])
        else:
            put[_GROUP + name] = _packed(["", group.epoch, unsaved.orphans[name]])
    if unsaved.settings is not None:
        put[_SETTINGS] = _packed(unsaved.settings)
    for number, row in unsaved.history:
        put[f"{_HISTORY}{number % KEPT}"] = _packed([number, row])
    return put, delete


def _packed(value: Any) -> bytes:
    return json.dumps(value).encode()
