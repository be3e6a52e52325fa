"""The example applications when their origin is lost: the next one has the journal."""

import time
from typing import Any

import pytest
from headwater_origin import Application
from headwater_rtmp.shared_object import EventType
from support.journal_bench import JournaledBench, TestJournals
from support.origin_bench import FakeClient
from support.waiting import eventually

from apps import lobby
from apps.chat import Chat
from apps.lobby import Lobby
from apps.whiteboard import Whiteboard

GRACE_S = 0.2


def begin(application: type[Application]) -> JournaledBench:
    return JournaledBench(application, TestJournals(), resume_grace_s=GRACE_S)


def lost(bench: JournaledBench) -> JournaledBench:
    """Its successor, whose clients are all new ones."""
    bench.committed()
    bench.crash()
    successor = bench.successor(resume_grace_s=GRACE_S)
    successor._numbers = 100
    return successor


def call(client: FakeClient, name: str, *args: Any) -> Any:
    """The result of a call, or the code of its error."""
    client.command(name, *args, transaction=9)
    told: list[Any] = []

    def answered() -> Any:
        told.extend(client.take())
        return next((part for part in told if part[0] in ("_result", "_error")), None)

    answer = eventually(answered, within_s=10)
    return answer[2] if answer[0] == "_result" else answer[2]["code"]


def test_chat_goes_on_with_lines_numbers_and_rooms_and_those_who_are_gone_leave_once() -> None:
    bench = begin(Chat)
    link = bench.edge()
    ann, bob = (bench.member(link, arguments=(nick,)) for nick in ("ann", "bob"))
    assert call(ann, "say", "hello") == 1
    assert call(bob, "enter", "den") is None
    assert call(bob, "say_in", "den", "psst") == 1
    assert call(bob, "say", "hi") == 2

    bench = lost(bench)
    link = bench.edge()
    cat = bench.member(link, arguments=("cat",))
    log = cat.scope.shared_object("log", persistent=True)
    assert [log[number]["text"] for number in ("1", "2")] == ["hello", "hi"]
    assert call(cat, "say", "me too") == 3
    assert call(cat, "enter", "den") is None
    assert call(cat, "say_in", "den", "who?") == 2
    # Until the grace is over, they are here.
    assert sorted(cat.scope.shared_object("users")) == ["ann", "bob", "cat"]
    left: list[Any] = []

    def both_left() -> bool:
        bench.origin.tend(time.monotonic())
        left.extend(part[2] for part in cat.take() if part[0] == "left")
        return len(left) >= 2

    eventually(both_left, within_s=10)
    assert sorted(left) == ["ann", "bob"]
    assert list(cat.scope.shared_object("users")) == ["cat"]
    assert list(cat.scope.shared_object("users/den")) == ["cat"]

    bench = lost(bench)
    dan = bench.member(bench.edge(), arguments=("dan",))
    assert sorted(dan.scope.shared_object("users")) == ["cat", "dan"]
    assert call(dan, "say", "still here") == 4


def test_whiteboard_keeps_its_key_pages_and_shapes() -> None:
    line = {"kind": "line", "points": [0.0, 0.0, 1.0, 1.0], "color": "#000000"}
    bench = begin(Whiteboard)
    ann = bench.member(bench.edge(), arguments=("ann", "secret"))
    assert call(ann, "add_page", "2") is None
    ann.shared("page/2", (EventType.USE,), (EventType.REQUEST_CHANGE, "ann/1", line), persistent=True)
    eventually(lambda: "ann/1" in ann.scope.shared_object("page/2", persistent=True), within_s=10)

    bench = lost(bench)
    link = bench.edge()
    bob = bench.client(link, epoch=bench.epoch, arguments=("bob", "guess"))
    eventually(lambda: "NetConnection.Connect.Rejected" in str(bob.take()), within_s=10)
    eve = bench.member(link, arguments=("eve", "secret"))
    assert dict(eve.scope.shared_object("pages", persistent=True)) == {"1": "", "2": "ann"}
    assert dict(eve.scope.shared_object("page/2", persistent=True)) == {"ann/1": line}
    assert call(eve, "remove_page", "2") is None


def test_lobby_the_clock_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lobby.SECONDS_A_TURN, "blitz", 0.5)
    bench = begin(Lobby)
    link = bench.edge()
    for nick in ("ann", "bob"):
        assert call(bench.member(link, arguments=(nick,)), "sit", "blitz") is None

    bench = lost(bench)
    cat = bench.member(bench.edge(), arguments=("cat",))
    tables = cat.scope.shared_object("tables")
    eventually(lambda: tables["blitz"]["winner"], within_s=10)
    winner = tables["blitz"]["winner"]
    assert winner in ("ann", "bob")
    assert dict(cat.scope.shared_object("scores", persistent=True)) == {winner: 1}
    assert cat.scope.state == {}
