"""What a policy is, and how policies are found by name (entry points of the group `headwater.policies`)."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from headwater_balancer.snapshot import ClusterSnapshot, Notice

ENTRY_POINTS = "headwater.policies"


class PolicyError(Exception):
    """A policy that is not there, or options that it does not take; the text is for the operator."""


@dataclass(frozen=True, slots=True)
class Pin:
    """`glob` (fnmatch, case counts) over group names, and the origin that gets those that match."""

    glob: str
    origin: str

    @classmethod
    def parse(cls, text: str) -> "Pin":
        """`GLOB=ORIGIN`. Raises PolicyError."""
        glob, _, origin = text.rpartition("=")
        if not glob or not origin.startswith("origin-"):
            raise PolicyError(f"--pin {text!r}: expected GLOB=ORIGIN, such as 'chat/*=origin-1'")
        return cls(glob, origin)


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What a policy is made with."""

    pins: tuple[Pin, ...] = ()


class Policy(Protocol):
    """Chooses an origin for a group; at least one is there. Pure: the same snapshot, group and time give the same answer."""

    def choose(self, group: str, snapshot: ClusterSnapshot, now: float) -> tuple[str, tuple[Notice, ...]]:
        """The node id of one of `snapshot.origins`, and what the operator should hear of. `now`: monotonic seconds."""
        ...


PolicyFactory = Callable[[PolicyOptions], Policy]
"""What an entry point names. Raises PolicyError for options that it does not take."""


def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def known_policies() -> list[str]:
    """Names of all policies that are installed."""
    return sorted(_found())


def make_policy(name: str, options: PolicyOptions) -> Policy:
    """A policy by name. Raises PolicyError."""
    point = _found().get(name)
    if point is None:
        raise PolicyError(f"--policy {name}: not known; expected one of {', '.join(known_policies())}")
    try:
        factory: PolicyFactory = point.load()
    except (ImportError, AttributeError) as error:
        raise PolicyError(f"--policy {name}: {point.value} cannot be loaded: {error}") from error
    return factory(options)
