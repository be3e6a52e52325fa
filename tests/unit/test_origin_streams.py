"""The origin: live streams and what their edges are sent. No sockets."""

from typing import Any

import gevent
import pytest
from headwater_amf import amf0
from headwater_bus.traffic import (
    GatherMedia,
    PlayStarted,
    PlayStopped,
    PublisherMedia,
    PublishStarted,
    PublishStopped,
    StreamClosed,
    StreamMedia,
    StreamOpened,
    StreamReset,
)
from headwater_origin import Application
from headwater_rtmp.message import Message
from support.origin_bench import Bench, FakeClient, FakeLink

AUDIO, VIDEO, DATA, DATA3 = 8, 9, 18, 15
HEADER = b"\x17\x00\x00\x00\x00avcC"
KEY = b"\x17\x01\x00\x00\x00key"
INTER = b"\x27\x01\x00\x00\x00inter"
AAC_HEADER = b"\xaf\x00aac"
SOUND = b"\xaf\x01sound"


class Open(Application):
    allow_publish = True
    wait_for_publisher = True


def joined(bench: Bench, link: FakeLink) -> FakeClient:
    client = bench.joined(link)
    client.command("createStream", transaction=2)
    client.take()
    return client


class Stage:
    """A publisher of `a` on an edge of its own."""

    def __init__(self, **config: Any) -> None:
        self.bench = Bench({"app": Open}, **config)
        self.publisher = joined(self.bench, self.bench.edge())
        self.publisher.command("publish", "a", stream_id=1)
        (started,) = self.publisher.link.take(PublishStarted)
        self.publisher.link.take()
        self.number = started.stream
        self.sent = 0

    def media(self, *payloads: bytes, type_id: int = VIDEO) -> None:
        for payload in payloads:
            self.sent += 1
            self.publisher.put(PublisherMedia(self.number, self.sent, type_id, self.sent * 10, payload))

    def player(self, link: FakeLink) -> FakeClient:
        client = joined(self.bench, link)
        client.command("play", "a", stream_id=1)
        return client

    @property
    def stream(self) -> Any:
        return self.bench.origin.groups["app/room"].streams.by_name["a"]


def payloads(link: FakeLink) -> list[bytes]:
    return [envelope.payload for envelope in link.take(StreamMedia)]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_an_edge_gets_each_message_once_however_many_players_it_has(stage: Stage) -> None:
    one, two = stage.bench.edge(), stage.bench.edge()
    for _ in range(5):
        stage.player(one)
    stage.player(two)
    assert len(one.take(StreamOpened)) == len(two.take(StreamOpened)) == 1
    assert len(one.take(PlayStarted)) == 5
    stage.media(HEADER, KEY, INTER)
    for link in (one, two):
        assert payloads(link) == [HEADER, KEY, INTER]
    assert payloads(stage.publisher.link) == []
    counters = stage.bench.origin.counters
    assert (counters.media_in, counters.media_out) == (3, 6)


def test_media_keeps_type_timestamp_and_number(stage: Stage) -> None:
    link = stage.bench.edge()
    stage.player(link)
    (opened,) = link.take(StreamOpened)
    stage.publisher.put(PublisherMedia(stage.number, 41, AUDIO, 2**32 - 1, SOUND))
    assert link.take(StreamMedia) == [StreamMedia(opened.stream, 41, AUDIO, 2**32 - 1, SOUND)]


def test_the_first_player_of_an_edge_opens_it_with_the_cache(stage: Stage) -> None:
    stage.media(b"\x02\x00\x0d@setDataFrame" + amf0.encode("onMetaData", {"width": 1.0}), type_id=DATA)
    stage.media(HEADER, KEY, INTER)
    stage.media(AAC_HEADER, SOUND, type_id=AUDIO)
    link = stage.bench.edge()
    stage.player(link)
    opened, *media = link.take(StreamOpened, StreamMedia)
    assert opened == StreamOpened(opened.stream, "a", "app/room")
    assert [envelope.payload for envelope in media] == [
        amf0.encode("onMetaData", {"width": 1.0}),
        HEADER,
        AAC_HEADER,
        KEY,
        INTER,
        SOUND,
    ]
    (started,) = link.take(PlayStarted)
    assert started.stream == opened.stream
    link.take()
    stage.player(link)
    assert link.take(StreamOpened, StreamMedia) == []
    assert link.take(PlayStarted)[0].stream == opened.stream


def test_the_cache_comes_before_play_started_and_after_the_statuses(stage: Stage) -> None:
    stage.media(HEADER, KEY)
    link = stage.bench.edge()
    stage.player(link)
    order = [type(envelope).__name__ for envelope in link.log]
    assert order.index("StreamOpened") < order.index("StreamMedia") < order.index("PlayStarted")
    assert order[-1] == "PlayStarted"


