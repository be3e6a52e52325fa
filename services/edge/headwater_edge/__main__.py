"""`headwater-edge`: the command line of the edge."""

# ruff: noqa: E402, I001
from headwater_bus.interrupts import end_quietly

end_quietly()

from gevent import monkey

monkey.patch_all()

import click

from headwater_bus.options import CommandGroup, node_config, node_options, operator_errors
from headwater_bus.ports import edge_rtmp_port, shared_rtmp_port

from headwater_edge.config import EdgeConfig
from headwater_edge.listener import ListenError, is_loopback, resolve
from headwater_edge.service import run


@click.group(cls=CommandGroup)
@click.version_option(package_name="headwater-edge")
def main() -> None:
    """The Headwater edge: keeps client connections and hands their messages to origins."""


@main.command()
@node_options
@click.option(
    "--listen",
    "hosts",
    multiple=True,
    default=("127.0.0.1",),
    show_default=True,
    metavar="HOST",
    help="IP address or name to listen on for RTMP; may be given more than once.",
)
@click.option(
    "--rtmp-port",
    type=click.IntRange(1, 65_535),
    help="RTMP port that all edges of this machine share [default: the base port].",
)
@click.option(
    "--own-port",
    type=click.IntRange(0, 65_535),
    help="RTMP port of this edge alone, 0 for any [default: base port + 10 + its number].",
)
@click.option(
    "--flush-ms",
    type=click.IntRange(0, 1000),
    default=20,
    show_default=True,
    help="How long media gathers before it is sent; 0 sends it as it comes.",
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
@click.option(
    "--open", "open_to_all", is_flag=True, help="Serve anyone who reaches a listener that is not on loopback."
)
def serve(
    hosts: tuple[str, ...],
    rtmp_port: int | None,
    own_port: int | None,
    flush_ms: int,
    chunk_size: int,
    resume_s: int,
    ring_ms: int,
    ring_bytes: int,
    max_connections: int,
    max_per_address: int,
    open_to_all: bool,
    **options: object,
) -> None:
    """Serve RTMP clients until SIGTERM or SIGINT."""
    node = node_config("edge", options)
    shared = rtmp_port if rtmp_port is not None else shared_rtmp_port(node.base_port)
    with operator_errors(ValueError):
        own = own_port if own_port is not None else edge_rtmp_port(node.base_port, node.node_id)
    with operator_errors(ListenError):
        addresses = [resolve(host) for host in hosts]
        for host, address in zip(hosts, addresses, strict=True):
            if not (open_to_all or is_loopback(address)):
                raise ListenError(
                    f"--listen {host}: others than this machine would reach it and no authentication is configured; "
                    "listen on 127.0.0.1, or give --open to serve anyone"
                )
        config = EdgeConfig(
            listen=tuple((address, shared) for address in addresses),
            listen_alone=tuple((address, own) for address in addresses),
            flush_ms=flush_ms,
            chunk_size=chunk_size,
            resume_s=float(resume_s),
            ring_s=ring_ms / 1000,
            ring_bytes=ring_bytes,
            max_connections=max_connections,
            max_per_address=max_per_address,
        )
        status = run(node, config)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
