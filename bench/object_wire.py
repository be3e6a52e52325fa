"""SharedObject messages of the load as bytes (RTMP 1.0, 7.1.3): requests joined from prepared parts, and what comes back
compared whole with what it must be. Both cost much less than the server's work.

A message changes some slots of one object, all to the same value: a string of the requester's message number and the time of
its sending. Names and values have fixed lengths, so everything stands at fixed places. A server compresses no headers.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import EventType, decode_shared_object, encode_event, encode_header

from bench.object_layout import ClientSpec

CHUNK_BYTES = 4096
"""Of what clients send: a whole request."""
MOST_CHANGES = 50
"""In one message; more would not fit the chunk."""
_VALUE = b"\x02\x00\x18%08x%016x"  # AMF0 string of 24 bytes
_VALUE_BYTES = 27
_HEAD_BYTES = 12  # chunk header of type 0
_NAME, _VERSION, _BODY = 14, 19, 23  # offsets from the chunk header on: name, version, what follows it
_KIND, _REQUESTER, _TEXT = 31, 38, 46  # first event: type, first digits of its slot, the string in its value
_VERSION_END, _REQUESTER_END, _TEXT_END = _BODY, _REQUESTER + 2, _TEXT + 24
_CHANGE, _SUCCESS = int(EventType.CHANGE), int(EventType.SUCCESS)
_OBJECT = int(MessageType.SHARED_OBJECT_AMF0)
_ALIKE_KEPT = 1000
_Alike = dict[tuple[bytes, int], tuple[bytes, int, bytes, int, bytes, int]]
"""By the version and the size that received bytes begin with and have."""


def object_name(number: int) -> str:
    """5 characters."""
    return f"o{number:04d}"


def slot_name(requester: int, slot: int) -> str:
    """5 characters; each requester changes slots of its own."""
    return f"{requester:02d}.{slot:02d}"


def make_value(number: int, sent_ns: int) -> bytes:
    """The value of every slot that a message changes."""
    return _VALUE % (number, sent_ns)


def _parts(kind: EventType, requester: int, batch: int) -> list[bytes]:
    """What stands before, between and behind the values of a message's events."""
    blank = bytes(_VALUE_BYTES)
    events = [encode_event(kind, slot_name(requester, slot), blank) for slot in range(batch)]
    return [*(event[:-_VALUE_BYTES] for event in events), b""]


class Requests:
    """What one requester sends: messages of `batch` changes."""

    def __init__(self, number: int, requester: int, batch: int, persistent: bool) -> None:
        first, *others = _parts(EventType.REQUEST_CHANGE, requester, batch)
        header = encode_header(object_name(number), 0, persistent, False)
        size = len(make_value(0, 0).join([header + first, *others]))
        chunk = encode_message(Message(_OBJECT, 0, 0, bytes(size)), csid_for(_OBJECT), CHUNK_BYTES)
        self._parts = [chunk[:_HEAD_BYTES] + header + first, *others]

    def message(self, number: int, sent_ns: int) -> bytes:
        """The `number`th, from 1."""
        return make_value(number, sent_ns).join(self._parts)


class Expected:
    """What messages must look like from the version on, for all members. Changes by name and first digits of their slots.

    `alike`: by object, what its listeners have received: all get the same bytes, so those that one has checked need only be
    compared with another's, where both knew the same before: (bytes, number and version before, both behind, messages).
    """

    def __init__(self, clients: Iterable[ClientSpec], batch: int, persistent: bool) -> None:
        self.changes: dict[bytes, list[bytes]] = {}
        self.answers: dict[bytes, bytes] = {}
        self.alike: dict[int, _Alike] = {}
        for client in clients:
            if client.requester is None:
                continue
            (number,) = client.objects
            key = sender_key(number, client.requester)
            behind = encode_header(object_name(number), 0, persistent, False)[_BODY - _HEAD_BYTES :]
            first, *others = _parts(EventType.CHANGE, client.requester, batch)
            self.changes[key] = [behind + first, *others]
            slots = [slot_name(client.requester, slot) for slot in range(batch)]
            self.answers[key] = behind + b"".join(encode_event(EventType.SUCCESS, slot) for slot in slots)
            self.alike[number] = {}


def sender_key(number: int, requester: int) -> bytes:
    """Names a requester of an object as messages do."""
    return b"%s%02d" % (object_name(number).encode(), requester)


