"""`headwater-balancer`: the command line of the balancer."""

# ruff: noqa: E402, I001
from headwater_bus.interrupts import end_quietly

end_quietly()

from gevent import monkey

monkey.patch_all()

import json
import sys
import time
from contextlib import suppress
from typing import Any

import click
from rich.live import Live
from rich.text import Text

from headwater_bus.control import BalanceRequest, HealthRequest, HistoryRequest
from headwater_bus.options import (
    CommandGroup,
    OperatorError,
    client_options,
    console,
    node_config,
    node_options,
    operator_errors,
)

from headwater_balancer import tables
from headwater_balancer.config import BalancerConfig
from headwater_balancer.ordering import Operator
from headwater_balancer.pace import PATIENCE_S
from headwater_balancer.plan import COOLDOWN_S
from headwater_balancer.policy import Pin, PolicyError, PolicyOptions, make_policy
from headwater_balancer.service import run
from headwater_balancer.status import status_json, status_lines, status_table, status_view

_WATCH_S = 1.0


@click.group(cls=CommandGroup)
@click.version_option(package_name="headwater-balancer")
def main() -> None:
    """The Headwater balancer: decides which origin gets a group, and when a group moves."""


@main.command()
@node_options
@click.option(
    "--policy",
    "policy_name",
    metavar="NAME",
    help="least-loaded, round-robin, rendezvous, pinned, or an installed one [default: least-loaded; pinned with --pin].",
)
@click.option(
    "--pin",
    "pins",
    multiple=True,
    metavar="GLOB=ORIGIN",
    help="Groups that match go to this origin; may be given more than once, the first match decides.",
)
@click.option(
    "--patience-s",
    type=click.FloatRange(0, 3600),
    default=PATIENCE_S,
    show_default=True,
    help="Loads must be uneven for so long before anything moves for it.",
)
@click.option(
    "--cooldown-s",
    type=click.FloatRange(0, 86_400),
    default=COOLDOWN_S,
    show_default=True,
    help="So long a group that was moved is not moved to even loads out.",
)
def serve(
    policy_name: str | None, pins: tuple[str, ...], patience_s: float, cooldown_s: float, **options: Any
) -> None:
    """Assign groups, and move them, until SIGTERM or SIGINT."""
    name = policy_name or ("pinned" if pins else "least-loaded")
    with operator_errors(PolicyError):
        rules = tuple(Pin.parse(text) for text in pins)
        policy = make_policy(name, PolicyOptions(rules))
        config = BalancerConfig(name, policy, pins=rules, patience_s=patience_s, cooldown_s=cooldown_s)
        status = run(node_config("balancer", options), config)
    raise SystemExit(status)


def _status(operator: Operator) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `status` shows, and the leading balancer's health answer; empty where it gives none."""
    snapshot = operator.snapshot()
    leader = operator.leader(snapshot)
    state: dict[str, Any] = {}
    health: dict[str, Any] = {}
    if leader is not None:
        with suppress(OperatorError):
            health = operator.client.ask(
                HealthRequest(), str(leader.meta.get("control", "")), leader.node_id
            ).state
            state = operator.client.ask(BalanceRequest(), leader.endpoint, leader.node_id).state
    return status_json(snapshot, leader.node_id if leader is not None else "", state, health), health


def _show_status(operator: Operator) -> None:
    shown, health = _status(operator)
    if operator.as_json:
        click.echo(json.dumps(shown, default=str))
        return
    if shown["origins"]:
        console().print(status_table(shown["origins"]))
    else:
        click.echo("no origin is registered: start one (headwater-origin serve)")
    for line in status_lines(shown, health):
        click.echo(line)


@main.command()
@client_options
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
def status(watch: bool, **options: Any) -> None:
    """Show what each origin has, the rules, and what moves.

    Loads and fair shares are in percent of one core: what the groups' members, messages and bytes cost.
    """
    operator = Operator(options)
    if not watch:
        _show_status(operator)
        return
    with suppress(KeyboardInterrupt, BrokenPipeError):
        if operator.as_json or not sys.stdout.isatty():
            while True:
                _show_status(operator)
                sys.stdout.flush()
                time.sleep(_WATCH_S)
        with Live(status_view(*_status(operator)), console=console(), auto_refresh=False) as live:
            while True:
                time.sleep(_WATCH_S)
                try:
                    live.update(status_view(*_status(operator)), refresh=True)
                except OperatorError as error:
                    live.update(Text(error.format_message()), refresh=True)


@main.command()
@client_options
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    default=30,
    show_default=True,
    help="So many events, the last ones.",
)
def history(count: int, **options: Any) -> None:
    """Show what happened to nodes, groups and rules, and why, oldest first."""
    operator = Operator(options)
    rows = operator.client.ask(HistoryRequest(count)).rows
    if operator.as_json:
        click.echo(json.dumps([tables.history_json(row) for row in rows]))
    elif rows:
        console().print(tables.history_table(rows, time.time()))
    else:
        click.echo("nothing has happened yet")


