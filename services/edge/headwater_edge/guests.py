"""What homes have their sessions send to other groups, and what becomes of a session as their guest.

A guest is attached when the first message goes there, and detached when the group has nothing of it any more. The home hears of
the streams that a guest has, because its application is asked and told about them.
"""

from typing import TYPE_CHECKING

from headwater_bus.traffic import GuestIdle, GuestStream, Routed, Unrouted
from headwater_rtmp.message import COMMANDS, OBJECTS, Message
from headwater_rtmp.shared_object import peek_shared_object

from headwater_edge.attachment import Attachment

if TYPE_CHECKING:
    from headwater_edge.client import Client
    from headwater_edge.edge import Edge

_STRAIGHT = 1
"""The route of a Routed after which messages go straight to the group."""


class Guests:
    """The guests among an edge's attachments."""

    def __init__(self, edge: "Edge") -> None:
        self._edge = edge

    def routed(self, home: Attachment, envelope: Routed) -> None:
        """Send a client's message on to the group that its home says."""
        client = home.client
        if client.guests is None:
            client.guests = {}
        guest = client.guests.get(envelope.group) or client.recall(envelope.group)
        new = guest is None
        if guest is None:
            guest = Attachment(client, self._edge.next_number(), envelope.group)
        client.guests[envelope.group] = guest
        if client.routes is not None and envelope.type_id in OBJECTS:
            message = Message(envelope.type_id, envelope.stream_id, envelope.timestamp, envelope.payload)
            about = peek_shared_object(message)
            straight = envelope.route == _STRAIGHT
            client.routes.routed((about.name, about.persistent), guest if straight else None)
        if envelope.type_id in COMMANDS:
            if client.stream_groups is None:
                client.stream_groups = {}
            client.stream_groups[envelope.stream_id] = envelope.group
        guest.send_routed(envelope)
        if new:
            self._edge.cluster.attach(guest)

    def unrouted(self, client: "Client", envelope: Unrouted) -> None:
        """A SharedObject message was answered by its home."""
        if client.routes is not None:
            client.routes.unrouted((envelope.name, envelope.persistent))

    def idle(self, guest: Attachment, envelope: GuestIdle) -> None:
        """The group has nothing of a guest: it is let go, unless more is on its way there."""
        client = guest.client
        if (
            client.guests is None
            or client.guests.get(guest.group) is not guest
            or envelope.number != guest.sent
        ):
            return
        del client.guests[guest.group]
        if client.routes is not None:
            client.routes.forget(guest)
        client.let_go(guest, "nothing is used here")

    def late(self, attachment: Attachment, stream_id: int) -> bool:
        """Whether what begins on a message stream is what its client wanted before: it was ended when something of another
        group was asked for, and the end is on the way."""
        groups = attachment.client.stream_groups
        return not attachment.is_home and groups is not None and groups.get(stream_id) != attachment.group

    def stream(self, number: int, client: "Client", stream_id: int, publishes: bool, started: bool) -> None:
        """A message stream of a client began or ended to publish or play by the attachment `number`. Its home is told, where
        that is another."""
        home = client.home
        if number != home.number and home.link is not None:
            guests = client.guests.values() if client.guests is not None else ()
            group = next((guest.group for guest in guests if guest.number == number), "")
            home.link.send(GuestStream(home.number, stream_id, publishes, started, group))
