"""Policies and the decision: tables of clusters and what is decided; the same snapshot always gives the same answer."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from headwater_balancer import policy as policies
from headwater_balancer.decide import decide
from headwater_balancer.policies import least_loaded, pinned, rendezvous, round_robin
from headwater_balancer.policies.rendezvous import draw
from headwater_balancer.policy import Pin, Policy, PolicyError, PolicyOptions, known_policies, make_policy
from headwater_balancer.snapshot import ClusterSnapshot, Grant, Notice, Origin

Spread = Callable[[Policy, ClusterSnapshot, int], list[str]]

NONE = PolicyOptions()
LEAST, ROBIN, HASH = least_loaded.make(NONE), round_robin.make(NONE), rendezvous.make(NONE)
PINS = (Pin("chat/*", "origin-1"), Pin("chat/vip*", "origin-2"), Pin("live/a", "origin-9"))
PINNED = pinned.make(PolicyOptions(PINS))
ALL = [LEAST, ROBIN, HASH, PINNED]
APPS = frozenset(("live", "chat", "Chat", "g", "raises", "names nobody"))
DRAWN = 0.4809140932421541


def cluster(
    *origins: Origin, wanted: tuple[str, ...] = (), owners: Mapping[str, str] | None = None
) -> ClusterSnapshot:
    """Origins that do not say what they serve serve all that these tests ask for."""
    serving = [origin if origin.apps else dataclasses.replace(origin, apps=APPS) for origin in origins]
    return ClusterSnapshot({origin.node_id: origin for origin in serving}, owners or {}, wanted)


def origins_of(*capacities: float) -> tuple[Origin, ...]:
    return tuple(Origin(f"origin-{n}", capacity) for n, capacity in enumerate(capacities, 1))


def one_by_one(policy: Policy, snapshot: ClusterSnapshot, count: int) -> list[str]:
    """Owners of `count` groups that come one after the other."""
    owners: list[str] = []
    for number in range(count):
        actions = decide(dataclasses.replace(snapshot, wanted=(f"live/room{number}",)), 0.0, policy)
        (grant,) = [action for action in actions if isinstance(action, Grant)]
        owners.append(grant.origin)
        snapshot = snapshot.granted(grant.origin)
    return owners


def at_once(policy: Policy, snapshot: ClusterSnapshot, count: int) -> list[str]:
    """Owners of `count` groups that are wanted together."""
    wanted = tuple(f"live/room{number}" for number in range(count))
    return [
        action.origin
        for action in decide(dataclasses.replace(snapshot, wanted=wanted), 0.0, policy)
        if isinstance(action, Grant)
    ]


@pytest.mark.parametrize("spread", [one_by_one, at_once])
@pytest.mark.parametrize("policy", [LEAST, ROBIN, PINNED])
@pytest.mark.parametrize(
    ("capacities", "count", "shares"),
    [
        ((1, 1), 40, [20, 20]),
        ((2, 1), 40, [27, 13]),
        ((1, 1, 1), 3, [1, 1, 1]),
        ((1, 2, 5), 80, [10, 20, 50]),
        ((0.5, 0.5), 10, [5, 5]),
        ((1,), 7, [7]),
    ],
)
def test_shares_follow_capacities(
    spread: Spread, policy: Policy, capacities: tuple[float, ...], count: int, shares: list[int]
) -> None:
    owners = Counter(spread(policy, cluster(*origins_of(*capacities)), count))
    assert [owners[f"origin-{n}"] for n in range(1, len(capacities) + 1)] == shares


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        # Groups for the capacity come first.
        (Origin("origin-1", groups=3), Origin("origin-2", groups=2), "origin-2"),
        (Origin("origin-1", 2.0, groups=3), Origin("origin-2", groups=2), "origin-1"),
        # CPU matters when it is short, the more the shorter it is.
        (Origin("origin-1", cpu_percent=69), Origin("origin-2", cpu_percent=0), "origin-1"),
        (Origin("origin-1", cpu_percent=80), Origin("origin-2", cpu_percent=0), "origin-2"),
        (Origin("origin-1", cpu_percent=99), Origin("origin-2", groups=5), "origin-2"),
        (Origin("origin-1", cpu_percent=99), Origin("origin-2", groups=20), "origin-1"),
        (Origin("origin-1", cpu_percent=140), Origin("origin-2", groups=1, cpu_percent=100), "origin-1"),
        # Sessions break a tie, and the name the last one.
        (Origin("origin-1", sessions=9), Origin("origin-2", sessions=8), "origin-2"),
        (Origin("origin-1", 2.0, groups=1, sessions=9), Origin("origin-2", sessions=8), "origin-1"),
        (Origin("origin-2"), Origin("origin-1"), "origin-1"),
    ],
)
def test_least_loaded_weighs(first: Origin, second: Origin, chosen: str) -> None:
    assert decide(cluster(first, second, wanted=("g",)), 0.0, LEAST) == (Grant("g", chosen),)
    assert decide(cluster(second, first, wanted=("g",)), 0.0) == (Grant("g", chosen),)


def test_small_differences_of_cpu_change_no_shares() -> None:
    """40 groups one after the other, while the origins' CPU goes up and down as it does when clients come."""
    owners: Counter[str] = Counter()
    for number in range(40):
        cpu = (number * 37 % 60, number * 53 % 60)
        snapshot = cluster(
            *(Origin(f"origin-{n}", groups=owners[f"origin-{n}"], cpu_percent=cpu[n - 1]) for n in (1, 2)),
            wanted=("g",),
        )
        for action in decide(snapshot, 0.0, LEAST):
            assert isinstance(action, Grant)
            owners[action.origin] += 1
    assert owners == {"origin-1": 20, "origin-2": 20}