def test_the_last_player_closes_the_stream_on_its_edge(stage: Stage) -> None:
    link = stage.bench.edge()
    one, two, three = stage.player(link), stage.player(link), stage.player(link)
    (opened,) = link.take(StreamOpened)
    link.take()
    one.command("closeStream", stream_id=1)
    assert link.take() == [PlayStopped(one.number, 1)]
    two.command("deleteStream", 1.0)
    assert link.take() == [PlayStopped(two.number, 1)]
    three.detach()
    assert link.take() == [StreamClosed(opened.stream)]
    stage.media(KEY)
    assert link.log == []
    stage.player(link)
    assert link.take(StreamOpened)[0].stream > opened.stream


def test_a_publisher_may_play_its_own_stream_on_the_same_edge(stage: Stage) -> None:
    stage.publisher.command("createStream", transaction=3)
    stage.publisher.command("play", "a", stream_id=2)
    stage.publisher.link.take()
    stage.media(KEY)
    assert payloads(stage.publisher.link) == [KEY]
    stage.publisher.link.take()
    stage.publisher.detach()
    assert [type(envelope) for envelope in stage.publisher.link.take()] == [StreamReset, StreamClosed]
    assert stage.bench.origin.groups["app/room"].streams.by_name == {}
    assert stage.publisher.link.data.publications == {}


def test_when_the_publisher_ends_players_stay_and_caches_are_emptied(stage: Stage) -> None:
    stage.media(HEADER, KEY)
    link = stage.bench.edge()
    player = stage.player(link)
    (opened,) = link.take(StreamOpened)
    link.take()
    stage.publisher.command("deleteStream", 1.0)
    assert stage.publisher.link.take(PublishStopped) == [PublishStopped(1, 1)]
    assert link.take(StreamReset) == [StreamReset(opened.stream)]
    assert player.take() == [("onStatus", 1, "NetStream.Play.UnpublishNotify"), ("StreamEOF", 1)]
    stage.media(KEY)
    assert link.log == []
    assert stage.bench.origin.counters.stray_messages == 1
    assert stage.stream.cache.snapshot() == []


@pytest.mark.parametrize("how", ["detach", "edge"])
def test_a_publisher_that_is_gone(stage: Stage, how: str) -> None:
    link = stage.bench.edge()
    player = stage.player(link)
    link.take()
    stage.publisher.link.log.clear()
    if how == "detach":
        stage.publisher.detach()
    else:
        stage.bench.origin.link_down(stage.publisher.link, "lost")  # type: ignore[arg-type]  # all that it needs of a Link
    assert player.codes() == ["NetStream.Play.UnpublishNotify"]
    assert stage.publisher.link.take(PublishStopped) == []


def test_the_same_name_is_published_again(stage: Stage) -> None:
    stage.media(HEADER, KEY, INTER)
    link = stage.bench.edge()
    player = stage.player(link)
    stage.publisher.detach()
    link.take()
    second = joined(stage.bench, stage.bench.edge())
    second.command("publish", "a", stream_id=1)
    (started,) = second.link.take(PublishStarted)
    assert player.take() == [("StreamBegin", 1), ("onStatus", 1, "NetStream.Play.PublishNotify")]
    # What the first one sends late is nothing, on its link or with its number.
    stage.media(KEY)
    assert payloads(link) == []
    second.put(
        PublisherMedia(started.stream, 1, VIDEO, 0, HEADER), PublisherMedia(started.stream, 2, VIDEO, 0, KEY)
    )
    assert payloads(link) == [HEADER, KEY]


def test_play_stopped_comes_for_sessions_that_are_still_there_only(stage: Stage) -> None:
    link = stage.bench.edge()
    player = stage.player(link)
    link.take()
    player.session.close("away")
    assert link.take(PlayStopped) == []
    assert len(link.take(StreamClosed)) == 1


def test_a_slow_edge_loses_media_to_the_next_keyframe() -> None:
    stage = Stage(link_media_bytes=1000)
    slow, fast = stage.bench.edge(), stage.bench.edge()
    stage.player(slow)
    stage.player(fast)
    stage.media(HEADER, KEY, INTER)
    assert payloads(slow) == [HEADER, KEY, INTER]
    slow.queued_bytes = 1001
    stage.media(INTER, KEY, INTER)
    slow.queued_bytes = 501
    stage.media(INTER, KEY)  # Not drained far enough.
    slow.queued_bytes = 500
    stage.media(INTER)  # No keyframe.
    stage.media(SOUND, type_id=AUDIO)
    assert payloads(slow) == []
    stage.media(KEY, INTER)
    stage.media(SOUND, type_id=AUDIO)
    assert payloads(slow) == [KEY, INTER, SOUND]
    assert len(payloads(fast)) == 13
    assert stage.bench.origin.counters.media_dropped == 7


def test_after_a_gap_an_edge_gets_the_headers_that_it_missed() -> None:
    stage = Stage(link_media_bytes=1000)
    link = stage.bench.edge()
    stage.player(link)
    stage.media(HEADER, KEY)
    link.take()
    link.queued_bytes = 2000
    stage.media(HEADER + b"2", KEY)
    link.queued_bytes = 0
    stage.media(INTER)
    assert payloads(link) == []
    stage.media(KEY + b"2", INTER)
    assert payloads(link) == [HEADER + b"2", KEY + b"2", INTER]
    link.queued_bytes = 2000
    stage.media(INTER)
    link.queued_bytes = 0
    stage.media(KEY)
    assert payloads(link) == [KEY]  # Nothing of the headers has changed.


