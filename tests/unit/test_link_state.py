"""The sequenced link without sockets: exactly once and in order over a transport that loses and repeats."""

import random

import msgpack
import pytest
from headwater_bus import link_state
from headwater_bus.codec import Codec
from headwater_bus.link_signals import LinkProtocolError, bye, reset
from headwater_bus.link_state import LinkOptions, LinkState
from headwater_bus.object_traffic import ObjectUpdate
from headwater_bus.traffic import TRAFFIC, Applied, FromClient, PublishStarted, SessionState
from hypothesis import given, settings
from hypothesis import strategies as st

CODEC = Codec(TRAFFIC)


def pair(options: LinkOptions | None = None) -> tuple[LinkState, LinkState]:
    options = options or LinkOptions()
    edge = LinkState("edge-1", "e1", CODEC, options, 0.0, initiator=True)
    origin = LinkState("origin-1", "o1", CODEC, options, 0.0, initiator=False)
    return edge, origin


def envelope(number: int, size: int = 4) -> FromClient:
    return FromClient(number, 1, 20, 0, 0, b"p" * size)


def transfer(source: LinkState, sink: LinkState, now: float) -> list[int]:
    return [item.session for frames in source.outgoing(now) for item in sink.receive(frames, now)]


def roundtrip(edge: LinkState, origin: LinkState, now: float) -> tuple[list[int], list[int]]:
    return transfer(edge, origin, now), transfer(origin, edge, now)


def open_pair(options: LinkOptions | None = None) -> tuple[LinkState, LinkState]:
    edge, origin = pair(options)
    roundtrip(edge, origin, 0.0)
    assert edge.established
    assert origin.established
    assert (edge.peer, origin.peer) == ("origin-1", "edge-1")
    return edge, origin


def test_batches_arrive_in_order_and_are_acknowledged() -> None:
    edge, origin = open_pair()
    for number in range(1000):
        edge.send(envelope(number))
    assert transfer(edge, origin, 0.1) == list(range(1000))
    assert not edge.idle
    roundtrip(origin, edge, 2.0)
    roundtrip(edge, origin, 2.0)
    assert edge.idle
    assert edge.queued_bytes == 0


def test_what_is_sent_before_hello_waits_for_it() -> None:
    edge, origin = pair()
    edge.send(envelope(7))
    assert transfer(edge, origin, 0.0) == []
    transfer(origin, edge, 0.0)
    assert transfer(edge, origin, 0.0) == [7]


def test_a_gap_is_reported_and_filled_at_once() -> None:
    edge, origin = open_pair()
    edge.send(envelope(1))
    edge.outgoing(0.1)  # lost
    edge.send(envelope(2))
    assert transfer(edge, origin, 0.2) == []
    assert transfer(origin, edge, 0.2) == []
    assert transfer(edge, origin, 0.2) == [1, 2]


def test_without_an_acknowledgement_the_peer_is_asked_and_nothing_is_sent_twice() -> None:
    edge, origin = open_pair()
    edge.send(envelope(1))
    assert transfer(edge, origin, 0.1) == [1]
    origin.outgoing(0.2)  # The acknowledgement is lost.
    assert transfer(edge, origin, 1.5) == []
    transfer(origin, edge, 1.5)
    assert edge.idle
    assert edge.resent_batches == 0


def test_credit_holds_back_what_the_peer_has_no_room_for() -> None:
    options = LinkOptions(window_bytes=1000)
    edge, origin = open_pair(options)
    for number in range(5):
        edge.send(envelope(number, 600))
        edge.outgoing(0.1)
    assert edge.queued_bytes > 3000
    got: list[int] = []
    for step in range(20):
        now = 2.0 + step
        got += transfer(edge, origin, now)
        transfer(origin, edge, now)
    assert got == [0, 1, 2, 3, 4]
    assert edge.queued_bytes == 0


def test_a_peer_that_takes_nothing_ends_the_link_at_the_limit() -> None:
    edge, _ = open_pair(LinkOptions(window_bytes=1000, queue_bytes=10_000))
    for number in range(20):
        edge.send(envelope(number, 1000))
    assert edge.failure is not None
    assert "10000 bytes" in edge.failure
    assert edge.outgoing(0.5) == []


def test_silence_is_noticed_and_heartbeats_break_it() -> None:
    edge, origin = open_pair()
    for step in range(1, 20):
        roundtrip(edge, origin, step * 0.5)
    for now in (10.0, 11.0, 12.0):
        origin.listen(now)
        origin.outgoing(now)
        assert origin.deadline() == (11.0 if now < 11.0 else 12.0)
    assert origin.failure is None
    origin.listen(12.1)
    assert origin.failure == "nothing heard for 3 s"


