"""`rendezvous`: by hash of the group's name, so that a group goes to the same origin as long as that one is here.

Weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): each origin draws a number from the hash of (group, origin), and
the highest of -capacity / ln(number) wins. An origin that comes or goes moves only what it gets or had.
"""

import math
from hashlib import blake2b

from headwater_balancer.policies import no_pins
from headwater_balancer.policy import PolicyOptions
from headwater_balancer.snapshot import ClusterSnapshot, Notice, Origin

_RANGE = 2**64


def draw(group: str, origin: str) -> float:
    """A number between 0 and 1 (never either) that is always the same for the same names."""
    digest = blake2b(f"{group}\0{origin}".encode(), digest_size=8).digest()
    # The top 53 bits, so that what is near 1 is not rounded to it.
    return ((int.from_bytes(digest, "big") >> 11) + 0.5) / (_RANGE >> 11)


class Rendezvous:
    """See the module."""

    def choose(self, group: str, snapshot: ClusterSnapshot, now: float) -> tuple[str, tuple[Notice, ...]]:
        """Loads do not count, so the answer depends on names and capacities only."""

        def score(origin: Origin) -> tuple[float, str]:
            return -origin.capacity / math.log(draw(group, origin.node_id)), origin.node_id

        return max(snapshot.origins.values(), key=score).node_id, ()


def make(options: PolicyOptions) -> Rendezvous:
    """Entry point."""
    no_pins("rendezvous", options)
    return Rendezvous()
