"""The origin: SharedObjects whose users come back over another link, or to another origin: what they lack, what they are
answered, and what is kept for them. No sockets."""

from typing import Any

import pytest
from headwater_bus import object_traffic, traffic
from headwater_bus.rows import pack_rows, unpack_rows
from headwater_origin.durable import journal
from headwater_origin.durable.journal import RowKind
from headwater_origin.objects import recent
from headwater_store import Append
from support.journal_bench import JournaledBench, memory_journals
from support.object_bench import CLEAR, RELEASE, SEND, SET, USE, Open
from support.object_cast import Cast
from support.origin_bench import settle
from support.resuming_edges import GROUP, ResumingEdge
from support.waiting import eventually


@pytest.fixture
def cast() -> Cast:
    return Cast()


def sent_to(edge: ResumingEdge, *kinds: type) -> list[Any]:
    """What waits to be delivered, without delivering it."""
    assert edge.link is not None
    return [envelope for envelope in edge.link._pending if not kinds or isinstance(envelope, kinds)]


def test_a_replica_goes_on_where_it_was(cast: Cast) -> None:
    one, two, three, _ = cast.users
    one.ask("board", (SET, "x", 1.0))
    cast.quiet()
    two.ask("board", (SET, "x", 2.0), (SEND, "hear", 5.0))
    three.ask("board", (SET, "y", 3.0))
    cast.commit()
    cast.crash()
    cast.resume()
    assert [edge.resumed for edge in cast.edges] == [1, 1]
    assert [edge.opened for edge in cast.edges] == [1, 1]
    for user in cast.users:
        assert user.slots == {"x": 2.0, "y": 3.0}
        assert user.segments == [[5.0]]
        assert not user.kept


def test_each_is_answered_where_its_change_stands_though_others_of_its_edge_come_first(cast: Cast) -> None:
    one, two, _, _ = cast.users
    two.ask("board", (SET, "x", 2.0))
    one.ask("board", (SET, "x", 1.0))
    cast.commit()
    cast.crash()
    edge = cast.edges[0]
    edge.connect(cast.bench.origin, cast.bench.epoch)
    settle()
    eventually(cast.group.started.is_set, within_s=10)
    settle()
    updates = sent_to(edge, object_traffic.ObjectUpdate)
    # The first to attach was number 1.
    assert [update.session for update in updates] == [2, 1]
    assert sent_to(edge, traffic.ToClient) == []
    cast.resume(cast.edges[1])
    cast.quiet()
    assert one.slots == two.slots == {"x": 1.0}
    assert one.asked == two.asked == {"x": []}


def test_what_the_log_does_not_hold_comes_as_content(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "MOST_COMMITS", 3)
    one, two, three, _ = cast.users
    for number in range(3):
        one.ask("board", (SET, f"k{number}", float(number)))
    two.ask("board", (SET, "last", 1.0), (SEND, "hear", 7.0))
    three.ask("board", (SET, "last", 2.0))
    cast.commit()
    cast.crash()
    cast.resume()
    assert [edge.opened for edge in cast.edges] == [2, 2]
    for user in cast.users:
        assert user.slots == {"k0": 0.0, "k1": 1.0, "k2": 2.0, "last": 2.0}
        # What is in the log is not lost with it.
        assert user.segments == [[7.0]]
    assert two.asked == {"last": []}
    assert one.asked["k2"] == []


def test_a_use_that_was_committed_with_a_change_and_never_heard_of(cast: Cast) -> None:
    edge = cast.edges[0]
    late = edge.join(9)
    cast.quiet()
    late.ask("board", (USE,), (SET, "x", 1.0), (SEND, "hear", 4.0))
    cast.users[2].ask("board", (SET, "x", 2.0))
    # Nothing of the message is to be heard before it is committed.
    assert [told for told in sent_to(edge) if getattr(told, "session", 0) == 9] == []
    cast.commit()
    cast.crash()
    cast.resume()
    assert len(late.segments) == 1
    assert late.segments == [[4.0]]
    assert late.slots == {"x": 2.0}
    assert late.asked == {"x": []}


def test_who_released_it_and_has_not_heard_so(cast: Cast) -> None:
    one = cast.users[0]
    one.ask("board", (SET, "x", 1.0), (RELEASE,))
    cast.commit()
    cast.crash()
    cast.resume()
    assert 1 not in cast.edges[0].objects["board", False].members
    assert cast.board.users == 3


