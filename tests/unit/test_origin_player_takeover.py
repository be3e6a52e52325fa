"""The origin: a player goes on over another edge, which has told it a part of the stream. No sockets."""

from collections.abc import Callable
from typing import Any

import pytest
from headwater_amf import amf0
from headwater_bus import traffic
from headwater_rtmp.media import add_set_data_frame
from headwater_rtmp.message import Message
from support.fanout_bench import META
from support.resuming_edges import Reader
from support.resuming_media import command, picture
from support.stream_cast import Cast

CLEAR_METADATA = Message(18, 1, 30, amf0.encode("@clearDataFrame", "onMetaData"))


class Taking:
    """The first player's edge is lost and has told it the stream but for the last messages; it comes back as one of an edge that
    knows that much. `behind`: so many; `position`: what it knows instead."""

    def __init__(self, cast: Cast, behind: int, position: int | None = None) -> None:
        self.cast, self.edge, self.player = cast, cast.edges[1], cast.players[0]
        self.position = self.edge.last_number - behind if position is None else position
        self.edge.cut()
        self.edge.last_number = 0
        self.edge.got.clear()
        self.seen: list[Any] = []
        carry_out = self.edge._carry_out
        self.edge._carry_out = lambda envelope: (self.seen.append(envelope), carry_out(envelope))  # type: ignore[method-assign,assignment,func-returns-value]
        self.edge.streams_of = self._streams_of  # type: ignore[method-assign]

    def _streams_of(self, client: Reader) -> list[list[Any]]:
        return [["a", self.position, 1]] if client is self.player else []

    def resume(self) -> tuple[bool, list[int]]:
        """Returns whether it goes on, and the pictures that it alone is told before."""
        self.seen.clear()
        self.cast.resume(1)
        at, started = next(
            (at, envelope)
            for at, envelope in enumerate(self.seen)
            if isinstance(envelope, traffic.PlayStarted)
        )
        told = [
            int(envelope.payload[5:])
            for envelope in self.seen[:at]
            if isinstance(envelope, traffic.ToClient) and envelope.type_id == 9
        ]
        return started.resumed, told

    def all_shown(self) -> Callable[[], list[int]]:
        """What the player is shown from here on: what it alone is told, and what its edge gets of the stream while it plays."""
        shown: list[int] = []
        playing = False

        def see(envelope: Any) -> None:
            nonlocal playing
            playing = playing or isinstance(envelope, traffic.PlayStarted)
            alone = isinstance(envelope, traffic.ToClient) and envelope.type_id == 9
            if (alone or (isinstance(envelope, traffic.StreamMedia) and playing)) and len(
                envelope.payload
            ) > 5:
                shown.append(int(envelope.payload[5:]))

        def look() -> list[int]:
            for envelope in self.seen:
                see(envelope)
            return shown

        return look


@pytest.fixture
def cast() -> Cast:
    """The pictures 0 to 2 have been shown; the first player may go to another edge."""
    cast = Cast(publishes=False)
    cast.group.roaming.add(cast.group.by_id[cast.players[0].session_id], 0)
    cast.publish("a")
    return cast


def test_a_player_is_told_what_it_lacks_and_goes_on(cast: Cast) -> None:
    taking = Taking(cast, behind=1)
    cast.pictures(3, 8)
    cast.quiet()
    assert taking.resume() == (True, [2, 3, 4, 5, 6, 7])
    before = len(taking.edge.got[-1])
    cast.pictures(8, 10)
    cast.quiet()
    # What comes next of the stream is what comes next for it.
    assert [one[1] for one in taking.edge.got[-1][before:]] == [8, 9]


def test_a_player_that_lacks_nothing_goes_on(cast: Cast) -> None:
    assert Taking(cast, behind=0).resume() == (True, [])


@pytest.mark.parametrize("behind", [-1, 6, 1000])
def test_a_position_that_is_not_of_what_is_kept_starts_it_anew(cast: Cast, behind: int) -> None:
    assert Taking(cast, behind).resume() == (False, [])


def test_who_had_nothing_yet_is_started_as_a_new_one(cast: Cast) -> None:
    assert Taking(cast, 0, position=0).resume() == (False, [])


def test_what_is_not_kept_any_more_starts_it_anew(cast: Cast) -> None:
    taking = Taking(cast, behind=0)
    cast.pictures(3, 1020)
    cast.quiet()
    assert taking.resume() == (False, [])


