"""SharedObject against a server in this process; the races are in tests/property/test_client_object_properties.py."""

from collections.abc import Iterator

import pytest
from headwater_amf import Vector, amf0
from headwater_client import (
    ChangeEvent,
    ChangeKind,
    ConnectionClosed,
    NetConnection,
    SharedObject,
    SharedObjectError,
    TimedOut,
)
from headwater_client.object_state import ObjectState
from headwater_rtmp.shared_object import Event, EventType, SharedObjectMessage, encode_shared_object
from headwater_rtmp.status import StatusCode, status
from support.waiting import eventually
from unit.client_server import FakeServer, fake_server


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as running:
        yield running


@pytest.fixture
def pair(server: FakeServer) -> Iterator[tuple[SharedObject, SharedObject]]:
    """One object of an AMF0 and of an AMF3 client."""
    with NetConnection(server.url()) as one, NetConnection(server.url(), object_encoding=3) as two:
        here, there = one.shared_object("board"), two.shared_object("board")
        here.wait_synced(5)
        there.wait_synced(5)
        yield here, there


Pair = tuple[SharedObject, SharedObject]


def test_two_clients_share_contents_and_versions(server: FakeServer, pair: Pair) -> None:
    here, there = pair
    here["x"] = 1
    here["list"] = [1.0, "two", {"three": None}]
    assert dict(here) == {"x": 1.0, "list": [1.0, "two", {"three": None}]}
    here.flush(5)
    eventually(lambda: dict(there) == dict(here), within_s=5)
    there["v"] = Vector("int", [1, 2])
    there.update(x=2.0, y=True)
    there.flush(5)
    eventually(lambda: here.get("y") is True, within_s=5)
    assert here["v"] == Vector("int", [1, 2])
    del here["x"]
    assert "x" not in here
    here["y"] = None
    here.flush(5)
    eventually(lambda: set(there) == {"list", "v"}, within_s=5)
    there.clear()
    assert len(there) == 0
    there.flush(5)
    eventually(lambda: len(here) == 0, within_s=5)
    assert here.version == there.version == server.object("board").version
    assert here.unanswered == 0


def test_who_comes_later_gets_everything_in_one_go(server: FakeServer, pair: Pair) -> None:
    here, _ = pair
    slots = {f"slot{number}": "x" * 500 for number in range(1000)}
    here.update(slots)
    here.flush(10)
    with NetConnection(server.url()) as late:
        shared = late.shared_object("board")
        shared.wait_synced(5)
        assert dict(shared) == slots
        assert shared.version == here.version == server.object("board").version > 1


def test_events_say_what_has_changed(server: FakeServer, pair: Pair) -> None:
    here, there = pair
    mine: list[ChangeEvent] = []
    theirs: list[ChangeEvent] = []
    here.on_change(mine.append)
    there.on_change(theirs.append)
    here["x"] = 1.0
    here["x"] = 2.0
    here.flush(5)
    del here["x"]
    here.flush(5)
    here.clear()
    here.flush(5)
    kind = ChangeKind
    eventually(lambda: len(mine) == 4 and len(theirs) == 3, within_s=5)
    assert mine == [
        ChangeEvent(kind.SUCCESS, "x", None, 1.0),
        ChangeEvent(kind.SUCCESS, "x", 1.0, 2.0),
        ChangeEvent(kind.DELETE, "x", 2.0),
        ChangeEvent(kind.CLEAR),
    ]
    assert theirs == [
        ChangeEvent(kind.CHANGE, "x", None, 1.0),
        ChangeEvent(kind.CHANGE, "x", 1.0, 2.0),
        ChangeEvent(kind.DELETE, "x", 2.0),
    ]


def test_send_reaches_everybody_the_sender_too(server: FakeServer, pair: Pair) -> None:
    here, there = pair
    heard: list[tuple[object, ...]] = []
    here.on("say", lambda *args: heard.append(("here", *args)))
    there.on("say", lambda *args: heard.append(("there", *args)))
    there.on("fails", lambda: 1 / 0)
    here.send("unheard")
    there.send("say", "hello", {"n": 5.0})
    eventually(lambda: len(heard) == 2, within_s=5)
    assert sorted(heard) == [("here", "hello", {"n": 5.0}), ("there", "hello", {"n": 5.0})]
    assert server.object("board").version == 0


