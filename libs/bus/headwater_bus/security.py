"""CURVE on every ZeroMQ socket (RFC 25/26), and who may connect (ZAP, RFC 27).

Keys are ZeroMQ certificates in a folder: `public/NODE.key` of every node, `NODE.key_secret` of this one. The file name is the
node's name and says its role. Without keys sockets are plain, and only for loopback, `ipc:` and `inproc:`.
"""

import ipaddress
import re
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from zmq.utils import z85

from headwater_bus.logs import RateLimit, get_log

ROLES = ("registry", "balancer", "origin", "edge", "operator")
_NODE_ID = re.compile(rf"({'|'.join(ROLES)})-[A-Za-z0-9][A-Za-z0-9._-]{{0,62}}")
_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s:;/@\[\]]+):(\*|\d+)")
_REFUSED_LOG_S = 30.0
_log = get_log("security")


class SecurityError(Exception):
    """Keys or endpoints that will not do; the text is for the operator."""


def role_of(node_id: str) -> str:
    """The role that a node id begins with. Raises SecurityError for what is no node id."""
    found = _NODE_ID.fullmatch(node_id)
    if found is None:
        raise SecurityError(
            f"node id {node_id[:80]!r}: expected one of {', '.join(ROLES)}, then -NAME of letters, digits, dot, "
            "dash and underscore (edge-1)"
        )
    return found.group(1)


def is_local(endpoint: str) -> bool:
    """Whether only this machine reaches an endpoint. A host name other than localhost counts as one that others reach."""
    if endpoint.startswith(("ipc:", "inproc:")):
        return True
    found = _TCP.fullmatch(endpoint)
    if found is None:
        return False
    host = found.group(1).strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(
    endpoint: str, encrypted: bool, given: str = "", instead: str = "use 127.0.0.1 or ipc:"
) -> None:
    """Raises SecurityError where a plain socket would be reached from other machines. `given`: what the operator gave that makes
    this the endpoint; `instead`: what would do without keys."""
    if not encrypted and not is_local(endpoint):
        raise SecurityError(
            f"{given or endpoint}: others than this machine would reach an unencrypted socket; "
            f"give --keys (headwater-keys make), or {instead}"
        )


class Security:
    """How this node's sockets are protected. `encrypted`: whether CURVE is on."""

    def __init__(self, keys: Path | None = None, node_id: str = "") -> None:
        self.encrypted = keys is not None
        self.node_id = node_id
        self._keys = keys
        self._public = self._secret = b""
        if keys is not None:
            self._public, self._secret = self._load(keys / f"{node_id}.key_secret")

    @classmethod
    def plain(cls) -> "Security":
        """No encryption: local endpoints only."""
        return cls()

    @classmethod
    def from_keys(cls, keys: Path, node_id: str) -> "Security":
        """CURVE with this node's secret key. Raises SecurityError when it is not there or not readable."""
        return cls(keys, node_id)

    @staticmethod
    def _load(path: Path) -> tuple[bytes, bytes]:
        try:
            public, secret = zmq.auth.load_certificate(path)
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            raise SecurityError(
                f"key {path}: {_why(error)}; make it with headwater-keys make, or copy it here"
            ) from error
        if secret is None:
            raise SecurityError(f"key {path}: expected a secret key, it holds a public one only")
        if mode & 0o077:
            raise SecurityError(
                f"key {path}: others may read it (mode {mode & 0o777:o}), expected 600: chmod 600 it"
            )
        return public, secret

    def check_endpoint(self, endpoint: str) -> None:
        """See `check_exposure`."""
        check_exposure(endpoint, self.encrypted)

    def apply_server(self, socket: Any) -> None:
        """Before bind."""
        if self.encrypted:
            socket.set(zmq.ZAP_DOMAIN, b"headwater")
            # Nobody comes in while there is no ZapHandler; without this, everybody would.
            socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
            socket.curve_secretkey = self._secret
            socket.curve_publickey = self._public
            socket.curve_server = True

    def apply_client(self, socket: Any, server_node_id: str) -> None:
        """Before connect; `server_node_id` is whose key the server must have. Raises SecurityError when it is not known."""
        if self.encrypted:
            serverkey = self.public_key(server_node_id)
            socket.curve_secretkey = self._secret
            socket.curve_publickey = self._public
            socket.curve_serverkey = serverkey

    def public_key(self, node_id: str) -> bytes:
        """The public key of a node. Raises SecurityError."""
        assert self._keys is not None
        role_of(node_id)
        path = self._keys / "public" / f"{node_id}.key"
        try:
            public, _ = zmq.auth.load_certificate(path)
        except (OSError, ValueError) as error:
            raise SecurityError(
                f"public key of {node_id}: {path}: {_why(error)}; copy it here from where headwater-keys made it"
            ) from error
        return public


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "not there"
    return str(error)


class ZapHandler:
    """Answers ZeroMQ's question who may connect (ZAP): whoever has a key in `public/`. One for each context, and before any
    socket that it guards."""

    def __init__(self, context: Any, keys: Path) -> None:
        self._folder = keys / "public"
        self._read_at = -1
        self._names: dict[bytes, str] = {}
        self._limit = RateLimit(_REFUSED_LOG_S)
        self.refused = 0
        self._socket = context.socket(zmq.REP)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind("inproc://zeromq.zap.01")

    def _name_of(self, key: bytes) -> str | None:
        changed_at = self._folder.stat().st_mtime_ns
        if changed_at != self._read_at:
            self._read_at = changed_at
            names: dict[bytes, str] = {}
            for path in sorted(self._folder.glob("*.key")):
                try:
                    role_of(path.stem)
                    names[zmq.auth.load_certificate(path)[0]] = path.stem
                except (OSError, ValueError, SecurityError) as error:
                    # It may be in the middle of being copied here: look again next time.
                    self._read_at = -1
                    if self._limit.passes("key not readable"):
                        _log.warning("key not readable", path=path, error=_why(error))
            self._names = names
        return self._names.get(z85.encode(key))

    def run(self) -> None:
        """Job: answer until the socket is closed (RFC 27: version, request id, status code, text, user id, metadata)."""
        while not self._socket.closed:
            try:
                request = self._socket.recv_multipart()
                self._socket.send_multipart(self._answer(request))
            except zmq.ZMQError:
                if not self._socket.closed:
                    raise

    def _answer(self, request: list[bytes]) -> list[bytes]:
        version, request_id = request[0], request[1]
        name = None
        if len(request) >= 7 and request[5] == b"CURVE" and len(request[6]) == 32:
            try:
                name = self._name_of(request[6])
            except OSError as error:
                if self._limit.passes("folder not readable"):
                    _log.error("folder of public keys not readable", folder=self._folder, error=_why(error))
        if name is not None:
            return [version, request_id, b"200", b"OK", name.encode(), b""]
        self.refused += 1
        if self._limit.passes("unknown key"):
            _log.warning(
                "connection refused: unknown key",
                address=request[3].decode("latin-1") if len(request) > 3 else "?",
                not_shown=self._limit.suppressed("unknown key"),
            )
        return [version, request_id, b"400", b"unknown key", b"", b""]

    def close(self) -> None:
        """Stop answering."""
        self._socket.close()
