"""What the balancer counts, and what `status` shows."""

import io

from headwater_balancer.holdings import GRANT_S, Holdings
from headwater_balancer.status import balancer_of, origin_rows, status_json, status_table
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
    assert list(snapshot.origins) == ["origin-1", "origin-2"]
    assert (snapshot.origins["origin-2"].cpu_percent, snapshot.origins["origin-2"].sessions) == (12.5, 3)
    assert (snapshot.origins["origin-1"].cpu_percent, snapshot.origins["origin-1"].capacity) == (0.0, 2.0)


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


def test_status_compares_shares_with_capacities() -> None:
    first, second = origin_rows(SNAPSHOT)
    assert (first["node_id"], first["groups"], first["groups_percent"]) == ("origin-1", 27, 67.5)
    assert (first["capacity"], first["capacity_percent"]) == (2.0, 66.7)
    assert (second["node_id"], second["cpu_percent"], second["sessions"]) == ("origin-2", 12.5, 3)
    found = balancer_of(SNAPSHOT)
    assert found is not None
    whole = status_json(SNAPSHOT, found.node_id, {"policy": "rendezvous", "granted": 40})
    assert (whole["balancer"], whole["policy"], whole["groups"], whole["origins"]) == (
        "balancer-1", "rendezvous", 40, [first, second],
    )  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=80).print(status_table([first, second]))
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 80
    for part in ("origin-1", "67.5 %", "66.7 %", "total", "40"):
        assert part in out.getvalue()


def test_status_of_an_empty_cluster() -> None:
    empty = Snapshot("feed", 0, [], [])
    assert balancer_of(empty) is None
    assert status_json(empty, "", {}) == {
        "balancer": None,
        "policy": None,
        "granted": 0,
        "groups": 0,
        "origins": [],
    }
    idle = Snapshot("feed", 0, [NODES[0].row()], [])
    assert origin_rows(idle)[0]["groups_percent"] == 0.0
