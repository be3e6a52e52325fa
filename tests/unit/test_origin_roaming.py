"""The origin: what it keeps for sessions that may go from edge to edge, and for how long. No sockets."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from gevent.event import Event
from headwater_bus.traffic import Attach, Attached, FromGuest, Heard, PlayStarted, PublishStarted
from headwater_origin import Application, Client, remote
from headwater_rtmp.shared_object import Event as ObjectEvent
from headwater_rtmp.shared_object import EventType, encode_shared_object
from support.journal_bench import JournaledBench, TestJournals
from support.origin_bench import ME, Bench, FakeClient, FakeLink, plain, settle
from support.stream_cast import Cast
from support.waiting import eventually


class App(Application):
    allow_publish = True
    wait_for_publisher = True

    def on_start(self) -> None:
        self.log: list[Any] = []
        self.gate: Event | None = None

    def on_resume(self, client: Client) -> None:
        self.log.append(("resume", client.id))

    def on_disconnect(self, client: Client) -> None:
        self.log.append(("disconnect", client.id))

    @remote
    def slow(self, client: Client) -> None:
        assert self.gate is not None
        self.gate.wait()


@pytest.fixture
def bench() -> Iterator[JournaledBench]:
    made = JournaledBench(App, TestJournals(), resume_grace_s=10.0, group_linger_s=1000.0, said_bytes=20_000)
    yield made
    made.committing.kill()


def group_of(bench: Bench) -> Any:
    (group,) = bench.origin.groups.values()
    return group


def cut(bench: Bench, link: FakeLink) -> None:
    bench.origin.link_down(link, "cut")  # type: ignore[arg-type]  # All that it needs of a Link.
    settle()


def again(bench: Bench, client: FakeClient, link: FakeLink | None = None, **how: Any) -> FakeClient:
    """The same session over another link."""
    back = FakeClient(bench, link or bench.edge(), client.number, client.group)
    back.sent = client.sent
    back.attach(resumed=True, session_id=f"session-{client.number}", epoch=bench.epoch, **how)
    return back


def after(bench: JournaledBench, within_s: float) -> None:
    """Time has passed."""
    bench.origin.tend(group_of(bench).clock() + within_s)
    settle()


def say(bench: JournaledBench, count: int = 1) -> int:
    """Something to all, which their edges take; returns the entry."""
    for number in range(count):
        group_of(bench).application.broadcast("all", f"{number}" + "x" * 300)
    bench.committed()
    for port in bench.origin._ports:
        port.link.applied()  # type: ignore[attr-defined]  # of FakeLink
    return int(group_of(bench).outputs.committed_number)


# What a session with a fence has stored


def test_nothing_of_before_is_kept_for_who_is_new(bench: JournaledBench) -> None:
    bench.member(bench.edge())
    before = say(bench)
    client = bench.member(bench.edge(), fence=5)
    last = say(bench)
    bench.origin.tend(0.0)
    assert before <= group_of(bench).outputs.settled < last
    client.put(Heard([1 + 1, 0, last]))
    bench.origin.tend(0.0)
    assert group_of(bench).outputs.settled >= last


def test_what_is_said_to_who_has_just_come_back_is_kept(bench: JournaledBench) -> None:
    """Also between two looks at what is stored."""
    client, _ = bench.member(bench.edge(), fence=5), bench.member(bench.edge())
    heard = say(bench)
    client.put(Heard([client.number, 0, heard]))
    bench.origin.tend(0.0)
    later = say(bench)
    cut(bench, client.link)
    bench.origin.tend(0.0)
    assert heard <= group_of(bench).outputs.settled < later
    back = again(bench, client, fence=7, heard=heard)
    back.put(Heard([back.number, 0, heard]))
    settle()
    bench.committed()
    back.link.applied()
    say(bench)
    assert heard <= group_of(bench).outputs.settled < later
    bench.origin.tend(0.0)
    assert heard <= group_of(bench).outputs.settled < later


# What is kept is too much


def test_nobody_has_left_where_it_is_kept_for_others(
    bench: JournaledBench, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that does not ask holds it: its edge has stored nothing."""
    bench.member(bench.edge(), fence=5)
    absent = bench.member(bench.edge())
    say(bench, 100)
    cut(bench, absent.link)
    group = group_of(bench)
    kept = group.outputs.said.size_bytes
    assert kept > 20_000
    with caplog.at_level(logging.ERROR):
        bench.origin.tend(0.0)
    (record,) = caplog.records
    assert "more is kept for RTMPT clients than said_bytes" in record.getMessage()
    assert record.fields == {"group": "app/room", "bytes": kept, "limit": 20_000}  # type: ignore[attr-defined]
    assert len(group.absent) == 1
    assert group.outputs.said.size_bytes == 0
    # From here on it is as before.
    last = say(bench)
    bench.origin.tend(0.0)
    assert group.outputs.settled < last


