"""The origin: a publisher goes without a goodbye, and one with the same proof takes its stream over. No sockets."""

from typing import Any

import pytest
from headwater_bus.traffic import (
    PlayStopped,
    PublisherMedia,
    PublishStarted,
    PublishStopped,
    StreamClosed,
    StreamMedia,
    StreamReset,
)
from headwater_origin import Application, Client, Reject
from headwater_origin.session_state import unpack_state
from headwater_origin.streams.reserved import publisher_proof
from headwater_origin.streams.timeline import Timeline
from headwater_rtmp.message import Message
from hypothesis import given
from hypothesis import strategies as st
from support.origin_bench import Bench, FakeClient, FakeLink, settle

AUDIO, VIDEO, DATA = 8, 9, 18
HEADER = b"\x17\x00\x00\x00\x00avcC"
KEY = b"\x17\x01\x00\x00\x00key"
INTER = b"\x27\x01\x00\x00\x00inter"
BAD_NAME = "NetStream.Publish.BadName"


class Open(Application):
    allow_publish = True

    def on_start(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def on_publish(self, client: Client, name: str, query: str) -> Reject | None:
        self.heard.append(("publish", client.id))
        return super().on_publish(client, name, query)

    def on_unpublish(self, client: Client, name: str) -> None:
        self.heard.append(("unpublish", client.id))


class Stage:
    """A publisher of `a?key=secret` on an edge of its own, and a player on another; the clock of their group stands."""

    def __init__(self, **config: Any) -> None:
        self.bench = Bench({"app": Open}, **config)
        self.publisher = self.joined(self.bench.edge())
        self.now = self.group.clock()
        self.group.clock = lambda: self.now
        self.stream = self.publish(self.publisher)
        self.sent = 0
        self.link = self.bench.edge()
        self.player = self.joined(self.link)
        self.player.command("play", "a", stream_id=1)
        settle()
        self.link.take()

    @property
    def group(self) -> Any:
        return self.bench.origin.groups["app/room"]

    def joined(self, link: FakeLink) -> FakeClient:
        client = self.bench.joined(link)
        client.command("createStream", transaction=2)
        client.take()
        return client

    def publish(self, client: FakeClient, name: str = "a?key=secret") -> int:
        """Returns the number of its media; 0: it was refused."""
        client.command("publish", name, stream_id=1)
        settle()
        started = client.link.take(PublishStarted)
        return started[0].stream if started else 0

    def media(self, client: FakeClient, stream: int, *rows: tuple[int, int, bytes]) -> None:
        for type_id, timestamp, payload in rows:
            self.sent += 1
            client.put(PublisherMedia(stream, self.sent, type_id, timestamp, payload))

    def begin(self) -> None:
        self.media(self.publisher, self.stream, (VIDEO, 0, HEADER), (VIDEO, 0, KEY), (VIDEO, 40, INTER))
        self.link.take()

    def pass_s(self, seconds: float) -> None:
        self.now += seconds
        self.group.tick(self.now)
        settle()

    def got(self) -> list[tuple[int, bytes]]:
        return [(media.timestamp, media.payload) for media in self.link.take(StreamMedia)]


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.begin()
    return stage


def refusal(client: FakeClient) -> str:
    """What the last refused publish of a client said."""
    return client.codes()[-1]


@pytest.mark.parametrize("end", ["detach", "edge"])
def test_players_are_told_nothing_and_go_on_at_the_keyframe_of_who_follows(stage: Stage, end: str) -> None:
    if end == "detach":
        stage.publisher.detach()
    else:
        stage.bench.origin.link_down(stage.publisher.link, "lost")  # type: ignore[arg-type]
    settle()
    stage.pass_s(2.0)
    assert stage.link.take() == []
    follower = stage.joined(stage.bench.edge())
    stage.sent = 0
    stream = stage.publish(follower)
    assert [type(told) for told in stage.link.take()] == [StreamReset]
    stage.media(
        follower, stream, (VIDEO, 0, HEADER), (VIDEO, 0, KEY), (AUDIO, 10, b"\xaf\x01x"), (VIDEO, 40, INTER)
    )
    # 2 s have passed since 40.
    assert stage.got() == [(2040, HEADER), (2040, KEY), (2050, b"\xaf\x01x"), (2080, INTER)]
    assert stage.group.application.heard == [
        ("publish", "session-1"),
        ("unpublish", "session-1"),
        ("publish", "session-3"),
    ]


def test_a_stranger_is_refused_and_hears_for_how_long(stage: Stage) -> None:
    stage.publisher.detach()
    settle()
    stage.pass_s(3.0)
    for name in ("a", "a?key=guessed"):
        stranger = stage.joined(stage.bench.edge())
        assert stage.publish(stranger, name) == 0
        assert refusal(stranger) == BAD_NAME
        why = stage.group.streams.hindrance(stranger.session.streams[1], "a", b"other")
        assert "reserved" in why
        assert " 7 s" in why
    # Its hook was not even asked.
    assert ("publish", "session-3") not in stage.group.application.heard
    assert stage.link.take() == []
    assert stage.publish(stage.joined(stage.bench.edge()))


def test_after_the_grace_players_are_told_and_the_name_is_free(stage: Stage) -> None:
    stage.publisher.detach()
    settle()
    stage.pass_s(9.9)
    assert stage.link.take() == []
    stage.pass_s(0.2)
    assert stage.player.codes() == ["NetStream.Play.UnpublishNotify"]
    assert [type(told) for told in stage.link.take()] == [StreamReset]
    stranger = stage.joined(stage.bench.edge())
    stage.sent = 0
    stream = stage.publish(stranger, "a")
    assert stage.player.codes() == ["NetStream.Play.PublishNotify"]
    stage.media(stranger, stream, (VIDEO, 7, HEADER), (VIDEO, 7, KEY))
    assert stage.got() == [(7, HEADER), (7, KEY)]  # Another stream: its time is its own.


@pytest.mark.parametrize("goodbye", ["closeStream", "deleteStream", "publish", "kick"])
def test_a_goodbye_has_no_grace(stage: Stage, goodbye: str) -> None:
    if goodbye == "kick":
        stage.publisher.session.close("away with you")
    elif goodbye == "publish":
        stage.publisher.command("publish", False, stream_id=1)
    else:
        stage.publisher.command(goodbye, *([1.0] if goodbye == "deleteStream" else []), stream_id=1)
    settle()
    assert stage.player.codes() == ["NetStream.Play.UnpublishNotify"]
    assert stage.publish(stage.joined(stage.bench.edge()), "a")


def test_without_a_grace_all_is_told_at_once() -> None:
    stage = Stage(publisher_grace_s=0)
    stage.begin()
    stage.publisher.detach()
    settle()
    assert stage.player.codes() == ["NetStream.Play.UnpublishNotify"]


def test_who_shows_nothing_is_the_same_as_nobody() -> None:
    assert publisher_proof(b"", "") == b""
    stage = Stage()
    stage.begin()
    other = stage.joined(stage.bench.edge())
    other.command("publish", "b", stream_id=1)
    other.detach()
    settle()
    assert "b" not in stage.group.streams.by_name


def test_a_publisher_that_lives_gives_way_to_the_same_one_only_when_it_is_silent(stage: Stage) -> None:
    follower = stage.joined(stage.bench.edge())
    stage.pass_s(2.9)
    assert stage.publish(follower) == 0
    assert refusal(follower) == BAD_NAME
    stage.pass_s(0.2)
    stranger = stage.joined(stage.bench.edge())
    assert stage.publish(stranger, "a?key=guessed") == 0
    stage.sent = 0
    stream = stage.publish(follower)
    assert stream
    assert PublishStopped(stage.publisher.number, 1) in stage.publisher.link.log
    assert "NetStream.Unpublish.Success" in stage.publisher.codes()
    # What the former one sends means nothing any more.
    stage.publisher.put(PublisherMedia(stage.stream, 9, VIDEO, 80, INTER))
    stage.media(follower, stream, (VIDEO, 0, HEADER), (VIDEO, 0, KEY))
    assert stage.got() == [(3140, HEADER), (3140, KEY)]
    stage.publisher.detach()
    settle()
    assert stage.player.codes() == []


def test_who_plays_meanwhile_waits(stage: Stage) -> None:
    stage.publisher.detach()
    settle()
    late = stage.joined(stage.bench.edge())
    late.command("play", "a", stream_id=1)
    settle()
    assert "NetStream.Play.Start" in late.codes()


def test_a_reservation_that_nobody_plays_ends_too(stage: Stage) -> None:
    stage.player.command("closeStream", stream_id=1)
    settle()
    assert [type(told) for told in stage.link.take(PlayStopped, StreamClosed)] == [PlayStopped, StreamClosed]
    stage.publisher.detach()
    settle()
    assert "a" in stage.group.streams.by_name
    stage.pass_s(10.1)
    assert "a" not in stage.group.streams.by_name


def test_so_many_are_waited_for_at_most_and_nothing_is_kept_for_nobody() -> None:
    stage = Stage(publishers_awaited=2)
    stage.begin()
    others = []
    for name in "bcd":
        client = stage.joined(stage.bench.edge())
        stream = stage.publish(client, f"{name}?key=secret")
        stage.media(client, stream, (VIDEO, 0, HEADER), (VIDEO, 0, KEY))
        others.append(client)
    streams = stage.group.streams.by_name
    for client in others:
        client.detach()
        settle()
    assert sorted(streams) == ["a", "b", "c"]
    assert streams["b"].cache.held_bytes == 0
    # One that comes back makes room.
    assert stage.publish(stage.joined(stage.bench.edge()), "b?key=secret")
    stage.publisher.detach()
    settle()
    assert stage.player.codes() == []
    stage.pass_s(10.1)
    assert sorted(streams) == ["a", "b"]


def test_another_origin_learns_whose_it_is_and_how_its_time_is_moved(stage: Stage) -> None:
    stage.publisher.detach()
    settle()
    stage.pass_s(1.0)
    follower = stage.joined(stage.bench.edge())
    stage.sent = 0
    stream = stage.publish(follower)
    stage.media(follower, stream, (VIDEO, 500, KEY))
    settle()
    state = unpack_state(follower.link.states[follower.number])
    assert state.publications == [[1, publisher_proof(b"", "key=secret"), 1040 - 500]]


@given(
    last=st.integers(0, 2**32 - 1),
    silent_ms=st.integers(0, 100_000),
    first=st.integers(0, 2**32 - 1),
    steps=st.lists(st.integers(-200, 5000), max_size=20),
)
def test_time_goes_on_and_never_back(last: int, silent_ms: int, first: int, steps: list[int]) -> None:
    timeline = Timeline(last, 10.0)
    message = Message(VIDEO, 1, first, KEY)
    assert timeline.move(message, 10.0 + silent_ms / 1000)
    assert (message.timestamp - last) % 2**32 == silent_ms
    sent = first
    for step in steps:
        sent = (sent + step) % 2**32
        message = Message(AUDIO, 1, sent, b"\xaf\x01")
        assert not timeline.move(message, 1e6)
        expected = max(0, silent_ms + (sent - first + 2**31) % 2**32 - 2**31)
        assert (message.timestamp - last) % 2**32 == expected
