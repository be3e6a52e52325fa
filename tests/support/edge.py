"""An edge in this process: a node and a link that only remember, and RTMP clients on socket pairs."""

import socket
from types import SimpleNamespace
from typing import Any

from headwater_bus import traffic
from headwater_bus.node import AssignError
from headwater_bus.view import Assignment, ClusterView
from headwater_edge.config import EdgeConfig
from headwater_edge.directory import Directory
from headwater_edge.edge import Edge
from headwater_rtmp.chunk import ChunkReader
from headwater_rtmp.command import Command, decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.message import Message

from support.waiting import eventually

GROUP = "live/_definst_"
_edges: list[Edge] = []
_peers: list["Peer"] = []
CHUNK_SIZE = EdgeConfig().chunk_size


class FakeLink:
    """What a link is to the edge."""

    def __init__(self, origin: str = "origin-1", **settings: Any) -> None:
        self.origin = self.peer = origin
        self.failure: str | None = None
        self.queued_bytes = 0
        self.boot = "b"
        self.data = Directory(self)  # type: ignore[arg-type]  # all that it needs of a Link
        self.state = SimpleNamespace(resent_batches=0, unknown=0)
        self.sent: list[Any] = []
        self.closed: list[str] = []

    def start(self) -> None:
        pass

    def send(self, envelope: Any) -> None:
        if self.failure is None:
            self.sent.append(envelope)

    def give_up(self, reason: str) -> None:
        self.failure = reason

    def close(self, reason: str) -> None:
        self.closed.append(reason)

    def of(self, kind: type) -> list[Any]:
        """What was sent of one kind."""
        return [envelope for envelope in self.sent if type(envelope) is kind]


class FakeNode:
    """What a node is to the edge: the mirror, and a balancer that gives `origin`, or refuses while it is None."""

    node_id, boot = "edge-1", "b00t"
    context = security = None

    def __init__(self) -> None:
        self.view = ClusterView()
        self.origin: str | None = None
        self.asked: list[str] = []
        self.suspected: list[tuple[str, str]] = []

    def suspect(self, origin: str, boot: str) -> None:
        self.suspected.append((origin, boot))

    def add_origin(self, name: str = "origin-1", apps: tuple[str, ...] = ("live",), boot: str = "b") -> None:
        """As the change feed brings it."""
        self.changed(["node", [name, "origin", boot, "inproc://x", 1.0, {"apps": list(apps)}, {}]])

    def grant(self, group: str, origin: str, epoch: int) -> None:
        """The change feed: `origin` has a group now; an orphan's is empty."""
        self.changed(["group", group, origin, epoch])

    def changed(self, *rows: list[Any]) -> None:
        self.view._apply(list(rows))

    def assign(self, group: str, timeout_s: float = 2.0) -> Assignment:
        self.asked.append(group)
        if self.origin is None:
            raise AssignError("no origin is registered")
        return Assignment(group, self.origin, 7)


def make_edge(**settings: Any) -> tuple[Edge, FakeNode, FakeLink]:
    """An edge that is linked to `origin-1`, which has the application `live` and its default instance."""
    node = FakeNode()
    node.add_origin()
    node.view.groups[GROUP] = Assignment(GROUP, "origin-1", 3)
    edge = Edge(node, EdgeConfig(**settings))  # type: ignore[arg-type]  # all that it needs of a Node
    _edges.append(edge)
    link = FakeLink()
    edge.cluster.links["origin-1"] = link  # type: ignore[assignment]  # all that it needs of a Link
    return edge, node, link


def linked(edge: Edge, node: FakeNode, name: str, boot: str = "b") -> FakeLink:
    """Another origin, to which the edge has a link."""
    node.add_origin(name, boot=boot)
    link = FakeLink(name)
    link.boot = boot
    edge.cluster.links[name] = link  # type: ignore[assignment]  # all that it needs of a Link
    return link


def lose(edge: Edge, link: FakeLink, reason: str = "nothing heard for 3.0 s") -> None:
    """The link is over, as the link's own greenlet says it."""
    link.failure = reason
    edge.cluster._on_down(link, reason)  # type: ignore[arg-type]  # all that it needs of a Link