def test_who_was_held_up_listens_before_it_gives_the_peer_up() -> None:
    edge, origin = open_pair()
    roundtrip(edge, origin, 0.5)
    origin.deadline()
    origin.listen(6.5)
    origin.outgoing(6.5)
    assert (origin.failure, origin.deadline()) == (None, 7.5)
    origin.listen(7.51)
    assert origin.failure == "nothing heard for 3 s"


def test_who_is_held_up_at_every_look_gives_the_peer_up_too() -> None:
    edge, origin = open_pair()
    roundtrip(edge, origin, 0.5)
    now = 0.0
    while origin.failure is None:
        now = origin.deadline() + 0.6
        assert now < 10.0
        origin.listen(now)
        origin.outgoing(now)


def test_bye_and_restart_end_the_link() -> None:
    edge, _ = open_pair()
    edge.receive(bye("drained"), 1.0)
    assert edge.failure == "closed by the peer: drained"
    edge, _ = open_pair()
    edge.receive(reset("o2"), 1.0)
    assert edge.failure == "the peer restarted"
    edge, _ = open_pair()
    reborn = LinkState("origin-1", "o2", CODEC, LinkOptions(), 0.0, initiator=True)
    edge.receive(reborn.outgoing(0.0)[0], 1.0)
    assert edge.failure == "the peer restarted"


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", b"\x05", b"\x91\xa1x", b"\x91\x02", b"\x93\x02\xa1x\x00", b"\x91\x01"]
)
def test_garbage_raises_only_the_link_protocol_error(frame: bytes) -> None:
    edge, _ = open_pair()
    with pytest.raises(LinkProtocolError):
        edge.receive([frame], 1.0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), loss=st.floats(0.0, 0.5), repeat=st.floats(0.0, 0.3))
def test_exactly_once_in_order_over_a_lossy_transport(seed: int, loss: float, repeat: float) -> None:
    chance = random.Random(seed)
    edge, origin = open_pair(LinkOptions(window_bytes=4000))
    up: list[int] = []
    down: list[int] = []
    now = 0.0
    for number in range(60):
        edge.send(envelope(number, chance.randrange(400)))
        origin.send(envelope(number, chance.randrange(400)))
        now += 0.2
        for source, sink, got in ((edge, origin, up), (origin, edge, down)):
            for frames in source.outgoing(now):
                if chance.random() >= loss:
                    got += [item.session for item in sink.receive(frames, now)]
                    if chance.random() < repeat:
                        got += [item.session for item in sink.receive(frames, now)]
    for _ in range(40):
        now += 1.1
        up += transfer(edge, origin, now)
        down += transfer(origin, edge, now)
    assert up == list(range(60))
    assert down == list(range(60))


def test_acknowledgements_wait_a_moment_for_data_that_can_carry_them() -> None:
    edge, origin = open_pair()
    edge.send(envelope(1))
    assert transfer(edge, origin, 0.1) == [1]
    assert not origin.due(0.1)
    assert origin.outgoing(0.1) == []
    assert origin.due(0.1 + LinkOptions().ack_delay_s)
    transfer(origin, edge, 0.1 + LinkOptions().ack_delay_s)
    assert edge.idle
    assert not origin.due(0.2)
    edge.send(envelope(2))
    transfer(edge, origin, 0.3)
    origin.send(envelope(3))
    assert transfer(origin, edge, 0.3) == [3]
    assert edge.idle
    assert not origin.due(0.35)


def test_many_batches_are_acknowledged_without_waiting() -> None:
    edge, origin = open_pair()
    for number in range(32):
        edge.send(envelope(number))
        transfer(edge, origin, 0.1)
    assert origin.due(0.1)
    transfer(origin, edge, 0.1)
    assert edge.idle


def test_batches_under_way_are_limited_however_small() -> None:
    edge, _ = open_pair()
    for number in range(5000):
        edge.send(envelope(number))
        edge.outgoing(0.1)
    assert len(edge._in_flight) == 4096
    assert not edge.due(0.1)


def test_a_gap_that_is_reported_often_is_filled_once() -> None:
    edge, _ = open_pair()
    for number in range(3):
        edge.send(envelope(number))
        edge.outgoing(0.1)
    for step in range(4):
        edge.receive([b"\x93\x03\x00\xc3"], 0.2 + step / 100)
        edge.outgoing(0.2 + step / 100)
    assert edge.resent_batches == 3
    edge.receive([b"\x93\x03\x00\xc3"], 0.9)
    edge.outgoing(0.9)
    assert edge.resent_batches == 6


