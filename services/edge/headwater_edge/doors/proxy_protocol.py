"""The PROXY protocol: what a load-balancer says in front of a connection about where it comes from.

"The PROXY protocol, versions 1 & 2" by Willy Tarreau: sections 2.1 (version 1, a line), 2.2 (version 2, binary), 2.2.6 (its
TLVs).
"""

import ipaddress
from dataclasses import dataclass

from headwater_edge.addresses import plain_address

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_WORD = b"PROXY "
_LINE_BYTES = 107
_FIXED_BYTES = 16
_MOST_BYTES = _FIXED_BYTES + 4096
"""Of version 2: a certificate's names and a few things more."""
_VERSION = 2
_LOCAL, _PROXY = 0, 1
_ADDRESSES = {1: (4, 12), 2: (16, 36)}
"""By family (IPv4, IPv6): the bytes of an address, and of both with their ports."""
_TLV_SSL = 0x20
_CLIENT_SSL = 0x01


class ProxyError(ValueError):
    """No header of this protocol."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """`size`: in bytes. `address`: the client's; empty: none is told (a connection of the balancer itself, or over no network).
    `secure`: whether the client spoke TLS with the balancer, if that says so."""

    size: int
    address: str = ""
    secure: bool = False


def parse_header(data: bytes) -> ProxyHeader | None:
    """The header that these bytes begin with; None: there is more to come. Raises ProxyError."""
    if data.startswith(_SIGNATURE):
        return _version_2(data)
    if data.startswith(_WORD):
        return _version_1(data)
    if _SIGNATURE.startswith(data) or _WORD.startswith(data):
        return None
    raise ProxyError(f"no header, but {data[:16]!r}")


def _version_1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _LINE_BYTES)
    if end < 0:
        if len(data) >= _LINE_BYTES:
            raise ProxyError(f"no end of the line within {_LINE_BYTES} bytes: {data[:_LINE_BYTES]!r}")
        return None
    words = data[:end].decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(end + 2)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ProxyError(f"{data[:end]!r}, expected TCP4, TCP6 or UNKNOWN, two addresses and two ports")
    try:
        version = ipaddress.ip_address(words[2]).version
        address = plain_address(words[2])
    except ValueError as error:
        raise ProxyError(f"{data[:end]!r}: {error}") from error
    if words[1] != f"TCP{version}":
        raise ProxyError(f"{data[:end]!r}: an IPv{version} address")
    return ProxyHeader(end + 2, address)


def _version_2(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED_BYTES:
        return None
    version, command = data[12] >> 4, data[12] & 15
    if version != _VERSION or command not in (_LOCAL, _PROXY):
        raise ProxyError(f"version {version}, command {command}, expected version 2, command 0 or 1")
    size = _FIXED_BYTES + int.from_bytes(data[14:16], "big")
    if size > _MOST_BYTES:
        raise ProxyError(f"a header of {size} bytes, at most {_MOST_BYTES}")
    if len(data) < size:
        return None
    family = data[13] >> 4
    if command == _LOCAL or family not in _ADDRESSES:
        return ProxyHeader(size)
    one, both = _ADDRESSES[family]
    if size < _FIXED_BYTES + both:
        raise ProxyError(f"a header of {size} bytes, at least {_FIXED_BYTES + both} for its addresses")
    address = ipaddress.ip_address(data[_FIXED_BYTES : _FIXED_BYTES + one])
    return ProxyHeader(size, plain_address(str(address)), _is_secure(data[:size], _FIXED_BYTES + both))


def _is_secure(header: bytes, at: int) -> bool:
    """Whether one of the type-length-values from byte `at` on says that the client spoke TLS. Raises ProxyError."""
    secure = False
    while at < len(header):
        end = at + 3 + int.from_bytes(header[at + 1 : at + 3], "big")
        if end > len(header):
            raise ProxyError(
                f"byte {at}: a value that is longer than the header of {len(header)} bytes: {header[at : at + 16]!r}"
            )
        value = header[at + 3 : end]
        if header[at] == _TLV_SSL and value:
            secure = bool(value[0] & _CLIENT_SSL)
        at = end
    return secure
