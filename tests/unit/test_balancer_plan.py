"""What moves, for what reason, and what does not: tables of small clusters."""

import pytest
from headwater_balancer.board import Balance, GroupState, Move, OriginState, Why
from headwater_balancer.decide import decide
from headwater_balancer.pace import AT_A_TIME, Pace
from headwater_balancer.plan import COOLDOWN_S, Plan, plan
from headwater_balancer.policy import Pin
from headwater_balancer.rules import Neighbours, Rules
from headwater_balancer.snapshot import ClusterSnapshot, Grant, Notice, Origin

ONE, TWO, THREE = "origin-1", "origin-2", "origin-3"
APPS = frozenset(("chat", "live"))


def balance(
    has: dict[str, dict[str, float]],
    active: bool = True,
    capacities: dict[str, float] | None = None,
    moved_at: dict[str, float] | None = None,
    resting: tuple[str, ...] = (),
    unmeasured: tuple[str, ...] = (),
    apps: dict[str, frozenset[str]] | None = None,
) -> Balance:
    """`has`: by origin the loads of its groups."""
    origins = {
        name: OriginState(
            name, (capacities or {}).get(name, 1.0), (apps or {}).get(name, APPS), name not in unmeasured
        )
        for name in has
    }
    groups = {
        group: GroupState(group, origin, load)
        for origin, loads in has.items()
        for group, load in loads.items()
    }
    return Balance(origins, groups, moved_at or {}, frozenset(resting), active)


def moves(made: Plan) -> list[tuple[str, str, str]]:
    return [(move.group, move.target, move.why.value) for move in made.moves]


FOUR = {f"chat/{name}": 10.0 for name in "abcd"}


def test_even_loads_move_nothing() -> None:
    made = plan(balance({ONE: {"chat/a": 10.0, "chat/b": 10.0}, TWO: {"chat/c": 20.5}}), Rules(), 0.0)
    assert (made.moves, made.notes, made.uneven) == ((), (), False)
    assert [(share.origin, share.groups, share.load) for share in made.before] == [
        (ONE, 2, 20.0),
        (TWO, 1, 20.5),
    ]


def test_an_empty_origin_gets_its_share() -> None:
    made = plan(balance({ONE: FOUR, TWO: {}}), Rules(), 0.0)
    assert [(move.source, move.target, move.why) for move in made.moves] == [(ONE, TWO, Why.LOAD)] * 2
    assert made.moves[0].reason == "origin-1 has 200 % of its share"
    assert [(share.origin, share.groups) for share in made.after] == [(ONE, 2), (TWO, 2)]


def test_shares_follow_capacities() -> None:
    made = plan(
        balance({ONE: FOUR | {"chat/e": 10.0, "chat/f": 10.0}, TWO: {}}, capacities={TWO: 2.0}), Rules(), 0.0
    )
    assert [share.groups for share in made.after] == [2, 4]


def test_unless_active_loads_move_nothing_but_are_found_uneven() -> None:
    made = plan(balance({ONE: FOUR, TWO: {}}, active=False), Rules(), 0.0)
    assert (made.moves, made.uneven) == ((), True)


@pytest.mark.parametrize(
    ("here", "there", "uneven"),
    [
        (57.0, 43.0, False),  # 14 % over.
        (58.0, 42.0, True),
        (50.0, 50.0, False),
    ],
)
def test_it_begins_at_15_percent_over(here: float, there: float, uneven: bool) -> None:
    has = {
        ONE: {f"chat/{n}": here / 10 for n in range(10)},
        TWO: {f"live/{n}": there / 10 for n in range(10)},
    }
    assert plan(balance(has, active=False), Rules(), 0.0).uneven is uneven


def test_what_cannot_be_better_stays() -> None:
    """Three equal groups on two origins, one giant: no move makes the busier origin less busy."""
    assert (
        plan(balance({ONE: {"chat/a": 10.0, "chat/b": 10.0}, TWO: {"chat/c": 10.0}}), Rules(), 0.0).moves
        == ()
    )
    made = plan(balance({ONE: {"chat/a": 100.0}, TWO: {"chat/b": 1.0, "chat/c": 1.0}}), Rules(), 0.0)
    assert (made.moves, made.uneven) == ((), False)


def test_a_giant_has_its_origin_for_itself_and_the_others_share_the_rest() -> None:
    small = {f"live/{n}": 1.0 for n in range(20)}
    made = plan(balance({ONE: {"chat/a": 100.0, **small}, TWO: {}, THREE: {}}), Rules(), 0.0)
    after = {share.origin: share for share in made.after}
    assert all(move.group != "chat/a" for move in made.moves)
    assert after[ONE].load <= 105.0
    assert {after[TWO].groups, after[THREE].groups} <= {7, 8, 9, 10}


