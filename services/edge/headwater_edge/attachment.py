"""A session's place in one group: the number that both ends of a link know it by, what it has sent there, and how far that was
applied."""

import time
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

from headwater_bus.codec import constructor
from headwater_bus.link import Link
from headwater_bus.traffic import FromClient, FromGuest, Heard, Routed
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode

if TYPE_CHECKING:
    from headwater_edge.client import Client

_make_from_client = constructor(FromClient)


class AttachmentPhase(IntEnum):
    """How far a session has come in a group."""

    FINDING = 0
    """Nobody was asked, or the group's origin is looked for (again)."""
    ASKED = 1
    """The origin has not answered yet."""
    RESUMING = 2
    """An origin was asked to go on with it and has not answered yet. What the client sends goes there already."""
    ATTACHED = 3
    ENDED = 4


_ATTACHED, _RESUMING, _ENDED = AttachmentPhase.ATTACHED, AttachmentPhase.RESUMING, AttachmentPhase.ENDED


class Attachment:
    """A session in a group: its home, the scope that it connects to, or one that it is a guest of.

    `number` is edge-wide and stays the same at whatever origin the group is. `link` is there from ASKED on, until the group
    leaves it, and stays when it has ended.

    What the session sends is kept until the group has applied it, and is sent again to the group's next origin.
    """

    __slots__ = (
        "accepted",
        "applied",
        "client",
        "epoch",
        "group",
        "heard",
        "link",
        "number",
        "phase",
        "released",
        "sent",
        "since",
        "state",
        "stored",
        "unacknowledged",
    )

    def __init__(self, client: "Client", number: int, group: str) -> None:
        self.client, self.number, self.group = client, number, group
        self.link: Link | None = None
        self.phase = AttachmentPhase.FINDING
        self.accepted = False
        """Whether an origin of the group has ever taken it: the next one is to go on with it."""
        self.epoch = 0
        """Of the last Attach: what answers an earlier one over the same link means nothing."""
        self.since = time.monotonic()
        """Since when the group's origin is looked for."""
        self.sent = 0
        """How many messages the session has sent to the group."""
        self.applied = self.heard = 0
        """Up to which of them the group is done, and the last entry of its journal of which the session has been told what it
        says to it: see `traffic.Applied`."""
        self.stored = (0, 0)
        """`applied` and `heard` of a session with a fence, as they are stored: see `traffic.Heard`."""
        self.state = b""
        """What the group's next origin needs to know of the session: see `traffic.SessionState`."""
        self.released = 0
        """Up to which message of a session that holds them they may go to the group: see `Client.holds`."""
        self.unacknowledged: deque[FromClient | FromGuest] | None = None
        """What the group has not applied yet, and, until it has taken a guest, what waits for that. None: nothing."""

    @property
    def is_home(self) -> bool:
        """Whether the group is the scope that the session connects to."""
        return self.client.home is self

    # What the session sends

    def forward(self, message: Message) -> None:
        """Pass a message of the client on to the group."""
        self.sent += 1
        self._send(
            _make_from_client(
                self.number,
                self.sent,
                message.type_id,
                message.stream_id,
                message.timestamp,
                message.payload,
            )
        )

    def send_routed(self, routed: Routed) -> None:
        """Send a message on to the group of a guest, as its home allows it."""
        self.sent += 1
        self._send(
            FromGuest(
                self.number,
                self.sent,
                routed.access,
                routed.denied,
                routed.type_id,
                routed.stream_id,
                routed.timestamp,
                routed.payload,
            )
        )

    def _send(self, envelope: FromClient | FromGuest) -> None:
        phase = self.phase
        if phase is _ENDED:
            return
        self.keep(envelope)
        if self.client.holds:
            self.client.held()
        elif phase is _ATTACHED or phase is _RESUMING:
            self.link.send(envelope)  # type: ignore[union-attr]  # it has one then, and this is a hot path

    def release(self, number: int) -> None:
        """What the session has sent up to message `number` is stored, and may go to the group."""
        before, self.released = self.released, max(number, self.released)
        if self.phase is _ATTACHED or self.phase is _RESUMING:
            for envelope in self.unacknowledged or ():
                if before < envelope.number <= number:
                    self.link.send(envelope)  # type: ignore[union-attr]  # as above

    def acknowledge(self, number: int, heard: int) -> None:
        """The group is done with what was sent up to `number`, and has told the session what its journal says up to entry
        `heard`."""
        if heard > self.heard:
            self.heard = heard
        if number <= self.applied:
            return
        self.applied = number
        kept, client = self.unacknowledged, self.client
        while kept and kept[0].number <= number:
            client.kept_messages -= 1
            client.kept_bytes -= len(kept.popleft().payload)
        if not kept:
            # An empty deque takes more memory than all else here.
            self.unacknowledged = None

    # Its phases

    def asked(self, link: Link, epoch: int) -> int:
        """An Attach is on its way: what is kept goes right behind one that is to go on. Returns how many messages."""
        self.link, self.epoch = link, epoch
        self.phase = AttachmentPhase.RESUMING if self.accepted else AttachmentPhase.ASKED
        return self._send_kept() if self.accepted else 0

    def attached(self, number: int) -> None:
        """The group's origin has the session, and what it sent up to `number`; what has waited for that is sent."""
        first, self.accepted = not self.accepted, True
        self.phase = AttachmentPhase.ATTACHED
        self.acknowledge(number, 0)
        if first:
            self._send_kept()

    def _send_kept(self) -> int:
        assert self.link is not None
        last = self.released if self.client.holds else self.sent
        kept = [envelope for envelope in self.unacknowledged or () if envelope.number <= last]
        for envelope in kept:
            self.link.send(envelope)
        return len(kept)

    def lost(self, now: float) -> bool:
        """The group, or it alone, has left its link: an origin is looked for again. Returns whether it was attached."""
        attached = self.phase is _ATTACHED
        if attached:
            self.since = now
        self.link, self.phase = None, AttachmentPhase.FINDING
        return attached

    def restore(self, accepted: bool, sent: int, applied: int, heard: int, state: bytes) -> None:
        """As another edge has stored it. What it kept comes by `keep`."""
        self.accepted, self.sent, self.applied, self.heard, self.state = accepted, sent, applied, heard, state
        self.released, self.stored = sent, (applied, heard)

    def keep(self, envelope: FromClient | FromGuest) -> None:
        """A message that the session has sent and the group has not applied."""
        if self.unacknowledged is None:
            self.unacknowledged = deque()
        self.unacknowledged.append(envelope)
        self.client.kept_messages += 1
        self.client.kept_bytes += len(envelope.payload)

    def is_stored(self, applied: int, heard: int) -> None:
        """What the session was told up to these numbers is stored where another edge finds it."""
        if self.stored != (applied, heard):
            self.stored = (applied, heard)
            if self.link is not None and self.phase is not _ENDED:
                self.tell_heard(self.link)

    def tell_heard(self, link: Link) -> None:
        """Tell the group's origin what need not be kept for another edge."""
        if self.stored != (0, 0):
            link.send(Heard([self.number, *self.stored]))

    def ended(self) -> None:
        """The session leaves the group, or the edge: nothing of it is kept any more."""
        self.phase = AttachmentPhase.ENDED
        for envelope in self.unacknowledged or ():
            self.client.kept_messages -= 1
            self.client.kept_bytes -= len(envelope.payload)
        self.unacknowledged = None

    def fail(self, code: StatusCode, text: str) -> None:
        """The session cannot be in the group: its client is told why and closed; `code` answers the `connect` of a home."""
        if self.is_home and not self.accepted:
            self.client.reject(code, text)
        else:
            self.client.close_with(StatusCode.CONNECT_CLOSED, text, error=True)
