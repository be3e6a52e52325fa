"""When an edge's SharedObjects tell what they have gathered, over sockets."""

from collections.abc import Iterator
from typing import Any

import pytest
from headwater_bus import object_traffic, traffic
from headwater_bus.rows import pack_rows
from headwater_edge.edge import Edge
from headwater_rtmp.message import OBJECTS
from headwater_rtmp.shared_object import decode_shared_object
from support.edge import GROUP, FakeLink, Peer, attached, end_all, lose, make_edge, say
from support.edge_object import CHANGE, value
from support.waiting import eventually

WORD = b"\x02\x00\x04word\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    end_all()


class Members:
    """An edge with two members of `board`."""

    def __init__(self, count: int = 2, **settings: Any) -> None:
        self.edge: Edge
        self.edge, self.node, self.link = make_edge(**settings)
        self.version = 0
        self.peers = [attached(self.edge, self.link, capsEx=1.0) for _ in range(count)]
        say(
            self.edge,
            self.link,
            object_traffic.ObjectOpened(5, "board", False, 0, 0, 0, GROUP, pack_rows([])),
        )
        for session in self.sessions:
            say(self.edge, self.link, object_traffic.ObjectJoined(session, 5, -1))
        for peer in self.peers:
            peer.until(lambda peer=peer: peer.messages)
            peer.messages.clear()

    @property
    def sessions(self) -> list[int]:
        return sorted(self.edge.clients)

    def change(self, *envelopes: Any, times: int = 1, size: int = 0) -> None:
        """So many changes and these envelopes in one batch."""
        updates = []
        for _ in range(times):
            self.version += 1
            raw = b"\x0c" + size.to_bytes(4, "big") + bytes(size) if size else value(self.version)
            rows = pack_rows([[CHANGE, f"k{self.version}", raw]])
            updates.append(object_traffic.ObjectUpdate(5, self.version, self.version, 0, rows))
        say(self.edge, self.link, *updates, *envelopes)

    def got(self, peer: Peer) -> list[list[str | None]]:
        """The slots of each message that has come, without any waiting; [] for what is about no object."""
        peer.pump()
        messages, peer.messages = peer.messages, []
        return [
            [event.key for event in decode_shared_object(message).events]
            if message.type_id in OBJECTS
            else []
            for message in messages
        ]

    def until_quiet(self) -> None:
        eventually(lambda: not self.edge.cluster._handlers.objects._busy, 10)


def test_the_first_change_leaves_with_its_batch_and_those_soon_behind_it_together() -> None:
    members = Members(object_flush_ms=50)
    members.change(times=2)
    assert [members.got(peer) for peer in members.peers] == [[["k1", "k2"]]] * 2
    members.change()
    members.change(times=2)
    one, two = members.peers
    assert members.got(one) == []
    one.until(lambda: one.messages)
    assert members.got(one) == members.got(two) == [["k3", "k4", "k5"]]
    # It goes on like that, until nothing has come for a while.
    members.change()
    assert members.got(one) == []
    one.until(lambda: one.messages)
    assert members.got(one) == [["k6"]]
    members.until_quiet()
    members.change()
    assert members.got(one) == [["k7"]]
    assert members.edge.cluster._handlers.objects._delay.running  # type: ignore[union-attr]  # it gathers
    members.until_quiet()
    assert not members.edge.cluster._handlers.objects._delay.running  # type: ignore[union-attr]  # it gathers


def test_with_no_time_to_gather_every_batch_leaves_at_once() -> None:
    members = Members(object_flush_ms=0)
    for number in range(1, 5):
        members.change()
        assert [members.got(peer) for peer in members.peers] == [[[f"k{number}"]]] * 2


def test_what_an_origin_says_to_a_client_comes_behind_the_changes_before_it() -> None:
    members = Members(object_flush_ms=1000)
    one, two = members.peers
    members.change()
    members.change(traffic.ToClient(members.sessions[0], 20, 0, 0, WORD))
    assert members.got(one) == [["k1"], ["k2"], []]
    assert members.got(two) == [["k1"]]


@pytest.mark.parametrize("kind", ["left", "closed", "drained", "asked", "lost", "orphaned"])
def test_whoever_leaves_has_been_told_what_came_before(kind: str) -> None:
    members = Members(count=1, object_flush_ms=1000)
    (peer,), (session,) = members.peers, members.sessions
    members.change()
    members.change()
    if kind == "left":
        say(members.edge, members.link, object_traffic.ObjectLeft(session, 5))
    elif kind == "closed":
        say(members.edge, members.link, traffic.CloseSession(session, "by the application"))
    elif kind == "drained":
        members.edge.close_clients(list(members.edge.clients.values()), "the edge is stopping")
    elif kind == "asked":
        members.edge.let_go()
        assert members.got(peer) == [["k1"], ["k2"], []]
        return
    elif kind == "orphaned":
        members.node.grant(GROUP, "", 4)
    else:
        lose(members.edge, members.link)
    assert members.got(peer)[:2] == [["k1"], ["k2"]]


def test_what_a_socket_does_not_take_comes_when_it_does() -> None:
    members = Members(count=1, object_flush_ms=0)
    (peer,) = members.peers
    for _ in range(60):
        members.change(size=20_000)
    assert peer.client is not None
    assert peer.client.backlog_bytes
    slots: list[str | None] = []

    def read() -> bool:
        slots.extend(key for keys in members.got(peer) for key in keys)
        return len(slots) == 60

    eventually(read, 10)
    assert slots == [f"k{number}" for number in range(1, 61)]


def link_fanout(link: FakeLink) -> Any:
    return link.data.objects[5]


def test_a_member_whose_socket_is_broken_is_closed_and_the_others_hear() -> None:
    members = Members(count=3, object_flush_ms=0)
    members.peers[1].sock.close()
    members.change()
    assert len(members.edge.clients) == 2
    assert [members.got(peer) for peer in (members.peers[0], members.peers[2])] == [[["k1"]]] * 2
    assert len(link_fanout(members.link).members) == 2


def test_an_object_that_cannot_tell_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Members(count=1, object_flush_ms=0)

    def broken(*_: Any) -> bytes:
        raise RuntimeError("broken")

    fanout = link_fanout(members.link)
    with monkeypatch.context() as patched:
        patched.setattr(type(fanout._writer), "message", broken)
        members.change()
    assert members.edge.counters.internal_errors == 1
    members.edge.counters.internal_errors = 0
    members.change()
    assert members.got(members.peers[0]) == [["k2"]]