def test_nobody_has_left_where_only_a_link_is_slow(
    bench: JournaledBench, caplog: pytest.LogCaptureFixture
) -> None:
    slow, absent = bench.member(bench.edge()), bench.member(bench.edge())
    client = bench.member(bench.edge(), fence=5)
    slow.link.taken = slow.link.position
    last = say(bench, 100)
    client.put(Heard([client.number, 0, last]))
    cut(bench, absent.link)
    with caplog.at_level(logging.ERROR):
        bench.origin.tend(0.0)
    assert caplog.records == []
    assert len(group_of(bench).absent) == 1
    assert group_of(bench).outputs.said.size_bytes > 20_000


def test_who_is_coming_back_has_not_left(bench: JournaledBench) -> None:
    client, gone, _ = (bench.member(bench.edge()) for _ in range(3))
    group = group_of(bench)
    application = group.application
    application.gate = Event()
    client.command("slow")
    settle()
    cut(bench, client.link)
    cut(bench, gone.link)
    back = again(bench, client)
    settle()
    say(bench, 100)
    bench.origin.tend(0.0)
    settle()
    assert application.log == [("disconnect", "session-2")]
    application.gate.set()
    eventually(lambda: ("resume", "session-1") in application.log, within_s=10)
    assert back.session.client.connected
    assert ("disconnect", "session-1") not in application.log


# How long a session is waited for


@pytest.mark.parametrize(("lives", "waits"), [("edge-b", True), ("session", False)])
def test_who_has_the_session_counts_not_who_has_opened_it(
    bench: JournaledBench, lives: str, waits: bool
) -> None:
    """Ids of sessions begin with the boot of the edge that has opened it: "session"."""
    client = bench.member(bench.edge(), fence=5)
    link = bench.edge()
    link.boot = "edge-b"
    again(bench, client, link, fence=7)
    settle()
    bench.view._apply([["node", ["edge-1", "edge", lives, "", 1.0, {}, {}]]])
    cut(bench, link)
    application = group_of(bench).application
    for _ in range(2):
        after(bench, 11)
    assert (("disconnect", "session-1") not in application.log) is waits
    for _ in range(2):
        after(bench, 46)
    assert application.log.count(("disconnect", "session-1")) == 1


# What players are told of who publishes


