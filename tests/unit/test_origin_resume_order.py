"""The origin: whatever a client does, with objects, broadcasts and calls of others, is heard in the order in which it was done,
also by who comes back over another link or to another origin. No sockets; the edges' own replicas."""

from collections.abc import Callable
from typing import Any

import pytest
from headwater_bus.rows import pack_rows
from headwater_origin.durable.journal import RowKind, unpack_rows
from headwater_origin.durable.said import Said, SaidLog
from headwater_origin.objects import recent
from support.object_bench import DELETE, SEND, SET, USE
from support.object_cast import Cast
from support.origin_bench import settle
from support.resuming_edges import GROUP, Reader

WORDS = [("word", 16.0), ("send", 17.0), ("word", 18.0), ("set", 19.0), ("send", 20.0), ("word", 21.0)]
"""What `speak` makes others hear."""


def speak(cast: Cast, between: Callable[[], None]) -> None:
    """Client 1 says a little of all; `between` each two."""
    one = cast.users[0]
    cast.says(0, "tell", 16.0)
    between()
    one.ask("board", (SEND, "hear", 17.0))
    between()
    cast.says(0, "whisper", 18.0)
    between()
    one.ask("board", (SET, "x", 19.0))
    between()
    one.ask("more", (SEND, "hear", 20.0))
    between()
    cast.says(0, "tell", 21.0)
    settle()


