"""Signed tokens in the query of a stream's name or of an address: JSON Web Tokens (RFC 7519), or an expiry with a signature.

`?token=JWT`, with the claims `exp` (required), `app`, `stream`, `action`, `address`, `sub`, `jti`, `nbf`, `aud`, `iss`; what no
claim names is not limited. `?expires=UNIX&sig=HEX`: HMAC-SHA256 over `signed_text`. A token behind the stream's name comes before
one behind the address. docs/authentication.md has it all for those who make tokens.
"""

import fnmatch
import hashlib
import hmac
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import jwt

from headwater_edge.addresses import NetworkError, parse_address, parse_network
from headwater_edge.auth.asked import ACTIONS, Asked
from headwater_edge.auth.keys import TokenKey

_MOST_CHARACTERS = 8192
"""Of a query."""
_MOST_PARAMETERS = 32
_EXPIRY_DIGITS = 12
_SKEW_S = 10.0
"""A token is valid so much earlier than it says: clocks differ."""
_SIGNATURE_ONLY: Any = {
    f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")
}
"""Claims are looked at here: by one clock, and a key that does not fit is not taken for a claim that does not."""


class TokenError(ValueError):
    """A token that does not allow what is asked; the text is for the client, and holds nothing of the token."""


def signed_text(action: str, app: str, stream: str, expires: int, address: str = "") -> bytes:
    """What a signature is over: five lines, the last without its end. Action (empty: any), application and instance, stream
    (empty: any), expiry in Unix seconds, address (empty: any)."""
    return "\n".join((action, app, stream, str(expires), address)).encode(errors="surrogatepass")


def sign(secret: bytes, action: str, app: str, stream: str, expires: int, address: str = "") -> str:
    """The signature, in hexadecimal digits."""
    return hmac.new(secret, signed_text(action, app, stream, expires, address), hashlib.sha256).hexdigest()


class Tokens:
    """`keys()`: any of them will do. `actions` need a token, others do not. `audience`: what a token's `aud` has to name; without
    one, a token that has an `aud` is for somebody else. `issuer`: what its `iss` has to be; empty: any. `now()` is Unix
    seconds."""

    def __init__(
        self,
        keys: Callable[[], Sequence[TokenKey]],
        actions: Sequence[str] = ACTIONS,
        audience: str = "",
        issuer: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys, self._actions, self._now = keys, frozenset(actions), now
        self._audience, self._issuer = audience, issuer

    def check(self, asked: Asked) -> str:
        """Who it is, as the token says; empty where it does not, or none is needed. Raises TokenError."""
        if asked.action not in self._actions:
            return ""
        for query in (asked.query, asked.connect_query):
            given = _credentials(query)
            if "token" in given:
                return self._check_jwt(asked, given["token"])
            if "sig" in given:
                return self._check_signature(asked, given["sig"], given.get("expires", ""))
        raise TokenError(f"{asked.action} needs a token")

    # An expiry with a signature

    def _check_signature(self, asked: Asked, signature: str, expiry: str) -> str:
        if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= _EXPIRY_DIGITS):
            raise TokenError("the signature has no expiry")
        if not asked.stream.isprintable():
            # Lines would be taken for others.
            raise TokenError("a signature is for a stream with a printable name")
        expires = int(expiry)
        given = signature.lower().encode(errors="surrogatepass")
        known = False
        for key in self._keys():
            if key.secret is None:
                continue
            # All that it may be for is compared, whichever it is.
            for action in (asked.action, ""):
                for stream in {asked.stream, ""}:
                    for address in (asked.address, ""):
                        expected = sign(key.secret, action, asked.app, stream, expires, address).encode()
                        known = hmac.compare_digest(expected, given) or known
        if not known:
            raise TokenError("the signature is of no key that is known, or for something else")
        if expires <= self._now():
            raise TokenError("the signature has expired")
        return f"sig:{hashlib.sha256(given).hexdigest()[:32]}"

    # JSON Web Tokens

    def _check_jwt(self, asked: Asked, token: str) -> str:
        claims = self._verified(token)
        self._check_times(claims)
        self._check_parties(claims)
        self._check_bindings(claims, asked)
        for name in ("sub", "jti"):
            if isinstance(claims.get(name), str) and claims[name]:
                return f"{name}:{claims[name]}"
        return ""

    def _verified(self, token: str) -> Mapping[str, Any]:
        for key in self._keys():
            try:
                return jwt.decode(token, key.key, algorithms=list(key.algorithms), options=_SIGNATURE_ONLY)
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                # Not of this key, or nothing that could be one: PyJWT has no error of its own for some of that.
                continue
        raise TokenError("the token is signed by no key that is known")

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._now()
        expires, begins = _seconds(claims, "exp"), _seconds(claims, "nbf")
        if expires is None:
            raise TokenError("the token has no expiry")
        if expires <= now:
            raise TokenError("the token has expired")
        if begins is not None and begins > now + _SKEW_S:
            raise TokenError("the token is not valid yet")

    def _check_parties(self, claims: Mapping[str, Any]) -> None:
        audience = _texts(claims, "aud")
        if self._audience not in (audience or ("",)):
            raise TokenError("the token is for another audience")
        if self._issuer and claims.get("iss") != self._issuer:
            raise TokenError("the token is from another issuer")

    def _check_bindings(self, claims: Mapping[str, Any], asked: Asked) -> None:
        apps, streams, actions, networks = (
            _bindings(claims, name) for name in ("app", "stream", "action", "address")
        )
        if apps is not None and not _any_fits(asked.app, [app.removesuffix("/_definst_") for app in apps]):
            raise TokenError("the token is for another application")
        connects = asked.action == "connect"
        # Who may do something in an application may connect to it. What it may do is looked at when it does it.
        if actions is not None and asked.action not in actions and not (connects and actions):
            raise TokenError(f"the token does not allow {asked.action}")
        if streams is not None and not connects and not _any_fits(asked.stream, streams):
            raise TokenError("the token is for another stream")
        if networks is not None and not _any_has(networks, asked.address):
            raise TokenError("the token is for another address")