def test_two_large_groups_change_places() -> None:
    """Nothing that goes alone makes the busier origin less busy; 50 against 28 does."""
    made = plan(
        balance({ONE: {"chat/a": 70.0, "chat/b": 50.0}, TWO: {"chat/c": 52.0, "chat/d": 28.0}}), Rules(), 0.0
    )
    assert moves(made) == [("chat/b", TWO, "load"), ("chat/d", ONE, "load")]
    assert [share.load for share in made.after] == [98.0, 102.0]


def test_a_large_group_goes_where_the_capacity_is_and_small_ones_come_back_for_it() -> None:
    """The giant makes its origin 20 % too busy, alone as it is; a packing from nothing would have it on the large one."""
    small = {f"live/{n:02}": 19.0 for n in range(20)}
    made = plan(balance({ONE: {"chat/a": 120.0}, TWO: small}, capacities={TWO: 4.0}), Rules(), 0.0)
    assert moves(made)[0] == ("chat/a", TWO, "load")
    assert {(move.source, move.target) for move in made.moves[1:]} == {(TWO, ONE)}
    assert [share.even for share in made.after] == [100.0, 400.0]
    assert made.after[0].load <= 105.0
    assert made.after[1].load <= 420.0


def test_small_groups_go_and_a_large_one_comes_back() -> None:
    """190 and 135: one of 45 is too little, both are too much, but not with 60 for them."""
    has = {ONE: {"chat/a": 100.0, "chat/b": 45.0, "chat/c": 45.0}, TWO: {"chat/d": 60.0, "chat/e": 75.0}}
    made = plan(balance(has, moved_at={"chat/a": 0.0, "chat/e": 0.0}), Rules(), 1.0)
    assert sorted(moves(made)) == [
        ("chat/b", TWO, "load"),
        ("chat/c", TWO, "load"),
        ("chat/d", ONE, "load"),
    ]
    assert [share.load for share in made.after] == [160.0, 165.0]


def test_nothing_changes_places_with_what_has_to_stay() -> None:
    has = {ONE: {"chat/a": 70.0, "chat/b": 50.0}, TWO: {"chat/c": 52.0, "chat/d": 28.0}}
    another = [("chat/a", TWO, "load"), ("chat/c", ONE, "load")]
    assert moves(plan(balance(has), Rules(sticky=("chat/d",)), 0.0)) == another
    assert moves(plan(balance(has, moved_at={"chat/d": 0.0}), Rules(), 1.0)) == another
    assert moves(plan(balance(has, resting=("chat/d",)), Rules(), 0.0)) == another
    assert plan(balance(has), Rules(sticky=("chat/d", "chat/c")), 0.0).moves == ()
    assert plan(balance(has), Rules(apart=(("chat/a", "chat/d"),)), 0.0).moves == ()


def test_of_what_evens_loads_out_only_the_first_moves_are_looked_for() -> None:
    has: dict[str, dict[str, float]] = {ONE: {f"chat/{n}": 1.0 for n in range(100)}, TWO: {}}
    whole = plan(balance(has), Rules(), 0.0)
    assert len(whole.moves) > 40
    first = plan(balance(has), Rules(), 0.0, most_for_load=16)
    assert first.moves == whole.moves[:16]


def test_the_group_with_the_fewest_members_goes() -> None:
    origins = {name: OriginState(name, 1.0, APPS) for name in (ONE, TWO)}
    groups = {
        f"chat/{n}": GroupState(f"chat/{n}", ONE, 10.0 + n / 10, members=100 if n else 3) for n in range(6)
    }
    made = plan(Balance(origins, groups, active=True), Rules(), 0.0)
    assert made.moves[0].group == "chat/0"


def test_cool_downs_failed_moves_and_unmeasured_origins_are_respected() -> None:
    has: dict[str, dict[str, float]] = {ONE: FOUR, TWO: {}}
    cooling = plan(balance(has, moved_at=dict.fromkeys(FOUR, 100.0)), Rules(), 100.0 + COOLDOWN_S - 1)
    assert cooling.moves == ()
    assert cooling.notes == ("4 groups were moved less than 60 s ago: they stay for now",)
    assert (
        len(plan(balance(has, moved_at=dict.fromkeys(FOUR, 100.0)), Rules(), 100.0 + COOLDOWN_S).moves) == 2
    )
    assert {move.group for move in plan(balance(has, resting=("chat/a", "chat/b")), Rules(), 0.0).moves} == {
        "chat/c",
        "chat/d",
    }
    assert plan(balance(has, unmeasured=(ONE,)), Rules(), 0.0).moves == ()
    assert plan(balance(has, unmeasured=(TWO,)), Rules(), 0.0).moves == ()


