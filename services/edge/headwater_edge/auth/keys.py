"""Keys that tokens are signed with, in files: a secret in a line of its own, or a public key in PEM. They are read again when the
files change, so a key can be replaced without a restart."""

import string
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from headwater_bus.logs import get_log

from headwater_edge.watched_files import SETTLED_S, WatchedFiles

_log = get_log("edge")
SECRET_ALGORITHMS = {"HS256": 32, "HS384": 48, "HS512": 64}
"""And how many bytes a secret has to have at least: as many as the hash (RFC 7518, 3.2)."""
PUBLIC_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
ALGORITHMS = (*SECRET_ALGORITHMS, *PUBLIC_ALGORITHMS)
_USUAL = ("HS256", "RS256", "ES256", "ES384", "ES512", "EdDSA")
"""What a key is used with when nothing is said: one for each kind of key."""
_RSA_BITS = 2048
_MOST_BYTES = 64 * 1024
_ONE_LINE = frozenset(string.ascii_letters + string.digits + string.punctuation)


class TokenKeyError(ValueError):
    """A key that cannot be used; the text is for the operator, and holds nothing of the key."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A secret in bytes, or a public key of the package `cryptography`; its algorithms are all of one kind."""

    key: Any = field(repr=False)
    algorithms: tuple[str, ...]

    @property
    def secret(self) -> bytes | None:
        """None: it is a public key, with which nothing can be signed."""
        return self.key if isinstance(self.key, bytes) else None


def load_key(path: Path, wanted: Sequence[str] = ()) -> TokenKey:
    """`wanted`: the algorithms that tokens may be signed with; none: the usual one for the key. Raises TokenKeyError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1).strip()
            mode = path.stat().st_mode
    except OSError as error:
        raise TokenKeyError(
            f"{path}: {error.strerror}; make one with headwater-edge token new-key"
        ) from error
    if len(data) > _MOST_BYTES:
        raise TokenKeyError(f"{path}: more than {_MOST_BYTES} bytes, expected a key")
    if data.startswith(b"-----BEGIN"):
        return _public(path, data, wanted or _USUAL)
    if mode & 0o077:
        raise TokenKeyError(f"{path}: others may read it (mode {mode & 0o777:o}), expected 600: chmod 600 it")
    return _secret(path, data, wanted or _USUAL)


def _secret(path: Path, data: bytes, wanted: Sequence[str]) -> TokenKey:
    if not _ONE_LINE.issuperset(data.decode("latin-1")):
        raise TokenKeyError(
            f"{path}: expected one secret in one line of printable characters (each key has a file of its own), "
            "or a public key in PEM"
        )
    least = {name: size for name, size in SECRET_ALGORITHMS.items() if name in wanted}
    if not least:
        raise TokenKeyError(f"{path}: a secret, for which no algorithm is allowed; allow HS256, too")
    algorithms = tuple(name for name, size in least.items() if len(data) >= size)
    if not algorithms:
        name, size = min(least.items(), key=lambda item: item[1])
        raise TokenKeyError(
            f"{path}: a secret of {len(data)} bytes, expected at least {size} for {name}; "
            "make one with headwater-edge token new-key"
        )
    return TokenKey(data, algorithms)


def _public(path: Path, data: bytes, wanted: Sequence[str]) -> TokenKey:
    if b"PRIVATE KEY" in data:
        raise TokenKeyError(
            f"{path}: a private key, which no edge needs; expected the public one (openssl pkey -pubout)"
        )
    found: dict[str, Any] = {}
    try:
        for name in PUBLIC_ALGORITHMS:
            key = _prepared(name, data)
            if key is not None:
                found[name] = key
    except NotImplementedError:
        raise TokenKeyError(
            f"{path}: a public key, for which the Python package cryptography is needed; "
            "install headwater-edge[public-keys]"
        ) from None
    if not found:
        raise TokenKeyError(f"{path}: expected a public key in PEM, of RSA, an elliptic curve or Ed25519")
    algorithms = tuple(name for name in found if name in wanted)
    if not algorithms:
        raise TokenKeyError(
            f"{path}: a key for {', '.join(found)}, none of which is allowed; allow one of them"
        )
    key = found[algorithms[0]]
    bits = getattr(key, "key_size", 0)
    if algorithms[0][:2] in ("RS", "PS") and bits < _RSA_BITS:
        raise TokenKeyError(f"{path}: an RSA key of {bits} bits, expected at least {_RSA_BITS}")
    return TokenKey(key, algorithms)


def _prepared(name: str, data: bytes) -> Any:
    """The key for an algorithm, None where it is another kind of key. Raises NotImplementedError without `cryptography`."""
    algorithm: Any = jwt.get_algorithm_by_name(name)
    try:
        return algorithm.prepare_key(data)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


class KeyFiles:
    """The keys in these files. Raises TokenKeyError where one cannot be used. `clock()` is monotonic seconds."""

    def __init__(
        self,
        paths: Sequence[Path],
        wanted: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths, self._wanted, self._clock = tuple(paths), tuple(wanted), clock
        self._looked_at = clock()
        self._files = WatchedFiles(paths)
        self._keys = self._load()

    def __call__(self) -> Sequence[TokenKey]:
        """The keys as they are now: the files are looked at every few seconds. While one cannot be used, all stay as they
        were."""
        now = self._clock()
        if now - self._looked_at >= SETTLED_S:
            self._looked_at = now
            if self._files.changed():
                self._reload()
        return self._keys

    def _reload(self) -> None:
        try:
            self._keys = self._load()
        except TokenKeyError as error:
            _log.error("token keys not loaded, those before stay", error=str(error))
        else:
            _log.info("token keys loaded", keys=len(self._keys))

    def _load(self) -> tuple[TokenKey, ...]:
        return tuple(load_key(path, self._wanted) for path in self._paths)
