"""`round-robin`: one origin after the other, each as often as its capacity says, whatever they have."""

from headwater_balancer.policies import no_pins
from headwater_balancer.policy import PolicyOptions
from headwater_balancer.snapshot import ClusterSnapshot, Notice, Origin


class RoundRobin:
    """See the module. Turns are in the snapshot, so this keeps nothing."""

    def choose(self, group: str, snapshot: ClusterSnapshot, now: float) -> tuple[str, tuple[Notice, ...]]:
        """The k-th turn of an origin (from 0) is due at (k + 1/2) / capacity; the earliest is next."""

        def due(origin: Origin) -> tuple[float, str]:
            return (origin.turns + 0.5) / origin.capacity, origin.node_id

        return min(snapshot.origins.values(), key=due).node_id, ()


def make(options: PolicyOptions) -> RoundRobin:
    """Entry point."""
    no_pins("round-robin", options)
    return RoundRobin()
