"""Clients by RTMPT that ask whichever edge a test says, one request at a time, and what they hear of SharedObjects and others."""

from typing import TYPE_CHECKING, Any

from headwater_amf import amf0
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.message import COMMANDS, OBJECTS, Message
from headwater_rtmp.rtmpt import Verb, session_target
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object

from support.resuming_edges import GROUP
from support.tunnels import Request

if TYPE_CHECKING:
    from support.roaming_edges import RoamingEdge

_USE, _RELEASE, _USED = EventType.USE, EventType.RELEASE, EventType.USE_SUCCESS
_CHANGE, _SUCCESS, _SEND, _CLEAR, _REMOVE = (
    EventType.CHANGE,
    EventType.SUCCESS,
    EventType.SEND_MESSAGE,
    EventType.CLEAR,
    EventType.REMOVE,
)
ObjectName = tuple[str, bool]
Heard = tuple[Any, ...]
"""("change", key, value), ("success", key), ("send", value), ("remove", key), ("clear",), ("status", code)."""


class Segment:
    """What a client has heard of an object since a UseSuccess: the content that came with it, and the events behind it."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.heard: list[Heard] = []


class Roamer:
    """A client. `sequence`: all that it has heard, in order: words, and where in segments what it has heard of objects is."""

    def __init__(self, number: int, amf3: bool) -> None:
        self.number, self.amf3 = number, amf3
        self.rtmp = Connection.client()
        self.out = b""
        self.key = ""
        self.request_number = 0
        self.body: bytes | None = b"\x00"
        """Of the request that is not answered yet; None: all are."""
        self.verb: Verb | None = None
        """None: it opens its session."""
        self.attempt: Request | None = None
        """By which it hears the answer."""
        self.before: Request | None = None
        """The last one."""
        self.at = ""
        """The name of the edge that it asked last."""
        self.ended = ""
        self.session_id = ""
        self.using: set[ObjectName] = set()
        self.segments: dict[ObjectName, list[Segment]] = {}
        self.uses: dict[ObjectName, int] = {}
        self.corrected: dict[ObjectName, set[str]] = {}
        """Slots that it wanted to be gone; empty: all. If they were not there, it is told what they are."""
        self.asked: list[float] = []
        """Values of calls, whose transaction they are."""
        self.answers: list[tuple[float, Any]] = []
        self.words: list[float] = []
        self.sequence: list[float | tuple[Segment, int]] = []
        self.news = 0
        """How often it has heard something."""

    # What it does

    def connect(self) -> None:
        about = {"app": GROUP, "tcUrl": f"rtmpt://x/{GROUP}", "objectEncoding": 3.0 if self.amf3 else 0.0}
        self.out += self.rtmp.send(encode_command("connect", 1, about))

    def command(self, name: str, value: float, transaction: float = 0.0) -> None:
        if transaction:
            self.asked.append(transaction)
        self.out += self.rtmp.send(encode_command(name, transaction, None, value, amf3=self.amf3))

    def ask(self, name: ObjectName, *events: tuple[Any, ...]) -> None:
        """A SharedObject message; events are (type, key, value), values are Python's."""
        made = []
        for kind, *rest in events:
            if kind in (EventType.REQUEST_REMOVE, EventType.REQUEST_CLEAR):
                self.corrected.setdefault(name, set()).add(rest[0] if rest else "")
            if kind == _SEND:
                made.append(Event(kind, None, amf0.encode(*rest)))
            else:
                made.append(
                    Event(kind, rest[0] if rest else None, amf0.encode(rest[1]) if rest[1:] else None)
                )
        self.out += self.rtmp.send(encode_shared_object(name[0], 0, name[1], made, self.amf3))

    def use(self, name: ObjectName, *events: tuple[Any, ...]) -> None:
        self.using.add(name)
        self.uses[name] = self.uses.get(name, 0) + 1
        self.ask(name, (_USE,), *events)

    def release(self, name: ObjectName, *events: tuple[Any, ...]) -> None:
        self.using.discard(name)
        self.ask(name, *events, (_RELEASE,))

    # Its requests

    def post(self, edge: "RoamingEdge", gone: bool = True) -> None:
        """Ask an edge: once more, if it has not heard the answer; `gone`: the edge that it asked last sees that it waits there no
        more, as it must where it has nothing to do but wait."""
        if self.ended:
            return
        if self.body is None:
            self.verb = Verb.SEND if self.out else Verb.IDLE
            self.body, self.out = self.out or b"\x00", b""
        if self.before is not None and (gone or self.verb is Verb.IDLE):
            self.before.gone = True
        target = "/open/1" if self.verb is None else session_target(self.verb, self.key, self.request_number)
        self.attempt = self.before = Request(target, self.body)
        self.at = edge.name
        edge.inbox.append(self.attempt)

    def bye(self, edge: "RoamingEdge") -> None:
        """Nothing is under way: it closes its session."""
        self.body, self.verb = b"\x00", Verb.CLOSE
        self.post(edge)

    def deaf(self, gone: bool = False) -> None:
        """The answer does not come through; `gone`: whoever gives it sees that."""
        if self.attempt is not None:
            self.attempt.gone = gone
        self.attempt = None

    def look(self) -> bool:
        """Take the answer, if it is there; returns whether it says something."""
        attempt = self.attempt
        if attempt is None or not attempt.done:
            return False
        self.attempt = None
        if attempt.aborted:
            return False
        verb, self.body = self.verb, None
        if attempt.status != 200:
            self.ended = f"{attempt.status} for {attempt.target}"
            return False
        if verb is None:
            self.key, self.verb = attempt.reply.decode().removesuffix("\n"), Verb.IDLE
            self.out = self.rtmp.data_to_send()
            return True
        self.request_number += 1
        if verb is Verb.CLOSE or attempt.reply == b"\x00":
            self.ended = "closed" if verb is Verb.CLOSE else "closed by the edge"
        self.rtmp.feed(attempt.reply[1:])
        while (event := self.rtmp.next_event()) is not None:
            if isinstance(event, Message):
                self._take(event)
        self.out += self.rtmp.data_to_send()
        self.news += len(attempt.reply) > 1
        return len(attempt.reply) > 1

    @property
    def wants(self) -> bool:
        """Whether it has something to say, or waits for an answer that does not come."""
        return bool(self.out) or (self.body is not None and self.attempt is None)

    # What it hears

    def _take(self, message: Message) -> None:
        if message.type_id in OBJECTS:
            self._object(message)
        elif message.type_id in COMMANDS:
            command = decode_command(message)
            if command.name == "word":
                self.words.append(command.args[0])
                self.sequence.append(command.args[0])
            elif command.name in ("_result", "_error") and command.transaction_id > 1:
                self.answers.append((command.transaction_id, command.args[0]))
            elif command.name == "_result":
                self.session_id = command.args[0]["clientid"]

    def _object(self, message: Message) -> None:
        about = decode_shared_object(message)
        name, events = (about.name, about.persistent), about.events
        segments = self.segments.setdefault(name, [])
        kinds = [event.type for event in events]
        if _USED in kinds:
            assert kinds[:2] == [_USED, _CLEAR], kinds
            assert set(kinds[2:]) <= {_CHANGE}, kinds
            content = {event.key or "": _value(event) for event in events[2:]}
            segments.append(Segment(content))
            return
        assert segments, f"before it is used: {events}"
        heard = segments[-1].heard
        for event in events:
            self.sequence.append((segments[-1], len(heard)))
            heard.append(_plain(event))


def _value(event: Event) -> Any:
    return amf0.decode(event.value or b"")[0]


def _plain(event: Event) -> Heard:
    kind, key = event.type, event.key or ""
    if kind == _CHANGE:
        return ("change", key, _value(event))
    if kind == _SUCCESS:
        return ("success", key)
    if kind == _SEND:
        return ("send", amf0.decode_all(event.value or b"")[1])
    if kind == _REMOVE:
        return ("remove", key)
    return ("clear",) if kind == _CLEAR else ("status", event.code)