def test_after_a_reconnect_both_directions_are_asked_for() -> None:
    edge, origin = open_pair(LinkOptions(heartbeat_s=60, resend_s=60))
    edge.send(envelope(1))
    origin.send(envelope(2))
    for lost in (edge, origin):
        lost.outgoing(0.1)
    assert not edge.due(0.2)
    edge.reconnected()
    assert edge.due(0.2)
    assert roundtrip(edge, origin, 0.2) == ([], [])
    assert transfer(edge, origin, 0.2) == [1]
    assert transfer(origin, edge, 0.2) == [2]


@pytest.mark.parametrize(
    ("hello", "says"),
    [
        ((2, "edge-1", "b", 1, True), "protocol version 2, expected 1"),
        ((1, "edge-2", "b", 1, True), "from 'edge-2', expected 'edge-1'"),
        ((1, "", "b", 1, True), "not of 1 to 80"),
        ((1, "edge-1", "b" * 81, 1, True), "not of 1 to 80"),
        ((1, 5, "b", 1, True), "expected a node id"),
        ((1, "edge-1", "b", "1", True), "expected a node id"),
        ((1, "edge-1"), "fields missing"),
    ],
)
def test_what_no_hello_may_say(hello: tuple[object, ...], says: str) -> None:
    state = LinkState("origin-1", "o1", CODEC, LinkOptions(), 0.0, initiator=False, expected_peer="edge-1")
    with pytest.raises(LinkProtocolError, match=says):
        state.receive([msgpack.packb([1, *hello])], 0.0)
    assert not state.established


def test_a_signal_of_a_newer_version_is_counted() -> None:
    edge, _ = open_pair()
    assert edge.receive([msgpack.packb([77, "new"])], 1.0) == []
    assert (edge.unknown, edge.failure) == (1, None)


def test_an_envelope_that_cannot_be_packed_ends_the_link() -> None:
    edge, _ = open_pair()
    edge.send(FromClient(2**70, 1, 20, 0, 0, b""))
    assert edge.outgoing(0.5) == []
    assert edge.failure is not None
    assert "not packable" in edge.failure


def test_a_link_that_is_over_takes_nothing_and_holds_nothing() -> None:
    edge, origin = open_pair()
    edge.send(envelope(1, 1000))
    edge.fail("over")
    edge.send(envelope(2))
    assert (edge.queued_bytes, edge.idle, edge.due(9.0), edge.outgoing(9.0)) == (0, True, False, [])
    origin.send(envelope(3))
    assert transfer(origin, edge, 1.0) == []


# What envelopes weigh


def test_updates_of_objects_count_as_what_they_carry_and_batches_are_parted_by_it() -> None:
    edge, origin = open_pair(LinkOptions(window_bytes=64 * 1024 * 1024))
    for number in range(512):
        origin.send(ObjectUpdate(1, number, number, 0, bytes(60_000)))
        assert origin.queued_bytes > (number + 1) * 60_000
    messages = origin.outgoing(0.1)
    assert len(messages) == 2
    assert max(sum(map(len, frames)) for frames in messages) < link_state.MAX_BATCH_BYTES + 70_000
    got = [update.version for frames in messages for update in edge.receive(frames, 0.2)]
    assert got == list(range(512))
    transfer(edge, origin, 0.3)
    assert (origin.position, origin.acknowledged, origin.queued_bytes) == (512, 512, 0)


def test_all_that_is_sent_in_one_step_is_one_batch_however_many_that_are() -> None:
    edge, origin = open_pair()
    for number in range(60_000):
        origin.send(envelope(number, 100))
    (message,) = origin.outgoing(0.1)
    assert [item.session for item in edge.receive(message, 0.2)] == list(range(60_000))


def test_a_batch_of_what_has_no_payload_is_parted_before_a_frame_is_too_long() -> None:
    """Attach and SessionState: their states count, and so does each envelope a little."""
    _, origin = open_pair(LinkOptions(window_bytes=2**40, queue_bytes=2**40))
    for number in range(40):
        origin.send(SessionState(number, bytes(1024 * 1024)))
    for number in range(400_000):
        origin.send(PublishStarted(number, 1, 1, "n" * 100))
    messages = origin.outgoing(0.1)
    assert origin.failure is None
    assert len(messages) >= 2 + 2
    assert max(len(frame) for frames in messages for frame in frames) < link_state.MAX_FRAME_BYTES


# The last envelope of a batch


def test_a_batch_ends_with_what_its_trailer_gives() -> None:
    edge, origin = open_pair()
    due: list[int] = []

    def trailer() -> Applied | None:
        rows, due[:] = list(due), []
        return Applied(rows) if rows else None

    origin.trailer = trailer
    assert origin.outgoing(0.1) == []
    origin.send(envelope(1))
    due += [1, 7, 3]
    origin.send(envelope(2))
    (message,) = origin.outgoing(0.1)
    assert edge.receive(message, 0.2) == [envelope(1), envelope(2), Applied([1, 7, 3])]
    # Without anything else it is a batch alone.
    due += [2, 1, 1]
    (message,) = origin.outgoing(0.3)
    assert edge.receive(message, 0.4) == [Applied([2, 1, 1])]
    assert origin.position == 4
    assert origin.outgoing(0.5) == []


