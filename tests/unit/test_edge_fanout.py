"""A stream on the edge: one encoding for all players, joins, slow players, the publisher's end."""

import errno
import random
from itertools import pairwise

import pytest
from headwater_edge.fanout import Player, StreamFanout
from headwater_rtmp.message import Message
from support.edge import CHUNK_SIZE
from support.fanout_bench import (
    AAC,
    AVC,
    HEADERS,
    META,
    FakeClient,
    Stage,
    audio,
    headers_at,
    inter,
    key,
    sent,
)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_every_player_gets_every_message_and_each_is_encoded_once(stage: Stage) -> None:
    clients = [stage.player()[0] for _ in range(50)]
    messages = [*HEADERS, key(0), audio(5), inter(40)]
    stage.push(*messages)
    assert all(client.got() == sent(1, *messages) for client in clients)
    assert stage.counters.messages_encoded == 6
    assert stage.counters.messages_delivered == 300
    assert stage.counters.messages_dropped == 0


def test_timestamps_pass_through_extended_ones_too(stage: Stage) -> None:
    client, _ = stage.player()
    messages = [key(0xFFFFFE), inter(0xFFFFFF), inter(0x1000000), inter(0xFFFFFFFF), inter(3)]
    stage.push(*messages)
    assert client.got() == sent(1, *messages)


def test_message_stream_ids_are_the_players_own(stage: Stage) -> None:
    clients = {stream_id: stage.player(stream_id)[0] for stream_id in (1, 2, 70)}
    stage.push(key(0))
    for stream_id, client in clients.items():
        assert client.got() == sent(stream_id, key(0))
    assert stage.counters.messages_encoded == 3


def test_a_message_of_many_chunks_is_whole(stage: Stage) -> None:
    client, _ = stage.player()
    stage.push(key(0, bytes(range(256)) * 1000))
    assert client.got() == sent(1, key(0, bytes(range(256)) * 1000))


def test_only_the_first_message_since_a_flush_asks_for_one(stage: Stage) -> None:
    assert [stage.fanout.add(key(0)), stage.fanout.add(inter(1))] == [True, False]
    _, player = stage.player(start=False)
    assert not stage.fanout.join(player)
    stage.fanout.flush()
    assert stage.fanout.add(inter(2))
    stage.fanout.flush()
    assert stage.fanout.join(player)


# Joining


def test_a_player_starts_with_headers_and_the_messages_since_the_keyframe(stage: Stage) -> None:
    stage.push(*HEADERS, key(1000), inter(1040), key(2000), inter(2040), audio(2050))
    client, _ = stage.player(start=False)
    stage.fanout.flush()
    assert client.got() == sent(1, *headers_at(2000), key(2000), inter(2040), audio(2050))


def test_a_join_while_messages_wait_doubles_and_loses_nothing(stage: Stage) -> None:
    old, _ = stage.player()
    stage.push(*HEADERS, key(0))
    old.got()
    stage.feed(inter(40))
    new, _ = stage.player(start=False)
    stage.feed(inter(80))
    stage.fanout.flush()
    stage.push(inter(120))
    assert old.got() == sent(1, inter(40), inter(80), inter(120))
    assert new.got() == sent(1, *HEADERS, key(0), inter(40), inter(80), inter(120))


def test_a_burst_of_joins_costs_one_encoding_of_the_start(stage: Stage) -> None:
    stage.push(*HEADERS, key(0), inter(40))
    clients = [stage.player(start=False)[0] for _ in range(1000)]
    stage.fanout.flush()
    assert stage.counters.start_messages_encoded == 5
    assert len({client.received for client in clients}) == 1
    assert clients[0].got() == sent(1, *HEADERS, key(0), inter(40))


def test_the_start_of_an_audio_stream_carries_the_time_of_now(stage: Stage) -> None:
    stage.push(Message(8, 0, 0, AAC), audio(3_600_000))
    client, _ = stage.player(start=False)
    stage.fanout.flush()
    stage.push(audio(3_600_020))
    assert client.got() == [(1, 3_600_000, AAC), (1, 3_600_020, audio(0).payload)]


def test_without_a_cached_keyframe_a_player_starts_with_audio_and_waits_for_the_next(stage: Stage) -> None:
    stage.fanout = StreamFanout("a", CHUNK_SIZE, 4000, stage.counters)
    stage.push(*HEADERS, key(0), inter(40, bytes(5000)), audio(50))
    client, player = stage.player(start=False)
    stage.fanout.flush()
    stage.push(inter(80), audio(81))
    stage.push(inter(120), key(160), audio(161))
    stage.push(inter(200))
    assert client.got() == sent(1, *headers_at(50), audio(81), key(160), audio(161), inter(200))
    assert player.plain


