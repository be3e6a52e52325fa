"""Which origin a session goes to: the mirror, the balancer, refusals, lost origins."""

import errno
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from headwater_bus import traffic
from headwater_bus.node import AssignError
from headwater_bus.view import Assignment
from headwater_edge.client import Phase
from headwater_edge.edge import Edge
from support.edge import GROUP, FakeLink, Peer, attached, end_all, linked, lose, make_edge, say
from support.waiting import eventually


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    end_all()


def connecting(edge: Edge, app: str = "live") -> Peer:
    peer = Peer(edge).connect(app)
    client = peer.client
    assert client is not None
    eventually(lambda: client.phase >= Phase.CONNECTING, 10, "connect seen")
    return peer


def test_a_group_that_nobody_has_is_asked_for_once_for_all_who_wait() -> None:
    edge, node, link = make_edge()
    peers = [connecting(edge, "live/new") for _ in range(5)]
    assert link.sent == []
    node.origin = "origin-1"
    attaches = eventually(lambda: len(link.sent) == 5 and link.sent, 10)
    assert {(attach.group, attach.epoch) for attach in attaches} == {("live/new", 7)}
    assert set(node.asked) == {"live/new"}
    assert all(not peer.ended for peer in peers)


def test_without_an_origin_a_client_is_told_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    edge, node, _ = make_edge(attach_s=0.2)
    peers = [connecting(edge, "live/new") for _ in range(3)]
    for peer in peers:
        peer.until_ended()
        assert peer.statuses() == ["NetConnection.Connect.Failed"]
    assert len(node.asked) >= 2
    assert [record.getMessage() for record in caplog.records] == ["group has no origin"]


def test_a_client_that_left_while_its_group_was_looked_up_is_not_attached() -> None:
    edge, node, link = make_edge()
    gone, stays = connecting(edge, "live/new"), connecting(edge, "live/new")
    gone.sock.close()
    eventually(lambda: len(edge.clients) == 1, 10)
    node.origin = "origin-1"
    (attach,) = eventually(lambda: link.of(traffic.Attach), 10)
    assert stays.client is not None
    assert attach.session == stays.client.session


def test_a_look_up_that_fails_in_an_unknown_way_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(group: str, timeout_s: float) -> Any:
        raise ZeroDivisionError("by design")

    edge, node, _ = make_edge()
    monkeypatch.setattr(node, "assign", broken)
    peer = connecting(edge, "live/new")
    peer.until_ended()
    assert peer.statuses() == ["NetConnection.Connect.Failed"]
    assert edge.counters.internal_errors == 1
    edge.counters.internal_errors = 0