_dry_run = click.option("--dry-run", is_flag=True, help="Only show what would happen.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@main.command()
@client_options
@_dry_run
@_yes
def rebalance(dry_run: bool, yes: bool, **options: Any) -> None:
    """Even loads out now, bring pinned groups home, part groups that should be apart.

    It shows what would move and then asks, if on a terminal. The same happens by itself, unless balancing is paused, when an
    origin has 15 % more than its fair share for 5 s.
    """
    raise SystemExit(Operator(options).order("rebalance", dry_run=dry_run, yes=yes))


@main.command()
@client_options
@_dry_run
@_yes
@click.argument("group")
@click.argument("origin")
def move(group: str, origin: str, dry_run: bool, yes: bool, **options: Any) -> None:
    """Move one group to an origin."""
    raise SystemExit(Operator(options).order("move", (group, origin), dry_run=dry_run, yes=yes))


@main.command()
@client_options
@_dry_run
@_yes
@click.argument("glob")
@click.argument("origin")
def pin(glob: str, origin: str, dry_run: bool, yes: bool, **options: Any) -> None:
    """Have groups whose name matches GLOB on one origin, those that are there and those to come.

    The first pin that matches decides. While the origin is not here they are elsewhere.
    """
    done = f"pinned: {glob} to {origin}"
    raise SystemExit(Operator(options).order("pin", (glob, origin), dry_run=dry_run, yes=yes, done=done))


@main.command()
@client_options
@_dry_run
@click.argument("glob")
def unpin(glob: str, dry_run: bool, **options: Any) -> None:
    """Take a pin away; the groups stay where they are."""
    raise SystemExit(
        Operator(options).order("unpin", (glob,), dry_run=dry_run, done=f"not pinned any more: {glob}")
    )


@main.command()
@client_options
@_dry_run
@click.argument("glob")
def stick(glob: str, dry_run: bool, **options: Any) -> None:
    """Have groups whose name matches GLOB stay where they are, however loads are.

    Drains, pins and `move` move them all the same.
    """
    raise SystemExit(Operator(options).order("stick", (glob,), dry_run=dry_run, done=f"sticky: {glob}"))


@main.command()
@client_options
@_dry_run
@click.argument("glob")
def unstick(glob: str, dry_run: bool, **options: Any) -> None:
    """Take that back."""
    raise SystemExit(
        Operator(options).order("unstick", (glob,), dry_run=dry_run, done=f"not sticky any more: {glob}")
    )


@main.command()
@client_options
@_dry_run
@_yes
@click.argument("glob")
@click.argument("other")
def apart(glob: str, other: str, dry_run: bool, yes: bool, **options: Any) -> None:
    """Never have a group that matches GLOB and another that matches OTHER on one origin.

    The same glob twice keeps all its groups apart from each other.
    """
    done = f"apart: {glob} and {other}"
    raise SystemExit(Operator(options).order("apart", (glob, other), dry_run=dry_run, yes=yes, done=done))


@main.command()
@client_options
@_dry_run
@click.argument("glob")
@click.argument("other")
def unapart(glob: str, other: str, dry_run: bool, **options: Any) -> None:
    """Take that back."""
    done = f"not kept apart any more: {glob} and {other}"
    raise SystemExit(Operator(options).order("unapart", (glob, other), dry_run=dry_run, done=done))


@main.command()
@client_options
@_dry_run
@_yes
@click.option("--wait", is_flag=True, help="Until it is empty; exit status 1 when that fails.")
@click.argument("origin")
def drain(origin: str, dry_run: bool, yes: bool, wait: bool, **options: Any) -> None:
    """Move all groups of an origin elsewhere, and give it nothing until `undrain`.

    It goes on by itself, also while balancing is paused and when the balancer is started again.
    """
    operator = Operator(options)
    done = (
        f"{origin} is drained"
        if wait
        else f"{origin} is being drained: headwater-balancer status shows how far"
    )
    quiet = operator.as_json and wait and not dry_run
    state = operator.order(
        "drain",
        (origin,),
        dry_run=dry_run,
        yes=yes,
        follow=False,
        done=done,
        already_is_fine=wait,
        say=not quiet,
    )
    if wait and not dry_run and not state:
        state = operator.wait_drained(origin)
    raise SystemExit(state)


@main.command()
@client_options
@_dry_run
@click.argument("origin")
def undrain(origin: str, dry_run: bool, **options: Any) -> None:
    """Have a drained origin take groups again."""
    done = f"{origin} takes groups again"
    raise SystemExit(Operator(options).order("undrain", (origin,), dry_run=dry_run, done=done))


@main.command()
@client_options
@_dry_run
@click.argument("name")
def policy(name: str, dry_run: bool, **options: Any) -> None:
    """Choose how groups that nobody has get their origin: least-loaded, round-robin, rendezvous, pinned, or an installed one.

    It moves nothing, and stays until another one is chosen.
    """
    raise SystemExit(Operator(options).order("policy", (name,), dry_run=dry_run, done=f"policy {name}"))


@main.command()
@client_options
@_dry_run
def pause(dry_run: bool, **options: Any) -> None:
    """Have nothing moved by itself: balancing is manual until `resume`.

    Groups that have lost their origin get another one all the same, and drained origins are emptied.
    """
    raise SystemExit(Operator(options).order("pause", dry_run=dry_run, done="balancing is paused"))


@main.command()
@client_options
@_dry_run
def resume(dry_run: bool, **options: Any) -> None:
    """Balance by itself again."""
    raise SystemExit(Operator(options).order("resume", dry_run=dry_run, done="balancing goes on"))


if __name__ == "__main__":
    main()
