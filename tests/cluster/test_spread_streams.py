"""An application's streams, together in one group and each a group of its own: nobody can tell the difference, except where they
sit."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

import pytest
from headwater_client import NetConnection, NetStream, StreamError
from support.cluster import Cluster, ending_well
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster
APPS = "--app stage={0}:Stage --app spreadstage={0}:SpreadStage"
STREAMS = 12
HEADER = b"\x17\x00\x00\x00\x00config"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two edges and three origins."""
    with ending_well(
        Cluster(
            tmp_path_factory.mktemp("three-origins"),
            {"origin": 3},
            {"origin": APPS.format("tests.support.stream_app")},
        )
    ) as running:
        yield running


both = pytest.mark.parametrize("app", ["stage", "spreadstage"])


def connected(cluster: Cluster, edge: int, path: str, encoding: int = 0) -> NetConnection:
    return NetConnection(cluster.rtmp_url(edge, path), object_encoding=encoding, timeout_s=10 * TIME_FACTOR)


def frame(number: int) -> bytes:
    return b"\x17\x01\x00\x00\x00" + number.to_bytes(4, "big")


def publishes(connection: NetConnection, name: str, first: int) -> NetStream:
    """Publishes ten frames."""
    stream = connection.create_stream()
    stream.publish(name)
    send(stream, first)
    return stream


def send(stream: NetStream, first: int) -> None:
    stream.send_video(HEADER, 0)
    for number in range(first, first + 10):
        stream.send_video(frame(number), number)


def last_of(stream: NetStream, last: int) -> bool:
    """Whether what is played comes to this frame."""
    frames = (m.payload for m in stream.messages(timeout_s=10 * TIME_FACTOR) if m.type_id == 9)
    return any(payload == frame(last) for payload in islice(frames, 200))


@both
def test_many_streams_of_one_scope(three: Cluster, app: str) -> None:
    names = [f"{app} {number}" for number in range(STREAMS)]
    with (
        connected(three, 1, f"{app}/many") as ann,
        connected(three, 2, f"{app}/many", 3) as bob,
    ):
        streams = [publishes((ann, bob)[number % 2], name, number * 100) for number, name in enumerate(names)]
        players = []
        for number, name in enumerate(names):
            player = (bob, ann)[number % 2].create_stream()
            player.play(name)
            players.append(player)
        for number, (stream, player) in enumerate(zip(streams, players, strict=True)):
            send(stream, number * 100 + 50)
            assert last_of(player, number * 100 + 59)
        where = {
            group: origin
            for origin in ("origin.1", "origin.2", "origin.3")
            for group in three.health(origin)["groups"]
            if group.startswith(f"{app}/many")
        }
        if app == "stage":
            assert set(where) == {"stage/many"}
        else:
            assert set(where) == {"spreadstage/many", *(f"spreadstage/many#stream:{name}" for name in names)}
            assert len(set(where.values())) == 3


@both
def test_hooks_are_asked_and_told(three: Cluster, app: str) -> None:
    with connected(three, 2, f"{app}/hooks") as observer, ExitStack() as stack:
        ann = stack.enter_context(connected(three, 1, f"{app}/hooks"))
        bob = stack.enter_context(connected(three, 2, f"{app}/hooks"))

        def heard(*calls: list[str]) -> None:
            """What has happened since the scope began, in any order."""
            eventually(lambda: sorted(observer.call("what_happened")) == sorted(calls), within_s=10)

        with pytest.raises(StreamError):
            ann.create_stream().publish("secret")
        with pytest.raises(StreamError):
            ann.create_stream().play("nobody?key")
        stream = publishes(ann, "show?key", 0)
        with pytest.raises(StreamError):
            bob.create_stream().publish("show")
        player = bob.create_stream()
        player.play("show?token")
        assert last_of(player, 9)
        before = [
            ["publish", "secret", ""],
            ["play", "nobody", "key"],
            ["publish", "show", "key"],
            ["play", "show", "token"],
        ]
        heard(*before)
        stream.close()
        heard(*before, ["unpublish", "show"])
        bob.close()
        heard(*before, ["unpublish", "show"], ["stop_play", "show"])


@both
def test_one_message_stream_plays_one_after_the_other(three: Cluster, app: str) -> None:
    with (
        connected(three, 1, f"{app}/switch") as ann,
        connected(three, 2, f"{app}/switch") as bob,
    ):
        streams = [publishes(ann, name, first) for first, name in enumerate(("one", "two", "three"))]
        player = bob.create_stream()
        # In one breath: what was asked for last is what is played. Nothing has an order but each stream's own statuses.
        for name in ("one", "two", "one", "three"):
            player._wish("play", name)
        eventually(lambda: len(bob.call("what_happened")) >= 7, within_s=10)
        starts: list[int] = []

        def rests() -> bool:
            """Whether what is played now is the third, and nothing else."""
            for number, stream in enumerate(streams):
                send(stream, 1000 * number)
            frames = {m.payload for m in player.messages(timeout_s=0.2) if m.type_id == 9}
            starts.append(len(frames))
            return frames == {HEADER, *map(frame, range(2000, 2010))}

        eventually(rests, within_s=10, what=f"the third stream alone: {starts}")