def test_a_link_that_cannot_be_made_costs_the_sessions_that_need_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_files(**settings: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    edge, node, link = make_edge()
    node.add_origin("origin-2")
    monkeypatch.setattr("headwater_edge.cluster.EdgeLink", no_files)
    peers = [connecting(edge, "live/new") for _ in range(3)]
    node.origin = "origin-2"
    for peer in peers:
        peer.until_ended()
        assert peer.statuses() == ["NetConnection.Connect.Failed"]
    # The same where the mirror knows the origin and nobody has to be asked.
    node.view.groups["live/known"] = Assignment("live/known", "origin-2", 1)
    known = connecting(edge, "live/known")
    known.until_ended()
    assert known.statuses() == ["NetConnection.Connect.Failed"]
    # Those of other origins go on.
    attached(edge, link)
    # One line for each group that was affected.
    assert [record.getMessage() for record in caplog.records] == ["internal error"] * 2
    assert edge.counters.internal_errors == 2
    edge.counters.internal_errors = 0
    assert "Traceback" not in capfd.readouterr().err


def test_a_second_try_that_fails_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    edge, node, link = make_edge()
    peer = connecting(edge)
    say(edge, link, traffic.AttachRefused(1, GROUP, "not mine"))
    monkeypatch.setattr(node.view, "groups", None)
    peer.until_ended()
    assert peer.statuses() == ["NetConnection.Connect.Failed"]
    assert edge.counters.internal_errors == 1
    edge.counters.internal_errors = 0
    assert "Traceback" not in capfd.readouterr().err


def test_the_time_to_find_an_origin_counts_from_connect_on() -> None:
    edge, node, link = make_edge(attach_s=100.0)
    early = connecting(edge)
    assert early.client is not None
    # It has waited for half of that, was refused, and has to ask the balancer now.
    early.client.home.since -= 50.0
    del node.view.groups[GROUP]
    timeouts: list[float] = []
    ask = node.assign

    def assign(group: str, timeout_s: float = 2.0) -> Assignment:
        timeouts.append(timeout_s)
        return ask(group, timeout_s)

    node.assign = assign  # type: ignore[method-assign]  # this node is asked through the test
    say(edge, link, traffic.AttachRefused(1, GROUP, "not mine"))
    eventually(lambda: timeouts, 10)
    assert timeouts[0] <= 50.0
    late = connecting(edge)
    early.client.home.since -= 50.0
    early.until_ended()
    assert early.statuses() == ["NetConnection.Connect.Failed"]
    # Who came later has its own time.
    late.pump()
    assert not late.ended
    node.origin = "origin-1"
    eventually(lambda: len(link.of(traffic.Attach)) == 2, 10)


@pytest.mark.parametrize("apps", [None, 7, "live", {"live": 1}, [["live"], 3]])
def test_what_an_origin_says_of_its_applications_is_not_trusted(apps: Any) -> None:
    edge, node, _ = make_edge()
    known = node.view.nodes["origin-1"]
    node.view.nodes["origin-1"] = replace(known, meta={"apps": apps})
    peer = connecting(edge)
    peer.until_ended()
    assert peer.statuses() == ["NetConnection.Connect.InvalidApp"]


def test_a_refused_session_goes_to_the_next_owner() -> None:
    edge, node, link = make_edge()
    other = FakeLink("origin-2")
    peer = connecting(edge)
    assert len(link.of(traffic.Attach)) == 1
    node.add_origin("origin-2")
    edge.cluster.links["origin-2"] = other  # type: ignore[assignment]  # all that it needs of a Link
    node.view.groups[GROUP] = Assignment(GROUP, "origin-2", 4)
    say(edge, link, traffic.AttachRefused(1, GROUP, "not the owner at this epoch"))
    (attach,) = eventually(lambda: other.of(traffic.Attach), 10)
    assert (attach.session, attach.epoch) == (1, 4)
    assert link.data.attachments == {}
    say(edge, link, traffic.Attached(1, 0, False))
    assert peer.client is not None
    assert peer.client.phase == Phase.CONNECTING
    say(edge, other, traffic.Attached(1, 0, False))
    assert peer.client.phase == Phase.CONNECTED  # type: ignore[comparison-overlap]  # what was said has changed it, which mypy cannot know


def test_refusals_end_after_a_while() -> None:
    edge, _, link = make_edge(attach_s=0.2)
    peer = connecting(edge)
    seen = 0

    def refuse() -> bool:
        nonlocal seen
        attaches = link.of(traffic.Attach)
        if len(attaches) > seen:
            seen = len(attaches)
            say(edge, link, traffic.AttachRefused(1, GROUP, "not mine"))
        return bool(peer.pump())

    eventually(refuse, 10)
    assert peer.statuses() == ["NetConnection.Connect.Failed"]
    assert seen >= 2


def test_a_refused_client_that_leaves_is_not_attached_again(capfd: pytest.CaptureFixture[str]) -> None:
    edge, _, link = make_edge()
    gone, stays = connecting(edge), connecting(edge)
    refusals = [traffic.AttachRefused(session, GROUP, "not mine") for session in (1, 2)]
    say(edge, link, *refusals)
    gone.sock.close()
    eventually(lambda: len(edge.clients) == 1, 10)
    eventually(lambda: len(link.of(traffic.Attach)) == 3, 10)
    assert stays.client is not None
    assert link.of(traffic.Attach)[2].session == stays.client.session
    assert "Traceback" not in capfd.readouterr().err


def test_an_origin_that_no_longer_knows_a_session_is_asked_to_go_on_with_it() -> None:
    edge, _, link = make_edge()
    peer = attached(edge, link)
    peer.command("one")
    eventually(lambda: link.of(traffic.FromClient), 10)
    say(edge, link, traffic.AttachRefused(1, GROUP, "not attached"))
    assert link.data.attachments == {}
    assert edge.health()["resuming"] == 1
    again = eventually(lambda: link.of(traffic.Attach)[1:], 10)
    assert [attach.resumed for attach in again] == [True]
    assert [message.number for message in link.of(traffic.FromClient)] == [1, 1]
    say(edge, link, traffic.Attached(1, 1, False))
    assert peer.client is not None
    assert (peer.client.phase, peer.client.kept_messages) == (Phase.CONNECTED, 0)
    assert edge.health()["resuming"] == 0


def test_an_origin_that_is_lost_for_good_costs_its_sessions_and_no_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    edge, node, link = make_edge(resume_s=20.0)
    peers = [attached(edge, link) for _ in range(3)]
    other = linked(edge, node, "origin-2")
    node.view.groups["live/two"] = Assignment("live/two", "origin-2", 1)
    elsewhere = connecting(edge, "live/two")
    say(edge, other, traffic.Attached(4, 0, False))
    say(edge, link, traffic.StreamOpened(8, "a", GROUP), traffic.PlayStarted(1, 1, 8))
    node.changed(["node-gone", "origin-1"])
    node.grant(GROUP, "", 3)
    caplog.set_level(logging.INFO, "headwater")
    lose(edge, link)
    now = time.monotonic()
    edge.check_deadlines(now + 19.0)
    assert edge.health()["resuming"] == 3
    edge.check_deadlines(now + 21.0)
    for peer in peers:
        peer.until_ended()
        assert peer.statuses() == ["NetConnection.Connect.Closed"]
    messages = [record.getMessage() for record in caplog.records]
    assert sorted(messages) == [*["client closed"] * 3, "link down", "link loss is over"]
    told = vars(caplog.records[messages.index("link loss is over")])["fields"]
    assert (told["origin"], told["resumed"], told["ended"]) == ("origin-1", 0, 3)
    assert elsewhere.client is not None
    assert not elsewhere.client.closed
    assert sorted(edge.cluster.links) == ["origin-2"]


def test_who_was_not_accepted_yet_by_a_lost_origin_goes_to_the_next() -> None:
    edge, node, link = make_edge()
    peer = connecting(edge)
    other = FakeLink("origin-2")
    node.add_origin("origin-2")
    edge.cluster.links["origin-2"] = other  # type: ignore[assignment]  # all that it needs of a Link
    node.view.groups[GROUP] = Assignment(GROUP, "origin-2", 4)
    lose(edge, link)
    (attach,) = eventually(lambda: other.of(traffic.Attach), 10)
    assert attach.session == 1
    assert not peer.ended


def test_an_origin_that_is_not_registered_is_waited_for() -> None:
    edge, node, link = make_edge()
    del edge.cluster.links["origin-1"]
    known = node.view.nodes.pop("origin-1")
    node.add_origin("origin-2")
    node.origin = "origin-1"
    connecting(edge)
    eventually(lambda: len(node.asked) >= 2, 10)
    edge.cluster.links["origin-1"] = link  # type: ignore[assignment]  # all that it needs of a Link
    node.view.nodes["origin-1"] = known
    eventually(lambda: link.of(traffic.Attach), 10)


def test_an_envelope_that_fails_does_not_stop_the_batch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    edge, _, link = make_edge()
    peer = attached(edge, link)
    edge.cluster._handlers._handlers[traffic.StreamReset] = lambda directory, envelope: 1 / 0  # type: ignore[assignment]  # it never returns
    say(edge, link, traffic.StreamReset(5), traffic.ToClient(1, 18, 0, 0, b"next"))
    peer.until(lambda: peer.messages)
    assert peer.messages[0].payload == b"next"
    assert [record.getMessage() for record in caplog.records] == ["internal error"]
    assert edge.counters.internal_errors == 1
    edge.counters.internal_errors = 0


def test_with_no_flush_interval_media_leaves_with_its_batch() -> None:
    edge, _, link = make_edge(flush_ms=0)
    peer = attached(edge, link)
    say(edge, link, traffic.StreamOpened(8, "a", GROUP), traffic.PlayStarted(1, 1, 8))
    say(edge, link, traffic.StreamMedia(8, 1, 9, 0, b"\x17\x01\0\0\0k"))
    peer.until(lambda: peer.messages)
    assert edge.counters.messages_encoded == 1


def test_an_answer_that_stays_the_same_is_not_asked_for_again() -> None:
    edge, node, _ = make_edge()
    node.view.groups.clear()

    def assign(group: str, timeout_s: float = 2.0) -> Assignment:
        node.asked.append(group)
        raise AssignError("group: not a name", final=True)

    node.assign = assign  # type: ignore[method-assign]  # this node is asked through the test
    peer = connecting(edge)
    peer.until_ended()
    assert peer.statuses() == ["NetConnection.Connect.Failed"]
    assert node.asked == [GROUP]


@pytest.mark.parametrize(("flush_ms", "interval_ms"), [(0, 0), (1, 0), (20, 10), (350, 175)])
def test_origins_are_told_how_often_to_send_media(flush_ms: int, interval_ms: int) -> None:
    edge, _, link = make_edge(flush_ms=flush_ms)
    edge.cluster._on_up(link)  # type: ignore[arg-type]  # all that it needs of a Link
    assert link.sent == [traffic.GatherMedia(interval_ms)]
    assert edge.config.read_interval_s == ((flush_ms + 5) / 1000 if flush_ms else 0)
