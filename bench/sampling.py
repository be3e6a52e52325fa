"""What the sampled players learn from whole messages: latencies and gaps."""

from array import array
from dataclasses import dataclass

from headwater_rtmp.message import Message

from bench.stream import is_keyframe, read_stamp


@dataclass(slots=True)
class StampReader:
    """What one sampled player learns from its messages. `now_ns`: when the bytes at hand were received.

    Gaps count from the first keyframe on: until then a server may leave out what nobody can decode.
    """

    latencies_ns: "array[int]"
    now_ns: int = 0
    last: int = 0
    missing: int = 0
    disordered: int = 0
    started: bool = False

    def take(self, message: Message) -> None:
        """The next message of the stream; what has no stamp is passed over."""
        stamp = read_stamp(message)
        if stamp is None:
            return
        self.latencies_ns.append(self.now_ns - stamp.sent_ns)
        if not self.started:
            self.started = is_keyframe(message)
        elif stamp.number <= self.last:
            self.disordered += 1
            return
        else:
            self.missing += stamp.number - self.last - 1
        self.last = stamp.number