def test_a_player_that_leaves_before_its_start_gets_nothing(stage: Stage) -> None:
    stage.push(*HEADERS, key(0))
    client, player = stage.player(start=False)
    stage.fanout.leave(player)
    stage.push(inter(40))
    assert client.received == b""
    assert stage.fanout.player_count == 0


def test_a_large_start_is_sent_not_only_queued(stage: Stage) -> None:
    stage.push(key(0, bytes(200_000)))
    client, _ = stage.player(start=False)
    client.room = 150_000
    stage.fanout.flush()
    assert len(client.received) == 150_000


# Slow players


def test_a_full_socket_keeps_the_rest_and_the_order(stage: Stage) -> None:
    client, _ = stage.player()
    client.room = 7
    stage.push(key(0, b"x" * 50))
    stage.push(inter(40))
    client.drain()
    stage.push(inter(80))
    assert client.got() == sent(1, key(0, b"x" * 50), inter(40), inter(80))
    assert stage.counters.messages_encoded == 3
    assert stage.counters.messages_delivered == 3


def test_a_slow_player_goes_on_at_a_keyframe_when_its_queue_has_drained(stage: Stage) -> None:
    slow, player = stage.player()
    fast, _ = stage.player()
    slow.room = 0
    stage.push(*HEADERS, key(0, b"x" * 200))
    stage.push(inter(40))
    stage.push(key(80))
    assert slow.backlog_bytes > 200
    slow.drain()
    stage.push(inter(120))
    stage.push(inter(160), key(200), inter(240))
    stage.push(inter(280))
    assert slow.got() == sent(1, *HEADERS, key(0, b"x" * 200), key(200), inter(240), inter(280))
    assert len(fast.got()) == 3 + 8
    assert player.plain
    assert stage.counters.messages_dropped == 4
    assert stage.counters.messages_delivered == 11 + 7
    assert stage.counters.messages_encoded == 3 + 8


def test_a_keyframe_that_finds_a_queue_half_drained_is_not_the_one(stage: Stage) -> None:
    slow, _ = stage.player()
    slow.room = 0
    stage.push(key(0, b"x" * 200))
    stage.push(inter(40))
    slow.received, slow.queue = slow.queue[:-10], slow.queue[-10:]
    stage.push(key(80))
    slow.drain()
    stage.push(inter(120), key(160))
    assert slow.got() == sent(1, key(0, b"x" * 200), key(160))


def test_nothing_is_encoded_for_slow_players_alone(stage: Stage) -> None:
    slow, _ = stage.player()
    slow.room = 0
    stage.push(key(0, b"x" * 200))
    before = stage.counters.messages_encoded
    stage.push(inter(40))
    assert stage.counters.messages_encoded == before


def test_headers_that_changed_while_a_player_was_slow_come_before_its_keyframe(stage: Stage) -> None:
    slow, player = stage.player()
    stage.push(*HEADERS, key(0))
    slow.room = 0
    stage.push(inter(40, b"x" * 200))
    other = Message(9, 0, 80, b"\x17\x00\x00\x00\x00other")
    stage.push(other, key(90))
    slow.drain()
    slow.received = b""
    stage.push(key(120), inter(160))
    headers = [Message(18, 0, 0, META), Message(9, 0, 120, other.payload), Message(8, 0, 120, AAC)]
    assert slow.got() == sent(1, *headers, key(120), inter(160))
    assert player.plain


def test_a_header_just_before_the_keyframe_comes_once_and_one_after_it_stays_there(stage: Stage) -> None:
    slow, _ = stage.player()
    stage.push(HEADERS[1], key(0))
    slow.room = 0
    stage.push(inter(40, b"x" * 200))
    stage.push(inter(50))
    slow.drain()
    slow.received = b""
    second = Message(9, 0, 80, b"\x17\x00\x00\x00\x00second")
    third = Message(9, 0, 100, b"\x17\x00\x00\x00\x00third")
    stage.push(inter(60), second, key(80), third, key(100))
    assert slow.got() == sent(1, second, key(80), third, key(100))


