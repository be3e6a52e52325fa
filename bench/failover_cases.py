"""What is done to the cluster in each case, and which bounds are promised for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.failover_cluster import FailoverCluster
from bench.failover_layout import BUSY, group_name

Figure = Literal["again", "silence", "late"]
"""What a bound is about: the time from the fault until a change that was sent after it is delivered; the longest silence; the
latest change."""
Watch = Callable[[float], None]
_HANG_S = 6.0
_MOVES = 20
_BUSY_HZ = 200
_BETWEEN_MOVES_S = 0.6
_DEAD_S = 3.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something was done at `at_ns`, of which the clients of these scopes may see something until `until_ns` (monotonic)."""

    at_ns: int
    until_ns: int
    scopes: frozenset[str]


class Stage:
    """A cluster under load on which a case plays. `watch` lets time pass and raises when the load or a process ends; `send_each`
    has every writer send a change now."""

    def __init__(
        self, cluster: FailoverCluster, app: str, watch: Watch, send_each: Callable[[], None]
    ) -> None:
        self.cluster, self.watch, self.send_each = cluster, watch, send_each
        self._app = app
        self._owners = cluster.owners()
        self._open: list[tuple[int, frozenset[str]]] = []
        self.faults: list[Fault] = []

    def begin(self, scopes: frozenset[str]) -> None:
        """Now it happens, or has just happened."""
        self._open.append((time.monotonic_ns(), scopes))

    def over(self) -> None:
        """Nothing more is to be seen of what was begun."""
        now_ns = time.monotonic_ns()
        self.faults += [Fault(at_ns, now_ns, scopes) for at_ns, scopes in self._open]
        self._open.clear()

    def of(self, origin: str) -> frozenset[str]:
        """The scopes that an origin had at first."""
        prefix = f"{self._app}/"
        return frozenset(
            group.removeprefix(prefix) for group, owner in self._owners.items() if owner == origin
        )

    def everyone(self) -> frozenset[str]:
        """All scopes."""
        return frozenset(group.removeprefix(f"{self._app}/") for group in self._owners)

    def victim(self) -> str:
        """The origin with the most groups."""
        return max(self.cluster.origins, key=lambda origin: len(self.of(origin)))

    def owner(self, group: str) -> str:
        """Of one group, now."""
        return self.cluster.owners()[group]

    def group(self, scope: str) -> str:
        """The group that a scope is."""
        return f"{self._app}/{scope}"


def _kill(stage: Stage) -> None:
    victim = stage.victim()
    scopes = stage.of(victim)
    stage.cluster.kill(victim)
    stage.begin(scopes)
    stage.send_each()
    stage.watch(5.0)
    stage.over()


def _hang(stage: Stage) -> None:
    victim = stage.victim()
    scopes = stage.of(victim)
    stage.cluster.freeze(victim)
    stage.begin(scopes)
    stage.send_each()
    stage.watch(_HANG_S)
    stage.cluster.thaw(victim)
    stage.watch(3.0)
    stage.over()


def _move(stage: Stage) -> None:
    scope = group_name(BUSY)
    source = stage.owner(stage.group(scope))
    target = next(origin for origin in stage.cluster.origins if origin != source)
    for _ in range(_MOVES):
        stage.begin(frozenset((scope,)))
        stage.cluster.move(stage.group(scope), source, target)
        stage.watch(_BETWEEN_MOVES_S)
        stage.over()
        source, target = target, source


def _drain(stage: Stage) -> None:
    victim = stage.victim()
    stage.begin(stage.of(victim))
    stage.cluster.order("drain", victim)
    stage.cluster.await_empty(victim)
    stage.watch(1.0)
    stage.over()


def _control_plane(stage: Stage) -> None:
    for name in ("registry", "balancer"):
        stage.begin(stage.everyone())
        stage.cluster.kill(name)
        stage.watch(_DEAD_S)
        stage.over()
    stage.begin(stage.everyone())
    for name in ("registry", "balancer"):
        stage.cluster.start_node(name)
    stage.cluster.await_registered("balancer")
    stage.watch(2.0)
    stage.over()


@dataclass(frozen=True, slots=True)
class Case:
    """`figure`: what the bounds are about; `median_ms` and `worst_ms` are the bounds, None where none is promised. `busy_hz`: how
    often the writer of one group writes; None for as often as the others. `gathered`: one origin has all groups, the others none,
    before it is done; otherwise each has a share."""

    name: str
    about: str
    play: Callable[[Stage], None]
    figure: Figure
    median_ms: float | None
    worst_ms: float
    busy_hz: float | None = None
    gathered: bool = False


CASES = (
    Case("kill", "kill -9 of the origin that has all groups", _kill, "again", 500, 1500, gathered=True),
    Case(
        "hang",
        f"SIGSTOP for {_HANG_S:.0f} s of the origin that has all groups",
        _hang,
        "again",
        None,
        4000,
        gathered=True,
    ),
    Case(
        "move",
        f"a group with {_BUSY_HZ} changes/s is moved to another origin and back, {_MOVES} moves",
        _move,
        "silence",
        None,
        200,
        _BUSY_HZ,
    ),
    Case("drain", "one of the origins is drained: all its groups move", _drain, "late", None, 200),
    Case(
        "control",
        f"kill -9 of the registry, {_DEAD_S:.0f} s later of the balancer, then both start again",
        _control_plane,
        "late",
        None,
        200,
    ),
)
