"""Sessions whose origin is lost or whose group moves: kept messages go to the next one, and no client notices."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from headwater_bus import traffic
from headwater_edge.attachment import AttachmentPhase
from headwater_edge.client import Phase
from headwater_rtmp.message import Message
from support.edge import GROUP, FakeLink, Peer, attached, end_all, linked, lose, make_edge, say
from support.waiting import eventually


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    end_all()


class Two:
    """An edge with links to two origins. The group is at the first, with one client in it."""

    def __init__(self, **settings: Any) -> None:
        self.edge, self.node, self.first = make_edge(**settings)
        self.second = linked(self.edge, self.node, "origin-2")
        self.peer = attached(self.edge, self.first)
        assert self.peer.client is not None
        self.client = self.peer.client

    def send(self, count: int = 1, size: int = 1) -> None:
        for _ in range(count):
            self.edge.router.route(self.client, Message(20, 0, 0, bytes(size)))


@pytest.fixture
def two() -> Two:
    return Two()


def numbers(link: FakeLink) -> list[int]:
    return [message.number for message in link.of(traffic.FromClient)]


def test_what_was_not_applied_goes_to_the_next_origin_right_behind_the_attach(two: Two) -> None:
    two.send(5)
    say(two.edge, two.first, traffic.SessionState(1, b"state"), traffic.Applied([1, 2, 77]))
    two.node.changed(["node-gone", "origin-1"])
    lose(two.edge, two.first)
    two.send()
    assert two.edge.health()["resuming"] == 1
    two.node.grant(GROUP, "origin-2", 4)
    attach, *messages = two.second.sent
    assert isinstance(attach, traffic.Attach)
    assert (attach.session, attach.session_id, attach.group, attach.epoch) == (1, "b00t-1", GROUP, 4)
    assert (attach.resumed, attach.applied, attach.heard, attach.state) == (True, 2, 77, b"state")
    assert (attach.type_id, attach.payload) == (20, two.first.of(traffic.Attach)[0].payload)
    assert (attach.objects, attach.streams, attach.guest_streams) == ([], [], [])
    assert [message.number for message in messages] == [3, 4, 5, 6]
    # New ones follow at once.
    two.send()
    assert numbers(two.second) == [3, 4, 5, 6, 7]
    say(two.edge, two.second, traffic.Attached(1, 4, False), traffic.Applied([1, 5, 80]))
    assert two.client.home.unacknowledged is not None
    assert [message.number for message in two.client.home.unacknowledged] == [6, 7]
    assert numbers(two.second) == [3, 4, 5, 6, 7]
    say(two.edge, two.second, traffic.Applied([1, 7, 81]))
    assert two.client.home.unacknowledged is None
    assert (two.client.kept_messages, two.client.kept_bytes, two.client.home.heard) == (0, 0, 81)
    counters = two.edge.counters
    assert (counters.sessions_resumed, counters.messages_again, counters.links_lost) == (1, 4, 1)
    two.peer.pump()
    assert not two.peer.ended
    assert two.peer.messages == []


def test_a_group_that_moves_leaves_its_link_at_once_and_others_stay(two: Two) -> None:
    other = attached(two.edge, two.first)
    assert other.client is not None
    two.node.view.groups["live/two"] = two.node.view.groups[GROUP]
    stays = Peer(two.edge).connect("live/two")
    eventually(lambda: 3 in two.first.data.attachments, 10)
    say(two.edge, two.first, traffic.Attached(3, 0, False))
    two.send(2)
    two.node.grant(GROUP, "origin-2", 9)
    assert sorted(two.first.data.attachments) == [3]
    assert two.first.of(traffic.Detach) == []
    assert [(a.session, a.epoch, a.resumed) for a in two.second.of(traffic.Attach)] == [
        (1, 9, True),
        (2, 9, True),
    ]
    assert numbers(two.second) == [1, 2]
    # What the old owner still says means nothing.
    say(
        two.edge,
        two.first,
        traffic.ToClient(1, 20, 0, 0, b"\x02\x00\x01x"),
        traffic.CloseSession(1, "late"),
        traffic.Applied([1, 2, 5]),
    )
    two.peer.pump()
    assert two.peer.messages == []
    assert two.client.home.applied == 0
    say(two.edge, two.second, traffic.Attached(1, 0, False), traffic.Attached(2, 0, False))
    assert two.edge.health()["resuming"] == 0
    assert stays.client is not None
    assert stays.client.home.link is two.first  # type: ignore[comparison-overlap]  # a fake


def test_what_an_origin_said_before_it_had_the_group_again_is_ignored(two: Two) -> None:
    two.send(2)
    two.node.grant(GROUP, "origin-2", 4)
    two.node.grant(GROUP, "origin-1", 5)
    assert [attach.epoch for attach in two.first.of(traffic.Attach)] == [3, 5]
    # Said at epoch 3.
    stale = traffic.ToClient(1, 20, 0, 0, b"stale")
    say(two.edge, two.first, stale, traffic.SessionState(1, b"old"), traffic.Applied([1, 1, 50]))
    assert (two.client.home.applied, two.client.home.heard, two.client.home.state) == (0, 0, b"")
    say(two.edge, two.first, traffic.Attached(1, 0, False), traffic.ToClient(1, 18, 0, 0, b"again"))
    say(two.edge, two.first, traffic.Applied([1, 2, 51]))
    two.peer.until(lambda: two.peer.messages)
    assert [message.payload for message in two.peer.messages] == [b"again"]
    assert two.client.home.unacknowledged is None


def test_an_answer_to_an_earlier_question_means_nothing(two: Two) -> None:
    two.send(2)
    for epoch, origin in ((4, "origin-2"), (5, "origin-1"), (6, "origin-2")):
        two.node.grant(GROUP, origin, epoch)
    say(
        two.edge, two.second, traffic.AttachRefused(1, GROUP, "not mine", 4), traffic.Attached(1, 2, False, 4)
    )
    assert two.client.home.phase == AttachmentPhase.RESUMING
    say(two.edge, two.second, traffic.Attached(1, 1, False, 6), traffic.AttachRefused(1, GROUP, "late", 4))
    assert two.client.home.phase == AttachmentPhase.ATTACHED  # type: ignore[comparison-overlap]  # what was said has changed it, which mypy cannot know
    assert two.client.kept_messages == 1


def test_a_refused_session_keeps_what_it_sent_and_goes_where_the_feed_says(two: Two) -> None:
    two.send(2)
    two.node.changed(["node-gone", "origin-1"])
    lose(two.edge, two.first)
    two.node.grant(GROUP, "origin-2", 4)
    say(two.edge, two.second, traffic.AttachRefused(1, GROUP, "not the owner at this epoch"))
    assert two.second.data.attachments == {}
    two.send()
    assert numbers(two.second) == [1, 2]
    third = linked(two.edge, two.node, "origin-3")
    two.node.grant(GROUP, "origin-3", 5)
    assert [(attach.epoch, attach.resumed) for attach in third.of(traffic.Attach)] == [(5, True)]
    assert numbers(third) == [1, 2, 3]
    say(two.edge, third, traffic.Attached(1, 3, False))
    assert two.client.kept_messages == 0


def test_a_refused_session_asks_the_same_origin_again_when_nothing_changes(two: Two) -> None:
    two.send(2)
    two.node.grant(GROUP, "origin-2", 4)
    for count in (2, 3):
        say(two.edge, two.second, traffic.AttachRefused(1, GROUP, "not yet"))
        eventually(lambda: len(two.second.of(traffic.Attach)) == count, 10)  # noqa: B023
    assert numbers(two.second) == [1, 2] * 3
    say(two.edge, two.second, traffic.Attached(1, 0, False))
    assert two.edge.cluster.groups[GROUP].pause_s == 0.05


def test_a_link_that_is_lost_while_its_origin_lives_is_made_anew(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater_edge.cluster.EdgeLink", FakeLink)
    two.send(2)
    lose(two.edge, two.first)
    # The feed gets a moment first.
    assert "origin-1" not in two.edge.cluster.links
    anew = eventually(lambda: two.edge.cluster.links.get("origin-1"), 10)
    assert [attach.resumed for attach in anew.of(traffic.Attach)] == [True]
    assert numbers(anew) == [1, 2]
    assert two.node.asked == []


def test_an_orphan_goes_to_whom_it_is_granted(two: Two) -> None:
    two.send()
    two.node.changed(["node-gone", "origin-1"], ["group", GROUP, "", 3])
    # The table knows it before the link does.
    assert two.first.failure == "the registry says that it is gone"
    lose(two.edge, two.first)
    assert two.second.sent == []
    two.node.grant(GROUP, "origin-2", 4)
    assert numbers(two.second) == [1]
    assert two.node.asked == []


def test_an_orphan_whose_last_origin_is_there_still_leaves_it(two: Two) -> None:
    stays = Peer(two.edge).connect("live/other")
    two.node.grant("live/other", "origin-1", 8)
    eventually(lambda: 2 in two.first.data.attachments, 10)
    say(two.edge, two.first, traffic.Attached(2, 0, False))
    two.node.grant(GROUP, "", 3)
    assert two.first.failure is None
    assert sorted(two.first.data.attachments) == [2]
    two.node.grant(GROUP, "origin-1", 9)
    assert [attach.resumed for attach in two.first.of(traffic.Attach)] == [False, False, True]
    assert not stays.ended


def test_an_orphan_that_nobody_is_granted_is_asked_for(two: Two) -> None:
    two.node.changed(["node-gone", "origin-1"], ["group", GROUP, "", 3])
    lose(two.edge, two.first)
    assert two.node.asked == []
    two.node.origin = "origin-2"
    eventually(lambda: two.second.of(traffic.Attach), 10)
    assert set(two.node.asked) == {GROUP}


def test_a_feed_that_is_slower_than_the_balancer_changes_nothing(two: Two) -> None:
    two.node.grant(GROUP, "origin-2", 9)
    for origin in ("origin-1", ""):
        two.node.grant(GROUP, origin, 8)
    assert [attach.epoch for attach in two.second.of(traffic.Attach)] == [9]
    assert len(two.first.of(traffic.Attach)) == 1
    assert two.second.failure is None
    # A registry that has lost its table counts anew.
    two.node.view.feed = "another"
    two.node.grant(GROUP, "origin-1", 1)
    assert [attach.epoch for attach in two.first.of(traffic.Attach)] == [3, 1]


def test_who_comes_while_the_feed_is_given_a_moment_waits_with_the_others(two: Two) -> None:
    two.node.changed(["group", GROUP, "", 3])
    lose(two.edge, two.first)
    late = Peer(two.edge).connect()
    eventually(lambda: late.client is not None and late.client.phase == Phase.CONNECTING, 10)
    two.node.grant(GROUP, "origin-2", 4)
    assert [(a.session, a.resumed) for a in two.second.of(traffic.Attach)] == [(1, True), (2, False)]


def test_a_new_epoch_of_the_same_origin_is_nothing_to_who_is_there(two: Two) -> None:
    two.node.grant(GROUP, "origin-1", 8)
    assert len(two.first.of(traffic.Attach)) == 1
    newcomer = attached(two.edge, two.first)
    assert newcomer.client is not None
    assert [attach.epoch for attach in two.first.of(traffic.Attach)] == [3, 8]


def test_a_group_that_nobody_has_any_more_goes_on_where_it_is(two: Two) -> None:
    two.node.changed(["group-gone", GROUP])
    two.send()
    assert numbers(two.first) == [1]
    assert two.client.home.link is two.first  # type: ignore[comparison-overlap]  # a fake


def test_an_origin_that_has_restarted_is_linked_anew(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater_edge.cluster.EdgeLink", FakeLink)
    two.send()
    two.node.add_origin("origin-1", boot="b2")
    assert two.first.failure == "the origin has restarted"
    two.node.grant(GROUP, "origin-1", 4)
    anew: Any = two.edge.cluster.links["origin-1"]
    assert anew is not two.first
    assert numbers(anew) == [1]
    lose(two.edge, two.first)
    assert two.edge.cluster.links["origin-1"] is anew
    assert two.client.home.link is anew


def test_the_loss_of_an_origin_s_last_self_is_nothing_to_a_link_to_its_present_one(
    two: Two,
) -> None:
    two.second.boot = "b2"
    two.node.changed(["node-gone", "origin-2"])
    assert two.second.failure is None
    two.node.add_origin("origin-2", boot="b2")
    assert two.second.failure is None
    two.node.changed(["node-gone", "origin-2"])
    assert two.second.failure == "the registry says that it is gone"


def test_a_suspected_origin_is_told_to_the_registry(two: Two) -> None:
    two.edge.cluster._on_suspect("origin-1", "b")
    assert two.node.suspected == [("origin-1", "b")]


def test_groups_with_many_sessions_come_first() -> None:
    edge, node, first = make_edge()
    second = linked(edge, node, "origin-2")
    sizes = {"live/a": 1, "live/b": 3, "live/c": 2}
    for name, size in sizes.items():
        node.grant(name, "origin-1", 3)
        for _ in range(size):
            attached(edge, first, app=name)
    for name in sizes:
        node.view.groups[name] = node.view.groups[name].__class__(name, "origin-2", 4)
    lose(edge, first)
    assert [attach.group for attach in second.of(traffic.Attach)] == ["live/b"] * 3 + ["live/c"] * 2 + [
        "live/a"
    ]


def test_an_origin_without_a_journal_may_refuse_the_session_as_a_new_one(two: Two) -> None:
    two.node.grant(GROUP, "origin-2", 4)
    refusal = traffic.ToClient(1, 20, 0, 0, b"_error")
    say(two.edge, two.second, refusal, traffic.CloseSession(1, "connect refused"))
    two.peer.until_ended()
    assert two.peer.messages == []
    assert [detach.session for detach in two.second.of(traffic.Detach)] == [1]


# Who leaves meanwhile


def test_who_closes_while_no_origin_is_there_is_told_to_the_next(two: Two) -> None:
    stays = attached(two.edge, two.first)
    two.send(3)
    lose(two.edge, two.first)
    two.client.close("done", gone=True)
    assert two.edge.health()["resuming"] == 1
    two.node.grant(GROUP, "origin-2", 4)
    gone, attach = two.second.sent
    assert gone == traffic.SessionsGone(GROUP, 4, ["b00t-1"])
    assert (type(attach), attach.session) == (traffic.Attach, 2)
    say(two.edge, two.second, traffic.Attached(2, 0, False))
    # Nobody tells it again.
    third = linked(two.edge, two.node, "origin-3")
    two.node.grant(GROUP, "origin-3", 5)
    assert [type(envelope) for envelope in third.sent] == [traffic.Attach]
    assert not stays.ended


def test_who_closes_before_the_answer_is_told_to_this_origin_and_should_it_refuse_to_the_next(
    two: Two,
) -> None:
    stays = attached(two.edge, two.first)
    two.node.grant(GROUP, "origin-2", 4)
    two.client.close("done", gone=True)
    assert [detach.session for detach in two.second.of(traffic.Detach)] == [1]
    say(two.edge, two.second, traffic.AttachRefused(2, GROUP, "no"))
    two.node.grant(GROUP, "origin-1", 5)
    assert two.first.of(traffic.SessionsGone) == [traffic.SessionsGone(GROUP, 5, ["b00t-1"])]
    assert not stays.ended


def test_a_group_whose_sessions_all_left_is_told_and_forgotten(two: Two) -> None:
    lose(two.edge, two.first)
    two.client.close("done", gone=True)
    assert GROUP in two.edge.cluster.groups
    two.node.grant(GROUP, "origin-2", 4)
    assert two.second.sent == [traffic.SessionsGone(GROUP, 4, ["b00t-1"])]
    assert two.edge.cluster.groups == {}
    assert two.second.data.groups == {}


def test_a_group_whose_sessions_all_left_and_that_nobody_gets_is_forgotten(two: Two) -> None:
    lose(two.edge, two.first)
    two.client.close("done", gone=True)
    two.edge.check_deadlines(time.monotonic() + 29)
    assert GROUP in two.edge.cluster.groups
    two.edge.check_deadlines(time.monotonic() + 31)
    assert two.edge.cluster.groups == {}


def test_nothing_is_left_of_a_group_after_its_last_session(two: Two) -> None:
    two.send()
    two.client.close("done", gone=True)
    assert two.edge.cluster.groups == {}
    assert two.first.data.groups == {}
    assert two.first.of(traffic.SessionsGone) == []


# Limits


def test_a_session_that_an_origin_does_not_answer_is_closed_in_the_end() -> None:
    two = Two(resume_s=5.0)
    two.node.grant(GROUP, "origin-2", 4)
    two.edge.check_deadlines(time.monotonic() + 4)
    assert not two.client.closed
    two.edge.check_deadlines(time.monotonic() + 6)
    two.peer.until_ended()
    assert two.peer.statuses() == ["NetConnection.Connect.Closed"]


def test_a_client_with_too_much_that_is_not_applied_is_not_read() -> None:
    two = Two(kept_messages=10)
    for _ in range(15):
        two.peer.command("x")
    eventually(lambda: two.client.paused, 10)
    assert numbers(two.first) == list(range(1, 11))
    say(two.edge, two.first, traffic.Applied([1, 4, 0]))
    assert two.client.paused
    say(two.edge, two.first, traffic.Applied([1, 6, 0]))
    assert not two.client.paused
    eventually(lambda: numbers(two.first) == list(range(1, 16)), 10)
    assert two.client not in two.edge.paused


def test_a_client_with_too_many_bytes_that_are_not_applied_is_not_read_even_without_an_origin() -> None:
    two = Two(kept_bytes=100_000)
    lose(two.edge, two.first)
    for _ in range(5):
        two.peer.send(two.peer.rtmp.send(Message(20, 0, 0, bytes(40_000))))
    eventually(lambda: two.client.paused, 10)
    assert (two.client.kept_messages, two.client.kept_bytes) == (3, 120_000)
    two.node.grant(GROUP, "origin-2", 4)
    say(two.edge, two.second, traffic.Attached(1, 3, False))
    eventually(lambda: numbers(two.second) == [1, 2, 3, 4, 5], 10)


def test_an_idle_client_keeps_nothing_that_is_made_for_resuming(two: Two) -> None:
    home = two.client.home
    assert home.unacknowledged is None
    two.send(2)
    say(two.edge, two.first, traffic.Applied([1, 2, 1]))
    assert home.unacknowledged is None
    client = two.client
    assert [client.publications, client.players, client.objects, client.guests, client.routes] == [None] * 5


def test_rows_about_who_is_not_there_mean_nothing(two: Two) -> None:
    two.send()
    say(two.edge, two.first, traffic.Applied([99, 5, 5, 1, 1, 3, 98, 1, 1]))
    assert (two.client.home.applied, two.client.home.heard) == (1, 3)


# What is told


def test_gaps_are_told(two: Two, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headwater")
    attached(two.edge, two.first)
    lose(two.edge, two.first, "closed by the peer")
    assert {"resuming": 2}.items() <= two.edge.health().items()
    two.node.grant(GROUP, "origin-2", 4)
    two.client.home.since -= 0.5
    say(two.edge, two.second, traffic.Attached(1, 0, False))
    assert {"resuming": 1}.items() <= two.edge.health().items()
    assert [record.getMessage() for record in caplog.records] == ["link down"]
    say(two.edge, two.second, traffic.Attached(2, 0, False))
    health = two.edge.health()
    assert health["resuming"] == 0
    assert 500 <= health["longest_gap_ms"] < 2000
    assert health["last_gap_ms"] < 500
    down, over = (vars(record)["fields"] for record in caplog.records)
    assert (down["origin"], down["reason"], down["sessions"]) == ("origin-1", "closed by the peer", 2)
    assert (over["origin"], over["resumed"], over["ended"]) == ("origin-1", 2, 0)
    assert over["longest_ms"] == health["longest_gap_ms"]
    assert "client closed" not in caplog.text
