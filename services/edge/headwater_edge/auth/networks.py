"""From where what is allowed. Written as nginx-rtmp's `allow` and `deny`, but the order means nothing: the most specific rule
decides."""

from collections.abc import Iterable
from dataclasses import dataclass

from headwater_edge.addresses import Network, NetworkError, parse_address, parse_network
from headwater_edge.auth.asked import ACTIONS


@dataclass(frozen=True, slots=True)
class Rule:
    """`action` of ACTIONS, or empty for all of them; `network` None for everywhere."""

    allows: bool
    action: str
    network: Network | None

    @classmethod
    def parse(cls, allows: bool, text: str) -> "Rule":
        """`[ACTION=]NETWORK`, `[ACTION=]all`. Raises NetworkError."""
        action, separator, where = text.rpartition("=")
        if separator and action not in ACTIONS:
            raise NetworkError(f"{action!r} before the =, expected {', '.join(ACTIONS)}")
        return cls(allows, action, None if where == "all" else parse_network(where))

    def about(self, action: str) -> bool:
        """Whether it says something of an action."""
        return self.action in ("", action)

    @property
    def rank(self) -> tuple[int, bool, bool]:
        """Of the rules that fit, the one with the highest decides: the smallest network, then one for the action alone, then one
        that denies."""
        prefix = -1 if self.network is None else self.network.prefixlen
        return (prefix, self.action != "", not self.allows)


class Networks:
    """Rules about addresses. Where no rule fits, an action is allowed unless some other address is allowed it: who names those
    that may means nobody else."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        ranked = sorted(rules, key=lambda rule: rule.rank, reverse=True)
        self._rules = {action: tuple(rule for rule in ranked if rule.about(action)) for action in ACTIONS}

    def allow(self, action: str, address: str) -> bool:
        """Whether an action is allowed from an address. Raises KeyError for one that is none of ACTIONS."""
        rules = self._rules[action]
        known = parse_address(address)
        if known is None:
            return not rules
        for rule in rules:
            if rule.network is None or known in rule.network:
                return rule.allows
        return self._allowed_elsewhere(action)

    def _allowed_elsewhere(self, action: str) -> bool:
        return not any(rule.allows for rule in self._rules[action])

    @property
    def serve_strangers(self) -> bool:
        """Whether an address that no rule was made for may connect."""
        everywhere = [rule.allows for rule in self._rules["connect"] if rule.network is None]
        return everywhere[0] if everywhere else self._allowed_elsewhere("connect")
