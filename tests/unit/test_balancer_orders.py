"""What operators may order, and what is refused with which words."""

import pytest
from headwater_balancer.loads import CPU_FREE, FRESH_S, GROUP, LoadBook, idle_load
from headwater_balancer.orders import MAX_RULES, OrderError, Sight, check_move, ordered
from headwater_balancer.policy import Pin
from headwater_balancer.rules import Rules

APPS = frozenset(("chat", "live"))
SIGHT = Sight(
    {"origin-1": APPS, "origin-2": APPS, "origin-3": frozenset(["live"])},
    {"chat/a": "origin-1", "live/x": "origin-2", "live/lost": "", "live/busy": "origin-1"},
    frozenset(["live/busy"]),
    ("least-loaded", "round-robin"),
    "least-loaded",
)
RULES = Rules(
    pins=(Pin("chat/*", "origin-1"),),
    sticky=("show/*",),
    apart=(("live/x", "live/y"),),
    drained=frozenset(["origin-3"]),
)


@pytest.mark.parametrize(
    ("order", "values", "after"),
    [
        ("pin", ["live/*", "origin-2"], {"pins": [["chat/*", "origin-1"], ["live/*", "origin-2"]]}),
        ("pin", ["chat/*", "origin-2"], {"pins": [["chat/*", "origin-2"]]}),
        ("unpin", ["chat/*"], {"pins": []}),
        ("stick", ["chat/b"], {"sticky": ["show/*", "chat/b"]}),
        ("unstick", ["show/*"], {"sticky": []}),
        ("apart", ["a", "b"], {"apart": [["live/x", "live/y"], ["a", "b"]]}),
        ("unapart", ["live/y", "live/x"], {"apart": []}),
        ("drain", ["origin-1"], {"drained": ["origin-1", "origin-3"]}),
        ("undrain", ["origin-3"], {"drained": []}),
        ("policy", ["round-robin"], {"policy": "round-robin"}),
        ("pause", [], {"paused": True}),
    ],
)
def test_an_order_changes_what_it_says_and_nothing_else(
    order: str, values: list[str], after: dict[str, object]
) -> None:
    assert ordered(order, values, RULES, SIGHT).to_settings() == {**RULES.to_settings(), **after}


@pytest.mark.parametrize(
    ("order", "values", "code", "text"),
    [
        (
            "pin",
            ["a", "origin-9"],
            "unknown-origin",
            "origin-9 is not here; origins: origin-1, origin-2, origin-3",
        ),
        (
            "pin",
            ["a", "origin-3"],
            "drained",
            "origin-3 is drained; headwater-balancer undrain origin-3 first",
        ),
        ("pin", ["chat/*", "origin-1"], "already", "chat/* is pinned to origin-1 already"),
        ("pin", ["", "origin-1"], "bad-glob", "expected 1 to 1300 printable bytes"),
        ("pin", ["a\nb", "origin-1"], "bad-glob", "printable"),
        ("pin", ["a"], "bad-order", "pin: expected 2 values"),
        ("unpin", ["live/*"], "unknown-rule", "live/* is not pinned; pins: chat/*"),
        ("stick", ["show/*"], "already", "sticky already"),
        ("unstick", ["a"], "unknown-rule", "a is not sticky; sticky: show/*"),
        ("apart", ["live/y", "live/x"], "already", "kept apart already"),
        ("unapart", ["a", "b"], "unknown-rule", "a and b are not kept apart; pairs: live/x and live/y"),
        ("drain", ["origin-3"], "already", "origin-3 is drained already"),
        ("drain", ["origin-9"], "unknown-origin", "origin-9 is not here"),
        ("undrain", ["origin-1"], "unknown-rule", "origin-1 is not drained; drained: origin-3"),
        (
            "policy",
            ["nope"],
            "unknown-policy",
            "policy 'nope' is not known; expected one of least-loaded, round-robin",
        ),
        ("policy", ["least-loaded"], "already", "least-loaded is the policy already"),
        ("resume", [], "already", "balancing is not paused"),
        ("dance", [], "unknown-order", "order 'dance' is not known; expected one of pin, unpin"),
    ],
)
def test_what_makes_no_sense_is_refused(order: str, values: list[str], code: str, text: str) -> None:
    with pytest.raises(OrderError) as caught:
        ordered(order, values, RULES, SIGHT)
    assert caught.value.code == code
    assert text in str(caught.value)


def test_the_last_origin_is_not_drained() -> None:
    drained = Rules(drained=frozenset(["origin-1", "origin-3"]))
    with pytest.raises(
        OrderError, match="origin-2 is the last origin that is not drained; start or undrain another one"
    ):
        ordered("drain", ["origin-2"], drained, SIGHT)
    with pytest.raises(
        OrderError, match="no other origin that is not drained serves chat, which origin-1 has groups of"
    ):
        ordered("drain", ["origin-1"], Rules(drained=frozenset(["origin-2"])), SIGHT)
    with pytest.raises(OrderError, match="balancing is paused already"):
        ordered("pause", [], Rules(paused=True), SIGHT)


def test_rules_have_a_limit() -> None:
    full = Rules(
        pins=tuple(Pin(f"g{n}", "origin-1") for n in range(MAX_RULES)),
        sticky=tuple(f"g{n}" for n in range(MAX_RULES)),
        apart=tuple((f"g{n}", "x") for n in range(MAX_RULES)),
    )
    for order, values in (("pin", ["new", "origin-1"]), ("stick", ["new"]), ("apart", ["new", "x"])):
        with pytest.raises(OrderError, match=f"there are {MAX_RULES} .* already; take some away first"):
            ordered(order, values, full, SIGHT)
    assert len(ordered("pin", ["g5", "origin-2"], full, SIGHT).pins) == MAX_RULES


