"""One end of an RTMP connection, sans-IO: handshake, chunks, and what the protocol answers by itself.

`feed()` received bytes, take `next_event()` until it gives None, send what `data_to_send()` and `send()` return. Control
messages are obeyed here; everything else comes out as a `Message`.
"""

from collections import deque
from dataclasses import dataclass

from headwater_rtmp import control
from headwater_rtmp.chunk import ChunkLimits, ChunkReader, csid_for, encode_message
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.handshake import ClientHandshake, ServerHandshake
from headwater_rtmp.message import Message, MessageType

_MASK32 = 0xFFFFFFFF
_AGGREGATE_PARTS = 4096
_SUB_TYPES = frozenset((MessageType.AUDIO, MessageType.VIDEO, MessageType.DATA_AMF0, MessageType.DATA_AMF3))


@dataclass(slots=True, frozen=True)
class HandshakeCompleted:
    """Messages may be sent from now on."""


@dataclass(slots=True, frozen=True)
class Acknowledged:
    """The peer says how many bytes it received, modulo 2**32."""

    received_bytes: int


Event = Message | HandshakeCompleted | Acknowledged | control.UserControlEvent


class Connection:
    """See the module. Made by `Connection.server()` or `Connection.client()`; dead after an error."""

    __slots__ = (
        "_answers",
        "_dead",
        "_handshake",
        "_reader",
        "_received",
        "_received_acked",
        "_split",
        "_window",
        "chunk_size",
        "peer_acknowledged",
    )

    def __init__(
        self, handshake: ServerHandshake | ClientHandshake, limits: ChunkLimits | None = None
    ) -> None:
        self._handshake: ServerHandshake | ClientHandshake | None = handshake
        self._reader = ChunkReader(limits or ChunkLimits())
        self._answers = b""
        self._dead = False
        self._split: deque[Message] | None = None
        self._received = 0
        self._received_acked = 0
        self._window = 0
        self.chunk_size = 128
        """Of what `send` writes; follows the Set Chunk Size messages that go through `send`."""
        self.peer_acknowledged = 0

    @classmethod
    def server(cls, limits: ChunkLimits | None = None) -> "Connection":
        """The end that waits for C0."""
        return cls(ServerHandshake(), limits)

    @classmethod
    def client(cls, digest: bool = False, limits: ChunkLimits | None = None) -> "Connection":
        """The end that begins: C0 and C1 are in `data_to_send()` at once."""
        connection = cls(ClientHandshake(digest), limits)
        assert connection._handshake is not None
        connection._answers = connection._handshake.feed(b"")
        return connection

    @property
    def handshaken(self) -> bool:
        """Whether the handshake is done."""
        return self._handshake is None

    def connected(self) -> None:
        """Connect was accepted: the reader's full limits hold."""
        self._reader.connected()

    def feed(self, data: bytes) -> None:
        """Received bytes. Raises LocalProtocolError after an error."""
        if self._dead:
            raise LocalProtocolError("the connection is over after a protocol error")
        self._received += len(data)
        if self._handshake is None:
            self._reader.feed(data)
            return
        try:
            self._answers += self._handshake.feed(data)
        except RemoteProtocolError:
            self._dead = True
            raise

    def next_event(self, now: float = 0.0) -> Event | None:
        """The next event, or None when more bytes are needed. Raises RemoteProtocolError. `now` is monotonic seconds."""
        if self._handshake is not None:
            if not self._handshake.done:
                return None
            rest, self._handshake = self._handshake.rest, None
            if rest:
                self._reader.feed(rest)
            return HandshakeCompleted()
        try:
            return self._next_event()
        except RemoteProtocolError:
            self._dead = True
            raise

    def _next_event(self) -> Event | None:
        if self._split:
            return self._split.popleft()
        while (message := self._reader.next_message()) is not None:
            type_id = message.type_id
            if type_id in (MessageType.AUDIO, MessageType.VIDEO):
                return message
            if type_id <= MessageType.SET_PEER_BANDWIDTH:
                event = self._obey(message)
                if event is not None:
                    return event
            elif type_id == MessageType.AGGREGATE:
                self._split = deque(split_aggregate(message))
                if self._split:
                    return self._split.popleft()
            else:
                return message
        return None

    def _obey(self, message: Message) -> Event | None:
        """Carry out a control message. Set Chunk Size and Abort were obeyed by the reader."""
        type_id = message.type_id
        if type_id == MessageType.USER_CONTROL:
            event = control.parse_user_control(message)
            if event.event == control.UserControl.PING_REQUEST:
                self._answers += self.send(control.ping_response(event.value))
                return None
            return event
        if type_id == MessageType.ACKNOWLEDGEMENT:
            self.peer_acknowledged = control.parse_u32(message)
            return Acknowledged(self.peer_acknowledged)
        if type_id == MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE:
            self._window = control.parse_u32(message)
        elif type_id == MessageType.SET_PEER_BANDWIDTH:
            # The peer limits what we may have unacknowledged; the answer tells it to acknowledge that often (5.4.5).
            window = control.parse_u32(message)
            if window:
                self._answers += self.send(control.window_acknowledgement_size(window))
        return None

    def data_to_send(self) -> bytes:
        """What the protocol answers by itself: handshake, acknowledgements, ping responses."""
        answers = self._answers
        if answers:
            self._answers = b""
        if self._window and self._received - self._received_acked >= self._window and self._handshake is None:
            self._received_acked = self._received
            answers += self.send(control.acknowledgement(self._received))
        return answers

    def send(self, message: Message, csid: int | None = None) -> bytes:
        """The bytes of a message. Raises LocalProtocolError."""
        data = encode_message(
            message, csid if csid is not None else csid_for(message.type_id), self.chunk_size
        )
        if message.type_id == MessageType.SET_CHUNK_SIZE:
            self.chunk_size = control.parse_u32(message)
        return data


def split_aggregate(message: Message) -> list[Message]:
    """The messages inside an aggregate (RTMP 1.0, 7.1.6): FLV tags with back pointers; the first one's time becomes the
    aggregate's. Raises RemoteProtocolError."""
    payload = message.payload
    at = 0
    offset: int | None = None
    parts: list[Message] = []
    while at < len(payload):
        if len(payload) - at < 11:
            raise RemoteProtocolError(
                f"aggregate: {len(payload) - at} bytes left at {at}, expected a header of 11"
            )
        if len(parts) >= _AGGREGATE_PARTS:
            raise RemoteProtocolError(f"aggregate: more than {_AGGREGATE_PARTS} messages")
        type_id = payload[at]
        size = int.from_bytes(payload[at + 1 : at + 4], "big")
        timestamp = payload[at + 7] << 24 | int.from_bytes(payload[at + 4 : at + 7], "big")
        if type_id not in _SUB_TYPES:
            raise RemoteProtocolError(
                f"aggregate: message type {type_id} inside, expected audio, video or data"
            )
        if len(payload) - at - 11 < size:
            raise RemoteProtocolError(
                f"aggregate: message of {size} bytes at {at}, {len(payload) - at - 11} are left"
            )
        if offset is None:
            offset = message.timestamp - timestamp
        body = payload[at + 11 : at + 11 + size]
        parts.append(Message(type_id, message.stream_id, timestamp + offset & _MASK32, body))
        at += 11 + size + 4
    return parts
