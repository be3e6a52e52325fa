"""What edges send about sessions that are here: whose it is, whether it is new and not too much, who handles it in its turn."""

from collections.abc import Callable
from typing import Any

from headwater_bus import object_traffic, traffic
from headwater_rtmp.command import decode_command
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import COMMANDS, MEDIA, OBJECTS, Message
from headwater_rtmp.shared_object import decode_shared_object

from headwater_origin.commands import run_command
from headwater_origin.config import OriginConfig
from headwater_origin.connect import tell_idle
from headwater_origin.counters import Counters
from headwater_origin.edge_port import EdgePort
from headwater_origin.objects.access import Access
from headwater_origin.session import Session
from headwater_origin.streams import netstreams
from headwater_origin.streams import routes as stream_routes

_COUNTED_BYTES, _COUNTED_EVENTS = 1024, 8
"""So many bytes, or events of a SharedObject message, count as one message more towards a client's rate."""
_GROUP_COUNT = 40
"""And an object or stream that is a group of its own as so many more where it may have to begin: the balancer is asked for it,
the registry knows it, and an origin keeps it, for everybody's seconds."""
_STREAM_COMMANDS = frozenset(("publish", "play"))


class Inbound:
    """See the module. `handlers` by the kind of the envelope."""

    def __init__(self, config: OriginConfig, counters: Counters) -> None:
        self._config, self._counters = config, counters
        self.handlers: dict[type, Callable[[EdgePort, Any], None]] = {
            traffic.FromClient: self._from_client,
            traffic.FromGuest: self._from_guest,
            traffic.GuestStream: self._guest_stream,
            object_traffic.ObjectResync: self._object_resync,
            object_traffic.ObjectRequest: self._object_request,
            traffic.PublisherMedia: self._publisher_media,
            traffic.GatherMedia: self._gather_media,
        }

    def _from_client(self, port: EdgePort, envelope: traffic.FromClient) -> None:
        session = self._sender(port, envelope)
        if session is None:
            return
        kind = envelope.type_id
        message = Message(kind, envelope.stream_id, envelope.timestamp, envelope.payload)
        try:
            if kind in OBJECTS:
                self._object_message(session, message, envelope.number)
            elif kind in COMMANDS:
                self._command_message(session, message, envelope.number)
            elif kind in MEDIA:
                self._early_media(session, message, envelope.number)
            else:
                _nothing(session, envelope.number)
        except RemoteProtocolError as error:
            self._broke_protocol(session, error)
            return
        if session.guest:
            session.post(lambda: tell_idle(session, envelope.number), waits=False)

    def _broke_protocol(self, session: Session, error: RemoteProtocolError) -> None:
        self._counters.protocol_errors += 1
        session.close_for(str(error))

    def _within_rate(self, session: Session, count: int) -> bool:
        """Count a message, a large one as `count`; a client that sends more than it may is closed, and so is one that asks on
        and on while the store is away."""
        if session.waiting and session.behind:
            session.close_for(f"{session.waiting} messages to it wait for the store already")
            return False
        if not session.too_fast(count):
            return True
        per_s = self._config.messages_per_s
        spread = session.group.spread_objects or session.group.spread_streams
        of_its_own = f" (an object or stream of its own counts as {_GROUP_COUNT})" if spread else ""
        session.close_for(f"over {per_s} messages a second{of_its_own}")
        return False

    def _sender(
        self, port: EdgePort, envelope: traffic.FromClient | traffic.FromGuest | object_traffic.ObjectRequest
    ) -> Session | None:
        """Whose message it is, if it is there and this is not one of its that were here already."""
        size = len(envelope.payload)
        self._counters.messages_in += 1
        self._counters.bytes_in += size
        session = port.sessions.get(envelope.session)
        if session is None or session.closed or session.group.held is not None:
            self._not_now(port, session, envelope)
            return None
        if envelope.number <= session.received:
            self._counters.messages_again += 1
            return None
        session.received = envelope.number
        load = session.group.load
        load.messages += 1
        load.bytes += size
        return session

    def _not_now(self, port: EdgePort, session: Session | None, envelope: Any) -> None:
        """Of an envelope about a session that is not attached yet, or whose group is being moved: it is held."""
        if session is not None and not session.closed:
            if session.group.held is not None:
                session.group.held.add(port, envelope)
            return
        waiting = port.waiting.get(envelope.session)
        if waiting is not None:
            waiting.hold(envelope)
            return
        self._counters.stray_messages += 1
        if envelope.session in port.dropped:
            # Its group was elsewhere meanwhile, which the edge does not seem to know.
            del port.dropped[envelope.session]
            port.refuse(envelope.session, "", "not attached any more")

    def _command_message(self, session: Session, message: Message, number: int) -> None:
        command, size = decode_command(message), len(message.payload)
        count = 1 + size // _COUNTED_BYTES
        if command.name in _STREAM_COMMANDS and session.group.spread_streams:
            count += _GROUP_COUNT
        # What answers a call of ours was asked for.
        if session.asked_for(command) or self._within_rate(session, count):
            run_command(session, command, size, number)

    def _object_message(self, session: Session, message: Message, number: int) -> None:
        group = session.group
        objects = group.objects
        decoded, size = decode_shared_object(message), len(message.payload)
        count = 1 + len(decoded.events) // _COUNTED_EVENTS + size // _COUNTED_BYTES
        if group.spread_objects and objects.routes.begins_group(decoded):
            count += _GROUP_COUNT
        if self._within_rate(session, count):
            objects.take(session, decoded, size, number)

    def _from_guest(self, port: EdgePort, envelope: traffic.FromGuest) -> None:
        """A message that the session's home has allowed."""
        session = self._sender(port, envelope)
        if session is None:
            return
        message = Message(envelope.type_id, envelope.stream_id, envelope.timestamp, envelope.payload)
        objects, size, number = session.group.objects, len(message.payload), envelope.number
        try:
            if message.type_id in MEDIA:
                self._early_media(session, message, number)
            elif message.type_id in COMMANDS:
                run_command(session, decode_command(message), size, number)
            elif message.type_id in OBJECTS:
                decoded, access = decode_shared_object(message), Access(envelope.access)
                denied = frozenset(envelope.denied)
                session.post(
                    lambda: objects.handle_guest(session, decoded, access, denied),
                    waits=objects.asks(session, decoded),
                    size=size,
                    number=number,
                )
            else:
                _nothing(session, number)
        except RemoteProtocolError as error:
            self._broke_protocol(session, error)
            return
        session.post(lambda: tell_idle(session, number), waits=False)

    def _guest_stream(self, port: EdgePort, envelope: traffic.GuestStream) -> None:
        """A stream of a session is published or played, or is no longer, at the origin that has it."""
        session = port.sessions.get(envelope.session)
        if session is None or session.closed or session.group.held is not None:
            self._not_now(port, session, envelope)
        else:
            session.post(lambda: stream_routes.guest_stream(session, envelope), waits=False)

    def _object_resync(self, port: EdgePort, envelope: object_traffic.ObjectResync) -> None:
        """An edge's replica lacks a commit."""
        shared = port.objects.get(envelope.shared_object)
        if shared is None:
            self._counters.stray_messages += 1
        else:
            shared.resync(port, envelope.shared_object)

    def _object_request(self, port: EdgePort, envelope: object_traffic.ObjectRequest) -> None:
        """Changes of an application of another scope."""
        session = self._sender(port, envelope)
        if session is None:
            return
        objects = session.group.objects
        session.post(
            lambda: objects.request_from_application(session, envelope),
            waits=objects.request_waits(session, envelope),
            size=len(envelope.payload),
            number=envelope.number,
        )

    def _early_media(self, session: Session, message: Message, number: int) -> None:
        """Media of a client that publishes and has not waited for the answer: its edge does not know yet that it may."""
        session.post(
            lambda: netstreams.early_media(session, message),
            waits=False,
            size=len(message.payload),
            number=number,
        )

    @staticmethod
    def _gather_media(port: EdgePort, envelope: traffic.GatherMedia) -> None:
        port.media.gather(envelope.interval_ms)

    def _publisher_media(self, port: EdgePort, envelope: traffic.PublisherMedia) -> None:
        self._counters.bytes_in += len(envelope.payload)
        publication = port.publications.get(envelope.stream)
        if publication is None:
            self._counters.stray_messages += 1
            return
        load = publication.session.group.load
        load.messages += 1
        load.bytes += len(envelope.payload)
        publication.take(envelope)


def _nothing(session: Session, number: int) -> None:
    """A message of a kind that nobody needs is done in its turn, so that its edge need not keep it."""
    session.post(lambda: None, waits=False, number=number)