NEWS = {
    True: [("StreamBegin", 1), ("onStatus", 1, "NetStream.Play.PublishNotify")],
    False: [("onStatus", 1, "NetStream.Play.UnpublishNotify"), ("StreamEOF", 1)],
}


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("here", [True, False])
def test_a_player_hears_at_another_edge_that_its_stream_has_begun_or_ended(
    bench: JournaledBench, here: bool, begins: bool
) -> None:
    """Its edge dies before a request has fetched that, or before it is said (not `here`)."""
    publisher, player = bench.member(bench.edge()), bench.member(bench.edge(), fence=5)
    for client in (publisher, player):
        client.command("createStream", transaction=2)
    if not begins:
        publisher.command("publish", "a", "live", stream_id=1)
    player.command("play", "a", stream_id=1)
    settle()
    bench.committed()
    player.take()
    player.link.applied()
    stored = (player.sent, group_of(bench).outputs.committed_number)
    player.put(Heard([player.number, *stored]))
    state = player.link.states[player.number]
    if not here:
        cut(bench, player.link)
    if begins:
        publisher.command("publish", "a", "live", stream_id=1)
    else:
        publisher.command("deleteStream", 1.0)
    settle()
    bench.committed()
    if here:
        assert [told for told in player.take() if told in NEWS[begins]] == NEWS[begins]
        player.link.applied()
        bench.origin.tend(0.0)
        cut(bench, player.link)
    back = again(
        bench, player, fence=7, applied=stored[0], heard=stored[1], state=state, streams=[["a", 0, 1]]
    )
    settle()
    bench.committed()
    told = back.take()
    assert [one for one in told if one in NEWS[begins]] == NEWS[begins]
    assert [one.resumed for one in told if isinstance(one, PlayStarted)] == [False]


def test_a_publisher_begins_when_players_have_heard_of_it(bench: JournaledBench) -> None:
    link = bench.edge()
    publisher, player = bench.member(link), bench.member(link, fence=5)
    for client in (publisher, player):
        client.command("createStream", transaction=2)
    player.command("play", "a", stream_id=1)
    settle()
    bench.committed()
    link.take()
    publisher.command("publish", "a", "live", stream_id=1)
    settle()
    bench.committed()
    told = [plain(one) for one in link.take()]
    assert told.index(NEWS[True][1]) < next(
        at for at, one in enumerate(told) if isinstance(one, PublishStarted)
    )


def test_messages_are_kept_only_where_somebody_may_lack_them() -> None:
    cast = Cast()
    group = cast.group
    stream, began = group.streams.by_name["a"], group.clock()

    def kept() -> list[int]:
        """How many messages before the last one each of them is."""
        recent = stream.late._recent
        return [] if recent is None else [stream.last - number for number, _ in recent.behind(0)]

    # Who had it at another origin the journal tells; without one anybody may come.
    assert group.journaled
    assert kept() == []
    group.journaled = False
    cast.pictures(3, 8)
    assert kept() == [4, 3, 2, 1, 0]
    group.clock = lambda: began + 1000.0
    cast.pictures(8, 9)
    assert kept() == [2, 1, 0]  # Not all go at once.
    cast.pictures(9, 10)
    assert kept() == [0]
    cast.pictures(10, 11)
    assert kept() == []
    group.roaming.add(next(iter(group.sessions)), 0)
    cast.pictures(11, 13)
    assert kept() == [1, 0]
    group.roaming.clear()
    cast.pictures(13, 14)
    assert kept() == []


def test_a_guest_that_comes_anew_has_sent_nothing(bench: JournaledBench) -> None:
    """Its edge had stored that it has left, and died before it could say so."""
    group = "app/room"
    bench.change("group", group, ME, 1)
    one, two = bench.edge(), bench.edge()

    def attach(link: FakeLink, number: int, fence: int) -> Attached:
        asked = Attach(
            number, "session-9", group, 1, "192.0.2.7", 0, False, 0, 0, 0, b"", [], [], [], fence, b"", b""
        )
        bench.origin.batch(link, [asked])  # type: ignore[arg-type]  # All that it needs of a Link.
        found: Any = eventually(lambda: [said for said in link.log if isinstance(said, Attached)], 10)
        attached: Attached = found[0]
        return attached

    assert attach(one, 1001, 5).number == 0
    events = [
        ObjectEvent(EventType.USE),
        ObjectEvent(EventType.REQUEST_CHANGE, "x", b"\x01\x01"),
        ObjectEvent(EventType.RELEASE),
    ]
    for number, event in enumerate(events, 1):
        about = encode_shared_object("board", 0, True, [event])
        message = FromGuest(1001, number, 31, [], about.type_id, 0, 0, about.payload)
        bench.origin.batch(one, [message])  # type: ignore[arg-type]  # All that it needs of a Link.
        settle()
        bench.committed()
    assert attach(two, 2001, 7).number == 0
