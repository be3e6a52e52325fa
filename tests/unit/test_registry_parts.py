"""The registry's smaller parts: permissions, connections, what `wait` says, tables."""

import io
import json

import pytest
from headwater_bus.control import (
    EpochSeen,
    Grants,
    HandOver,
    HistoryRequest,
    Leave,
    PutSettings,
    Refused,
    Register,
    Release,
    Renew,
    Subscribe,
    Suspect,
)
from headwater_bus.view import Assignment, NodeInfo
from headwater_registry import connections, show
from headwater_registry.connections import OBSERVER_S, Connections
from headwater_registry.permission import refusal
from headwater_registry.ready import missing, parse_wanted, ready_lines, rtmp_url
from rich.console import Console
from rich.table import Table

REGISTER = Register("origin-1", "origin", "a", "", 1.0)
GRANTS = Grants([["g", "origin-1"]])


@pytest.mark.parametrize(
    ("user", "message", "allowed"),
    [
        (None, REGISTER, True),
        (None, GRANTS, True),
        ("origin-1", REGISTER, True),
        ("origin-2", REGISTER, False),
        ("operator-1", REGISTER, False),
        ("origin-1", Renew("origin-1", "a"), True),
        ("edge-1", Renew("origin-1", "a"), False),
        ("origin-1", Leave("origin-1", "a"), True),
        ("origin-2", Leave("origin-1", "a"), False),
        ("balancer-1", GRANTS, True),
        ("origin-1", GRANTS, False),
        ("edge-1", GRANTS, False),
        ("operator-1", GRANTS, False),
        ("balancerx", GRANTS, False),
        ("origin-1", Release("g", 1), True),
        ("balancer-1", Release("g", 1), False),
        ("operator-1", Release("g", 1), False),
        (None, EpochSeen("g", 1), True),
        ("origin-1", EpochSeen("g", 1), True),
        ("edge-1", EpochSeen("g", 1), False),
        ("balancer-1", EpochSeen("g", 1), False),
        ("balancer-1", PutSettings(0, {}), True),
        ("operator-1", PutSettings(0, {}), False),
        ("origin-1", PutSettings(0, {}), False),
        ("origin-1", HandOver("g", 1, "origin-2", ""), True),
        ("balancer-1", HandOver("g", 1, "origin-2", ""), False),
        ("edge-1", Suspect("origin-1", "a"), True),
        ("registry-2", Suspect("origin-1", "a"), True),
        ("operator-1", Suspect("origin-1", "a"), False),
        ("operator-1", HistoryRequest(10), True),
        ("edge-1", HistoryRequest(10), True),
        ("operator-1", Subscribe("watch"), True),
        ("edge-1", Subscribe("edge-1"), True),
    ],
)
def test_keys_say_who_may_ask_what(user: str | None, message: object, allowed: bool) -> None:
    refused = refusal(user, message)
    assert (refused is None) is allowed
    if isinstance(refused, Refused):
        assert refused.code == "not-allowed"
        assert str(user) in refused.text


def test_a_node_is_told_on_the_connection_it_registered_on_last() -> None:
    found = Connections()
    found.registered("edge-1", b"1")
    found.subscribe(b"1", 0.0)
    found.registered("edge-1", b"1")
    assert found.subscribers(1e9) == [b"1"]
    found.registered("edge-1", b"2")
    assert found.subscribers(0.0) == []
    assert (found.node_at(b"1"), found.node_at(b"2")) == (None, "edge-1")
    found.subscribe(b"2", 0.0)
    found.gone("edge-1")
    found.gone("edge-1")
    assert found.subscribers(0.0) == []
    assert found.node_at(b"2") is None


def test_a_connection_that_goes_is_that_of_the_node_that_registered_on_it() -> None:
    found = Connections()
    assert found.registered("edge-1", b"1", 15) is None
    assert found.registered("edge-1", b"1", 15) is None
    assert found.registered("edge-2", b"2", 16) is None
    # The number is another's now: the former connection is gone, though nobody has said so yet.
    assert found.registered("edge-3", b"3", 15) == "edge-1"
    assert (found.disconnected(15), found.disconnected(15), found.disconnected(99)) == ("edge-3", None, None)
    assert found.disconnected(16) == "edge-2"
    assert found.registered("edge-4", b"4") is None
    assert found.disconnected(-1) is None


def test_an_observer_that_registers_stays_subscribed_for_as_long_as_it_is_a_node() -> None:
    found = Connections()
    found.subscribe(b"1", 0.0)
    found.registered("edge-1", b"1")
    assert found.subscribers(1e9) == [b"1"]
    found.registered("edge-2", b"1")
    assert found.node_at(b"1") == "edge-2"
    assert found.subscribers(0.0) == []


def test_observers_are_bounded_in_time_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Connections()
    found.subscribe(b"1", 0.0)
    found.subscribe(b"2", 1.0)
    found.subscribe(b"1", 2.0)
    assert found.subscribers(OBSERVER_S) == [b"2", b"1"]
    assert found.subscribers(OBSERVER_S + 1) == [b"1"]
    assert found.subscribers(OBSERVER_S + 2) == []
    monkeypatch.setattr(connections, "MAX_OBSERVERS", 2)
    for number in range(5):
        found.subscribe(b"%d" % number, 100.0)
    assert found.subscribers(100.0) == [b"3", b"4"]


def node(node_id: str, **meta: object) -> NodeInfo:
    return NodeInfo(node_id, node_id.partition("-")[0], "b", "tcp://127.0.0.1:40001", 1.0, meta)


