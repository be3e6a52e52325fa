"""Sessions as guests: attached when their home sends something on, detached when idle, closed when the group fails them."""

import socket
import time
from collections.abc import Iterator

import pytest
from headwater_bus import object_traffic, traffic
from headwater_bus.view import Assignment
from headwater_edge.attachment import AttachmentPhase
from headwater_edge.edge import Edge
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import Event, EventType, encode_shared_object
from support.edge import GROUP, FakeLink, FakeNode, Peer, attached, end_all, lose, make_edge, say
from support.edge_client import NOTHING
from support.waiting import eventually

BOARD = f"{GROUP}#so:board"
OTHER = f"{GROUP}#so:other"
STREAM = f"{GROUP}#stream:cam"
USE, RELEASE, CHANGE = EventType.USE, EventType.RELEASE, EventType.REQUEST_CHANGE


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    end_all()


def about(kind: int, name: str = "board") -> Message:
    """A client's message about an object."""
    return encode_shared_object(
        name, 0, False, [Event(kind, "x", b"\x05") if kind == CHANGE else Event(kind)]
    )


def routed(message: Message, group: str = BOARD, route: int = 1, session: int = 1) -> traffic.Routed:
    """A home's answer to it."""
    return traffic.Routed(
        session, group, route, 31, [0], message.type_id, message.stream_id, 5, message.payload
    )


class Parts:
    """An edge with a home's link, the link of spread groups, and a client that its home has accepted."""

    def __init__(self, edge: Edge, node: FakeNode, home: FakeLink) -> None:
        self.edge, self.node, self.home = edge, node, home
        self.groups = FakeLink("origin-2")
        node.add_origin("origin-2")
        edge.cluster.links["origin-2"] = self.groups  # type: ignore[assignment]  # all that it needs of a Link
        for group in (BOARD, OTHER, STREAM):
            node.view.groups[group] = Assignment(group, "origin-2", 4)
        self.peer = attached(edge, home, spread_objects=True)
        assert self.peer.client is not None
        self.client = self.peer.client

    def send(self, message: Message) -> None:
        """The client sends something; it is where it goes when this returns."""
        self.edge.router.route(self.client, message)

    def use(self) -> int:
        """The client uses `board` and is attached there; its number."""
        self.send(about(USE))
        say(self.edge, self.home, routed(about(USE)))
        number: int = self.groups.of(traffic.Attach)[-1].session
        say(self.edge, self.groups, traffic.Attached(number, 0, False))
        return number


@pytest.fixture
def parts() -> Parts:
    return Parts(*make_edge())


def test_a_client_without_guests_has_nothing_made_for_them(parts: Parts) -> None:
    parts.send(Message(20, 0, 0, b"\x02\x00\x01x"))
    assert parts.client.guests is None
    assert parts.client.routes is None
    assert parts.client.home.unacknowledged is not None


def test_a_guest_is_attached_and_gets_what_its_home_sent_on(parts: Parts) -> None:
    parts.send(about(USE))
    (asked,) = parts.home.of(traffic.FromClient)
    assert (asked.session, asked.number) == (1, 1)
    say(parts.edge, parts.home, routed(about(USE)), routed(about(CHANGE)))
    (attach,) = parts.groups.sent
    assert (attach.session, attach.session_id, attach.group, attach.epoch) == (2, "b00t-1", BOARD, 4)
    assert (attach.resumed, attach.type_id, attach.payload) == (False, 0, b"")
    say(parts.edge, parts.groups, traffic.Attached(2, 0, False))
    messages = parts.groups.of(traffic.FromGuest)
    assert [(m.session, m.number, m.access, m.denied, m.timestamp) for m in messages] == [
        (2, 1, 31, [0], 5),
        (2, 2, 31, [0], 5),
    ]
    assert [m.payload for m in messages] == [about(USE).payload, about(CHANGE).payload]
    assert parts.edge.health()["guests"] == 1


def test_what_needs_no_home_goes_straight_and_what_does_goes_by_it(parts: Parts) -> None:
    number = parts.use()
    parts.send(about(CHANGE))
    (straight,) = parts.groups.of(traffic.FromClient)
    assert (straight.session, straight.number, straight.payload) == (number, 2, about(CHANGE).payload)
    parts.send(about(CHANGE, "other"))
    parts.send(about(RELEASE))
    parts.send(about(CHANGE))
    assert [m.number for m in parts.home.of(traffic.FromClient)] == [1, 2, 3, 4]
    # The release is not back yet. When it and the change behind it are, there is no route any more.
    say(parts.edge, parts.home, routed(about(RELEASE), route=2), traffic.Unrouted(1, "board", False))
    parts.send(about(CHANGE))
    assert len(parts.home.of(traffic.FromClient)) == 5
    assert len(parts.groups.of(traffic.FromClient)) == 1


