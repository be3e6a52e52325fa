"""What the balancer counts, and what `status` shows."""

import dataclasses
import io

from headwater_balancer.holdings import GRANT_S, Holdings
from headwater_balancer.status import origin_rows, status_json, status_lines, status_table
from headwater_bus.control import Snapshot
from headwater_bus.view import NodeInfo
from rich.console import Console

NODES = [
    NodeInfo("origin-2", "origin", "b", "tcp://127.0.0.1:2", 1.0, {}, {"cpu_percent": 12.5, "sessions": 3}),
    NodeInfo("edge-1", "edge", "b", "", 1.0),
    NodeInfo("origin-1", "origin", "b", "tcp://127.0.0.1:1", 2.0, {}, {"cpu_percent": "odd"}),
]


def counts(holdings: Holdings, now: float = 0.0) -> dict[str, int]:
    return {name: origin.groups for name, origin in holdings.snapshot(NODES, (), now).origins.items()}


def test_the_feed_is_counted() -> None:
    holdings = Holdings()
    holdings.change(["group", "a", "origin-1", 1])
    holdings.change(["group", "b", "origin-1", 2])
    holdings.change(["group", "b", "origin-1", 2])
    assert counts(holdings) == {"origin-1": 2, "origin-2": 0}
    holdings.change(["group", "b", "origin-2", 3])
    holdings.change(["group-gone", "a"])
    holdings.change(["group-gone", "a"])
    holdings.change(["load", "origin-1", {}])
    assert counts(holdings) == {"origin-1": 0, "origin-2": 1}
    snapshot = holdings.snapshot(NODES, ("b", "c"), 0.0)
    assert (snapshot.owners, snapshot.wanted) == ({"b": "origin-2"}, ("b", "c"))
    assert [holdings.owner(group) for group in ("a", "b", "c")] == [None, "origin-2", None]
    assert list(snapshot.origins) == ["origin-1", "origin-2"]
    assert (snapshot.origins["origin-2"].cpu_percent, snapshot.origins["origin-2"].sessions) == (12.5, 3)
    assert (snapshot.origins["origin-1"].cpu_percent, snapshot.origins["origin-1"].capacity) == (0.0, 2.0)


def test_an_orphan_counts_nowhere_until_it_has_an_origin_again() -> None:
    holdings = Holdings()
    holdings.change(["group", "a", "origin-1", 1])
    holdings.change(["group", "a", "", 1])
    assert (counts(holdings), list(holdings.orphans)) == ({"origin-1": 0, "origin-2": 0}, ["a"])
    assert holdings.owner("a") == ""
    assert holdings.snapshot(NODES, ("a",), 0.0).owners == {}
    holdings.granting("a", "origin-2", 0.0)
    assert counts(holdings) == {"origin-1": 0, "origin-2": 1}
    holdings.change(["group", "a", "origin-2", 2])
    assert (counts(holdings), holdings.orphans) == ({"origin-1": 0, "origin-2": 1}, {})
    holdings.change(["group", "a", "", 2])
    holdings.change(["group-gone", "a"])
    assert (counts(holdings), holdings.orphans) == ({"origin-1": 0, "origin-2": 0}, {})


def test_a_grant_counts_once_from_its_start_to_the_feed() -> None:
    holdings = Holdings()
    holdings.granting("a", "origin-1", 0.0)
    assert counts(holdings) == {"origin-1": 1, "origin-2": 0}
    holdings.change(["group", "a", "origin-1", 1])
    holdings.not_granted("a")
    assert counts(holdings) == {"origin-1": 1, "origin-2": 0}
    holdings.granting("b", "origin-1", 0.0)
    holdings.not_granted("b")
    assert counts(holdings) == {"origin-1": 1, "origin-2": 0}


def test_a_grant_that_the_feed_never_shows_is_forgotten() -> None:
    holdings = Holdings()
    holdings.granting("a", "origin-1", 0.0)
    holdings.granting("b", "origin-2", 1.0)
    assert counts(holdings, GRANT_S - 0.1) == {"origin-1": 1, "origin-2": 1}
    assert counts(holdings, GRANT_S) == {"origin-1": 0, "origin-2": 1}
    holdings.granting("b", "origin-1", 2.0)
    assert counts(holdings, GRANT_S + 1) == {"origin-1": 1, "origin-2": 0}


def test_turns_begin_again_when_the_origins_change() -> None:
    holdings = Holdings()
    holdings.snapshot(NODES, (), 0.0)
    holdings.granting("a", "origin-1", 0.0)
    assert holdings.snapshot(NODES, (), 0.0).origins["origin-1"].turns == 1
    snapshot = holdings.snapshot(NODES, (), 0.0, frozenset(["origin-2"]))
    assert list(snapshot.origins) == ["origin-1"]
    assert snapshot.origins["origin-1"].turns == 0


