"""One end of a link, without sockets or a clock: sequence numbers, acknowledgements, resend, credit, liveness.

A link carries batches of envelopes between one edge and one origin, both ways, each exactly once and in order
while both ends live. Every batch has a number; the receiver answers with the highest number up to which it has
everything (cumulative), and the sender keeps a batch until that number covers it. The receiver's window bounds
what may be under way unacknowledged, so ZeroMQ's own queues stay short and never drop anything.

Nothing is sent again on suspicion. A connection keeps the order, so a PING that tells the last number sent finds
out what got lost before it: the receiver that lacks something asks for it.

On the wire every message is a header frame, a flat msgpack array that begins with a `Signal`, and for DATA the
frames of the batch behind it. `docs/wire.md` lists them.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from headwater_bus.codec import Codec, EnvelopeError, UnknownEnvelope
from headwater_bus.link_signals import LinkProtocolError, Signal, pack_header, read_header

PROTOCOL_VERSION = 1
MAX_BATCH_BYTES = 16 * 1024 * 1024
"""Of envelopes. All that was sent since the last batch is one, so that what belongs together comes together or not at all; only
who sends more than this at a time has it parted."""
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Of any frame of a link; ZeroMQ drops the connection of a peer that announces more."""
MAX_BATCHES_UNDER_WAY = 4096
"""Unacknowledged batches, however small: credit counts bytes, and ZeroMQ's memory counts messages, too."""
MAX_NODE_ID = 80
_ACK_BATCHES = 32
_GAP_REPORT_S = 0.1
_RESEND_AGAIN_S = 0.5
_HELD_UP_S = 0.5
"""Who looks so much later than it was told to was held up (stopped, or without CPU time): what the peer has said meanwhile
may wait unread."""
_ENVELOPE_OVERHEAD_BYTES = 96
"""What an envelope counts for its other fields. A batch of MAX_BATCH_BYTES that is all of these stays below a frame's limit."""

# A plain int: to look a member up, or compare with it, costs as much as the rest of such a line.
_DATA = int(Signal.DATA)


@dataclass(slots=True)
class LinkOptions:
    """Limits of a link. `window_bytes`: what the peer may have under way unacknowledged. `heartbeat_s`: how
    long an end may be silent; `timeout_s`: after how long a silence the peer counts as lost. `resend_s`: how
    long without progress until the peer is asked what it has. `queue_bytes`: how much may wait here
    before the link is given up (callers drop media long before, see `LinkState.queued_bytes`). `ack_delay_s`: how long an
    acknowledgement waits for a DATA that could carry it, less than the peer's `resend_s`."""

    window_bytes: int = 16 * 1024 * 1024
    heartbeat_s: float = 1.0
    timeout_s: float = 3.0
    resend_s: float = 1.0
    queue_bytes: int = 128 * 1024 * 1024
    ack_delay_s: float = 0.08


@dataclass(slots=True)
class _Batch:
    number: int
    frames: list[bytes]
    size: int
    position: int


