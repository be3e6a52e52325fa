"""Edges whose clients go on over other links and origins, without sockets: numbers, what is kept until it is acknowledged,
replicas (the edge's own `ObjectFanout`) and batches that arrive as a whole or not at all."""

from collections import deque
from collections.abc import Callable
from typing import Any

from headwater_amf import amf0
from headwater_bus import object_traffic, traffic
from headwater_bus.codec import Codec
from headwater_bus.rows import unpack_rows
from headwater_edge.counters import Counters
from headwater_edge.object_pending import tell_pending
from headwater_edge.objects import ObjectFanout
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.message import COMMANDS, Message
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object
from headwater_rtmp.slots import Slots

from support.edge import CHUNK_SIZE, messages_in

_CODEC = Codec(traffic.TRAFFIC)
GROUP = "app/room"


class BatchLink:
    """The origin's end of a link. What it sends since the last `take` is one batch; `ack` acknowledges what was taken."""

    def __init__(self, peer: str) -> None:
        self.peer = self.boot = peer
        self.data: Any = None
        self.queued_bytes = 0
        self.position = self.acknowledged = 0
        self._taken = 0
        self._pending: list[Any] = []
        self._trailer: Callable[[], Any] = lambda: None

    def send(self, envelope: Any) -> None:
        (arrives,) = _CODEC.unpack(_CODEC.pack([envelope]))
        self.position += 1
        self._pending.append(arrives)

    def mark(self) -> None:
        """A batch is made whenever the test takes one."""

    def end_batches_with(self, trailer: Callable[[], Any]) -> None:
        self._trailer = trailer

    def take(self) -> list[Any]:
        """The next batch."""
        last = self._trailer()
        if last is not None:
            self.send(last)
        batch, self._pending = self._pending, []
        self._taken = self.position
        return batch

    def ack(self) -> None:
        """What was taken is acknowledged."""
        self.acknowledged = self._taken


class Reader:
    """A client and its copy of one object. `segments`: what it has heard since each UseSuccess."""

    def __init__(self, edge: "ResumingEdge", number: int, amf3: bool = False) -> None:
        self.edge, self.number, self.amf3 = edge, number, amf3
        self.session_id = f"session-{number}"
        self.closed = self.objects_full = False
        self.holds = edge.holds
        self.outbox = object()
        self.objects: dict[ObjectFanout, int] = {}
        self.behind: dict[ObjectFanout, int] | None = None
        self.sent = 0
        self.kept: deque[traffic.FromClient] = deque()
        self.attached = False
        self.known = False
        self.applied = self.heard_entry = 0
        self.state = b""
        self.slots: dict[str, Any] = {}
        self.asked: dict[str, list[Any]] = {}
        """Values that were asked for since the last Use, and not answered yet."""
        self.segments: list[list[float]] = []
        self.statuses: list[str] = []
        self.read: list[Any] = []
        """Commands and other messages that are about no object."""
        self.sequence: list[tuple[str, Any]] = []
        """All that it has heard, in order: what was sent ("send"), the values of slots ("set"), each when it hears it first, and
        the arguments of commands of this name ("word")."""
        self._told_values: set[Any] = set()
        """Of slots, in contents too, which are not part of the sequence."""

    # What it does

    def message(self, message: Message) -> None:
        """Send one, which is kept until it is acknowledged."""
        self.sent += 1
        envelope = traffic.FromClient(
            self.number, self.sent, message.type_id, message.stream_id, message.timestamp, message.payload
        )
        self.kept.append(envelope)
        if self.edge.link is not None:
            self.edge.put(envelope)

    def ask(self, name: str, *events: tuple[Any, ...]) -> None:
        """A SharedObject message; events are (type, key, value), values are Python's."""
        made = []
        for kind, *rest in events:
            if kind == EventType.SEND_MESSAGE:
                made.append(Event(kind, None, amf0.encode(*rest)))
                continue
            if kind == EventType.USE:
                self.asked.clear()
            if kind == EventType.REQUEST_CHANGE:
                self.asked.setdefault(rest[0], []).append(rest[1])
            made.append(Event(kind, rest[0] if rest else None, amf0.encode(rest[1]) if rest[1:] else None))
        self.message(encode_shared_object(name, 0, False, made, self.amf3))

    # What it is told

    def enqueue(self, data: bytes) -> None:
        """What the edge sends it."""
        for message in messages_in(data):
            self.told(message)

    def told(self, message: Message) -> None:
        """One message."""
        if message.type_id not in (16, 19):
            self.read.append(message)
            command = decode_command(message) if message.type_id in COMMANDS else None
            if command is not None and command.name == "word":
                self._note("word", command.args[0])
            return
        events = decode_shared_object(message).events
        whole = any(event.type == EventType.CLEAR for event in events)
        for event in events:
            self._event(event)
            if event.type in (EventType.CHANGE, EventType.SUCCESS) and event.key in self.slots:
                value = self.slots[event.key]
                if not whole and value not in self._told_values:
                    self._note("set", value)
                self._told_values.add(value)

    def _note(self, kind: str, value: Any) -> None:
        self.sequence.append((kind, value))

    def _event(self, event: Event) -> None:
        kind, key = event.type, event.key or ""
        if kind == EventType.USE_SUCCESS:
            self.segments.append([])
        elif kind == EventType.SEND_MESSAGE:
            self.segments[-1].append(amf0.decode_all(event.value or b"")[1])
            self._note("send", self.segments[-1][-1])
        elif kind == EventType.STATUS:
            self.statuses.append(event.code)
        elif kind == EventType.CLEAR:
            self.slots.clear()
        elif kind == EventType.REMOVE:
            self.slots.pop(key, None)
        elif kind == EventType.CHANGE:
            self.slots[key] = amf0.decode(event.value or b"")[0]
        elif kind == EventType.SUCCESS and self.asked.get(key):
            self.slots[key] = self.asked[key].pop(0)


