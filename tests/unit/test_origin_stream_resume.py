"""The origin: streams whose publisher and players come back over other links, or to another origin, or do not. No sockets."""

from typing import Any

import pytest
from headwater_bus import traffic
from headwater_origin import Client
from headwater_origin.streams import routes as stream_routes
from headwater_rtmp.message import Message
from support.fanout_bench import AVC, META
from support.origin_bench import settle
from support.resuming_edges import GROUP
from support.resuming_media import HEADERS, command, picture
from support.stream_cast import Cast, Stage, code_of
from support.waiting import eventually


@pytest.fixture
def cast() -> Cast:
    return Cast()


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (1, 0, 2)])
@pytest.mark.parametrize("knows", [True, False])
def test_what_a_publisher_sends_before_its_edge_knows_is_not_lost_with_the_origin(
    order: tuple[int, ...], knows: bool
) -> None:
    """It reached the origin, which said so, or did not; the players' edges have heard of nothing."""
    cast = Cast(publishes=False)
    command(cast.publisher, "publish", "a", "live")
    for payload in HEADERS:
        cast.send(Message(18 if payload is META else 9, 1, 0, payload))
    cast.pictures(0, 3)
    settle()
    if knows:
        cast.edges[0].deliver()
    cast.crash()
    cast.pictures(3, 6)
    cast.resume(*order)
    cast.pictures(6, 9)
    cast.quiet()
    for edge in (1, 2):
        assert cast.shown(edge) == [list(range(9))]
        assert [one for one in cast.edges[edge].got[-1] if one in HEADERS] == [META, AVC]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (1, 0, 2)])
def test_a_stream_goes_on_at_another_origin(cast: Cast, order: tuple[int, ...]) -> None:
    cast.crash()
    cast.pictures(3, 6)
    cast.resume(*order)
    cast.pictures(6, 9)
    cast.quiet()
    for edge in (1, 2):
        assert cast.shown(edge) == [list(range(9))]
        assert [one for one in cast.edges[edge].got[-1] if one in HEADERS] == [META, AVC]
    assert cast.told() == {100: [], 1: [], 2: []}


def test_an_edge_that_comes_late_lacks_nothing(cast: Cast) -> None:
    cast.crash()
    cast.resume(0, 1)
    cast.pictures(3, 30)
    cast.resume(2)
    assert cast.shown(2) == cast.shown(1) == [list(range(30))]


def test_an_edge_whose_link_was_lost_gets_what_it_lacks_from_the_publishers_ring(cast: Cast) -> None:
    cast.edges[1].cut()
    cast.pictures(3, 25)
    cast.quiet()
    asked: list[Any] = []
    carry_out = cast.edges[0]._carry_out

    def watch(envelope: Any) -> None:
        asked.append(envelope)
        carry_out(envelope)

    cast.edges[0]._carry_out = watch  # type: ignore[method-assign]
    cast.resume(1)
    cast.pictures(25, 27)
    cast.quiet()
    assert cast.shown(1) == cast.shown(2) == [list(range(27))]
    (started,) = [told for told in asked if isinstance(told, traffic.PublishStarted)]
    assert started.resumed
    assert len(cast.edges[0].link.data.publications) == 1  # type: ignore[union-attr]  # It is connected.


def test_an_edge_that_lacks_less_than_a_group_of_pictures_gets_it_from_the_cache(cast: Cast) -> None:
    cast.edges[1].cut()
    cast.pictures(3, 6)
    cast.quiet()
    cast.edges[0]._carry_out = None  # type: ignore[method-assign,assignment]  # Its publisher is not asked.
    cast.edges[1].connect(cast.bench.origin, cast.bench.epoch)
    settle()
    cast.edges[1].deliver()
    assert cast.shown(1) == [list(range(6))]


