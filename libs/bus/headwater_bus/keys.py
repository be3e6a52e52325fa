"""`headwater-keys`: makes the CURVE keys of a cluster."""

import os
from pathlib import Path

import click
import zmq.auth

from headwater_bus.options import CommandGroup, OperatorError
from headwater_bus.security import SecurityError, role_of


@click.group(cls=CommandGroup)
def main() -> None:
    """Keys for Headwater's ZeroMQ sockets."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
def make(folder: Path, nodes: tuple[str, ...]) -> None:
    """Make a key pair for each NODE (registry-1, balancer-1, origin-1, edge-1, operator-1 ...) in FOLDER.

    Copy FOLDER/public to every machine and NODE.key_secret only to the node's own. What is there already is never
    overwritten.
    """
    _check(folder, nodes)
    try:
        _make(folder, nodes)
    except OSError as error:
        raise OperatorError(
            f"{error.filename or folder}: {error.strerror}; give a folder that you may write to"
        ) from error
    noun = "key" if len(nodes) == 1 else "keys"
    click.echo(
        f"{len(nodes)} {noun} in {folder}: copy {folder / 'public'} to every machine, each secret to its own"
    )


def _check(folder: Path, nodes: tuple[str, ...]) -> None:
    """Everything that can be refused is refused before anything is written."""
    for node in nodes:
        try:
            role_of(node)
        except SecurityError as error:
            raise OperatorError(str(error)) from error
        if nodes.count(node) > 1:
            raise OperatorError(f"{node} was given {nodes.count(node)} times, expected each node once")
        for path in _paths(folder, node):
            if path.exists():
                raise OperatorError(f"{path} is there already; delete it to make another")
    if folder.exists() and not folder.is_dir():
        raise OperatorError(f"{folder} is a file, expected a folder")
    if folder.exists() and folder.stat().st_mode & 0o077:
        raise OperatorError(
            f"{folder}: others may look into it (mode {folder.stat().st_mode & 0o777:o}), expected 700: "
            "chmod 700 it, or give a new folder"
        )


def _paths(folder: Path, node: str) -> tuple[Path, Path]:
    return folder / f"{node}.key_secret", folder / "public" / f"{node}.key"


def _make(folder: Path, nodes: tuple[str, ...]) -> None:
    umask = os.umask(0o077)
    try:
        (folder / "public").mkdir(parents=True, exist_ok=True)
        for node in nodes:
            made, secret = zmq.auth.create_certificates(str(folder), node, {"role": role_of(node)})
            Path(secret).chmod(0o600)
            # Moved in whole: a ZapHandler may be looking.
            Path(made).chmod(0o644)
            Path(made).replace(folder / "public" / f"{node}.key")
    finally:
        os.umask(umask)


if __name__ == "__main__":
    main()