@pytest.mark.parametrize(
    ("group", "origin", "code", "text"),
    [
        (
            "chat/nope",
            "origin-2",
            "unknown-group",
            "nobody has 'chat/nope' (headwater-registry groups lists them)",
        ),
        ("chat/x", "origin-2", "unknown-group", "nobody has 'chat/x'; did you mean live/x?"),
        ("live/x", "origin-9", "unknown-origin", "origin-9 is not here"),
        ("live/x", "origin-2", "already", "live/x is on origin-2 already"),
        ("live/x", "origin-3", "not-there", "origin-3 is drained"),
        (
            "live/lost",
            "origin-2",
            "orphan",
            "live/lost: its origin is gone, and it gets another one right now",
        ),
        ("live/busy", "origin-2", "moving", "live/busy is being moved right now"),
        (
            "chat/a",
            "origin-2",
            "not-there",
            "chat/a is pinned to origin-1 by chat/*; headwater-balancer unpin 'chat/*' first",
        ),
    ],
)
def test_moves_that_make_no_sense_are_refused(group: str, origin: str, code: str, text: str) -> None:
    with pytest.raises(OrderError) as caught:
        check_move(group, origin, RULES, SIGHT)
    assert caught.value.code == code
    assert text in str(caught.value)


def test_a_move_to_what_it_should_be_apart_from_or_where_it_is_not_served_is_refused() -> None:
    apart = Rules(apart=(("live/x", "chat/*"),))
    with pytest.raises(OrderError, match="live/x is kept apart from chat/a, which is on origin-1"):
        check_move("live/x", "origin-1", apart, SIGHT)
    with pytest.raises(OrderError, match="origin-3 does not serve chat; it serves live"):
        check_move("chat/a", "origin-3", Rules(), SIGHT)
    check_move("live/x", "origin-3", Rules(), SIGHT)


# What groups cost


def rows(messages: int, payload: int, epoch: int = 1, members: int = 10) -> list[list[object]]:
    return [["chat/a", epoch, members, messages, payload]]


def test_rates_come_from_totals() -> None:
    book = LoadBook()
    assert book.take("origin-1", rows(0, 0), 0.0, 0.0) == 0
    assert (book.rates("chat/a").members, book.rates("chat/a").messages_s) == (10, 0.0)
    book.take("origin-1", rows(2000, 4_000_000), 0.0, 2.0)
    rates = book.rates("chat/a")
    assert (rates.messages_s, rates.bytes_s) == (1000.0, 2e6)
    for second in range(4, 60, 2):
        book.take("origin-1", rows(1000 * second, 2_000_000 * second), 0.0, float(second))
    assert book.rates("chat/a").load == pytest.approx(idle_load(10, 1000.0, 2e6), rel=0.02)
    assert idle_load(10, 1000.0, 2e6) == pytest.approx(0.5 + 0.2 + 10.0 + 2.0)
    assert book.rates("chat/unknown").load == GROUP
    assert book.busy("chat/a") > book.busy("chat/unknown")


def test_after_a_move_rates_go_on_and_totals_begin_anew() -> None:
    book = LoadBook()
    for second in (0, 2, 4, 6):
        book.take("origin-1", rows(500 * second, 0), 0.0, float(second))
    before = book.rates("chat/a")
    book.take("origin-2", rows(7, 0, epoch=2), 0.0, 7.0)
    after = book.rates("chat/a")
    assert (after.messages_s, after.members) == (before.messages_s, 10)
    book.take("origin-2", rows(1007, 0, epoch=2), 0.0, 9.0)
    assert book.rates("chat/a").messages_s == pytest.approx(500.0)


def test_cpu_that_groups_do_not_explain_is_spread_over_them() -> None:
    book = LoadBook()
    for second in range(0, 100, 2):
        book.take(
            "origin-1",
            [["chat/a", 1, 0, 0, 0], ["chat/b", 1, 0, 1000 * second, 0]],
            CPU_FREE + 42.0,
            float(second),
        )
        book.take("origin-2", [["chat/c", 1, 0, 0, 0]], CPU_FREE, float(second))
    a, b, c = (book.rates(f"chat/{name}").load for name in "abc")
    assert a + b == pytest.approx(42.0, rel=0.02)
    assert b / a == pytest.approx(21.0, rel=0.02)
    assert c == GROUP
    totals = book.totals([("chat/a", "origin-1"), ("chat/b", "origin-1"), ("chat/c", "origin-2")])
    assert totals["origin-1"].load == pytest.approx(a + b)


def test_nonsense_is_counted_and_freshness_ends() -> None:
    book = LoadBook()
    nonsense = [
        5,
        [],
        ["g"],
        ["g", 1, 2, 3],
        ["g", 1, -2, 3, 4],
        ["g", 1, 2.5, 3, 4],
        [7, 1, 2, 3, 4],
        ["ok", 1, 1, 1, 1],
    ]
    assert book.take("origin-1", nonsense, 0.0, 5.0) == 7
    assert book.rates("ok").members == 1
    assert book.is_fresh("origin-1", 5.0 + FRESH_S)
    assert not book.is_fresh("origin-1", 5.1 + FRESH_S)
    assert not book.is_fresh("origin-2", 5.0)
    book.origin_gone("origin-1")
    assert not book.is_fresh("origin-1", 5.0)
    assert book.rates("ok").members == 1
    book.forget("ok")
    assert book.rates("ok").members == 0