@dataclass(slots=True)
class Tally:
    """What all members of a process have seen. `answered` and `delivered` are messages. `missing`: messages that a member did
    not get; `disordered`: those behind a later one; `strange`: neither the Change nor the Success that was expected."""

    answered: int = 0
    delivered: int = 0
    missing: int = 0
    disordered: int = 0
    strange: int = 0
    latencies_ns: "array[int]" = field(default_factory=lambda: array("q"))

    @property
    def faults(self) -> int:
        """Of every kind."""
        return self.missing + self.disordered + self.strange


class Member:
    """What one client receives. `last`: by requester of its objects, the number of the last message it has seen or, of its own,
    was answered. `sampled`: takes the latency of everything it gets."""

    __slots__ = ("_alike", "_answer", "_expected", "_held", "_key", "_sampled", "_tally", "_versions", "last")

    def __init__(self, spec: ClientSpec, expected: Expected, tally: Tally, sampled: bool = True) -> None:
        self._expected, self._tally, self._sampled = expected, tally, sampled
        self._held = b""
        self._key = b"" if spec.requester is None else sender_key(spec.objects[0], spec.requester)
        self._answer = expected.answers.get(self._key)
        names = {object_name(number).encode() for number in spec.objects}
        self.last = {key: 0 for key in expected.changes if key[:-2] in names}
        self._versions = dict.fromkeys(names, b"")
        listens = spec.requester is None and len(self.last) == 1
        self._alike = expected.alike[spec.objects[0]] if listens else None

    @property
    def answered(self) -> int:
        """How many of its own messages are."""
        return self.last.get(self._key, 0)

    def take(self, data: bytes, now_ns: int) -> int:
        """Received bytes; returns how many of its own messages they answer. Raises RemoteProtocolError."""
        alike = self._alike
        if alike is None or self._held:
            return self._read(data, now_ns)
        ((key, number),) = self.last.items()
        name = key[:-2]
        version = self._versions[name]
        place = (data[_VERSION:_VERSION_END], len(data))
        known = None if self._sampled else alike.get(place)
        if known is not None and known[0] == data and known[1] == number and known[2] == version:
            self.last[key], self._versions[name] = known[3], known[4]
            self._tally.delivered += known[5]
            return 0
        before = self._tally.delivered, self._tally.faults
        self._read(data, now_ns)
        if not self._held and self._tally.faults == before[1]:
            if len(alike) >= _ALIKE_KEPT:
                alike.clear()
            count = self._tally.delivered - before[0]
            alike[place] = (data, number, version, self.last[key], self._versions[name], count)
        return 0

    def _read(self, data: bytes, now_ns: int) -> int:
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
                answered += self._message(data, at, stop, now_ns)
            at = stop
        self._held = data[at:]
        return answered

    def _message(self, data: bytes, at: int, stop: int, now_ns: int) -> int:
        tally = self._tally
        tally.delivered += 1
        kind = data[at + _KIND] if stop - at > _KIND else 0
        name = data[at + _NAME : at + _VERSION]
        version = data[at + _VERSION : at + _VERSION_END]
        if kind == _CHANGE:
            key = name + data[at + _REQUESTER : at + _REQUESTER_END]
            parts = self._expected.changes.get(key)
            value = data[at + _TEXT - 3 : at + _TEXT_END]
            if parts is not None and key in self.last and data[at + _BODY : stop] == value.join(parts):
                number = int(value[3:11], 16)
                if self._sampled:
                    tally.latencies_ns.append(now_ns - int(value[11:], 16))
                self._order(name, version, key, number)
                return 0
        elif kind == _SUCCESS and data[at + _BODY : stop] == self._answer:
            tally.answered += 1
            self._order(name, version, self._key, self.last[self._key] + 1)
            return 1
        return self._other(Message(_OBJECT, 0, 0, data[at + _HEAD_BYTES : stop]))

    def _other(self, message: Message) -> int:
        """Take what can be taken of a message that is not one of those that were sent; returns how many of its own it answers."""
        self._tally.strange += 1
        decoded = decode_shared_object(message)
        for event in decoded.events:
            number = value_number(event.value or b"")
            if event.type == EventType.CHANGE and event.key and number is not None:
                key = decoded.name.encode() + event.key.encode()[:2]
                if key in self.last and key != self._key:
                    self.last[key] = max(self.last[key], number)
        return 0

    def _order(self, name: bytes, version: bytes, key: bytes, number: int) -> None:
        before = self.last[key]
        if number <= before or version <= self._versions[name]:
            self._tally.disordered += 1
        if number > before:
            self._tally.missing += number - before - 1
            self.last[key] = number
        self._versions[name] = version


def value_number(value: bytes) -> int | None:
    """The message's number in a value; None for another's value."""
    try:
        return int(value[3:11], 16) if len(value) == _VALUE_BYTES else None
    except ValueError:
        return None
