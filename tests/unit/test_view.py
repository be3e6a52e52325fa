"""The mirror of the registry's table."""

from typing import Any

import gevent
import pytest
from headwater_bus.control import Changed, Snapshot
from headwater_bus.view import Assignment, ClusterView, NodeInfo, leading_balancer


def row(node_id: str, boot: str = "b1", load: dict[str, Any] | None = None) -> list[Any]:
    return [node_id, node_id.partition("-")[0], boot, "tcp://127.0.0.1:1", 1.0, {}, load or {}]


def view_with(seq: int = 5) -> tuple[ClusterView, list[Any]]:
    view = ClusterView()
    view.replace(Snapshot("f", seq, [row("origin-1"), row("edge-1")], [["a", "origin-1", 1]]))
    heard: list[Any] = []
    view.on_change(heard.append)
    return view, heard


def test_a_snapshot_tells_what_differs() -> None:
    view, heard = view_with()
    assert view.groups == {"a": Assignment("a", "origin-1", 1)}
    view.replace(Snapshot("g", 1, [row("origin-1", "b2"), row("edge-1")], [["b", "origin-1", 2]]))
    assert heard == [["group-gone", "a"], ["node", row("origin-1", "b2")], ["group", "b", "origin-1", 2]]
    assert (view.feed, view.seq, view.nodes["origin-1"].boot) == ("g", 1, "b2")


def test_changes_in_order_repeated_missing_and_of_another_feed() -> None:
    view, heard = view_with()
    assert view.apply(Changed("f", 6, [["group", "b", "origin-1", 2]]))
    assert view.apply(Changed("f", 6, [["group", "b", "origin-9", 9]]))  # Heard already.
    assert view.groups["b"].epoch == 2
    assert not view.apply(Changed("f", 8, [["group-gone", "b"]]))
    assert not view.apply(Changed("g", 7, [["group-gone", "b"]]))
    assert "b" in view.groups
    assert view.apply(Changed("f", 7, [["node-gone", "edge-1"], ["node-gone", "edge-1"]]))
    assert heard == [["group", "b", "origin-1", 2], ["node-gone", "edge-1"]]


def test_orphans_and_settings_are_told_when_they_change() -> None:
    view, heard = view_with()
    assert view.apply(
        Changed("f", 6, [["node-gone", "origin-1"], ["group", "a", "", 1], ["settings", {"version": 1}]])
    )
    assert view.groups["a"] == Assignment("a", "", 1)
    assert view.settings == {"version": 1}
    view.replace(Snapshot("g", 1, [row("edge-1")], [["a", "", 1]], {"version": 1}))
    assert heard == [["node-gone", "origin-1"], ["group", "a", "", 1], ["settings", {"version": 1}]]
    # A registry of a former version knows of no settings.
    view.replace(Snapshot("h", 1, [row("edge-1")], [["a", "origin-2", 2]]))
    assert heard[3:] == [["group", "a", "origin-2", 2], ["settings", {}]]


def balancer(node_id: str, since: object) -> NodeInfo:
    return NodeInfo(
        node_id, node_id.partition("-")[0], "b", "", 1.0, {} if since is None else {"since": since}
    )


@pytest.mark.parametrize(
    ("nodes", "leading"),
    [
        ([], None),
        ([balancer("origin-1", 1)], None),
        ([balancer("balancer-2", 10), balancer("balancer-1", 20), balancer("edge-1", 1)], "balancer-2"),
        ([balancer("balancer-2", 10), balancer("balancer-1", 10)], "balancer-1"),
        ([balancer("balancer-1", None), balancer("balancer-2", 99)], "balancer-2"),
        ([balancer("balancer-1", "x"), balancer("balancer-0", None)], "balancer-0"),
    ],
)
def test_the_balancer_that_came_first_leads(nodes: list[NodeInfo], leading: str | None) -> None:
    found = leading_balancer(nodes)
    assert (found.node_id if found else None) == leading


def test_loads_are_told_and_are_no_change_of_the_node() -> None:
    view, heard = view_with()
    view.apply(Changed("f", 6, [["load", "origin-1", {"sessions": 3}], ["load", "origin-7", {}]]))
    assert view.nodes["origin-1"].load == {"sessions": 3}
    assert heard == [["load", "origin-1", {"sessions": 3}]]
    view.apply(Changed("f", 7, [["node", row("origin-1", load={"sessions": 4})]]))
    assert len(heard) == 1
    assert view.nodes["origin-1"].load == {"sessions": 4}


def test_rows_that_are_none_and_listeners_that_fail_are_passed_over() -> None:
    view, heard = view_with()

    def fail(change: Any) -> None:
        raise KeyError("a bug")

    view.on_change(fail)
    later: list[Any] = []
    view.on_change(later.append)
    changes: list[Any] = [[], ["group"], ["node", 5], ["load", []], ["what"], ["group-gone", "a"]]
    assert view.apply(Changed("f", 6, changes))
    assert heard == later == [["group-gone", "a"]]
    view.replace(Snapshot("f", 7, [[], [[]], row("edge-2")], [[]]))
    assert set(view.nodes) == {"edge-2"}


def test_wait_for() -> None:
    view, _ = view_with()
    assert view.wait_for(lambda: "a" in view.groups, 0)
    assert not view.wait_for(lambda: "b" in view.groups, 0.01)
    waiting = [gevent.spawn(view.wait_for, lambda: "b" in view.groups, 30) for _ in range(2)]
    gevent.sleep(0)
    view.apply(Changed("f", 6, [["group-gone", "a"]]))
    gevent.sleep(0)
    view.apply(Changed("f", 7, [["group", "b", "origin-1", 2]]))
    assert [greenlet.get(timeout=5) for greenlet in waiting] == [True, True]


@pytest.mark.parametrize(
    ("meta", "apps"),
    [
        ({"apps": ["live", "chat"]}, {"live", "chat"}),
        ({"apps": ["live", 5, ["x"], {}]}, {"live"}),
        ({"apps": 5}, set()),
        ({"apps": "live"}, set()),
        ({"apps": {"live": 1}}, set()),
        ({"apps": None}, set()),
        ({}, set()),
    ],
)
def test_the_applications_of_a_node_are_read_checked(meta: dict[str, Any], apps: set[str]) -> None:
    assert NodeInfo("origin-1", "origin", "b", "", 1.0, meta).apps == apps


def test_a_node_gives_its_row_back() -> None:
    assert NodeInfo(*row("edge-1")).row() == row("edge-1")