def test_past_the_ring_it_begins_at_a_keyframe_behind_the_headers() -> None:
    cast = Cast(ring_bytes=3 * 135)
    cast.crash()
    cast.pictures(3, 9)
    cast.resume(0, 1, 2)
    cast.pictures(9, 13)
    cast.quiet()
    for edge in (1, 2):
        assert cast.shown(edge) == [[0, 1, 2], [10, 11, 12]]
        assert cast.edges[edge].got[-1][:2] == [META, AVC]


@pytest.mark.parametrize("order", [(1, 2, 0), (1, 0, 2)])
def test_an_edge_that_has_nothing_does_not_begin_in_the_middle_of_a_ring(order: tuple[int, ...]) -> None:
    cast = Cast(ring_bytes=3 * 135)
    cast.crash()
    cast.edges[2].last_number = 0
    cast.edges[2].got.clear()
    cast.pictures(3, 8)
    cast.resume(*order)
    cast.pictures(8, 13)
    cast.quiet()
    assert cast.shown(2) == [[10, 11, 12]]
    assert cast.edges[2].got[-1][:2] == [META, AVC]


def test_what_a_player_wants_is_as_it_was(cast: Cast) -> None:
    command(cast.players[0], "receiveAudio", False)
    command(cast.players[0], "pause", True)
    cast.quiet()
    cast.crash()
    seen: list[Any] = []
    edge = cast.edges[1]
    carry_out = edge._carry_out
    edge._carry_out = lambda envelope: (seen.append(envelope), carry_out(envelope))  # type: ignore[method-assign,assignment,func-returns-value]
    cast.resume(0, 1)
    (changed,) = [told for told in seen if isinstance(told, traffic.PlayChanged)]
    assert (changed.session, changed.stream_id, changed.audio, changed.video, changed.paused) == (
        1,
        1,
        False,
        True,
        True,
    )


def test_a_publisher_that_is_away_keeps_its_name_and_its_players_for_a_while(cast: Cast) -> None:
    cast.edges[0].cut()
    other = cast.edges[1].join(50)
    command(other, "createStream", stream_id=0)
    command(other, "publish", "a", "live")
    cast.quiet()
    assert code_of(other.read[-1]) == "NetStream.Publish.BadName"
    assert cast.told() == {100: [], 1: [], 2: []}
    cast.grace_over()
    assert cast.told() == {
        100: [],
        1: ["NetStream.Play.UnpublishNotify"],
        2: ["NetStream.Play.UnpublishNotify"],
    }
    assert cast.group.application.ended == [("unpublish", "a")]
    assert cast.edges[1].last_number == 0
    command(other, "publish", "a", "live")
    cast.quiet()
    assert code_of(other.read[-1]) == "NetStream.Publish.Start"


def test_the_same_publisher_need_not_wait_until_the_edge_that_it_came_by_is_given_up() -> None:
    cast = Cast(publishes=False)
    cast.publish("a?key=secret")
    cast.edges[0].cut()
    follower, stranger = cast.edges[1].join(50), cast.edges[1].join(51)
    for client, name in ((stranger, "a?key=guessed"), (follower, "a?key=secret")):
        command(client, "createStream", stream_id=0)
        command(client, "publish", name, "live")
        cast.quiet()
    assert code_of(stranger.read[-1]) == "NetStream.Publish.BadName"
    assert code_of(follower.read[-1]) == "NetStream.Publish.Start"
    for serial in range(100, 103):
        cast.edges[1].publish(follower, picture(serial, serial == 100), cast.now)
    cast.quiet()
    # The former one finds that it is replaced, and the application hears of it once.
    assert cast.group.application.ended == []
    cast.resume(0)
    assert cast.told() == {100: ["NetStream.Publish.BadName"], 1: [], 2: []}
    assert cast.group.application.ended == [("unpublish", "a")]
    cast.grace_over()
    assert cast.told() == {100: [], 1: [], 2: []}
    assert cast.shown(2) == [[0, 1, 2], [100, 101, 102]]