def test_a_busy_origin_gets_less() -> None:
    owners = Counter(one_by_one(LEAST, cluster(Origin("origin-1", cpu_percent=90), Origin("origin-2")), 40))
    assert 4 <= owners["origin-1"] <= 13


def test_round_robin_goes_on_in_turn_whatever_origins_have() -> None:
    snapshot = cluster(
        Origin("origin-1", groups=50, turns=1), Origin("origin-2", turns=0), Origin("origin-3", turns=0)
    )
    assert one_by_one(ROBIN, snapshot, 5) == ["origin-2", "origin-3", "origin-1", "origin-2", "origin-3"]


def test_rendezvous_shares_follow_capacities() -> None:
    owners = Counter(at_once(HASH, cluster(*origins_of(1, 3)), 4000))
    # A binomial with n = 4000, p = 1/4 has a deviation of 27.
    assert abs(owners["origin-1"] - 1000) < 150


def test_rendezvous_moves_only_what_a_new_origin_gets() -> None:
    before = at_once(HASH, cluster(*origins_of(1, 1)), 1000)
    after = at_once(HASH, cluster(*origins_of(1, 1, 1)), 1000)
    assert all(new in (old, "origin-3") for old, new in zip(before, after, strict=True))
    assert 250 < after.count("origin-3") < 420
    reversed_order = cluster(*reversed(origins_of(1, 1, 1)))
    assert at_once(HASH, reversed_order, 1000) == after


def test_rendezvous_ignores_loads_and_draws_the_same_everywhere() -> None:
    loaded = tuple(dataclasses.replace(origin, groups=99, cpu_percent=100.0) for origin in origins_of(1, 1))
    assert at_once(HASH, cluster(*loaded), 50) == at_once(HASH, cluster(*origins_of(1, 1)), 50)
    # A change of these numbers would move every group at an upgrade.
    assert draw("chat/lobby", "origin-1") == pytest.approx(DRAWN, abs=1e-12)
    assert all(0 < draw(f"g{n}", "origin-1") < 1 for n in range(1000))


@pytest.mark.parametrize(
    ("group", "chosen"),
    [
        ("chat/lobby", "origin-1"),
        ("chat/vip", "origin-1"),
        ("Chat/lobby", "origin-2"),
        ("live/b", "origin-2"),
    ],
)
def test_the_first_pin_that_matches_decides(group: str, chosen: str) -> None:
    snapshot = cluster(Origin("origin-1", groups=10), Origin("origin-2"), wanted=(group,))
    assert decide(snapshot, 0.0, PINNED) == (Grant(group, chosen),)


def test_a_pin_to_an_origin_that_is_not_here_falls_back_and_says_so() -> None:
    snapshot = cluster(Origin("origin-1", groups=10), Origin("origin-2"), wanted=("live/a",))
    notice, grant = decide(snapshot, 0.0, PINNED)
    assert grant == Grant("live/a", "origin-2")
    assert notice == Notice("--pin live/a=origin-9: origin-9 is not here, least-loaded decides")


