"""The balancer's settings."""

from dataclasses import dataclass

from headwater_balancer.pace import PATIENCE_S
from headwater_balancer.plan import COOLDOWN_S
from headwater_balancer.policy import Pin, Policy


@dataclass(frozen=True, slots=True)
class BalancerConfig:
    """`policy_name` is what the operator knows `policy` by; `pins` are those that it was started with (`--pin`)."""

    policy_name: str
    policy: Policy
    request_s: float = 1.5
    """How long a group may take to be granted, before whoever asked is told to ask again."""
    pins: tuple[Pin, ...] = ()
    cooldown_s: float = COOLDOWN_S
    """So long a group that was moved is not moved to even loads out."""
    patience_s: float = PATIENCE_S
    """So long loads must be uneven before anything moves for it."""
