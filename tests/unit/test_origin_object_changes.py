"""The origin: changes of SharedObjects: every slot answered, one update per edge. No sockets."""

import pytest
from headwater_amf import amf0
from headwater_bus.object_traffic import ObjectUpdate
from support.object_bench import (
    CHANGED,
    CLEAR,
    CLEARED,
    CONTENT,
    DELETE,
    DENIED,
    NO_WRITE,
    REMOVED,
    SEND,
    SENT,
    SET,
    Open,
    Reading,
    application,
    content,
    events_of,
    link_bytes,
    own,
    refused,
    rows,
    slot,
    updates,
    user,
)
from support.origin_bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench({"app": Open, "read": Reading})


def test_a_change_goes_once_to_every_edge_and_names_the_requester_on_its_own(bench: Bench) -> None:
    here, there = bench.edge(), bench.edge()
    one, _, _, _ = user(bench, here), user(bench, here), user(bench, there), user(bench, there)
    one.shared("board", (SET, "x", 1.0))
    assert updates(here) == [(1, [(CHANGED, "x", [1.0], one.number)])]
    assert updates(there) == [(1, [(CHANGED, "x", [1.0], 0)])]
    counters = bench.origin.counters
    assert (counters.object_commits, counters.object_updates_out) == (1, 2)


def test_a_message_is_one_commit_in_the_order_of_its_events(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    me = client.number
    client.shared(
        "board", (SET, "x", 1.0), (SEND, "hear", 5.0), (SET, "x", 2.0), (DELETE, "x"), (SET, "y", 3.0)
    )
    assert updates(link) == [
        (
            1,
            [
                (CHANGED, "x", [1.0], me),
                (SENT, "", ["hear", 5.0], me),
                (CHANGED, "x", [2.0], me),
                (REMOVED, "x", None, me),
                (CHANGED, "y", [3.0], me),
            ],
        )
    ]


def test_several_pairs_in_one_event(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    pair = b"\x00\x01y" + amf0.encode(2.0)
    client.shared("board", (SET, "x", amf0.encode(1.0) + pair))
    ((_, events),) = updates(link)
    assert [event[1:3] for event in events] == [("x", [1.0]), ("y", [2.0])]


@pytest.mark.parametrize("nothing", [b"\x05", b"\x06", b"\x11\x00", b"\x11\x01"])
def test_setting_to_nothing_deletes(bench: Bench, nothing: bytes) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0))
    link.take()
    client.shared("board", (SET, "x", nothing))
    # The value tells the edge to answer its requester with Success instead of Remove.
    (update,) = link.take()
    assert update == ObjectUpdate(1, 2, 2, client.number, rows((REMOVED, "x", nothing)))
    client.shared("board", (SET, "x", nothing))
    assert own(client) == [("SUCCESS", "x")]


def test_a_delete_has_no_value_so_that_its_requester_gets_remove(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", 1.0))
    link.take()
    client.shared("board", (DELETE, "x"))
    assert link.take() == [ObjectUpdate(1, 2, 2, client.number, rows((REMOVED, "x", b"")))]


def test_deleting_a_missing_slot_is_answered_and_no_commit(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (DELETE, "x"), (DELETE, "y"))
    assert own(client) == [slot("x"), slot("y")]
    assert bench.origin.counters.object_commits == 0


def test_clear(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (CLEAR,))
    assert own(client) == [CONTENT]
    client.shared("board", (SET, "x", 1.0), (SET, "y", 1.0))
    link.take()
    client.shared("board", (CLEAR,))
    assert updates(link) == [(2, [(CLEARED, "", None, client.number)])]
    assert content(bench) == {}


def test_send_goes_to_all_and_is_no_version(bench: Bench) -> None:
    here, there = bench.edge(), bench.edge()
    client, _ = user(bench, here), user(bench, there)
    client.shared("board", (SEND, "hear", 1.0, {"a": None}))
    for link in (here, there):
        ((version, events),) = updates(link)
        assert version == 0
        assert events[0][:3] == (SENT, "", ["hear", 1.0, {"a": None}])


def test_answers_that_are_for_the_requester_alone_fit_what_is_committed_with_them() -> None:
    """Set to something denied and then to something allowed, in one message: the client must end with what the object has."""
    bench = Bench({"app": Open}, object_value_bytes=20)
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", "y" * 50), (DELETE, "z"), (SET, "x", 1.0), (SET, "z", 2.0))
    (update,) = link.take(ObjectUpdate)
    assert [event[1] for event in events_of(update)] == ["x", "z"]
    assert own(client) == [DENIED, slot("x"), slot("z")]
    fresh = user(bench, link, name="other")
    fresh.shared("other", (CLEAR,), (SET, "x", 1.0))
    link.take(ObjectUpdate)
    assert own(fresh) == [CONTENT]


def test_no_success_follows_a_commit_that_a_client_could_take_for_another_answer(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link)
    client.shared("board", (SET, "x", None), (SET, "x", 1.0), (CLEAR,))
    assert own(client) == [slot("x")]
    link.take()
    client.shared("board", (SET, "x", None), (SET, "x", 1.0))
    assert own(client) == [slot("x")]


def test_what_says_how_a_slot_is_comes_last() -> None:
    bench = Bench({"app": Open}, object_value_bytes=20)
    client = user(bench, bench.edge())
    client.shared("board", (SET, "y", "y" * 50), (SET, "y", None), (CLEAR,), (SET, "z", None))
    assert own(client) == [DENIED, ("SUCCESS", "y"), ("SUCCESS", "z"), slot("y"), CONTENT]


def test_a_message_is_answered_once_for_each_slot_and_never_with_content(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link, "read/room")
    made = application(bench, "read/room").shared_object("board")
    made.change({f"big{number}": "b" * 59_000 for number in range(15)})
    link.take()
    client.shared("board", *[(CLEAR,)] * 200)
    assert link_bytes(link.log) < 200
    assert own(client) == [DENIED, CONTENT]
    client.shared("board", *[(SET, f"big{number % 15}", 1.0) for number in range(200)], (DELETE, "big3"))
    assert link_bytes(link.log) < 400
    assert own(client) == [DENIED, *(slot(f"big{number}") for number in range(15))]
    assert bench.origin.counters.object_changes_refused == 401


def test_who_does_not_use_the_object_is_answered_once_for_each_slot(bench: Bench) -> None:
    client = bench.joined(bench.edge())
    client.shared("board", *[(SET, key, 1.0) for key in "xyxyxyxy"], (DELETE, "x"), (CLEAR,))
    assert refused(client) == [NO_WRITE, ("REMOVE", "x"), ("REMOVE", "y")]


def test_a_value_that_no_message_may_hold_ends_its_client(bench: Bench) -> None:
    link = bench.edge()
    client, other = user(bench, link), user(bench, link)
    client.shared("board", (SET, "y", "y" * 70_000))
    assert client.codes() == ["NetConnection.Connect.Closed"]
    other.shared("board", (SET, "y", 1.0))
    assert len(link.take(ObjectUpdate)) == 1


def test_values_are_kept_as_they_came(bench: Bench) -> None:
    link = bench.edge()
    client = user(bench, link, amf3=True)
    raw = [
        amf0.encode_avmplus({"a": [1, 2]}),
        amf0.encode({"a": 1.0}),
        amf0.encode("x" * 70_000)[:0] or b"\x01\x01",
    ]
    client.shared("board", *((SET, f"k{i}", value) for i, value in enumerate(raw)))
    link.take()
    assert list(content(bench).values()) == raw
