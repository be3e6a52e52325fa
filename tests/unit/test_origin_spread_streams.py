"""The origin: `streams = "spread"`: each stream is a group of its own, where clients are guests. No sockets.

What a client is told must not depend on it: the tests of the first part run both ways.
"""

from typing import Any

import pytest
from headwater_bus.traffic import GuestStream, PublisherMedia
from headwater_origin import Application, Client, Reject
from headwater_origin.streams.reserved import publisher_proof
from headwater_rtmp.command import decode_command
from headwater_rtmp.message import Message
from support.origin_bench import Bench, FakeClient, settle
from support.spread_bench import SpreadEdge

VIDEO = 9
KEY = b"\x17\x01\x00\x00\x00key"


class Stage(Application):
    log: list[Any] = []  # noqa: RUF012
    refused = ""

    def on_publish(self, client: Client, name: str, query: str) -> Reject | None:
        self.log.append(("on_publish", client.id, name, query))
        return Reject("no") if name == self.refused else None

    def on_play(self, client: Client, name: str, query: str) -> Reject | None:
        self.log.append(("on_play", client.id, name, query))
        return Reject("no") if name == self.refused else None

    def on_unpublish(self, client: Client, name: str) -> None:
        self.log.append(("on_unpublish", client.id, name))

    def on_stop_play(self, client: Client, name: str) -> None:
        self.log.append(("on_stop_play", client.id, name))

    def on_disconnect(self, client: Client) -> None:
        self.log.append(("on_disconnect", client.id))


def stage(how: str = "spread", waits: bool = False, held: bool = False, named: bool = True) -> SpreadEdge:
    class App(Stage):
        streams = how  # type: ignore[assignment]  # one of the two
        wait_for_publisher = waits
        log: list[Any] = []  # noqa: RUF012

    return SpreadEdge(Bench({"app": App}), held, named)


def hooks(edge: SpreadEdge) -> list[Any]:
    """What the application was asked and told since the last time."""
    log: list[Any] = edge.bench.origin.applications["app"].log  # type: ignore[attr-defined]  # Stage's
    taken = list(log)
    log.clear()
    return taken


@pytest.fixture(params=["together", "spread"])
def edge(request: pytest.FixtureRequest) -> SpreadEdge:
    return stage(request.param)


@pytest.mark.parametrize("amf3", [False, True])
def test_publish_and_play(edge: SpreadEdge, amf3: bool) -> None:
    publisher, player = edge.client(amf3), edge.client(amf3)
    edge.command(publisher, "publish", "a?secret", "live")
    assert edge.taken(publisher) == [("StreamBegin", 1), ("onStatus", 1, "NetStream.Publish.Start")]
    edge.command(player, "play", "a?token", stream_id=2)
    assert edge.taken(player) == [
        ("StreamBegin", 2),
        ("onStatus", 2, "NetStream.Play.Reset"),
        ("onStatus", 2, "NetStream.Play.Start"),
        ("data", 2, "|RtmpSampleAccess", True, True),
    ]
    assert hooks(edge) == [
        ("on_publish", "session-1", "a", "secret"),
        ("on_play", "session-2", "a", "token"),
    ]
    edge.command(publisher, "closeStream")
    assert edge.codes(publisher) == ["NetStream.Unpublish.Success"]
    assert edge.codes(player) == ["NetStream.Play.UnpublishNotify"]
    edge.command(player, "play", False, stream_id=2)
    assert edge.codes(player) == ["NetStream.Play.Stop"]
    assert hooks(edge) == [("on_unpublish", "session-1", "a"), ("on_stop_play", "session-2", "a")]
    for client in (publisher, player):
        edge.leave(client)
    assert hooks(edge) == [("on_disconnect", "session-1"), ("on_disconnect", "session-2")]


def test_a_play_without_reset(edge: SpreadEdge) -> None:
    publisher = edge.client()
    edge.command(publisher, "publish", "a")
    edge.taken(publisher)
    edge.command(publisher, "play", "a", -2.0, -1.0, False, stream_id=2)
    assert edge.codes(publisher) == ["NetStream.Play.Start"]


