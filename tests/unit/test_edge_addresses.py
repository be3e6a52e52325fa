"""Addresses and networks: each place of an edge reads them in the same way."""

import pytest
from headwater_edge.addresses import (
    NetworkError,
    block_of,
    is_loopback,
    parse_address,
    parse_network,
    plain_address,
)
from headwater_edge.auth.networks import Networks, Rule
from headwater_edge.doors import TrustedProxies


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("203.0.113.1", "203.0.113.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:203.0.113.1", "203.0.113.1"),
        ("::ffff:cb00:7101", "203.0.113.1"),
    ],
)
def test_an_address_has_one_form(text: str, plain: str) -> None:
    assert plain_address(text) == str(parse_address(text)) == plain


@pytest.mark.parametrize("text", ["", "x", "203.0.113", "203.0.113.1:80", "::ffff:203.0.113.1%eth0"])
def test_what_is_no_plain_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear to be|has a scope"):
        plain_address(text)


def test_a_scope_is_of_one_machine() -> None:
    with pytest.raises(ValueError, match="has a scope"):
        plain_address("fe80::1%eth0")
    assert str(parse_address("fe80::1%eth0")) == "fe80::1"
    assert parse_address("x%eth0") is None


def test_loopback() -> None:
    assert all(is_loopback(a) for a in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"))
    assert not any(is_loopback(a) for a in ("0.0.0.0", "::", "203.0.113.1", "2001:db8::1", "x"))


def test_an_ipv6_client_owns_its_network() -> None:
    assert block_of("203.0.113.1") == block_of("::ffff:203.0.113.1") == "203.0.113.1"
    assert block_of("2001:db8:1:2:3:4:5:6") == block_of("2001:db8:1:2::9") == "2001:db8:1:2::"
    assert block_of("2001:db8:1:3::9") != block_of("2001:db8:1:2::9")
    assert block_of("fe80::1%eth0") == "fe80::"
    assert block_of("unknown") == "unknown"


def test_a_network_that_no_client_can_be_in_is_refused_by_all() -> None:
    for read in (parse_network, lambda text: TrustedProxies([text]), lambda text: Rule.parse(True, text)):
        with pytest.raises(NetworkError, match="expected it as IPv4"):
            read("::ffff:10.0.0.0/104")


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_a_mapped_client_is_in_its_ipv4_network(address: str) -> None:
    assert address in TrustedProxies(["10.0.0.0/8"])
    assert Networks([Rule.parse(True, "10.0.0.0/8")]).allow("connect", address)