def test_a_handler_may_change_the_object_and_wait(server: FakeServer, pair: Pair) -> None:
    here, there = pair

    def count(by: float) -> None:
        there["total"] = there.get("total", 0.0) + by
        there.flush(5)

    there.on("count", count)
    for _ in range(3):
        here.send("count", 2.0)
    eventually(lambda: here.get("total") == 6.0, within_s=5)


def test_a_refused_change_is_taken_back_and_raised(server: FakeServer, pair: Pair) -> None:
    here, there = pair
    here["x"] = 1.0
    here.flush(5)
    server.refuses = lambda client, key, value: client is server.peers[0]
    events: list[ChangeEvent] = []
    here.on_change(events.append)
    here["x"] = 2.0
    here["new"] = 3.0
    assert dict(here) == {"x": 2.0, "new": 3.0}
    with pytest.raises(
        SharedObjectError, match=r"SharedObject 'board' of rtmp://.*: SharedObject.NoWriteAccess"
    ):
        here.flush(5)
    eventually(lambda: here.unanswered == 0, within_s=5)
    assert dict(here) == {"x": 1.0}
    here.clear()
    assert dict(here) == {}
    eventually(lambda: here.unanswered == 0, within_s=5)
    assert dict(here) == {"x": 1.0}
    eventually(lambda: len(events) == 4, within_s=5)
    assert events[:3] == [
        ChangeEvent(ChangeKind.REJECT, "x", 2.0, 1.0),
        ChangeEvent(ChangeKind.REJECT, "new", 3.0),
        ChangeEvent(ChangeKind.REJECT),
    ]
    assert [error.code for error in here.errors] == ["SharedObject.NoWriteAccess"] * 3
    there["x"] = 5.0
    there.flush(5)
    eventually(lambda: here["x"] == 5.0, within_s=5)


def test_flush_raises_a_refusal_once(server: FakeServer, pair: Pair) -> None:
    here, _ = pair
    server.refuses = lambda *_: True
    here["x"] = 1.0
    with pytest.raises(SharedObjectError):
        here.flush(5)
    here.flush(5)