def test_a_slow_player_of_an_audio_stream_goes_on_as_soon_as_its_queue_has_drained(stage: Stage) -> None:
    slow, _ = stage.player()
    stage.push(Message(8, 0, 0, AAC), audio(0))
    slow.room = 0
    stage.push(audio(20, b"x" * 200))
    stage.push(audio(40))
    slow.drain()
    slow.received = b""
    stage.push(audio(60), audio(80))
    assert slow.got() == sent(1, audio(60), audio(80))
    assert stage.counters.messages_dropped == 1


def test_a_player_that_is_closed_during_a_flush_hurts_nobody(stage: Stage) -> None:
    first, _ = stage.player()
    gone, _ = stage.player()
    alone, _ = stage.player(stream_id=2)
    last, _ = stage.player()
    for client in (gone, alone):
        client.error = OSError(errno.ECONNRESET, "reset")
    stage.push(key(0))
    stage.push(inter(40))
    assert first.got() == last.got() == sent(1, key(0), inter(40))
    assert gone.closed
    assert alone.closed
    assert gone.reason == "socket: reset"
    assert stage.fanout.player_count == 2
    assert stage.counters.messages_delivered == 4


def second_player(stage: Stage, client: FakeClient) -> Player:
    """Of the same stream, on another message stream of a client."""
    player = Player(client, 2, stage.fanout)  # type: ignore[arg-type]  # all that it needs of a Client
    client.players.append(player)
    return player


def test_who_plays_a_stream_twice_loses_nothing_where_its_socket_is_full(stage: Stage) -> None:
    client, _ = stage.player()
    stage.fanout.join(second_player(stage, client))
    stage.push(key(0))
    stage.push(inter(40))
    client.received = b""
    client.room = 7
    stage.push(inter(80))
    client.drain()
    stage.push(inter(120))
    assert client.got() == [
        at for message in (inter(80), inter(120)) for id_ in (1, 2) for at in sent(id_, message)
    ]


def test_a_client_that_is_closed_as_a_player_of_it_goes_on_leaves_nothing(stage: Stage) -> None:
    client, _ = stage.player()
    stage.push(key(0))
    stage.feed(inter(40))
    client.error = OSError(errno.EPIPE, "broken")
    stage.fanout.go_on(second_player(stage, client))
    assert client.closed
    assert stage.fanout.player_count == 0


def test_whatever_happens_what_a_player_gets_is_runs_from_keyframes(stage: Stage) -> None:
    chance = random.Random(4)
    clients: list[FakeClient] = []
    frames: list[bytes] = []
    clock = 0
    for step in range(3000):
        action = chance.random()
        if action < 0.6:
            clock += 1
            make = key if chance.random() < 0.1 or not frames else inter
            message = make(clock, b"%05d" % clock + bytes(chance.randrange(40)))
            frames.append(message.payload)
            stage.feed(message)
        elif action < 0.8:
            stage.fanout.flush()
        elif action < 0.83 and len(clients) < 40:
            client, _ = stage.player(stream_id=1 + step % 2, start=False)
            clients.append(client)
        elif clients:
            client = chance.choice(clients)
            if chance.random() < 0.3:
                client.room = chance.randrange(100)
            else:
                client.drain()
    stage.fanout.flush()
    for client in clients:
        client.drain()
    stage.push(key(clock + 1, b"last"))
    frames.append(key(0, b"last").payload)
    index = {payload: at for at, payload in enumerate(frames)}
    for client in clients:
        got = [index[payload] for _, _, payload in client.got()]
        assert frames[got[0]][0] == 0x17
        assert got[-1] == len(frames) - 1
        for before, after in pairwise(got):
            assert after == before + 1 or (after > before and frames[after][0] == 0x17)
    assert stage.counters.messages_dropped > 100


# The publisher's end


def test_after_a_reset_the_old_stream_is_forgotten_and_players_stay(stage: Stage) -> None:
    old, _ = stage.player()
    stage.push(*HEADERS, key(0))
    stage.feed(inter(40))
    stage.fanout.reset()
    new, _ = stage.player(start=False)
    stage.fanout.flush()
    assert old.got()[-1:] == sent(1, inter(40))
    assert new.got() == []
    stage.push(Message(9, 0, 0, AVC), key(0))
    assert old.got() == new.got() == sent(1, Message(9, 0, 0, AVC), key(0))


def test_a_stream_that_is_closed_while_messages_wait_flushes_to_nobody(stage: Stage) -> None:
    client, player = stage.player()
    stage.feed(key(0))
    stage.fanout.leave(player)
    stage.fanout.flush()
    assert client.received == b""
    assert stage.fanout.players == {}
