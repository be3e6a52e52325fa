"""`headwater-edge`: the command line of the edge."""

# ruff: noqa: E402, I001
from headwater_bus.interrupts import end_quietly

end_quietly()

from gevent import monkey

monkey.patch_all()

from typing import Any

import click

from headwater_bus.options import CommandGroup, client_options, node_config, node_options, operator_errors
from headwater_store import StoreError, open_leases, sqlite_url

from headwater_edge.auth.commands import token
from headwater_edge.auth.options import auth_options, authentication_of
from headwater_edge.config import EdgeConfig
from headwater_edge.doors.options import door_options, doors_of
from headwater_edge.draining_command import drain_edge
from headwater_edge.listener import ListenError
from headwater_edge.service import run


@click.group(cls=CommandGroup)
@click.version_option(package_name="headwater-edge")
def main() -> None:
    """The Headwater edge: keeps client connections and hands their messages to origins."""


@main.command()
@node_options
@door_options
@click.option(
    "--flush-ms",
    type=click.IntRange(0, 1000),
    default=20,
    show_default=True,
    help="How long media of publishers gathers before it is read and sent on; 0 sends it as it comes.",
)
@click.option(
    "--object-flush-ms",
    type=click.IntRange(0, 1000),
    default=20,
    show_default=True,
    help="How long changes of a SharedObject gather that come quickly one after the other; 0 sends them as they come.",
)
@click.option(
    "--chunk-size",
    type=click.IntRange(128, 65536),
    default=60_000,
    show_default=True,
    help="Chunk size of what is sent to clients, in bytes.",
)
@click.option(
    "--resume-s",
    type=click.IntRange(1, 3600),
    default=30,
    show_default=True,
    help="How long clients whose origin is lost wait for the next one, in seconds.",
)
@click.option(
    "--ring-ms",
    type=click.IntRange(0, 60_000),
    default=4_000,
    show_default=True,
    help="How much of each published stream is kept for the case that its origin is lost.",
)
@click.option(
    "--ring-bytes",
    type=click.IntRange(0, 1 << 30),
    default=8 * 1024 * 1024,
    show_default=True,
    help="The same, at most so many bytes of each.",
)
@click.option("--max-connections", type=click.IntRange(1), default=15_000, show_default=True)
@click.option(
    "--max-per-address",
    type=click.IntRange(1),
    default=1_000,
    show_default=True,
    help="Connections from one address; loopback is exempt.",
)
@auth_options
@click.option(
    "--store",
    envvar="HEADWATER_STORE",
    show_envvar=True,
    metavar="URL",
    help="Where RTMPT sessions are kept, the same for all edges: sqlite:FOLDER, redis://HOST[:PORT], "
    "redis+sentinel://..., or none: they end with this process [default: sqlite: and --data].",
)
def serve(
    flush_ms: int,
    object_flush_ms: int,
    chunk_size: int,
    resume_s: int,
    ring_ms: int,
    ring_bytes: int,
    max_connections: int,
    max_per_address: int,
    store: str | None,
    **options: Any,
) -> None:
    """Serve RTMP and RTMPT clients until SIGTERM or SIGINT."""
    authentication = authentication_of(options)
    node = node_config("edge", options)
    with operator_errors(ValueError, ListenError, StoreError):
        authenticated = authentication is not None and authentication.authenticates
        doors = doors_of(options, node.base_port, node.node_id, authenticated)
        config = EdgeConfig(
            flush_ms=flush_ms,
            object_flush_ms=object_flush_ms,
            chunk_size=chunk_size,
            resume_s=float(resume_s),
            ring_s=ring_ms / 1000,
            ring_bytes=ring_bytes,
            max_connections=max_connections,
            max_per_address=max_per_address,
        )
        url = "memory:" if store == "none" else store or sqlite_url(node.data)
        leases = open_leases(url, "rtmpt") if doors.rtmpt else None
        status = run(node, config, doors, leases, authentication)
    raise SystemExit(status)


@main.command()
@client_options
@click.argument("node")
@click.option(
    "--deadline-s",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="After so long the clients that are left are closed.",
)
@click.option("--no-wait", is_flag=True, help="Do not wait until nobody is left.")
@click.option("--stop", is_flag=True, help="End the edge then.")
def drain(node: str, deadline_s: float, no_wait: bool, stop: bool, **options: Any) -> None:
    """Let go of all clients of an edge, and take no more.

    RTMPT sessions go on at other edges at once, and their clients do not notice. Clients that understand Enhanced RTMP's
    ReconnectRequest are asked to connect elsewhere. The rest has until the deadline.
    """
    drain_edge(options, node, deadline_s, wait=not no_wait, stop=stop)


main.add_command(token)

if __name__ == "__main__":
    main()
