"""What commands print: plans and history, as tables for people and as JSON for programs."""

import time
from typing import Any

import click
from headwater_bus.control import Ordered
from headwater_bus.options import console
from rich.box import SIMPLE
from rich.table import Table

MAX_SHOWN = 30
"""Moves of a plan that are shown one by one."""


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A plain table; `right` are columns of numbers."""
    made = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def moves_table(planned: Ordered) -> Table:
    """The first moves of a plan."""
    made = table("group", "from", "to", "load", "members", "why", right=("load", "members"))
    for group, source, target, load, members, reason in planned.moves[:MAX_SHOWN]:
        made.add_row(group, source, target, f"{load:.1f}", str(members), reason)
    return made


def spread_table(planned: Ordered) -> Table:
    """What origins have and what they will have; loads in percent of one core."""
    right = ("capacity", "groups", "then", "load", "then ", "fair share")
    made = table("origin", "capacity", "groups", "then", "load", "then ", "fair share", right=right)
    for origin, capacity, groups, load, even, groups_then, load_then in planned.spread:
        share = f"{even:.1f}" if even else "-"
        made.add_row(
            origin, f"{capacity:g}", str(groups), str(groups_then), f"{load:.1f}", f"{load_then:.1f}", share
        )
    return made


def print_plan(planned: Ordered, otherwise: str = "") -> None:
    """A plan for people: moves (or, where there are none, what to say then), what they do to the origins, and what cannot be
    done."""
    out = console()
    if planned.moves:
        out.print(moves_table(planned))
        if len(planned.moves) > MAX_SHOWN:
            click.echo(f"and {len(planned.moves) - MAX_SHOWN} more")
        click.echo()
        if planned.spread:
            out.print(spread_table(planned))
            click.echo()
    elif otherwise:
        click.echo(otherwise)
    for note in planned.notes:
        click.echo(f"note: {note}")


def ordered_json(
    order: str, values: list[str], answer: Ordered, rows: list[list[Any]], dry_run: bool
) -> dict[str, Any]:
    """An order and what came of it; `state` of a move is `planned` where nobody followed it."""
    states = {row[0]: row[3:5] for row in rows}
    return {
        "order": order,
        "values": values,
        "dry_run": dry_run,
        "moves": [
            {
                "group": group,
                "from": source,
                "to": target,
                "load": load,
                "members": members,
                "reason": reason,
                "state": states.get(group, ["planned", ""])[0],
                "text": states.get(group, ["planned", ""])[1],
            }
            for group, source, target, load, members, reason in answer.moves
        ],
        "origins": [
            {
                "node_id": origin,
                "capacity": capacity,
                "groups": groups,
                "load": load,
                "fair_share": even,
                "groups_then": groups_then,
                "load_then": load_then,
            }
            for origin, capacity, groups, load, even, groups_then, load_then in answer.spread
        ],
        "notes": answer.notes,
    }


def history_json(row: list[Any]) -> dict[str, Any]:
    """An event; `at` in seconds since 1970."""
    names = ("at", "event", "subject", "from", "to", "epoch", "reason")
    return dict(zip(names, row, strict=False))


def history_table(rows: list[list[Any]], now: float) -> Table:
    """Events, oldest first; the date only where it is not today's."""
    made = table("time", "event", "subject", "from", "to", "epoch", "why", right=("epoch",))
    today = time.localtime(now)[:3]
    for at, event, subject, source, target, epoch, reason in rows:
        when = time.localtime(at)
        shown = time.strftime("%H:%M:%S" if when[:3] == today else "%m-%d %H:%M:%S", when)
        made.add_row(shown, event, subject, source or "-", target or "-", str(epoch or "-"), reason or "-")
    return made
