"""One client connection: a non-blocking socket, the RTMP state machine, what the cluster knows of its session.

Driven by watchers of gevent's loop, so it holds no greenlet; every method returns at once. gevent's io watchers are
level-triggered, and one whose callback raises is stopped for good: nothing may escape from a callback here.
"""

import _socket
import time
from collections import deque
from enum import IntEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

from headwater_bus.link import Link
from headwater_bus.traffic import FromClient, PublisherMedia
from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.connection import Connection
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message, MessageType

from headwater_edge.fanout import Player

if TYPE_CHECKING:
    from headwater_edge.edge import Edge
    from headwater_edge.objects import ObjectFanout

READ, WRITE = 1, 2
Pieces = deque[bytes | memoryview]
_MEDIA = frozenset(
    map(int, (MessageType.AUDIO, MessageType.VIDEO, MessageType.DATA_AMF0, MessageType.DATA_AMF3))
)
_RECEIVE_BYTES = 64 * 1024
_EVENTS_PER_TURN = 256
"""A client with more than this in one read waits for the others before it goes on."""
_EARLY_MESSAGES = 64
_EARLY_BYTES = 128 * 1024
_PIECES_PER_SEND = 64


class Phase(IntEnum):
    """How far a connection has come."""

    HANDSHAKE = 0
    OPENING = 1
    """Handshake done; `connect` not seen yet."""
    CONNECTING = 2
    """`connect` was seen; an origin has not accepted it yet."""
    CONNECTED = 3
    CLOSED = 4


class PublishPort:
    """A message stream of a client that publishes: where its media goes and the number of the last message."""

    __slots__ = ("number", "stream")

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.number = 0