def test_the_log_is_kept_until_every_edge_has_it_and_nobody_is_absent(cast: Cast) -> None:
    one = cast.users[0]
    one.ask("board", (SET, "x", 1.0))
    cast.commit()

    def kept() -> int:
        cast.group.tick(cast.group.clock())
        cast.group.tick(cast.group.clock())
        return len(cast.board.recent.commits)

    for edge in cast.edges:
        edge.deliver()
    cast.edges[0].link.ack()  # type: ignore[union-attr]  # It is connected.
    assert kept() == 1
    cast.edges[1].link.ack()  # type: ignore[union-attr]
    assert kept() == 0
    cast.edges[1].cut()
    one.ask("board", (SET, "x", 2.0))
    cast.quiet()
    assert kept() == 1
    cast.resume(cast.edges[1])
    assert cast.users[3].slots == {"x": 2.0}
    assert kept() == 0


def test_a_snapshot_holds_the_log() -> None:
    cast = Cast(snapshot_entries=1)
    cast.users[0].ask("board", (SET, "x", 1.0), (SEND, "hear", 1.0))
    cast.commit()
    assert cast.bench.origin.counters.snapshots
    cast.crash()
    cast.resume()
    assert [edge.resumed for edge in cast.edges] == [1, 1]
    assert all(user.segments == [[1.0]] and user.slots == {"x": 1.0} for user in cast.users)


def test_a_journal_of_a_former_version_is_read(cast: Cast) -> None:
    events = pack_rows([(4, "x", b"\x00?\xf0\x00\x00\x00\x00\x00\x00")])
    cast.group.objects.restore([int(RowKind.OBJECT), 0, "old", 1, 1, events])
    cast.group.objects.restore([int(RowKind.OBJECT), 0, "old", 2, 2, ["session-1", 3, "edge-1", 1], events])
    old = cast.group.objects.get("old", False)
    assert [commit.asker for commit in old.recent.commits] == [None, ("session-1", 3, "edge-1", 1)]
    assert (old.version, old.events) == (2, 2)


def test_a_store_that_went_back_in_time(cast: Cast, caplog: pytest.LogCaptureFixture) -> None:
    one, _, three, _ = cast.users
    one.ask("board", (SET, "x", 1.0))
    cast.quiet()
    kept = cast.bench.journals.open(GROUP, cast.bench.epoch)
    one.ask("board", (SET, "x", 2.0), (SET, "lost", 1.0))
    cast.quiet()
    cast.crash()
    # The store holds what it held before.
    store = memory_journals()
    store.open(GROUP, 1)
    store.append([Append(GROUP, 1, number, [entry]) for number, entry in enumerate(kept.entries)])
    cast.bench = JournaledBench(Open, store, cast.bench.epoch)
    cast.place()
    cast.resume()
    assert any(
        "the store went back in time, the object goes on" in str(record.args) for record in caplog.records
    )
    assert cast.board.version > 4096
    three.ask("board", (SET, "y", 1.0))
    cast.quiet()
    for user in cast.users:
        assert user.slots == {"x": 1.0, "y": 1.0}


def test_a_temporary_object_waits_for_users_that_are_absent() -> None:
    cast = Cast(object_linger_s=1.0)
    cast.users[0].ask("board", (SET, "x", 1.0))
    cast.quiet()
    for edge in cast.edges:
        edge.cut()
    cast.group.objects.tick(cast.group.clock() + 5.0)
    cast.resume()
    assert all(user.slots == {"x": 1.0} for user in cast.users)
    assert [edge.opened for edge in cast.edges] == [1, 1]


def test_slots_that_a_late_answer_would_make_wrong_are_told(cast: Cast) -> None:
    late = cast.edges[0].join(9)
    cast.quiet()
    late.ask("board", (USE,), (SET, "x", 1.0), (SET, "y", 1.0), (CLEAR,))
    cast.commit()
    cast.crash()
    cast.resume()
    assert late.slots == {}
    assert late.asked == {"x": [], "y": []}


def test_each_commit_names_who_asked(cast: Cast) -> None:
    cast.users[1].ask("board", (SET, "x", 1.0))
    cast.commit()
    loaded = cast.bench.journals.open(GROUP, cast.bench.epoch)
    rows = [row for entry in loaded.entries for row in journal.unpack_rows(entry)]
    (row,) = [row for row in rows if row[0] == RowKind.OBJECT]
    assert row[5] == ["session-2", 2, "edge-1", 2]
    assert [key for _, key, _ in unpack_rows(row[6], int, str, bytes)] == ["x"]
