"""A client without a socket: its bytes come with requests and leave with the answers to them."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.status import StatusCode

from headwater_edge.attachment import Attachment
from headwater_edge.client import Client
from headwater_edge.outbox import Outbox
from headwater_edge.publishing import Publication

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

    def restore(self, rest: bytes) -> None:
        """What another edge's `rest` gave: it may begin inside a chunk."""
        self._pieces.append(memoryview(rest))
        self.backlog_bytes += len(rest)


@dataclass(frozen=True, slots=True)
class Marks:
    """How far everything of a session is that waits to be stored: the number of the last message of an attachment, with what it
    was told (see Attachment), or of a publication; and the guests that are let go."""

    attachments: list[tuple[Attachment, int, int, int]]
    publications: list[tuple[Publication, int]]
    leaving: list[tuple[Attachment, str]]


class TunnelClient(Client):
    """See Client. What it sends goes on to the origins when the edge has stored that it did. `on_change()` is called when
    something was queued, or it may be asked for more; `on_taken()` when another edge has it."""

    __slots__ = ("_dirty", "_leaving", "_on_change", "_on_taken", "listens")

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
        self._leaving: list[tuple[Attachment, str]] = []
        """Guests that are detached when it is stored that they are."""
        self._dirty = False
        self._on_change, self._on_taken = on_change, on_taken

    def _listen(self, reads: bool) -> None:
        changed, self.listens = reads != self.listens, reads
        if changed and reads:
            self._on_change()

    def receive(self, data: bytes) -> None:
        """See Client. While its origins do not keep up, what comes waits here, as it has been asked for; so there is a limit."""
        if not (data and self.paused):
            super().receive(data)
            return
        self._edge.counters.bytes_in += len(data)
        try:
            self.rtmp.feed(data)
        except RemoteProtocolError as error:
            self.close_for(error)
            return
        self._more = True
        limit = self._edge.config.http_body_bytes + self._edge.chunk_limits.media_bytes
        if self.rtmp.held_bytes > limit:
            reason = f"more than {limit} bytes sent while what came before waits for an origin"
            self.close_with(StatusCode.CONNECT_CLOSED, reason, error=True)

    def held(self) -> None:
        """See Client."""
        if not self._dirty:
            self._dirty = True
            self._edge.dirty.append(self)

    def _outbox_for_more(self) -> Outbox:
        self.held()
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

    @property
    def unstored(self) -> bool:
        """Whether something waits to be stored before it goes on."""
        return (
            bool(self._leaving)
            or any(attachment.sent > attachment.released for attachment in self.attachments)
            or any(one.number > one.released for one in (self.publications or {}).values())
        )

    def marks(self) -> Marks:
        """What a record says that is made now: for `stored`."""
        return Marks(
            [(a, a.sent, a.applied, a.heard) for a in self.attachments],
            [(publication, publication.number) for publication in (self.publications or {}).values()],
            self._leaving[:],
        )

    def stored(self, marks: Marks) -> None:
        """All of this is stored: what the client has sent goes on, and the origins need not keep what it was told."""
        for attachment, number, applied, heard in marks.attachments:
            attachment.release(number)
            attachment.is_stored(applied, heard)
        for publication, number in marks.publications:
            publication.release(number)
        for leaving in marks.leaving:
            if leaving in self._leaving:
                self._leaving.remove(leaving)
                self._edge.cluster.detach(*leaving)

    def let_go(self, guest: Attachment, reason: str) -> None:
        """See Client. What is stored has it still, with messages that another edge would send again."""
        self._leaving.append((guest, reason))
        self.held()

    def recall(self, group: str) -> Attachment | None:
        """See Client."""
        for leaving in self._leaving:
            if leaving[0].group == group:
                self._leaving.remove(leaving)
                return leaving[0]
        return None

    # The end

    def taken(self) -> None:
        """See Client."""
        super().taken()
        self._on_taken()

    def _stop(self) -> None:
        # They end as its other attachments do.
        leaving, self._leaving = self._leaving, []
        if leaving:
            self.guests = {**(self.guests or {}), **{guest.group: guest for guest, _ in leaving}}

    def _let_go(self, gone: bool, last: bytes) -> None:
        if last:
            self.outbox.put(last)
        self._on_change()
