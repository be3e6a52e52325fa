"""What is allowed with which networks, tokens and callbacks: one table, which holds for every transport.

A test starts an edge with `arguments(...)` of a case's setup. A client connects to `live?CONNECT` and publishes or plays
`cam?STREAM`, with what `Keys.credential` makes of the case's two credentials. It is denied where the case says, with that
reason, or nowhere.
"""

import base64
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import jwt
from headwater_edge.auth import Authentication
from headwater_edge.auth.options import auth_options, authentication_of
from headwater_edge.auth.tokens import sign

APP, STREAM = "live", "cam"
OTHER_ADDRESS = "198.51.100.7"
_TOKENS = ("--token-key", "{key}", "--token-key", "{former}")

SETUPS: dict[str, tuple[str, ...]] = {
    "open": ("--deny", "{other}"),
    "publishers": ("--allow", "publish={client}"),
    "others-publish": ("--allow", "publish={other}"),
    "no-play": ("--deny", "play={client}", "--allow", "play=all"),
    "nobody": ("--deny", "all"),
    "nobody-but": ("--deny", "all", "--allow", "{client}"),
    "tokens": _TOKENS,
    "publish-tokens": (*_TOKENS, "--token-for", "publish"),
    "audience": (*_TOKENS, "--token-audience", "edges"),
    "connect-allowed": ("--on-connect", "{server}/allow"),
    "connect-denied": ("--on-connect", "{server}/deny"),
    "connect-redirected": ("--on-connect", "{server}/redirect"),
    "connect-slow": ("--on-connect", "{server}/slow", "--callback-timeout-ms", "100"),
    "publish-named": ("--on-publish", "{server}/named"),
    "publish-denied": ("--on-publish", "{server}/deny"),
    "publish-slow": ("--on-publish", "{server}/slow", "--callback-timeout-ms", "100"),
    "publish-error": ("--on-publish", "{server}/error"),
    "publish-rubbish": ("--on-publish", "{server}/rubbish"),
    "play-denied": ("--on-play", "{server}/deny"),
    "play-away": ("--on-play", "http://127.0.0.1:9/nobody"),
    "all": (
        *("--allow", "{client}", *_TOKENS),
        *("--on-connect", "{server}/allow", "--on-publish", "{server}/named", "--on-play", "{server}/deny"),
    ),
    "all-elsewhere": ("--allow", "{other}", *_TOKENS, "--on-publish", "{server}/named"),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """`connect` and `stream` are credentials, see `Keys.credential`. `denied`: connect, publish or play; empty: all is
    allowed."""

    setup: str
    action: str
    connect: str = ""
    stream: str = ""
    denied: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return "-".join((self.setup, self.action, self.connect or "none", self.stream or "none"))


def _denied(setup: str, action: str, reason: str, connect: str = "", stream: str = "", at: str = "") -> Case:
    return Case(setup, action, connect, stream, at or action, reason)


CASES = (
    # Networks.
    Case("open", "publish"),
    Case("open", "play"),
    Case("publishers", "publish"),
    Case("publishers", "play"),
    _denied("others-publish", "publish", "publish is not allowed from"),
    Case("others-publish", "play"),
    _denied("no-play", "play", "play is not allowed from"),
    Case("no-play", "publish"),
    _denied("nobody", "play", "connect is not allowed from", at="connect"),
    Case("nobody-but", "publish"),
    # Tokens: behind the address they are for all that follows.
    _denied("tokens", "publish", "connect needs a token", at="connect"),
    _denied("tokens", "publish", "connect needs a token", stream="good", at="connect"),
    Case("tokens", "publish", "good"),
    Case("tokens", "play", "good"),
    Case("tokens", "play", "former"),
    _denied("tokens", "play", "signed by no key that is known", "stranger", at="connect"),
    _denied("tokens", "play", "signed by no key that is known", "unsigned", at="connect"),
    _denied("tokens", "play", "signed by no key that is known", "garbage", at="connect"),
    _denied("tokens", "play", "token has expired", "expired", at="connect"),
    _denied("tokens", "play", "token has no expiry", "endless", at="connect"),
    _denied("tokens", "play", "not valid yet", "later", at="connect"),
    _denied("tokens", "play", "for another application", "other-app", at="connect"),
    _denied("tokens", "play", "for another address", "other-address", at="connect"),
    Case("tokens", "play", "this-address"),
    Case("tokens", "play", "play-only"),
    _denied("tokens", "publish", "does not allow publish", "play-only"),
    Case("tokens", "publish", "this-stream"),
    _denied("tokens", "publish", "for another stream", "other-stream"),
    _denied("tokens", "publish", "another audience", "audience", at="connect"),
    Case("audience", "publish", "audience"),
    _denied("audience", "publish", "another audience", "good", at="connect"),
    # Behind the stream's name they come first.
    Case("tokens", "publish", "play-only", "good"),
    _denied("tokens", "publish", "token has expired", "good", "expired"),
    Case("publish-tokens", "play"),
    _denied("publish-tokens", "publish", "publish needs a token"),
    Case("publish-tokens", "publish", stream="good"),
    Case("publish-tokens", "publish", stream="publish-this"),
    _denied("publish-tokens", "publish", "does not allow publish", stream="play-only"),
    # Signatures.
    Case("tokens", "publish", "sig"),
    Case("tokens", "publish", "sig-former"),
    Case("publish-tokens", "publish", stream="sig-publish"),
    Case("publish-tokens", "publish", stream="sig-address"),
    _denied("publish-tokens", "publish", "no key that is known, or for something else", stream="sig-play"),
    _denied("publish-tokens", "publish", "no key that is known, or for something else", stream="sig-other-app"),
    _denied("publish-tokens", "publish", "no key that is known, or for something else", stream="sig-other-address"),
    _denied("publish-tokens", "publish", "no key that is known, or for something else", stream="sig-longer"),
    _denied("publish-tokens", "publish", "signature has expired", stream="sig-expired"),
    _denied("publish-tokens", "publish", "signature has no expiry", stream="sig-endless"),
    # Callbacks.
    Case("connect-allowed", "play"),
    _denied("connect-denied", "play", "connect was refused (403)", at="connect"),
    _denied("connect-redirected", "play", "connect was refused (302)", at="connect"),
    _denied("connect-slow", "play", "nobody said within 0.1 s", at="connect"),
    Case("publish-named", "publish"),
    Case("publish-denied", "play"),
    _denied("publish-denied", "publish", "publish was refused (403)"),
    _denied("publish-slow", "publish", "nobody said within 0.1 s"),
    _denied("publish-error", "publish", "publish was refused (500)"),
    _denied("publish-rubbish", "publish", "nobody could be asked"),
    _denied("play-denied", "play", "play was refused (403)"),
    _denied("play-away", "play", "nobody could be asked"),
    # All of them: each has to allow it.
    Case("all", "publish", "good"),
    _denied("all", "publish", "token has expired", "good", "expired"),
    _denied("all", "play", "play was refused (403)", "good"),
    _denied("all", "play", "connect needs a token", at="connect"),
    _denied("all-elsewhere", "publish", "connect is not allowed from", "good", at="connect"),
)  # fmt: skip


_CLAIMS: dict[str, dict[str, Any]] = {
    "other-app": {"app": ["chat", "live/*"]},
    "other-address": {"address": OTHER_ADDRESS},
    "play-only": {"action": "play"},
    "this-stream": {"stream": ["x*", "c*m"], "actions": ["publish"]},
    "publish-this": {"stream": STREAM, "action": "publish"},
    "other-stream": {"stream": ["ca", "cam?", "[c]am"]},
    "audience": {"aud": ["edges", "others"]},
}
_TIMES = {"expired": ("exp", -1), "later": ("nbf", 300)}
"""Claims of tokens by kind; times are from now, in seconds."""


class Keys:
    """Files with secrets, and what is signed with them."""

    def __init__(self, folder: Path) -> None:
        self.current, self.former = folder / "current.key", folder / "former.key"
        self.secrets = [secrets.token_urlsafe(48) for _ in range(3)]
        for path, secret in zip((self.current, self.former), self.secrets, strict=False):
            path.touch(mode=0o600)
            path.write_text(secret + "\n")

    def credential(self, kind: str, address: str) -> str:
        """A query of this kind, for a client at `address`; empty: none."""
        if not kind:
            return ""
        now = int(time.time())
        if kind.startswith("sig"):
            return self._signature(kind, address, now)
        return f"token={self._token(kind, address, now)}"

    def _token(self, kind: str, address: str, now: int) -> str:
        if kind == "garbage":
            return "a.b.c"
        claims: dict[str, Any] = {"exp": now + 600, "app": APP, "sub": "ann"}
        if kind == "unsigned":
            return _unsigned(claims)
        claims |= _CLAIMS.get(kind, {})
        if kind in _TIMES:
            name, seconds = _TIMES[kind]
            claims[name] = now + seconds
        if kind == "this-address":
            claims["address"] = [OTHER_ADDRESS, address]
        if kind == "endless":
            del claims["exp"]
        return jwt.encode(claims, self.secrets[{"former": 1, "stranger": 2}.get(kind, 0)])

    def _signature(self, kind: str, address: str, now: int) -> str:
        expires = now - 1 if kind == "sig-expired" else now + 600
        secret = self.secrets[1 if kind == "sig-former" else 0].encode()
        action = {"sig-publish": "publish", "sig-address": "publish", "sig-play": "play"}.get(kind, "")
        stream = STREAM if action else ""
        where = {"sig-address": address, "sig-other-address": OTHER_ADDRESS}.get(kind, "")
        signature = sign(secret, action, "chat" if kind == "sig-other-app" else APP, stream, expires, where)
        if kind == "sig-endless":
            return f"sig={signature}"
        return f"expires={expires + 1 if kind == 'sig-longer' else expires}&sig={signature}"


def _unsigned(claims: dict[str, Any]) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


def arguments(setup: str, keys: Keys, server_url: str, address: str) -> list[str]:
    """What an edge is started with, for clients at `address`."""
    values = {
        "key": str(keys.current),
        "former": str(keys.former),
        "server": server_url,
        "client": address,
        "other": OTHER_ADDRESS,
    }
    return [argument.format(**values) for argument in SETUPS[setup]]


def configured(*given: str) -> Authentication | None:
    """What an edge makes of these arguments."""
    seen: list[Authentication | None] = []
    command: Callable[..., Any] = auth_options(lambda **options: seen.append(authentication_of(options)))
    click.command()(command).main(list(given), standalone_mode=False)
    return seen[0]