def test_applications_go_only_where_they_are_served() -> None:
    made = plan(balance({ONE: FOUR, TWO: {}, THREE: {}}, apps={TWO: frozenset(["live"])}), Rules(), 0.0)
    assert {move.target for move in made.moves} == {THREE}
    # Started again without it, say.
    nobody = dict.fromkeys((ONE, TWO, THREE), frozenset(["live"]))
    assert plan(balance({ONE: FOUR, TWO: {}, THREE: {}}, apps=nobody), Rules(), 0.0).moves == ()


def test_a_drained_origin_is_emptied_and_gets_nothing() -> None:
    has: dict[str, dict[str, float]] = {ONE: FOUR, TWO: {}, THREE: {"live/x": 5.0}}
    rules = Rules(drained=frozenset([ONE]), sticky=("chat/*",))
    made = plan(balance(has, active=False, moved_at=dict.fromkeys(FOUR, 0.0), unmeasured=(TWO,)), rules, 1.0)
    assert {move.group for move in made.moves} == set(FOUR)
    assert {move.why for move in made.moves} == {Why.DRAIN}
    assert {move.target for move in made.moves} == {THREE}  # The other one's loads are not known.
    assert plan(balance({ONE: {}, TWO: FOUR}), rules, 0.0).moves == ()


def test_a_drain_goes_on_while_paused_and_nothing_else_does() -> None:
    rules = Rules(drained=frozenset([ONE]), paused=True, pins=(Pin("live/*", THREE),))
    has: dict[str, dict[str, float]] = {ONE: {"chat/z": 1.0}, TWO: FOUR | {"live/x": 1.0}, THREE: {}}
    assert moves(plan(balance(has), rules, 0.0)) == [("chat/z", THREE, "drain")]


def test_a_drain_that_cannot_be_finished_says_so() -> None:
    apps = {TWO: frozenset(["live"])}
    made = plan(balance({ONE: {"chat/a": 1.0}, TWO: {}}, apps=apps), Rules(drained=frozenset([ONE])), 0.0)
    assert (made.moves, made.notes) == ((), ("chat/a stays on origin-1: no other origin may have it",))


def test_pinned_groups_go_home_and_stay_there() -> None:
    rules = Rules(pins=(Pin("chat/a", TWO), Pin("chat/*", ONE), Pin("live/*", "origin-9")))
    made = plan(balance({ONE: {**FOUR, "live/x": 1.0}, TWO: {}}, active=False), rules, 0.0)
    assert moves(made) == [("chat/a", TWO, "pin")]
    assert made.notes == ("pin live/*: origin-9 is not here, or serves other applications",)
    active = plan(balance({ONE: {**FOUR, "live/x": 1.0}, TWO: {}}), rules, 0.0)
    assert {move.group for move in active.moves} <= {"chat/a", "live/x"}


def test_pairs_are_parted_by_the_lighter_side_that_may_go() -> None:
    has = {ONE: {"chat/a": 1.0, "live/x": 5.0}, TWO: {"live/y": 1.0}, THREE: {}}
    rules = Rules(apart=(("chat/*", "live/*"),))
    assert moves(plan(balance(has, active=False), rules, 0.0)) == [("chat/a", THREE, "apart")]
    sticky = Rules(apart=(("chat/*", "live/*"),), sticky=("chat/*",))
    (move,) = plan(balance(has, active=False), sticky, 0.0).moves
    assert (move.group, move.reason) == ("live/x", "apart from chat/a")
    pinned = Rules(apart=(("chat/*", "live/*"),), pins=(Pin("chat/a", ONE), Pin("live/x", ONE)))
    made = plan(balance(has, active=False), pinned, 0.0)
    assert made.moves == ()
    assert made.notes == (
        "chat/* and live/* stay together on origin-1: nowhere else is room for one of them",
    )


def test_a_glob_apart_from_itself_has_one_group_an_origin() -> None:
    rules = Rules(apart=(("chat/*", "chat/*"),))
    made = plan(
        balance({ONE: {"chat/a": 1.0, "chat/b": 1.0, "chat/c": 1.0}, TWO: {}, THREE: {}}, active=False),
        rules,
        0.0,
    )
    assert sorted(move.target for move in made.moves) == [TWO, THREE]
    too_many = plan(balance({ONE: FOUR, TWO: {}, THREE: {}}, active=False), rules, 0.0)
    assert len(too_many.moves) == 2
    assert len(too_many.notes) == 1


