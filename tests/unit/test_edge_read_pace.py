"""Publishers are read at intervals, where what they send has to wait anyway."""

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from headwater_bus import traffic
from headwater_edge.edge import Edge
from headwater_edge.read_pace import ReadPace
from headwater_rtmp.message import Message
from support.edge import FakeLink, Peer, attached, end_all, make_edge, say
from support.waiting import eventually

PICTURE = b"\x27\x01\0\0\0p"


@pytest.fixture
def stage() -> Iterator[tuple[Edge, FakeLink]]:
    edge, _, link = make_edge(flush_ms=200)
    yield edge, link
    end_all()


def publisher(edge: Edge, link: FakeLink) -> Peer:
    peer = attached(edge, link)
    assert peer.client is not None
    say(edge, link, traffic.PublishStarted(peer.client.session, 1, 7, "a"))
    return peer


def publish(peer: Peer, *payloads: bytes) -> None:
    for at, payload in enumerate(payloads):
        peer.send(peer.rtmp.send(Message(9, 1, at, payload)))


def media(link: FakeLink) -> list[bytes]:
    return [envelope.payload for envelope in link.sent if isinstance(envelope, traffic.PublisherMedia)]


def test_who_is_added_is_read_once_with_the_others() -> None:
    read: list[str] = []
    pace = ReadPace(0.01)
    assert pace.on
    for name in ("a", "b"):
        pace.add(lambda name=name: read.append(name))  # type: ignore[misc]  # a default is no argument
    assert not read
    eventually(lambda: read, 5)
    assert read == ["a", "b"]
    pace.add(lambda: read.append("again"))
    eventually(lambda: len(read) == 3, 5)
    assert not ReadPace(0.0).on


def test_a_publisher_is_read_at_once_and_then_at_intervals(stage: Any) -> None:
    edge, link = stage
    peer = publisher(edge, link)
    publish(peer, b"first")
    eventually(lambda: media(link) == [b"first"], 5)
    reads = edge.counters.bytes_in
    publish(peer, b"second")
    gevent.sleep(0)
    publish(peer, b"third")
    assert edge.counters.bytes_in == reads
    eventually(lambda: len(media(link)) > 1, 5)
    assert media(link) == [b"first", b"second", b"third"]


def test_one_that_has_been_silent_is_read_at_once_again(stage: Any) -> None:
    edge, link = stage
    peer = publisher(edge, link)
    publish(peer, b"first")
    eventually(lambda: media(link) == [b"first"], 5)
    assert peer.client is not None
    reader = peer.client._reader  # type: ignore[attr-defined]  # a TcpClient's
    assert not reader.active
    eventually(lambda: reader.active, 5)
    publish(peer, b"second")
    eventually(lambda: len(media(link)) == 2, 5)


def test_more_than_one_read_takes_is_read_on_at_once(stage: Any) -> None:
    edge, link = stage
    peer = publisher(edge, link)
    large = b"\x27" + bytes(150_000)
    gevent.spawn(publish, peer, large).join(0.01)
    # Not one read in 200 ms, which would be 2.6 Mbit/s at most.
    eventually(lambda: edge.counters.bytes_in > 128 * 1024, 5)


class Within:
    """A socket of which as much as is asked for holds less, as within TLS."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def recv(self, size: int) -> Any:
        return self._sock.recv(size - 4 * 22)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def test_nor_does_one_wait_whose_reads_hold_less_than_the_socket_gave(stage: Any) -> None:
    edge, link = stage
    edge.read_pace = ReadPace(60.0)
    peer = publisher(edge, link)
    assert peer.client is not None
    peer.client.sock = Within(peer.client.sock)  # type: ignore[assignment]  # all that it needs of one
    large = b"\x27" + bytes(150_000)
    gevent.spawn(publish, peer, large).join(0.01)
    eventually(lambda: edge.counters.bytes_in > 128 * 1024, 5)


def test_one_that_cannot_be_read_costs_no_other() -> None:
    read: list[str] = []

    def broken() -> None:
        raise RuntimeError("broken")

    pace = ReadPace(0.01)
    pace.add(lambda: pace.add(lambda: read.append("again")))
    pace.add(broken)
    pace.add(lambda: read.append("other"))
    eventually(lambda: len(read) == 2, 5)
    assert read == ["other", "again"]


def test_the_loop_has_its_turn_between_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater_edge.read_pace.SLICE_S", 0.0)
    done: list[str] = []
    loop = gevent.get_hub().loop
    pace = ReadPace(0.01)

    def read(name: str) -> None:
        done.append(name)
        loop.run_callback(done.append, f"what {name} brought")

    for name in ("a", "b", "c"):
        pace.add(lambda name=name: read(name))  # type: ignore[misc]  # a default is no argument
    eventually(lambda: len(done) == 6, 5)
    assert done == ["a", "what a brought", "b", "what b brought", "c", "what c brought"]
    pace.add(lambda: read("d"))
    eventually(lambda: len(done) == 8, 5)


def test_who_is_added_while_others_are_read_waits_for_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater_edge.read_pace.SLICE_S", 0.0)
    done: list[str] = []
    pace = ReadPace(0.01)

    def first() -> None:
        done.append("a")
        pace.add(lambda: done.append("again"))

    pace.add(first)
    pace.add(lambda: done.append("b"))
    eventually(lambda: len(done) == 3, 5)
    assert done == ["a", "b", "again"]


def test_one_that_leaves_or_does_not_publish_any_more_is_not_waited_for(stage: Any) -> None:
    edge, link = stage
    peer, other = publisher(edge, link), publisher(edge, link)
    for each in (peer, other):
        publish(each, b"first")
    eventually(lambda: len(media(link)) == 2, 5)
    peer.sock.close()
    client = other.client
    assert client is not None
    say(edge, link, traffic.PublishStopped(client.session, 1))
    eventually(lambda: len(edge.clients) == 1, 5)
    eventually(lambda: client._reader.active, 5)  # type: ignore[attr-defined]  # a TcpClient's
    assert edge.counters.internal_errors == 0


def test_who_only_plays_is_read_as_it_comes(stage: Any) -> None:
    edge, link = stage
    peer = attached(edge, link)
    for number in range(3):
        # A ping, which the RTMP core answers.
        peer.send(peer.rtmp.send(Message(4, 0, 0, b"\0\x06" + number.to_bytes(4, "big"))))
        reader = peer.client._reader  # type: ignore[union-attr]  # a TcpClient's
        assert reader.active
        gevent.sleep(0)
