"""One end of an RTMP connection, sans-IO: handshake, chunks, and what the protocol answers by itself.

`feed()` received bytes, take `next_event()` until it gives None, send what `data_to_send()` and `send()` return. Control
messages are obeyed here; everything else comes out as a `Message`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NoReturn

from headwater_rtmp import control
from headwater_rtmp.aggregate import split_aggregate
from headwater_rtmp.chunk import (
    DEFAULT_LIMITS,
    ChunkLimits,
    ChunkReader,
    ChunkWriter,
    csid_for,
    encode_message,
)
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.handshake import ClientHandshake, ServerHandshake
from headwater_rtmp.message import Message, MessageType

_MASK32 = 0xFFFFFFFF
_SMALLEST_WINDOW = (
    4096  # A peer that asks for acknowledgements more often would have us send more than we receive.
)
_DEFAULT_WINDOW = 2_500_000


@dataclass(slots=True, frozen=True)
class HandshakeCompleted:
    """Messages may be sent from now on. `digest_scheme` is 0 or 1, None after a handshake without digests."""

    digest_scheme: int | None = None


@dataclass(slots=True, frozen=True)
class Acknowledged:
    """The peer says how many bytes it received, modulo 2**32."""

    received_bytes: int


@dataclass(slots=True, frozen=True)
class PongReceived:
    """The answer to `send_ping`: its time in ms, and what passed since then by the `now` of `next_event`."""

    timestamp: int
    round_trip_ms: int


@dataclass(slots=True, frozen=True)
class BufferLengthSet:
    """A client tells how much it buffers of a stream."""

    stream_id: int
    buffer_ms: int


Event = (
    Message | HandshakeCompleted | Acknowledged | PongReceived | BufferLengthSet | control.UserControlEvent
)


class Connection:
    """See the module. Made by `Connection.server()` or `Connection.client()`; dead after an error.

    The handshake's bytes go first: `send` puts them in front when `data_to_send` has not given them out. Everything else
    (what `send` returns, bytes of `encode_message` shared with others, what `data_to_send` returns) may go out in any
    order, except around a change of the chunk size. A client compresses headers, so on its csids nothing but `send` may
    write; a server does not, and keeps no state for sending but `chunk_size`. `window_ack_size` (bytes) is what
    `send_greeting` announces; `received_bytes` counts the handshake too.
    """

    __slots__ = (
        "_aggregate",
        "_announced_window",
        "_answers",
        "_completed",
        "_dead",
        "_handshake",
        "_inside",
        "_inside_taken",
        "_leading",
        "_reader",
        "_received_acked",
        "_window",
        "_writer",
        "chunk_size",
        "peer_acknowledged",
        "peer_bandwidth",
        "received_bytes",
        "window_ack_size",
    )

    def __init__(
        self,
        handshake: ServerHandshake | ClientHandshake,
        limits: ChunkLimits | None = None,
        window_ack_size: int = _DEFAULT_WINDOW,
    ) -> None:
        client = isinstance(handshake, ClientHandshake)
        self._handshake: ServerHandshake | ClientHandshake | None = handshake
        self._reader = ChunkReader(limits or DEFAULT_LIMITS, before_connect=not client)
        self._writer = ChunkWriter() if client else None
        self._answers: bytearray | None = None
        self._leading = client  # Whether bytes of the handshake are among the answers.
        if client:
            self._answer(handshake.feed(b""))
        self._completed: HandshakeCompleted | None = None
        self._dead = ""
        self._inside: Iterator[Message] | None = None  # The rest of an aggregate.
        self._aggregate: Message | None = None  # That one, of which so many messages were taken.
        self._inside_taken = 0
        self._received_acked = 0
        self._window = 0
        self._announced_window = 0
        self.chunk_size = 128
        """Of what `send` writes; follows the Set Chunk Size messages that go through `send`."""
        self.peer_acknowledged = 0
        self.peer_bandwidth = 0
        """What the peer lets us have unacknowledged, in bytes; 0: it did not say."""
        self.received_bytes = 0
        self.window_ack_size = window_ack_size

    @classmethod
    def server(
        cls,
        limits: ChunkLimits | None = None,
        window_ack_size: int = _DEFAULT_WINDOW,
        handshake: ServerHandshake | None = None,
    ) -> "Connection":
        """The end that waits for C0. The limits for strangers hold until `connected()`."""
        return cls(handshake or ServerHandshake(), limits, window_ack_size)

    @classmethod
    def client(
        cls,
        digest: bool = False,
        limits: ChunkLimits | None = None,
        window_ack_size: int = _DEFAULT_WINDOW,
        handshake: ClientHandshake | None = None,
    ) -> "Connection":
        """The end that begins: C0 and C1 are in `data_to_send()` at once."""
        return cls(handshake or ClientHandshake(digest), limits, window_ack_size)

    @property
    def handshaken(self) -> bool:
        """Whether the handshake is done."""
        return self._handshake is None

    @property
    def held_bytes(self) -> int:
        """Bytes received that are not yet part of a message."""
        return self._reader.held_bytes

    def dump(self) -> list[Any]:
        """What another process needs to go on with a server's end, at any point between two calls, but for what is its owner's:
        limits and `window_ack_size`. Lists of ints, bytes, bools and None. A dead connection has none: raises
        LocalProtocolError."""
        self._check_alive()
        handshake = self._handshake
        assert not isinstance(handshake, ClientHandshake)
        aggregate = None if self._inside is None else self._aggregate
        completed = self._completed
        return [
            None if handshake is None else handshake.dump(),
            None if completed is None else [completed.digest_scheme],
            self._reader.dump(),
            None if self._answers is None else bytes(self._answers),
            self._leading,
            None
            if aggregate is None
            else [aggregate.stream_id, aggregate.timestamp, bytes(aggregate.payload), self._inside_taken],
            self._received_acked,
            self._window,
            self._announced_window,
            self.chunk_size,
            self.peer_acknowledged,
            self.peer_bandwidth,
            self.received_bytes,
        ]

    @classmethod
    def load(
        cls,
        dumped: list[Any],
        limits: ChunkLimits | None = None,
        window_ack_size: int = _DEFAULT_WINDOW,
    ) -> "Connection":
        """What `dump` gave. Raises ValueError."""
        connection = cls.server(limits, window_ack_size)
        try:
            handshake, completed, reader, answers, connection._leading, aggregate, *counts = dumped[:13]
            connection._handshake = None if handshake is None else ServerHandshake.load(handshake)
            connection._completed = None if completed is None else HandshakeCompleted(completed[0])
            connection._reader = ChunkReader.load(reader, limits or DEFAULT_LIMITS)
            connection._answers = None if answers is None else bytearray(answers)
            if aggregate is not None:
                *fields, taken = aggregate
                connection._open_aggregate(Message(int(MessageType.AGGREGATE), *fields))
                connection._inside_taken = sum(1 for _ in islice(connection._inside or (), taken))
            (
                connection._received_acked,
                connection._window,
                connection._announced_window,
                connection.chunk_size,
                connection.peer_acknowledged,
                connection.peer_bandwidth,
                connection.received_bytes,
            ) = counts
        except (ValueError, TypeError, LookupError) as error:
            raise ValueError(f"no dump of a connection, expected what dump() gave: {error}") from error
        return connection

    def connected(self) -> None:
        """Connect was accepted: the reader's full limits hold."""
        self._reader.connected()

    def feed(self, data: bytes) -> None:
        """Received bytes. Raises RemoteProtocolError, and LocalProtocolError after an error."""
        self._check_alive()
        self.received_bytes += len(data)
        handshake = self._handshake
        if handshake is None:
            self._reader.feed(data)
            return
        try:
            answer = handshake.feed(data)
        except RemoteProtocolError as error:
            self._die(error)
        if answer:
            self._answer(answer)
            self._leading = True
        if handshake.done:
            self._handshake = None
            self._completed = HandshakeCompleted(handshake.digest_scheme)
            self._reader.feed(handshake.rest)

    def next_event(self, now: float = 0.0) -> Event | None:
        """The next event, or None when more bytes are needed. Raises RemoteProtocolError. `now` is monotonic seconds."""
        self._check_alive()
        if self._completed is not None:
            completed, self._completed = self._completed, None
            return completed
        try:
            return self._next_event(now)
        except RemoteProtocolError as error:
            self._die(error)

    def _next_event(self, now: float) -> Event | None:
        while True:
            if self._inside is not None:
                inner = next(self._inside, None)
                if inner is not None:
                    self._inside_taken += 1
                    return inner
                self._inside = self._aggregate = None
            message = self._reader.next_message()
            if message is None:
                return None
            type_id = message.type_id
            if type_id > MessageType.SET_PEER_BANDWIDTH:
                if type_id != MessageType.AGGREGATE:
                    return message
                self._open_aggregate(message)
            elif (event := self._obey(message, now)) is not None:
                return event

    def _open_aggregate(self, message: Message) -> None:
        self._aggregate, self._inside_taken = message, 0
        self._inside = split_aggregate(message)

    def _obey(self, message: Message, now: float) -> Event | None:
        """Carry out a control message. Set Chunk Size and Abort were obeyed by the reader."""
        type_id = message.type_id
        if type_id == MessageType.USER_CONTROL:
            return self._user_control(control.parse_user_control(message), now)
        if type_id == MessageType.ACKNOWLEDGEMENT:
            self.peer_acknowledged = control.parse_u32(message)
            return Acknowledged(self.peer_acknowledged)
        if type_id == MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE:
            window = control.parse_u32(message)
            if window:
                self._window = max(window, _SMALLEST_WINDOW)
        elif type_id == MessageType.SET_PEER_BANDWIDTH:
            self._limit_bandwidth(message)
        elif type_id == 0:
            raise RemoteProtocolError("message type 0, expected 1 or more")
        return None

    def _user_control(self, event: control.UserControlEvent, now: float) -> Event | None:
        kind = event.event
        if kind == control.UserControl.PING_REQUEST:
            self._answer(self._encode(control.ping_response(event.value)))
            return None
        if kind == control.UserControl.PING_RESPONSE:
            return PongReceived(event.value, (_milliseconds(now) - event.value) & _MASK32)
        if kind == control.UserControl.SET_BUFFER_LENGTH:
            return BufferLengthSet(event.value, event.buffer_ms)
        return event

    def _limit_bandwidth(self, message: Message) -> None:
        """The peer limits what we may have unacknowledged; the answer, unless it knows, tells it to acknowledge that often
        (5.4.5). A soft limit only lowers; a dynamic one is taken as hard. A size of 0 means nothing."""
        size = control.parse_u32(message)
        soft = message.payload[4:5] == bytes((control.PeerBandwidthLimit.SOFT,))
        if soft and self.peer_bandwidth:
            size = min(size, self.peer_bandwidth)
        if not size:
            return
        self.peer_bandwidth = size
        if size != self._announced_window:
            self._announced_window = size
            self._answer(self._encode(control.window_acknowledgement_size(size)))

    def _answer(self, data: bytes) -> None:
        if self._answers is not None:
            self._answers += data  # In place: a peer may send a megabyte of pings at once.
        elif data:
            self._answers = bytearray(data)

    def data_to_send(self) -> bytes:
        """What the protocol answers by itself: handshake, acknowledgements, ping responses. Empties the queue."""
        answers = b""
        if self._answers is not None:
            answers = bytes(self._answers)
            self._answers = None
            self._leading = False
        window = self._window
        if window and self.received_bytes - self._received_acked >= window and not self._dead:
            self._received_acked = self.received_bytes
            answers += self._encode(control.acknowledgement(self.received_bytes))
        return answers

    def send(self, message: Message, csid: int | None = None) -> bytes:
        """The bytes of a message. Raises LocalProtocolError: before the handshake is done, after an error, and for a
        message that fits no header."""
        self._check_open()
        data = self._encode(message, csid)
        return self.data_to_send() + data if self._leading else data

    def _encode(self, message: Message, csid: int | None = None) -> bytes:
        if csid is None:
            csid = csid_for(message.type_id)
        writer = self._writer
        if writer is not None:
            data = writer.encode(message, csid)
            self.chunk_size = writer.chunk_size
            return data
        data = encode_message(message, csid, self.chunk_size)
        if message.type_id == MessageType.SET_CHUNK_SIZE:
            self.chunk_size = control.parse_u32(message)
        return data

    def send_chunk_size(self, size: int) -> bytes:
        """Announce a chunk size in bytes, 1 to 0x7FFFFFFF, and use it from then on."""
        if not 0 < size <= 0x7FFFFFFF:
            raise LocalProtocolError(f"chunk size {size}, expected 1 to {0x7FFFFFFF}")
        return self.send(control.set_chunk_size(size))

    def send_greeting(self, chunk_size: int) -> bytes:
        """A server's first words: the peer is to acknowledge every `window_ack_size` bytes, and may have as many unacknowledged;
        chunks have this size in bytes from then on. Raises LocalProtocolError as `send` does."""
        self._check_open()
        data = _greeting(self.window_ack_size, chunk_size, self.chunk_size)
        self._announced_window, self.chunk_size = self.window_ack_size, chunk_size
        return self.data_to_send() + data if self._leading else data

    def send_ping(self, now: float) -> bytes:
        """Ask whether the peer is there; the answer is a PongReceived. `now` is monotonic seconds."""
        return self.send(control.ping_request(_milliseconds(now)))

    def _check_open(self) -> None:
        self._check_alive()
        if self._handshake is not None:
            raise LocalProtocolError(
                "a message before the handshake is done, expected it after HandshakeCompleted"
            )

    def _check_alive(self) -> None:
        if self._dead:
            raise LocalProtocolError(f"the connection is dead: {self._dead}")

    def _die(self, error: RemoteProtocolError) -> NoReturn:
        self._dead = str(error)
        self._reader = ChunkReader(self._reader.limits)  # Nothing is held for a dead connection.
        self._inside = self._aggregate = None
        raise error


@lru_cache(maxsize=16)
def _greeting(window_ack_size: int, chunk_size: int, before: int) -> bytes:
    """The same for all clients of a server; `before`: the chunk size until then."""
    messages = (
        control.window_acknowledgement_size(window_ack_size),
        control.set_peer_bandwidth(window_ack_size),
        control.set_chunk_size(chunk_size),
    )
    return b"".join(encode_message(message, csid_for(message.type_id), before) for message in messages)


def _milliseconds(now: float) -> int:
    return int(now * 1000) & _MASK32


def transfer(a: Connection, b: Connection) -> None:
    """Carry what both protocols want to send to the other end, until neither has more. Events stay to be taken."""
    while (from_a := a.data_to_send()) or (from_b := b.data_to_send()):
        if from_a:
            b.feed(from_a)
        else:
            a.feed(from_b)
