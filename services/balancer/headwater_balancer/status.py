"""`headwater-balancer status`: what each origin has, for people and for programs."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from headwater_bus.control import Snapshot
from headwater_bus.view import NodeInfo
from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from headwater_balancer.holdings import number
from headwater_balancer.rules import Rules

_SHOWN = 5
"""Moves under way, and notes, that are shown one by one."""


def share(part: float, whole: float) -> float:
    """In percent; 0 of nothing is 0."""
    return round(100 * part / whole, 1) if whole else 0.0


def origin_rows(snapshot: Snapshot, state: dict[str, Any]) -> list[dict[str, Any]]:
    """One row an origin: its groups and capacity, both also in percent of all, its CPU and sessions, and, where the leading
    balancer says so in `state`, its load and fair share. A drained origin that is not here is not listed."""
    nodes = [NodeInfo(*row[:7]) for row in snapshot.nodes if row[1] == "origin"]
    counts = Counter(row[1] for row in snapshot.groups)
    capacity = sum(node.capacity for node in nodes)
    drained = Rules.from_settings(snapshot.settings).drained
    loads = state.get("origins", {})
    return [
        {
            "node_id": node.node_id,
            "groups": counts[node.node_id],
            "groups_percent": share(counts[node.node_id], len(snapshot.groups)),
            "capacity": node.capacity,
            "capacity_percent": share(node.capacity, capacity),
            "cpu_percent": number(node.load, "cpu_percent"),
            "sessions": int(number(node.load, "sessions")),
            "drained": node.node_id in drained,
            "load": None,
            "fair_share": None,
            **loads.get(node.node_id, {}),
        }
        for node in sorted(nodes, key=lambda node: node.node_id)
    ]


def status_json(
    snapshot: Snapshot, balancer: str, state: dict[str, Any], health: dict[str, Any]
) -> dict[str, Any]:
    """All of it; `balancer` is empty, and `state` and `health` too, where none answers. Rules are the registry's."""
    settings = Rules.from_settings(snapshot.settings).to_settings()
    return {
        "balancer": balancer or None,
        "standby": sorted(row[0] for row in snapshot.nodes if row[1] == "balancer" and row[0] != balancer),
        "policy": state.get("policy"),
        "granted": health.get("granted", 0),
        "groups": len(snapshot.groups),
        "orphans": sum(not row[1] for row in snapshot.groups),
        "paused": settings["paused"],
        "rules": settings,
        "origins": origin_rows(snapshot, state),
        "moving": [dict(zip(("group", "from", "to"), row, strict=False)) for row in state.get("moving", [])],
        "waiting": state.get("waiting", 0),
        "evening_out": state.get("evening_out", False),
        "notes": state.get("notes", []),
    }


def status_table(rows: Iterable[dict[str, Any]]) -> Table:
    """The rows and their total."""
    rows = list(rows)
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, show_footer=True)
    known = [row["load"] for row in rows if row["load"] is not None]
    totals = {
        "origin": "total",
        "groups": str(sum(row["groups"] for row in rows)),
        "share": "",
        "cap.": f"{sum(row['capacity'] for row in rows):g}",
        "of all": "",
        "load": f"{sum(known):.1f}" if known else "",
        "fair": "",
        "cpu %": "",
        "sessions": str(sum(row["sessions"] for row in rows)),
        "": "",
    }
    for name, total in totals.items():
        table.add_column(name, total, justify="left" if name in ("origin", "") else "right", overflow="fold")
    for row in rows:
        table.add_row(
            row["node_id"],
            str(row["groups"]),
            f"{row['groups_percent']:.1f} %",
            f"{row['capacity']:g}",
            f"{row['capacity_percent']:.1f} %",
            f"{row['load']:.1f}" if row["load"] is not None else "-",
            f"{row['fair_share']:.1f}" if row["fair_share"] else "-",
            f"{row['cpu_percent']:.0f}",
            str(row["sessions"]),
            "drained" if row["drained"] else "",
        )
    return table


def status_lines(status: dict[str, Any], health: dict[str, Any]) -> list[str]:
    """What stands below the table."""
    lines: list[str] = []
    if status["balancer"] is None:
        lines.append(
            "no balancer is registered: groups that nobody has get no origin; start one (headwater-balancer serve)"
        )
    elif not health:
        lines.append(f"{status['balancer']} leads, but gives no answer")
    else:
        standby = f" ({', '.join(status['standby'])} stand by)" if status["standby"] else ""
        lines.append(
            f"{status['balancer']}{standby}: policy {status['policy']}, {status['granted']} granted since its start, "
            f"slowest {health.get('slowest_assign_ms')} ms"
        )
    rules = status["rules"]
    if status["paused"]:
        lines.append("balancing is paused: only drained origins are emptied (headwater-balancer resume)")
    lines += [f"pinned: {glob} to {origin}" for glob, origin in rules["pins"]]
    lines += [f"sticky: {glob}" for glob in rules["sticky"]]
    lines += [f"apart: {one} and {other}" for one, other in rules["apart"]]
    gone = set(rules["drained"]) - {row["node_id"] for row in status["origins"]}
    lines += [f"drained, and not here: {origin}" for origin in sorted(gone)]
    if status["orphans"]:
        lines.append(f"orphans: {status['orphans']} groups have lost their origin and wait for another")
    lines += [
        f"moving: {row['group']} from {row['from']} to {row['to']}" for row in status["moving"][:_SHOWN]
    ]
    more = max(0, len(status["moving"]) - _SHOWN) + status["waiting"]
    if more:
        lines.append(f"moving: {more} more")
    lines += [f"note: {note}" for note in status["notes"][:_SHOWN]]
    return lines


def status_view(status: dict[str, Any], health: dict[str, Any]) -> Group | Text:
    """For a live display: the table and the lines below it."""
    lines = Text("\n".join(status_lines(status, health)))
    if not status["origins"]:
        return Text("no origin is registered: start one (headwater-origin serve)\n").append_text(lines)
    return Group(status_table(status["origins"]), lines)