def test_refusals(edge: SpreadEdge) -> None:
    edge.bench.origin.applications["app"].refused = "no"  # type: ignore[attr-defined]  # Stage's
    one, two = edge.client(), edge.client()
    edge.command(one, "publish", "no")
    edge.command(one, "publish", "a..b")
    edge.command(one, "publish", "a", "record")
    edge.command(one, "publish", "a", stream_id=9)
    assert edge.codes(one) == ["NetStream.Publish.Denied", *["NetStream.Publish.BadName"] * 3]
    edge.command(one, "play", "no")
    edge.command(one, "play", "nobody")
    edge.command(one, "play", 5.0)
    assert edge.codes(one) == [
        "NetStream.Play.Failed",
        "NetStream.Play.StreamNotFound",
        "NetStream.Play.Failed",
    ]
    edge.command(one, "publish", "a")
    edge.command(two, "publish", "a")
    assert edge.codes(one) == ["NetStream.Publish.Start"]
    assert edge.codes(two) == ["NetStream.Publish.BadName"]
    assert hooks(edge) == [
        ("on_publish", "session-1", "no", ""),
        ("on_play", "session-1", "no", ""),
        ("on_play", "session-1", "nobody", ""),
        ("on_publish", "session-1", "a", ""),
    ]
    # What did not begin does not end.
    edge.leave(two)
    assert hooks(edge) == [("on_disconnect", "session-2")]


def test_one_may_wait_for_the_publisher() -> None:
    for how in ("together", "spread"):
        edge = stage(how, waits=True)
        player, publisher = edge.client(), edge.client()
        edge.command(player, "play", "a")
        assert edge.codes(player) == ["NetStream.Play.Reset", "NetStream.Play.Start"]
        edge.command(publisher, "publish", "a")
        assert edge.codes(player) == ["NetStream.Play.PublishNotify"]


def test_pause_and_what_to_receive(edge: SpreadEdge) -> None:
    client = edge.client()
    edge.command(client, "publish", "a")
    edge.command(client, "play", "a", stream_id=2)
    edge.taken(client)
    edge.command(client, "pause", True, 0.0, stream_id=2)
    edge.command(client, "pauseRaw", False, 0.0, stream_id=2)
    edge.command(client, "pause", stream_id=2)
    assert edge.codes(client) == [
        "NetStream.Pause.Notify",
        "NetStream.Unpause.Notify",
        "NetStream.Pause.Notify",
    ]
    edge.command(client, "receiveVideo", False, stream_id=2)
    edge.command(client, "receiveAudio", stream_id=2)
    edge.command(client, "seek", 5.0, stream_id=2)
    assert edge.changes[-2:] == [(True, False, True), (True, False, True)]
    assert edge.codes(client) == ["NetStream.Seek.Notify", "NetStream.Play.Start", "NetStream.Seek.Failed"]


def test_another_stream_on_the_same_message_stream(edge: SpreadEdge) -> None:
    one, two = edge.client(), edge.client()
    edge.command(one, "publish", "a")
    edge.command(one, "publish", "b", stream_id=2)
    edge.command(two, "play", "a")
    edge.taken(one)
    edge.taken(two)
    hooks(edge)
    edge.command(two, "play", "b")
    assert edge.codes(two) == ["NetStream.Play.Reset", "NetStream.Play.Start"]
    edge.command(one, "publish", "c")
    assert sorted(edge.codes(one)) == ["NetStream.Publish.Start", "NetStream.Unpublish.Success"]
    assert sorted(hooks(edge)) == [
        ("on_play", "session-2", "b", ""),
        ("on_publish", "session-1", "c", ""),
        ("on_stop_play", "session-2", "a"),
        ("on_unpublish", "session-1", "a"),
    ]
    edge.command(one, "play", "c")  # From publishing to playing: nobody publishes it any more.
    assert edge.codes(one) == ["NetStream.Unpublish.Success", "NetStream.Play.StreamNotFound"]
    edge.leave(one)
    edge.leave(two)
    assert sorted(hooks(edge)) == [
        ("on_disconnect", "session-1"),
        ("on_disconnect", "session-2"),
        ("on_play", "session-1", "c", ""),
        ("on_stop_play", "session-2", "b"),
        ("on_unpublish", "session-1", "b"),
        ("on_unpublish", "session-1", "c"),
    ]


def test_a_message_stream_that_is_deleted(edge: SpreadEdge) -> None:
    client = edge.client()
    edge.command(client, "publish", "a")
    edge.command(client, "play", "a", stream_id=2)
    edge.command(client, "deleteStream", 1.0, stream_id=0)
    edge.command(client, "deleteStream", 2.0, stream_id=0)
    assert [call[0] for call in hooks(edge)] == ["on_publish", "on_play", "on_unpublish", "on_stop_play"]
    edge.leave(client)
    assert hooks(edge) == [("on_disconnect", "session-1")]


