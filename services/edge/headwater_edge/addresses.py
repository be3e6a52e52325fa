"""IP addresses and networks, read in one way by all of the edge: an IPv4 address that was mapped to IPv6 is an IPv4 one."""

import ipaddress
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_BLOCK_BITS = 64
"""Of an IPv6 address: the network that one client has whole."""
_REMEMBERED = 4096
"""Addresses that were read last: each is asked about several times."""


class NetworkError(ValueError):
    """A network, or a rule about one, that cannot be read; the text is for the operator."""


def plain_address(text: str) -> str:
    """An address in the one form that it is known by. Raises ValueError for what is none, and for what means something on one
    machine only (fe80::1%eth0)."""
    if "%" in text:
        raise ValueError(f"{text[:100]!r} has a scope, expected an address that means the same everywhere")
    return str(_read(text))


def parse_address(text: str) -> Address | None:
    """An address without its scope; None: it is none."""
    try:
        return _read(text.partition("%")[0])
    except ValueError:
        return None


def _read(text: str) -> Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def parse_network(text: str) -> Network:
    """`10.0.0.0/8`, `10.1.2.3`, `2001:db8::/32`. Raises NetworkError."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise NetworkError(str(error)) from error
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        # Clients are known by their IPv4 address then: it would never fit.
        raise NetworkError(f"{text!r} is IPv4, mapped into IPv6; expected it as IPv4")
    return network


@lru_cache(_REMEMBERED)
def is_loopback(text: str) -> bool:
    """Whether only this machine reaches a listener on an address, or a client with it is this machine."""
    address = parse_address(text)
    return address is not None and address.is_loopback


@lru_cache(_REMEMBERED)
def block_of(text: str) -> str:
    """Whose connections count together: an IPv4 address, or the /64 network of an IPv6 one. What is no address is its own."""
    address = parse_address(text)
    if address is None:
        return text
    if address.version == 4:
        return str(address)
    return str(ipaddress.IPv6Address(int(address) >> _BLOCK_BITS << _BLOCK_BITS))
