"""Live streams whose origin is lost: publishers keep the last seconds, players have no gap, or begin again at a keyframe."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from headwater_bus import traffic
from headwater_edge.attachment import Attachment
from headwater_edge.client import Client
from headwater_edge.publishing import Publication
from headwater_edge.standing import RestoredPlayer
from headwater_rtmp.message import Message
from support.edge import GROUP, FakeLink, Peer, attached, end_all, linked, lose, make_edge, say
from support.waiting import eventually

CODEC = b"\x17\x00\0\0\0codec"
KEY, INTER = b"\x17\x01\0\0\0k", b"\x27\x01\0\0\0i"
CAM = f"{GROUP}#stream:cam"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    end_all()


class Two:
    """An edge with links to two origins. The group is at the first, with one client in it. Media leaves at once."""

    def __init__(self) -> None:
        self.edge, self.node, self.first = make_edge(flush_ms=0)
        self.second = linked(self.edge, self.node, "origin-2")
        self.peer = attached(self.edge, self.first)
        assert self.peer.client is not None
        self.client = self.peer.client
        self.begin = 0

    def publish(self, *payloads: bytes) -> None:
        for payload in payloads:
            before = self.edge.counters.media_in
            self.peer.send(self.peer.rtmp.send(Message(9, 1, 40, payload)))
            eventually(lambda: self.edge.counters.media_in == before + 1, 10)  # noqa: B023

    def media(self, link: FakeLink) -> list[tuple[int, int, bytes]]:
        return [
            (m.stream, m.number and m.number - self.begin, m.payload) for m in link.of(traffic.PublisherMedia)
        ]

    def started(self) -> None:
        """The first origin has the client publish."""
        say(self.edge, self.first, traffic.PublishStarted(1, 1, 12, "cam"))
        self.begin = self.publication().number

    def publication(self) -> Publication:
        assert self.client.publications is not None
        return self.client.publications[1]

    def play(self) -> None:
        say(
            self.edge,
            self.first,
            traffic.StreamOpened(8, "cam", GROUP),
            traffic.StreamMedia(8, 0, 9, 0, CODEC),
            traffic.StreamMedia(8, 5, 9, 40, KEY),
            traffic.PlayStarted(1, 1, 8),
            traffic.StreamMedia(8, 6, 9, 80, INTER + b"6"),
        )
        self.peer.until(lambda: len(self.peer.messages) == 3)
        self.peer.messages.clear()

    def played(self, count: int) -> list[bytes]:
        self.peer.until(lambda: len(self.peer.messages) >= count)
        return [message.payload for message in self.peer.messages]


@pytest.fixture
def two() -> Two:
    return Two()


# Publishers


def test_a_publisher_s_next_origin_gets_headers_the_ring_and_what_follows(two: Two) -> None:
    two.started()
    two.publish(CODEC, KEY, INTER + b"3")
    lose(two.edge, two.first)
    two.publish(INTER + b"4")
    two.node.grant(GROUP, "origin-2", 4)
    two.publish(INTER + b"5")
    assert two.media(two.second) == []
    say(
        two.edge,
        two.second,
        traffic.Attached(1, 0, False),
        traffic.PublishStarted(1, 1, 30, "cam", resumed=True),
    )
    two.publish(INTER + b"6")
    assert two.media(two.second) == [
        (30, 0, CODEC),
        (30, 1, CODEC),
        (30, 2, KEY),
        (30, 3, INTER + b"3"),
        (30, 4, INTER + b"4"),
        (30, 5, INTER + b"5"),
        (30, 6, INTER + b"6"),
    ]
    assert [number for _, number, _ in two.media(two.first)] == [1, 2, 3]
    assert two.edge.counters.media_again == 5
    # It may be asked for the ring once more, under another number.
    two.second.sent.clear()
    say(two.edge, two.second, traffic.PublishStarted(1, 1, 31, "cam", resumed=True))
    assert [(stream, number) for stream, number, _ in two.media(two.second)] == [
        (31, number) for number in range(7)
    ]
    # The message stream goes on as it was: ending it ends it.
    say(two.edge, two.second, traffic.PublishStopped(1, 1))
    assert two.client.publications == {}


def test_a_publication_that_the_next_origin_begins_anew_counts_anew(two: Two) -> None:
    two.started()
    two.publish(CODEC, KEY)
    two.node.grant(GROUP, "origin-2", 4)
    two.publication().number -= 5000  # So much time has passed.
    last = two.publication().number
    say(two.edge, two.second, traffic.Attached(1, 0, False), traffic.PublishStarted(1, 1, 30, "cam"))
    two.publish(KEY)
    (media,) = two.second.of(traffic.PublisherMedia)
    assert (media.stream, media.payload) == (30, KEY)
    assert media.number > last


def test_a_publication_that_only_the_origin_remembers_begins_anew(two: Two) -> None:
    say(two.edge, two.first, traffic.PublishStarted(1, 1, 12, "cam", resumed=True))
    two.publish(KEY)
    assert [(stream, payload) for stream, _, payload in two.media(two.first)] == [(12, KEY)]


def test_what_was_sent_before_the_answer_is_kept(two: Two) -> None:
    """A client may send media right behind its command; it goes to the group as messages then."""
    old = Message(9, 1, 0, b"\x17\x00\0\0\0old")
    for message in (
        old,
        Message(20, 1, 0, b"publish"),
        Message(9, 2, 0, b"\x17\x00\0\0\0else"),
        Message(9, 1, 0, CODEC),
    ):
        two.edge.router.route(two.client, message)
    two.started()
    two.publish(KEY)
    two.node.grant(GROUP, "origin-2", 4)
    resumed = traffic.PublishStarted(1, 1, 30, "cam", resumed=True)
    say(two.edge, two.second, traffic.Attached(1, 4, False), resumed)
    two.begin -= 1
    assert two.media(two.second) == [(30, 0, CODEC), (30, 1, CODEC), (30, 2, KEY)]


def publication(
    stream: int = 7, ring_s: float = 4.0, ring_bytes: int = 10_000
) -> tuple[Publication, FakeLink]:
    """Without a client: `take` and `resume` need only a link."""
    link = FakeLink()
    attachment = Attachment(None, 1, GROUP)  # type: ignore[arg-type]  # no client
    attachment.link = link  # type: ignore[assignment]  # all that it needs of a Link
    ring = Publication(attachment, stream, ring_s, ring_bytes)
    ring.number = 0
    return ring, link


def again(publication: Publication, link: FakeLink) -> list[int]:
    """The numbers that it sends again."""
    link.sent.clear()
    publication.resume(9)
    return [media.number for media in link.sent if media.number]


def test_a_ring_keeps_the_last_seconds() -> None:
    ring, link = publication(ring_s=4.0)
    for at in range(10):
        ring.take(Message(8, 1, 0, b"audio"), float(at))
    assert again(ring, link) == [6, 7, 8, 9, 10]


def test_what_a_ring_keeps_is_nothing_to_the_garbage_collector() -> None:
    ring, _ = publication()
    ring.take(Message(9, 1, 0, KEY.ljust(40)), 0.0)
    ring.take(Message(9, 1, 40, b"\x27\x01picture"), 0.04)
    gc.collect()
    assert len(ring._ring) == 2
    assert not any(map(gc.is_tracked, ring._ring))
    # Its headers are in a cache that keeps no other messages.
    assert ring._headers.snapshot() == ring._headers.headers()


def test_a_ring_keeps_no_more_than_its_bytes() -> None:
    ring, link = publication(ring_bytes=10_000)
    for _ in range(100):
        ring.take(Message(8, 1, 0, bytes(872)), 1.0)
        assert ring.held_bytes <= 10_000
    assert again(ring, link) == list(range(91, 101))


def test_a_message_larger_than_the_ring_passes_through_it() -> None:
    ring, link = publication(ring_bytes=1000)
    ring.take(Message(8, 1, 0, b"audio"), 1.0)
    ring.take(Message(9, 1, 0, bytes(2000)), 1.0)
    assert (ring.held_bytes, [media.number for media in link.sent]) == (0, [1, 2])
    ring.take(Message(8, 1, 0, b"audio"), 1.0)
    assert again(ring, link) == [3]


def test_while_no_origin_is_there_a_ring_keeps_all_that_its_bytes_allow() -> None:
    ring, link = publication(ring_bytes=10_000)
    ring.take(Message(8, 1, 0, b"audio"), 0.0)
    ring.stream = 0
    for at in range(1, 60):
        ring.take(Message(8, 1, 0, b"audio"), float(at))
    assert len(link.sent) == 1
    assert again(ring, link) == list(range(1, 61))
    ring.stream = 0
    for _ in range(20):
        ring.take(Message(8, 1, 0, bytes(872)), 60.0)
    assert again(ring, link) == list(range(71, 81))


def test_headers_outlive_the_ring() -> None:
    ring, link = publication()
    metadata = Message(18, 1, 0, b"\x02\x00\x0aonMetaData\x05")
    for message in (metadata, Message(9, 1, 0, CODEC), Message(9, 1, 0, KEY)):
        ring.take(message, 0.0)
    ring.take(Message(9, 1, 0, INTER), 100.0)
    link.sent.clear()
    assert ring.resume(9) == 1
    assert [(m.number, m.type_id, m.payload) for m in link.sent] == [
        (0, 18, metadata.payload),
        (0, 9, CODEC),
        (4, 9, INTER),
    ]


# Players


def test_a_stream_that_goes_on_has_no_gap_and_nothing_twice(two: Two) -> None:
    two.play()
    player = (two.client.players or {})[1]
    lose(two.edge, two.first)
    two.node.grant(GROUP, "origin-2", 4)
    (attach,) = two.second.of(traffic.Attach)
    assert attach.streams == [["cam", 6]]
    say(
        two.edge,
        two.second,
        traffic.Attached(1, 0, False),
        traffic.StreamOpened(3, "cam", GROUP, after=6),
        traffic.PlayStarted(1, 1, 3),
        traffic.PlayChanged(1, 1, True, True, False),
        *(traffic.StreamMedia(3, number, 9, 80, INTER + b"%d" % number) for number in (5, 6, 7, 8)),
    )
    assert two.played(2) == [INTER + b"7", INTER + b"8"]
    assert (two.client.players or {})[1] is player
    assert player.plain
    assert list(two.second.data.streams) == [3]
    assert two.first.data.streams == {}
    assert two.edge.counters.media_doubled == 2
    # Who joins now begins with the cache, which has the keyframe of before.
    late = attached_to(two, two.second)
    say(two.edge, two.second, traffic.PlayStarted(2, 1, 3))
    late.until(lambda: len(late.messages) == 5)
    assert [m.payload for m in late.messages][:2] == [CODEC, KEY]


def attached_to(two: Two, link: FakeLink) -> Peer:
    return attached(two.edge, link)


def test_a_stream_with_a_gap_begins_again_where_the_origin_says(two: Two) -> None:
    two.play()
    two.node.grant(GROUP, "origin-2", 4)
    say(
        two.edge,
        two.second,
        traffic.Attached(1, 0, False),
        traffic.StreamOpened(3, "cam", GROUP),
        traffic.PlayStarted(1, 1, 3),
        traffic.StreamMedia(3, 0, 9, 90, CODEC),
        traffic.StreamMedia(3, 2, 9, 90, KEY),
    )
    assert two.played(2) == [CODEC, KEY]
    assert two.edge.counters.streams_interrupted == 1
    assert two.edge.counters.media_doubled == 0


def test_another_publisher_s_numbers_are_not_compared(two: Two) -> None:
    two.play()
    say(two.edge, two.first, traffic.StreamReset(8), traffic.StreamMedia(8, 1, 9, 0, KEY))
    assert two.played(1) == [KEY]
    say(
        two.edge,
        two.first,
        traffic.StreamMedia(8, 0, 18, 0, b"\x02\x00\x01x"),
        traffic.StreamMedia(8, 1, 9, 0, KEY),
    )
    assert len(two.played(2)) == 2


def test_what_the_old_origin_still_sends_of_a_stream_is_ignored(two: Two) -> None:
    two.play()
    two.node.grant(GROUP, "origin-2", 4)
    say(two.edge, two.first, traffic.StreamMedia(8, 7, 9, 80, INTER), traffic.StreamClosed(8))
    say(two.edge, two.first, traffic.StreamOpened(9, "cam", GROUP), traffic.PlayStopped(1, 1))
    assert two.first.data.streams == {}
    fanout = two.edge.cluster.groups[GROUP].streams["cam"]
    assert (fanout.number, fanout.last_number, fanout.player_count) == (0, 6, 1)


def test_a_stream_is_forgotten_with_its_last_player_while_no_origin_has_it(two: Two) -> None:
    stays = attached(two.edge, two.first)
    two.play()
    lose(two.edge, two.first)
    two.client.close("done", gone=True)
    assert two.edge.cluster.groups[GROUP].streams == {}
    assert not stays.ended


def test_a_stream_that_the_next_origin_does_not_open_is_forgotten_with_its_players(two: Two) -> None:
    two.play()
    two.node.grant(GROUP, "origin-2", 4)
    say(two.edge, two.second, traffic.Attached(1, 0, False))
    assert two.edge.health()["streams"] == {"cam": 1}
    two.client.close("done", gone=True)
    assert two.edge.cluster.groups == {}


def test_a_player_of_the_same_stream_twice_says_so_once(two: Two) -> None:
    two.play()
    say(two.edge, two.first, traffic.PlayStarted(1, 2, 8))
    two.node.grant(GROUP, "origin-2", 4)
    (attach,) = two.second.of(traffic.Attach)
    assert attach.streams == [["cam", 6]]


@pytest.mark.parametrize(("name", "rows"), [("cam", [["cam", 6]]), ("other", [])])
def test_a_player_that_another_edge_had_says_what_this_one_has_for_others(
    two: Two, name: str, rows: list[list[Any]]
) -> None:
    two.play()
    client = attached(two.edge, two.first).client
    assert client is not None
    client.restored = {1: RestoredPlayer(client.session, name, 4, True, True, False)}
    two.node.grant(GROUP, "origin-2", 4)
    attach = next(one for one in two.second.of(traffic.Attach) if one.session == client.session)
    assert attach.streams == [*rows, [name, 4, 1]]


# Guests


class Spread(Two):
    """The client publishes on message stream 1 and plays on 2 as a guest of a group at the second origin."""

    def __init__(self) -> None:
        super().__init__()
        self.node.grant(CAM, "origin-2", 7)
        self.third = linked(self.edge, self.node, "origin-3")
        for stream_id in (1, 2):
            say(self.edge, self.first, traffic.Routed(1, CAM, 0, 0, [], 20, stream_id, 0, b"\x02\x00\x01x"))
        self.guest = self.second.of(traffic.Attach)[0].session
        say(
            self.edge,
            self.second,
            traffic.Attached(self.guest, 0, False),
            traffic.PublishStarted(self.guest, 1, 9, "cam"),
            traffic.StreamOpened(8, "cam", CAM),
            traffic.StreamMedia(8, 5, 9, 0, KEY),
            traffic.PlayStarted(self.guest, 2, 8),
        )


def test_a_home_that_goes_on_is_told_what_its_session_does_elsewhere() -> None:
    two = Spread()
    told = len(two.first.of(traffic.GuestStream))
    assert told == 2
    lose(two.edge, two.first)
    # What ends meanwhile is missing in what the next one is told.
    say(two.edge, two.second, traffic.PlayStopped(two.guest, 2))
    two.node.grant(GROUP, "origin-3", 8)
    (attach,) = two.third.of(traffic.Attach)
    assert attach.guest_streams == [[1, CAM, True]]
    assert attach.streams == []
    assert two.third.of(traffic.GuestStream) == []
    # From here on it hears of changes again, before its answer, too.
    say(two.edge, two.second, traffic.PublishStopped(two.guest, 1))
    assert two.third.of(traffic.GuestStream) == [traffic.GuestStream(1, 1, True, False, CAM)]


def test_a_guest_goes_on_like_a_home() -> None:
    two = Spread()
    lose(two.edge, two.second)
    two.publish(KEY)
    two.node.grant(CAM, "origin-3", 9)
    (attach,) = two.third.of(traffic.Attach)
    assert (attach.session, attach.session_id, attach.resumed) == (two.guest, "b00t-1", True)
    assert (attach.type_id, attach.payload, attach.guest_streams) == (0, b"", [])
    assert attach.streams == [["cam", 5]]
    assert [message.number for message in two.third.of(traffic.FromGuest)] == [1, 2]
    say(
        two.edge,
        two.third,
        traffic.Attached(two.guest, 2, False),
        traffic.PublishStarted(two.guest, 1, 4, "cam", resumed=True),
        traffic.StreamOpened(6, "cam", CAM, after=5),
        traffic.PlayStarted(two.guest, 2, 6),
        traffic.StreamMedia(6, 6, 9, 0, INTER),
    )
    assert [(stream, payload) for stream, _, payload in two.media(two.third)] == [(4, KEY)]
    client: Client = two.client
    assert list(client.publications or ()) == [1]
    assert list(client.players or ()) == [2]
    # The home has heard of nothing: for it nothing has changed.
    assert len(two.first.of(traffic.GuestStream)) == 2