class Client:
    """A client of this edge. `session` is its number on the edge's links.

    What is queued is in `_out`, `backlog_bytes` in all, and either the edge will flush it (`edge.dirty`) or a watcher waits
    until the socket takes more. `backlog_bytes` is 0 exactly when nothing is queued.
    """

    __slots__ = (
        "_edge",
        "_more",
        "_out",
        "_reader",
        "_writer",
        "address",
        "backlog_bytes",
        "behind",
        "early",
        "epoch",
        "group",
        "heard_at",
        "link",
        "object_encoding",
        "objects",
        "paused",
        "phase",
        "phase_at",
        "pinged_at",
        "players",
        "ports",
        "rtmp",
        "session",
        "sock",
    )

    def __init__(self, edge: "Edge", sock: _socket.socket, address: str, session: int) -> None:
        self._edge = edge
        self.sock = sock
        self.address = address
        self.session = session
        self.rtmp: Connection = Connection.server(edge.chunk_limits, edge.config.window_ack_size)
        self.phase = Phase.HANDSHAKE
        self.object_encoding = 0
        self.group = ""
        self.epoch = 0
        self.link: Link | None = None
        self.early: list[Message] | None = None
        """What a client sent behind `connect` before an origin accepted it, from `connect` on."""
        self.ports: dict[int, PublishPort] | None = None
        self.players: dict[int, Player] | None = None
        self.objects: set[ObjectFanout] | None = None
        self.behind: set[ObjectFanout] | None = None
        """SharedObjects whose updates it has missed because too much was queued for it."""
        self.phase_at = self.heard_at = time.monotonic()
        """`phase_at`: since when it waits: for the handshake and `connect` from the accept on, then for its origin."""
        self.pinged_at = 0.0
        self.paused = False
        """Whether nothing is read from it because its origin does not keep up."""
        self.backlog_bytes = 0
        self._more = False
        """Whether messages that were read wait for their turn."""
        self._out: Pieces | None = None
        self._writer: Any = None
        self._reader: Any = edge.loop.io(sock.fileno(), READ)
        self._reader.start(self._readable)

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
            self._edge.counters.protocol_errors += 1
            self.close(str(error), error=True)
        except Exception as error:
            # A watcher's callback has nobody above it: this client ends, the edge goes on.
            self._edge.counters.internal_errors += 1
            self.close(f"internal error: {error!r}", error=True)
        self._read_on()
        self._edge.flush_clients()

    def _take(self, now: float) -> None:
        rtmp = self.rtmp
        for _ in range(_EVENTS_PER_TURN):
            event = rtmp.next_event(now)
            if event is None:
                break
            if type(event) is Message:
                if self.ports is not None and event.stream_id in self.ports and event.type_id in _MEDIA:
                    self._publish(event)
                else:
                    self._edge.client_message(self, event)
            elif self.phase == Phase.HANDSHAKE and rtmp.handshaken:
                self.phase = Phase.OPENING
            if self.phase == Phase.CLOSED:
                return
        else:
            self._more = True
        answer = rtmp.data_to_send()
        if answer:
            self.enqueue(answer)
        link = self.link
        if link is not None and link.queued_bytes > self._edge.config.link_bytes:
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
            self._edge.turn_later(self)

    def resume_reading(self) -> None:
        """The link has room again."""
        self.paused = False
        self.heard_at = time.monotonic()
        self._read_on()

    def _publish(self, message: Message) -> None:
        assert self.ports is not None
        assert self.link is not None
        port = self.ports[message.stream_id]
        port.number += 1
        self._edge.counters.media_in += 1
        self.link.send(
            PublisherMedia(port.stream, port.number, message.type_id, message.timestamp, message.payload)
        )

    def forward(self, message: Message) -> None:
        """Pass a message on to the session's origin."""
        if self.link is not None:
            self.link.send(
                FromClient(
                    self.session, message.type_id, message.stream_id, message.timestamp, message.payload
                )
            )

    def hold(self, message: Message) -> None:
        """Keep a message until an origin has accepted the session. A client that sends too many is closed."""
        assert self.early is not None
        size = len(message.payload) + sum(len(held.payload) for held in self.early[1:])
        if len(self.early) > _EARLY_MESSAGES or size > _EARLY_BYTES:
            raise RemoteProtocolError(
                f"{len(self.early)} messages of {size} bytes before the answer to connect, "
                f"expected at most {_EARLY_MESSAGES} of {_EARLY_BYTES}"
            )
        self.early.append(message)

    # Writing

    @property
    def media_full(self) -> bool:
        """Whether the queue is over the limit at which media is dropped."""
        return self.backlog_bytes > self._edge.config.media_queue_bytes

    @property
    def objects_full(self) -> bool:
        """Whether the queue is over the limit at which updates of SharedObjects are merged."""
        return self.backlog_bytes > self._edge.config.object_queue_bytes

    def send(self, message: Message) -> None:
        """Queue one message for the client."""
        self.enqueue(encode_message(message, csid_for(message.type_id), self._edge.config.chunk_size))

    def enqueue(self, data: bytes) -> None:
        """Queue bytes (whole chunks); they leave with the next flush of the edge's clients. A client that lets too much
        gather is closed, with a status that says why."""
        if not data or self.phase == Phase.CLOSED:
            return
        if self._out is None:
            self._out = deque((data,))
            self._edge.dirty.append(self)
        else:
            self._out.append(data)
        self.backlog_bytes += len(data)
        if self.backlog_bytes > self._edge.config.client_queue_bytes:
            self._edge.too_slow(self)

    def transmit(self, data: bytes) -> None:
        """Send bytes at once if nothing waits before them, otherwise queue them."""
        if self._out is not None:
            self.enqueue(data)
        elif data and self.phase != Phase.CLOSED:
            self._out = deque((data,))
            self.backlog_bytes = len(data)
            self.flush()

    def queue_rest(self, data: bytes, sent: int) -> None:
        """The fan-out has sent the first `sent` bytes by itself; the socket is full."""
        rest = memoryview(data)[sent:] if sent else data
        self._out = deque((rest,))
        self.backlog_bytes = len(rest)
        self._watch_writable()

    def flush(self) -> None:
        """Send what is queued, unless the socket is known to be full."""
        if self._writer is None:
            self._writable()

    def _writable(self) -> None:
        try:
            self._drain()
        except OSError as error:
            self.close(f"socket: {error.strerror}", gone=True)
        except Exception as error:
            self._edge.counters.internal_errors += 1
            self.close(f"internal error: {error!r}", error=True, gone=True)

    def _drain(self) -> None:
        """Send what the socket takes. Raises OSError."""
        out = self._out
        if out is None or self.phase == Phase.CLOSED:
            return
        try:
            sent = send_pieces(self.sock, out)
        except (BlockingIOError, InterruptedError):
            sent = 0
        self._edge.counters.bytes_out += sent
        self.backlog_bytes -= sent
        if self.behind is not None and self.backlog_bytes <= self._edge.config.object_queue_bytes // 2:
            behind, self.behind = self.behind, None
            for shared_object in behind:
                shared_object.catch_up(self)
        if out:
            self._watch_writable()
            return
        self._out = None
        if self._writer is not None:
            self._stop_writer()

    def _watch_writable(self) -> None:
        if self._writer is None:
            self._writer = self._edge.loop.io(self.sock.fileno(), WRITE)
            self._writer.start(self._writable)

    def _stop_writer(self) -> None:
        self._writer.stop()
        self._writer.close()
        self._writer = None

    def drop_queued(self) -> None:
        """Forget what is queued behind the piece that is under way."""
        out = self._out
        if out is not None:
            # Only the first piece can be sent in part; every other begins with a whole message.
            started = out[0] if type(out[0]) is memoryview else None
            out.clear()
            if started is not None:
                out.append(started)
            self.backlog_bytes = len(started) if started is not None else 0

    # The end

    @property
    def closed(self) -> bool:
        """Whether the client is closed (its last bytes may still be under way)."""
        return self.phase == Phase.CLOSED

    def close(self, reason: str, error: bool = False, gone: bool = False, last: bytes = b"") -> None:
        """End the session and tell the origin. What is queued, and `last` behind it, still leaves, within limits; `gone`:
        there is nobody to read it. `error` logs a line; an ordinary end is only counted."""
        if self.phase == Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        # Watchers before the file descriptor: its number may be another client's at once.
        self._reader.stop()
        self._reader.close()
        if self._writer is not None:
            self._stop_writer()
        out, self._out = self._out, None
        if last:
            out = out if out is not None else deque()
            out.append(last)
        self.backlog_bytes = 0
        self.early = self.behind = None
        self._edge.client_closed(self, out if not gone else None, reason, error, gone)


def send_pieces(sock: _socket.socket, out: Pieces) -> int:
    """Send what a socket takes of the first pieces, and take that off the queue; returns the bytes. Raises OSError."""
    if len(out) == 1:
        total = sock.send(out[0])
    else:
        total = sock.sendmsg(list(islice(out, _PIECES_PER_SEND)))
    left = total
    while out:
        first = out[0]
        if left < len(first):
            if left:
                out[0] = memoryview(first)[left:]
            break
        left -= len(first)
        out.popleft()
    return total
