"""A message stream of a session that publishes, and what it brings."""

from typing import TYPE_CHECKING

from headwater_bus.traffic import PublisherMedia
from headwater_rtmp.message import Counted, Message

if TYPE_CHECKING:
    from headwater_origin.session import Session
    from headwater_origin.streams.net_stream import NetStream
    from headwater_origin.streams.stream import Stream


class Publication:
    """A message stream of a session that publishes. `number` is what its PublisherMedia carries on the publisher's link.
    `awaited`: its edge was asked for its ring, which begins with the next message that has a number. `resumed`: it was
    asked once."""

    __slots__ = ("awaited", "former", "net_stream", "number", "resumed", "session", "stream", "suspended")

    def __init__(
        self, session: "Session", net_stream: "NetStream", stream: "Stream", number: int, resumed: bool
    ) -> None:
        self.session, self.net_stream, self.stream, self.number = session, net_stream, stream, number
        self.resumed = self.awaited = resumed
        self.former: int | None = None
        """The number before this one, by which live messages come until the ring begins."""
        self.suspended = False
        """Whether its link is lost: the name is its own until it is back, or is given up."""

    def take_early(self, message: Message) -> None:
        """One that its edge sent as a message of the client, before it knew of the publication. A ring has it, too."""
        if not self.resumed:
            self.stream.media(0, message)

    def take(self, envelope: PublisherMedia) -> None:
        """One message that its edge sent as what is published."""
        stream, number = self.stream, envelope.number
        if number == 0:
            stream.header(Message(envelope.type_id, 0, envelope.timestamp, envelope.payload))
            return
        if self.awaited:
            self.awaited = False
            stream.ring_begins(number)
        stream.media(number, Counted(envelope.type_id, 0, envelope.timestamp, envelope.payload, number))

    def release_former(self) -> None:
        """Nothing comes by the former number any more."""
        if self.former is not None:
            self.session.edge.publications.pop(self.former, None)
            self.former = None

    def release_numbers(self) -> None:
        """Nothing of it comes any more."""
        self.release_former()
        self.session.edge.publications.pop(self.number, None)
