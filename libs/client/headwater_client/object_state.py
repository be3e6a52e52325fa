"""The local copy of a SharedObject, sans-IO: what is asked for goes in, the server's events go in, changes come out.

The server's order is the only one. Each request of ours gets its place in it with its answer, and nothing says whose a
Change, Remove or Clear is. So the copy has two layers: what the server has committed as far as we were told (`_committed`),
and over it our requests that were not answered yet. From the server:

- Success: our oldest request for the slot is committed *now*: its value is newer than every Change before it.
- Change: another client's value, committed before whatever of ours is unanswered, so ours stays in sight. In a message with
  an error Status it is the answer to our oldest request for the slot: refused, this is what the server has.
- Remove: goes to the one who asked and to everybody else. When our oldest request for the slot is a removal it counts as
  the answer: if it was another's, ours finds nothing to remove, and its own Remove changes nothing more.
- Clear: likewise for our clear, once everything that we asked for before is answered. Otherwise it is another's, or the
  server begins to send all contents again; our unanswered requests come after it.
- UseSuccess without Clear: the server knows what has changed since the version that our Use named; Change and Remove follow.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from headwater_amf import AmfDecodeError, AmfEncodeError, amf0
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.shared_object import Event, EventType, SharedObjectMessage


class ChangeKind(StrEnum):
    """What has happened to a slot, or to the object."""

    CHANGE = "change"
    """Another client, or the server, has set it."""
    SUCCESS = "success"
    """The server has committed our change."""
    REJECT = "reject"
    """The server has refused our change; `old` is what we wanted, `new` what it has."""
    DELETE = "delete"
    """It was removed, by whomever."""
    CLEAR = "clear"
    """All slots were removed, or the server is about to send all contents again. Without a key."""


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """A change of what the object shows. `old` and `new` are None where there was, or is, no value. What another client sets
    while a request of ours for the same slot is unanswered shows only when ours is refused, and has no event of its own."""

    kind: ChangeKind
    key: str | None = None
    old: Any = None
    new: Any = None


@dataclass(frozen=True, slots=True)
class HandlerCall:
    """A `send` of some client: call this handler with these arguments."""

    handler: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """The server says something about the object; level `error`: it refused something."""

    code: str
    level: str


Outcome = ChangeEvent | HandlerCall | ObjectStatus


@dataclass(slots=True, eq=False)
class _Request:
    """What we have asked for and got no answer to. `order` counts all requests, `batch` messages."""

    order: int
    batch: int
    kind: EventType
    key: str = ""
    value: Any = None


class ObjectState:
    """See the module. `contents` is what shows; `set`, `remove` and `clear` change it at once and return the event to send."""

    __slots__ = (
        "_again",
        "_amf3",
        "_batch",
        "_clears",
        "_committed",
        "_order",
        "_slots",
        "_unanswered",
        "contents",
        "synced",
        "version",
    )

    def __init__(self, amf3: bool = False, known: "ObjectState | None" = None) -> None:
        """`known`: begin with what the server had committed as far as this one was told."""
        self._amf3 = amf3
        self._committed: dict[str, Any] = dict(known._committed) if known is not None else {}
        self._slots: dict[str, deque[_Request]] = {}
        self._clears: deque[_Request] = deque()
        self._unanswered: dict[int, _Request] = {}
        self._order = self._batch = 0
        self._again = False
        """Whether the object is used again, and the contents have not come yet."""
        self.contents: dict[str, Any] = dict(self._committed)
        self.synced = False
        """Whether the server has accepted our use and sent the contents."""
        self.version: int = known.version if known is not None else 0
        """The server's count of commits that changed something, as of what we were told last."""

    @property
    def unanswered(self) -> int:
        """Requests that the server has not answered."""
        return len(self._unanswered)

    # Ours

    def set(self, key: str, value: Any) -> Event:
        """Set a slot. The value is kept as others will get it. Requests for one slot belong in messages of their own: a server
        may answer the refused ones of a message after the others. Raises LocalProtocolError for a value without AMF form."""
        data = self._encode(value)
        try:
            kept, _ = amf0.decode(data)
        except AmfDecodeError as error:
            raise LocalProtocolError(f"nobody would read this value: {error}") from error
        request = self._ask(EventType.REQUEST_CHANGE, key, kept)
        self._slots.setdefault(key, deque()).append(request)
        self._show(key)
        return Event(EventType.REQUEST_CHANGE, key, data)

    def remove(self, key: str) -> Event:
        """Remove a slot."""
        request = self._ask(EventType.REQUEST_REMOVE, key)
        self._slots.setdefault(key, deque()).append(request)
        self._show(key)
        return Event(EventType.REQUEST_REMOVE, key)

    def clear(self) -> Event:
        """Remove all slots. The event belongs in a message of its own."""
        self._clears.append(self._ask(EventType.REQUEST_CLEAR))
        self.contents.clear()
        return Event(EventType.REQUEST_CLEAR)

    def handler_call(self, handler: str, args: tuple[Any, ...]) -> Event:
        """The event that calls a handler at every client. Nothing here changes; the server sends it to us, too."""
        if not isinstance(handler, str):
            raise LocalProtocolError(f"expected the name of a handler, got {type(handler).__name__}")
        data = amf0.encode(handler) + b"".join(self._encode(value) for value in args)
        return Event(EventType.SEND_MESSAGE, None, data)

    def _encode(self, value: Any) -> bytes:
        try:
            return (amf0.encode_avmplus if self._amf3 else amf0.encode)(value)
        except AmfEncodeError as error:
            raise LocalProtocolError(str(error)) from error

    def _ask(self, kind: EventType, key: str = "", value: Any = None) -> _Request:
        self._order += 1
        request = self._unanswered[self._order] = _Request(self._order, self._batch, kind, key, value)
        return request

    def sent(self) -> None:
        """What was asked for up to here has gone in a message."""
        self._batch += 1

    def begin_again(self) -> list[list[Event]]:
        """On another connection: the events to send, by message. The Use first, then all that was not answered, as it was sent.
        The server may have carried it out before, and what is asked for again comes behind what others have done since."""
        self.synced, self._again = False, True
        messages = [[Event(EventType.USE)]]
        batch = -1
        for request in self._unanswered.values():
            if request.batch != batch:
                batch = request.batch
                messages.append([])
            value = self._encode(request.value) if request.kind == EventType.REQUEST_CHANGE else None
            messages[-1].append(Event(request.kind, request.key or None, value))
        return messages

    # The server's

    def receive(self, message: SharedObjectMessage) -> list[Outcome]:
        """Apply a message; returns what came of it, in order. Raises RemoteProtocolError for values that are not AMF."""
        if self._again and any(event.type == EventType.USE_SUCCESS for event in message.events):
            return self._used_again(message)
        refused = False
        for event in message.events:
            if event.type == EventType.STATUS and event.level == "error":
                refused = True
        outcomes: list[Outcome] = []
        answers = refused  # Whether Change and Remove answer our requests; what follows a Clear are contents.
        told = False
        for event in message.events:
            kind, key = event.type, event.key or ""
            if kind == EventType.CHANGE:
                self._change(key, _decoded_one(event.value or b""), answers, outcomes)
            elif kind == EventType.SUCCESS:
                self._success(key, outcomes)
            elif kind == EventType.REMOVE:
                self._remove(key, answers, outcomes)
            elif kind == EventType.CLEAR:
                self._clear(refused, outcomes)
                answers = False
            elif kind == EventType.USE_SUCCESS:
                self.synced = True
            elif kind == EventType.SEND_MESSAGE:
                handler, *args = _decoded(event.value or b"") or [""]
                outcomes.append(HandlerCall(str(handler), tuple(args)))
                continue
            elif kind == EventType.STATUS:
                outcomes.append(ObjectStatus(event.code, event.level))
                continue
            else:
                continue
            told = True
        if told and not refused:
            self.version = message.version
        return outcomes

    def _used_again(self, message: SharedObjectMessage) -> list[Outcome]:
        """The contents, on another connection: nothing in them answers us, and only what differs is worth telling."""
        before = dict(self.contents)
        committed = self._committed
        for event in message.events:
            key = event.key or ""
            if event.type == EventType.CHANGE:
                committed[key] = _decoded_one(event.value or b"")
            elif event.type == EventType.REMOVE:
                committed.pop(key, None)
            elif event.type == EventType.CLEAR:
                committed.clear()
        self._again, self.synced, self.version = False, True, message.version
        outcomes: list[Outcome] = []
        for key in {**before, **committed, **dict.fromkeys(self._slots)}:
            self._show(key)
            old, new = before.get(key), self.contents.get(key)
            if key not in self.contents:
                if key in before:
                    outcomes.append(ChangeEvent(ChangeKind.DELETE, key, old))
            elif key not in before or old != new:
                outcomes.append(ChangeEvent(ChangeKind.CHANGE, key, old, new))
        return outcomes

    def _change(self, key: str, value: Any, answers: bool, outcomes: list[Outcome]) -> None:
        old = self.contents.get(key)
        self._committed[key] = value
        if not self._slots and not self._clears:
            self.contents[key] = value
            outcomes.append(ChangeEvent(ChangeKind.CHANGE, key, old, value))
            return
        request = self._answered(key) if answers else None
        self._show(key)
        if request is not None:
            outcomes.append(ChangeEvent(ChangeKind.REJECT, key, request.value, value))
        elif not self._hidden(key):
            outcomes.append(ChangeEvent(ChangeKind.CHANGE, key, old, value))

    def _success(self, key: str, outcomes: list[Outcome]) -> None:
        request = self._answered(key)
        if request is None:
            return
        old = self._committed.get(key)
        if request.kind == EventType.REQUEST_CHANGE:
            self._committed[key] = request.value
            outcomes.append(ChangeEvent(ChangeKind.SUCCESS, key, old, request.value))
        else:
            self._committed.pop(key, None)
            outcomes.append(ChangeEvent(ChangeKind.DELETE, key, old))
        self._show(key)

    def _remove(self, key: str, answers: bool, outcomes: list[Outcome]) -> None:
        queue = self._slots.get(key)
        own = queue is not None and (answers or queue[0].kind == EventType.REQUEST_REMOVE)
        request = self._answered(key) if own else None
        had = key in self._committed
        old = self._committed.pop(key, None)
        hidden = self._hidden(key)
        self._show(key)
        if answers and request is not None:
            outcomes.append(ChangeEvent(ChangeKind.REJECT, key, request.value))
        elif request is not None or (had and not hidden):
            outcomes.append(ChangeEvent(ChangeKind.DELETE, key, old))

    def _clear(self, refused: bool, outcomes: list[Outcome]) -> None:
        own = bool(self._clears) and (refused or next(iter(self._unanswered)) == self._clears[0].order)
        if own:
            del self._unanswered[self._clears.popleft().order]
        self._committed.clear()
        self.contents.clear()
        for key in self._slots:
            self._show(key)
        kind = ChangeKind.REJECT if own and refused else ChangeKind.CLEAR
        outcomes.append(ChangeEvent(kind))

    def _answered(self, key: str) -> _Request | None:
        """Take our oldest request for a slot off, if there is one."""
        queue = self._slots.get(key)
        if queue is None:
            return None
        request = queue.popleft()
        if not queue:
            del self._slots[key]
        del self._unanswered[request.order]
        return request

    # What shows

    def _hidden(self, key: str) -> bool:
        """Whether a request of ours shows instead of what is committed."""
        return key in self._slots or bool(self._clears)

    def _show(self, key: str) -> None:
        """Bring one slot of `contents` up to date."""
        queue = self._slots.get(key)
        last = queue[-1] if queue else None
        if self._clears and (last is None or last.order < self._clears[-1].order):
            self.contents.pop(key, None)
        elif last is not None:
            if last.kind == EventType.REQUEST_CHANGE:
                self.contents[key] = last.value
            else:
                self.contents.pop(key, None)
        elif key in self._committed:
            self.contents[key] = self._committed[key]
        else:
            self.contents.pop(key, None)


def _decoded_one(data: bytes) -> Any:
    """The value of a slot."""
    try:
        return amf0.decode(data)[0]
    except AmfDecodeError as error:
        raise RemoteProtocolError(f"SharedObject value: {error}") from error


def _decoded(data: bytes) -> list[Any]:
    """The handler's name and the arguments of a `send`; each has its own reference table."""
    values: list[Any] = []
    at = 0
    try:
        while at < len(data):
            value, at = amf0.decode(data, at)
            values.append(value)
    except AmfDecodeError as error:
        raise RemoteProtocolError(f"SharedObject send: {error}") from error
    return values