def test_persistent_and_temporary_objects_of_one_name_have_routes_of_their_own(parts: Parts) -> None:
    parts.use()
    parts.send(encode_shared_object("board", 0, True, [Event(CHANGE, "x", b"\x05")]))
    assert len(parts.home.of(traffic.FromClient)) == 2
    assert parts.groups.of(traffic.FromClient) == []


def test_a_home_that_keeps_its_objects_gets_everything(parts: Parts) -> None:
    together = attached(parts.edge, parts.home)
    assert together.client is not None
    session = together.client.session
    # An object of another scope, which its application has proxied.
    say(
        parts.edge,
        parts.home,
        routed(about(USE), OTHER, 0, session),
        routed(about(CHANGE), OTHER, 1, session),
    )
    for _ in range(2):
        parts.edge.router.route(together.client, about(CHANGE))
    assert [m.session for m in parts.home.of(traffic.FromClient)] == [session, session]
    assert together.client.routes is None


def test_a_malformed_object_message_closes_the_client(parts: Parts) -> None:
    parts.peer.send(parts.peer.rtmp.send(Message(19, 0, 0, b"\0\5boar")))
    parts.peer.until_ended()
    assert parts.edge.counters.protocol_errors == 1


def test_a_malformed_object_message_right_behind_connect_closes_the_client(parts: Parts) -> None:
    peer = Peer(parts.edge).connect()
    client = peer.client
    assert client is not None
    peer.send(peer.rtmp.send(Message(19, 0, 0, b"\0\5boar")))
    eventually(lambda: client.early is not None and len(client.early) == 1, 10)
    say(parts.edge, parts.home, traffic.Attached(client.session, 0, True))
    peer.until_ended()
    assert parts.edge.counters.protocol_errors == 1


def test_two_guests_of_one_client_share_a_link(parts: Parts) -> None:
    say(parts.edge, parts.home, routed(about(USE)), routed(about(USE, "other"), OTHER))
    one, two = parts.groups.of(traffic.Attach)
    assert (one.group, two.group, one.session_id) == (BOARD, OTHER, two.session_id)
    assert set(parts.groups.data.attachments) == {one.session, two.session}
    for number, (attach, name) in enumerate(((one, "board"), (two, "other")), 5):
        say(parts.edge, parts.groups, traffic.Attached(attach.session, 0, False))
        say(
            parts.edge,
            parts.groups,
            object_traffic.ObjectOpened(number, name, False, 0, 0, 0, attach.group, NOTHING),
        )
        say(parts.edge, parts.groups, object_traffic.ObjectJoined(attach.session, number, -1))
    assert parts.client.objects is not None
    assert sorted(parts.client.objects.values()) == [one.session, two.session]
    say(parts.edge, parts.groups, traffic.ToClient(two.session, 20, 0, 0, b"\x02\x00\x01x\x00" + bytes(8)))
    parts.peer.until(lambda: len(parts.peer.messages) == 3)
    say(parts.edge, parts.groups, object_traffic.ObjectLeft(one.session, 5))
    assert list(parts.client.objects.values()) == [two.session]
    parts.client.close("done", gone=True)
    assert [(d.session, d.reason) for d in parts.groups.of(traffic.Detach)] == [
        (one.session, "done"),
        (two.session, "done"),
    ]
    assert [d.session for d in parts.home.of(traffic.Detach)] == [1]
    assert parts.groups.data.attachments == parts.home.data.attachments == {}
    assert parts.groups.data.objects[6].members == {}


def test_an_idle_guest_is_detached_unless_more_is_on_its_way(parts: Parts) -> None:
    number = parts.use()
    parts.send(about(CHANGE))
    say(parts.edge, parts.groups, traffic.GuestIdle(number, 1))
    assert parts.groups.of(traffic.Detach) == []
    say(parts.edge, parts.groups, traffic.GuestIdle(number, 2))
    assert [d.session for d in parts.groups.of(traffic.Detach)] == [number]
    assert parts.client.guests == {}
    assert len(parts.client.routes or ()) == 0
    # What comes next goes by the home, and from there to a new guest.
    parts.send(about(CHANGE))
    assert len(parts.home.of(traffic.FromClient)) == 2
    assert parts.use() == number + 1
    say(parts.edge, parts.home, traffic.GuestIdle(1, 3))
    assert parts.home.of(traffic.Detach) == []


