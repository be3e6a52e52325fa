"""`headwater-balancer status`: what each origin has, for people and for programs."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from headwater_bus.control import Snapshot
from headwater_bus.view import NodeInfo
from rich.box import SIMPLE
from rich.table import Table

from headwater_balancer.holdings import number


def share(part: float, whole: float) -> float:
    """In percent; 0 of nothing is 0."""
    return round(100 * part / whole, 1) if whole else 0.0


def balancer_of(snapshot: Snapshot) -> NodeInfo | None:
    """The balancer that is registered, if any."""
    found = sorted((row for row in snapshot.nodes if row[1] == "balancer"), key=lambda row: row[0])
    return NodeInfo(*found[0][:7]) if found else None


def origin_rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    """One row an origin: its groups and capacity, both also in percent of all, its CPU and sessions."""
    nodes = [NodeInfo(*row[:7]) for row in snapshot.nodes if row[1] == "origin"]
    counts = Counter(row[1] for row in snapshot.groups)
    capacity = sum(node.capacity for node in nodes)
    return [
        {
            "node_id": node.node_id,
            "groups": counts[node.node_id],
            "groups_percent": share(counts[node.node_id], len(snapshot.groups)),
            "capacity": node.capacity,
            "capacity_percent": share(node.capacity, capacity),
            "cpu_percent": number(node.load, "cpu_percent"),
            "sessions": int(number(node.load, "sessions")),
        }
        for node in sorted(nodes, key=lambda node: node.node_id)
    ]


def status_json(snapshot: Snapshot, balancer: str, state: dict[str, Any]) -> dict[str, Any]:
    """All of it; `balancer` is empty and `state` too where none is registered."""
    return {
        "balancer": balancer or None,
        "policy": state.get("policy"),
        "granted": state.get("granted", 0),
        "groups": len(snapshot.groups),
        "origins": origin_rows(snapshot),
    }


def status_table(rows: Iterable[dict[str, Any]]) -> Table:
    """The rows and their total."""
    rows = list(rows)
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, show_footer=True)
    totals = {
        "origin": "total",
        "groups": str(sum(row["groups"] for row in rows)),
        "share": "",
        "capacity": f"{sum(row['capacity'] for row in rows):g}",
        "of all": "",
        "cpu %": "",
        "sessions": str(sum(row["sessions"] for row in rows)),
    }
    for name, total in totals.items():
        table.add_column(name, total, justify="left" if name == "origin" else "right", overflow="fold")
    for row in rows:
        table.add_row(
            row["node_id"],
            str(row["groups"]),
            f"{row['groups_percent']:.1f} %",
            f"{row['capacity']:g}",
            f"{row['capacity_percent']:.1f} %",
            f"{row['cpu_percent']:.0f}",
            str(row["sessions"]),
        )
    return table
