"""Clients of SharedObjects behind the edge's own `ObjectFanout`, which carries out what an origin without sockets says."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from headwater_amf import amf0
from headwater_bus.object_traffic import (
    ObjectAnswer,
    ObjectClosed,
    ObjectJoined,
    ObjectLeft,
    ObjectOpened,
    ObjectResync,
    ObjectUpdate,
)
from headwater_bus.rows import unpack_rows
from headwater_bus.traffic import ToClient
from headwater_edge.counters import Counters
from headwater_edge.object_pending import tell_pending
from headwater_edge.objects import ObjectFanout
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object
from headwater_rtmp.slots import Slots

from support.edge import CHUNK_SIZE, messages_in
from support.origin_bench import FakeClient, FakeLink, plain_event

_KEYED = (EventType.REQUEST_CHANGE, EventType.REQUEST_REMOVE)


class Copy:
    """A client and its copy of an object. Success makes what it asked for true, the oldest first; whether answers behind an
    update settle what it asked for is left to the client (`settles`)."""

    def __init__(self, client: FakeClient, settles: bool = True, amf3: bool = False) -> None:
        self.client, self.settles, self.amf3 = client, settles, amf3
        self.closed = self.objects_full = self.holds = False
        self.outbox = object()
        self.objects: dict[ObjectFanout, int] = {}
        self.behind: dict[ObjectFanout, int] | None = None
        self.slots: dict[str, Any] = {}
        self.version = 0
        self.asked: dict[str, list[Any]] = {}
        self.answered: set[str] = set()
        self.heard: list[Any] = []
        self.statuses: list[str] = []
        self.contents = 0
        """How often it was told everything."""
        self.in_update = False
        self._pending: deque[list[str]] = deque()
        """The slots of each message that asks for something and has no answer yet."""

    def ask(self, name: str, *events: tuple[Any, ...], persistent: bool = False) -> None:
        """Send a message; events are (type, key, value), values are Python's."""
        made = []
        kinds = {kind for kind, *_ in events}
        if kinds - {EventType.USE, EventType.RELEASE}:
            self._pending.append([rest[0] for kind, *rest in events if kind in _KEYED])
        for kind, *rest in events:
            if kind == EventType.SEND_MESSAGE:
                made.append(Event(kind, None, amf0.encode(*rest)))
                continue
            if kind in _KEYED:
                self.asked.setdefault(rest[0], []).append(rest[1] if len(rest) > 1 else None)
            made.append(
                Event(kind, rest[0] if rest else None, amf0.encode(rest[1]) if len(rest) > 1 else None)
            )
        self.client.message(encode_shared_object(name, self.version, persistent, made, self.amf3))

    @contextmanager
    def answer(self) -> Iterator[None]:
        """Around what it is told about its first message that has no answer yet: all of that is settled by it."""
        keys = self._pending.popleft() if self._pending else []
        left = {key: len(self.asked[key]) - keys.count(key) for key in keys}
        yield
        for key, count in left.items():
            asked = self.asked[key]
            del asked[: max(0, len(asked) - count)]

    def enqueue(self, data: bytes) -> None:
        """What the edge sends it."""
        (message,) = messages_in(data)
        self.read(message)

    def read(self, message: Message) -> None:
        """One message about the object."""
        told = decode_shared_object(message)
        self.version = max(told.version, self.version)
        for event in told.events:
            kind, *rest = plain_event(event)
            if kind == "SEND_MESSAGE":
                self.heard.append(amf0.decode_all(event.value or b"")[1:])
            elif kind == "STATUS":
                self.statuses.append(rest[0])
            else:
                self.take(kind, *rest)

    def take(self, kind: str, key: str | None = None, value: Any = None) -> None:
        """One event about the content."""
        if kind == "CLEAR":
            self.slots.clear()
            self.contents += 1
        elif key is not None:
            self.answered.add(key)
            asked = self.asked.get(key)
            if kind == "SUCCESS":
                if not asked:
                    return
                value = asked.pop(0)
            elif asked and (self.settles or self.in_update):
                asked.pop(0)
            if kind == "REMOVE" or value is None:
                self.slots.pop(key, None)
            else:
                self.slots[key] = value


