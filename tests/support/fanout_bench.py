"""A stream of the edge, its messages, and clients whose sockets take as much as a test says."""

from typing import Any

from headwater_edge.counters import Counters
from headwater_edge.fanout import Player, StreamFanout
from headwater_rtmp.message import Message

from support.edge import CHUNK_SIZE, messages_in

META = b"\x02\x00\x0aonMetaData\x05"
AVC, AAC = b"\x17\x00\x00\x00\x00config", b"\xaf\x00\x12\x10"


def key(timestamp: int, body: bytes = b"k") -> Message:
    return Message(9, 0, timestamp, b"\x17\x01\x00\x00\x00" + body)


def inter(timestamp: int, body: bytes = b"i") -> Message:
    return Message(9, 0, timestamp, b"\x27\x01\x00\x00\x00" + body)


def audio(timestamp: int, body: bytes = b"a") -> Message:
    return Message(8, 0, timestamp, b"\xaf\x01" + body)


HEADERS = [Message(18, 0, 0, META), Message(9, 0, 0, AVC), Message(8, 0, 0, AAC)]


class FakeClient:
    """A client whose socket takes `room` bytes (None: all), and whose media limit is 100 bytes."""

    def __init__(self) -> None:
        self.sock: Any = self
        self.room: int | None = None
        self.error: OSError | None = None
        self.received = b""
        self._queue = b""
        self.closed = False
        self.reason = ""
        self.players: list[Player] = []

    def send(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        size = len(data) if self.room is None else min(self.room, len(data))
        if not size:
            raise BlockingIOError
        self.received += bytes(data[:size])
        return size

    @property
    def queue(self) -> bytes:
        return self._queue

    @queue.setter
    def queue(self, data: bytes) -> None:
        self._queue = data
        if data:
            for player in self.players:
                player.fanout.hold(player)

    @property
    def backlog_bytes(self) -> int:
        return len(self.queue)

    @property
    def outbox(self) -> bytes | None:
        """There while something is queued."""
        return self.queue or None

    @property
    def media_full(self) -> bool:
        return self.backlog_bytes > 100

    def queue_rest(self, data: bytes, sent: int) -> None:
        assert not self.queue
        self.queue = data[sent:]

    def transmit(self, data: bytes) -> None:
        sent = 0
        if data and not self.queue:
            try:
                sent = self.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.close(f"socket: {error.strerror}")
                return
        self.queue += data[sent:]

    def close(self, reason: str, error: bool = False, gone: bool = False) -> None:
        self.closed = True
        self.reason = reason
        for player in self.players:
            player.fanout.leave(player)

    def drain(self) -> None:
        self.received += self.queue
        self.queue = b""
        self.room = None

    def got(self) -> list[tuple[int, int, bytes]]:
        """(stream id, timestamp, payload) of what was received since the last look."""
        data, self.received = self.received, b""
        return [(message.stream_id, message.timestamp, message.payload) for message in messages_in(data)]


class Stage:
    """A stream with its counters."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.fanout = StreamFanout("a", CHUNK_SIZE, 1 << 20, self.counters)

    def feed(self, *messages: Message) -> None:
        for message in messages:
            self.fanout.add(message)

    def push(self, *messages: Message) -> None:
        self.feed(*messages)
        self.fanout.flush()

    def player(self, stream_id: int = 1, start: bool = True) -> tuple[FakeClient, Player]:
        client = FakeClient()
        player = Player(client, stream_id, self.fanout)  # type: ignore[arg-type]  # all that it needs of a Client
        client.players.append(player)
        self.fanout.join(player)
        if start:
            self.fanout.flush()
            client.received = b""
        return client, player


def headers_at(timestamp: int) -> list[Message]:
    """The headers as a player gets them: metadata belongs to the stream's beginning."""
    return [HEADERS[0], *(Message(m.type_id, 0, timestamp, m.payload) for m in HEADERS[1:])]


def sent(stream_id: int, *messages: Message) -> list[tuple[int, int, bytes]]:
    return [(stream_id, message.timestamp, message.payload) for message in messages]