def own(words: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """What of this client 1 hears itself: not its whispers."""
    return [word for word in words if word != ("word", 18.0)]


def check(cast: Cast) -> None:
    for at, user in enumerate(cast.users):
        assert user.sequence == (WORDS if at else own(WORDS))
        assert user.slots == {"x": 19.0}
        assert not user.kept
    assert cast.users[0].asked == {"x": []}
    assert cast.bench.origin.counters.internal_errors == 0


def cast_of(snapshots: bool) -> Cast:
    return Cast("more", **({"snapshot_entries": 1} if snapshots else {}))


@pytest.mark.parametrize("snapshots", [False, True])
@pytest.mark.parametrize("entries", ["one entry", "several"])
@pytest.mark.parametrize("heard_by", ["nobody", "one edge", "the other edge"])
def test_all_of_it_is_heard_in_order_behind_a_crash(snapshots: bool, entries: str, heard_by: str) -> None:
    cast = cast_of(snapshots)
    speak(cast, cast.commit if entries == "several" else lambda: None)
    cast.commit()
    cast.commit()
    assert bool(cast.bench.origin.counters.snapshots) is snapshots
    if heard_by != "nobody":
        cast.edges[heard_by == "the other edge"].deliver()
    cast.crash()
    cast.resume()
    check(cast)


@pytest.mark.parametrize("heard", range(1, 6))
def test_who_has_heard_a_part_hears_the_rest(heard: int) -> None:
    cast = cast_of(False)
    parts = iter(range(1, 6))

    def between() -> None:
        cast.commit()
        if next(parts) <= heard:
            cast.edges[0].deliver()

    speak(cast, between)
    cast.commit()
    assert len(cast.users[1].sequence) == heard
    cast.crash()
    cast.resume()
    check(cast)


def test_a_link_that_is_lost_while_the_origin_lives() -> None:
    cast = cast_of(False)
    cast.edges[1].cut()
    speak(cast, cast.commit)
    cast.commit()
    cast.resume(cast.edges[1])
    check(cast)


def test_who_comes_back_later_than_others_of_its_edge_hears_the_same() -> None:
    """It hears none of what is said meanwhile before what it has missed."""
    cast = cast_of(False)
    speak(cast, lambda: None)
    cast.commit()
    cast.crash()
    edge = cast.edges[0]
    late = edge.clients.pop(2)
    edge.connect(cast.bench.origin, cast.bench.epoch)
    cast.arrive(edge)
    assert cast.users[0].sequence == own(WORDS)
    cast.users[0].ask("board", (SEND, "hear", 22.0))
    cast.says(0, "whisper", 23.0)
    cast.arrive(edge)
    assert cast.users[0].sequence[-1] == ("send", 22.0)
    assert late.sequence == []
    edge.clients[2] = late
    edge.put(*edge._attach(late))
    cast.arrive(edge)
    assert late.sequence == [*WORDS, ("send", 22.0), ("word", 23.0)]
    # And from now on at once.
    cast.users[0].ask("board", (SEND, "hear", 24.0))
    cast.arrive(edge)
    assert late.sequence[-1] == cast.users[0].sequence[-1] == ("send", 24.0)


def test_one_who_joins_first_at_the_new_origin_takes_nothing_from_the_others() -> None:
    cast = cast_of(False)
    speak(cast, lambda: None)
    cast.commit()
    cast.crash()
    edge = cast.edges[0]
    others, edge.clients = edge.clients, {}
    edge.connect(cast.bench.origin, cast.bench.epoch)
    new = edge.join(9)
    cast.arrive(edge)
    new.ask("board", (USE,))
    cast.arrive(edge)
    assert (new.slots, new.sequence) == ({"x": 19.0}, [])
    edge.clients.update(others)
    edge.put(*(envelope for client in others.values() for envelope in edge._attach(client)))
    cast.resume(cast.edges[1])
    check(cast)


def test_a_new_use_begins_in_its_place() -> None:
    cast = cast_of(False)
    late = cast.edges[0].join(9)
    cast.quiet()
    cast.says(0, "tell", 1.0)
    late.ask("board", (USE,), (SEND, "hear", 2.0), (SET, "x", 3.0))
    cast.says(0, "tell", 4.0)
    cast.users[1].ask("board", (SEND, "hear", 5.0))
    cast.says(1, "tell", 6.0)
    cast.commit()
    cast.crash()
    cast.resume()
    assert [thing for thing in late.sequence if thing[0] != "set"] == [
        ("word", 1.0),
        ("send", 2.0),
        ("word", 4.0),
        ("send", 5.0),
        ("word", 6.0),
    ]
    assert (late.slots, late.asked) == ({"x": 3.0}, {"x": []})


def test_an_answer_is_heard_before_what_was_asked_for_later() -> None:
    """It was said with its message, though it is journaled with the next one that changes something."""
    cast = cast_of(False)
    one = cast.users[0]
    told: list[str] = []

    def note(client: Reader, message: Any) -> None:
        Reader.told(client, message)
        told.append("word" if message.type_id == 20 else "object")

    one.told = lambda message: note(one, message)  # type: ignore[method-assign]  # of this client
    one.ask("board", (DELETE, "nothing"))
    one.ask("board", (SET, "x", 1.0))
    cast.says(0, "tell", 2.0)
    cast.commit()
    rows = [
        row
        for entry in cast.bench.journals.open(GROUP, cast.bench.epoch).entries
        for row in unpack_rows(entry)
    ]
    assert [row[4:] for row in rows if row[0] == RowKind.SAID] == [[1]]
    cast.crash()
    cast.resume()
    assert told == ["object", "object", "word"]
    assert one.slots == {"x": 1.0}


def test_what_the_log_does_not_hold_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "MOST_COMMITS", 2)
    cast = cast_of(False)
    one, two, _, _ = cast.users
    for number in range(4):
        one.ask("board", (SET, f"k{number}", float(number)))
    one.ask("board", (SEND, "hear", 5.0))
    cast.says(0, "tell", 6.0)
    one.ask("board", (SEND, "hear", 7.0))
    cast.commit()
    cast.crash()
    cast.resume()
    for user in cast.users:
        assert user.sequence[-3:] == [("send", 5.0), ("word", 6.0), ("send", 7.0)]
        assert user.slots == {f"k{number}": float(number) for number in range(4)}
    assert two.sequence == two.sequence[-3:]


def test_rows_of_a_former_version_are_read() -> None:
    log = SaidLog()
    assert log.restore([int(RowKind.SAID_KEPT), 7, ["a"], 0, [1, 20, 0, 0, b"x"]]) == 0
    assert log.restore([int(RowKind.SAID_KEPT), 7, None, 0, [1, 20, 0, 0, b"y"], 9]) == 9
    assert [said.order for said in log.unheard("a", 0, 0)] == [0, 9]
    assert SaidLog.rows(log)[1][-1] == 9
    assert Said((), 0, [], 3).order == 3
    kept = recent.Recent(1, 1)
    kept.add(recent.Commit(2, 2, None, b"\x90", 1, 5))
    again = recent.Recent()
    assert again.restore(1, 1, kept.pack(), 1) == 5
    assert again.commits == kept.commits
    assert again.restore(1, 1, pack_rows([(2, 2, [], b"\x90")]), 1) == 0
    assert [commit.order for commit in again.commits] == [0]