class LinkState:
    """`send()` envelopes, `outgoing(now)` gives the messages to put on the socket, `receive()` takes one.

    `now` is monotonic seconds everywhere. The object never blocks and owns no timer: the driver calls
    `outgoing` after a `send` (it may gather several), and where `due(now)`: after a `receive`, and at `deadline()`.
    `expected_peer`: the node id that HELLO must name, where it is known.
    """

    __slots__ = (
        "_ack_at",
        "_ack_due",
        "_acked_sent",
        "_codec",
        "_expected_peer",
        "_gap",
        "_gap_reported_at",
        "_hello_due",
        "_in_flight",
        "_in_flight_bytes",
        "_look_at",
        "_next_number",
        "_options",
        "_pending",
        "_pending_bytes",
        "_ping_due",
        "_progress_at",
        "_received_bytes",
        "_reconnected",
        "_resend",
        "_resent",
        "_sent_at",
        "_spared_at",
        "_waiting",
        "acknowledged",
        "boot",
        "established",
        "failure",
        "heard_at",
        "node_id",
        "peer",
        "peer_boot",
        "peer_window_bytes",
        "position",
        "queued_bytes",
        "received",
        "resent_batches",
        "trailer",
        "unknown",
    )

    def __init__(
        self,
        node_id: str,
        boot: str,
        codec: Codec,
        options: LinkOptions,
        now: float,
        *,
        initiator: bool,
        expected_peer: str = "",
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
        self.queued_bytes = 0
        """Bytes that the peer has not acknowledged yet, under way or waiting. Senders of media look at it."""
        self.position = self.acknowledged = 0
        """How many envelopes were given to `send`, and how many of these the peer has had."""
        self.unknown = 0
        """Envelopes of kinds unknown here, skipped."""
        self.trailer: Callable[[], Any] | None = None
        """Called when a batch is about to be made: what it gives, if anything, is the last envelope of the batch."""
        self.resent_batches = 0
        self._codec, self._options = codec, options
        self._expected_peer = expected_peer
        self._pending: list[Any] = []
        self._pending_bytes = 0
        self._waiting: deque[_Batch] = deque()
        self._in_flight: deque[_Batch] = deque()
        self._in_flight_bytes = 0
        self._next_number = 1
        self._acked_sent = 0
        self._received_bytes = 0
        self._ack_at = float("inf")
        self._ack_due = self._gap = False
        self._hello_due = initiator
        self._ping_due = self._resend = self._reconnected = False
        self._resent = (0, now)
        self._gap_reported_at = self._spared_at = now - 1.0
        self._progress_at = self._sent_at = self._look_at = now

    @property
    def idle(self) -> bool:
        """Whether everything sent was acknowledged."""
        return not (self._pending or self._waiting or self._in_flight)

    # Sending

    def send(self, envelope: Any) -> None:
        """Queue an envelope. Never blocks; on a link that is over it does nothing. Raises ValueError for what cannot be
        sent at all: a payload over MAX_FRAME_BYTES. Until its batch is packed an envelope counts as its payload and `state`
        (everything that can be long is one of these) and a little more."""
        if self.failure is not None:
            return
        size = _ENVELOPE_OVERHEAD_BYTES + len(getattr(envelope, "state", b""))
        payload = getattr(envelope, "payload", None)
        if payload is not None:
            size += len(payload)
            if size > MAX_FRAME_BYTES:
                raise ValueError(
                    f"{type(envelope).__name__}: {len(payload)} bytes, expected {MAX_FRAME_BYTES} at most"
                )
        self.position += 1
        self._pending.append(envelope)
        self._pending_bytes += size
        self.queued_bytes += size
        if self.queued_bytes > self._options.queue_bytes:
            self._over_limit()
        elif self._pending_bytes >= MAX_BATCH_BYTES:
            self._close_batch()

    def _over_limit(self) -> None:
        self.failure = f"queue over {self._options.queue_bytes} bytes: the peer takes nothing"

    def reconnected(self) -> None:
        """The transport below is a new one: what was under way, both ways, may be lost. Find out."""
        if self.established:
            self._ping_due = self._reconnected = True
            self._resent = (0, self.heard_at)

    def due(self, now: float) -> bool:
        """Whether `outgoing` has something to send."""
        if self.failure is not None:
            return False
        if self._hello_due or now >= self._sent_at + self._options.heartbeat_s:
            return True
        if not self.established:
            return False
        return bool(
            self._pending
            or self._ack_due
            or self._ping_due
            or now >= self._ack_at
            or (self._resend and self._in_flight)
            or (self._waiting and self._room(self._waiting[0].size))
            or (self._in_flight and now >= self._progress_at + self._options.resend_s)
        )

    def deadline(self) -> float:
        """When to `listen` and to look at `due` again, if nothing is sent or received until then; it is remembered."""
        options = self._options
        at = min(self._sent_at + options.heartbeat_s, self.heard_at + options.timeout_s)
        if self.established:
            at = min(at, self._ack_at)
            if self._in_flight:
                at = min(at, self._progress_at + options.resend_s)
        self._look_at = at
        return at

    def ask(self) -> None:
        """Have the peer say at once what it has received."""
        self._ping_due = True

    def outgoing(self, now: float) -> list[list[bytes]]:
        """Messages to send now, each a list of frames."""
        messages: list[list[bytes]] = []
        if self.failure is not None:
            return messages
        beat = now >= self._sent_at + self._options.heartbeat_s
        if self._hello_due or (beat and not self.established):
            self._hello_due = False
            hello = (PROTOCOL_VERSION, self.node_id, self.boot, self._options.window_bytes)
            messages.append([pack_header(Signal.HELLO, *hello, not self.established)])
        if self.established:
            self._established_outgoing(messages, now, beat)
        if messages:
            self._sent_at = now
        return messages

    def _established_outgoing(self, messages: list[list[bytes]], now: float, beat: bool) -> None:
        before = len(messages)
        self._data(messages, now)
        carried = len(messages) > before
        if self._in_flight and now >= self._progress_at + self._options.resend_s:
            self._ping_due, self._progress_at = True, now
        if self._gap or ((self._ack_due or now >= self._ack_at) and not carried):
            messages.append([pack_header(Signal.ACK, self.received, self._gap)])
            carried = True
        if self._ping_due or (beat and not messages):
            ping = (self.received, self._last_sent(), self._reconnected)
            messages.append([pack_header(Signal.PING, *ping)])
            carried = True
        self._gap = self._ping_due = self._reconnected = False
        if carried:
            self._acked_sent, self._received_bytes = self.received, 0
            self._ack_due, self._ack_at = False, float("inf")

    def _last_sent(self) -> int:
        return self._next_number - 1 - len(self._waiting)

    def _close_batch(self) -> None:
        pending, size = self._pending, self._pending_bytes
        self._pending, self._pending_bytes = [], 0
        self.queued_bytes -= size
        try:
            frames = self._codec.pack(pending)
        except EnvelopeError as error:
            self.failure = f"internal error: {error}"
            return
        if len(frames[0]) > MAX_FRAME_BYTES:
            # The other frames are payloads, which `send` has looked at.
            self.failure = (
                f"internal error: a batch of {len(frames[0])} bytes, expected {MAX_FRAME_BYTES} at most"
            )
            return
        batch = _Batch(self._next_number, frames, sum(map(len, frames)), self.position)
        self.queued_bytes += batch.size
        if self.queued_bytes > self._options.queue_bytes:
            self._over_limit()
            return
        self._next_number += 1
        self._waiting.append(batch)

    def _data(self, messages: list[list[bytes]], now: float) -> None:
        last = self.trailer() if self.trailer is not None else None
        if last is not None:
            self.send(last)
        if self._pending:
            self._close_batch()
        if self._resend:
            self._resend = False
            for batch in self._in_flight:
                messages.append([pack_header(_DATA, batch.number, self.received), *batch.frames])
            self.resent_batches += len(self._in_flight)
            if self._in_flight:
                self._resent, self._progress_at = (self._in_flight[0].number, now), now
        while self._waiting and self._room(self._waiting[0].size):
            batch = self._waiting.popleft()
            if not self._in_flight:
                self._progress_at = now
            self._in_flight.append(batch)
            self._in_flight_bytes += batch.size
            messages.append([pack_header(_DATA, batch.number, self.received), *batch.frames])

    def _room(self, size: int) -> bool:
        """A batch larger than the window goes alone."""
        return not self._in_flight or (
            self._in_flight_bytes + size <= self.peer_window_bytes
            and len(self._in_flight) < MAX_BATCHES_UNDER_WAY
        )

    # Receiving

    def receive(self, frames: Sequence[Any], now: float) -> list[Any]:
        """Take one message; returns its envelopes (known kinds, in order). Raises LinkProtocolError."""
        if self.failure is not None:
            return []
        header = read_header(frames)
        self.heard_at = now
        signal = header[0]
        try:
            if signal == _DATA:
                return self._receive_data(header[1], header[2], frames, now)
            if signal == Signal.ACK:
                self._acknowledge(header[1], now)
                if header[2]:
                    self._resend_wanted(now)
            elif signal == Signal.PING:
                self._acknowledge(header[1], now)
                self._ack_due = True
                if header[2] > self.received:
                    self._gap = True
                if header[3] and self._in_flight:
                    self._ping_due = True
                    self._resent = (0, now)
            elif signal == Signal.HELLO:
                self._receive_hello(header)
            elif signal == Signal.BYE:
                self.failure = f"closed by the peer: {header[1]}"
            elif signal == Signal.RESET:
                self.failure = (
                    "the peer restarted" if header[1] != self.peer_boot else "the peer gave the link up"
                )
            else:
                # A signal of a newer version is not a fault, but nothing here can answer it.
                self.unknown += 1
        except LinkProtocolError:
            raise
        except (IndexError, TypeError, ValueError) as error:
            raise LinkProtocolError(f"signal {signal}: fields missing or of a wrong type: {error}") from error
        return []

    def _receive_hello(self, header: list[Any]) -> None:
        _, version, node_id, boot, window, wanted = header[:6]
        if version != PROTOCOL_VERSION:
            raise LinkProtocolError(f"HELLO: protocol version {version}, expected {PROTOCOL_VERSION}")
        if type(node_id) is not str or type(boot) is not str or type(window) is not int:
            raise LinkProtocolError("HELLO: expected a node id, a boot id and a window")
        if not 0 < len(node_id) <= MAX_NODE_ID or len(boot) > MAX_NODE_ID:
            raise LinkProtocolError(f"HELLO: node id or boot id not of 1 to {MAX_NODE_ID} characters")
        expected = self.peer or self._expected_peer
        if expected and node_id != expected:
            raise LinkProtocolError(f"HELLO: from {node_id!r}, expected {expected!r}")
        if self.established and boot != self.peer_boot:
            self.failure = "the peer restarted"
            return
        self.peer, self.peer_boot, self.peer_window_bytes = node_id, boot, window
        self.established = True
        self._hello_due = bool(wanted)

    def _receive_data(self, number: int, acked: int, frames: Sequence[Any], now: float) -> list[Any]:
        if not self.established:
            raise LinkProtocolError("DATA before HELLO")
        self._acknowledge(acked, now)
        if number != self.received + 1:
            if number <= self.received:
                self._ack_due = True
            elif now - self._gap_reported_at >= _GAP_REPORT_S:
                self._gap_reported_at = now
                self._gap = self._ack_due = True
            return []
        try:
            envelopes = self._codec.unpack(frames[1:])
        except EnvelopeError as error:
            raise LinkProtocolError(f"DATA {number}: {error}") from error
        self.received = number
        self._received_bytes += sum(map(len, frames))
        if (
            self._received_bytes >= self._options.window_bytes // 8
            or number - self._acked_sent >= _ACK_BATCHES
        ):
            self._ack_due = True
        elif self._ack_at > now + self._options.ack_delay_s:
            self._ack_at = now + self._options.ack_delay_s
        if UnknownEnvelope in map(type, envelopes):
            known = [envelope for envelope in envelopes if type(envelope) is not UnknownEnvelope]
            self.unknown += len(envelopes) - len(known)
            return known
        return envelopes

    def _acknowledge(self, number: int, now: float) -> None:
        in_flight = self._in_flight
        if in_flight and in_flight[0].number <= number:
            self._progress_at = now
            while in_flight and in_flight[0].number <= number:
                batch = in_flight.popleft()
                self._in_flight_bytes -= batch.size
                self.queued_bytes -= batch.size
                self.acknowledged = batch.position

    def _resend_wanted(self, now: float) -> None:
        """A gap is often reported more than once; one resend fills it."""
        if self._in_flight:
            number, at = self._resent
            self._resend = self._in_flight[0].number != number or now - at >= _RESEND_AGAIN_S

    # The end

    def listen(self, now: float) -> None:
        """Give the link up where the peer was silent for longer than `timeout_s`. A driver that was held up itself has not
        listened: the peer gets `heartbeat_s` to be heard."""
        options = self._options
        if now > self._look_at + _HELD_UP_S and self.heard_at != self._spared_at:
            # Once in a silence: one who is held up again and again gives it up, too.
            self._spared_at = max(self.heard_at, now - options.timeout_s + options.heartbeat_s)
            self.heard_at = self._spared_at
        if now > self.heard_at + options.timeout_s:
            self.fail(f"nothing heard for {options.timeout_s:g} s")

    def fail(self, reason: str) -> None:
        """Give the link up."""
        if self.failure is None:
            self.failure = reason
        self._pending, self._pending_bytes = [], 0
        self._waiting.clear()
        self._in_flight.clear()
        self._in_flight_bytes = self.queued_bytes = 0
