"""Messages about the objects of a spread scope reach each object's group in the order in which the client sent them, however late
the home and the groups answer, and none is lost or doubled."""

import socket
from collections import deque
from typing import Any

from headwater_bus import traffic
from headwater_bus.view import Assignment
from headwater_edge.attachment import AttachmentPhase
from headwater_edge.client import Phase
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object
from hypothesis import given, settings
from hypothesis import strategies as st
from support.edge import GROUP, FakeLink, end_all, make_edge, say

USE, RELEASE, CHANGE = EventType.USE, EventType.RELEASE, EventType.REQUEST_CHANGE
OBJECTS = ("a", "b", "c")
STEPS = st.one_of(
    st.tuples(
        st.just("send"), st.sampled_from(OBJECTS), st.sampled_from([USE, RELEASE, CHANGE, CHANGE, CHANGE])
    ),
    st.tuples(st.sampled_from(["home works", "home is heard"])),
    st.tuples(st.sampled_from(["groups work", "groups are heard"]), st.sampled_from([0, 1])),
    st.tuples(st.just("home changes its mind"), st.sampled_from([0, 1, None])),
    st.tuples(st.just("groups refuse"), st.sampled_from([0, 1]), st.booleans()),
)


def about(envelope: Any) -> Any:
    return decode_shared_object(Message(envelope.type_id, 0, 0, envelope.payload))


class Home:
    """The home of a spread scope. While `mind` is None it lets nothing of the client go anywhere."""

    def __init__(self, link: FakeLink) -> None:
        self.link, self.mind = link, 1
        self.at = self.number = 0
        self.said: deque[Any] = deque()
        self.unrouted: set[int] = set()

    def work(self) -> bool:
        """Take one envelope; whether there was one."""
        if self.at >= len(self.link.sent):
            return False
        envelope = self.link.sent[self.at]
        self.at += 1
        if isinstance(envelope, traffic.FromClient):
            self.number += 1
            assert (envelope.session, envelope.number) == (1, self.number)
            asked = about(envelope)
            if self.mind is None:
                self.unrouted.add(asked.version)
                self.said.append(traffic.Unrouted(1, asked.name, False))
            else:
                route = 2 if asked.events[0].type == RELEASE else self.mind
                group = f"{GROUP}#so:{asked.name}"
                self.said.append(
                    traffic.Routed(1, group, route, 31, [], envelope.type_id, 0, 0, envelope.payload)
                )
        return True


class Groups:
    """The objects' groups on one origin: what they got by object, and their guests: each one's last message, and whether it uses
    the object."""

    def __init__(self, link: FakeLink, got: dict[str, list[int]]) -> None:
        self.link, self.got = link, got
        self.at = 0
        self.said: deque[Any] = deque()
        self.refusing = False
        self.guests: dict[int, tuple[str, int, bool]] = {}

    def work(self) -> bool:
        if self.at >= len(self.link.sent):
            return False
        envelope = self.link.sent[self.at]
        self.at += 1
        if isinstance(envelope, traffic.Attach):
            assert (envelope.type_id, envelope.payload, envelope.session_id) == (0, b"", "b00t-1")
            assert envelope.group not in [group for group, _, _ in self.guests.values()]
            self.guests[envelope.session] = (envelope.group, 0, False)
            self.said.append(traffic.Attached(envelope.session, 0, False))
        elif isinstance(envelope, traffic.Detach):
            _, _, uses = self.guests.pop(envelope.session)
            assert not uses
        else:
            assert isinstance(envelope, traffic.FromClient | traffic.FromGuest)
            group, number, uses = self.guests[envelope.session]
            asked = about(envelope)
            assert group == f"{GROUP}#so:{asked.name}"
            assert envelope.number == number + 1
            self.got[asked.name].append(asked.version)
            kind = asked.events[0].type
            if kind in (USE, RELEASE):
                assert isinstance(envelope, traffic.FromGuest)
                uses = kind == USE and (uses or not self.refusing)
            self.guests[envelope.session] = (group, envelope.number, uses)
            if not uses:
                self.said.append(traffic.GuestIdle(envelope.session, envelope.number))
        return True


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, min_size=50, max_size=150))
def test_order_and_completeness_under_every_interleaving(steps: list[tuple[Any, ...]]) -> None:
    edge, node, home_link = make_edge()
    group_links = [FakeLink("origin-2"), FakeLink("origin-3")]
    for link in group_links:
        node.add_origin(link.origin)
        edge.cluster.links[link.origin] = link  # type: ignore[assignment]  # all that it needs of a Link
    for name in OBJECTS:
        group = f"{GROUP}#so:{name}"
        node.view.groups[group] = Assignment(group, "origin-3" if name == "c" else "origin-2", 1)
    ours, theirs = socket.socketpair()
    assert edge.enters(theirs, "203.0.113.5")
    edge.open_rtmp(theirs, "203.0.113.5", b"", False)
    client = edge.clients[1]
    client.phase, client.spread_objects = Phase.CONNECTED, True
    client.home.group, client.home.link, client.home.phase = GROUP, home_link, AttachmentPhase.ATTACHED  # type: ignore[assignment]  # all that it needs of a Link
    home_link.data.attachments[1] = client.home
    home = Home(home_link)
    got: dict[str, list[int]] = {name: [] for name in OBJECTS}
    groups = [Groups(link, got) for link in group_links]
    sent: dict[str, list[int]] = {name: [] for name in OBJECTS}
    count = 0

    def hear(source: Home | Groups) -> bool:
        if source.said:
            say(edge, source.link, source.said.popleft())
            return True
        return False

    try:
        for what, *how in steps:
            if what == "send":
                name, kind = how
                count += 1
                event = Event(kind, "x", b"\x05") if kind == CHANGE else Event(kind)
                edge.router.route(client, encode_shared_object(name, count, False, [event]))
                sent[name].append(count)
            elif what == "home works":
                home.work()
            elif what == "home is heard":
                hear(home)
            elif what == "groups work":
                groups[how[0]].work()
            elif what == "groups are heard":
                hear(groups[how[0]])
            elif what == "groups refuse":
                groups[how[0]].refusing = how[1]
            else:
                home.mind = how[0]
        everybody: list[Home | Groups] = [home, *groups]
        while any(one.work() or hear(one) for one in everybody):
            pass
        assert not client.closed
        for name in OBJECTS:
            assert got[name] == [number for number in sent[name] if number not in home.unrouted]
        # Where it uses nothing it is a guest no more, and nothing is left of it.
        guests = client.guests or {}
        at_groups = {number: uses for group in groups for number, (_, _, uses) in group.guests.items()}
        assert at_groups == {guest.number: True for guest in guests.values()}
        assert len(client.routes or ()) <= len(guests)
    finally:
        ours.close()
        end_all()