def test_a_slow_edge_of_an_audio_stream_goes_on_when_it_has_drained() -> None:
    stage = Stage(link_media_bytes=1000)
    link = stage.bench.edge()
    stage.player(link)
    link.queued_bytes = 2000
    stage.media(AAC_HEADER, SOUND, type_id=AUDIO)
    link.queued_bytes = 0
    stage.media(SOUND + b"2", type_id=AUDIO)
    assert payloads(link) == [AAC_HEADER, SOUND + b"2"]


def test_media_that_comes_before_the_edge_knows_of_the_publication_is_used(stage: Stage) -> None:
    link = stage.bench.edge()
    stage.player(link)
    link.take()
    for stream_id, payload in ((1, HEADER), (2, KEY)):
        stage.publisher.message(Message(VIDEO, stream_id, 5, payload))
    ((envelope),) = link.take(StreamMedia)
    assert (envelope.number, envelope.timestamp, envelope.payload) == (0, 5, HEADER)


def test_media_of_who_does_not_publish_is_nothing() -> None:
    bench = Bench({"app": Application})
    client = joined(bench, bench.edge())
    client.command("publish", "a", stream_id=1)
    for kind in (8, 9, 15, 18):
        for stream_id in (0, 1):
            client.message(Message(kind, stream_id, 0, b"\xff"))
    client.put(PublisherMedia(1, 1, VIDEO, 0, KEY))
    assert client.codes() == ["NetStream.Publish.Denied"]
    assert bench.origin.counters.media_in == 0
    assert bench.origin.counters.stray_messages == 1


METADATA = amf0.encode("onMetaData", {"width": 1.0})
SET = amf0.encode("@setDataFrame")


@pytest.mark.parametrize(
    ("type_id", "payload", "forwarded"),
    [
        (DATA, SET + METADATA, METADATA),
        (DATA, METADATA, METADATA),
        (DATA3, b"\0" + SET + METADATA, b"\0" + METADATA),
        (DATA3, SET + METADATA, METADATA),
        (DATA, amf0.encode("onCue", "@setDataFrame"), amf0.encode("onCue", "@setDataFrame")),
        (DATA, amf0.encode("@clearDataFrame", "onMetaData"), None),
        (DATA3, b"\0" + amf0.encode("@clearDataFrame"), None),
        (DATA3, amf0.encode("@clearDataFrame"), None),
    ],
)
def test_data_frames_are_orders_to_the_server(
    stage: Stage, type_id: int, payload: bytes, forwarded: bytes | None
) -> None:
    link = stage.bench.edge()
    stage.player(link)
    link.take()
    stage.media(payload, type_id=type_id)
    assert payloads(link) == ([] if forwarded is None else [forwarded])
    # And the same for who joins later.
    kept = [forwarded] if forwarded is not None and b"onMetaData" in forwarded else []
    assert [message.payload for message in stage.stream.cache.snapshot()] == kept


def test_health_of_a_stream(stage: Stage) -> None:
    link = stage.bench.edge()
    stage.player(link)
    stage.media(KEY)
    assert stage.stream.health() == {
        "publisher": "session-1",
        "messages_in": 1,
        "bytes_in": len(KEY),
        "edges": {"edge-2": {"players": 1, "messages_out": 1, "dropped": 0}},
    }


def test_media_is_gathered_for_the_edge_that_wants_it_and_stands_before_what_ends_it(stage: Stage) -> None:
    gathering, other = stage.bench.edge(), stage.bench.edge()
    stage.bench.origin.take(gathering.data, [GatherMedia(60_000)])
    for link in (gathering, other):
        stage.player(link)
        link.take()
    stage.media(KEY, INTER)
    assert payloads(other) == [KEY, INTER]
    assert not gathering.log
    stage.publisher.command("closeStream", stream_id=1)
    kinds = [type(envelope) for envelope in gathering.take(StreamMedia, StreamReset)]
    assert kinds == [StreamMedia, StreamMedia, StreamReset]


def test_a_player_follows_what_it_starts_from_where_media_is_gathered(stage: Stage) -> None:
    stage.media(HEADER, KEY, INTER)
    link = stage.bench.edge()
    stage.bench.origin.take(link.data, [GatherMedia(60_000)])
    stage.player(link)
    kinds = [type(envelope) for envelope in link.take(StreamOpened, StreamMedia, PlayStarted)]
    assert kinds == [StreamOpened, StreamMedia, StreamMedia, StreamMedia, PlayStarted]


def test_what_was_gathered_for_an_edge_that_is_lost_is_let_go(stage: Stage) -> None:
    link = stage.bench.edge()
    stage.bench.origin.take(link.data, [GatherMedia(1)])
    stage.player(link)
    stage.media(KEY)
    stage.bench.origin.link_down(link, "gone")  # type: ignore[arg-type]  # all that it needs of a Link
    stage.media(INTER)
    link.log.clear()
    gevent.sleep(0.01)
    assert not link.log
