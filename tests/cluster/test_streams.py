"""Live streams through the whole cluster: what is sent arrives, on either edge, each message once per edge."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import gevent
import pytest
from headwater_client import NetConnection, NetStream
from support.cluster import Cluster
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster
PACE_S = 0.02
"""Between two frames: 50 a second."""


class Publisher:
    """Publishes a small AVC-like stream: metadata, a sequence header, then a keyframe every tenth message."""

    def __init__(self, connection: NetConnection, name: str) -> None:
        self.stream: NetStream = connection.create_stream()
        self.stream.publish(name)
        self.stream.send_metadata({"width": 320.0, "height": 240.0})
        self.stream.send_video(b"\x17\x00\x00\x00\x00config", 0)
        self.sent = 2
        self._number = 0

    def send(self, frames: int) -> None:
        """Send the next frames, at their pace."""
        for _ in range(frames):
            number = self._number
            head = b"\x17\x01\x00\x00\x00" if number % 10 == 0 else b"\x27\x01\x00\x00\x00"
            self.stream.send_video(head + number.to_bytes(4, "big") + b"x" * 200, number * 20)
            self._number += 1
            self.sent += 1
            gevent.sleep(PACE_S)


def frames_of(stream: NetStream, count: int) -> list[int]:
    """The numbers of the next frames in the order of their arrival; fewer where they end."""
    messages = stream.messages(timeout_s=10 * TIME_FACTOR)
    frames = (m for m in messages if m.type_id == 9 and m.payload[1] == 1)
    return [int.from_bytes(m.payload[5:9], "big") for m in islice(frames, count)]


def play(url: str, name: str, count: int) -> list[int]:
    """Plays so many frames; returns their numbers."""
    with NetConnection(url) as connection:
        stream = connection.create_stream()
        stream.play(name)
        return frames_of(stream, count)


def origin_counts(cluster: Cluster, name: str) -> dict[str, Any]:
    """What the origin that has the group of `live` says of a stream; empty while none does."""
    for origin in ("origin.1", "origin.2"):
        group = cluster.health(origin)["groups"].get("live/_definst_")
        if group is not None:
            counts: dict[str, Any] = group["streams"].get(name, {})
            return counts
    return {}


def at_rest(look: Callable[[], Any]) -> Any:
    """Wait until twenty looks in a row see the same; returns what they see."""
    seen: list[Any] = []

    def rests() -> bool:
        seen.append(look())
        del seen[:-20]
        return len(seen) == 20 and all(each == seen[0] for each in seen)

    eventually(rests, within_s=20, what="counts at rest")
    return seen[0]


def test_a_player_on_the_other_edge_starts_at_a_keyframe_and_misses_nothing(cluster: Cluster) -> None:
    with NetConnection(cluster.rtmp_url(1, "live")) as connection:
        publisher = Publisher(connection, "a")
        sending = gevent.spawn(publisher.send, 1_000_000)
        try:
            eventually(lambda: origin_counts(cluster, "a").get("messages_in", 0) > 25, within_s=20)
            players = [gevent.spawn(play, cluster.rtmp_url(edge, "live"), "a", 100) for edge in (1, 2, 2)]
            gevent.joinall(players, raise_error=True, timeout=60 * TIME_FACTOR)
        finally:
            sending.kill()
        for player in players:
            frames = player.get(block=False)
            assert len(frames) == 100
            # It came in the middle.
            assert frames[0] >= 10
            assert frames[0] % 10 == 0
            assert frames == list(range(frames[0], frames[0] + 100))


def test_300_players_of_one_stream_cost_the_origin_one_message_and_the_edge_one_encoding(
    cluster: Cluster,
) -> None:
    def counts() -> tuple[dict[str, int], dict[str, Any]]:
        return cluster.health("edge.2")["counters"], origin_counts(cluster, "many")

    players = []
    with NetConnection(cluster.rtmp_url(1, "live")) as connection:
        publisher = Publisher(connection, "many")
        publisher.send(15)
        for _ in range(300):
            player = NetConnection(cluster.rtmp_url(2, "live"))
            player.connect()
            stream = player.create_stream()
            stream.play("many")
            players.append((player, stream))
        edge_before, origin_before = at_rest(counts)
        assert origin_before["edges"]["edge-2"]["players"] == 300
        publisher.send(100)
        # Nobody sends any more: whatever is under way arrives, and then the counts stay.
        edge, origin = at_rest(counts)

    def more(name: str) -> int:
        return int(edge[name] - edge_before[name])

    sent_out, sent_out_before = origin["edges"]["edge-2"], origin_before["edges"]["edge-2"]
    assert origin["messages_in"] == publisher.sent == 117
    assert origin["messages_in"] - origin_before["messages_in"] == 100
    # The origin sends each message once to that edge, the edge encodes it once, and every player gets it.
    assert sent_out["messages_out"] - sent_out_before["messages_out"] == 100
    assert sent_out["dropped"] == 0
    assert more("media_received") == more("messages_encoded") == 100
    assert more("messages_delivered") == 300 * 100
    assert more("messages_dropped") == 0
    # Their starts, before: the origin sent that edge its cache once (metadata, header, the five frames since the keyframe).
    assert sent_out_before["messages_out"] == 7
    assert more("start_messages_encoded") == 0
    for player, stream in players:
        assert frames_of(stream, 105) == list(range(10, 115))
        player.close()


def test_a_second_publisher_of_a_name_is_refused_and_an_unknown_stream_is_not_found(cluster: Cluster) -> None:
    from headwater_client import StreamError

    with NetConnection(cluster.rtmp_url(1, "live")) as one, NetConnection(cluster.rtmp_url(2, "live")) as two:
        first = one.create_stream()
        first.publish("taken")
        with pytest.raises(StreamError, match="BadName"):
            two.create_stream().publish("taken")
        with pytest.raises(StreamError, match="StreamNotFound"):
            two.create_stream().play("nobody")
        first.close()
        again = two.create_stream()
        eventually(lambda: _publishes(again, "taken"), within_s=5)


def _publishes(stream: NetStream, name: str) -> bool:
    from headwater_client import StreamError

    try:
        stream.publish(name)
    except StreamError:
        return False
    return True
