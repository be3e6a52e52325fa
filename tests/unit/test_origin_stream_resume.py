"""The origin: streams whose publisher and players come back over other links, or to another origin, or do not. No sockets."""

from typing import Any

import pytest
from headwater_bus import traffic
from headwater_origin import Application, Client
from headwater_origin.streams import routes as stream_routes
from headwater_rtmp.message import Message
from support.fanout_bench import AVC, META
from support.journal_bench import JournaledBench, memory_journals
from support.origin_bench import ME, plain, settle
from support.resuming_edges import GROUP
from support.resuming_media import HEADERS, MediaEdge, command, picture
from support.waiting import eventually


class Stage(Application):
    allow_publish = True
    wait_for_publisher = True

    def on_start(self) -> None:
        self.ended: list[tuple[str, str]] = []

    def on_unpublish(self, client: Client, name: str) -> None:
        self.ended.append(("unpublish", name))

    def on_stop_play(self, client: Client, name: str) -> None:
        self.ended.append(("stop_play", name))


class Cast:
    """A publisher on the first of three edges, a player on each of the others."""

    def __init__(
        self, ring_bytes: int = 1 << 20, publishes: bool = True, application: type[Stage] = Stage
    ) -> None:
        self.bench = JournaledBench(application, memory_journals())
        self.edges = [MediaEdge(f"edge-{number}", ring_bytes) for number in range(3)]
        self.now = 0.0
        self.place()
        for edge in self.edges:
            edge.connect(self.bench.origin, self.bench.epoch)
        self.publisher = self.edges[0].join(100)
        self.players = [self.edges[number].join(number) for number in (1, 2)]
        self.quiet()
        for player in self.players:
            command(player, "createStream", stream_id=0)
            command(player, "play", "a")
        command(self.publisher, "createStream", stream_id=0)
        self.quiet()
        if publishes:
            self._publish()

    def _publish(self) -> None:
        command(self.publisher, "publish", "a", "live")
        self.quiet()
        for payload in HEADERS:
            self.send(Message(18 if payload is META else 9, 1, 0, payload))
        self.pictures(0, 3)
        self.quiet()
        self.told()

    def place(self) -> None:
        self.bench.committing.kill()
        self.bench.change("group", GROUP, ME, self.bench.epoch)

    @property
    def group(self) -> Any:
        return self.bench.origin.groups[GROUP]

    def send(self, message: Message) -> None:
        self.now += 0.01
        self.edges[0].publish(self.publisher, message, self.now)

    def pictures(self, first: int, last: int) -> None:
        for serial in range(first, last):
            self.send(picture(serial, serial % 10 == 0))

    def quiet(self) -> None:
        for _ in range(4):
            settle()
            eventually(self.group.started.is_set, within_s=10)
            settle()
            self.bench.origin.committer._commit()
            settle()
            for edge in self.edges:
                edge.deliver()
                if edge.link is not None:
                    edge.link.ack()

    def crash(self) -> None:
        self.bench.crash()
        for edge in self.edges:
            edge.forget_link()
        self.bench = self.bench.successor()
        self.place()

    def resume(self, *numbers: int) -> None:
        for number in numbers:
            self.edges[number].connect(self.bench.origin, self.bench.epoch)
            self.quiet()

    def grace_over(self) -> None:
        self.group.tick(self.group.clock() + self.group.config.resume_grace_s + 1)
        self.quiet()

    def told(self) -> dict[int, list[str]]:
        """The codes of statuses that clients have read since the last time."""
        codes = {}
        for client in (self.publisher, *self.players):
            read, client.read = client.read, []
            codes[client.number] = [code for code in map(code_of, read) if code]
        return codes

    def shown(self, edge: int) -> list[list[int]]:
        """The pictures that an edge got, for each time that it began."""
        parts = [[one[1] for one in part if one not in HEADERS] for part in self.edges[edge].got]
        return [part for part in parts if part]


def code_of(message: Message) -> str | None:
    told = plain(traffic.ToClient(0, message.type_id, message.stream_id, 0, message.payload))
    return told[2] if told[0] == "onStatus" else None


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
