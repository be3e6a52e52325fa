"""One client: the RTMP state machine, and what the cluster knows of its session. How its bytes come and go is `TcpClient`'s or
`TunnelClient`'s.

Driven by watchers of gevent's loop, so it holds no greenlet; every method returns at once. Nothing may escape from what the loop
calls: see `receive`.
"""

import time
from abc import ABC, abstractmethod
from enum import IntEnum
from typing import TYPE_CHECKING

from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import MEDIA, Message
from headwater_rtmp.status import StatusCode, status

from headwater_edge.attachment import Attachment
from headwater_edge.fanout import Player
from headwater_edge.object_pending import tell_pending
from headwater_edge.publishing import Publication
from headwater_edge.routes import ObjectRoutes

if TYPE_CHECKING:
    import _socket

    from headwater_edge.edge import Edge
    from headwater_edge.objects import ObjectFanout
    from headwater_edge.outbox import Outbox
    from headwater_edge.standing import RestoredPlayer

_EVENTS_PER_TURN = 256
"""A client with more than this in one read waits for the others before it goes on."""


class Phase(IntEnum):
    """How far a connection has come."""

    HANDSHAKE = 0
    OPENING = 1
    """Handshake done; `connect` not seen yet."""
    CONNECTING = 2
    """`connect` was seen; an origin has not accepted it yet."""
    CONNECTED = 3
    CLOSED = 4


# Plain names, compared by identity: a member that is looked up in its class, and compared as a number, takes ten times as long.
_HANDSHAKE, _CONNECTING, _CONNECTED, _CLOSED = (
    Phase.HANDSHAKE,
    Phase.CONNECTING,
    Phase.CONNECTED,
    Phase.CLOSED,
)


