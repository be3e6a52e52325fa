"""RTMPT sessions of edges in this process: requests without sockets, and clients that make them."""

from typing import Any

import gevent
from headwater_bus import traffic
from headwater_bus.view import Assignment
from headwater_edge.config import EdgeConfig
from headwater_edge.edge import Edge
from headwater_edge.gate import Gate
from headwater_rtmp.command import Command, decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.message import Message
from headwater_rtmp.rtmpt import Verb, session_target
from headwater_store import open_leases

from support import edge as edges
from support.edge import GROUP, FakeLink, FakeNode
from support.waiting import eventually

_jobs: list[Any] = []


class Request:
    """What an HttpRequest is to the edge."""

    method, secure = "POST", False

    def __init__(self, target: str, body: bytes = b"", address: str = "203.0.113.5") -> None:
        self.target, self.body, self.address = target, body, address
        self.status = 0
        self.reply = b""
        self.aborted = self.gone = False

    @property
    def closed(self) -> bool:
        return self.gone or self.aborted or self.status > 0

    @property
    def done(self) -> bool:
        return self.aborted or self.status > 0

    def answer(self, status: int, body: bytes, content_type: str = "", close: bool = False) -> None:
        if not self.closed:
            self.status, self.reply = status, body

    def abort(self) -> None:
        if not self.closed:
            self.aborted = True


class TunnelEdge:
    """An edge with a link to `origin-1`; edges with the same `store` share its sessions."""

    def __init__(self, name: str, store: str, gate: Gate | None = None, **settings: Any) -> None:
        node = self.node = FakeNode()
        node.node_id, node.boot = name, f"boot-{name}"
        node.add_origin()
        node.view.groups[GROUP] = Assignment(GROUP, "origin-1", 3)
        leases = open_leases(f"memory:{store}", "rtmpt")
        settings.setdefault("tunnel_hold_s", 0.02)
        self.edge = Edge(node, EdgeConfig(**settings), leases, gate)  # type: ignore[arg-type]  # all that it needs of a Node
        edges._edges.append(self.edge)
        self.link = FakeLink()
        self.edge.cluster.links["origin-1"] = self.link  # type: ignore[assignment]  # all that it needs of a Link
        _jobs.append(gevent.spawn(self.edge.tunnels.records.run))

    def say(self, *envelopes: Any) -> None:
        """The origin says something, in one batch."""
        edges.say(self.edge, self.link, *envelopes)

    def request(self, target: str, body: bytes = b"") -> Request:
        """A request, and its answer when it is there."""
        request = Request(target, body)
        self.edge.tunnels.request(request)  # type: ignore[arg-type]  # all that it needs of a request
        eventually(lambda: request.done, 10, f"answer to {target}")
        return request


def end_tunnels() -> None:
    """Forget the sessions of all edges, then end these as others."""
    for one in edges._edges:
        for tunnel in list(one.tunnels._tunnels.values()):
            tunnel._end("the test is over")
    for job in _jobs:
        job.kill()
    _jobs.clear()
    edges.end_all()


class TunnelPeer:
    """An RTMP client by RTMPT, which asks the edge that it is told."""

    def __init__(self, edge: TunnelEdge) -> None:
        self.edge = edge
        opened = edge.request("/open/1", b"\x00")
        assert opened.status == 200, opened.status
        self.key = opened.reply.decode().removesuffix("\n")
        self.sequence = 0
        self.rtmp = Connection.client()
        self.messages: list[Message] = []
        self.out = self.rtmp.data_to_send()

    @property
    def client(self) -> Any:
        """The session, where it is now."""
        return self.edge.edge.tunnels._tunnels[self.key].client

    def target(self, verb: Verb, sequence: int | None = None) -> str:
        return session_target(verb, self.key, self.sequence if sequence is None else sequence)

    def post(self) -> Request:
        """Send what is queued, or ask, once; what comes is taken."""
        out, self.out = self.out, b""
        request = self.edge.request(self.target(Verb.SEND if out else Verb.IDLE), out or b"\x00")
        self.sequence += 1
        if request.status == 200:
            self.take(request.reply)
        return request

    def take(self, reply: bytes) -> None:
        self.rtmp.feed(reply[1:])
        while (event := self.rtmp.next_event()) is not None:
            if isinstance(event, Message):
                self.messages.append(event)
        self.out += self.rtmp.data_to_send()

    def until(self, condition: Any, what: str = "") -> Any:
        """Ask until something holds."""
        return eventually(lambda: condition() or (self.post(), condition())[1], 10, what)

    def command(self, name: str, *args: Any, stream_id: int = 0, transaction: float = 1.0) -> None:
        message = encode_command(name, transaction, args[0] if args else None, *args[1:], stream_id=stream_id)
        self.out += self.rtmp.send(message)

    def connect(self, app: str = "live", **properties: Any) -> "TunnelPeer":
        self.until(lambda: self.rtmp.handshaken, "handshake")
        self.command("connect", {"app": app, "tcUrl": f"rtmpt://127.0.0.1/{app}", **properties})
        self.post()
        return self

    def attached(self) -> "TunnelPeer":
        """Connected, and accepted by its origin."""
        self.connect()
        session, edge = self.client.session, self.edge
        eventually(lambda: session in edge.link.data.attachments, 10, "attach")
        edge.say(traffic.Attached(session, 0, False))
        self.post()  # What the protocol says first.
        return self

    def commands(self) -> list[Command]:
        return [decode_command(message) for message in self.messages if message.type_id in (17, 20)]
