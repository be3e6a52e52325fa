"""A client on a non-blocking socket: plain TCP, or TLS that looks like it."""

import _socket
from typing import TYPE_CHECKING, Any

from headwater_edge.client import Client
from headwater_edge.outbox import READ, Outbox

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_RECEIVE_BYTES = 64 * 1024
_FULL_BYTES = _RECEIVE_BYTES // 2
"""With so much read there may be more: within TLS as many bytes as were asked for hold less, up to a record of 16 KiB."""
_READS_IN_TIME = 8
"""So many of these are done one after the other; then others have their turn first."""


class TcpClient(Client):
    """See Client. gevent's io watchers are level-triggered, and one whose callback raises is stopped for good: nothing may escape
    from a callback here. `data` is what was read of it already, at most once."""

    __slots__ = ("_full", "_paced", "_reader")

    sock: _socket.socket

    def __init__(self, edge: "Edge", sock: _socket.socket, address: str, secure: bool = False) -> None:
        super().__init__(edge, address, "rtmps" if secure else "rtmp")
        self.sock = sock
        self._full = self._paced = False
        """Whether the last read took about all that it may: there may be more; and whether the next one comes in its time."""
        self._reader: Any = edge.loop.io(sock.fileno(), READ)
        self._reader.start(self._readable)

    # Reading

    def _readable(self) -> None:
        try:
            data = self.sock.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            self._full = False
            return
        except OSError as error:
            self.close(f"socket: {error.strerror}", gone=True)
            return
        if not data:
            self.close("closed by the client", gone=True)
            return
        self._full = len(data) >= _FULL_BYTES
        self.receive(data)

    def _read_in_time(self) -> None:
        """The publisher's time has come: read all that is there. Where nothing is, what comes next is read at once."""
        self._paced = False
        came = False
        for _ in range(_READS_IN_TIME):
            if self._may_read:
                self._readable()
            if self._paced or not self._may_read:
                return
            if not self._full:
                break
            came = True
        if came:
            self._listen(True)
        elif not self._reader.active:
            self._reader.start(self._readable)

    @property
    def _may_read(self) -> bool:
        return not (self.paused or self._more or self.closed)

    def _listen(self, reads: bool) -> None:
        reader = self._reader
        if reads and not self._paced and self.publications and not self._full and self._edge.read_pace.on:
            self._paced = True
            self._edge.read_pace.add(self._read_in_time)
        if not reads or self._paced:
            reader.stop()
        elif not reader.active:
            reader.start(self._readable)

    # Writing

    def _outbox_for_more(self) -> Outbox:
        outbox = self.outbox
        if outbox is None:
            outbox = self._open_outbox()
            self._edge.dirty.append(self)
        return outbox

    def transmit(self, data: bytes) -> None:
        """See Client."""
        if self.outbox is not None:
            self.enqueue(data)
        elif data and not self.closed:
            try:
                sent = self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except Exception as error:
                self._broken(error)
                return
            self._edge.counters.bytes_out += sent
            if sent < len(data):
                self.queue_rest(data, sent)

    def queue_rest(self, data: bytes, sent: int) -> None:
        """The first `sent` bytes were sent without an outbox; the socket is full."""
        self._open_outbox().put_rest(data, sent)

    def _open_outbox(self) -> Outbox:
        outbox = self.outbox = Outbox(self._edge.loop, self.sock, self._writable)
        if self.players:
            for player in self.players.values():
                player.fanout.hold(player)
        return outbox

    def flush(self) -> None:
        """See Client."""
        if self.outbox is not None and not self.outbox.full:
            self._drain()

    def _writable(self) -> None:
        self._drain()
        # Of objects that it has caught up with.
        self._edge.flush_clients()

    def _drain(self) -> None:
        try:
            self._send_queued()
        except Exception as error:
            self._broken(error)

    def _broken(self, error: Exception) -> None:
        """Nothing can be sent any more."""
        if isinstance(error, OSError):
            self.close(f"socket: {error.strerror}", gone=True)
        else:
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
        if self.behind:
            self.catch_up()

    # The end

    def _stop(self) -> None:
        # Watchers before the file descriptor: its number may be another client's at once.
        self._reader.stop()
        self._reader.close()
        if self.outbox is not None:
            self.outbox.stop()

    def _let_go(self, gone: bool, last: bytes) -> None:
        outbox, self.outbox = self.outbox, None
        if last:
            outbox = outbox if outbox is not None else Outbox(self._edge.loop, self.sock, self._writable)
            outbox.put(last)
        self._edge.linger(self.sock, self.address, None if gone else outbox, gone)
