"""The balancer's decision: a snapshot of the cluster in, actions out. Pure."""

from headwater_bus.control import Grant

from headwater_balancer.policies.least_loaded import LeastLoaded
from headwater_balancer.policy import Policy
from headwater_balancer.snapshot import Action, ClusterSnapshot, Notice

_DEFAULT = LeastLoaded()


def decide(snapshot: ClusterSnapshot, now: float, policy: Policy = _DEFAULT) -> tuple[Action, ...]:
    """A Grant for each wanted group that nobody has, in order, each seeing those before it; none where no origin serves its
    application.

    A policy of a third party that fails, or names an origin that is not here, is told of, and `least-loaded` decides instead.
    """
    actions: list[Action] = []
    for group in dict.fromkeys(snapshot.wanted):
        if group in snapshot.owners:
            continue
        candidates = snapshot.serving(group)
        if not candidates.origins:
            continue
        notices: tuple[Notice, ...]
        try:
            origin, notices = policy.choose(group, candidates, now)
            if origin not in candidates.origins:
                raise LookupError(f"it chose {origin!r}, which is not here")
        except (
            Exception
        ) as error:  # Whatever a third party's code raises: groups need an origin all the same.
            origin, _ = _DEFAULT.choose(group, candidates, now)
            text = f"policy {type(policy).__name__} failed, least-loaded decides: {type(error).__name__}: {error}"
            notices = (Notice(text),)
        actions += [*notices, Grant(group, origin)]
        snapshot = snapshot.granted(origin)
    return tuple(actions)
