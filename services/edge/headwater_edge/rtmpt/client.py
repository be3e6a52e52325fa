"""A client without a socket: its bytes come with requests and leave with the answers to them."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headwater_edge.client import Client
from headwater_edge.outbox import Outbox

if TYPE_CHECKING:
    from headwater_edge.edge import Edge


class TunnelOutbox(Outbox):
    """What waits for the next answers. It is never sent by itself."""

    __slots__ = ()

    def __init__(self) -> None:
        self.backlog_bytes = 0
        self._pieces = deque()
        self._watcher = None

    def take(self, limit: int) -> bytes:
        """The first bytes, `limit` at most, or the first piece; they are gone then."""
        pieces, size = self._pieces, 0
        taken: list[bytes | memoryview] = []
        while pieces and size + len(pieces[0]) <= limit:
            size += len(pieces[0])
            taken.append(pieces.popleft())
        if pieces and size < limit:
            first = memoryview(pieces[0])
            taken.append(first[: limit - size])
            pieces[0] = first[limit - size :]
            size = limit
        self.backlog_bytes -= size
        return b"".join(taken)

    def rest(self) -> bytes:
        """All of it; it stays."""
        return b"".join(self._pieces)


class TunnelClient(Client):
    """See Client. What it sends goes on to the origins when the edge has stored that it did. `on_change()` is called when
    something was queued, or it may be asked for more; `on_taken()` when another edge has it."""

    __slots__ = ("_dirty", "_on_change", "_on_taken", "listens")

    holds = True
    outbox: TunnelOutbox

    def __init__(
        self,
        edge: "Edge",
        address: str,
        secure: bool,
        on_change: Callable[[], None],
        on_taken: Callable[[], None],
    ) -> None:
        super().__init__(edge, address, "rtmpts" if secure else "rtmpt")
        self.outbox = TunnelOutbox()
        self.listens = True
        """Whether more is to be read of it: not while its origins do not keep up."""
        self._dirty = False
        self._on_change, self._on_taken = on_change, on_taken

    def _listen(self, reads: bool) -> None:
        changed, self.listens = reads != self.listens, reads
        if changed and reads:
            self._on_change()

    def _outbox_for_more(self) -> Outbox:
        if not self._dirty:
            self._dirty = True
            self._edge.dirty.append(self)
        return self.outbox

    def transmit(self, data: bytes) -> None:
        """See Client."""
        self.enqueue(data)

    def flush(self) -> None:
        """See Client."""
        self._dirty = False
        self._on_change()

    def take_output(self, limit: int) -> bytes:
        """What is queued, for an answer; `limit` bytes at most. There is room for more then."""
        output = self.outbox.take(limit)
        self._edge.counters.bytes_out += len(output)
        self.catch_up()
        return output

    @property
    def publishes(self) -> bool:
        """Whether it publishes something, and should be free to send at any time."""
        return bool(self.publications)

    # What is stored

    def marks(self) -> list[tuple[Any, ...]]:
        """How far everything is that waits to be stored: for `stored`."""
        marks: list[tuple[Any, ...]] = [(a, a.sent, a.applied, a.heard) for a in self.attachments]
        marks += [(publication, publication.number) for publication in (self.publications or {}).values()]
        return marks

    def stored(self, marks: list[tuple[Any, ...]]) -> None:
        """All of this is stored: what the client has sent goes on, and the origins need not keep what it was told."""
        for owner, number, *told in marks:
            owner.release(number)
            if told:
                owner.is_stored(*told)

    # The end

    def taken(self) -> None:
        """See Client."""
        super().taken()
        self._on_taken()

    def _stop(self) -> None:
        pass

    def _let_go(self, gone: bool, last: bytes) -> None:
        if last:
            self.outbox.put(last)
        self._on_change()
