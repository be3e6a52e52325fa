"""What the balancer decides from and what it decides: frozen values."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace


def app_of(group: str) -> str:
    """The application whose scope, or part of it, a group is."""
    return group.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Origin:
    """An origin that may be given groups. `groups` counts what it has and what was just given to it; `turns` what this balancer
    gave it since the set of origins last changed. `cpu_percent` is of one core. `apps`: the applications that it serves."""

    node_id: str
    capacity: float = 1.0
    groups: int = 0
    cpu_percent: float = 0.0
    sessions: int = 0
    turns: int = 0
    apps: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """`origins` by node id; `owners` says who has which group; `wanted` are groups that somebody asks for, or whose
    origin is gone, in order."""

    origins: Mapping[str, Origin] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    wanted: tuple[str, ...] = ()

    def serving(self, group: str) -> "ClusterSnapshot":
        """The same with only those origins that serve the application of `group`."""
        app = app_of(group)
        return self.among({node_id for node_id, origin in self.origins.items() if app in origin.apps})

    def among(self, node_ids: Container[str]) -> "ClusterSnapshot":
        """The same with only these origins."""
        origins = {node_id: origin for node_id, origin in self.origins.items() if node_id in node_ids}
        return replace(self, origins=origins)

    def granted(self, origin: str) -> "ClusterSnapshot":
        """The same after one more group was given to `origin`."""
        had = self.origins[origin]
        more = replace(had, groups=had.groups + 1, turns=had.turns + 1)
        return replace(self, origins={**self.origins, origin: more})


@dataclass(frozen=True, slots=True)
class Grant:
    """An action: `origin` is to have `group`, which nobody has."""

    group: str
    origin: str


@dataclass(frozen=True, slots=True)
class Notice:
    """An action: something that the operator should hear of. Each text is logged once."""

    text: str


Action = Grant | Notice
"""What `decide` returns: to be asked of the registry, or to be logged."""
