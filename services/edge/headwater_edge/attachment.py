"""A session's place in one group: the number that both ends of the link know it by, and what it has sent there."""

import time
from enum import IntEnum
from typing import TYPE_CHECKING

from headwater_bus.link import Link
from headwater_bus.traffic import FromClient, FromGuest, Routed
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode

if TYPE_CHECKING:
    from headwater_edge.client import Client

_WAITING_MESSAGES = 1024
_WAITING_BYTES = 1024 * 1024
"""What a guest may have sent before the group's origin has taken it: `attach_s` at the rate of a busy client."""


class AttachmentPhase(IntEnum):
    """How far a session has come in a group."""

    FINDING = 0
    """Nobody was asked, or the group's origin is looked for (again)."""
    ASKED = 1
    """The origin has not answered yet."""
    ATTACHED = 2
    ENDED = 3


_ATTACHED = AttachmentPhase.ATTACHED


class Attachment:
    """A session in a group: its home, the scope that it connects to, or one that it is a guest of.

    `number` is edge-wide, so two of one client may share a link. `link` is there from ASKED on, and stays when it has ended.
    """

    __slots__ = (
        "client",
        "group",
        "link",
        "number",
        "phase",
        "sent",
        "since",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, client: "Client", number: int, group: str) -> None:
        self.client, self.number, self.group = client, number, group
        self.link: Link | None = None
        self.phase = AttachmentPhase.FINDING
        self.sent = 0
        """How many messages the session has sent to the group."""
        self.since = time.monotonic()
        """Since when the group's origin is looked for."""
        self.waiting: list[FromClient | FromGuest] | None = None
        """What goes to the group once it has taken a guest. What waits for a home is its client's (`early`)."""
        self.waiting_bytes = 0

    @property
    def is_home(self) -> bool:
        """Whether the group is the scope that the session connects to."""
        return self.client.home is self

    def forward(self, message: Message) -> None:
        """Pass a message of the client on to the group."""
        self.sent += 1
        self._send(
            FromClient(
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
        if self.phase is _ATTACHED:
            self.link.send(envelope)  # type: ignore[union-attr]  # it has one then, and this is a hot path
        elif self.phase != AttachmentPhase.ENDED:
            self._hold(envelope)

    def _hold(self, envelope: FromClient | FromGuest) -> None:
        if self.waiting is None:
            self.waiting = []
        self.waiting.append(envelope)
        self.waiting_bytes += len(envelope.payload)
        if len(self.waiting) > _WAITING_MESSAGES or self.waiting_bytes > _WAITING_BYTES:
            self.fail(
                StatusCode.CONNECT_CLOSED,
                f"{len(self.waiting)} messages of {self.waiting_bytes} bytes wait for the origin of {self.group}, "
                f"expected at most {_WAITING_MESSAGES} of {_WAITING_BYTES}",
            )

    def attached(self) -> None:
        """The group's origin has taken the session: send what has waited."""
        assert self.link is not None
        self.phase = AttachmentPhase.ATTACHED
        waiting, self.waiting, self.waiting_bytes = self.waiting or (), None, 0
        for envelope in waiting:
            self.link.send(envelope)

    def fail(self, code: StatusCode, text: str) -> None:
        """The session cannot be in the group: its client is told why and closed; `code` answers the `connect` of a home."""
        if self.is_home:
            self.client.reject(code, text)
        else:
            self.client.close_with(StatusCode.CONNECT_CLOSED, text, error=True)
