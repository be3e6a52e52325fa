"""One client connection: a non-blocking socket, the RTMP state machine, what the cluster knows of its session.

Driven by watchers of gevent's loop, so it holds no greenlet; every method returns at once. gevent's io watchers are
level-triggered, and one whose callback raises is stopped for good: nothing may escape from a callback here.
"""

import _socket
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import MEDIA, Message
from headwater_rtmp.status import StatusCode, status

from headwater_edge.attachment import Attachment
from headwater_edge.fanout import Player
from headwater_edge.outbox import READ, Outbox
from headwater_edge.publishing import Publication
from headwater_edge.routes import ObjectRoutes

if TYPE_CHECKING:
    from headwater_edge.edge import Edge
    from headwater_edge.objects import ObjectFanout

_RECEIVE_BYTES = 64 * 1024
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


class Client:
    """A client of this edge. `home` is its attachment to the scope that it connects to, from the accept on.

    `outbox` is there exactly while something is queued; then either the edge will flush it (`edge.dirty`), or it waits itself
    until the socket takes more. Whatever queues may close the client, where too much is queued: look at `closed` after it.
    """

    __slots__ = (
        "_edge",
        "_more",
        "_reader",
        "address",
        "behind",
        "connect",
        "early",
        "guests",
        "heard_at",
        "home",
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
        "publications",
        "routes",
        "rtmp",
        "sock",
        "spread_objects",
        "stream_groups",
    )

    def __init__(self, edge: "Edge", sock: _socket.socket, address: str, number: int) -> None:
        self._edge = edge
        self.sock = sock
        self.address = address
        self.rtmp: Connection = Connection.server(edge.chunk_limits, edge.config.window_ack_bytes)
        self.phase = Phase.HANDSHAKE
        self.object_encoding = 0
        self.home = Attachment(self, number, "")
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
        self.outbox: Outbox | None = None
        self._reader: Any = edge.loop.io(sock.fileno(), READ)
        self._reader.start(self._readable)

    @property
    def session(self) -> int:
        """The session's number: that of its home attachment."""
        return self.home.number

    @property
    def amf3(self) -> bool:
        """Whether the client speaks AMF3 (`objectEncoding` 3)."""
        return self.object_encoding == 3

    # Reading

    def _readable(self) -> None:
        try:
            data = self.sock.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(f"socket: {error.strerror}", gone=True)
            return
        if not data:
            self.close("closed by the client", gone=True)
            return
        self._edge.counters.bytes_in += len(data)
        self._work(data)

    def go_on(self) -> None:
        """A client's next turn, where it sent more than fits into one."""
        self._more = False
        if self.phase != Phase.CLOSED:
            self._work(b"")

    def _work(self, data: bytes) -> None:
        now = self.heard_at = time.monotonic()
        try:
            if data:
                self.rtmp.feed(data)
            self._take(now)
        except RemoteProtocolError as error:
            self.close_for(error)
        except Exception as error:
            # A watcher's callback has nobody above it: this client ends, the edge goes on.
            self._edge.counters.internal_errors += 1
            self.close(f"internal error: {error!r}", error=True)
        self._read_on()
        self._edge.flush_clients()

    def _take(self, now: float) -> None:
        rtmp, config = self.rtmp, self._edge.config
        for _ in range(_EVENTS_PER_TURN):
            if self.kept_messages >= config.kept_messages or self.kept_bytes >= config.kept_bytes:
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
            elif self.phase == Phase.HANDSHAKE and rtmp.handshaken:
                self.phase = Phase.OPENING
            if self.phase == Phase.CLOSED:
                return
        else:
            self._more = True
        answer = rtmp.data_to_send()
        if answer:
            self.enqueue(answer)
            if self.closed:
                return
        if self.must_wait(1):
            self.paused = True
            self._edge.paused.add(self)

    def _read_on(self) -> None:
        """Read, or go on with what was read, or wait for the origin."""
        if self.phase == Phase.CLOSED:
            return
        if not (self.paused or self._more):
            self._reader.start(self._readable)
            return
        self._reader.stop()
        if not self.paused:
            self._edge.turns.add(self)

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
        links = [guest.link for guest in self.guests.values()] if self.guests is not None else ()
        return any(link is not None and link.queued_bytes > limit_bytes for link in links)

    def resume_reading(self) -> None:
        """Its origins have caught up."""
        self.paused = False
        self.heard_at = time.monotonic()
        self._read_on()

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
        return self.backlog_bytes > self._edge.config.object_queue_bytes

    def _chunks(self, message: Message) -> bytes:
        return encode_message(message, csid_for(message.type_id), self._edge.config.chunk_size)

    def send(self, message: Message) -> None:
        """Queue one message for the client."""
        self.enqueue(self._chunks(message))

    def enqueue(self, data: bytes) -> None:
        """Queue bytes (whole chunks); they leave with the next flush of the edge's clients. A client that lets too much
        gather is closed, with a status that says why."""
        if not data or self.phase == Phase.CLOSED:
            return
        outbox = self.outbox
        if outbox is None:
            outbox = self._open_outbox()
            self._edge.dirty.append(self)
        outbox.put(data)
        limit = self._edge.config.client_queue_bytes
        if outbox.backlog_bytes > limit:
            outbox.drop()
            reason = f"slow client: more than {limit} bytes queued"
            self.close_with(StatusCode.CONNECT_CLOSED, reason, error=True)

    def transmit(self, data: bytes) -> None:
        """Send bytes at once if nothing waits before them, otherwise queue them."""
        if self.outbox is not None:
            self.enqueue(data)
        elif data and self.phase != Phase.CLOSED:
            self._open_outbox().put(data)
            self.flush()

    def queue_rest(self, data: bytes, sent: int) -> None:
        """The fan-out has sent the first `sent` bytes by itself; the socket is full."""
        self._open_outbox().put_rest(data, sent)

    def _open_outbox(self) -> Outbox:
        outbox = self.outbox = Outbox(self._edge.loop, self.sock, self._writable)
        return outbox

    def flush(self) -> None:
        """Send what is queued, unless the socket is known to be full."""
        if self.outbox is not None and not self.outbox.full:
            self._drain()

    def _writable(self) -> None:
        self._drain()
        # Of objects that it has caught up with.
        self._edge.flush_clients()

    def _drain(self) -> None:
        try:
            self._send_queued()
        except OSError as error:
            self.close(f"socket: {error.strerror}", gone=True)
        except Exception as error:
            self._edge.counters.internal_errors += 1
            self.close(f"internal error: {error!r}", error=True, gone=True)

    def _send_queued(self) -> None:
        """Send what the socket takes; queue what it has missed when there is room. Raises OSError."""
        outbox = self.outbox
        if outbox is None:
            return
        self._edge.counters.bytes_out += outbox.send()
        if not outbox.backlog_bytes:
            self.outbox = None
        room = self._edge.config.object_queue_bytes // 2
        # Each may be as large as an object: what it has missed of all of them may be more than it may let gather.
        while self.behind and self.backlog_bytes <= room:
            shared_object, number = self.behind.popitem()
            shared_object.catch_up(number, self)

    # The end

    @property
    def closed(self) -> bool:
        """Whether the client is closed (its last bytes may still be under way)."""
        return self.phase == Phase.CLOSED

    def reject(self, code: StatusCode, text: str) -> None:
        """Answer `connect` with an error and close. Does nothing once it is answered."""
        if self.phase != Phase.CONNECTING or self.connect is None:
            return
        transaction = decode_command(self.connect).transaction_id
        error = encode_command("_error", transaction, None, status(code, text), amf3=False)
        self.close(f"connect refused: {text}", last=self._chunks(error))

    def close_for(self, error: RemoteProtocolError) -> None:
        """Close the client for what it sent."""
        self._edge.counters.protocol_errors += 1
        self.close(str(error), error=True)

    def close_with(self, code: StatusCode, reason: str, error: bool = False) -> None:
        """Say why in an onStatus, where the client is connected and expects one, and close. `error` as in `close`."""
        last = b""
        if self.phase == Phase.CONNECTED:
            last = self._chunks(encode_command("onStatus", 0, None, status(code, reason), amf3=self.amf3))
        self.close(reason, error=error, last=last)

    def close(self, reason: str, error: bool = False, gone: bool = False, last: bytes = b"") -> None:
        """End the session and tell the origin. What is queued, and `last` behind it, still leaves, within limits; `gone`:
        there is nobody to read it. `error` logs a line; an ordinary end is only counted."""
        if self.phase == Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        # Watchers before the file descriptor: its number may be another client's at once.
        self._reader.stop()
        self._reader.close()
        outbox, self.outbox = self.outbox, None
        if outbox is not None:
            outbox.stop()
        if last:
            outbox = outbox if outbox is not None else Outbox(self._edge.loop, self.sock, self._writable)
            outbox.put(last)
        self.connect = self.early = self.behind = None
        self._edge.client_closed(self, outbox, reason, error, gone)
