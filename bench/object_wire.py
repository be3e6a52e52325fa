"""SharedObject messages of the load in Python as bytes (RTMP 1.0, 7.1.3): what a member sends, and what it notes of what it gets.

A message changes one slot, to a string of the requester's message number and the time of its sending.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object

from bench.object_layout import ClientSpec

CHUNK_BYTES = 4096
"""Of what clients send: a whole request."""
_VALUE = b"\x02\x00\x18%08x%016x"  # AMF0 string of 24 bytes
_VALUE_BYTES = 27
_HEAD_BYTES = 12  # chunk header of type 0
_OBJECT = int(MessageType.SHARED_OBJECT_AMF0)


def object_name(number: int) -> str:
    """5 characters."""
    return f"o{number:04d}"


def slot_name(requester: int, slot: int) -> str:
    """5 characters; each requester changes slots of its own."""
    return f"{requester:02d}.{slot:02d}"


def sender_key(number: int, requester: int) -> bytes:
    """Names a requester of an object as messages do."""
    return b"%s%02d" % (object_name(number).encode(), requester)


def make_value(number: int, sent_ns: int) -> bytes:
    """The value of what a message changes."""
    return _VALUE % (number, sent_ns)


def value_number(value: bytes) -> int | None:
    """The message's number in a value; None for another's value."""
    try:
        return int(value[3:11], 16) if len(value) == _VALUE_BYTES else None
    except ValueError:
        return None


def encode_request(client: ClientSpec, number: int, sent_ns: int, persistent: bool) -> bytes:
    """The `number`th message of a client that requests, from 1."""
    assert client.requester is not None
    change = Event(EventType.REQUEST_CHANGE, slot_name(client.requester, 0), make_value(number, sent_ns))
    message = encode_shared_object(object_name(client.objects[0]), 0, persistent, [change])
    return encode_message(message, csid_for(message.type_id), CHUNK_BYTES)


def senders(clients: Iterable[ClientSpec]) -> list[bytes]:
    """The keys of all that request."""
    return [
        sender_key(client.objects[0], client.requester) for client in clients if client.requester is not None
    ]


@dataclass(slots=True)
class Tally:
    """What all members of a process have seen. `answered` are events, `delivered` messages. `missing`: messages that a member did
    not get; `disordered`: those behind a later one; `strange`: neither a Change nor a Success that it may get."""

    answered: int = 0
    delivered: int = 0
    missing: int = 0
    disordered: int = 0
    strange: int = 0

    @property
    def faults(self) -> int:
        """Of every kind."""
        return self.missing + self.disordered + self.strange


class Member:
    """What one client receives. `last`: by requester of its objects (`known`: of all objects), the number of the last message it
    has seen or, of its own, was answered. `arrivals_ns` and `numbers`: of each message of others, or of each answer.

    Changes of several messages may come in one, but none may be missing, come twice or out of order. A server compresses no
    headers and sends chunks that are large enough."""

    __slots__ = ("_held", "_key", "_now_ns", "_tally", "_versions", "arrivals_ns", "last", "numbers")

    def __init__(self, spec: ClientSpec, known: Iterable[bytes], tally: Tally) -> None:
        self._tally = tally
        self._held, self._now_ns = b"", 0
        self._key = b"" if spec.requester is None else sender_key(spec.objects[0], spec.requester)
        names = {object_name(number).encode() for number in spec.objects}
        self.last = {key: 0 for key in known if key[:-2] in names}
        self._versions = dict.fromkeys(names, 0)
        self.arrivals_ns, self.numbers = array("q"), array("q")

    @property
    def answered(self) -> int:
        """How many of its own messages are."""
        return self.last.get(self._key, 0)

    def forget(self) -> None:
        """Note arrivals from now on."""
        del self.arrivals_ns[:], self.numbers[:]

    def take(self, data: bytes, now_ns: int) -> int:
        """Bytes received at `now_ns`; returns how many of its own messages they answer. Raises RemoteProtocolError."""
        self._now_ns = now_ns
        if self._held:
            data = self._held + data
        at, end = 0, len(data)
        answered = 0
        while end - at >= _HEAD_BYTES:
            stop = at + _HEAD_BYTES + (data[at + 4] << 16 | data[at + 5] << 8 | data[at + 6])
            if stop > end:
                break
            if data[at] >> 6:
                raise RemoteProtocolError(f"chunk header 0x{data[at]:02x}, expected one of type 0")
            if data[at + 7] == _OBJECT:
                answered += self._message(Message(_OBJECT, 0, 0, data[at + _HEAD_BYTES : stop]))
            at = stop
        self._held = data[at:]
        return answered

    def _message(self, message: Message) -> int:
        decoded = decode_shared_object(message)
        name, answered = decoded.name.encode(), 0
        self._tally.delivered += 1
        for event in decoded.events:
            key = name + event.key.encode()[:2] if event.key else b""
            number = value_number(event.value or b"")
            if (
                event.type == EventType.CHANGE
                and number is not None
                and key in self.last
                and key != self._key
            ):
                self._order(name, decoded.version, key, number)
            elif event.type == EventType.SUCCESS and key and key == self._key:
                self._tally.answered += 1
                answered += 1
                self._order(name, decoded.version, key, self.last[key] + 1)
            else:
                self._tally.strange += 1
        return answered

    def _order(self, name: bytes, version: int, key: bytes, number: int) -> None:
        before = self.last[key]
        # Several of its events may stand under one version.
        if number <= before or version < self._versions[name]:
            self._tally.disordered += 1
        if number <= before:
            return
        self._tally.missing += number - before - 1
        self.last[key], self._versions[name] = number, max(version, self._versions[name])
        self.arrivals_ns.append(self._now_ns)
        self.numbers.append(number)