def test_the_application_hears_of_one_that_was_replaced_and_does_not_come_back() -> None:
    cast = Cast(publishes=False)
    cast.publish("a?key=secret")
    cast.edges[0].cut()
    follower = cast.edges[1].join(50)
    command(follower, "createStream", stream_id=0)
    command(follower, "publish", "a?key=secret", "live")
    cast.grace_over()
    assert cast.group.application.ended == [("unpublish", "a")]
    assert cast.told() == {100: [], 1: [], 2: []}
    assert code_of(follower.read[-1]) == "NetStream.Publish.Start"


def test_players_whose_publisher_does_not_come_to_the_next_origin(cast: Cast) -> None:
    cast.crash()
    cast.resume(1, 2)
    assert cast.told() == {100: [], 1: [], 2: []}
    cast.grace_over()
    assert cast.told() == {
        100: [],
        1: ["NetStream.Play.UnpublishNotify"],
        2: ["NetStream.Play.UnpublishNotify"],
    }
    cast.grace_over()
    assert cast.told() == {100: [], 1: [], 2: []}
    assert cast.edges[1].last_number == cast.edges[2].last_number == 0


def test_a_name_that_another_one_has_by_then(cast: Cast) -> None:
    cast.crash()
    cast.resume(1)
    other = cast.edges[1].join(50)
    command(other, "createStream", stream_id=0)
    command(other, "publish", "a", "live")
    cast.quiet()
    assert code_of(other.read[-1]) == "NetStream.Publish.Start"
    # Of the former publication nothing is shown with the new one.
    assert cast.edges[1].last_number == 0
    cast.resume(0)
    assert cast.told()[100] == ["NetStream.Publish.BadName"]
    assert (100, 1) not in cast.edges[0].publications
    assert cast.group.application.ended == [("unpublish", "a")]
    assert cast.group.streams.by_name["a"].publication.session.number == 50


def test_a_player_that_is_away_too_long_has_stopped(cast: Cast) -> None:
    cast.edges[1].cut()
    cast.grace_over()
    assert cast.group.application.ended == [("stop_play", "a")]
    assert [edge.link.peer for edge in cast.group.streams.by_name["a"].subscriptions] == ["edge-2"]


def test_a_group_that_goes_elsewhere_takes_nothing_of_its_streams_any_more(cast: Cast) -> None:
    link: Any = cast.edges[0].link
    cast.group.close("moved")
    eventually(lambda: link.data.publications == {}, within_s=10)
    assert [told for told in link._pending if isinstance(told, traffic.PublishStopped)] == []


def test_what_a_guest_did_elsewhere_and_has_ended_meanwhile(cast: Cast) -> None:
    session: Any = cast.edges[0].link.data.sessions[100]  # type: ignore[union-attr]  # It is connected.
    of_a, of_b = f"{GROUP}#stream:a", f"{GROUP}#stream:b"
    stream_routes.resume(session, [[1, of_a, True], [2, of_b, False]], [[2, of_b, False], [3, of_b, True]])
    settle()
    assert cast.group.application.ended == [("unpublish", "a")]
    assert session.guest_streams == {(2, of_b, False), (3, of_b, True)}
    assert cast.group.streams.published_elsewhere == {of_b: (session.session_id, 3)}
    stream_routes.forget(session)
    settle()
    assert sorted(cast.group.application.ended[1:]) == [("stop_play", "b"), ("unpublish", "b")]
    assert cast.group.streams.published_elsewhere == {}


class Counting(Stage):
    """Journals something whenever somebody publishes."""

    def on_publish(self, client: Client, name: str, query: str) -> None:
        client.attributes["published"] = name


def test_an_edge_hears_of_a_publication_with_what_its_hook_journaled() -> None:
    """Or the next origin, which runs the message again, would take the publication's ring for that of an earlier one."""
    cast = Cast(publishes=False, application=Counting)
    command(cast.publisher, "publish", "a", "live")
    settle()
    cast.edges[0].deliver()
    cast.pictures(0, 3)
    cast.crash()
    cast.pictures(3, 6)
    cast.resume(0, 1, 2)
    cast.pictures(6, 9)
    cast.quiet()
    for edge in (1, 2):
        assert cast.shown(edge) == [list(range(9))]
