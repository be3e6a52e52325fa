"""What origins say to the edge about its sessions, streams and SharedObjects, carried out envelope by envelope.

Numbers that mean nothing (any more) are ignored: a client may have left while the origin spoke about it, and a group may have
another origin. A session that an origin was asked to go on with hears nothing before the answer: what comes was said when it had
the session before.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headwater_bus import traffic
from headwater_bus.logs import get_log
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message

from headwater_edge.attachment import Attachment, AttachmentPhase
from headwater_edge.client import Client, Phase
from headwater_edge.directory import Directory
from headwater_edge.guests import Guests
from headwater_edge.object_flush import ObjectFlush
from headwater_edge.object_handlers import ObjectHandlers
from headwater_edge.object_pending import tell_pending
from headwater_edge.stream_handlers import StreamHandlers

if TYPE_CHECKING:
    from headwater_edge.cluster import Cluster
    from headwater_edge.edge import Edge

_log = get_log("edge")
_ANSWERS = frozenset((traffic.Attached, traffic.AttachRefused, traffic.SessionTaken, traffic.CloseSession))
_ASKED, _RESUMING = AttachmentPhase.ASKED, AttachmentPhase.RESUMING


class EnvelopeHandlers:
    """Carries out what the links of a cluster bring."""

    def __init__(self, edge: "Edge", cluster: "Cluster") -> None:
        self._edge = edge
        self._cluster = cluster
        self._guests = Guests(edge)
        self._streams = StreamHandlers(edge, cluster, self._guests)
        self.objects = ObjectFlush(edge)
        self._handlers: dict[type, Callable[[Directory, Any], None]] = {
            traffic.Attached: self._attached,
            traffic.AttachRefused: self._attach_refused,
            traffic.SessionTaken: self._session_taken,
            traffic.Applied: self._applied,
            traffic.SessionState: self._session_state,
            traffic.ToClient: self._to_client,
            traffic.CloseSession: self._close_session,
            traffic.Routed: self._routed,
            traffic.Unrouted: self._unrouted,
            traffic.GuestIdle: self._guest_idle,
            **self._streams.handlers,
            **ObjectHandlers(edge, cluster, self.objects).handlers,
        }

    def carry_out(self, directory: Directory, envelopes: list[Any]) -> None:
        """One batch of a link, in order. An envelope that cannot be carried out costs a log line, not the link."""
        handlers = self._handlers
        for envelope in envelopes:
            kind = type(envelope)
            handler = handlers.get(kind)
            if handler is None:
                continue
            try:
                group = self._cluster.answered(directory, envelope.session) if kind in _ANSWERS else None
                handler(directory, envelope)
                if group is not None:
                    group.tidy()
                    self._cluster.drop_unused(group)
            except Exception as error:
                self._edge.counters.internal_errors += 1
                _log.error("internal error", envelope=type(envelope).__name__, error=repr(error))

    def flush_streams(self) -> None:
        """Send what came of streams since the last call."""
        self._streams.flush()

    # Sessions

    def _attached(self, directory: Directory, envelope: traffic.Attached) -> None:
        attachment = directory.attachments.get(envelope.session)
        if attachment is None or attachment.phase not in (_ASKED, _RESUMING):
            return
        if envelope.epoch not in (0, attachment.epoch):
            return
        first = not attachment.accepted
        self._cluster.attached(attachment, envelope.number)
        client = attachment.client
        if attachment.is_home:
            client.spread_objects = envelope.spread_objects
            if first:
                self._connected(client)
        self._edge.read_on(client)

    def _connected(self, client: Client) -> None:
        """Its home has taken a client for the first time: what it has sent behind `connect` goes there."""
        client.phase = Phase.CONNECTED
        client.rtmp.connected()
        client.greet()
        early, client.early = client.early or (), None
        try:
            for message in early:
                self._edge.router.route(client, message)
        except RemoteProtocolError as error:
            client.close_for(error)

    def _attach_refused(self, directory: Directory, envelope: traffic.AttachRefused) -> None:
        """Also of one that had been taken, by an origin that does not know it any more."""
        attachment = directory.attachments.get(envelope.session)
        if attachment is not None and envelope.epoch in (0, attachment.epoch):
            del directory.attachments[envelope.session]
            self._cluster.refused(attachment, envelope.reason)

    def _session_taken(self, directory: Directory, envelope: traffic.SessionTaken) -> None:
        """Whatever its phase; but it may be here again, with a newer fence."""
        attachment = directory.attachments.get(envelope.session)
        if attachment is not None and attachment.client.fence < envelope.fence:
            attachment.client.taken()

    def _session(self, directory: Directory, number: int) -> Attachment | None:
        """Whom an origin speaks about that has the session."""
        attachment = directory.attachments.get(number)
        return None if attachment is None or attachment.phase is _RESUMING else attachment

    def _applied(self, directory: Directory, envelope: traffic.Applied) -> None:
        rows = envelope.rows
        for at in range(0, len(rows) - 2, 3):
            attachment = self._session(directory, rows[at])
            if attachment is not None:
                attachment.acknowledge(rows[at + 1], rows[at + 2])
                if attachment.client.paused:
                    self._edge.read_on(attachment.client)

    def _session_state(self, directory: Directory, envelope: traffic.SessionState) -> None:
        attachment = self._session(directory, envelope.session)
        if attachment is not None:
            attachment.state = envelope.state

    def _to_client(self, directory: Directory, envelope: traffic.ToClient) -> None:
        attachment = self._session(directory, envelope.session)
        if attachment is not None:
            message = Message(envelope.type_id, envelope.stream_id, envelope.timestamp, envelope.payload)
            attachment.client.send(message)

    def _close_session(self, directory: Directory, envelope: traffic.CloseSession) -> None:
        """Also instead of the answer for one that it was asked to go on with: a connect anew, which the application refused."""
        attachment = directory.attachments.get(envelope.session)
        if attachment is not None:
            tell_pending(attachment.client)
            attachment.client.close(f"by the origin: {envelope.reason}")

    # Guests

    def _routed(self, directory: Directory, envelope: traffic.Routed) -> None:
        attachment = self._session(directory, envelope.session)
        if attachment is not None and attachment.is_home:
            self._guests.routed(attachment, envelope)

    def _unrouted(self, directory: Directory, envelope: traffic.Unrouted) -> None:
        attachment = self._session(directory, envelope.session)
        if attachment is not None and attachment.is_home:
            self._guests.unrouted(attachment.client, envelope)

    def _guest_idle(self, directory: Directory, envelope: traffic.GuestIdle) -> None:
        attachment = self._session(directory, envelope.session)
        if attachment is not None:
            self._guests.idle(attachment, envelope)