class EdgeSide:
    """The edge's end of a link, as far as one object is concerned. `commits`: (events, version, whether slots changed) of each
    update; `drop`: so many updates are lost on the way."""

    def __init__(self, link: FakeLink) -> None:
        self.link = link
        self.clients: dict[int, Copy] = {}
        self.fanout: ObjectFanout | None = None
        self.commits: list[tuple[int, int, bool]] = []
        self.drop = self.resyncs = 0
        self._last: Any = None

    def carry_out(self) -> None:
        """What the origin has said since the last time, and what it answers to that."""
        while self.link.log:
            for envelope in self.link.take():
                self._carry_out(envelope)
                self._last = envelope
                self._drain()
        if self.fanout is not None:
            self.fanout.flush()

    def _drain(self) -> None:
        """Every client reads all that is queued for it, so it is told what it has missed."""
        for client in self.clients.values():
            while client.behind:
                fanout, number = client.behind.popitem()
                member: Any = client
                fanout.catch_up(number, member)

    def _carry_out(self, envelope: Any) -> None:
        if isinstance(envelope, ObjectOpened):
            slots = Slots.from_rows(
                envelope.version, envelope.base, unpack_rows(envelope.payload, str, bytes, int)
            )
            if self.fanout is not None:
                self.fanout.replace(slots, envelope.events)
                return
            self.fanout = ObjectFanout(
                envelope.name, envelope.persistent, slots, envelope.events, CHUNK_SIZE, Counters()
            )
        elif isinstance(envelope, ToClient):
            client = self.clients.get(envelope.session)
            if client is not None and envelope.type_id in (16, 19):
                tell_pending(client)  # type: ignore[arg-type]  # all that it needs of a Client
                with client.answer():
                    client.read(Message(envelope.type_id, 0, 0, envelope.payload))
        elif isinstance(envelope, ObjectJoined):
            assert self.fanout is not None
            copy: Any = self.clients[envelope.session]
            copy.objects = {self.fanout: envelope.session}
            self.fanout.join(envelope.session, copy, envelope.since)
        elif isinstance(envelope, ObjectUpdate):
            self._update(envelope)
        elif isinstance(envelope, ObjectLeft):
            if self.fanout is not None:
                copy = self.clients.get(envelope.session)
                if copy is not None:
                    tell_pending(copy)
                self.fanout.leave(envelope.session)
        elif isinstance(envelope, ObjectClosed):
            self.fanout = None
            for client in self.clients.values():
                client.objects.clear()
        elif isinstance(envelope, ObjectAnswer):
            assert self.fanout is not None
            rows = unpack_rows(envelope.payload, int, str)
            behind = isinstance(self._last, ObjectUpdate) and self._last.session == envelope.session
            client = self.clients.get(envelope.session)
            with nullcontext() if behind or client is None else client.answer():
                self.fanout.answer(envelope.session, rows)

    def _update(self, envelope: ObjectUpdate) -> None:
        assert self.fanout is not None
        events = unpack_rows(envelope.payload, int, str, bytes)
        changes = any(kind != EventType.SEND_MESSAGE for kind, _, _ in events)
        self.commits.append((envelope.events, envelope.version, changes))
        requester = self.clients.get(envelope.session)
        if requester is not None:
            # What others have changed before may come in the same message, but answers nothing.
            tell_pending(requester)  # type: ignore[arg-type]  # all that it needs of a Client
        with nullcontext() if requester is None else requester.answer():
            if self.drop:
                self.drop -= 1
                return
            if requester is not None:
                requester.in_update = True
            known = self.fanout.update(envelope.version, envelope.events, envelope.session, events)
            if requester is not None:
                requester.in_update = False
        if not known:
            self.resyncs += 1
            bench: Any = next(iter(self.clients.values())).client.bench
            bench.origin.batch(self.link, [ObjectResync(envelope.shared_object)])
