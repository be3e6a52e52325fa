"""What may come in by a listener, and whose word for others' addresses is taken."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from headwater_edge.addresses import parse_address, parse_network, plain_address
from headwater_edge.doors.tls import TlsStore

_REMEMBERED = 4096
"""Addresses of which is remembered whether they are trusted."""


class TrustedProxies:
    """Networks of load-balancers whose PROXY header and X-Forwarded-For are believed."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises NetworkError."""
        self._networks = tuple(parse_network(network) for network in networks)
        self._holds = lru_cache(_REMEMBERED)(self._look_up)

    def __contains__(self, address: str) -> bool:
        return bool(self._networks) and self._holds(address)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def _look_up(self, address: str) -> bool:
        known = parse_address(address)
        return known is not None and any(known in network for network in self._networks)

    def client_of(self, peer: str, forwarded_for: str) -> str:
        """Whom a request is from that came from `peer` with this X-Forwarded-For. Each proxy adds at the right end whom it has
        it from: the right-most that is not one of the trusted is the client. What stands left of it is the client's own word."""
        client = peer
        while forwarded_for and client in self:
            forwarded_for, _, last = forwarded_for.rpartition(",")
            try:
                client = plain_address(_without_port(last.strip()))
            except ValueError:
                break
        return client


def _without_port(text: str) -> str:
    """`1.2.3.4:5`, `[::1]:5` and `[::1]` without port and brackets."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


@dataclass(frozen=True, slots=True)
class Door:
    """What a listener takes: RTMP and HTTP, whichever the first byte says.

    `plain`: also without TLS. `tls`: within TLS, where there is a certificate. `proxied`: each connection comes from one of the
    `trusted` and begins with a PROXY protocol header, which says who the client is.
    """

    plain: bool = True
    tls: TlsStore | None = None
    proxied: bool = False
    trusted: TrustedProxies = field(default_factory=TrustedProxies)