def test_who_leaves_ends_what_it_does_before_it_is_gone(edge: SpreadEdge) -> None:
    client, player = edge.client(), edge.client()
    edge.command(client, "publish", "a")
    edge.command(client, "play", "a", stream_id=2)
    edge.command(player, "play", "a")
    edge.taken(player)
    hooks(edge)
    edge.leave(client)
    assert edge.codes(player) == ["NetStream.Play.UnpublishNotify"]
    *before, last = hooks(edge)
    assert sorted(before) == [("on_stop_play", "session-1", "a"), ("on_unpublish", "session-1", "a")]
    assert last == ("on_disconnect", "session-1")


# Spread alone


def routed(edge: SpreadEdge) -> list[tuple[Any, ...]]:
    """What homes sent on: stream's name, then the command."""
    taken, edge.routed = edge.routed, []
    told = []
    for envelope in taken:
        command = decode_command(Message(envelope.type_id, envelope.stream_id, 0, envelope.payload))
        told.append((envelope.group, envelope.stream_id, command.name, *command.args))
    return told


def test_a_publisher_that_is_lost_is_followed_by_the_same_one(edge: SpreadEdge) -> None:
    publisher, player, stranger = edge.client(), edge.client(), edge.client()
    edge.command(publisher, "publish", "a?key=secret")
    edge.command(player, "play", "a")
    edge.taken(player)
    edge.leave(publisher)
    for name in ("a", "a?key=guessed"):
        edge.command(stranger, "publish", name)
        assert edge.codes(stranger) == ["NetStream.Publish.BadName"]
    follower = edge.client()
    edge.command(follower, "publish", "a?key=secret")
    assert edge.codes(follower) == ["NetStream.Publish.Start"]
    assert edge.codes(player) == []


def test_what_is_sent_on_is_for_the_stream_s_own_group() -> None:
    edge = stage()
    client = edge.client()
    edge.command(client, "publish", "a b/c?secret")
    edge.command(client, "play", "d?secret", stream_id=2)
    edge.command(client, "closeStream")
    group = "app/room#stream:"
    assert routed(edge) == [
        # The query itself is for the home alone.
        (f"{group}a b/c", 1, "publish", "a b/c", "live", publisher_proof(b"", "secret").hex()),
        (f"{group}d", 2, "play", "d", -1.0, -1.0, True),
        (f"{group}a b/c", 1, "closeStream"),
    ]
    assert edge.bench.origin.groups["app/room"].streams.by_name == {}
    assert edge.bench.origin.groups[f"{group}d"].application is None


def test_guests_that_have_no_stream_are_idle() -> None:
    edge = stage()
    client = edge.client()
    edge.command(client, "publish", "a")
    edge.command(client, "play", "nobody", stream_id=2)
    guests = {guest.group.partition(":")[2]: guest for guest in edge.guests.values()}
    assert (guests["a"].idle, guests["nobody"].idle) == (0, 1)
    edge.command(client, "deleteStream", 1.0)
    assert guests["a"].idle == 2


def test_media_of_a_publisher_who_does_not_wait_for_the_answer() -> None:
    edge = stage(waits=True)
    client = edge.client()
    edge.command(client, "play", "a", stream_id=2)
    client.command("publish", "a", stream_id=1)
    client.message(Message(VIDEO, 1, 40, KEY))
    client.message(Message(VIDEO, 2, 40, KEY))  # Of a stream that plays.
    edge.pump()
    assert [(media.number, media.timestamp, media.payload) for media in edge.media] == [(0, 40, KEY)]
    client.put(PublisherMedia(edge.publications[client.number, 1], 1, VIDEO, 80, KEY))
    edge.pump()
    assert [media.timestamp for media in edge.media] == [40, 80]


def switched(edge: SpreadEdge) -> FakeClient:
    """A client that has played `a` and then `b` on its message stream 1, while no home has heard of it."""
    publisher, player = edge.client(), edge.client()
    edge.command(publisher, "publish", "a")
    edge.command(publisher, "publish", "b", stream_id=2)
    edge.report()
    for name in ("a", "b"):
        edge.command(player, "play", name)
    hooks(edge)
    return player


