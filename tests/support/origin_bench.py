"""An origin without sockets: edges are links that record, clients are session numbers on them.

Everything that the origin sends goes through the bus's codec, so what does not fit on the wire fails here.
"""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gevent
from headwater_amf import amf0
from headwater_bus import traffic
from headwater_bus.codec import Codec
from headwater_bus.control import Done, EpochSeen, Release
from headwater_bus.sockets import pause
from headwater_bus.view import ClusterView
from headwater_origin import Application
from headwater_origin.config import OriginConfig
from headwater_origin.origin import Origin
from headwater_rtmp.command import decode_command, decode_data, encode_command
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object
from headwater_store import Journals

_CODEC = Codec(traffic.TRAFFIC)
_CONTROL = {0: "StreamBegin", 1: "StreamEOF"}
ME = "origin-1"


def settle() -> None:
    """Let every greenlet that can run do so, and those that it wakes; also those that let others run in between."""
    for _ in range(5):
        for _ in range(6):
            gevent.sleep(0)
        pause()


def plain(envelope: Any) -> Any:
    """What a client reads, as a tuple; envelopes that are for the edge stay as they are."""
    if not isinstance(envelope, traffic.ToClient):
        return envelope
    message = Message(envelope.type_id, envelope.stream_id, envelope.timestamp, envelope.payload)
    if message.type_id in (MessageType.COMMAND_AMF0, MessageType.COMMAND_AMF3):
        command = decode_command(message)
        if command.name == "onStatus":
            return ("onStatus", message.stream_id, command.args[0]["code"])
        return (command.name, command.transaction_id, *command.args)
    if message.type_id in (MessageType.DATA_AMF0, MessageType.DATA_AMF3):
        return ("data", message.stream_id, *decode_data(message))
    if message.type_id == MessageType.USER_CONTROL:
        kind, stream_id = (
            int.from_bytes(message.payload[:2], "big"),
            int.from_bytes(message.payload[2:6], "big"),
        )
        return (_CONTROL[kind], stream_id)
    shared = decode_shared_object(message)
    return ("object", shared.name, shared.version, [plain_event(event) for event in shared.events])


def plain_event(event: Event) -> tuple[Any, ...]:
    """An event as (type, key, value) or shorter."""
    kind = EventType(event.type).name
    if event.type == EventType.STATUS:
        return (kind, event.code, event.level)
    if event.value is not None:
        return (kind, event.key, amf0.decode(event.value)[0])
    return (kind,) if event.key is None else (kind, event.key)


class FakeLink:
    """The origin's end of a link; see headwater_origin.edge_port.LinkLike."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.boot = "session"
        """Ids of sessions begin with it."""
        self.data: Any = None
        self.queued_bytes = 0
        self.log: list[Any] = []
        self.states: dict[int, bytes] = {}
        """The last SessionState of each session, which is not in the log."""
        self.position = 0
        self.taken: int | None = None
        """How many envelopes the edge has acknowledged; None: all, at once."""
        self._trailer: Callable[[], Any] = lambda: None

    def send(self, envelope: Any) -> None:
        """Record an envelope as the edge would get it."""
        (arrived,) = _CODEC.unpack(_CODEC.pack([envelope]))
        self.position += 1
        if isinstance(arrived, traffic.Attached | traffic.AttachRefused):
            # The epoch that was asked at, which each attach of a test knows.
            arrived = replace(arrived, epoch=0)
        if isinstance(arrived, traffic.SessionState):
            self.states[arrived.session] = arrived.state
        else:
            self.log.append(arrived)

    @property
    def acknowledged(self) -> int:
        """See Link."""
        return self.position if self.taken is None else self.taken

    def mark(self) -> None:
        """Its batches are made by `batch`."""

    def end_batches_with(self, trailer: Callable[[], Any]) -> None:
        """See Link."""
        self._trailer = trailer

    def applied(self) -> dict[int, tuple[int, int]]:
        """What the last envelope of a batch that leaves now says: number and entry by session."""
        last = self._trailer()
        if last is None:
            return {}
        (arrived,) = _CODEC.unpack(_CODEC.pack([last]))
        rows = arrived.rows
        return {rows[at]: (rows[at + 1], rows[at + 2]) for at in range(0, len(rows), 3)}

    def take(self, *kinds: type) -> list[Any]:
        """The envelopes of these kinds (or all) since the last time."""
        taken = [envelope for envelope in self.log if not kinds or isinstance(envelope, kinds)]
        self.log = [envelope for envelope in self.log if kinds and not isinstance(envelope, kinds)]
        return taken


class Bench:
    """An origin with applications; every group is its own at `epoch` unless `owned` is False. Without `journals` the journal
    is off."""

    def __init__(
        self,
        applications: dict[str, type[Application]],
        owned: bool = True,
        journals: Journals | None = None,
        epoch: int = 1,
        **config: Any,
    ) -> None:
        self.view = ClusterView()
        self.released: list[tuple[str, int]] = []
        self.on_release: Callable[[str, int], Any] = lambda name, epoch: self.change("group-gone", name)
        node: Any = SimpleNamespace(node_id=ME, view=self.view, request_registry=self._request)
        self.epoch = epoch
        self.epochs_seen: list[tuple[str, int]] = []
        self.origin = Origin(node, OriginConfig(**config), applications, journals)
        self.committing = gevent.spawn(self.origin.committer.run)
        self._owned = owned
        self._numbers = 0
        self._edges = 0

    def _request(self, release: Release | EpochSeen) -> Any:
        """The registry's answer: what `on_release` returns, or Done."""
        if isinstance(release, EpochSeen):
            self.epochs_seen.append((release.group, release.epoch))
            return Done()
        self.released.append((release.group, release.epoch))
        return self.on_release(release.group, release.epoch) or Done()

    def change(self, *row: Any) -> None:
        """A change of the registry's table."""
        self.view._apply([list(row)])

    def edge(self) -> FakeLink:
        """A new edge."""
        self._edges += 1
        link = FakeLink(f"edge-{self._edges}")
        self.origin.link_up(link)  # type: ignore[arg-type]  # All that it needs of a Link.
        return link

    def client(self, link: FakeLink, group: str = "app/room", **how: Any) -> "FakeClient":
        """A client that has sent connect."""
        if self._owned and group not in self.view.groups:
            self.change("group", group, ME, self.epoch)
        self._numbers += 1
        client = FakeClient(self, link, self._numbers, group)
        client.attach(**how)
        return client

    def joined(self, link: FakeLink, group: str = "app/room", **how: Any) -> "FakeClient":
        """A client that was accepted; what it was told of that is taken away."""
        client = self.client(link, group, **how)
        settle()
        assert client.attached in client.take()
        return client


