"""From where clients may connect, publish and play; and what may be logged of their addresses."""

import pytest
from headwater_edge.addresses import NetworkError
from headwater_edge.auth import redacted
from headwater_edge.auth.networks import Networks, Rule


def networks(*rules: str) -> Networks:
    """Of `+RULE`, which allows, and `-RULE`."""
    return Networks([Rule.parse(rule[0] == "+", rule[1:]) for rule in rules])


@pytest.mark.parametrize(
    ("rules", "action", "address", "allowed"),
    [
        # What nginx-rtmp's usual configurations say.
        (("+publish=127.0.0.1", "-publish=all", "+play=all"), "publish", "127.0.0.1", True),
        (("+publish=127.0.0.1", "-publish=all", "+play=all"), "publish", "127.0.0.2", False),
        (("+publish=127.0.0.1", "-publish=all", "+play=all"), "play", "127.0.0.2", True),
        (("-play=10.0.0.0/8",), "play", "10.9.9.9", False),
        (("-play=10.0.0.0/8",), "play", "11.0.0.1", True),
        (("-play=10.0.0.0/8",), "publish", "10.9.9.9", True),
        # Who names those that may means nobody else.
        (("+publish=10.0.0.0/8",), "publish", "11.0.0.1", False),
        (("+publish=10.0.0.0/8",), "connect", "11.0.0.1", True),
        (("+10.0.0.0/8",), "connect", "11.0.0.1", False),
        (("+10.1.0.0/16", "-10.0.0.0/8"), "play", "11.0.0.1", False),
        (("+10.1.0.0/16", "-10.0.0.0/8", "+all"), "play", "11.0.0.1", True),
        # The smallest network decides; of two of a size the one for the action; of two alike the one that denies.
        (("-10.0.0.0/8", "+10.1.0.0/16"), "play", "10.1.2.3", True),
        (("+10.0.0.0/8", "-10.1.0.0/16"), "play", "10.1.2.3", False),
        (("-all", "+play=all"), "play", "10.1.2.3", True),
        (("-all", "+play=all"), "publish", "10.1.2.3", False),
        (("-play=all", "+10.0.0.0/8"), "play", "10.1.2.3", True),
        (("+all", "-all"), "play", "10.1.2.3", False),
        (("-all", "+0.0.0.0/0"), "play", "10.1.2.3", True),
        (("-all", "+0.0.0.0/0"), "play", "2001:db8::1", False),
        # Both kinds of addresses, and one in the other.
        (("-10.0.0.0/8",), "play", "::ffff:10.1.2.3", False),
        (("-2001:db8::/32",), "play", "2001:db8::1", False),
        (("-2001:db8::/32",), "play", "10.1.2.3", True),
        (("-fe80::/10",), "play", "fe80::1%eth0", False),
        (("+0.0.0.0/0",), "play", "2001:db8::1", False),
        # What is no address may nothing about which there are rules.
        (("+all",), "play", "", False),
        (("-publish=all",), "play", "unix:", True),
        ((), "play", "10.1.2.3", True),
    ],
)
def test_the_most_specific_rule_decides(
    rules: tuple[str, ...], action: str, address: str, allowed: bool
) -> None:
    assert networks(*rules).allow(action, address) is allowed
    assert networks(*reversed(rules)).allow(action, address) is allowed


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("everything=all", "'everything' before the ="),
        ("=10.0.0.0/8", "'' before the ="),
        ("play=10.0.0.1/8", "host bits set"),
        ("10.0.0.0/33", "does not appear to be"),
        ("localhost", "does not appear to be"),
        ("", "does not appear to be"),
        ("::ffff:10.0.0.0/104", "expected it as IPv4"),
    ],
)
def test_a_rule_that_cannot_be_read_is_an_error(rule: str, said: str) -> None:
    with pytest.raises(NetworkError) as caught:
        Rule.parse(False, rule)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "served"),
    [
        (("-play=10.0.0.0/8",), True),
        (("-10.0.0.0/8",), True),
        (("+publish=10.0.0.0/8",), True),
        (("+all",), True),
        (("+all", "-connect=all"), False),
        (("-all",), False),
        (("+10.0.0.0/8",), False),
        (("+connect=10.0.0.0/8", "-10.9.0.0/16"), False),
    ],
)
def test_whether_strangers_may_connect(rules: tuple[str, ...], served: bool) -> None:
    assert networks(*rules).serve_strangers is served


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("rtmp://host:1935/live/cam", "rtmp://host:1935/live/cam"),
        ("rtmp://host/live?token=SECRET", "rtmp://host/live..."),
        ("rtmp://ann:SECRET@host/live?token=SECRET", "rtmp://host/live..."),
        ("rtmp://ann:SE@CRET@host/live#SECRET", "rtmp://host/live..."),
        ("cam?token=SECRET", "cam..."),
        ("cam&token=SECRET", "cam..."),
        ("cam%3Ftoken=SECRET", "cam..."),
        ("token=SECRET", "token..."),
        ("chat/lobby", "chat/lobby"),
        ("", ""),
    ],
)
def test_a_name_is_shown_without_what_stands_behind_it(name: str, shown: str) -> None:
    assert redacted(name) == shown
