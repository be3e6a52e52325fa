"""`headwater-keys`: makes the CURVE keys of a cluster."""

import os
from pathlib import Path

import click
import zmq.auth

from headwater_bus.security import SecurityError, role_of


@click.group()
def main() -> None:
    """Keys for Headwater's ZeroMQ sockets."""


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
def make(folder: Path, nodes: tuple[str, ...]) -> None:
    """Make a key pair for each NODE (registry-1, balancer-1, origin-1, edge-1, operator-1 ...) in FOLDER.

    Copy FOLDER/public to every machine and NODE.key_secret only to the node's own.
    """
    public = folder / "public"
    for node in nodes:
        try:
            role_of(node)
        except SecurityError as error:
            raise click.UsageError(str(error)) from error
        for path in (folder / f"{node}.key_secret", public / f"{node}.key"):
            if path.exists():
                raise click.UsageError(f"{path} is there already; delete it to make another")
    public.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    umask = os.umask(0o077)
    try:
        for node in nodes:
            made, _ = zmq.auth.create_certificates(str(folder), node, {"role": role_of(node)})
            Path(made).replace(public / f"{node}.key")
            (public / f"{node}.key").chmod(0o644)
    finally:
        os.umask(umask)
    click.echo(f"{len(nodes)} keys in {folder}: copy {public} to every machine, each secret to its own")


if __name__ == "__main__":
    main()
