"""The registry's settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """`endpoint`: what to bind. `store`: URL of where the table is kept. `position` among the cluster's registries."""

    endpoint: str
    store: str
    lease_ms: int = 3000
    """A node that has not renewed for so long is gone, and its groups are orphans."""
    position: int = 0
