"""One client connection: a non-blocking socket, the RTMP state machine, what the cluster knows of its session.

Driven by watchers of gevent's loop, so it holds no greenlet; every method returns at once.
"""

import _socket
import time
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import gevent
from headwater_bus.link import Link
from headwater_bus.traffic import FromClient, PublisherMedia
from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.connection import Connection
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message, MessageType

from headwater_edge.fanout import Player

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

READ, WRITE = 1, 2
_MEDIA = frozenset((MessageType.AUDIO, MessageType.VIDEO, MessageType.DATA_AMF0, MessageType.DATA_AMF3))
_RECEIVE_BYTES = 256 * 1024
_EARLY_MESSAGES = 64
_SEND_BYTES = 256 * 1024


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
    """A client of this edge. `session` is its number on the edge's links."""

    __slots__ = (
        "_edge",
        "_out",
        "_reader",
        "_writer",
        "address",
        "backlog_bytes",
        "early",
        "epoch",
        "group",
        "heard_at",
        "link",
        "object_encoding",
        "opened_at",
        "phase",
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
        self.rtmp: Connection = Connection.server(edge.chunk_limits)
        self.phase = Phase.HANDSHAKE
        self.object_encoding = 0
        self.group = ""
        self.epoch = 0
        self.link: Link | None = None
        self.early: list[Message] | None = None
        """What a client sent behind `connect` before an origin accepted it, from `connect` on."""
        self.ports: dict[int, PublishPort] | None = None
        self.players: dict[int, Player] | None = None
        self.opened_at = self.heard_at = time.monotonic()
        self.pinged_at = 0.0
        self._out: deque[bytes | memoryview] = deque()
        self.backlog_bytes = 0
        loop = gevent.get_hub().loop
        self._writer: Any = None
        self._reader = loop.io(sock.fileno(), READ)
        self._reader.start(self._readable)

    # Reading

    def _readable(self) -> None:
        try:
            data = self.sock.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(f"socket: {error.strerror}")
            return
        if not data:
            self.close("closed by the client")
            return
        now = time.monotonic()
        self.heard_at = now
        self._edge.counters.bytes_in += len(data)
        try:
            self._take(data, now)
        except RemoteProtocolError as error:
            self._edge.counters.protocol_errors += 1
            self.close(str(error), error=True)
        except Exception as error:
            # A watcher's callback has nobody above it: this client ends, the edge goes on.
            self.close(f"internal error: {error!r}", error=True)
        self._edge.flush_clients()

    def _take(self, data: bytes, now: float) -> None:
        rtmp = self.rtmp
        rtmp.feed(data)
        while (event := rtmp.next_event(now)) is not None:
            if type(event) is Message:
                if event.type_id in _MEDIA and self.ports is not None and event.stream_id in self.ports:
                    self._publish(event)
                else:
                    self._edge.client_message(self, event)
            elif self.phase == Phase.HANDSHAKE and rtmp.handshaken:
                self.phase = Phase.OPENING
            if self.phase == Phase.CLOSED:
                return
        answer = rtmp.data_to_send()
        if answer:
            self.enqueue(answer)
        link = self.link
        if link is not None and link.queued_bytes > self._edge.config.link_bytes:
            self.pause_reading()

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
        if len(self.early) >= _EARLY_MESSAGES:
            self.close(f"{_EARLY_MESSAGES} messages before the answer to connect", error=True)
            return
        self.early.append(message)

    def pause_reading(self) -> None:
        """The origin does not keep up: let TCP hold the client back."""
        if self._reader.active:
            self._reader.stop()
            self._edge.paused.add(self)

    def resume_reading(self) -> None:
        """The link has room again."""
        if self.phase != Phase.CLOSED:
            self._reader.start(self._readable)

    # Writing

    @property
    def media_full(self) -> bool:
        """Whether the queue is over the limit at which media is dropped."""
        return self.backlog_bytes > self._edge.config.media_queue_bytes

    def send(self, message: Message) -> None:
        """Queue one message for the client."""
        self.enqueue(encode_message(message, csid_for(message.type_id), self._edge.config.chunk_size))

    def enqueue(self, data: bytes) -> None:
        """Queue bytes (whole chunks); they leave with the next flush of the edge's clients."""
        if not data or self.phase == Phase.CLOSED:
            return
        if not self._out:
            self._edge.dirty.append(self)
        self._out.append(data)
        self.backlog_bytes += len(data)
        if self.backlog_bytes > self._edge.config.client_queue_bytes:
            self.close(
                f"slow client: more than {self._edge.config.client_queue_bytes} bytes queued", error=True
            )

    def transmit(self, data: bytes) -> None:
        """Send bytes at once if nothing waits before them, otherwise queue them. The fan-out's hot path."""
        if self._out:
            self.enqueue(data)
            return
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self.close(f"socket: {error.strerror}")
            return
        self._edge.counters.bytes_out += sent
        if sent < len(data):
            rest = memoryview(data)[sent:]
            self._out.append(rest)
            self.backlog_bytes = len(rest)
            self._watch_writable()

    def flush(self) -> None:
        """Send what is queued, unless the socket is known to be full."""
        if self._writer is None:
            self._drain()

    def _drain(self) -> None:
        out = self._out
        if not out or self.phase == Phase.CLOSED:
            return
        data = out.popleft()
        if out and len(data) < _SEND_BYTES:
            pieces, size = [data], len(data)
            while out and size < _SEND_BYTES:
                piece = out.popleft()
                pieces.append(piece)
                size += len(piece)
            data = b"".join(pieces)
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self.close(f"socket: {error.strerror}")
            return
        self._edge.counters.bytes_out += sent
        self.backlog_bytes -= sent
        if sent < len(data):
            out.appendleft(memoryview(data)[sent:])
        if out:
            self._watch_writable()
        elif self._writer is not None:
            self._writer.stop()
            self._writer.close()
            self._writer = None

    def _watch_writable(self) -> None:
        if self._writer is None:
            self._writer = gevent.get_hub().loop.io(self.sock.fileno(), WRITE)
            self._writer.start(self._drain)

    # The end

    def close(self, reason: str, error: bool = False) -> None:
        """Close the socket and tell the origin. `error` logs a line; an ordinary end is only counted."""
        if self.phase == Phase.CLOSED:
            return
        self.flush()
        if self.phase == Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        self.backlog_bytes = 0
        self._reader.stop()
        self._reader.close()
        if self._writer is not None:
            self._writer.stop()
            self._writer.close()
            self._writer = None
        self._out.clear()
        self._edge.client_closed(self, reason, error)