def test_notes_are_not_endless() -> None:
    has: dict[str, dict[str, float]] = {ONE: {f"chat/{n}": 1.0 for n in range(50)}}
    made = plan(balance(has), Rules(drained=frozenset([ONE])), 0.0)
    assert len(made.notes) == 21
    assert made.notes[-1] == "and 30 more"


def a_plan(count: int, why: Why = Why.LOAD, uneven: bool = True) -> Plan:
    return Plan(tuple(Move(f"g{n}", ONE, TWO, 1.0, 0, why, "") for n in range(count)), uneven=uneven)


def test_the_pace_waits_for_loads_to_stay_uneven_and_begins_a_few_moves_at_a_time() -> None:
    pace = Pace(patience_s=5.0)
    assert pace.begin(a_plan(0), 0, 0.0, False) == ()
    pace.begin(a_plan(0), 0, 4.0, False)
    assert not pace.active
    pace.begin(a_plan(0, uneven=False), 0, 4.5, False)
    pace.begin(a_plan(0), 0, 5.0, False)
    pace.begin(a_plan(0), 0, 9.0, False)
    assert not pace.active
    pace.begin(a_plan(0), 0, 10.0, False)
    assert pace.active
    assert len(pace.begin(a_plan(40), 0, 12.0, False)) == AT_A_TIME
    assert len(pace.begin(a_plan(40), AT_A_TIME - 3, 14.0, False)) == 3
    assert pace.begin(a_plan(0, uneven=False), 3, 16.0, False) == ()
    assert pace.active
    pace.begin(a_plan(0, uneven=False), 0, 18.0, False)
    assert not pace.active
    assert len(pace.begin(a_plan(40, Why.DRAIN), 0, 20.0, True)) == 40


# Groups that nobody has


def cluster(wanted: tuple[str, ...], owners: dict[str, str] | None = None) -> ClusterSnapshot:
    origins = {name: Origin(name, apps=APPS) for name in (ONE, TWO)}
    return ClusterSnapshot(origins, owners or {}, wanted)


def test_groups_that_nobody_has_follow_the_rules_too() -> None:
    pins = (Pin("chat/vip", TWO),)
    assert decide(cluster(("chat/vip", "chat/a")), 0.0, rules=Rules(pins=pins)) == (
        Grant("chat/vip", TWO),
        Grant("chat/a", ONE),
    )
    drained = Rules(pins=pins, drained=frozenset([TWO]))
    notice, *grants = decide(cluster(("chat/vip", "chat/a")), 0.0, rules=drained)
    assert notice == Notice("pin chat/vip origin-2: origin-2 can have nothing now, the policy decides")
    assert grants == [Grant("chat/vip", ONE), Grant("chat/a", ONE)]
    assert decide(cluster(("chat/a",)), 0.0, rules=Rules(drained=frozenset([ONE, TWO]))) == ()
    apart = Rules(apart=(("chat/*", "live/*"),))
    decided = decide(cluster(("live/a", "live/b", "live/c"), {"chat/a": ONE}), 0.0, rules=apart)
    assert decided == tuple(Grant(f"live/{name}", TWO) for name in "abc")
    told = decide(cluster(("live/a",), {"chat/a": ONE, "chat/b": TWO}), 0.0, rules=apart)
    assert Notice("live/a: every origin has a group that it should be apart from") in told
    assert any(isinstance(action, Grant) for action in told)


def test_rules_survive_their_settings_and_what_is_odd_is_left_out() -> None:
    rules = Rules(
        (Pin("a/*", ONE), Pin("b", TWO)), (), ("s*",), (("a", "b"),), frozenset([THREE]), True, "pinned", 4
    )
    assert Rules.from_settings({**rules.to_settings(), "version": 4}) == rules
    odd = {
        "pins": [["a"], 5, ["b", TWO]],
        "sticky": "no",
        "apart": None,
        "drained": [1, ONE],
        "paused": 1,
        "policy": 7,
    }
    assert Rules.from_settings(odd) == Rules(pins=(Pin("b", TWO),), drained=frozenset([ONE]))
    assert Rules.from_settings({}) == Rules()
    many = Rules(pins=tuple(Pin(f"g{n}*", f"origin-{n}") for n in range(150)))
    found = many.pin_of("g149x")
    assert found is not None
    assert found.glob == "g1*"  # The first that matches.


def test_neighbours_follow_groups() -> None:
    neighbours = Neighbours((("a*", "b*"),), {"a1": ONE, "b1": TWO})
    assert neighbours.against("b1", ONE) == "a1"
    neighbours.put("a1", TWO)
    assert (neighbours.against("b1", ONE), neighbours.against("b2", TWO)) == ("", "a1")
