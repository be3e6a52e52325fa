"""The balancer's decision for groups that nobody has: a snapshot of the cluster in, actions out. Pure."""

from headwater_balancer.policies.least_loaded import LeastLoaded
from headwater_balancer.policy import Policy
from headwater_balancer.rules import Neighbours, Rules
from headwater_balancer.snapshot import Action, ClusterSnapshot, Grant, Notice

_DEFAULT = LeastLoaded()
_NO_RULES = Rules()


def decide(
    snapshot: ClusterSnapshot, now: float, policy: Policy = _DEFAULT, rules: Rules = _NO_RULES
) -> tuple[Action, ...]:
    """A Grant for each wanted group that nobody has, in order, each seeing those before it; none where no origin serves its
    application that may be given something.

    A pin decides where its origin is here; otherwise the policy, among origins that have no group from which this one is kept
    apart, or among all where each has one. A policy of a third party that fails, or names an origin that is not among them, is
    told of, and `least-loaded` decides instead.
    """
    actions: list[Action] = []
    neighbours = Neighbours(rules.apart, snapshot.owners)
    for group in dict.fromkeys(snapshot.wanted):
        if group in snapshot.owners:
            continue
        candidates = snapshot.serving(group)
        if rules.drained:
            candidates = candidates.among(candidates.origins.keys() - rules.drained)
        if not candidates.origins:
            continue
        origin = rules.home_of(group, candidates.origins)
        notices: tuple[Notice, ...] = ()
        if not origin:
            origin, notices = _choose(group, candidates, now, policy, rules, neighbours)
        actions += [*notices, Grant(group, origin)]
        snapshot = snapshot.granted(origin)
        neighbours.put(group, origin)
    return tuple(actions)


def _choose(
    group: str,
    candidates: ClusterSnapshot,
    now: float,
    policy: Policy,
    rules: Rules,
    neighbours: Neighbours,
) -> tuple[str, tuple[Notice, ...]]:
    """By the policy. Better together with a group that it should be apart from, or where no pin has it, than nowhere."""
    told: tuple[Notice, ...] = ()
    pin = rules.pin_of(group)
    if pin is not None:
        told += (
            Notice(f"pin {pin.glob} {pin.origin}: {pin.origin} can have nothing now, the policy decides"),
        )
    free = {node_id for node_id in candidates.origins if not neighbours.against(group, node_id)}
    if free:
        candidates = candidates.among(free)
    else:
        told += (Notice(f"{group}: every origin has a group that it should be apart from"),)
    try:
        origin, notices = policy.choose(group, candidates, now)
        if origin not in candidates.origins:
            raise LookupError(f"it chose {origin!r}, which is not here")
    except Exception as error:  # Whatever a third party's code raises: groups need an origin all the same.
        origin, _ = _DEFAULT.choose(group, candidates, now)
        text = f"policy {type(policy).__name__} failed, least-loaded decides: {type(error).__name__}: {error}"
        notices = (Notice(text),)
    return origin, (*told, *notices)
