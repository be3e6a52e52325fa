"""The registry's tables for people (80 columns) and for programs (JSON)."""

from collections.abc import Iterable
from typing import Any

from headwater_bus.view import Assignment, NodeInfo
from rich.box import SIMPLE_HEAD
from rich.table import Table


def span(seconds: float) -> str:
    """A duration in its largest two units: `12s`, `3m 05s`, `2h 07m`, `5d 03h`."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    if minutes:
        return f"{minutes}m {whole % 60:02}s"
    return f"{whole}s"


def _number(value: Any, digits: int = 0) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"


def _address(node: NodeInfo) -> str:
    """Where it is reached: an edge by RTMP (on its own port, then on the shared one), the others by ZeroMQ."""
    if "rtmp" in node.meta:
        shared, own = str(node.meta.get("rtmp_shared", "")), str(node.meta["rtmp"])
        return own if shared in ("", own) else f"{own}, {shared.rpartition(':')[2]}"
    return node.endpoint or "-"


def _table(*columns: tuple[str, bool]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for name, is_number in columns:
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    return table


def nodes_table(nodes: Iterable[NodeInfo], now: float) -> Table:
    """`now`: seconds since 1970."""
    table = _table(
        ("node", False),
        ("role", False),
        ("up", True),
        ("address", False),
        ("capacity", True),
        ("cpu %", True),
        ("sessions", True),
    )
    for node in nodes:
        since = node.meta.get("since")
        table.add_row(
            node.node_id,
            node.role,
            span(now - since) if isinstance(since, int | float) else "-",
            _address(node),
            f"{node.capacity:g}" if node.role == "origin" else "-",
            _number(node.load.get("cpu_percent")),
            _number(node.load.get("sessions")),
        )
    return table


def groups_table(groups: Iterable[Assignment]) -> Table:
    """Group, origin, epoch."""
    table = _table(("group", False), ("origin", False), ("epoch", True))
    for group in groups:
        table.add_row(group.group, group.origin or "(orphan)", str(group.epoch))
    return table


def node_json(node: NodeInfo) -> dict[str, Any]:
    """A row of `nodes --json`."""
    names = ("node_id", "role", "boot", "endpoint", "capacity", "meta", "load")
    return dict(zip(names, node.row(), strict=True))


def group_json(group: Assignment) -> dict[str, Any]:
    """A row of `groups --json`; the origin of an orphan is empty."""
    return {"group": group.group, "origin": group.origin, "epoch": group.epoch}


def change_line(change: list[Any]) -> str:
    """One change of the feed for people."""
    kind = change[0]
    if kind == "node":
        node = NodeInfo(*change[1][:7])
        return f"node {node.node_id} capacity {node.capacity:g} at {_address(node)}"
    if kind == "node-gone":
        return f"node-gone {change[1]}"
    if kind == "group":
        if not change[2]:
            return f"group {change[1]} is an orphan of epoch {change[3]}"
        return f"group {change[1]} to {change[2]} at epoch {change[3]}"
    if kind == "group-gone":
        return f"group-gone {change[1]}"
    if kind == "settings":
        names = sorted(name for name in change[1] if name != "version")
        return f"settings {change[1].get('version', 0)}: {', '.join(names) or 'none'}"
    if kind == "load":
        return f"load {change[1]} " + " ".join(f"{name}={value}" for name, value in change[2].items())
    return " ".join(str(part) for part in change)


def change_json(change: list[Any]) -> dict[str, Any]:
    """One change of the feed for programs."""
    kind = change[0]
    if kind == "node":
        return {"change": kind, **node_json(NodeInfo(*change[1][:7]))}
    if kind == "group":
        return {"change": kind, "group": change[1], "origin": change[2], "epoch": change[3]}
    if kind == "group-gone":
        return {"change": kind, "group": change[1]}
    if kind == "settings":
        return {"change": kind, "settings": change[1]}
    if kind == "load":
        return {"change": kind, "node_id": change[1], "load": change[2]}
    return {"change": kind, "node_id": change[1]}
