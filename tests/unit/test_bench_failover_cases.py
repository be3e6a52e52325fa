"""What the cases of the fail-over benchmark do to a cluster: the test is the cluster."""

import itertools
from collections.abc import Callable
from typing import cast

import pytest

from bench.failover_cases import CASES, Stage
from bench.failover_cluster import FailoverCluster
from bench.failover_layout import BUSY, group_name


class RecordingCluster:
    """Notes what is done to it."""

    origins = ("origin-1", "origin-2", "origin-3")

    def __init__(self) -> None:
        self.table = {f"live/{group_name(number)}": self.origins[number % 3 and 1] for number in range(6)}
        self.done: list[str] = []

    def owners(self) -> dict[str, str]:
        return dict(self.table)

    def kill(self, name: str) -> None:
        self.done.append(f"kill {name}")

    def freeze(self, name: str) -> None:
        self.done.append(f"freeze {name}")

    def thaw(self, name: str) -> None:
        self.done.append(f"thaw {name}")

    def start_node(self, name: str) -> None:
        self.done.append(f"start {name}")

    def order(self, *words: str) -> None:
        self.done.append(" ".join(words))

    def await_empty(self, origin: str) -> None:
        self.done.append(f"{origin} is empty")

    def await_registered(self, role: str) -> None:
        self.done.append(f"{role} is registered")

    def move(self, group: str, source: str, target: str) -> None:
        assert self.table[group] == source
        self.table[group] = target
        self.done.append(f"move {group} to {target}")


@pytest.fixture
def cluster() -> RecordingCluster:
    return RecordingCluster()


@pytest.fixture
def play(cluster: RecordingCluster) -> Callable[[str], Stage]:
    def run(name: str) -> Stage:
        (case,) = (case for case in CASES if case.name == name)
        stage = Stage(
            cast(FailoverCluster, cluster),
            "live",
            lambda seconds: cluster.done.append(f"wait {seconds:g}"),
            lambda: cluster.done.append("each sends"),
        )
        case.play(stage)
        return stage

    return run


def test_the_origin_with_the_most_groups_is_killed(
    cluster: RecordingCluster, play: Callable[[str], Stage]
) -> None:
    (fault,) = play("kill").faults
    assert cluster.done == ["kill origin-2", "each sends", "wait 5"]
    assert fault.scopes == {group_name(number) for number in (1, 2, 4, 5)}
    assert fault.at_ns < fault.until_ns


def test_a_hanging_origin_goes_on(cluster: RecordingCluster, play: Callable[[str], Stage]) -> None:
    (fault,) = play("hang").faults
    assert cluster.done == ["freeze origin-2", "each sends", "wait 6", "thaw origin-2", "wait 3"]
    assert len(fault.scopes) == 4


def test_the_busy_group_moves_there_and_back(cluster: RecordingCluster, play: Callable[[str], Stage]) -> None:
    faults = play("move").faults
    moves = [each for each in cluster.done if each.startswith("move")]
    assert moves[:3] == [f"move live/{group_name(BUSY)} to origin-{number}" for number in (2, 1, 2)]
    assert len(faults) == len(moves) == 20
    assert all(fault.scopes == {group_name(BUSY)} for fault in faults)
    # One move at a time: none is begun before the one before is over.
    assert all(one.until_ns <= other.at_ns for one, other in itertools.pairwise(faults))


def test_a_drain_is_over_when_the_origin_is_empty(
    cluster: RecordingCluster, play: Callable[[str], Stage]
) -> None:
    (fault,) = play("drain").faults
    assert cluster.done == ["drain origin-2", "origin-2 is empty", "wait 1"]
    assert len(fault.scopes) == 4


def test_the_control_plane_dies_and_comes_back(
    cluster: RecordingCluster, play: Callable[[str], Stage]
) -> None:
    faults = play("control").faults
    assert cluster.done == [
        "kill registry", "wait 3", "kill balancer", "wait 3", "start registry", "start balancer",
        "balancer is registered", "wait 2",
    ]  # fmt: skip
    assert [len(fault.scopes) for fault in faults] == [6, 6, 6]
