"""What a client publishes: counted, passed on, and kept for some seconds, should the stream's next origin need it."""

import time
from collections import deque

from headwater_bus.traffic import PublisherMedia
from headwater_rtmp.gop import GopCache
from headwater_rtmp.message import COMMANDS, MEDIA, Message

from headwater_edge.attachment import Attachment

_MESSAGE_BYTES = 128
"""What a message costs besides its payload."""
_HEADER_BYTES = 256 * 1024


class Publication:
    """A message stream of a client that publishes: by which attachment its media goes, as which `stream` of its link (0: no
    origin has it now), and the `number` of the last message.

    The ring holds the messages of the last `ring_s` seconds, by the time of their coming, while an origin has the stream. While
    none has, it holds all, so that those who play lack nothing. Over `ring_bytes` the oldest go in either case. Metadata and
    sequence headers are kept beside it.

    Numbers begin above those that an earlier publication of that name had: a player's edge that has not heard of the change of
    publishers takes nothing of the new one for something that it has.
    """

    __slots__ = (
        "_headers",
        "_limit_bytes",
        "_ring",
        "_seconds",
        "attachment",
        "held_bytes",
        "number",
        "stream",
    )

    def __init__(self, attachment: Attachment, stream: int, ring_s: float, ring_bytes: int) -> None:
        self.attachment, self.stream = attachment, stream
        self.number = time.time_ns() // 1_000_000
        self.held_bytes = 0
        """Bytes in the ring, with what each message costs besides its payload."""
        self._seconds, self._limit_bytes = ring_s, ring_bytes
        self._ring: deque[tuple[float, int, Message]] = deque()
        self._headers = GopCache(_HEADER_BYTES)

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

    def take(self, message: Message, now: float) -> None:
        """Count a message, keep it, pass it on where an origin has the stream. `now`: monotonic seconds."""
        self._keep(message, now)
        if self.stream:
            self._pass_on(self.number, message)

    def _keep(self, message: Message, now: float) -> None:
        self.number += 1
        self._headers.add(message)
        ring = self._ring
        ring.append((now, self.number, message))
        self.held_bytes += len(message.payload) + _MESSAGE_BYTES
        oldest = now - self._seconds if self.stream else -1.0
        while self.held_bytes > self._limit_bytes or ring[0][0] < oldest:
            self.held_bytes -= len(ring.popleft()[2].payload) + _MESSAGE_BYTES
            if not ring:
                break  # It alone is over the limit.

    def resume(self, stream: int) -> int:
        """Another origin, or another link, has the stream, as number `stream`: it gets the headers and what is in the ring.
        Returns how many messages."""
        self.stream = stream
        for header in self._headers.headers():
            self._pass_on(0, header)
        for _, number, message in self._ring:
            self._pass_on(number, message)
        return len(self._ring)

    def _pass_on(self, number: int, message: Message) -> None:
        self.attachment.link.send(  # type: ignore[union-attr]  # it has one while it has a stream, and this is a hot path
            PublisherMedia(self.stream, number, message.type_id, message.timestamp, message.payload)
        )