def end_all() -> None:
    """Close what a test has opened: nothing of it may stay in the loop of this process. Edges must then hold nothing."""
    for peer in _peers:
        peer.sock.close()
    _peers.clear()
    edges = _edges[:]
    _edges.clear()
    for edge in edges:
        for client in list(edge.clients.values()):
            client.close("the test is over", gone=True)
        for opening in list(edge.openings):
            opening.close()
        for connection in list(edge.requests):
            connection.close()
        for lingering in list(edge.lingering):
            lingering.end()
        assert edge.clients == edge.admission.held == {}  # type: ignore[comparison-overlap]  # each is to be empty
        assert edge.admission.count == 0
        assert edge.openings == edge.requests == set()  # type: ignore[comparison-overlap]  # each is to be empty
        assert edge.lingering == edge.paused == set()  # type: ignore[comparison-overlap]  # each is to be empty
        for group in edge.cluster.groups.values():
            assert (group.attachments, group.finding, group.resuming) == ({}, {}, 0)
        assert edge.cluster.resuming.sessions == 0
        assert edge.counters.internal_errors == 0


class Peer:
    """An RTMP client of an edge, on a socket pair."""

    def __init__(self, edge: Edge, address: str = "203.0.113.5", buffer_bytes: int = 0) -> None:
        self.edge = edge
        ours, theirs = socket.socketpair()
        if buffer_bytes:
            for sock in (ours, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        ours.setblocking(False)
        self.sock = ours
        before = set(edge.clients)
        if edge.enters(theirs, address):
            edge.open_rtmp(theirs, address, b"", False)
        new = set(edge.clients) - before
        self.client = edge.clients[new.pop()] if new else None
        self.rtmp = Connection.client()
        self.messages: list[Message] = []
        self.ended = False
        _peers.append(self)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def pump(self) -> bool:
        """Take what has come; returns whether the edge has closed its half."""
        while not self.ended:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            if not data:
                self.ended = True
                break
            self.rtmp.feed(data)
            while (event := self.rtmp.next_event()) is not None:
                if isinstance(event, Message):
                    self.messages.append(event)
            if answer := self.rtmp.data_to_send():
                try:
                    self.sock.sendall(answer)
                except OSError:
                    pass  # The edge has cut the connection; what it said is still to be read.
        return self.ended

    def until(self, condition: Any, what: str = "") -> Any:
        """Pump until something holds."""
        return eventually(lambda: (self.pump(), condition())[1], 10, what)

    def until_ended(self) -> None:
        """Until the edge has closed the connection."""
        eventually(self.pump, 10, "closed by the edge")

    def handshake(self) -> "Peer":
        self.send(self.rtmp.data_to_send())
        eventually(lambda: self.pump() or self.rtmp.handshaken, 10, "handshake")
        return self

    def command(self, name: str, *args: Any, amf3: bool = False, transaction: float = 1.0) -> None:
        command_object = args[0] if args else None
        self.send(self.rtmp.send(encode_command(name, transaction, command_object, *args[1:], amf3=amf3)))

    def connect(self, app: str = "live", **properties: Any) -> "Peer":
        self.handshake()
        self.command("connect", {"app": app, "tcUrl": f"rtmp://127.0.0.1/{app}", **properties})
        return self

    def commands(self) -> list[Command]:
        return [decode_command(message) for message in self.messages if message.type_id in (17, 20)]

    def statuses(self) -> list[str]:
        """Codes of all info objects so far."""
        infos = [command.args[0] for command in self.commands() if command.args]
        return [info["code"] for info in infos if isinstance(info, dict) and "code" in info]


def attached(edge: Edge, link: FakeLink, spread_objects: bool = False, **properties: Any) -> Peer:
    """A client that its origin has accepted."""
    peer = Peer(edge)
    peer.connect(**properties)
    assert peer.client is not None
    session = peer.client.session
    eventually(lambda: session in link.data.attachments, 10, "attach")
    say(edge, link, traffic.Attached(session, 0, spread_objects))
    return peer


def say(edge: Edge, link: FakeLink, *envelopes: Any) -> None:
    """The origin says something, in one batch."""
    edge.cluster._on_batch(link, list(envelopes))  # type: ignore[arg-type]  # all that it needs of a Link


def messages_in(data: bytes, chunk_size: int = CHUNK_SIZE) -> list[Message]:
    """The messages in whole chunks."""
    reader = ChunkReader()
    reader.chunk_size = chunk_size
    reader.feed(data)
    found = []
    while (message := reader.next_message()) is not None:
        found.append(message)
    assert reader.held_bytes == 0
    return found
