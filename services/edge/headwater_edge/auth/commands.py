"""`headwater-edge token`: keys and tokens, for trying, for scripts, and to compare one's own with."""

import os
import secrets
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
import jwt
from headwater_bus.options import CommandGroup, OperatorError

from headwater_edge.addresses import NetworkError, parse_network
from headwater_edge.auth.asked import ACTIONS
from headwater_edge.auth.keys import SECRET_ALGORITHMS, TokenKeyError, load_key
from headwater_edge.auth.tokens import sign

_SECRET_BYTES = 48
"""64 characters: enough for each of SECRET_ALGORITHMS."""


@click.group(cls=CommandGroup)
def token() -> None:
    """Keys and tokens for clients."""


@token.command("new-key")
@click.argument("file", type=click.Path(path_type=Path))
def new_key(file: Path) -> None:
    """Make a secret in FILE, for --token-key. What is there already is never overwritten."""
    try:
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise OperatorError(f"{file} is there already; delete it to make another") from error
    except OSError as error:
        raise OperatorError(
            f"{file}: {error.strerror}; give a file in a folder that you may write to"
        ) from error
    with os.fdopen(number, "w") as opened:
        opened.write(secrets.token_urlsafe(_SECRET_BYTES) + "\n")
    click.echo(f"{file}: give it to every edge (--token-key), and to who makes tokens")


@token.command()
@click.option(
    "--token-key",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The secret to sign with.",
)
@click.option("--app", required=True, metavar="APP", help="chat, chat/lobby; '*' is anything: 'chat*'.")
@click.option("--stream", default="", metavar="NAME", help="[default: any]")
@click.option("--action", "actions", multiple=True, type=click.Choice(ACTIONS), help="[default: any]")
@click.option("--address", default="", metavar="ADDRESS", help="Where the client is [default: anywhere].")
@click.option("--user", default="", metavar="NAME", help="Who it is: a JSON Web Token's sub.")
@click.option("--valid-s", type=click.IntRange(1), default=3600, show_default=True)
@click.option("--algorithm", type=click.Choice(tuple(SECRET_ALGORITHMS)), default="HS256", show_default=True)
@click.option(
    "--signature",
    is_flag=True,
    help="Expiry and signature instead of a JSON Web Token: one action or any, and no '*'.",
)
def make(file: Path, valid_s: int, algorithm: str, signature: bool, **bindings: Any) -> None:
    """Make a token: what to write behind the ? of an address or of a stream's name."""
    try:
        secret = load_key(file, [algorithm]).secret
    except TokenKeyError as error:
        raise OperatorError(f"--token-key {error}") from error
    if secret is None:
        raise OperatorError(f"--token-key {file}: a public key signs nothing; give the file of a secret")
    if bindings["address"]:
        try:
            parse_network(bindings["address"])
        except NetworkError as error:
            raise OperatorError(f"--address {error}") from error
    expires = int(time.time()) + valid_s
    click.echo(
        _signed(secret, expires, **bindings)
        if signature
        else _json_web_token(secret, expires, algorithm, **bindings)
    )


def _json_web_token(
    secret: bytes,
    expires: int,
    algorithm: str,
    app: str,
    stream: str,
    actions: tuple[str, ...],
    address: str,
    user: str,
) -> str:
    claims = {
        "exp": expires,
        "app": app,
        "stream": stream,
        "action": list(actions),
        "address": address,
        "sub": user,
    }
    given = {name: value for name, value in claims.items() if value}
    return urlencode({"token": jwt.encode(given, secret, algorithm)})


def _signed(
    secret: bytes, expires: int, app: str, stream: str, actions: tuple[str, ...], address: str, user: str
) -> str:
    if user:
        raise OperatorError("--user: a signature says nothing of who it is; leave --signature away")
    if len(actions) > 1 or "*" in app + stream or "/" in address:
        raise OperatorError(
            "--signature: it is for one action or any, one application, one stream or any, one address or any; "
            "leave it away for more"
        )
    app = app.removesuffix("/_definst_")
    signature = sign(secret, "".join(actions), app, stream, expires, address)
    return urlencode({"expires": expires, "sig": signature})
