"""`pinned`: groups whose name matches a rule go to the rule's origin, everything else by `least-loaded`."""

from fnmatch import fnmatchcase

from headwater_balancer.policies.least_loaded import LeastLoaded
from headwater_balancer.policy import Pin, PolicyOptions
from headwater_balancer.snapshot import ClusterSnapshot, Notice


class Pinned:
    """See the module. The first rule that matches decides."""

    def __init__(self, pins: tuple[Pin, ...]) -> None:
        self._pins = pins
        self._others = LeastLoaded()

    def choose(self, group: str, snapshot: ClusterSnapshot, now: float) -> tuple[str, tuple[Notice, ...]]:
        """While a rule's origin is not here its groups go where others go: better there than nowhere."""
        for pin in self._pins:
            if not fnmatchcase(group, pin.glob):
                continue
            if pin.origin in snapshot.origins:
                return pin.origin, ()
            origin, _ = self._others.choose(group, snapshot, now)
            return origin, (
                Notice(f"--pin {pin.glob}={pin.origin}: {pin.origin} is not here, least-loaded decides"),
            )
        return self._others.choose(group, snapshot, now)


def make(options: PolicyOptions) -> Pinned:
    """Entry point."""
    return Pinned(options.pins)