@pytest.mark.parametrize(
    ("audio", "video", "paused", "told"),
    [
        (True, False, False, [8]),
        (False, True, False, [9]),
        (True, True, True, []),
        (True, True, False, [9, 8]),
    ],
)
def test_a_player_is_told_of_the_kinds_that_it_wants(
    cast: Cast, audio: bool, video: bool, paused: bool, told: list[int]
) -> None:
    command(cast.players[0], "receiveAudio", audio)
    command(cast.players[0], "receiveVideo", video)
    command(cast.players[0], "pause", paused, 0.0)
    cast.quiet()
    taking = Taking(cast, behind=0)
    cast.send(picture(3, False))
    cast.send(Message(8, 1, 30, b"\xaf\x01\x00\x00\x004"))
    cast.quiet()
    assert taking.resume() == (True, [3] if 9 in told else [])
    kinds = [envelope.type_id for envelope in taking.seen if isinstance(envelope, traffic.ToClient)]
    assert [kind for kind in kinds if kind in (8, 9)] == told


@pytest.mark.parametrize("before", [0, 1])
def test_metadata_that_came_meanwhile_is_told_as_the_rest_is(cast: Cast, before: int) -> None:
    taking = Taking(cast, behind=0)
    cast.pictures(3, 3 + before)
    cast.send(add_set_data_frame(Message(18, 1, 30, META)))
    cast.pictures(3 + before, 5)
    cast.quiet()
    assert taking.resume() == (True, [3, 4])
    told = [
        envelope.payload
        for envelope in taking.seen
        if isinstance(envelope, traffic.ToClient) and envelope.type_id in (9, 18)
    ]
    assert told.index(META) == before


def test_what_may_be_lacked_is_let_go_when_nobody_may_though_the_publisher_is_silent(cast: Cast) -> None:
    cast.pictures(3, 500)
    cast.quiet()
    late = cast.group.streams.by_name["a"].late
    assert late._recent.last
    player = cast.group.by_id[cast.players[0].session_id]
    cast.group.roaming.pop(player, None)
    cast.group._gathers_until = 0.0
    for _ in range(100):
        cast.group.tick(cast.group.clock())
    assert late._recent is None


def test_a_player_goes_on_from_before_what_players_do_not_get(cast: Cast) -> None:
    taking = Taking(cast, behind=0)
    cast.send(CLEAR_METADATA)
    cast.pictures(3, 5)
    cast.quiet()
    assert taking.resume() == (True, [3, 4])


# Its origin, too


@pytest.mark.parametrize("ring_has_more", [True, False])
def test_a_player_goes_on_at_the_next_origin_from_before_what_players_do_not_get(
    cast: Cast, ring_has_more: bool
) -> None:
    taking = Taking(cast, behind=0)
    cast.send(CLEAR_METADATA)
    cast.pictures(3, 5)
    cast.quiet()
    ring = cast.edges[0].publications[100, 1]._ring
    while not ring_has_more and ring[0][1] <= taking.position:
        ring.popleft()
    cast.crash()
    cast.resume(0)
    assert taking.resume() == (True, [3, 4])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("behind", [0, 2, 5])
def test_a_player_goes_on_when_the_publisher_has_come_to_where_it_was(
    cast: Cast, order: tuple[int, ...], behind: int
) -> None:
    cast.pictures(3, 14)
    cast.quiet()
    taking = Taking(cast, behind)
    cast.crash()
    cast.pictures(14, 16)
    shown = taking.all_shown()
    for edge in order:
        cast.resume(edge)
    cast.pictures(16, 18)
    cast.quiet()
    started = [one for one in taking.seen if isinstance(one, traffic.PlayStarted)]
    assert [one.resumed for one in started] == [True]
    assert shown() == [*range(14 - behind, 18)]


@pytest.mark.parametrize("behind", [0, 2])
def test_who_played_over_the_edge_all_along_goes_on_as_well(cast: Cast, behind: int) -> None:
    edge = cast.edges[1]
    other = edge.join(3)
    cast.quiet()
    command(other, "createStream", stream_id=0)
    command(other, "play", "a")
    cast.pictures(3, 14)
    cast.quiet()
    has = edge.last_number
    taking = Taking(cast, behind)
    edge.last_number = has
    edge.got.append([])
    mine = [["a", has - behind, 1]]
    edge.streams_of = lambda client: [["a", has], *(mine if client is taking.player else [])]  # type: ignore[method-assign]
    cast.crash()
    cast.pictures(14, 16)
    cast.resume(1, 0)
    cast.pictures(16, 18)
    cast.quiet()
    started = [one for one in taking.seen if isinstance(one, traffic.PlayStarted)]
    assert [(one.session, one.resumed) for one in started] == [(3, False), (1, True)]
    assert [[one[1] for one in part] for part in edge.got] == [[14, 15, 16, 17]]


