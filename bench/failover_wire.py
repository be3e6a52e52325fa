"""What a member of the fail-over load receives: every change with its time, in messages of any shape."""

from array import array

from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import EventType, decode_shared_object

from bench.object_layout import ClientSpec
from bench.object_wire import Expected, Member, Tally, value_number


class Watcher(Member):
    """A member that notes what it gets. `arrivals_ns` and `numbers`: of each message of its object's writer, or of each answer
    where it is the writer.

    Changes of several messages may come in one, as after a fail-over, but none may be missing, come twice or out of order."""

    __slots__ = ("_now_ns", "arrivals_ns", "numbers")

    def __init__(self, spec: ClientSpec, expected: Expected, tally: Tally) -> None:
        super().__init__(spec, expected, tally, sampled=False)
        self.arrivals_ns = array("q")
        self.numbers = array("q")
        self._now_ns = 0

    def forget(self) -> None:
        """Note from now on."""
        del self.arrivals_ns[:], self.numbers[:]

    def take(self, data: bytes, now_ns: int) -> int:
        """Received bytes; returns how many of its own messages they answer. Raises RemoteProtocolError."""
        self._now_ns = now_ns
        return self._read(data, now_ns)

    def _other(self, message: Message) -> int:
        """Raises RemoteProtocolError."""
        decoded = decode_shared_object(message)
        name, version, answered = decoded.name.encode(), decoded.version.to_bytes(4, "big"), 0
        for event in decoded.events:
            key = name + event.key.encode()[:2] if event.key else b""
            number = value_number(event.value or b"")
            if (
                event.type == EventType.CHANGE
                and number is not None
                and key in self.last
                and key != self._key
            ):
                self._order(name, version, key, number)
            elif event.type == EventType.SUCCESS and key and key == self._key:
                self._tally.answered += 1
                answered += 1
                self._order(name, version, key, self.last[key] + 1)
            else:
                self._tally.strange += 1
        return answered

    def _order(self, name: bytes, version: bytes, key: bytes, number: int) -> None:
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