@pytest.mark.parametrize("policy", ALL)
def test_decisions_are_pure(policy: Policy) -> None:
    origins = tuple(
        Origin(f"origin-{n}", n, groups=n * 3 % 5, cpu_percent=n * 20.0, sessions=n) for n in range(1, 6)
    )
    wanted = tuple(f"{app}/{n}" for app in ("chat", "live") for n in range(20))
    snapshot = cluster(*origins, wanted=wanted, owners={"live/3": "origin-1"})
    kept = dataclasses.replace(snapshot, origins=dict(snapshot.origins))
    decided = decide(snapshot, 5.0, policy)
    assert decide(snapshot, 5.0, policy) == decided
    assert (
        decide(cluster(*reversed(origins), wanted=wanted, owners={"live/3": "origin-1"}), 5.0, policy)
        == decided
    )
    assert snapshot == kept
    assert [action.group for action in decided if isinstance(action, Grant)] == [
        g for g in wanted if g != "live/3"
    ]


@pytest.mark.parametrize("policy", ALL)
def test_nothing_is_decided_where_there_is_nothing_to_decide(policy: Policy) -> None:
    assert decide(cluster(wanted=("g",)), 0.0, policy) == ()
    assert decide(cluster(Origin("origin-1")), 0.0, policy) == ()
    assert decide(cluster(Origin("origin-1"), wanted=("g",), owners={"g": "origin-1"}), 0.0, policy) == ()
    assert decide(cluster(Origin("origin-1"), wanted=("g", "g")), 0.0, policy) == (Grant("g", "origin-1"),)


class Wrong:
    """What a third party might install."""

    def choose(self, group: str, snapshot: ClusterSnapshot, now: float) -> tuple[str, tuple[Notice, ...]]:
        if group == "raises":
            raise ZeroDivisionError("by zero")
        return "origin-9", ()


@pytest.mark.parametrize("group", ["raises", "names nobody"])
def test_a_policy_that_fails_costs_no_group_its_origin(group: str) -> None:
    notice, grant = decide(cluster(Origin("origin-1"), wanted=(group,)), 0.0, Wrong())
    assert isinstance(notice, Notice)
    assert notice.text.startswith("policy Wrong failed, least-loaded decides: ")
    assert grant == Grant(group, "origin-1")


def test_policies_are_found_by_name() -> None:
    assert {"least-loaded", "pinned", "rendezvous", "round-robin"} <= set(known_policies())
    assert type(make_policy("round-robin", NONE)) is round_robin.RoundRobin
    assert type(make_policy("pinned", PolicyOptions(PINS))) is pinned.Pinned
    with pytest.raises(
        PolicyError, match=r"--policy nope: not known; expected one of .*least-loaded, pinned"
    ):
        make_policy("nope", NONE)
    for name in ("least-loaded", "round-robin", "rendezvous"):
        with pytest.raises(PolicyError, match=f"--pin: --policy {name} has no rules; use --policy pinned"):
            make_policy(name, PolicyOptions(PINS))


def test_third_parties_register_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("mine", f"{__name__}:Mine", "headwater.policies"),
        EntryPoint("gone", "no_such_package:make", "headwater.policies"),
    ]
    monkeypatch.setattr(policies, "entry_points", lambda group: EntryPoints(points))
    monkeypatch.setattr(
        EntryPoint, "load", lambda self: (lambda options: Wrong()) if self.name == "mine" else 1 / 0
    )
    assert known_policies() == ["gone", "mine"]
    assert isinstance(make_policy("mine", NONE), Wrong)
    monkeypatch.undo()
    monkeypatch.setattr(policies, "entry_points", lambda group: EntryPoints(points))
    with pytest.raises(PolicyError, match="--policy gone: no_such_package:make cannot be loaded"):
        make_policy("gone", NONE)


def test_pins_are_parsed() -> None:
    assert Pin.parse("chat/*=origin-1") == Pin("chat/*", "origin-1")
    assert Pin.parse("a=b=origin-1") == Pin("a=b", "origin-1")
    for text in ("", "chat", "=origin-1", "chat/*=", "chat/*=edge-1"):
        with pytest.raises(PolicyError, match="expected GLOB=ORIGIN"):
            Pin.parse(text)


@pytest.mark.parametrize("policy", ALL)
def test_a_group_goes_only_to_an_origin_that_serves_its_application(policy: Policy) -> None:
    snapshot = cluster(
        Origin("origin-1", apps=frozenset(("live",))),
        Origin("origin-2", groups=30, cpu_percent=99.0, apps=frozenset(("live", "chat"))),
        wanted=("chat/a", "video/b", "chat/c"),
    )
    grants = [action for action in decide(snapshot, 0.0, policy) if isinstance(action, Grant)]
    assert grants == [Grant("chat/a", "origin-2"), Grant("chat/c", "origin-2")]
