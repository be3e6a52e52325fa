"""A stream on the edge: players that want a part of it, or nothing for a while."""

import pytest
from headwater_rtmp.message import Message
from support.fanout_bench import AVC, HEADERS, META, Stage, audio, inter, key, sent


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_without_video_a_player_gets_audio_and_data(stage: Stage) -> None:
    stage.push(*HEADERS)
    client, player = stage.player()
    player.change(audio=True, video=False, paused=False)
    stage.push(key(0), audio(1), Message(18, 0, 2, META))
    assert client.got() == sent(1, audio(1), Message(18, 0, 2, META))
    assert stage.counters.messages_delivered == 2
    assert stage.counters.messages_dropped == 0


def test_with_video_again_it_comes_from_the_next_keyframe_and_audio_goes_on(stage: Stage) -> None:
    client, player = stage.player()
    stage.push(*HEADERS, key(0))
    player.change(audio=True, video=False, paused=False)
    other = Message(9, 0, 10, b"\x17\x00\x00\x00\x00other")
    stage.push(other, key(10), audio(11))
    player.change(audio=True, video=True, paused=False)
    client.received = b""
    stage.push(inter(20), audio(21))
    stage.push(inter(30), audio(31), key(40), inter(50))
    stage.push(inter(60))
    header = Message(9, 0, 40, other.payload)
    assert client.got() == [
        *sent(1, audio(21)),
        *sent(1, header, audio(31), key(40), inter(50)),
        *sent(1, inter(60)),
    ]
    assert player.plain


def test_with_audio_again_it_comes_at_once_with_a_header_that_is_new(stage: Stage) -> None:
    client, player = stage.player()
    stage.push(*HEADERS, key(0))
    player.change(audio=False, video=True, paused=False)
    other = Message(8, 0, 10, b"\xaf\x00\x99\x99")
    stage.push(other, audio(10), inter(11))
    assert client.got()[-1:] == sent(1, inter(11))
    player.change(audio=True, video=True, paused=False)
    stage.push(audio(20), inter(21))
    got = client.got()
    assert [payload for _, _, payload in got if payload[0] == 0xAF] == [other.payload, audio(20).payload]
    assert got[-1:] == sent(1, inter(21))
    assert player.plain


def test_a_paused_player_gets_nothing_and_goes_on_at_a_keyframe(stage: Stage) -> None:
    client, player = stage.player()
    stage.push(*HEADERS, key(0))
    client.received = b""
    player.change(audio=True, video=True, paused=True)
    stage.push(inter(40))
    stage.push(key(80))
    player.change(audio=True, video=True, paused=False)
    stage.push(inter(120), audio(121))
    stage.push(audio(150), key(160), audio(161))
    assert client.got() == sent(1, key(160), audio(161))
    assert stage.counters.messages_delivered == 4 + 2


def test_a_player_without_video_goes_on_at_once_after_a_pause(stage: Stage) -> None:
    client, player = stage.player()
    stage.push(*HEADERS, key(0))
    player.change(audio=True, video=False, paused=True)
    stage.push(audio(10))
    player.change(audio=True, video=False, paused=False)
    client.received = b""
    stage.push(inter(20), audio(21))
    assert client.got() == sent(1, audio(21))


def test_players_that_want_the_same_part_share_its_bytes(stage: Stage) -> None:
    stage.push(*HEADERS)
    for _ in range(10):
        stage.player()[1].change(audio=True, video=False, paused=False)
    stage.player()
    before = stage.counters.messages_encoded
    stage.push(key(0), audio(1), inter(40))
    assert stage.counters.messages_encoded - before == 3


def test_a_change_before_the_start_counts_for_the_start(stage: Stage) -> None:
    stage.push(*HEADERS, key(0), audio(1))
    client, player = stage.player(start=False)
    player.change(audio=True, video=False, paused=False)
    stage.fanout.flush()
    assert client.got() == sent(1, HEADERS[0], HEADERS[2], audio(1))
    player.change(audio=True, video=True, paused=False)
    stage.push(key(50))
    assert client.got()[-2:] == sent(1, Message(9, 0, 50, AVC), key(50))
