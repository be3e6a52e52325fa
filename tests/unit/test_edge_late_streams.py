"""An edge whose client asks for streams of two groups on one message stream, while their origins answer in any order."""

from collections.abc import Iterator

import pytest
from headwater_bus import traffic
from headwater_bus.view import Assignment
from headwater_edge.edge import Edge
from headwater_rtmp.command import encode_command
from support.edge import FakeLink, Peer, attached, end_all, make_edge, say
from support.waiting import eventually

A, B = "live/_definst_#stream:a", "live/_definst_#stream:b"


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture
def switching() -> tuple[Edge, FakeLink, Peer, dict[str, int]]:
    """A client that was to play (or publish) `a` and then `b` on message stream 1; and its numbers as their guest."""
    edge, node, link = make_edge()
    for group in (A, B):
        node.view.groups[group] = Assignment(group, "origin-1", 1)
    peer = attached(edge, link)
    assert peer.client is not None
    for group, command in ((A, "play"), (A, "closeStream"), (B, "play")):
        message = encode_command(command, 0, None, stream_id=1)
        routed = traffic.Routed(peer.client.session, group, 0, 0, [], message.type_id, 1, 0, message.payload)
        say(edge, link, routed)
    eventually(lambda: len(link.of(traffic.Attach)) == 3, 10, "attached to both")
    numbers = {attach.group: attach.session for attach in link.of(traffic.Attach)}
    say(edge, link, traffic.StreamOpened(7, "a", A), traffic.StreamOpened(8, "b", B))
    for group in (A, B):
        say(edge, link, traffic.Attached(numbers[group], 0, False))
    return edge, link, peer, numbers


def reports(link: FakeLink) -> list[tuple[bool, bool, str]]:
    return [(told.publishes, told.started, told.group) for told in link.of(traffic.GuestStream)]


def test_what_is_played_is_what_was_asked_for_last(
    switching: tuple[Edge, FakeLink, Peer, dict[str, int]],
) -> None:
    edge, link, peer, numbers = switching
    assert peer.client is not None
    say(edge, link, traffic.PlayStarted(numbers[B], 1, 8))
    say(edge, link, traffic.PlayStarted(numbers[A], 1, 7), traffic.PlayStopped(numbers[A], 1))
    assert peer.client.players is not None
    assert peer.client.players[1].fanout is link.data.streams[8]
    assert reports(link) == [(False, True, B)]
    say(edge, link, traffic.PlayStopped(numbers[B], 1))
    assert peer.client.players == {}
    assert reports(link) == [(False, True, B), (False, False, B)]


def test_what_is_published_is_what_was_asked_for_last(
    switching: tuple[Edge, FakeLink, Peer, dict[str, int]],
) -> None:
    edge, link, peer, numbers = switching
    assert peer.client is not None
    say(edge, link, traffic.PublishStarted(numbers[B], 1, 8, "b"))
    say(edge, link, traffic.PublishStarted(numbers[A], 1, 7, "a"), traffic.PublishStopped(numbers[A], 1))
    assert peer.client.publications is not None
    assert peer.client.publications[1].attachment.group == B
    assert reports(link) == [(True, True, B)]


def test_a_stream_of_its_home_is_never_late(
    switching: tuple[Edge, FakeLink, Peer, dict[str, int]],
) -> None:
    edge, link, peer, _ = switching
    assert peer.client is not None
    say(edge, link, traffic.PlayStarted(peer.client.session, 1, 8))
    assert peer.client.players is not None
    assert 1 in peer.client.players
    assert reports(link) == []
