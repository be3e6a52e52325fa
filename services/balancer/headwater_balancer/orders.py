"""What operators order: from the rules as they are to the rules as they should be, or why it makes no sense. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from headwater_balancer.policy import Pin
from headwater_balancer.rules import Neighbours, Rules
from headwater_balancer.snapshot import app_of

MAX_RULES = 200
"""Pins, sticky globs, pairs apart and drained origins, of each."""
MAX_GLOB_BYTES = 1300
"""A glob may be as long as a group's name."""


class OrderError(Exception):
    """Why an order makes no sense: a `code` for programs, the text for the operator."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Sight:
    """What an order is looked at with: `apps` by origin that is here, `owners` by group (an orphan's is empty), `moving` groups,
    and the policies that are installed; `policy` is the one in use."""

    apps: Mapping[str, frozenset[str]] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    moving: frozenset[str] = frozenset()
    policies: Sequence[str] = ()
    policy: str = ""


def _few(names: Sequence[str]) -> str:
    """Names for a sentence, not too many of them."""
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown or "none"


def _origin(name: str, sight: Sight) -> None:
    if name not in sight.apps:
        raise OrderError("unknown-origin", f"{name[:64]} is not here; origins: {_few(sorted(sight.apps))}")


def _glob(text: str) -> None:
    size = len(text.encode(errors="surrogatepass"))
    if not 0 < size <= MAX_GLOB_BYTES or not text.isprintable():
        raise OrderError(
            "bad-glob",
            f"glob {text[:64]!r}: expected 1 to {MAX_GLOB_BYTES} printable bytes, such as 'chat/*'",
        )


def _room(count: int, what: str) -> None:
    if count >= MAX_RULES:
        raise OrderError("too-many", f"there are {count} {what} already; take some away first")


def _pin(rules: Rules, values: list[str], sight: Sight) -> Rules:
    glob, origin = values
    _glob(glob)
    _origin(origin, sight)
    if origin in rules.drained:
        raise OrderError("drained", f"{origin} is drained; headwater-balancer undrain {origin} first")
    if Pin(glob, origin) in rules.pins:
        raise OrderError("already", f"{glob} is pinned to {origin} already")
    place = [pin.glob for pin in rules.pins]
    if glob in place:
        pins = list(rules.pins)
        pins[place.index(glob)] = Pin(glob, origin)
        return replace(rules, pins=tuple(pins))
    _room(len(rules.pins), "pins")
    return replace(rules, pins=(*rules.pins, Pin(glob, origin)))


def _unpin(rules: Rules, values: list[str], sight: Sight) -> Rules:
    (glob,) = values
    left = tuple(pin for pin in rules.pins if pin.glob != glob)
    if len(left) == len(rules.pins):
        raise OrderError(
            "unknown-rule", f"{glob[:64]} is not pinned; pins: {_few([pin.glob for pin in rules.pins])}"
        )
    return replace(rules, pins=left)


def _stick(rules: Rules, values: list[str], sight: Sight) -> Rules:
    (glob,) = values
    _glob(glob)
    if glob in rules.sticky:
        raise OrderError("already", f"{glob} is sticky already")
    _room(len(rules.sticky), "sticky globs")
    return replace(rules, sticky=(*rules.sticky, glob))


def _unstick(rules: Rules, values: list[str], sight: Sight) -> Rules:
    (glob,) = values
    if glob not in rules.sticky:
        raise OrderError("unknown-rule", f"{glob[:64]} is not sticky; sticky: {_few(rules.sticky)}")
    return replace(rules, sticky=tuple(text for text in rules.sticky if text != glob))


def _has_pair(rules: Rules, values: list[str]) -> bool:
    return any(sorted(pair) == sorted(values) for pair in rules.apart)


def _apart(rules: Rules, values: list[str], sight: Sight) -> Rules:
    one, other = values
    _glob(one)
    _glob(other)
    if _has_pair(rules, values):
        raise OrderError("already", f"{one} and {other} are kept apart already")
    _room(len(rules.apart), "pairs")
    return replace(rules, apart=(*rules.apart, (one, other)))


def _unapart(rules: Rules, values: list[str], sight: Sight) -> Rules:
    if not _has_pair(rules, values):
        pairs = [" and ".join(pair) for pair in rules.apart]
        raise OrderError(
            "unknown-rule", f"{values[0][:64]} and {values[1][:64]} are not kept apart; pairs: {_few(pairs)}"
        )
    return replace(rules, apart=tuple(pair for pair in rules.apart if sorted(pair) != sorted(values)))


def _drain(rules: Rules, values: list[str], sight: Sight) -> Rules:
    (origin,) = values
    if origin in rules.drained:
        raise OrderError("already", f"{origin} is drained already")
    _origin(origin, sight)
    others = sight.apps.keys() - rules.drained - {origin}
    if not others:
        raise OrderError(
            "last", f"{origin} is the last origin that is not drained; start or undrain another one first"
        )
    needed = {app_of(group) for group, owner in sight.owners.items() if owner == origin}
    lacking = sorted(needed - frozenset().union(*(sight.apps[other] for other in others)))
    if lacking:
        raise OrderError(
            "last",
            f"no other origin that is not drained serves {_few(lacking)}, which {origin} has groups of",
        )
    _room(len(rules.drained), "drained origins")
    return replace(rules, drained=rules.drained | {origin})


def _undrain(rules: Rules, values: list[str], sight: Sight) -> Rules:
    (origin,) = values
    if origin not in rules.drained:
        raise OrderError(
            "unknown-rule", f"{origin[:64]} is not drained; drained: {_few(sorted(rules.drained))}"
        )
    return replace(rules, drained=rules.drained - {origin})


def _policy(rules: Rules, values: list[str], sight: Sight) -> Rules:
    (name,) = values
    if name not in sight.policies:
        raise OrderError(
            "unknown-policy", f"policy {name[:64]!r} is not known; expected one of {_few(sight.policies)}"
        )
    if name == sight.policy:
        raise OrderError("already", f"{name} is the policy already")
    return replace(rules, policy=name)


def _pause(rules: Rules, values: list[str], sight: Sight) -> Rules:
    if rules.paused:
        raise OrderError("already", "balancing is paused already")
    return replace(rules, paused=True)


def _resume(rules: Rules, values: list[str], sight: Sight) -> Rules:
    if not rules.paused:
        raise OrderError("already", "balancing is not paused")
    return replace(rules, paused=False)


RULE_ORDERS: dict[str, tuple[int, Callable[[Rules, list[str], Sight], Rules]]] = {
    "pin": (2, _pin),
    "unpin": (1, _unpin),
    "stick": (1, _stick),
    "unstick": (1, _unstick),
    "apart": (2, _apart),
    "unapart": (2, _unapart),
    "drain": (1, _drain),
    "undrain": (1, _undrain),
    "policy": (1, _policy),
    "pause": (0, _pause),
    "resume": (0, _resume),
}
"""How many values each order that changes rules has, and what it does."""


def ordered(order: str, values: list[str], rules: Rules, sight: Sight) -> Rules:
    """The rules as they are after an order. Raises OrderError."""
    found = RULE_ORDERS.get(order)
    if found is None:
        raise OrderError(
            "unknown-order", f"order {order[:64]!r} is not known; expected one of {', '.join(RULE_ORDERS)}"
        )
    count, change = found
    if len(values) != count or not all(isinstance(value, str) for value in values):
        raise OrderError("bad-order", f"{order}: expected {count} values")
    return change(rules, values, sight)


def check_move(group: str, origin: str, rules: Rules, sight: Sight) -> None:
    """Raises OrderError where an operator cannot have a group at an origin."""
    owner = sight.owners.get(group)
    if owner is None:
        near = sorted(name for name in sight.owners if fnmatchcase(name, f"*{group.rpartition('/')[2]}*"))[:3]
        hint = (
            f"; did you mean {_few(near)}?" if near and group else " (headwater-registry groups lists them)"
        )
        raise OrderError("unknown-group", f"nobody has {group[:64]!r}{hint}")
    _origin(origin, sight)
    if not owner:
        raise OrderError("orphan", f"{group}: its origin is gone, and it gets another one right now")
    if group in sight.moving:
        raise OrderError("moving", f"{group} is being moved right now")
    if owner == origin:
        raise OrderError("already", f"{group} is on {origin} already")
    text = objection(group, origin, rules, sight)
    if text:
        raise OrderError("not-there", text)


def objection(group: str, origin: str, rules: Rules, sight: Sight) -> str:
    """Why an origin cannot have a group, however it came to that; empty where it can."""
    if origin in rules.drained:
        return f"{origin} is drained; headwater-balancer undrain {origin} first"
    apps = sight.apps.get(origin)
    if apps is None:
        return f"{origin} is not here"
    if app_of(group) not in apps:
        return f"{origin} does not serve {app_of(group)}; it serves {_few(sorted(apps))}"
    pin = rules.pin_of(group)
    if pin is not None and pin.origin != origin and rules.home_of(group, sight.apps):
        return f"{group} is pinned to {pin.origin} by {pin.glob}; headwater-balancer unpin '{pin.glob}' first"
    company = Neighbours(rules.apart, sight.owners).against(group, origin)
    if company and not (pin is not None and pin.origin == origin):
        return f"{group} is kept apart from {company}, which is on {origin}"
    return ""
