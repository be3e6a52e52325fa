"""What a group says to clients together with an entry of its journal: it is in the entry, and is kept until everybody has heard
it, so that who comes back after its origin or its link was lost is told.

A form is what is said without what belongs to one link: [kind, ...].
"""

from collections import deque
from collections.abc import Collection, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from headwater_bus.codec import constructor
from headwater_bus.object_traffic import ObjectAnswer, ObjectReply
from headwater_bus.traffic import CloseSession, Routed, ToClient, Unrouted
from headwater_rtmp.message import Message

from headwater_origin.durable.journal import RowKind

if TYPE_CHECKING:
    from headwater_origin.edge_port import EdgePort
    from headwater_origin.session import Session

Form = list[Any]
_ITEM_BYTES = 300
"""What one takes beside its payload, about."""


class SaidKind(IntEnum):
    """First item of a form; what follows it. A number is never used again for another kind."""

    TO_CLIENT = 1
    """type id, stream id, timestamp, payload."""
    CLOSE = 2
    """reason."""
    OBJECT_ANSWER = 3
    """name, persistent, payload."""
    ROUTED = 4
    """group, route, access, denied, type id, stream id, timestamp, payload."""
    UNROUTED = 5
    """name, persistent."""
    OBJECT_REPLY = 6
    """request, error."""
    BROADCAST = 7
    """type id and payload for who speaks AMF0, the same for AMF3."""


class Said:
    """One thing said to some sessions. `number` of the message of the one session that it answers; 0: it is an effect of
    something else. `order`: it was said behind the commit of that order, see Outputs. `entry` that it is in: 0 until that is on
    its way. `position` of the link at which it was sent; None: it was not."""

    __slots__ = ("entry", "form", "number", "order", "position", "session_ids")

    def __init__(
        self, session_ids: Collection[str], number: int, form: Form, order: int, entry: int = 0
    ) -> None:
        self.session_ids, self.number, self.form = session_ids, number, form
        self.order, self.entry = order, entry
        self.position: int | None = None

    @property
    def size_bytes(self) -> int:
        """What it takes, about."""
        return _ITEM_BYTES + sum(len(part) for part in self.form if type(part) is bytes)

    def unheard(self, session_id: str, applied: int, heard: int) -> bool:
        """Whether it is for a session that knows how far its messages are done (`applied`), and of entries up to `heard`. What
        answers a message has come with the word that it is done, whichever entry it is in."""
        if session_id not in self.session_ids:
            return False
        return self.number > applied if self.number else self.entry == 0 or self.entry > heard


def message_form(message: Message) -> Form:
    """Of a message for one client."""
    return [
        int(SaidKind.TO_CLIENT),
        int(message.type_id),
        message.stream_id,
        message.timestamp,
        bytes(message.payload),
    ]


def broadcast_form(amf0: Message, amf3: Message) -> Form:
    """Of a command for clients of both AMF versions."""
    return [
        int(SaidKind.BROADCAST),
        int(amf0.type_id),
        bytes(amf0.payload),
        int(amf3.type_id),
        bytes(amf3.payload),
    ]


def close_form(reason: str) -> Form:
    """Of CloseSession."""
    return [int(SaidKind.CLOSE), reason]


def form_of(edge: "EdgePort", envelope: Any) -> Form | None:
    """Of an envelope to a session; None: it is of no kind that is stored."""
    kind = type(envelope)
    if kind is ToClient:
        return [
            int(SaidKind.TO_CLIENT),
            envelope.type_id,
            envelope.stream_id,
            envelope.timestamp,
            bytes(envelope.payload),
        ]
    if kind is ObjectAnswer:
        shared = edge.objects.get(envelope.shared_object)
        if shared is None:
            return None
        return [int(SaidKind.OBJECT_ANSWER), shared.name, shared.persistent, bytes(envelope.payload)]
    if kind is Routed:
        return [
            int(SaidKind.ROUTED),
            envelope.group,
            envelope.route,
            envelope.access,
            list(envelope.denied),
            envelope.type_id,
            envelope.stream_id,
            envelope.timestamp,
            bytes(envelope.payload),
        ]
    if kind is Unrouted:
        return [int(SaidKind.UNROUTED), envelope.name, envelope.persistent]
    if kind is CloseSession:
        return close_form(envelope.reason)
    if kind is ObjectReply:
        return [int(SaidKind.OBJECT_REPLY), envelope.request, envelope.error]
    return None


STORED = frozenset((ToClient, ObjectAnswer, Routed, Unrouted, CloseSession, ObjectReply))
"""The kinds of `form_of`."""


def envelope_of(form: Form, session: "Session") -> Any | None:
    """For one session, on its present link; None: it would mean nothing there."""
    number, kind = session.number, form[0]
    if kind == SaidKind.TO_CLIENT:
        return ToClient(number, *form[1:5])
    if kind == SaidKind.BROADCAST:
        type_id, payload = form[3:5] if session.amf3 else form[1:3]
        return ToClient(number, type_id, 0, 0, payload)
    if kind == SaidKind.OBJECT_ANSWER:
        shared_object = session.group.objects.number_on(session.edge, form[1], form[2])
        return None if shared_object is None else ObjectAnswer(number, shared_object, form[3])
    if kind == SaidKind.ROUTED:
        return Routed(number, *form[1:9])
    if kind == SaidKind.UNROUTED:
        return Unrouted(number, *form[1:3])
    if kind == SaidKind.CLOSE:
        return CloseSession(number, form[1])
    if kind == SaidKind.OBJECT_REPLY:
        return ObjectReply(number, *form[1:3])
    return None  # Of a newer version.


_make_to_client = constructor(ToClient)


def to_client(session: int, message: Message) -> ToClient:
    """A message for one client, by its session's number."""
    made: ToClient = _make_to_client(
        session, message.type_id, message.stream_id, message.timestamp, message.payload
    )
    return made


class SaidLog:
    """What a group has said with its entries and somebody may not have heard, in order."""

    __slots__ = ("_items", "size_bytes")

    def __init__(self) -> None:
        self._items: deque[Said] = deque()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, said: Said) -> None:
        """One more."""
        self._items.append(said)
        self.size_bytes += said.size_bytes

    def settle(self, entry: int) -> None:
        """Everybody has heard what was said with entries up to this one."""
        items = self._items
        while items and 0 < items[0].entry <= entry:
            self.size_bytes -= items.popleft().size_bytes

    def unheard(self, session_id: str, applied: int, heard: int) -> Iterator[Said]:
        """What a session has not heard, in order; see `Said.unheard`."""
        return (said for said in self._items if said.unheard(session_id, applied, heard))

    def restore(self, row: list[Any]) -> int:
        """A row of a snapshot; returns its order. Raises LookupError for one that has the sessions of the row before, where there
        is none."""
        _, entry, session_ids, number, form = row[:5]
        # A former version wrote none, neither here nor for commits: then these come first.
        order: int = row[5] if len(row) > 5 else 0
        same = self._items[-1].session_ids if session_ids is None else frozenset(session_ids)
        self.add(Said(same, number, form, order, entry))
        return order

    def rows(self) -> list[list[Any]]:
        """For a snapshot; sessions that are those of the row before are not told again."""
        rows: list[list[Any]] = []
        before: Collection[str] | None = None
        for said in self._items:
            sessions = None if said.session_ids is before else sorted(said.session_ids)
            rows.append([int(RowKind.SAID_KEPT), said.entry, sessions, said.number, said.form, said.order])
            before = said.session_ids
        return rows