def test_wanted_counts_are_minima() -> None:
    wanted = parse_wanted("registry=1, origin=2,edge=0")
    assert wanted == {"registry": 1, "origin": 2, "edge": 0}
    assert missing(wanted, [node("origin-1")]) == "registry 0 of 1, origin 1 of 2"
    unheard = node("origin-2", restored=True)
    assert missing({"origin": 2}, [node("origin-1"), unheard]) == "origin 1 of 2"
    assert missing(wanted, [node("origin-1"), node("origin-2"), node("origin-3"), node("registry-1")]) == ""


@pytest.mark.parametrize(
    "text", ["", "edge", "edge=", "edge=x", "edge=-1", "printer=1", "operator=1", "edge=1,,origin=1"]
)
def test_wanted_counts_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected ROLE=NUMBER"):
        parse_wanted(text)


def test_the_ready_line_names_every_address_and_what_to_try() -> None:
    edges = [
        node(f"edge-{n}", rtmp_shared="127.0.0.1:1935", rtmp=f"127.0.0.1:{1945 + n}") for n in (10, 2, 1)
    ]
    lines = ready_lines([node("origin-1"), *edges, node("registry-1")], 1935)
    assert lines[0] == (
        "ready: rtmp://127.0.0.1 (shared by the edges), rtmp://127.0.0.1:1946 (edge-1), "
        "rtmp://127.0.0.1:1947 (edge-2), rtmp://127.0.0.1:1955 (edge-10)"
    )
    text = "\n".join(lines[1:])
    assert "ffmpeg -re -i FILE.mp4 -c copy -f flv rtmp://127.0.0.1/live/a" in text
    assert "ffplay rtmp://127.0.0.1:1955/live/a" in text
    assert "headwater-client so rtmp://127.0.0.1/live" in text
    assert "headwater-registry groups" in text
    assert "--base-port" not in text
    assert 4 <= len(lines) <= 5


def test_the_ready_line_leaves_out_who_may_have_stopped_with_the_registry() -> None:
    here = node("edge-1", rtmp="127.0.0.1:1946", rtmp_shared="127.0.0.1:1935")
    gone = node("edge-4", rtmp="127.0.0.1:1949", rtmp_shared="127.0.0.1:1935", restored=True)
    assert "1949" not in ready_lines([here, gone], 1935)[0]
    assert "1946" in ready_lines([here, gone], 1935)[0]


def test_the_ready_line_of_another_base_port() -> None:
    edge = node("edge-1", rtmp_shared="0.0.0.0:21935", rtmp="0.0.0.0:21946")
    lines = ready_lines([edge], 21935)
    assert lines[0] == "ready: rtmp://127.0.0.1:21935 (shared by the edges), rtmp://127.0.0.1:21946 (edge-1)"
    assert "headwater-registry groups --base-port 21935" in lines[-1]
    assert ready_lines([node("origin-1")], 1935)[0].startswith("ready: no edge")
    assert rtmp_url("10.0.0.5:1935") == "rtmp://10.0.0.5"


def printed(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    return out.getvalue()


def test_tables_fit_80_columns_with_nothing_cut_off() -> None:
    nodes = [
        node("registry-1", since=1000),
        node("edge-12", since=0, rtmp_shared="127.0.0.1:21935", rtmp="127.0.0.1:21957"),
        NodeInfo(
            "origin-1",
            "origin",
            "b",
            "tcp://127.0.0.1:40001",
            2.5,
            {},
            {"cpu_percent": 99.6, "sessions": 12345},
        ),
        NodeInfo("origin-2", "origin", "b", "tcp://127.0.0.1:40001", 1.0, {}, {"cpu_percent": "odd"}),
    ]
    text = printed(show.nodes_table(nodes, 1000 + 3 * 86400 + 7200))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert len(text.splitlines()) == 6
    for part in (
        "3d 02h",
        "127.0.0.1:21957, 21935",
        "tcp://127.0.0.1:40001",
        "2.5",
        "100",
        "12345",
        "origin-2",
    ):
        assert part in text
    name = "chat/" + "x" * 100
    text = printed(
        show.groups_table(
            [
                Assignment("chat/lobby", "origin-1", 7),
                Assignment(name, "origin-2", 8),
                Assignment("live/a", "", 9),
            ]
        )
    )
    assert "live/a" in text
    assert "(orphan)" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert text.count("x") == 100
    assert "chat/lobby" in text


def test_changes_as_lines_and_as_json() -> None:
    row = node("origin-1").row()
    cases: list[tuple[list[object], str]] = [
        (["node", row], "node origin-1 capacity 1 at tcp://127.0.0.1:40001"),
        (["node-gone", "origin-1"], "node-gone origin-1"),
        (["group", "chat/lobby", "origin-1", 7], "group chat/lobby to origin-1 at epoch 7"),
        (["group-gone", "chat/lobby"], "group-gone chat/lobby"),
        (["load", "origin-1", {"cpu_percent": 4}], "load origin-1 cpu_percent=4"),
        (["group", "chat/lobby", "", 7], "group chat/lobby is an orphan of epoch 7"),
        (["settings", {"version": 3, "pins": {}, "drained": []}], "settings 3: drained, pins"),
        (["settings", {}], "settings 0: none"),
    ]
    for change, line in cases:
        assert show.change_line(change) == line
        assert json.loads(json.dumps(show.change_json(change)))["change"] == change[0]
    assert show.change_json(cases[2][0]) == {
        "change": "group",
        "group": "chat/lobby",
        "origin": "origin-1",
        "epoch": 7,
    }


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (59.9, "59s"), (185, "3m 05s"), (7620, "2h 07m"), (443_000, "5d 03h")]
)
def test_spans(seconds: float, text: str) -> None:
    assert show.span(seconds) == text
