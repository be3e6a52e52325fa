"""`headwater-balancer`: the command line of the balancer."""

# ruff: noqa: E402, I001
from headwater_bus.interrupts import end_quietly

end_quietly()

from gevent import monkey

monkey.patch_all()

import json
from typing import Any

import click

from headwater_bus.control import HealthRequest, Subscribe
from headwater_bus.options import (
    ClusterClient,
    CommandGroup,
    client_options,
    console,
    node_config,
    node_options,
    operator_errors,
)

from headwater_balancer.config import BalancerConfig
from headwater_balancer.policy import Pin, PolicyError, PolicyOptions, make_policy
from headwater_balancer.service import run
from headwater_balancer.status import balancer_of, origin_rows, status_json, status_table


@click.group(cls=CommandGroup)
@click.version_option(package_name="headwater-balancer")
def main() -> None:
    """The Headwater balancer: decides which origin gets a group."""


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
def serve(policy_name: str | None, pins: tuple[str, ...], **options: Any) -> None:
    """Assign groups until SIGTERM or SIGINT."""
    name = policy_name or ("pinned" if pins else "least-loaded")
    with operator_errors(PolicyError):
        policy = make_policy(name, PolicyOptions(tuple(Pin.parse(text) for text in pins)))
        status = run(node_config("balancer", options), BalancerConfig(name, policy))
    raise SystemExit(status)


@main.command()
@client_options
def status(**options: Any) -> None:
    """Show what each origin has, and the policy."""
    client = ClusterClient(options)
    snapshot = client.ask(Subscribe("operator"))
    balancer = balancer_of(snapshot)
    state: dict[str, Any] = {}
    if balancer is not None:
        state = client.ask(HealthRequest(), str(balancer.meta.get("control", "")), balancer.node_id).state
    if options["as_json"]:
        click.echo(
            json.dumps(status_json(snapshot, balancer.node_id if balancer else "", state), default=str)
        )
        return
    rows = origin_rows(snapshot)
    if rows:
        console().print(status_table(rows))
    else:
        click.echo("no origin is registered: start one (headwater-origin serve)")
    if balancer is None:
        click.echo(
            "no balancer is registered: groups that nobody has get no origin; start one (headwater-balancer serve)"
        )
    else:
        click.echo(
            f"{balancer.node_id}: policy {state.get('policy')}, {state.get('granted')} granted since its start, "
            f"slowest {state.get('slowest_assign_ms')} ms"
        )


if __name__ == "__main__":
    main()
