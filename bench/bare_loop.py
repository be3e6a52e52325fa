"""The floor of this machine: a plain Python process that sends one shared buffer to all players, and does nothing else.

The synthetic stream is made here, each message encoded once. Whoever connects is let in with a real session, once; from then on
nothing of it is read or parsed. What has come due is joined every so many ms (0: each message alone) and sent to one socket
after the other.
"""

import select
import socket
import sys
import time
from collections.abc import Callable, Iterator

from headwater_rtmp.chunk import ChunkWriter
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.message import Message, MessageType

from bench.processes import enter_load_process
from bench.stream import Frame, Stamp, Stamper, StreamShape, frames

_CHUNK_BYTES = 60_000
"""What an edge of Headwater sends with."""
_STREAM_ID = 1
_CSIDS = {MessageType.AUDIO: 4, MessageType.VIDEO: 6}


class _Guest:
    """One that opens. `playing` when there is nothing more to say."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.playing = sock, False
        self._connection = Connection.server()

    def read(self) -> bool:
        """Hear it and answer; False when it is gone."""
        try:
            data = self.sock.recv(65536)
        except OSError:
            return False
        if not data:
            return False
        self._connection.feed(data)
        while (event := self._connection.next_event()) is not None:
            if isinstance(event, Message) and event.type_id == MessageType.COMMAND_AMF0:
                self._answer(event)
        self.sock.sendall(self._connection.data_to_send())
        return True

    def _answer(self, message: Message) -> None:
        command = decode_command(message)
        made: dict[str, Callable[[], Message]] = {
            "connect": lambda: encode_command(
                "_result",
                command.transaction_id,
                {},
                {"level": "status", "code": "NetConnection.Connect.Success"},
            ),
            "createStream": lambda: encode_command(
                "_result", command.transaction_id, None, float(_STREAM_ID)
            ),
            "play": lambda: encode_command(
                "onStatus", 0, None, {"level": "status", "code": "NetStream.Play.Start"}, stream_id=_STREAM_ID
            ),
        }
        if command.name in made:
            self.sock.sendall(self._connection.data_to_send() + self._connection.send(made[command.name]()))
        if command.name == "play":
            self.sock.sendall(self._connection.send_chunk_size(_CHUNK_BYTES))
            self.playing = True


class BareLoop:
    """`every_s`: how long messages gather, 0: not at all."""

    def __init__(self, listener: socket.socket, shape: StreamShape, every_s: float) -> None:
        self._listener, self._every_s = listener, every_s
        self._frames: Iterator[tuple[int, Frame]] = enumerate(frames(shape), 1)
        self._stamper = Stamper(shape)
        self._next = next(self._frames)
        self._start_s = time.monotonic()
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._guests: dict[int, _Guest] = {}
        self._players: list[socket.socket] = []
        self._sends: list[Callable[[bytes], int]] = []
        self._rests: dict[int, bytes] = {}
        """What a player's socket would not take, by its place."""

    def run(self) -> None:
        """Until the process is ended."""
        flush_s = self._start_s
        while True:
            due_s = self._start_s + self._next[1].due_s if not self._every_s else flush_s
            # Whoever comes is let in even while it is late.
            for fd, _ in self._epoll.poll(max(0.0, due_s - time.monotonic())):
                self._open(fd)
            if time.monotonic() >= due_s:
                flush_s += self._every_s
                self._send_all(self._gathered())

    def _gathered(self) -> bytes:
        """What is due; one message where nothing gathers."""
        parts = []
        now_s = time.monotonic()
        while self._start_s + self._next[1].due_s <= now_s:
            number, frame = self._next
            due_ns = round((self._start_s + frame.due_s) * 1e9)
            payload = self._stamper.payload(frame, Stamp(number, due_ns))
            message = Message(frame.type_id, _STREAM_ID, frame.timestamp, payload)
            # With a whole header: players that come later read from any message on.
            parts.append(ChunkWriter(_CHUNK_BYTES).encode(message, _CSIDS[MessageType(frame.type_id)]))
            self._next = next(self._frames)
            if not self._every_s:
                break
        return b"".join(parts)

    def _send_all(self, data: bytes) -> None:
        if not data:
            return
        rests, self._rests = self._rests, {}
        for place, send in enumerate(self._sends):
            wanted = rests.get(place, b"") + data if rests else data
            try:
                sent = send(wanted)
            except BlockingIOError:
                sent = 0
            except OSError:
                continue  # It is gone.
            if sent != len(wanted):
                self._rests[place] = wanted[sent:]

    def _open(self, fd: int) -> None:
        if fd == self._listener.fileno():
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._guests[sock.fileno()] = _Guest(sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)
            return
        guest = self._guests[fd]
        lives = guest.read()
        if lives and not guest.playing:
            return
        self._epoll.unregister(fd)
        del self._guests[fd]
        if not lives:
            guest.sock.close()
            return
        guest.sock.setblocking(False)
        self._players.append(guest.sock)
        self._sends.append(guest.sock.send)


def main(argv: list[str]) -> None:
    """`python -m bench.bare_loop PORT EVERY_MS BIT_S`."""
    port, every_ms, bit_s = map(int, argv)
    enter_load_process(None)
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        BareLoop(listener, StreamShape(bit_s=bit_s), every_ms / 1000).run()


if __name__ == "__main__":
    main(sys.argv[1:])
