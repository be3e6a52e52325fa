"""What a client publishes: counted, passed on, and kept for some seconds, should the stream's next origin need it."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from headwater_bus.traffic import PublisherMedia
from headwater_rtmp.gop import GopCache
from headwater_rtmp.message import COMMANDS, MEDIA, Message

from headwater_edge.attachment import Attachment

_MESSAGE_BYTES = 128
"""What a message costs besides its payload."""
_HEADER_BYTES = 256 * 1024
_Kept = tuple[float, int, int, int, bytes]
"""When a message came, its number, type id, timestamp and payload. Not a Message: what holds only numbers and bytes is nothing
to the garbage collector, which would stop an edge with 400 publishers for a tenth of a second every other second."""
_STORED_BYTES = 512 * 1024
"""Of what its origin may not have, at most so much is stored for another edge, the newest."""


class Publication:
    """A message stream of a client that publishes: by which attachment its media goes, as which `stream` of its link (0: no
    origin has it now), and the `number` of the last message.

    The ring holds the messages of the last `ring_s` seconds, by the time of their coming, while an origin has the stream. While
    none has, it holds all, so that those who play lack nothing. Over `ring_bytes` the oldest go in either case. Metadata and
    sequence headers are kept beside it.

    What a session sends that holds its messages (`Client.holds`) goes on when it is released.

    Numbers begin above those that an earlier publication of that name had: a player's edge that has not heard of the change of
    publishers takes nothing of the new one for something that it has.
    """

    __slots__ = (
        "_headers",
        "_holds",
        "_limit_bytes",
        "_ring",
        "_seconds",
        "_taken",
        "_under_way",
        "attachment",
        "held_bytes",
        "number",
        "released",
        "stream",
    )

    def __init__(
        self, attachment: Attachment, stream: int, ring_s: float, ring_bytes: int, holds: bool = False
    ) -> None:
        self.attachment, self.stream, self._holds = attachment, stream, holds
        self.number = time.time_ns() // 1_000_000
        self.held_bytes = 0
        """Bytes in the ring, with what each message costs besides its payload."""
        self._seconds, self._limit_bytes = ring_s, ring_bytes
        self._ring: deque[_Kept] = deque()
        self._headers = GopCache(_HEADER_BYTES, messages=False)
        self.released = self.number
        """Up to which message of a session that holds them they may go on."""
        self._taken = self.number
        """Up to which message an origin has them, as far as is known; `_under_way`: link and its position behind later ones."""
        self._under_way: deque[tuple[Any, int, int]] = deque()

    def note_early(self, stream_id: int, now: float) -> None:
        """Keep what went to the group on this message stream, as messages, before it said that this publishes: another origin
        gets it with the ring. The attachments have it still: it was sent behind the command."""
        for attachment in dict.fromkeys((self.attachment, self.attachment.client.home)):
            for sent in attachment.unacknowledged or ():
                if sent.stream_id != stream_id:
                    continue
                if sent.type_id in COMMANDS:
                    self._headers.clear()
                    self._ring.clear()
                    self.held_bytes = 0
                elif sent.type_id in MEDIA:
                    self._keep(Message(sent.type_id, stream_id, sent.timestamp, sent.payload), now)
        self.released = self._taken = self.number

    def take(self, message: Message, now: float) -> None:
        """Count a message, keep it, pass it on where an origin has the stream. `now`: monotonic seconds."""
        self._keep(message, now)
        if self.stream and not self._holds:
            self._pass_on(self.number, message.type_id, message.timestamp, message.payload)

    def release(self, number: int) -> None:
        """What was taken up to message `number` is stored, and may go on."""
        before, self.released = self.released, max(number, self.released)
        if not self.stream:
            return
        for _, at, type_id, timestamp, payload in self._between(before, number):
            self._pass_on(at, type_id, timestamp, payload)
        link = self.attachment.link
        assert link is not None
        self._under_way.append((link, link.position, number))

    def _between(self, after: int, last: int) -> list[_Kept]:
        found: list[_Kept] = []
        for kept in reversed(self._ring):
            number = kept[1]
            if number <= after:
                break
            if number <= last:
                found.append(kept)
        found.reverse()
        return found

    def _keep(self, message: Message, now: float) -> None:
        self.number += 1
        self._headers.add(message)
        ring = self._ring
        ring.append((now, self.number, message.type_id, message.timestamp, message.payload))
        self.held_bytes += len(message.payload) + _MESSAGE_BYTES
        oldest = now - self._seconds if self.stream else -1.0
        while self.held_bytes > self._limit_bytes or ring[0][0] < oldest:
            self.held_bytes -= len(ring.popleft()[4]) + _MESSAGE_BYTES
            if not ring:
                break  # It alone is over the limit.

    def resume(self, stream: int) -> int:
        """Another origin, or another link, has the stream, as number `stream`: it gets the headers and what is in the ring.
        Returns how many messages."""
        self.stream = stream
        self._under_way.clear()
        for header in self._headers.headers():
            self._pass_on(0, header.type_id, header.timestamp, header.payload)
        last = self.released if self._holds else self.number
        kept = self._between(-1, last)
        for _, number, type_id, timestamp, payload in kept:
            self._pass_on(number, type_id, timestamp, payload)
        return len(kept)

    # What another edge needs

    def headers(self) -> list[Message]:
        """Metadata and sequence headers."""
        return self._headers.headers()

    def not_taken(self) -> list[tuple[int, Message]]:
        """What its origin may not have, with its numbers, in order: the newest of it, where it is too much."""
        link, under_way = self.attachment.link, self._under_way
        while under_way and under_way[0][0] is link and under_way[0][1] <= link.acknowledged:
            self._taken = under_way.popleft()[2]
        kept: list[tuple[int, Message]] = []
        room = _STORED_BYTES
        for _, number, type_id, timestamp, payload in reversed(self._ring):
            room -= len(payload) + _MESSAGE_BYTES
            if number <= self._taken or room < 0:
                break
            kept.append((number, Message(type_id, 0, timestamp, payload)))
        kept.reverse()
        return kept

    def restore(self, number: int, headers: Iterable[Message], kept: Iterable[tuple[int, Message]]) -> None:
        """As another edge has stored it: the number of the last message, its headers, what the origin may not have."""
        now = time.monotonic()
        for header in headers:
            self._headers.add(header)
        self._taken = number
        for at, message in kept:
            self._taken = min(self._taken, at - 1)
            self.number = at - 1
            self._keep(message, now)
        self.number = self.released = number

    def _pass_on(self, number: int, type_id: int, timestamp: int, payload: bytes) -> None:
        self.attachment.link.send(  # type: ignore[union-attr]  # it has one while it has a stream, and this is a hot path
            PublisherMedia(self.stream, number, type_id, timestamp, payload)
        )
