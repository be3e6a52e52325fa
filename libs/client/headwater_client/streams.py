"""The streams of a connection."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater_client.net_stream import NetStream


class Streams:
    """Those that are open, and by which ids the server knows them. The ids are lost with the connection."""

    __slots__ = ("_by_id", "_open")

    def __init__(self) -> None:
        self._by_id: dict[int, NetStream] = {}
        self._open: list[NetStream] = []

    def __iter__(self) -> "Iterator[NetStream]":
        return iter(list(self._open))

    def get(self, stream_id: int) -> "NetStream | None":
        """The one that the server means."""
        return self._by_id.get(stream_id)

    def only_waiting(self) -> "NetStream | None":
        """The one that waits for an answer, if it is the only one: some servers forget the stream id."""
        waiting = [each for each in self._by_id.values() if each.waiting]
        return waiting[0] if len(waiting) == 1 else None

    def add(self, stream: "NetStream") -> None:
        """The server knows it by its id from here on."""
        self._by_id[stream.id] = stream
        if stream not in self._open:
            self._open.append(stream)

    def knows(self, stream: "NetStream") -> bool:
        """Whether the server does, on this connection."""
        return self._by_id.get(stream.id) is stream

    def forget(self, stream: "NetStream") -> None:
        """It is closed."""
        if self.knows(stream):
            del self._by_id[stream.id]
        if stream in self._open:
            self._open.remove(stream)

    def suspend(self) -> None:
        """The connection is lost."""
        self._by_id.clear()
        for stream in self:
            stream.suspend()

    def resume(self, for_s: float) -> None:
        """There is another one."""
        for stream in self:
            stream.resume(for_s)

    def ended(self, discard: bool) -> None:
        """There will be no other."""
        for stream in self:
            stream.ended(discard)
