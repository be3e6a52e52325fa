"""Live streams through the whole cluster: what is sent arrives, on either edge, each message once per edge."""

import time

import gevent
import pytest
from headwater_client import NetConnection
from support.cluster import Cluster
from support.waiting import eventually

pytestmark = pytest.mark.cluster


def publish(url: str, name: str, messages: int, stop: list[bool]) -> None:
    """Publishes a small AVC-like stream: a sequence header, then a keyframe every tenth message, 50 a second."""
    with NetConnection(url) as connection:
        stream = connection.create_stream()
        stream.publish(name)
        stream.send_metadata({"width": 320.0, "height": 240.0})
        stream.send_video(b"\x17\x00\x00\x00\x00config", 0)
        for number in range(messages):
            head = b"\x17\x01\x00\x00\x00" if number % 10 == 0 else b"\x27\x01\x00\x00\x00"
            stream.send_video(head + number.to_bytes(4, "big") + b"x" * 200, number * 20)
            gevent.sleep(0.02)
            if stop[0]:
                break
        stream.close()


def play(url: str, name: str, seconds: float) -> list[int]:
    """Plays for a while; returns the numbers of the frames in the order of their arrival."""
    frames: list[int] = []
    with NetConnection(url) as connection:
        stream = connection.create_stream()
        stream.play(name)
        deadline = time.monotonic() + seconds
        for message in stream.messages(timeout_s=seconds):
            if message.type_id == 9 and message.payload[1] == 1:
                frames.append(int.from_bytes(message.payload[5:9], "big"))
            if time.monotonic() > deadline:
                break
    return frames


def test_a_player_on_the_other_edge_starts_at_a_keyframe_and_misses_nothing(cluster: Cluster) -> None:
    stop = [False]
    publisher = gevent.spawn(publish, cluster.rtmp_url(1, "live"), "a", 400, stop)
    gevent.sleep(1.0)
    players = [gevent.spawn(play, cluster.rtmp_url(edge, "live"), "a", 3.0) for edge in (1, 2, 2)]
    gevent.joinall(players, raise_error=True, timeout=30)
    stop[0] = True
    publisher.get(timeout=10)
    for player in players:
        frames = player.value
        assert len(frames) > 80
        assert frames[0] % 10 == 0
        assert frames == list(range(frames[0], frames[0] + len(frames)))


def test_300_players_of_one_stream_cost_the_origin_one_message_and_the_edge_one_encoding(
    cluster: Cluster,
) -> None:
    stop = [False]
    publisher = gevent.spawn(publish, cluster.rtmp_url(1, "live"), "many", 10_000, stop)
    gevent.sleep(0.5)
    connections = []
    for _ in range(300):
        connection = NetConnection(cluster.rtmp_url(2, "live"))
        connection.connect()
        stream = connection.create_stream()
        stream.play("many")
        connections.append((connection, stream))
    before = cluster.health("edge.2")["counters"]
    gevent.sleep(2.0)
    after = cluster.health("edge.2")["counters"]
    received = after["media_received"] - before["media_received"]
    encoded = after["messages_encoded"] - before["messages_encoded"]
    delivered = after["messages_delivered"] - before["messages_delivered"]
    assert received > 20
    # A flush may hold messages that were received just before the first look, or keep some for after the second.
    assert abs(encoded - received) <= 5
    assert delivered >= 300 * (encoded - 1)
    stop[0] = True
    publisher.get(timeout=30)
    for connection, _ in connections:
        connection.close()


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


def _publishes(stream: object, name: str) -> bool:
    from headwater_client import StreamError

    try:
        stream.publish(name)  # type: ignore[attr-defined]
    except StreamError:
        return False
    return True
