"""One end of a link, without sockets or a clock: sequence numbers, acknowledgements, resend, credit, liveness.

A link carries batches of envelopes between one edge and one origin, both ways, each exactly once and in order
while both ends live. Every batch has a number; the receiver answers with the highest number up to which it has
everything (cumulative), and the sender keeps a batch until that number covers it. The receiver's window bounds
what may be under way unacknowledged, so ZeroMQ's own queues stay short and never drop anything.

On the wire every message is a header frame, a flat msgpack array that begins with a `Signal`, and for DATA the
frames of the batch behind it. `docs/wire.md` lists them.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgpack

from headwater_bus.codec import Codec, EnvelopeError, UnknownEnvelope

PROTOCOL_VERSION = 1
MAX_BATCH_BYTES = 256 * 1024
MAX_BATCH_ENVELOPES = 512
_ENVELOPE_OVERHEAD_BYTES = 48


class Signal(IntEnum):
    """First element of a header frame."""

    HELLO = 1
    """[1, protocol version, node id, boot id, window_bytes, wanted]: opens the link; where `wanted` is true the
    receiver answers with a HELLO of its own."""
    DATA = 2
    """[2, batch number from 1, acknowledged number] and the frames of one batch."""
    ACK = 3
    """[3, acknowledged number, resend]: resend is true where the sender of the ACK saw a gap."""
    PING = 4
    """[4, acknowledged number]: sent when nothing else was for a heartbeat; answered with an ACK."""
    BYE = 5
    """[5, reason]: this end closes the link; nothing sent after it is read."""
    RESET = 6
    """[6, boot id]: the receiver knows no such link (it restarted, or gave the link up)."""


class LinkProtocolError(ValueError):
    """The peer sent what no Headwater node of this protocol version sends; the link must be closed."""


@dataclass(slots=True)
class LinkOptions:
    """Limits of a link. `window_bytes`: what the peer may have under way unacknowledged. `heartbeat_s`: how
    long an end may be silent; `timeout_s`: after how long a silence the peer counts as lost. `resend_s`: how
    long without progress until unacknowledged batches are sent again. `queue_bytes`: how much may wait here
    before the link is given up (callers drop media long before, see `LinkState.queued_bytes`)."""

    window_bytes: int = 16 * 1024 * 1024
    heartbeat_s: float = 1.0
    timeout_s: float = 3.0
    resend_s: float = 1.0
    queue_bytes: int = 128 * 1024 * 1024


@dataclass(slots=True)
class _Batch:
    number: int
    frames: list[bytes]
    size: int


def _header(*values: Any) -> bytes:
    packed: bytes = msgpack.packb(values)
    return packed


class LinkState:
    """`send()` envelopes, `outgoing(now)` gives the messages to put on the socket, `receive()` takes one.

    `now` is monotonic seconds everywhere. The object never blocks and owns no timer: the driver calls
    `outgoing` after every `send` or `receive` (it may gather several) and at least every heartbeat.
    """

    __slots__ = (
        "_ack_due",
        "_acked_sent",
        "_codec",
        "_gap",
        "_gap_reported_at",
        "_hello_due",
        "_in_flight",
        "_in_flight_bytes",
        "_next_number",
        "_options",
        "_pending",
        "_pending_bytes",
        "_progress_at",
        "_received_bytes",
        "_resend",
        "_sent_at",
        "_waiting",
        "_waiting_bytes",
        "boot",
        "established",
        "failure",
        "heard_at",
        "node_id",
        "peer",
        "peer_boot",
        "peer_window_bytes",
        "received",
        "unknown",
    )

    def __init__(
        self, node_id: str, boot: str, codec: Codec, options: LinkOptions, now: float, *, initiator: bool
    ) -> None:
        self.node_id, self.boot = node_id, boot
        self.peer = self.peer_boot = ""
        self.peer_window_bytes = 0
        self.established = False
        self.failure: str | None = None
        """Why the link is over; once set, nothing is sent or read any more."""
        self.heard_at = now
        self.received = 0
        """The number of the last batch that was received in order."""
        self.unknown = 0
        """Envelopes of kinds unknown here, skipped."""
        self._codec, self._options = codec, options
        self._pending: list[Any] = []
        self._pending_bytes = 0
        self._waiting: deque[_Batch] = deque()
        self._waiting_bytes = 0
        self._in_flight: deque[_Batch] = deque()
        self._in_flight_bytes = 0
        self._next_number = 1
        self._acked_sent = 0
        self._received_bytes = 0
        self._ack_due = self._gap = False
        self._hello_due = initiator
        self._resend = False
        self._gap_reported_at = now - 1.0
        self._progress_at = self._sent_at = now

    @property
    def queued_bytes(self) -> int:
        """Bytes that the peer has not acknowledged yet, under way or waiting. Senders of media look at it."""
        return self._pending_bytes + self._waiting_bytes + self._in_flight_bytes

    @property
    def idle(self) -> bool:
        """Whether everything sent was acknowledged."""
        return not (self._pending or self._waiting or self._in_flight)

    def send(self, envelope: Any) -> None:
        """Queue an envelope. Never blocks; on a link that is over it does nothing."""
        if self.failure is not None:
            return
        self._pending.append(envelope)
        payload = getattr(envelope, "payload", None)
        self._pending_bytes += _ENVELOPE_OVERHEAD_BYTES + (len(payload) if payload is not None else 0)
        if self.queued_bytes > self._options.queue_bytes:
            self.failure = f"queue over {self._options.queue_bytes} bytes: the peer takes nothing"
        elif self._pending_bytes >= MAX_BATCH_BYTES or len(self._pending) >= MAX_BATCH_ENVELOPES:
            self._close_batch()

    def _close_batch(self) -> None:
        frames = self._codec.pack(self._pending)
        batch = _Batch(self._next_number, frames, sum(map(len, frames)))
        self._next_number += 1
        self._waiting.append(batch)
        self._waiting_bytes += batch.size
        self._pending = []
        self._pending_bytes = 0

    def outgoing(self, now: float) -> list[list[bytes]]:
        """Messages to send now, each a list of frames."""
        if self.failure is not None:
            return []
        messages: list[list[bytes]] = []
        if self._hello_due:
            self._hello_due = False
            hello = (
                PROTOCOL_VERSION,
                self.node_id,
                self.boot,
                self._options.window_bytes,
                not self.established,
            )
            messages.append([_header(Signal.HELLO, *hello)])
        if self.established:
            self._data(messages, now)
            if self._ack_due:
                messages.append([_header(Signal.ACK, self.received, self._gap)])
                self._gap = False
            elif now - self._sent_at >= self._options.heartbeat_s and not messages:
                messages.append([_header(Signal.PING, self.received)])
        elif now - self._sent_at >= self._options.heartbeat_s and not messages:
            self._sent_at = now
            self._hello_due = True
            return self.outgoing(now)
        if messages:
            self._sent_at = now
            self._acknowledged_now()
        return messages

    def _data(self, messages: list[list[bytes]], now: float) -> None:
        if self._pending:
            self._close_batch()
        stalled = self._in_flight and now - self._progress_at >= self._options.resend_s
        if self._resend or stalled:
            self._resend = False
            self._progress_at = now
            for batch in self._in_flight:
                messages.append([_header(Signal.DATA, batch.number, self.received), *batch.frames])
        while self._waiting and (not self._in_flight or self._room(self._waiting[0].size)):
            batch = self._waiting.popleft()
            self._waiting_bytes -= batch.size
            if not self._in_flight:
                self._progress_at = now
            self._in_flight.append(batch)
            self._in_flight_bytes += batch.size
            messages.append([_header(Signal.DATA, batch.number, self.received), *batch.frames])
        if messages and not self._gap:
            self._ack_due = False

    def _room(self, size: int) -> bool:
        return self._in_flight_bytes + size <= self.peer_window_bytes

    def _acknowledged_now(self) -> None:
        self._acked_sent = self.received
        self._received_bytes = 0
        self._ack_due = False

    def receive(self, frames: Sequence[Any], now: float) -> list[Any]:
        """Take one message; returns its envelopes (known kinds, in order). Raises LinkProtocolError."""
        if self.failure is not None:
            return []
        header = read_header(frames)
        self.heard_at = now
        signal = header[0]
        try:
            if signal == Signal.DATA:
                return self._receive_data(header[1], header[2], frames, now)
            if signal == Signal.ACK:
                self._acknowledge(header[1], now)
                self._resend = self._resend or bool(header[2])
            elif signal == Signal.PING:
                self._acknowledge(header[1], now)
                self._ack_due = True
            elif signal == Signal.HELLO:
                self._receive_hello(header)
            elif signal == Signal.BYE:
                self.failure = f"closed by the peer: {header[1]}"
            elif signal == Signal.RESET:
                self.failure = (
                    "the peer restarted" if header[1] != self.peer_boot else "the peer gave the link up"
                )
        except LinkProtocolError:
            raise
        except (IndexError, TypeError, ValueError) as error:
            raise LinkProtocolError(f"signal {signal}: fields missing or of a wrong type: {error}") from error
        return []

    def _receive_hello(self, header: list[Any]) -> None:
        _, version, node_id, boot, window, wanted = header[:6]
        if version != PROTOCOL_VERSION:
            raise LinkProtocolError(f"HELLO: protocol version {version}, expected {PROTOCOL_VERSION}")
        if self.established and boot != self.peer_boot:
            self.failure = "the peer restarted"
            return
        self.peer, self.peer_boot, self.peer_window_bytes = str(node_id), str(boot), int(window)
        self.established = True
        self._hello_due = bool(wanted)

    def _receive_data(self, number: int, acked: int, frames: Sequence[Any], now: float) -> list[Any]:
        if not self.established:
            raise LinkProtocolError("DATA before HELLO")
        self._acknowledge(acked, now)
        if number != self.received + 1:
            if number <= self.received:
                self._ack_due = True
            elif now - self._gap_reported_at >= 0.1:
                self._gap_reported_at = now
                self._gap = self._ack_due = True
            return []
        try:
            envelopes = self._codec.unpack(frames[1:])
        except EnvelopeError as error:
            raise LinkProtocolError(f"DATA {number}: {error}") from error
        self.received = number
        self._received_bytes += sum(map(len, frames))
        if self._received_bytes >= self._options.window_bytes // 8 or number - self._acked_sent >= 32:
            self._ack_due = True
        known = [envelope for envelope in envelopes if type(envelope) is not UnknownEnvelope]
        self.unknown += len(envelopes) - len(known)
        return known

    def _acknowledge(self, number: int, now: float) -> None:
        moved = False
        while self._in_flight and self._in_flight[0].number <= number:
            self._in_flight_bytes -= self._in_flight.popleft().size
            moved = True
        if moved:
            self._progress_at = now

    def silent(self, now: float) -> bool:
        """Whether the peer was silent for longer than `timeout_s`; the driver then calls `fail`."""
        return now - self.heard_at > self._options.timeout_s

    def fail(self, reason: str) -> None:
        """Give the link up."""
        if self.failure is None:
            self.failure = reason
        self._pending, self._pending_bytes = [], 0
        self._waiting.clear()
        self._in_flight.clear()
        self._waiting_bytes = self._in_flight_bytes = 0


def read_header(frames: Sequence[Any]) -> list[Any]:
    """The header of a link message. Raises LinkProtocolError."""
    try:
        header = msgpack.unpackb(bytes(frames[0]))
    except (ValueError, IndexError, msgpack.UnpackException) as error:
        raise LinkProtocolError(f"header not readable: {error}") from error
    if type(header) is not list or not header or type(header[0]) is not int:
        raise LinkProtocolError("header: expected [signal, ...]")
    return header


def bye(reason: str) -> list[bytes]:
    """The message that closes a link."""
    return [_header(Signal.BYE, reason)]


def reset(boot: str) -> list[bytes]:
    """The answer to a message of a link that this node does not have."""
    return [_header(Signal.RESET, boot)]
