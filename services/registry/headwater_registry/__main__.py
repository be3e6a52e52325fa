"""`headwater-registry`: the command line of the registry."""

# ruff: noqa: E402, I001
from headwater_bus.interrupts import end_quietly

end_quietly()

from gevent import monkey

monkey.patch_all()

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import click
import gevent
from gevent.queue import Empty, Queue

from headwater_bus.control import Subscribe
from headwater_bus.options import (
    ClusterClient,
    CommandGroup,
    OperatorError,
    client_options,
    console,
    node_config,
    node_options,
    operator_errors,
    own_registry,
)
from headwater_bus.ports import registry_port
from headwater_bus.view import Assignment, NodeInfo
from headwater_store import StoreError, sqlite_url

from headwater_registry import show
from headwater_registry.config import RegistryConfig
from headwater_registry.follow import Follower
from headwater_registry.process import run
from headwater_registry.ready import missing, parse_wanted, ready_lines
from headwater_registry.service import ServeError

_READER_S = 0.5
"""So often `watch` looks whether somebody still reads what it prints."""
_LOOK_S = 1.0
"""So often `wait` makes sure that the registry it waits with is still there."""


@click.group(cls=CommandGroup)
@click.version_option(package_name="headwater-registry")
def main() -> None:
    """The Headwater registry: who is here, and which origin has which group."""


@main.command()
@node_options
@click.option(
    "--lease-ms",
    type=click.IntRange(100, 600_000),
    default=3000,
    show_default=True,
    help="A node that has not renewed for so long is gone; more than two heartbeats.",
)
@click.option(
    "--store",
    envvar="HEADWATER_STORE",
    show_envvar=True,
    metavar="URL",
    help="Where the table is kept: sqlite:FOLDER[?durability=power], redis://HOST[:PORT] or redis+sentinel://... "
    "[default: sqlite: and --data; so with none, which is the origins' too].",
)
def serve(lease_ms: int, store: str | None, **options: Any) -> None:
    """Serve nodes until SIGTERM or SIGINT."""
    if lease_ms <= 2 * options["heartbeat_ms"]:
        raise OperatorError(
            f"--lease-ms {lease_ms}: expected more than two heartbeats ({2 * options['heartbeat_ms']} ms), "
            "or a node would be lost with one message"
        )
    node = node_config("registry", options)
    position = own_registry(node.node_id, options)
    config = RegistryConfig(
        endpoint=options["registries"][position]
        if options["registries"]
        else f"tcp://{node.bind}:{registry_port(node.base_port, position + 1)}",
        store=sqlite_url(node.data) if store in (None, "", "none") else store,
        lease_ms=lease_ms,
        position=position,
    )
    with operator_errors(StoreError, ServeError):
        status = run(node, config)
    raise SystemExit(status)


def _rows(options: dict[str, Any]) -> tuple[list[NodeInfo], list[Assignment]]:
    """The registry's table, sorted by name."""
    snapshot = ClusterClient(options).ask(Subscribe("operator"))
    nodes = sorted((NodeInfo(*row[:7]) for row in snapshot.nodes), key=lambda node: node.node_id)
    groups = sorted((Assignment(*row[:3]) for row in snapshot.groups), key=lambda group: group.group)
    return nodes, groups


def _ctrl_c_ends() -> None:
    """Have Ctrl-C raise KeyboardInterrupt in this greenlet, which expects it, not in the one that runs: gevent reports that."""
    here = gevent.getcurrent()

    def end() -> None:
        gevent.kill(here, KeyboardInterrupt)

    gevent.signal_handler(signal.SIGINT, end)


def _echo_json(value: Any) -> None:
    click.echo(json.dumps(value, default=str))


def _print_all(printing: "Queue[Callable[[], None]]") -> None:
    """Do what is to be printed as it comes, until nobody reads standard output any more."""
    try:
        while not _reader_gone():
            with suppress(Empty):
                printing.get(timeout=_READER_S)()
                sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer has nowhere to go, and Python would say so at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reader_gone() -> bool:
    """Whether standard output is a pipe whose other end was closed (`watch | head -3`)."""
    poll = monkey.get_original("select", "poll")()
    poll.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@main.command()
@client_options
def nodes(**options: Any) -> None:
    """List the nodes, with what they last reported."""
    found, _ = _rows(options)
    if options["as_json"]:
        _echo_json([show.node_json(node) for node in found])
    else:
        console().print(show.nodes_table(found, time.time()))


@main.command()
@client_options
def groups(**options: Any) -> None:
    """List which origin has which group, since which epoch."""
    _, found = _rows(options)
    if options["as_json"]:
        _echo_json([show.group_json(group) for group in found])
    elif found:
        console().print(show.groups_table(found))
    else:
        click.echo("no group is assigned")


@main.command()
@client_options
@click.option("--load", "with_load", is_flag=True, help="Show what nodes report every second, too.")
def watch(with_load: bool, **options: Any) -> None:
    """Print the table, then every change, one a line, until Ctrl-C.

    It ends as well when nobody reads what it prints any more (watch | head -3).
    """
    follower = Follower(ClusterClient(options))
    # Printed by this greenlet alone: whoever reads may be slow, or gone.
    printing: Queue[Callable[[], None]] = Queue()

    def changed(change: list[Any]) -> None:
        if change[0] == "load" and not with_load:
            return
        if options["as_json"]:
            row = show.change_json(change)
            printing.put(partial(_echo_json, row))
        else:
            line = f"{time.strftime('%H:%M:%S')} {show.change_line(change)}"
            printing.put(partial(click.echo, line))

    def follow() -> None:
        away = False
        for failure in follower.follow():
            if failure and not away:
                printing.put(partial(click.echo, f"{failure}; trying on", err=True))
            away = bool(failure)

    follower.view.on_change(changed)
    following = gevent.spawn(follow)
    following.link_exception(lambda failed: printing.put(failed.get))
    _ctrl_c_ends()
    try:
        _print_all(printing)
    except KeyboardInterrupt:
        pass
    finally:
        following.kill()


@main.command()
@client_options
@click.argument("wanted", metavar="ROLE=NUMBER,...")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0), default=60, show_default=True, help="Seconds."
)
def wait(wanted: str, timeout_s: float, **options: Any) -> None:
    """Wait until so many nodes of each role (or more) are registered, then say what to try.

    For example registry=1,balancer=1,origin=2,edge=2. Exit status 2 when they are not there in time.
    """
    with operator_errors(ValueError):
        counts = parse_wanted(wanted)
    client = ClusterClient(options)
    follower = Follower(client)
    deadline = time.monotonic() + timeout_s
    view, failure, lacking = follower.view, "", "everything"
    _ctrl_c_ends()
    try:
        for failure in follower.follow(again_s=0):
            if not failure:
                left_s = deadline - time.monotonic()
                view.wait_for(lambda: not missing(counts, view.nodes.values()), min(_LOOK_S, left_s))
                lacking = missing(counts, view.nodes.values())
                if not lacking:
                    break
            if time.monotonic() >= deadline:
                because = f" ({failure})" if failure else ""
                raise OperatorError(
                    f"not ready after {timeout_s:g} s: missing {lacking}{because}; see the services' logs"
                )
    except KeyboardInterrupt:
        return
    found = sorted(view.nodes.values(), key=lambda node: node.node_id)
    if options["as_json"]:
        _echo_json([show.node_json(node) for node in found])
        return
    for line in ready_lines(found, options["base_port"]):
        click.echo(line)


if __name__ == "__main__":
    main()