def _credentials(query: str) -> dict[str, str]:
    """The parameters that tokens are made of. Raises TokenError."""
    if not query:
        return {}
    if len(query) > _MOST_CHARACTERS:
        raise TokenError(f"a query of {len(query)} characters, expected at most {_MOST_CHARACTERS}")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise TokenError(f"a query of more than {_MOST_PARAMETERS} parameters") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in ("token", "sig", "expires"):
            if name in found:
                raise TokenError(f"{name} is there more than once")
            found[name] = value
    return found


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A claim that is a time. Raises TokenError for anything else."""
    value = claims.get(name)
    if value is None:
        return None
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return value
    except OverflowError:
        pass
    raise TokenError(f"the token's {name} is no time")


def _texts(claims: Mapping[str, Any], name: str) -> list[str] | None:
    """A claim that is a text or a list of them, None where it is not there. Raises TokenError for anything else."""
    if name not in claims:
        return None
    value = claims[name]
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise TokenError(f"the token's {name} is no text")
    return values


def _bindings(claims: Mapping[str, Any], name: str) -> list[str] | None:
    """What a claim limits a token to, whether it is named in the singular or in the plural (`stream`, `streams`): a slip of who
    makes tokens must not make one without limits. None: there is no such claim. Raises TokenError."""
    plural = f"{name}es" if name.endswith("s") else f"{name}s"
    one, many = _texts(claims, name), _texts(claims, plural)
    return many if one is None else one + (many or [])


def _any_fits(value: str, patterns: Sequence[str]) -> bool:
    """Whether a name is one of these; a `*` in them is anything, slashes included."""
    return any(
        fnmatch.fnmatchcase(value, pattern.replace("[", "[[]").replace("?", "[?]"))
        if "*" in pattern
        else value == pattern
        for pattern in patterns
    )


def _any_has(networks: Sequence[str], address: str) -> bool:
    known = parse_address(address)
    try:
        return known is not None and any(known in parse_network(network) for network in networks)
    except NetworkError:
        raise TokenError("the token's address is no network") from None