def test_a_batch_that_was_lost_comes_again_with_its_trailer_and_without_another() -> None:
    edge, origin = open_pair()
    due = [Applied([1, 1, 1])]
    origin.trailer = lambda: due.pop() if due else None
    origin.send(envelope(1))
    origin.outgoing(0.1)  # lost
    due.append(Applied([2, 2, 2]))
    (second,) = origin.outgoing(0.2)
    assert edge.receive(second, 0.2) == []
    transfer(edge, origin, 0.3)
    got = [item for frames in origin.outgoing(0.4) for item in edge.receive(frames, 0.4)]
    assert got == [envelope(1), Applied([1, 1, 1]), Applied([2, 2, 2])]


# How far the peer is


def test_what_the_peer_has_taken_is_known_by_its_position() -> None:
    edge, origin = open_pair()
    assert (origin.position, origin.acknowledged) == (0, 0)
    for number in range(3):
        origin.send(envelope(number))
    assert origin.position == 3
    first = origin.outgoing(0.1)
    origin.send(envelope(3))
    second = origin.outgoing(0.1)
    assert (origin.position, origin.acknowledged) == (4, 0)
    edge.receive(first[0], 0.2)
    transfer(edge, origin, 0.5)
    assert (origin.position, origin.acknowledged) == (4, 3)
    edge.receive(second[0], 0.6)
    transfer(edge, origin, 1.0)
    assert origin.acknowledged == 4
    origin.fail("over")
    origin.send(envelope(4))
    assert (origin.position, origin.acknowledged) == (4, 4)


def test_many_short_updates_are_weighed_too() -> None:
    """Those that stand in the batch itself."""
    _, origin = open_pair()
    for number in range(512):
        origin.send(ObjectUpdate(1, number, number, 0, bytes(4000)))
    assert max(sum(map(len, frames)) for frames in origin.outgoing(0.1)) < link_state.MAX_BATCH_BYTES + 10_000


def test_the_limit_holds_for_what_a_batch_turns_out_to_weigh() -> None:
    _, origin = open_pair(LinkOptions(queue_bytes=10_000))
    origin.send(PublishStarted(1, 1, 1, "n" * 9_000))
    assert origin.outgoing(0.1)
    assert origin.failure is None
    assert origin.queued_bytes > 9_000
    origin.send(PublishStarted(1, 1, 1, "n" * 2_000))
    assert origin.outgoing(0.1) == []
    assert origin.failure == "queue over 10000 bytes: the peer takes nothing"


def test_a_frame_that_the_peer_would_not_take_ends_the_link_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_state, "MAX_FRAME_BYTES", 10_000)
    _, origin = open_pair()
    with pytest.raises(ValueError, match="10001 bytes, expected 10000 at most"):
        origin.send(ObjectUpdate(1, 1, 1, 0, bytes(10_001)))
    origin.send(PublishStarted(1, 1, 1, "n" * 10_000))
    assert origin.outgoing(0.1) == []
    assert origin.failure is not None
    assert "a batch of 10010 bytes, expected 10000 at most" in origin.failure


def test_the_deadline_says_when_to_look_again() -> None:
    edge, origin = pair(LinkOptions(heartbeat_s=1.0, timeout_s=3.0, resend_s=0.5, ack_delay_s=0.1))
    transfer(edge, origin, 0.0)
    assert edge.deadline() == 1.0
    transfer(origin, edge, 0.2)
    edge.send(envelope(1))
    transfer(edge, origin, 0.3)
    # The acknowledgement; what is under way.
    assert (origin.deadline(), edge.deadline()) == (0.4, 0.8)
    for now in (0.39, 0.4):
        assert origin.due(now) == (now >= origin.deadline())
    transfer(origin, edge, 0.4)
    assert (origin.deadline(), edge.deadline()) == (1.4, 1.3)
    # Nothing is heard any more: heartbeats, then the end.
    while True:
        now = edge.deadline()
        edge.listen(now + 0.01)
        if edge.failure is not None:
            break
        assert edge.due(now)
        assert edge.outgoing(now)
        assert edge.deadline() > now
    assert now == pytest.approx(3.4)


def test_a_peer_that_is_asked_says_at_once_what_it_has() -> None:
    edge, origin = open_pair()
    edge.send(envelope(1))
    edge.ask()
    assert transfer(edge, origin, 0.1) == [1]
    assert origin.due(0.1)
    transfer(origin, edge, 0.1)
    assert edge.idle