def ring_that_ends_early(cast: Cast, has_more: int) -> Taking:
    """At the next origin. Others of the edge were told 4 pictures more than the player, and of these the publisher's edge has
    only so many."""
    edge = cast.edges[1]
    cast.pictures(3, 14)
    cast.quiet()
    other = edge.join(3)
    cast.quiet()
    command(other, "createStream", stream_id=0)
    command(other, "play", "a")
    cast.quiet()
    has = edge.last_number
    taking = Taking(cast, behind=4)
    edge.last_number = has
    edge.got.append([])
    mine = [["a", taking.position, 1]]
    edge.streams_of = lambda client: [["a", has], *(mine if client is taking.player else [])]  # type: ignore[method-assign]
    cast.crash()
    ring = cast.edges[0].publications[100, 1]._ring
    while ring[-1][1] > taking.position + has_more:
        ring.pop()
    cast.resume(1, 0, 2)
    return taking


@pytest.mark.parametrize("has_more", [0, 2])
def test_a_player_that_lacks_what_never_comes_is_started_anew(cast: Cast, has_more: int) -> None:
    taking = ring_that_ends_early(cast, has_more)
    cast.grace_over()
    started = [one for one in taking.seen if isinstance(one, traffic.PlayStarted)]
    assert [(one.session, one.resumed) for one in started] == [(3, False), (1, False)]


def test_what_a_player_lacks_stays_while_it_waits_for_the_rest(cast: Cast) -> None:
    taking = ring_that_ends_early(cast, has_more=2)
    cast.group._gathers_until = 0.0
    # Nobody else may lack it.
    assert not cast.group.roaming
    assert not cast.group.absent
    cast.group.tick(cast.group.clock())
    for behind, serial in enumerate((12, 13, 14), 3):
        cast.group.streams.by_name["a"].media(taking.position + behind, picture(serial, False))
    cast.quiet()
    started = [one for one in taking.seen if isinstance(one, traffic.PlayStarted)]
    assert [(one.session, one.resumed) for one in started] == [(3, False), (1, True)]
    told = [one for one in taking.seen if isinstance(one, traffic.ToClient) and one.type_id == 9]
    assert [int(one.payload[5:]) for one in told] == [10, 11, 12, 13]


def test_a_player_of_which_the_ring_holds_not_all_is_started_anew() -> None:
    cast = Cast(ring_bytes=1000)
    cast.pictures(3, 8)
    cast.quiet()
    taking = Taking(cast, behind=5)
    cast.crash()
    cast.pictures(8, 30)
    for edge in (1, 0):
        cast.resume(edge)
    cast.pictures(30, 32)
    cast.quiet()
    started = [one for one in taking.seen if isinstance(one, traffic.PlayStarted)]
    assert [one.resumed for one in started] == [False]


def test_a_player_whose_publisher_begins_anew_does_not_wait(cast: Cast) -> None:
    taking = Taking(cast, behind=0)
    cast.crash()
    cast.resume(1)
    assert [one for one in taking.seen if isinstance(one, traffic.PlayStarted)] == []
    # Another one publishes.
    cast.edges[0].clients.clear()
    cast.edges[0].publications.clear()
    cast.resume(0)
    cast.publisher = cast.edges[0].join(200)
    cast.quiet()
    command(cast.publisher, "createStream", stream_id=0)
    cast.publish("a")
    started = [one for one in taking.seen if isinstance(one, traffic.PlayStarted)]
    assert [one.resumed for one in started] == [False]


def test_a_player_whose_publisher_does_not_come_is_told(cast: Cast) -> None:
    taking = Taking(cast, behind=0)
    cast.crash()
    cast.resume(1)
    cast.told()
    cast.grace_over()
    cast.grace_over()
    assert cast.told()[1] == ["NetStream.Play.UnpublishNotify"]
    started = [one for one in taking.seen if isinstance(one, traffic.PlayStarted)]
    assert [one.resumed for one in started] == [False]


def test_a_player_for_which_something_waits_goes_on_behind_that(cast: Cast) -> None:
    """What waits for the journal would come behind what its edge gets of the stream meanwhile."""
    taking = Taking(cast, behind=0)
    cast.crash()
    shown = taking.all_shown()
    cast.resume(1)
    session = cast.group.by_id[taking.player.session_id]
    session.waiting += 1
    cast.resume(0)
    cast.pictures(3, 5)
    cast.quiet()
    assert [one for one in taking.seen if isinstance(one, traffic.PlayStarted)] == []
    session.waiting -= 1
    cast.pictures(5, 7)
    cast.quiet()
    assert shown() == [3, 4, 5, 6]
