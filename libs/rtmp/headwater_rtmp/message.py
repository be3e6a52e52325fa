"""RTMP messages as they stand between the chunk layer and everything above it (RTMP 1.0, section 6)."""

from dataclasses import dataclass
from enum import IntEnum


class MessageType(IntEnum):
    """Message type ids (RTMP 1.0, sections 5.4, 6.2 and 7.1)."""

    SET_CHUNK_SIZE = 1
    ABORT = 2
    ACKNOWLEDGEMENT = 3
    USER_CONTROL = 4
    WINDOW_ACKNOWLEDGEMENT_SIZE = 5
    SET_PEER_BANDWIDTH = 6
    AUDIO = 8
    VIDEO = 9
    DATA_AMF3 = 15
    SHARED_OBJECT_AMF3 = 16
    COMMAND_AMF3 = 17
    DATA_AMF0 = 18
    SHARED_OBJECT_AMF0 = 19
    COMMAND_AMF0 = 20
    AGGREGATE = 22


# Plain ints, as `Message.type_id` is.
COMMANDS = frozenset(map(int, (MessageType.COMMAND_AMF0, MessageType.COMMAND_AMF3)))
"""Commands (7.1.1): connect, play, calls and their answers."""
DATA = frozenset(map(int, (MessageType.DATA_AMF0, MessageType.DATA_AMF3)))
"""Data messages (7.1.2): metadata, and what a stream carries for handlers of its players."""
OBJECTS = frozenset(map(int, (MessageType.SHARED_OBJECT_AMF0, MessageType.SHARED_OBJECT_AMF3)))
"""SharedObject messages (7.1.3)."""
MEDIA = frozenset(map(int, (MessageType.AUDIO, MessageType.VIDEO))) | DATA
"""What a published stream consists of, and all that FLV has tags for. An aggregate is not among them: it holds some."""


@dataclass(slots=True, init=False)
class Message:
    """One whole message. `timestamp` is in ms, unsigned, modulo 2**32; `payload` is shared, never changed in place."""

    type_id: int
    stream_id: int
    timestamp: int
    payload: bytes

    # Written out, as one that `dataclass` makes is never compiled.
    def __init__(self, type_id: int, stream_id: int, timestamp: int, payload: bytes) -> None:
        self.type_id = type_id
        self.stream_id = stream_id
        self.timestamp = timestamp
        self.payload = payload


@dataclass(slots=True, init=False)
class Counted(Message):
    """A message with the number that it has in its stream, which whoever keeps it may be asked for."""

    number: int

    def __init__(self, type_id: int, stream_id: int, timestamp: int, payload: bytes, number: int) -> None:
        Message.__init__(
            self, type_id, stream_id, timestamp, payload
        )  # `super()` finds the class without slots
        self.number = number