SNAPSHOT = Snapshot(
    "feed",
    1,
    [
        *(node.row() for node in NODES),
        NodeInfo("balancer-1", "balancer", "b", "tcp://127.0.0.1:3", 1.0).row(),
    ],
    [[f"g{n}", "origin-1" if n < 27 else "origin-2", n] for n in range(40)],
)


def test_an_origin_that_says_nonsense_of_its_applications_has_none() -> None:
    odd = NodeInfo("origin-3", "origin", "b", "tcp://127.0.0.1:3", 1.0, {"apps": 5})
    snapshot = Holdings().snapshot([odd], ("live/a",), 0.0)
    assert snapshot.origins["origin-3"].apps == frozenset()
    assert snapshot.serving("live/a").origins == {}


STATE = {
    "policy": "rendezvous",
    "origins": {"origin-1": {"load": 13.5, "fair_share": 12.25}},
    "moving": [["chat/a", "origin-1", "origin-2", "moving", ""]] * 7,
    "waiting": 3,
    "notes": ["chat/b stays on origin-1: no other origin may have it"],
}
SETTINGS = {
    "pins": [["vip/*", "origin-2"]],
    "sticky": ["show/*"],
    "apart": [["a/*", "b/*"]],
    "drained": ["origin-2", "origin-9"],
    "paused": True,
    "policy": "",
    "version": 3,
}


def test_status_compares_shares_with_capacities() -> None:
    first, second = origin_rows(SNAPSHOT, {})
    assert (first["node_id"], first["groups"], first["groups_percent"]) == ("origin-1", 27, 67.5)
    assert (first["capacity"], first["capacity_percent"]) == (2.0, 66.7)
    assert (second["node_id"], second["cpu_percent"], second["sessions"]) == ("origin-2", 12.5, 3)
    assert (first["load"], first["fair_share"], first["drained"]) == (None, None, False)
    whole = status_json(SNAPSHOT, "balancer-1", {"policy": "rendezvous"}, {"granted": 40})
    assert (whole["balancer"], whole["policy"], whole["groups"], whole["origins"]) == (
        "balancer-1", "rendezvous", 40, [first, second],
    )  # fmt: skip
    assert (whole["granted"], whole["paused"], whole["standby"]) == (40, False, [])
    out = io.StringIO()
    Console(file=out, width=80).print(status_table([first, second]))
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 80
    for part in ("origin-1", "67.5 %", "66.7 %", "total", "40"):
        assert part in out.getvalue()


def test_status_shows_rules_orphans_and_what_moves() -> None:
    groups = [*SNAPSHOT.groups, ["lost/a", "", 41]]
    snapshot = dataclasses.replace(SNAPSHOT, groups=groups, settings=SETTINGS)
    whole = status_json(snapshot, "balancer-1", STATE, {"granted": 40, "slowest_assign_ms": 2.5})
    assert (whole["orphans"], whole["paused"], whole["waiting"], len(whole["moving"])) == (1, True, 3, 7)
    assert whole["moving"][0] == {"group": "chat/a", "from": "origin-1", "to": "origin-2"}
    assert [row["drained"] for row in whole["origins"]] == [False, True]
    out = io.StringIO()
    Console(file=out, width=80).print(status_table(whole["origins"]))
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 80
    for part in ("13.5", "12.2", "drained"):
        assert part in out.getvalue()
    lines = status_lines(whole, {"slowest_assign_ms": 2.5})
    for line in (
        "balancer-1: policy rendezvous, 40 granted since its start, slowest 2.5 ms",
        "balancing is paused: only drained origins are emptied (headwater-balancer resume)",
        "pinned: vip/* to origin-2",
        "sticky: show/*",
        "apart: a/* and b/*",
        "drained, and not here: origin-9",
        "orphans: 1 groups have lost their origin and wait for another",
        "moving: chat/a from origin-1 to origin-2",
        "moving: 5 more",
        "note: chat/b stays on origin-1: no other origin may have it",
    ):
        assert line in lines


def test_status_of_an_empty_cluster() -> None:
    empty = status_json(Snapshot("feed", 0, [], []), "", {}, {})
    assert (empty["balancer"], empty["policy"], empty["groups"], empty["origins"]) == (None, None, 0, [])
    assert "no balancer is registered" in status_lines(empty, {})[0]
    idle = Snapshot("feed", 0, [NODES[0].row()], [])
    assert origin_rows(idle, {})[0]["groups_percent"] == 0.0
