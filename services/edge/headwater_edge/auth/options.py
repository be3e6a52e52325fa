"""The command line's options about who may connect, publish and play."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from headwater_bus.options import OperatorError, option_stack

from headwater_edge.addresses import NetworkError
from headwater_edge.auth.asked import ACTIONS
from headwater_edge.auth.authentication import Authentication
from headwater_edge.auth.callbacks import Callbacks
from headwater_edge.auth.http_calls import HttpCalls, Target, UrlError, parse_target, tls_context
from headwater_edge.auth.keys import ALGORITHMS, KeyFiles, TokenKeyError
from headwater_edge.auth.networks import Networks, Rule
from headwater_edge.auth.redacting import redacted
from headwater_edge.auth.tokens import Tokens

Command = Callable[..., Any]
_TIMEOUT_MS = 2000


def _callback_option(action: str) -> Command:
    return click.option(
        f"--on-{action}",
        envvar=f"HEADWATER_ON_{action.upper()}",
        show_envvar=True,
        metavar="URL",
        help=f"HTTP server that is asked about each {action}, with nginx-rtmp's fields; a status of 2xx allows it.",
    )


auth_options = option_stack(
    click.option(
        "--allow",
        "allowed",
        multiple=True,
        metavar="[ACTION=]NETWORK",
        help="From where clients may connect, publish or play (publish=10.0.0.0/8), or all; may be given more than once. "
        "The smallest network that fits decides, whatever the order. What is allowed somewhere is denied elsewhere.",
    ),
    click.option(
        "--deny",
        "denied",
        multiple=True,
        metavar="[ACTION=]NETWORK",
        help="From where they may not (play=all); may be given more than once.",
    ),
    click.option(
        "--token-key",
        "token_keys",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Key that tokens are signed with: a secret, or a public key in PEM; any one of several will do. "
        "Clients need a token then.",
    ),
    click.option(
        "--token-algorithm",
        "token_algorithms",
        multiple=True,
        type=click.Choice(ALGORITHMS),
        help="How JSON Web Tokens may be signed; may be given more than once [default: by the kind of key, HS256 for secrets].",
    ),
    click.option(
        "--token-for",
        "token_actions",
        multiple=True,
        type=click.Choice(ACTIONS),
        help="What needs a token; may be given more than once [default: all of it].",
    ),
    click.option("--token-audience", metavar="NAME", help="What the aud of a JSON Web Token has to name."),
    click.option("--token-issuer", metavar="NAME", help="What the iss of a JSON Web Token has to be."),
    *(_callback_option(action) for action in ACTIONS),
    click.option(
        "--callback-timeout-ms",
        type=click.IntRange(50, 10_000),
        help=f"Who is not allowed within so long is denied [default: {_TIMEOUT_MS}].",
    ),
    click.option(
        "--callback-ca",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Authorities for the certificates of https servers, PEM [default: the system's].",
    ),
)
"""Options of a `serve` command; `authentication_of` takes them."""


def authentication_of(options: dict[str, Any]) -> Authentication | None:
    """Takes what `auth_options` brought out of the options; None where nothing is configured. Raises OperatorError."""
    networks = _networks(options.pop("allowed"), options.pop("denied"))
    tokens = _tokens(options)
    callbacks = _callbacks(options)
    if networks is None and tokens is None and callbacks is None:
        return None
    return Authentication(networks, tokens, callbacks)


def _networks(allowed: Sequence[str], denied: Sequence[str]) -> Networks | None:
    rules = [
        _rule(option, allows, text)
        for option, allows, texts in (("--allow", True, allowed), ("--deny", False, denied))
        for text in texts
    ]
    return Networks(rules) if rules else None


def _rule(option: str, allows: bool, text: str) -> Rule:
    try:
        return Rule.parse(allows, text)
    except NetworkError as error:
        raise OperatorError(f"{option} {text}: {error}; expected play=10.0.0.0/8, 10.1.2.3 or all") from error


def _tokens(options: dict[str, Any]) -> Tokens | None:
    paths = options.pop("token_keys")
    settings = {
        "--token-algorithm": options.pop("token_algorithms"),
        "--token-for": options.pop("token_actions"),
        "--token-audience": options.pop("token_audience"),
        "--token-issuer": options.pop("token_issuer"),
    }
    if not paths:
        _check_needed(settings, "--token-key, the file of a key that tokens are signed with")
        return None
    try:
        keys = KeyFiles(paths, settings["--token-algorithm"])
    except TokenKeyError as error:
        raise OperatorError(f"--token-key {error}") from error
    return Tokens(
        keys,
        settings["--token-for"] or ACTIONS,
        settings["--token-audience"] or "",
        settings["--token-issuer"] or "",
    )


def _callbacks(options: dict[str, Any]) -> Callbacks | None:
    urls = {action: options.pop(f"on_{action}") for action in ACTIONS}
    targets = {action: _target(f"--on-{action}", url) for action, url in urls.items() if url}
    timeout_ms, authorities = options.pop("callback_timeout_ms"), options.pop("callback_ca")
    if not targets:
        _check_needed(
            {"--callback-timeout-ms": timeout_ms, "--callback-ca": authorities},
            "--on-connect, --on-publish or --on-play, the URL that is asked",
        )
        return None
    try:
        context = tls_context(authorities)
    except OSError as error:
        reason = error.strerror or "no certificates in it"
        raise OperatorError(f"--callback-ca {authorities}: {reason}; expected certificates, PEM") from error
    timeout_ms = _TIMEOUT_MS if timeout_ms is None else timeout_ms
    return Callbacks(targets, HttpCalls(context), timeout_ms / 1000)


def _target(option: str, url: str) -> Target:
    try:
        return parse_target(url)
    except UrlError as error:
        raise OperatorError(f"{option} {redacted(url)}: {error}") from error


def _check_needed(settings: dict[str, Any], needed: str) -> None:
    """What is given and means nothing may be a slip that leaves the edge open."""
    for option, value in settings.items():
        if value:
            raise OperatorError(f"{option} does nothing alone; give {needed}, too")