class FakeClient:
    """A client as its edge sees it."""

    def __init__(self, bench: Bench, link: FakeLink, number: int, group: str) -> None:
        self.bench, self.link, self.number, self.group = bench, link, number, group
        self.amf3 = False
        self.sent = 0
        """Messages so far; the next one has the next number."""
        self.attached = traffic.Attached(number, 0, False)
        """What its edge is told when it is accepted."""

    def put(self, *envelopes: Any) -> None:
        """The edge says something."""
        self.bench.origin.batch(self.link, list(envelopes))  # type: ignore[arg-type]  # All that it needs of a Link.

    def attach(
        self,
        *args: Any,
        epoch: int = 1,
        amf3: bool = False,
        properties: dict[str, Any] | None = None,
        arguments: tuple[Any, ...] = (),
        resumed: bool = False,
        session_id: str | None = None,
        applied: int = 0,
        heard: int = 0,
        state: bytes = b"",
        objects: list[list[Any]] | None = None,
        streams: list[list[Any]] | None = None,
        guest_streams: list[list[Any]] | None = None,
        fence: int = 0,
    ) -> None:
        """Send connect with these arguments. At another epoch than the first only who resumes has an id of the first. The last
        ones are what the edge of one who resumes knows."""
        self.amf3 = amf3
        first = resumed or epoch == 1
        name = f"session-{self.number}" if first else f"session-{epoch}-{self.number}"
        about = {"app": self.group, "objectEncoding": 3.0 if amf3 else 0.0, **(properties or {})}
        message = encode_command("connect", 1, about, *args, *arguments)
        self.put(
            traffic.Attach(
                self.number,
                session_id or name,
                self.group,
                epoch,
                "192.0.2.7",
                3 if amf3 else 0,
                resumed,
                message.type_id,
                applied,
                heard,
                state,
                objects or [],
                streams or [],
                guest_streams or [],
                fence,
                payload=message.payload,
            )
        )

    def message(self, message: Message) -> None:
        """Send a message."""
        self.sent += 1
        self.put(
            traffic.FromClient(
                self.number, self.sent, message.type_id, message.stream_id, message.timestamp, message.payload
            )
        )

    def command(self, name: str, *args: Any, transaction: float = 0, stream_id: int = 0) -> None:
        """Send a command."""
        self.message(encode_command(name, transaction, None, *args, stream_id=stream_id, amf3=self.amf3))

    def shared(self, name: str, *events: tuple[Any, ...], persistent: bool = False) -> None:
        """Send a SharedObject message; events are (type, key, value), values are Python's."""
        made = []
        for kind, *rest in events:
            if kind == EventType.SEND_MESSAGE:
                made.append(Event(kind, None, amf0.encode(*rest)))
            else:
                key = rest[0] if rest else None
                value = rest[1] if len(rest) > 1 else None
                raw = value if isinstance(value, bytes) else amf0.encode(value) if len(rest) > 1 else None
                made.append(Event(kind, key, raw))
        self.message(encode_shared_object(name, 0, persistent, made, self.amf3))

    def detach(self) -> None:
        """The client is gone."""
        self.put(traffic.Detach(self.number, "closed by the client"))

    def take(self) -> list[Any]:
        """What concerns this client since the last time: what it reads, and what its edge is told of it."""
        mine = [envelope for envelope in self.link.log if getattr(envelope, "session", None) == self.number]
        self.link.log = [
            envelope for envelope in self.link.log if getattr(envelope, "session", None) != self.number
        ]
        return [plain(envelope) for envelope in mine]

    def codes(self) -> list[str]:
        """The codes of statuses since the last time."""
        return [told[2] for told in self.take() if isinstance(told, tuple) and told[0] == "onStatus"]

    @property
    def session(self) -> Any:
        """The origin's Session."""
        return self.link.data.sessions[self.number]

    @property
    def scope(self) -> Any:
        """The application object of its group."""
        return self.bench.origin.groups[self.group].application