def test_a_guest_that_its_client_has_let_go_is_not_let_go_again(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is stored waits until that says so; the group's next origin says meanwhile that it is idle, too."""
    let_go: list[int] = []
    monkeypatch.setattr(
        type(parts.client), "let_go", lambda client, guest, reason: let_go.append(guest.number)
    )
    number = parts.use()
    guest = parts.groups.data.attachments[number]
    for _ in range(2):
        say(parts.edge, parts.groups, traffic.GuestIdle(number, 1))
    assert let_go == [number]
    assert parts.edge.counters.internal_errors == 0
    parts.edge.cluster.detach(guest, "the test is over")


def test_a_lost_commit_is_asked_for_over_the_object_s_link(parts: Parts) -> None:
    number = parts.use()
    opened = object_traffic.ObjectOpened(5, "board", False, 0, 0, 0, BOARD, NOTHING)
    say(parts.edge, parts.groups, opened, object_traffic.ObjectJoined(number, 5, -1))
    for count in (2, 3, 4):
        say(parts.edge, parts.groups, object_traffic.ObjectUpdate(5, count, count, 0, NOTHING))
    assert parts.groups.of(object_traffic.ObjectResync) == [object_traffic.ObjectResync(5)]
    fanout = parts.groups.data.objects[5]
    say(parts.edge, parts.groups, object_traffic.ObjectOpened(5, "board", False, 4, 0, 4, BOARD, NOTHING))
    assert parts.groups.data.objects[5] is fanout
    assert (fanout.slots.version, fanout.events, list(fanout.members)) == (4, 4, [number])


# Streams


def test_streams_of_a_guest_are_reported_to_its_home_and_media_goes_to_the_group(parts: Parts) -> None:
    command = Message(20, 1, 0, b"\x02\x00\x07publish")
    say(parts.edge, parts.home, routed(command, STREAM, 0))
    (attach,) = parts.groups.of(traffic.Attach)
    guest = attach.session
    say(
        parts.edge,
        parts.groups,
        traffic.Attached(guest, 0, False),
        traffic.PublishStarted(guest, 1, 9, "cam"),
    )
    parts.peer.send(parts.peer.rtmp.send(Message(9, 1, 0, b"\x17\x01")))
    (media,) = eventually(lambda: parts.groups.of(traffic.PublisherMedia), 10)
    assert (media.stream, media.timestamp) == (9, 0)
    say(parts.edge, parts.groups, traffic.PublishStopped(guest, 1), traffic.PublishStopped(guest, 1))
    say(parts.edge, parts.groups, traffic.StreamOpened(8, "cam", STREAM), traffic.PlayStarted(guest, 1, 8))
    say(parts.edge, parts.groups, traffic.PlayChanged(guest, 1, True, False, False))
    assert parts.client.players is not None
    assert not parts.client.players[1].video
    say(parts.edge, parts.groups, traffic.PlayStopped(guest, 1), traffic.PlayStopped(guest, 1))
    reports = parts.home.of(traffic.GuestStream)
    assert {report.session for report in reports} == {1}
    assert [(report.publishes, report.started) for report in reports] == [
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    ]


def test_streams_of_a_home_are_not_reported(parts: Parts) -> None:
    say(parts.edge, parts.home, traffic.PublishStarted(1, 1, 9, "cam"), traffic.PublishStopped(1, 1))
    say(parts.edge, parts.home, traffic.StreamOpened(8, "cam", GROUP), traffic.PlayStarted(1, 1, 8))
    assert parts.home.of(traffic.GuestStream) == []


# When the group fails its guest


def test_a_refused_guest_goes_to_the_next_owner_with_all_that_waits(parts: Parts) -> None:
    parts.send(about(USE))
    say(parts.edge, parts.home, routed(about(USE)))
    next_owner = FakeLink("origin-3")
    parts.node.add_origin("origin-3")
    parts.edge.cluster.links["origin-3"] = next_owner  # type: ignore[assignment]  # all that it needs of a Link
    parts.node.view.groups[BOARD] = Assignment(BOARD, "origin-3", 5)
    say(parts.edge, parts.groups, traffic.AttachRefused(2, BOARD, "not mine"))
    parts.send(about(CHANGE))
    (attach,) = eventually(lambda: next_owner.of(traffic.Attach), 10)
    assert (attach.session, attach.epoch) == (2, 5)
    assert parts.groups.data.attachments == {}
    say(parts.edge, next_owner, traffic.Attached(2, 0, False))
    _, first, second = next_owner.sent
    assert (type(first), first.number) == (traffic.FromGuest, 1)
    assert (type(second), second.number) == (traffic.FromClient, 2)


def test_a_guest_that_finds_no_origin_costs_its_client_in_the_end() -> None:
    parts = Parts(*make_edge(attach_s=0.2))
    del parts.node.view.groups[BOARD]
    say(parts.edge, parts.home, routed(about(USE)))
    parts.peer.until_ended()
    assert parts.peer.statuses() == ["NetConnection.Connect.Closed"]
    assert BOARD in parts.node.asked
    assert [d.session for d in parts.home.of(traffic.Detach)] == [1]


def test_a_guest_whose_application_is_nowhere_now_is_waited_for(parts: Parts) -> None:
    say(parts.edge, parts.home, routed(about(USE), "elsewhere/room#so:board"))
    assert not parts.client.closed
    parts.node.origin = "origin-2"
    eventually(lambda: parts.groups.of(traffic.Attach), 10)


@pytest.mark.parametrize(("count", "size"), [(1000, 10), (18, 60_000)])
def test_too_much_that_waits_for_a_guest_s_origin_pauses_the_client(
    parts: Parts, count: int, size: int
) -> None:
    message = Message(20, 1, 0, bytes(size))
    for _ in range(count):
        say(parts.edge, parts.home, routed(message, STREAM, 0))
    parts.peer.command("one more")
    eventually(lambda: parts.client.paused, 10)
    parts.edge.resume_readers()
    assert parts.client.paused
    say(parts.edge, parts.groups, traffic.Attached(2, 0, False))
    assert len(parts.groups.of(traffic.FromGuest)) == count
    assert parts.client.paused
    assert [d.number for d in parts.home.of(traffic.FromClient)] == []
    say(parts.edge, parts.groups, traffic.Applied([2, count, 0]))
    assert not parts.client.paused
    eventually(lambda: parts.home.of(traffic.FromClient), 10)
    assert parts.client.kept_messages == 1


def test_an_origin_that_does_not_answer_for_a_guest_costs_the_client(parts: Parts) -> None:
    say(parts.edge, parts.home, routed(about(USE)))
    assert parts.client.guests is not None
    since = parts.client.guests[BOARD].since
    parts.edge.check_deadlines(since + parts.edge.config.answer_s - 0.1)
    assert not parts.client.closed
    parts.edge.check_deadlines(since + parts.edge.config.answer_s + 0.1)
    parts.peer.until_ended()
    assert parts.peer.statuses() == ["NetConnection.Connect.Closed"]


def test_a_guest_whose_origin_is_lost_waits_for_the_next_and_in_the_end_costs_its_client(
    parts: Parts,
) -> None:
    say(parts.edge, parts.home, routed(about(USE, "other"), OTHER))
    waiting = attached(parts.edge, parts.home, spread_objects=True)
    parts.use()
    assert waiting.client is not None
    say(parts.edge, parts.home, routed(about(USE), BOARD, 1, waiting.client.session))
    parts.node.changed(["node-gone", "origin-2"])
    lose(parts.edge, parts.groups)
    # The other client's guest had not been taken yet: it goes to whoever has the group next, as a new
    # one.
    parts.node.grant(BOARD, "origin-1", 6)
    attaches = [a for a in parts.home.of(traffic.Attach) if a.type_id == 0]
    assert [(a.group, a.epoch, a.resumed) for a in attaches] == [(BOARD, 6, True), (BOARD, 6, False)]
    parts.edge.check_deadlines(time.monotonic() + parts.edge.config.resume_s + 1)
    parts.peer.until_ended()
    assert parts.peer.statuses() == ["NetConnection.Connect.Closed"]
    (detach,) = [d for d in parts.home.of(traffic.Detach) if d.session == 1]
    assert detach.reason == f"{BOARD}: no origin within 30.0 s"


def test_a_group_that_closes_its_guest_closes_the_client(parts: Parts) -> None:
    number = parts.use()
    say(parts.edge, parts.groups, traffic.CloseSession(number, "kicked"))
    parts.peer.until_ended()
    for link in (parts.home, parts.groups):
        assert [d.reason for d in link.of(traffic.Detach)] == ["by the origin: kicked"]


def test_a_client_that_leaves_while_its_guest_looks_for_an_origin_is_not_attached(parts: Parts) -> None:
    del parts.node.view.groups[BOARD]
    say(parts.edge, parts.home, routed(about(USE)))
    assert parts.client.guests is not None
    guest = parts.client.guests[BOARD]
    parts.peer.sock.shutdown(socket.SHUT_RDWR)
    eventually(lambda: parts.client.closed, 10)
    assert guest.phase == AttachmentPhase.ENDED
    eventually(lambda: BOARD not in parts.edge.cluster.groups, 10)
    assert parts.groups.sent == []


def test_routes_of_a_client_that_is_gone_mean_nothing(parts: Parts) -> None:
    number = parts.use()
    parts.client.close("done", gone=True)
    say(parts.edge, parts.home, routed(about(CHANGE)), traffic.Unrouted(1, "board", False))
    say(parts.edge, parts.groups, traffic.GuestIdle(number, 1))
    assert len(parts.groups.of(traffic.Attach)) == 1
    # A guest has no home's say.
    other = attached(parts.edge, parts.home, spread_objects=True)
    assert other.client is not None
    say(parts.edge, parts.home, routed(about(USE), BOARD, 1, other.client.session))
    guest = parts.groups.of(traffic.Attach)[-1].session
    say(
        parts.edge, parts.groups, routed(about(USE), OTHER, 1, guest), traffic.Unrouted(guest, "board", False)
    )
    assert list(other.client.guests or ()) == [BOARD]


# When an origin is lost: the order of messages about an object stays, whichever way they go


def test_messages_that_a_lost_home_had_not_sent_back_are_sent_back_by_the_next(parts: Parts) -> None:
    number = parts.use()
    parts.send(about(RELEASE))
    parts.send(about(CHANGE))
    say(parts.edge, parts.home, traffic.Applied([1, 1, 0]))
    lose(parts.edge, parts.home)
    # Two of them are not back yet, so a third one must not overtake them.
    parts.send(about(CHANGE))
    assert parts.groups.of(traffic.FromClient) == []
    parts.node.grant(GROUP, "origin-2", 9)
    attach, *again = [e for e in parts.groups.sent if getattr(e, "session", 0) == 1]
    assert (type(attach), attach.resumed) == (traffic.Attach, True)
    assert [message.number for message in again] == [2, 3, 4]
    say(parts.edge, parts.groups, traffic.Attached(1, 1, True))
    for at, message in enumerate((RELEASE, CHANGE, CHANGE), 2):
        routes = routed(about(message), route=2 if message == RELEASE else 1)
        say(parts.edge, parts.groups, routes, traffic.Applied([1, at, at]))
    kinds = [message.payload for message in parts.groups.of(traffic.FromGuest) if message.session == number]
    assert kinds == [about(kind).payload for kind in (USE, RELEASE, CHANGE, CHANGE)]
    # All are back: the next one goes straight again.
    parts.send(about(CHANGE))
    (straight,) = [m for m in parts.groups.of(traffic.FromClient) if m.session == number]
    assert straight.number == 5


def test_messages_that_went_straight_to_a_lost_group_go_to_the_next_in_their_order(parts: Parts) -> None:
    number = parts.use()
    parts.send(about(CHANGE))
    parts.send(about(RELEASE))
    lose(parts.edge, parts.groups)
    say(parts.edge, parts.home, routed(about(RELEASE), route=2))
    parts.node.grant(BOARD, "origin-1", 9)
    again = [e for e in parts.home.sent if getattr(e, "session", 0) == number]
    assert [type(envelope) for envelope in again] == [
        traffic.Attach,
        traffic.FromGuest,
        traffic.FromClient,
        traffic.FromGuest,
    ]
    assert [envelope.number for envelope in again[1:]] == [1, 2, 3]
    say(parts.edge, parts.home, traffic.Attached(number, 1, False), traffic.Applied([number, 3, 1]))
    say(parts.edge, parts.home, traffic.GuestIdle(number, 3))
    assert [detach.session for detach in parts.home.of(traffic.Detach)] == [number]
    assert (parts.client.guests, len(parts.client.routes or ())) == ({}, 0)
    assert parts.client.kept_messages == 2


# Backpressure


def test_the_origin_of_a_guest_that_does_not_keep_up_pauses_its_client(parts: Parts) -> None:
    parts.use()
    parts.groups.queued_bytes = parts.edge.config.link_bytes + 1
    parts.peer.send(parts.peer.rtmp.send(about(CHANGE)))
    eventually(lambda: parts.client.paused, 10)
    parts.edge.resume_readers()
    assert parts.client.paused
    parts.groups.queued_bytes = 0
    parts.edge.resume_readers()
    assert not parts.client.paused
    parts.peer.send(parts.peer.rtmp.send(about(CHANGE)))
    eventually(lambda: len(parts.groups.of(traffic.FromClient)) == 2, 10)
