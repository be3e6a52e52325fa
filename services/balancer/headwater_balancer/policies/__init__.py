"""The policies that come with the balancer, one file each."""

from headwater_balancer.policy import PolicyError, PolicyOptions


def no_pins(name: str, options: PolicyOptions) -> None:
    """For policies that take no rules. Raises PolicyError where some were given."""
    if options.pins:
        raise PolicyError(f"--pin: --policy {name} has no rules; use --policy pinned")
