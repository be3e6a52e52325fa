"""PROXY protocol headers: read whole, in part, with trailing bytes, and what is none."""

import socket
import struct

import pytest
from headwater_edge.doors.proxy_protocol import ProxyError, ProxyHeader, parse_header
from hypothesis import given
from hypothesis import strategies as st

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + struct.pack(">HH", 56324, 443)
IPV6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    + struct.pack(">HH", 56324, 443)
)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.1") + IPV6[16:]


def v2(command: int, family: int, rest: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(rest) if length is None else length) + rest


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


TLS = tlv(0x20, b"\x01\0\0\0\0" + tlv(0x21, b"TLSv1.3"))
NO_TLS = tlv(0x20, b"\x00\0\0\0\0")

# The lines are those of the protocol's document, section 2.1, with other addresses.
VECTORS = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "192.0.2.1", False),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", False),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", "2001:db8::1", False),
    (
        b"PROXY TCP6 ffff:f...f:ffff ::1 1 2\r\n".replace(b"f...f", b"ffff:ffff:ffff:ffff:ffff:ffff"),
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        False,
    ),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1", False),
    (b"PROXY UNKNOWN\r\n", "", False),
    (b"PROXY UNKNOWN " + b"f" * 90 + b"\r\n", "", False),
    (v2(0x21, 0x11, IPV4), "192.0.2.1", False),
    (v2(0x21, 0x12, IPV4), "192.0.2.1", False),
    (v2(0x21, 0x21, IPV6), "2001:db8::1", False),
    (v2(0x21, 0x21, MAPPED), "192.0.2.1", False),
    (v2(0x21, 0x11, IPV4 + tlv(0x01, b"h2") + TLS), "192.0.2.1", True),
    (v2(0x21, 0x21, IPV6 + NO_TLS + tlv(0x04, bytes(500))), "2001:db8::1", False),
    (v2(0x21, 0x31, bytes(216)), "", False),  # A local socket.
    (v2(0x21, 0x00, b""), "", False),  # Unspecified.
    (v2(0x20, 0x00, b""), "", False),  # LOCAL: a health check.
    (v2(0x20, 0x11, IPV4), "", False),
]


@pytest.mark.parametrize(("data", "address", "secure"), VECTORS)
@pytest.mark.parametrize("behind", [b"", b"\x03", b"POST /open/1 HTTP/1.1\r\n", SIGNATURE])
def test_headers(data: bytes, address: str, secure: bool, behind: bytes) -> None:
    assert parse_header(data + behind) == ProxyHeader(len(data), address, secure)


@pytest.mark.parametrize("data", [data for data, _, _ in VECTORS])
def test_a_part_of_a_header_waits_for_the_rest(data: bytes) -> None:
    for size in range(1, len(data)):
        assert parse_header(data[:size]) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x03", "no header, but"),
        (b"POST /open/1 HTTP/1.1\r\n", "no header, but b'POST /open/1 HTT'"),
        (b"PROXI", "no header"),
        (b"\r\n\r\n\x00\r\nQUIT\r", "no header"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n", "two addresses and two ports"),
        (b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", "two addresses and two ports"),
        (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "expected TCP4, TCP6 or UNKNOWN"),
        (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "an IPv6 address"),
        (b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", "an IPv4 address"),
        (b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", "192.0.2.256"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "has a scope"),
        (b"PROXY TCP4 localhost 192.0.2.2 1 2\r\n", "localhost"),
        (b"PROXY TCP4 \xff 192.0.2.2 1 2\r\n", "xff"),
        (b"PROXY \r\n", "expected TCP4"),
        (b"PROXY TCP4 " + b"1" * 100, "no end of the line within 107 bytes: b'PROXY TCP4 1"),
        (v2(0x11, 0x11, IPV4), "version 1"),
        (v2(0x22, 0x11, IPV4), "command 2"),
        (v2(0x21, 0x11, IPV4[:11]), "at least 28"),
        (v2(0x21, 0x21, IPV4), "at least 52"),
        (v2(0x21, 0x11, b"", 4097), "a header of 4113 bytes, at most 4112"),
        (v2(0x21, 0x11, IPV4 + b"\x20\x00"), "byte 28: a value that is longer than the header of 30 bytes"),
        (
            v2(0x21, 0x11, IPV4 + b"\x20\x00\x06\x01\0\0\0\0"),
            "byte 28: a value that is longer than the header of 36 bytes",
        ),
        (
            v2(0x21, 0x11, IPV4 + b"\x04\0\x01x\x20\0\x01"),
            "byte 32: a value that is longer than the header of 35 bytes: b' ",
        ),
    ],
)
def test_what_is_no_header_is_said(data: bytes, text: str) -> None:
    with pytest.raises(ProxyError, match=text.replace(".", r"\.")):
        parse_header(data)


@given(st.sampled_from(VECTORS), st.integers(0, 600), st.binary(max_size=4))
def test_garbage_is_only_refused(vector: tuple[bytes, str, bool], at: int, put: bytes) -> None:
    data = vector[0]
    at %= len(data)
    changed = data[:at] + put + data[at + 1 :]
    try:
        header = parse_header(changed)
    except ProxyError:
        return
    if header is None:
        assert len(changed) < 16 + 4096
    else:
        assert header.size <= len(changed)
