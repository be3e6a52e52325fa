"""The example applications, driven by real clients through a real cluster."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from headwater_client import (
    CallFailed,
    ChangeEvent,
    ConnectError,
    NetConnection,
    SharedObject,
    SharedObjectError,
    StreamError,
)
from support.cluster import Cluster
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster

Enter = Callable[..., NetConnection]


@pytest.fixture
def enter(cluster: Cluster) -> Iterator[Enter]:
    """Connects to an instance with these arguments: each client through another edge and with another AMF than the one before."""
    with ExitStack() as connections:
        count = 0

        def connect(path: str, *arguments: Any) -> NetConnection:
            nonlocal count
            count += 1
            url = cluster.rtmp_url(1 + count % 2, path)
            encoding = (0, 3)[count // 2 % 2]
            connection = NetConnection(url, *arguments, object_encoding=encoding, timeout_s=10 * TIME_FACTOR)
            return connections.enter_context(connection)

        yield connect


def shown(connection: NetConnection, name: str, persistent: bool = False) -> SharedObject:
    """An object with its contents."""
    shared = connection.shared_object(name, persistent)
    shared.wait_synced()
    return shared


def hears(connection: NetConnection, *names: str) -> list[tuple[Any, ...]]:
    """What the server calls by these names, from now on."""
    heard: list[tuple[Any, ...]] = []
    for name in names:
        connection.on(name, lambda *args, name=name: heard.append((name, *args)))
    return heard


def becomes(look: Callable[[], Any], expected: Any) -> None:
    try:
        eventually(lambda: look() == expected, within_s=10)
    except AssertionError:
        assert look() == expected


def code(function: Callable[..., Any], *args: Any) -> str:
    """The code of the error that a call ends with."""
    with pytest.raises(CallFailed) as caught:
        function(*args)
    return caught.value.code


# Chat


def test_chat_has_presence_history_and_whispers(enter: Enter) -> None:
    ann = enter("chat/one", "ann")
    heard = hears(ann, "joined", "left", "said", "whispered", "renamed")
    bob = enter("chat/one", " bob  b ")
    users = shown(ann, "users")
    assert set(users) == {"ann", "bob b"}
    with pytest.raises(ConnectError, match="ann is here already"):
        enter("chat/one", "ann")
    assert ann.call("say", " hello ") == 1
    assert bob.call("say", "hi") == 2
    bob.call("whisper", "ann", "psst")
    assert bob.call("rename", "rob") == "rob"
    assert code(bob.call, "whisper", "nobody", "x") == "Chat.NoSuchUser"
    assert code(bob.call, "say", "") == "Chat.BadLine"
    cat = enter("chat/one", "cat")
    log = shown(cat, "log", persistent=True)
    assert {key: log[key]["text"] for key in log if key != "last"} == {"1": "hello", "2": "hi"}
    assert (log["last"], log["2"]["nick"]) == (2, "bob b")
    cat.call("say", "me too")
    becomes(lambda: log.get("3", {}).get("text"), "me too")
    becomes(lambda: set(users), {"ann", "rob", "cat"})
    cat.close()
    becomes(lambda: set(users), {"ann", "rob"})
    expected = [
        ("joined", "bob b"),
        ("said", 1, "ann", "hello"),
        ("said", 2, "bob b", "hi"),
        ("whispered", "bob b", "psst"),
        ("renamed", "bob b", "rob"),
        ("joined", "cat"),
        ("said", 3, "cat", "me too"),
        ("left", "cat"),
    ]
    becomes(lambda: heard, expected)
    # Nobody writes but the chat.
    log_of_ann = shown(ann, "log", persistent=True)
    log_of_ann["1"] = "forged"
    with pytest.raises(SharedObjectError, match="NoWriteAccess"):
        log_of_ann.flush()
    assert log_of_ann["1"]["text"] == "hello"


def test_chat_tells_who_comes_back_only_what_is_new(enter: Enter) -> None:
    ann, bob = enter("chat/back", "ann"), enter("chat/back", "bob")
    for number in range(20):
        ann.call("say", f"line {number}")
    before = shown(bob, "log", persistent=True)
    bob.close()
    ann.call("say", "news")
    again = enter("chat/back", "bob")
    changes: list[ChangeEvent] = []
    log = again.shared_object("log", persistent=True, known=before)
    log.on_change(changes.append)
    log.wait_synced()
    becomes(lambda: [(event.kind, event.key) for event in changes], [("change", "21"), ("change", "last")])
    assert dict(log) == dict(shown(ann, "log", persistent=True))
    assert len(log) == 22


def test_chat_rooms_have_their_own_people_and_history(enter: Enter) -> None:
    ann, bob, cat = (enter("chat/rooms", nick) for nick in ("ann", "bob", "cat"))
    heard = {name: hears(who, "said_in") for name, who in (("ann", ann), ("bob", bob), ("cat", cat))}
    for who in (ann, bob):
        who.call("enter", "den")
        who.call("enter", "den")
    users = shown(cat, "users/den")
    assert set(users) == {"ann", "bob"}
    assert ann.call("say_in", "den", "hello") == 1
    assert bob.call("say_in", "den", "hi") == 2
    assert code(cat.call, "say_in", "den", "x") == "Chat.NotInRoom"
    assert code(cat.call, "enter", "a/b") == "Chat.BadRoom"
    assert ann.call("say", "outside") == 1
    assert ann.call("rename", "eve") == "eve"
    becomes(lambda: set(users), {"eve", "bob"})
    bob.call("exit", "den")
    assert code(bob.call, "exit", "den") == "Chat.NotInRoom"
    becomes(lambda: set(users), {"eve"})
    ann.close()
    becomes(lambda: set(users), set())
    log = shown(cat, "log/den", persistent=True)
    assert [log[str(number)]["text"] for number in (1, 2)] == ["hello", "hi"]
    both = [("said_in", "den", 1, "ann", "hello"), ("said_in", "den", 2, "bob", "hi")]
    becomes(lambda: heard["bob"], both)
    assert heard["ann"] == both
    assert heard["cat"] == []


# Whiteboard

LINE = {"kind": "line", "points": [0.0, 0.0, 10.0, 20.0], "color": "#ff0000"}


def refused(shared: SharedObject, slot: str, value: Any) -> None:
    """The change is taken back."""
    before = shared.get(slot)
    shared[slot] = value
    with pytest.raises(SharedObjectError, match="NoWriteAccess"):
        shared.flush()
    assert shared.get(slot) == before


def test_whiteboard_lets_everybody_draw_and_the_chair_clear(enter: Enter) -> None:
    ann, bob = enter("whiteboard/one", "ann", "secret"), enter("whiteboard/one", "bob")
    with pytest.raises(ConnectError, match="not the key of this board"):
        enter("whiteboard/one", "eve", "guess")
    with pytest.raises(ConnectError, match="bob is here already"):
        enter("whiteboard/one", "bob")
    assert dict(shown(bob, "pages", persistent=True)) == {"1": ""}
    of_ann, of_bob = (shown(who, "page/1", persistent=True) for who in (ann, bob))
    for number in (1, 2, 10):
        of_bob[f"bob/{number}"] = LINE
    of_bob.flush()
    of_ann["ann/1"] = {**LINE, "kind": "text", "text": "hello", "width": 2.0}
    of_ann.flush()
    becomes(lambda: sorted(of_bob), ["ann/1", "bob/1", "bob/10", "bob/2"])
    # Not in others' slots, no nonsense, and only the chair deletes.
    refused(of_bob, "ann/1", LINE)
    refused(of_ann, "bob/1", LINE)
    for slot in ("bob/", "bob/x", "bob", "x", "bob/1234567890"):
        refused(of_bob, slot, LINE)
    for shape in (
        5.0,
        {},
        {**LINE, "kind": "blot"},
        {**LINE, "points": [1.0]},
        {**LINE, "points": [1.0, "x"]},
        {**LINE, "points": [True, False]},
        {**LINE, "points": [1e9, 0.0]},
        {**LINE, "color": "red"},
        {**LINE, "width": 1000.0},
        {**LINE, "more": 1.0},
    ):
        refused(of_bob, "bob/1", shape)
    del of_bob["bob/1"]
    with pytest.raises(SharedObjectError, match="NoWriteAccess"):
        of_bob.flush()
    of_bob.clear()
    with pytest.raises(SharedObjectError, match="NoWriteAccess"):
        of_bob.flush()
    assert len(of_bob) == 4
    # Undo takes one's own last.
    assert bob.call("undo", "1") == "bob/10"
    assert bob.call("undo", "1") == "bob/2"
    becomes(lambda: sorted(of_ann), ["ann/1", "bob/1"])
    del of_ann["bob/1"]
    of_ann.flush()
    assert bob.call("undo", "1") is None
    of_ann.clear()
    of_ann.flush()
    becomes(lambda: dict(of_bob), {})


def test_whiteboard_has_pages_and_shows_who_points_where(enter: Enter) -> None:
    ann, bob = enter("whiteboard/two", "ann", "secret"), enter("whiteboard/two", "bob")
    pages = shown(bob, "pages", persistent=True)
    assert code(bob.call, "add_page", "2") == "Whiteboard.NotChair"
    ann.call("add_page", "2")
    assert code(ann.call, "add_page", "2") == code(ann.call, "add_page", "a/b") == "Whiteboard.BadPage"
    becomes(lambda: dict(pages), {"1": "", "2": "ann"})
    second = shown(bob, "page/2", persistent=True)
    second["bob/1"] = LINE
    second.flush()
    with pytest.raises(SharedObjectError):
        shown(bob, "page/3", persistent=True)
    hands = shown(bob, "hands")
    hands["bob"] = {"page": "2", "x": 5.0, "y": 6.0}
    hands.flush()
    becomes(lambda: shown(ann, "hands").get("bob"), {"page": "2", "x": 5.0, "y": 6.0})
    refused(hands, "ann", {"page": "2", "x": 5.0, "y": 6.0})
    refused(hands, "bob", {"page": 2.0, "x": 5.0, "y": 6.0})
    ann.call("remove_page", "2")
    becomes(lambda: (dict(pages), dict(second)), ({"1": ""}, {}))
    refused(second, "bob/1", LINE)
    assert code(bob.call, "undo", "2") == "Whiteboard.NoSuchPage"
    ann.close()
    becomes(lambda: set(hands), {"bob"})


# Lobby


def test_lobby_plays_a_game_that_clients_cannot_change(enter: Enter) -> None:
    ann, bob, cat = (enter("lobby/one", nick) for nick in ("ann", "bob", "cat"))
    tables, people, scores = (
        shown(cat, "tables"),
        shown(cat, "people"),
        shown(cat, "scores", persistent=True),
    )
    over: list[tuple[str, str]] = []
    tables.on("over", lambda *args: over.append(args))
    won_before = dict(scores)
    assert code(ann.call, "move", 0) == code(ann.call, "stand") == "Lobby.NotSeated"
    assert code(ann.call, "sit", "nowhere") == code(ann.call, "sit", 5) == "Lobby.NoSuchTable"
    ann.call("sit", "1")
    assert code(ann.call, "sit", "2") == "Lobby.Seated"
    assert code(ann.call, "move", 0) == "Lobby.NotYourTurn"
    bob.call("sit", "1")
    assert code(cat.call, "sit", "1") == "Lobby.TableFull"
    becomes(lambda: (tables["1"]["seats"], people["ann"], people["cat"]), (["ann", "bob"], "1", ""))
    refused(tables, "1", {**tables["1"], "winner": "cat"})
    players = {"ann": ann, "bob": bob}
    first = tables["1"]["turn"]
    second = "bob" if first == "ann" else "ann"
    assert code(players[second].call, "move", 0) == "Lobby.NotYourTurn"
    for free, cell in zip((8, 7, 6, 5), (0, 3, 1, 4), strict=True):
        players[tables["1"]["turn"]].call("move", cell)
        becomes(lambda free=free: tables["1"]["cells"].count("."), free)  # type: ignore[misc]  # a lambda with a default
    for bad in (0, 9, -1, 1.5, "2", None):
        assert code(players[first].call, "move", bad) == "Lobby.BadMove"
    players[first].call("move", 2)
    becomes(lambda: tables["1"]["winner"], first)
    becomes(
        lambda: (scores.get(first), people["ann"], over), (won_before.get(first, 0) + 1, "", [("1", first)])
    )
    assert (tables["1"]["seats"], tables["1"]["turn"]) == ([], "")


def test_lobby_who_leaves_or_does_not_move_in_time_has_lost(enter: Enter) -> None:
    ann, bob, cat = (enter("lobby/two", nick) for nick in ("ann", "bob", "cat"))
    tables, people = shown(cat, "tables"), shown(cat, "people")
    # The clock: nobody moves.
    ann.call("sit", "blitz")
    bob.call("sit", "blitz")
    becomes(lambda: tables["blitz"]["turn"] != "", True)
    slow = tables["blitz"]["turn"]
    becomes(lambda: tables["blitz"]["winner"], "bob" if slow == "ann" else "ann")
    assert (people["ann"], people["bob"]) == ("", "")
    # Standing up, before and during a game.
    ann.call("sit", "2")
    ann.call("stand")
    becomes(lambda: tables["2"]["seats"], [])
    ann.call("sit", "2")
    bob.call("sit", "2")
    ann.call("stand")
    becomes(lambda: tables["2"]["winner"], "bob")
    # Leaving.
    ann.call("sit", "3")
    bob.call("sit", "3")
    bob.close()
    becomes(lambda: tables["3"]["winner"], "ann")
    becomes(lambda: set(people), {"ann", "cat"})


# Conference


def test_conference_has_a_roster_and_streams_of_everybody(enter: Enter) -> None:
    ann, bob, cat = (enter("conference/one", nick) for nick in ("ann", "bob", "cat"))
    heard = hears(bob, "muted")
    roster = shown(cat, "roster")
    becomes(lambda: set(roster), {"ann", "bob", "cat"})
    with pytest.raises(ConnectError, match="bob is here already"):
        enter("conference/one", "bob")
    refused(roster, "cat", 5.0)
    frames = {}
    for name, who in (("ann", ann), ("bob", bob)):
        stream = who.create_stream()
        with pytest.raises(StreamError, match="under your own nick"):
            stream.publish("cat")
        stream.publish(name)
        frames[name] = stream
    becomes(lambda: set(roster), {"ann", "bob", "cat", "ann/air", "bob/air"})
    for name in ("ann", "bob"):
        player = cat.create_stream()
        player.play(name)
        frames[name].send_video(b"\x17\x00\x00\x00\x00config", 0)
        frames[name].send_video(b"\x17\x01\x00\x00\x00" + name.encode(), 40)
        wanted = (m for m in player.messages(timeout_s=10 * TIME_FACTOR) if m.payload.endswith(name.encode()))
        assert next(wanted).timestamp == 40
    with pytest.raises(StreamError, match="is not here"):
        cat.create_stream().play("dan")
    cat.call("raise_hand", True)
    bob.call("mute", "bob")
    becomes(lambda: {"cat/hand", "bob/muted"} <= set(roster), True)
    bob.call("mute", "bob", False)
    cat.call("raise_hand", False)
    becomes(lambda: set(roster), {"ann", "bob", "cat", "ann/air", "bob/air"})
    # The first one is the chair.
    assert code(bob.call, "mute", "cat") == code(cat.call, "remove", "bob") == "Conference.NotChair"
    assert code(ann.call, "mute", "nobody") == "Conference.NoSuchPerson"
    ann.call("mute", "bob")
    becomes(lambda: (roster.get("bob/muted"), heard), ("ann", [("muted", "ann")]))
    ann.call("remove", "bob")
    assert bob.closed.wait(10 * TIME_FACTOR)
    becomes(lambda: set(roster), {"ann", "cat", "ann/air"})
    frames["ann"].close()
    becomes(lambda: set(roster), {"ann", "cat"})
    ann.close()
    becomes(lambda: set(roster), {"cat"})
    # And now the one who has been here longest is.
    dan = enter("conference/one", "dan")
    cat.call("mute", "dan")
    assert not dan.closed.is_set()
