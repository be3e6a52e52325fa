"""`least-loaded`: the origin with the fewest groups for its capacity, where an origin short of CPU counts for less."""

from headwater_balancer.policies import no_pins
from headwater_balancer.policy import PolicyOptions
from headwater_balancer.snapshot import ClusterSnapshot, Notice, Origin

_EASY_PERCENT = 70.0
"""CPU up to here costs an origin nothing: how busy it is with what it has says little about one group more, and short bursts (a
stream starts, many clients come at once) would make shares uneven for good, because groups stay where they are."""
_FULL_PERCENT = 100.0
"""An origin is one process on one core: here it has nothing left."""
_LEAST = 0.1
"""A full origin counts with this part of its capacity: where all are full, shares still follow capacities."""


def headroom(cpu_percent: float) -> float:
    """The part of its capacity that an origin counts with: 1 up to 70 % CPU, then falling to 0.1 at 100 %."""
    over = (cpu_percent - _EASY_PERCENT) / (_FULL_PERCENT - _EASY_PERCENT)
    return 1.0 - (1.0 - _LEAST) * min(max(over, 0.0), 1.0)


class LeastLoaded:
    """See the module."""

    def choose(self, group: str, snapshot: ClusterSnapshot, now: float) -> tuple[str, tuple[Notice, ...]]:
        """Groups for the capacity, counted with this one (which makes shares follow capacities from the first group on, d'Hondt's
        method); then sessions for the capacity; then the name."""

        def cost(origin: Origin) -> tuple[float, float, str]:
            capacity = origin.capacity * headroom(origin.cpu_percent)
            return (origin.groups + 1) / capacity, origin.sessions / capacity, origin.node_id

        return min(snapshot.origins.values(), key=cost).node_id, ()


def make(options: PolicyOptions) -> LeastLoaded:
    """Entry point."""
    no_pins("least-loaded", options)
    return LeastLoaded()
