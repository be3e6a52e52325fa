"""The balancer's settings."""

from dataclasses import dataclass

from headwater_balancer.policy import Policy


@dataclass(frozen=True, slots=True)
class BalancerConfig:
    """`policy_name` is what the operator knows `policy` by."""

    policy_name: str
    policy: Policy
    request_s: float = 1.5
    """How long a group may take to be granted, before whoever asked is told to ask again."""