class Client(ABC):
    """A client of this edge. `home` is its attachment to the scope that it connects to, from the accept on.

    `outbox` is there exactly while something is queued on a socket; then either the edge will flush it (`edge.dirty`), or it
    waits itself until the socket takes more. A client without a socket always has one. Whatever queues may close the client,
    where too much is queued: look at `closed` after it.
    """

    __slots__ = (
        "_edge",
        "_more",
        "address",
        "behind",
        "connect",
        "early",
        "fence",
        "gated",
        "guests",
        "heard_at",
        "home",
        "identity",
        "kept_bytes",
        "kept_messages",
        "object_encoding",
        "objects",
        "outbox",
        "paused",
        "phase",
        "phase_at",
        "pinged_at",
        "players",
        "proof",
        "publications",
        "restored",
        "routes",
        "rtmp",
        "session_id",
        "sock",
        "spread_objects",
        "stream_groups",
        "transport",
    )

    holds = False
    """Whether what it sends goes on to the origins only when it is released: see `Attachment.release`."""

    def __init__(self, edge: "Edge", address: str, transport: str) -> None:
        self._edge = edge
        self.sock: _socket.socket | None = None
        self.outbox: Outbox | None = None
        self.address = address
        self.transport = transport
        """rtmp, rtmps, rtmpt or rtmpts."""
        self.rtmp: Connection = Connection.server(edge.chunk_limits, edge.config.window_ack_bytes)
        self.phase = Phase.HANDSHAKE
        self.object_encoding = 0
        number = edge.next_number()
        self.home = Attachment(self, number, "")
        self.session_id = f"{edge.node.boot}-{number}"
        """Its name in the whole cluster."""
        self.fence = 0
        """Which shows that this edge has the session; 0: no other edge can have it."""
        self.proof = b""
        """What it shows that it is, as a digest: see `traffic.Attach`."""
        self.identity = ""
        """Who it is, as its credentials say."""
        self.gated: list[Message] | None = None
        """A message about which its credentials are still looked at, and those behind it."""
        self.guests: dict[str, Attachment] | None = None
        """Its attachments to other groups, by group."""
        self.spread_objects = False
        """Whether its home answers each of its SharedObject messages with the way that it goes; `routes` are those."""
        self.routes: ObjectRoutes | None = None
        self.connect: Message | None = None
        """Every origin of its home that takes it is told what it connects with."""
        self.early: list[Message] | None = None
        """What a client sent behind `connect` before an origin accepted it."""
        self.kept_messages = self.kept_bytes = 0
        """What it has sent and no origin has applied yet, of all its attachments, in messages and bytes of payload."""
        self.publications: dict[int, Publication] | None = None
        """By message stream id, as are `players`."""
        self.players: dict[int, Player] | None = None
        self.restored: dict[int, RestoredPlayer] | None = None
        """Of those that another edge had and no origin has started here yet."""
        self.stream_groups: dict[int, str] | None = None
        """By message stream id, the group that its last command was sent on to."""
        self.objects: dict[ObjectFanout, int] | None = None
        """SharedObjects that it uses, and its number as their member; so too `behind`: those of which it has missed changes,
        because too much was queued for it."""
        self.behind: dict[ObjectFanout, int] | None = None
        self.phase_at = self.heard_at = time.monotonic()
        """`phase_at`: since when it waits: for the handshake and `connect` from the accept on, then for its origin."""
        self.pinged_at = 0.0
        self.paused = False
        """Whether nothing is read from it because an origin does not keep up, or is looked for."""
        self._more = False
        """Whether messages that were read wait for their turn."""

    @property
    def session(self) -> int:
        """The session's number: that of its home attachment."""
        return self.home.number

    @property
    def attachments(self) -> list[Attachment]:
        """Its home and where it is a guest."""
        return [self.home, *(self.guests.values() if self.guests is not None else ())]

    @property
    def amf3(self) -> bool:
        """Whether the client speaks AMF3 (`objectEncoding` 3)."""
        return self.object_encoding == 3

    # Reading

    def go_on(self) -> None:
        """A client's next turn, where it sent more than fits into one."""
        self._more = False
        if self.phase is not _CLOSED:
            self.receive(b"")

    def receive(self, data: bytes) -> None:
        """Bytes of the client, or none: go on with those that are there. Raises nothing: who calls this has nobody above it."""
        now = self.heard_at = time.monotonic()
        try:
            if data:
                self._edge.counters.bytes_in += len(data)
                self.rtmp.feed(data)
            self._take(now)
        except RemoteProtocolError as error:
            self.close_for(error)
        except Exception as error:
            # This client ends, the edge goes on.
            self._edge.counters.internal_errors += 1
            self.close(f"internal error: {error!r}", error=True)
        self._read_on()
        self._edge.flush_clients()

    def _take(self, now: float) -> None:
        rtmp, config = self.rtmp, self._edge.config
        for _ in range(_EVENTS_PER_TURN):
            full = self.kept_messages >= config.kept_messages or self.kept_bytes >= config.kept_bytes
            if full or self.gated is not None:
                self._more = True
                break
            event = rtmp.next_event(now)
            if event is None:
                break
            if type(event) is Message:
                publications = self.publications
                if publications is not None and event.stream_id in publications and event.type_id in MEDIA:
                    self._edge.counters.media_in += 1
                    publications[event.stream_id].take(event, now)
                else:
                    self._edge.router.route(self, event)
            elif self.phase is _HANDSHAKE and rtmp.handshaken:
                self.phase = Phase.OPENING
            if self.phase is _CLOSED:
                return
        else:
            self._more = True
        answer = rtmp.data_to_send()
        if answer:
            self.transmit(answer)
            if self.closed:
                return
        if self.must_wait(1):
            self.paused = True
            self._edge.pause(self)

    def _read_on(self) -> None:
        """Read, or go on with what was read, or wait for the origin."""
        if self.phase is _CLOSED:
            return
        reads = not (self.paused or self._more)
        self._listen(reads)
        if not reads and not self.paused:
            self._edge.turns.add(self)

    @abstractmethod
    def _listen(self, reads: bool) -> None:
        """Take bytes of the client from now on, or leave them where they are."""

    def must_wait(self, divisor: int) -> bool:
        """Whether its origins lag behind by more than the limits, divided by `divisor`."""
        config = self._edge.config
        if (
            self.kept_messages >= config.kept_messages // divisor
            or self.kept_bytes >= config.kept_bytes // divisor
        ):
            return True
        limit_bytes = config.link_bytes // divisor
        link = self.home.link
        if link is not None and link.queued_bytes > limit_bytes:
            return True
        if self.gated is not None:
            return True
        return self.guests is not None and any(
            guest.link is not None and guest.link.queued_bytes > limit_bytes for guest in self.guests.values()
        )

    def look_again(self) -> None:
        """What it waited for may be there: read on, if so."""
        self._edge.read_on(self)

    def resume_reading(self) -> None:
        """Its origins have caught up."""
        self.paused = False
        self.heard_at = time.monotonic()
        self._read_on()

    def forget_restored(self, number: int, stream_id: int | None = None) -> None:
        """What another edge had it play by the attachment of this number, on one message stream or all, does not go on."""
        if self.restored is not None:
            self.restored = {
                at: one
                for at, one in self.restored.items()
                if one.number != number or stream_id not in (None, at)
            }

    # Writing

    @property
    def backlog_bytes(self) -> int:
        """Bytes that are queued."""
        return self.outbox.backlog_bytes if self.outbox is not None else 0

    @property
    def media_full(self) -> bool:
        """Whether the queue is over the limit at which media is dropped."""
        return self.backlog_bytes > self._edge.config.media_queue_bytes

    @property
    def objects_full(self) -> bool:
        """Whether the queue is over the limit at which updates of SharedObjects are merged."""
        outbox = self.outbox
        return outbox is not None and outbox.backlog_bytes > self._edge.config.object_queue_bytes

    def _chunks(self, message: Message) -> bytes:
        return encode_message(message, csid_for(message.type_id), self.rtmp.chunk_size)

    def greet(self) -> None:
        """Its `connect` is accepted: the protocol's first words, which leave together with the answer behind them. Until then
        chunks are as small as at the beginning."""
        self.enqueue(self.rtmp.send_greeting(self._edge.config.chunk_size))

    def send(self, message: Message) -> None:
        """Queue one message for the client, behind what its SharedObjects have yet to tell it."""
        tell_pending(self)
        self.enqueue(self._chunks(message))

    def enqueue(self, data: bytes) -> None:
        """Queue bytes (whole chunks); they leave with the next flush of the edge's clients. A client that lets too much
        gather is closed, with a status that says why."""
        if not data or self.phase is _CLOSED:
            return
        outbox = self._outbox_for_more()
        limit = self._edge.config.client_queue_bytes
        if outbox.put(data) > limit:
            outbox.drop()
            if self.phase is _CONNECTED:
                # What it was told of it may be among what is dropped: without, it could not read why it is closed.
                outbox.put(self.rtmp.send_chunk_size(self.rtmp.chunk_size))
            reason = f"slow client: more than {limit} bytes queued"
            self.close_with(StatusCode.CONNECT_CLOSED, reason, error=True)

    def held(self) -> None:  # noqa: B027  # Where nothing is held back there is nothing to do.
        """Something that it has sent is held back (`holds`), until that is stored."""

    def let_go(self, guest: Attachment, reason: str) -> None:
        """It is no guest of a group any more: the group is told."""
        self._edge.cluster.detach(guest, reason)

    def recall(self, group: str) -> Attachment | None:
        """It is a guest of a group again, which was not told yet that it was none: its attachment there."""
        return None

    @abstractmethod
    def _outbox_for_more(self) -> "Outbox":
        """Where bytes are queued, and the edge will flush."""

    @abstractmethod
    def transmit(self, data: bytes) -> None:
        """Send bytes at once if nothing waits before them, otherwise queue them."""

    @abstractmethod
    def flush(self) -> None:
        """Send what is queued, if it can be sent now."""

    def catch_up(self) -> None:
        """Queue what it has missed of SharedObjects, when there is room."""
        room = self._edge.config.object_queue_bytes // 2
        # Each may be as large as an object: what it has missed of all of them may be more than it may let gather.
        while self.behind and self.backlog_bytes <= room:
            shared_object, number = self.behind.popitem()
            shared_object.catch_up(number, self)

    # The end

    @property
    def closed(self) -> bool:
        """Whether the client is closed (its last bytes may still be under way)."""
        return self.phase is _CLOSED

    def reject(self, code: StatusCode, text: str) -> None:
        """Answer `connect` with an error and close. Does nothing once it is answered."""
        if self.phase is not _CONNECTING or self.connect is None:
            return
        transaction = decode_command(self.connect).transaction_id
        error = encode_command("_error", transaction, None, status(code, text), amf3=False)
        # Behind the handshake, where a client has sent all of its own together with `connect`.
        last = self.rtmp.data_to_send() + self._chunks(error)
        self.close(f"connect refused: {text}", last=last)

    def close_for(self, error: RemoteProtocolError) -> None:
        """Close the client for what it sent."""
        self._edge.counters.protocol_errors += 1
        self.close(str(error), error=True)

    def close_with(self, code: StatusCode, reason: str, error: bool = False) -> None:
        """Say why in an onStatus, where the client is connected and expects one, and close. `error` as in `close`."""
        last = b""
        if self.phase is _CONNECTED:
            last = self._chunks(encode_command("onStatus", 0, None, status(code, reason), amf3=self.amf3))
        self.close(reason, error=error, last=last)

    def close(self, reason: str, error: bool = False, gone: bool = False, last: bytes = b"") -> None:
        """End the session and tell the origin. What is queued, and `last` behind it, still leaves, within limits; `gone`:
        there is nobody to read it. `error` logs a line; an ordinary end is only counted."""
        if self.phase is _CLOSED:
            return
        self._forget()
        self._edge.client_closed(self, reason, error)
        self._let_go(gone, last)

    def taken(self) -> None:
        """Another edge has the session: nothing of it is here any more, and nobody is told."""
        if self.phase is _CLOSED:
            return
        self._forget()
        self._edge.client_taken(self)

    def _forget(self) -> None:
        self.phase = Phase.CLOSED
        self._stop()
        self.connect = self.early = self.behind = self.gated = self.restored = None

    @abstractmethod
    def _stop(self) -> None:
        """Read and send nothing more by itself."""

    @abstractmethod
    def _let_go(self, gone: bool, last: bytes) -> None:
        """The session has ended: see to it that what is queued, and `last`, leaves, unless the client is `gone`."""