class ResumingEdge:
    """One edge. Its link is lost with `cut`, and made anew, to whichever origin there is, by `connect`. What its objects gather
    leaves with `flush`; unless it `gathers`, that is behind each batch."""

    holds = False
    """Whether its clients are such as RTMPT's."""

    def __init__(self, name: str, gathers: bool = False) -> None:
        self.name, self.gathers = name, gathers
        self.link: BatchLink | None = None
        self.clients: dict[int, Reader] = {}
        self.objects: dict[tuple[str, bool], ObjectFanout] = {}
        self.by_number: dict[int, ObjectFanout] = {}
        self.resumed = self.opened = 0
        """How often a replica went on, and how often it came anew."""
        self._origin: Any = None
        self._epoch = 0

    def put(self, *envelopes: Any) -> None:
        """Say something to the origin."""
        self._origin.batch(self.link, list(envelopes))

    def connect(self, origin: Any, epoch: int) -> None:
        """A new link, over which all clients go on."""
        self._origin, self._epoch = origin, epoch
        self._all_go_away()
        self.link = BatchLink(self.name)
        self.by_number = {}
        origin.link_up(self.link)
        self.put(*(envelope for client in self.clients.values() for envelope in self._attach(client)))

    def join(self, number: int, amf3: bool = False) -> Reader:
        """A new client."""
        client = self.clients[number] = Reader(self, number, amf3)
        if self.link is not None:
            self.put(*self._attach(client))
        return client

    def _attach(self, client: Reader) -> list[Any]:
        about = {"app": GROUP, "objectEncoding": 3.0 if client.amf3 else 0.0}
        connect = encode_command("connect", 1, about)
        objects = [
            self._object(fanout, client.number)
            for fanout in self.objects.values()
            if client.number in fanout.members
        ]
        attach = traffic.Attach(
            client.number,
            client.session_id,
            GROUP,
            self._epoch,
            "192.0.2.7",
            3 if client.amf3 else 0,
            client.known,
            connect.type_id,
            client.applied,
            client.heard_entry,
            client.state,
            objects,
            self.streams_of(client),
            [],
            payload=connect.payload,
        )
        client.attached = False
        return [attach, *client.kept]

    @staticmethod
    def _object(fanout: ObjectFanout, number: int) -> list[Any]:
        has, told = (fanout.slots.version, fanout.events), fanout.told(number)
        return [fanout.name, fanout.persistent, *has, *(() if told == has else told)]

    def _all_go_away(self) -> None:
        for fanout in self.objects.values():
            for number in fanout.members:
                fanout.goes_away(number)

    def streams_of(self, client: Reader) -> list[list[Any]]:
        """Rows of its Attach: what it plays, and the last message that is here."""
        return []

    def cut(self, lost: bool = True) -> None:
        """The link is lost, with what was under way (unless it just came through)."""
        if self.link is None:
            return
        if not lost:
            self.deliver()
        link, self.link = self.link, None
        self._origin.link_down(link, "cut")

    def forget_link(self) -> None:
        """The origin has died."""
        self.link = None

    def deliver(self) -> bool:
        """What the origin has said arrives; returns whether there was something."""
        batch = [] if self.link is None else self.link.take()
        for envelope in batch:
            self._carry_out(envelope)
        if not self.gathers:
            self.flush()
        return bool(batch)

    def flush(self) -> bool:
        """What objects have gathered is told; returns whether there was something."""
        gathered = [fanout for fanout in self.objects.values() if fanout.gathered]
        for fanout in gathered:
            fanout.flush()
        return bool(gathered)

    def _carry_out(self, envelope: Any) -> None:
        number = getattr(envelope, "session", 0)
        client: Any = self.clients.get(number)
        if isinstance(envelope, traffic.Applied):
            for at in range(0, len(envelope.rows), 3):
                self._applied(*envelope.rows[at : at + 3])
        elif isinstance(envelope, traffic.Attached):
            client.attached = client.known = True
            self._applied(number, envelope.number, 0)
        elif isinstance(envelope, traffic.SessionState | traffic.ToClient) and not client.attached:
            raise AssertionError(f"before Attached: {envelope!r}")
        elif isinstance(envelope, traffic.SessionState):
            client.state = envelope.state
        elif isinstance(envelope, traffic.ToClient):
            tell_pending(client)
            client.told(Message(envelope.type_id, envelope.stream_id, envelope.timestamp, envelope.payload))
        elif isinstance(envelope, object_traffic.ObjectOpened):
            self._opened(envelope)
        elif isinstance(envelope, object_traffic.ObjectResumed):
            fanout = self.objects[envelope.name, envelope.persistent]
            assert fanout.events == envelope.events
            self.by_number[envelope.shared_object] = fanout
            self.resumed += 1
        elif isinstance(envelope, object_traffic.ObjectJoined):
            fanout = self.by_number[envelope.shared_object]
            if envelope.resumed:
                assert client.attached, envelope
            if envelope.resumed and number in fanout.members:
                fanout.let_out(number, envelope.since)
            else:
                client.objects[fanout] = number
                fanout.join(number, client, envelope.since)
        elif isinstance(envelope, object_traffic.ObjectUpdate):
            fanout = self.by_number[envelope.shared_object]
            events = unpack_rows(envelope.payload, int, str, bytes)
            assert fanout.update(envelope.version, envelope.events, number, events)
        elif isinstance(envelope, object_traffic.ObjectAnswer):
            self.by_number[envelope.shared_object].answer(number, unpack_rows(envelope.payload, int, str))
        elif isinstance(envelope, object_traffic.ObjectLeft):
            fanout = self.by_number[envelope.shared_object]
            if client is not None:
                tell_pending(client)
                client.objects.pop(fanout, None)
            fanout.leave(number)
        elif isinstance(envelope, object_traffic.ObjectClosed):
            fanout = self.by_number.pop(envelope.shared_object)
            del self.objects[fanout.name, fanout.persistent]
        else:
            raise AssertionError(f"the origin said {envelope!r}")

    def _opened(self, envelope: object_traffic.ObjectOpened) -> None:
        self.opened += 1
        rows = unpack_rows(envelope.payload, str, bytes, int)
        slots = Slots.from_rows(envelope.version, envelope.base, rows)
        key = (envelope.name, envelope.persistent)
        fanout = self.objects.get(key)
        if fanout is None:
            fanout = self.objects[key] = ObjectFanout(*key, slots, envelope.events, CHUNK_SIZE, Counters())
        else:
            fanout.replace(slots, envelope.events)
        self.by_number[envelope.shared_object] = fanout

    def _applied(self, number: int, message: int, entry: int) -> None:
        client = self.clients.get(number)
        if client is not None:
            client.applied = max(client.applied, message)
            client.heard_entry = max(client.heard_entry, entry)
            while client.kept and client.kept[0].number <= message:
                client.kept.popleft()