def test_reports_of_two_origins_in_any_order() -> None:
    # 0: a has started, 1: a has stopped, 2: b has started.
    for order in ((0, 1, 2), (0, 2, 1), (2, 0, 1)):
        edge = stage(held=True)
        player = switched(edge)
        edge.report(*order)
        assert hooks(edge) == [("on_stop_play", "session-2", "a")]
        edge.leave(player)
        assert hooks(edge) == [("on_stop_play", "session-2", "b"), ("on_disconnect", "session-2")]


def test_a_name_that_another_one_publishes_by_the_time_its_end_is_reported() -> None:
    edge = stage(held=True)
    one, two, three = edge.client(), edge.client(), edge.client()
    edge.command(one, "publish", "a")
    edge.report()
    edge.command(one, "closeStream")
    edge.command(two, "publish", "a")
    edge.command(three, "publish", "a")  # Its home does not know of the other: the stream's group refuses.
    edge.report(1, 0)
    edge.command(three, "publish", "a")
    assert edge.codes(two) == ["NetStream.Publish.Start"]
    assert edge.codes(three) == ["NetStream.Publish.BadName"] * 2
    assert [call[:2] for call in hooks(edge)] == [
        ("on_publish", "session-1"),
        ("on_publish", "session-2"),
        ("on_publish", "session-3"),
        ("on_unpublish", "session-1"),
    ]
    edge.leave(two)
    edge.command(three, "publish", "a")
    assert edge.codes(three) == ["NetStream.Publish.Start"]


def test_a_client_publishes_the_same_again_before_the_end_is_reported() -> None:
    edge = stage(held=True)
    client = edge.client()
    edge.command(client, "publish", "a")
    edge.report()
    for end in (("closeStream",), ("play", False)):
        edge.taken(client)
        edge.command(client, *end)
        edge.command(client, "publish", "a")
        assert edge.codes(client)[-1] == "NetStream.Publish.Start"
    edge.report()
    edge.leave(client)
    calls = [call[0] for call in hooks(edge)]
    assert calls == [*["on_publish"] * 3, *["on_unpublish"] * 3, "on_disconnect"]


def test_reports_that_do_not_name_their_group() -> None:
    edge = stage(named=False)
    client = edge.client()
    edge.command(client, "publish", "a")
    edge.leave(client)
    assert [call[0] for call in hooks(edge)] == ["on_publish", "on_unpublish", "on_disconnect"]


def test_reports_about_nothing() -> None:
    edge = stage()
    client = edge.client()
    counters = edge.bench.origin.counters
    client.put(GuestStream(client.number, 1, True, True), GuestStream(77, 1, True, True))
    client.put(GuestStream(client.number, 1, True, True, "other/room#stream:a"))
    assert counters.stray_messages == 3
    edge.command(client, "publish", "b", stream_id=2)
    hooks(edge)
    client.put(GuestStream(client.number, 1, True, False, "app/room#stream:a"))
    client.put(GuestStream(client.number, 2, False, False, "app/room#stream:b"))
    settle()
    assert hooks(edge) == []
    assert not client.session.closed


def test_a_report_that_comes_when_the_message_stream_is_gone() -> None:
    edge = stage(held=True)
    client = edge.client()
    edge.command(client, "publish", "a")
    edge.command(client, "deleteStream", 1.0)
    assert [call[0] for call in hooks(edge)] == ["on_publish"]
    edge.report()
    assert hooks(edge) == [("on_unpublish", "session-1", "a")]


def test_a_hook_that_waits_while_the_client_leaves() -> None:
    from gevent.event import Event

    gate = Event()

    class Slow(Application):
        streams = "spread"

        def on_publish(self, client: Client, name: str, query: str) -> None:
            gate.wait()

    edge = SpreadEdge(Bench({"app": Slow}))
    client = edge.client()
    edge.command(client, "publish", "a")
    client.detach()
    gate.set()
    edge.pump()
    assert edge.routed == []


def test_the_limit_of_message_streams_is_the_home_s() -> None:
    class App(Stage):
        streams = "spread"
        log: list[Any] = []  # noqa: RUF012

    edge = SpreadEdge(Bench({"app": App}, streams_per_session=2))
    client = edge.client()
    client.command("createStream", transaction=5)
    edge.pump()
    assert edge.taken(client)[0][0] == "_error"