def test_a_refused_use(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        server.object("secret").request = lambda *_, **__: [  # type: ignore[method-assign]  # this server answers otherwise
            (
                server.peers[0],
                encode_shared_object(
                    "secret",
                    0,
                    False,
                    [Event(EventType.STATUS, code="SharedObject.NoReadAccess", level="error")],
                ),
            )
        ]
        shared = connection.shared_object("secret")
        with pytest.raises(SharedObjectError) as caught:
            shared.wait_synced(5)
        assert caught.value.code == "SharedObject.NoReadAccess"
        assert not shared.synced


def test_the_same_name_is_the_same_object_and_persistent_ones_are_others(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        one, other = connection.shared_object("a"), connection.shared_object("a", persistent=True)
        assert connection.shared_object("a") is one
        assert other is not one
        assert other.persistent
        other["x"] = 1.0
        other.flush(5)
        one.wait_synced(5)
        assert (dict(one), dict(other)) == ({}, {"x": 1.0})
        assert server.objects["a", True].contents == {"x": 1.0}


def test_a_persistent_object_that_is_known_gets_only_what_has_changed(server: FakeServer) -> None:
    with NetConnection(server.url()) as one, NetConnection(server.url(), object_encoding=3) as two:
        other = one.shared_object("board", persistent=True)
        other.update({f"slot{number}": float(number) for number in range(10)})
        other.flush(5)
        with NetConnection(server.url()) as first:
            before = first.shared_object("board", persistent=True)
            before.wait_synced(5)
            before["mine"] = 1.0
            before.flush(5)
        before_version = before.version
        del other["slot3"]
        other.update(slot4=5.0, new=6.0)
        other.flush(5)

        changes: list[ChangeEvent] = []
        shared = two.shared_object("board", persistent=True, known=before)
        shared.on_change(changes.append)
        assert (shared["slot3"], shared["mine"], shared.version, shared.synced) == (
            3.0,
            1.0,
            before_version,
            False,
        )
        shared.wait_synced(5)
        assert dict(shared) == dict(other)
        assert shared.version == other.version == before_version + 2
        kind = ChangeKind
        eventually(lambda: len(changes) == 3, within_s=5)
        assert changes == [
            ChangeEvent(kind.DELETE, "slot3", 3.0),
            ChangeEvent(kind.CHANGE, "slot4", 4.0, 5.0),
            ChangeEvent(kind.CHANGE, "new", None, 6.0),
        ]
        # The old copy stays what it was.
        assert before["slot3"] == 3.0


def test_what_is_known_but_not_there_any_more_is_cleared(server: FakeServer) -> None:
    with NetConnection(server.url()) as first:
        before = first.shared_object("board", persistent=True)
        before["x"] = 1.0
        before.flush(5)
    server.objects.clear()
    with NetConnection(server.url()) as connection:
        shared = connection.shared_object("board", persistent=True, known=before)
        shared.wait_synced(5)
        assert (dict(shared), shared.version) == ({}, 0)


def test_only_the_same_persistent_object_can_be_known(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        board = connection.shared_object("board", persistent=True)
        for name, persistent in (("other", True), ("board", False)):
            with pytest.raises(ValueError, match="expected the persistent object"):
                connection.shared_object(name, persistent, known=board)
        temporary = connection.shared_object("other")
        with pytest.raises(ValueError, match="expected the persistent object"):
            connection.shared_object("other", persistent=True, known=temporary)


def test_changes_before_the_contents_have_come(server: FakeServer, pair: Pair) -> None:
    here, _ = pair
    here.update(x=1.0, y=2.0)
    here.flush(5)
    with NetConnection(server.url()) as connection:
        shared = connection.shared_object("board")
        shared["x"] = 5.0
        assert dict(shared) == {"x": 5.0}
        shared.flush(5)
        assert dict(shared) == {"x": 5.0, "y": 2.0}


def test_a_closed_object_is_released(server: FakeServer, pair: Pair) -> None:
    here, there = pair
    with here:
        here["x"] = 1.0
    eventually(lambda: len(server.object("board").users) == 1, within_s=5)
    assert server.object("board").contents == {"x": 1.0}
    with pytest.raises(SharedObjectError, match="it was closed here"):
        here["x"] = 2.0
    there["x"] = 3.0
    there.flush(5)
    assert here["x"] == 1.0


def test_no_answer_and_a_closed_connection(server: FakeServer) -> None:
    with NetConnection(server.url()) as connection:
        shared = connection.shared_object("board")
        shared.wait_synced(5)
        server.object("board").request = lambda *_, **__: []  # type: ignore[method-assign]  # this server answers otherwise
        shared["x"] = 1.0
        with pytest.raises(
            TimedOut, match=r"changes of SharedObject 'board' of rtmp://.*: 1 not answered within 0\.05 s"
        ):
            shared.flush(0.05)
        server.object("mute").request = lambda *_, **__: []  # type: ignore[method-assign]  # this server answers otherwise
        mute = connection.shared_object("mute")
        with pytest.raises(TimedOut, match=r"use of SharedObject 'mute' of .*: no contents within 0\.05 s"):
            mute.wait_synced(0.05)
        server.peers[0].status(0, StatusCode.CONNECT_CLOSED, "bye")
        server.peers[0].sock.shutdown(2)
        with pytest.raises(
            ConnectionClosed, match=r"SharedObject 'board' of .*: NetConnection.Connect.Closed: bye"
        ):
            shared.flush(5)
        with pytest.raises(ConnectionClosed):
            shared["y"] = 1.0


def test_values_and_slots_that_cannot_be(server: FakeServer, pair: Pair) -> None:
    here, _ = pair
    with pytest.raises(SharedObjectError, match=r"set 'x' of SharedObject 'board'"):
        here["x"] = object()
    deep: list[object] = []
    for _ in range(50):
        deep = [deep]
    with pytest.raises(SharedObjectError, match="nobody would read this value"):
        here["x"] = deep
    with pytest.raises(TypeError, match="expected a str, got int"):
        here[1] = 1.0  # type: ignore[index]  # the wrong type is what is tested
    with pytest.raises(SharedObjectError, match="a name of 70000 bytes"):
        here["k" * 70_000] = 1.0
    with pytest.raises(KeyError):
        del here["none"]
    with pytest.raises(SharedObjectError, match="send of 'say'"):
        here.send("say", object())
    with pytest.raises(SharedObjectError):
        here.update({"a": 1.0, "b": object()})
    here.flush(5)
    assert dict(here) == server.object("board").contents == {"a": 1.0}


def test_thousands_of_changes_wait_for_answers_now_and_then(server: FakeServer, pair: Pair) -> None:
    here, there = pair
    most = 0
    for number in range(6000):
        here[f"slot{number % 7}"] = float(number)
        most = max(most, here.unanswered)
    here.flush(20)
    assert most == 4096
    eventually(lambda: there.version == here.version == 6000, within_s=20)
    assert dict(here) == dict(there) == {f"slot{number % 7}": float(number) for number in range(5993, 6000)}


def test_what_is_read_is_a_copy(pair: Pair) -> None:
    here, _ = pair
    value = [1.0]
    here["x"] = value
    value.append(2.0)
    assert here["x"] == [1.0]


REFUSAL = Event(EventType.STATUS, code="SharedObject.NoWriteAccess", level="error")


def told(state: ObjectState, version: int, *events: Event) -> list[object]:
    return list(state.receive(SharedObjectMessage("board", version, False, 0, list(events))))


def change(key: str, value: object) -> Event:
    return Event(EventType.CHANGE, key, amf0.encode(value))


def test_a_change_with_a_status_answers_ours_and_one_without_is_anothers() -> None:
    state = ObjectState()
    state.set("x", 1.0)
    assert told(state, 1, change("x", 2.0)) == []
    assert (state.contents, state.unanswered) == ({"x": 1.0}, 1)
    outcomes = told(state, 1, REFUSAL, change("x", 2.0))
    assert ChangeEvent(ChangeKind.REJECT, "x", 1.0, 2.0) in outcomes
    assert (state.contents, state.unanswered, state.version) == ({"x": 2.0}, 0, 1)
    # An answer that nobody waits for changes nothing; a status that is no error refuses nothing.
    state.set("x", 3.0)
    notice = Event(EventType.STATUS, code="SharedObject.Fine", level="status")
    told(state, 2, Event(EventType.SUCCESS, "y"), notice, change("x", 2.0))
    assert (state.contents, state.unanswered) == ({"x": 3.0}, 1)


def test_changes_that_the_store_cannot_take_are_taken_back() -> None:
    state = ObjectState()
    told(state, 1, change("x", 1.0))
    state.set("x", 2.0)
    state.set("y", 2.0)
    state.remove("x")
    away = Event(EventType.STATUS, code="SharedObject.StoreUnavailable", level="error")
    outcomes = told(state, 1, away, change("x", 1.0), Event(EventType.REMOVE, "y"), change("x", 1.0))
    assert outcomes[1:] == [
        ChangeEvent(ChangeKind.REJECT, "x", 2.0, 1.0),
        ChangeEvent(ChangeKind.REJECT, "y", 2.0),
        ChangeEvent(ChangeKind.REJECT, "x", None, 1.0),
    ]
    assert (state.contents, state.unanswered) == ({"x": 1.0}, 0)


def test_a_refusal_does_not_tell_a_version() -> None:
    state = ObjectState()
    told(state, 5, change("x", 1.0))
    state.remove("x")
    told(state, 0, REFUSAL, Event(EventType.REMOVE, "x"))
    assert (state.version, state.contents, state.unanswered) == (5, {}, 0)


def test_what_follows_the_clear_of_a_refusal_are_contents_not_answers() -> None:
    state = ObjectState()
    told(state, 1, change("x", 1.0), change("y", 2.0))
    state.clear()
    state.set("x", 3.0)
    assert state.contents == {"x": 3.0}
    told(state, 1, REFUSAL, Event(EventType.CLEAR), change("x", 1.0), change("y", 2.0))
    assert (state.contents, state.unanswered) == ({"x": 3.0, "y": 2.0}, 1)
    told(state, 2, Event(EventType.SUCCESS, "x"))
    assert (state.contents, state.unanswered) == ({"x": 3.0, "y": 2.0}, 0)


def test_a_clear_of_another_does_not_bring_back_what_ours_will_clear() -> None:
    state = ObjectState()
    state.set("x", 1.0)
    state.clear()
    told(state, 1, Event(EventType.CLEAR))
    assert (state.contents, state.unanswered) == ({}, 2)
    assert told(state, 2, change("x", 5.0)) == []
    assert state.contents == {}
    told(state, 3, Event(EventType.SUCCESS, "x"))
    assert (state.contents, state.unanswered) == ({}, 1)
    told(state, 4, Event(EventType.CLEAR))
    assert (state.contents, state.unanswered) == ({}, 0)


def test_statuses_have_codes() -> None:
    error = SharedObjectError("use", status(StatusCode.OBJECT_NO_READ_ACCESS, "members only"))
    assert str(error) == "use: SharedObject.NoReadAccess: members only"
    assert str(SharedObjectError("use")) == "use: refused without a reason"
