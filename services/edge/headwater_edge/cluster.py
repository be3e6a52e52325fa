"""The edge's side of the cluster: the links to origins, and the attachments over them."""

import time
from typing import TYPE_CHECKING, Any

import gevent
from headwater_bus.link import EdgeLink, Link
from headwater_bus.logs import get_log
from headwater_bus.traffic import Detach
from headwater_rtmp.status import StatusCode

from headwater_edge.attaching import Attaching
from headwater_edge.attachment import Attachment, AttachmentPhase
from headwater_edge.client import Client
from headwater_edge.directory import Directory
from headwater_edge.envelope_handlers import EnvelopeHandlers

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_log = get_log("edge")
_LOST = "the origin of this application instance is lost"


class Cluster:
    """Attaches sessions to the origins of their groups and keeps one link to each of these."""

    def __init__(self, edge: "Edge") -> None:
        self._edge = edge
        self._node = edge.node
        self._attaching = Attaching(edge, self._link_to)
        self._handlers = EnvelopeHandlers(edge, self._attaching.retry)
        self.links: dict[str, EdgeLink] = {}

    # Attachments

    def attach(self, attachment: Attachment) -> None:
        """Send a session to the origin of a group, as a client that connects or as a guest."""
        self._attaching.attach(attachment)

    def detach(self, attachment: Attachment, reason: str) -> None:
        """End an attachment and tell its origin: the number means nothing any more."""
        attachment.phase = AttachmentPhase.ENDED
        attachment.waiting = None
        link = attachment.link
        if link is not None:
            link.data.attachments.pop(attachment.number, None)
            link.send(Detach(attachment.number, reason))

    def forget(self, client: Client, reason: str) -> None:
        """A client is closed: its attachments end."""
        for shared_object, number in client.objects.items() if client.objects is not None else ():
            shared_object.leave(number)
        client.objects = None
        self.detach(client.home, reason)
        guests, client.guests, client.routes = client.guests, None, None
        for guest in guests.values() if guests is not None else ():
            self.detach(guest, reason)

    # Links

    def _link_to(self, origin: str) -> Link | None:
        link = self.links.get(origin)
        if link is not None and link.failure is None:
            return link
        node = self._node.view.nodes.get(origin)
        if node is None:
            return None
        link = EdgeLink(
            context=self._node.context,
            security=self._node.security,
            node_id=self._node.node_id,
            boot=self._node.boot,
            origin=origin,
            endpoint=node.endpoint,
            on_batch=self._on_batch,
            on_up=self._on_up,
            on_down=self._on_down,
        )
        link.data = Directory(link)
        self.links[origin] = link
        link.start()
        return link

    def _on_up(self, link: Link) -> None:
        _log.info("link up", origin=link.peer)

    def _on_down(self, link: Link, reason: str) -> None:
        """The origin is lost: clients that it had accepted, as a home or as guests, are told and closed. Those that it had not
        accepted yet go elsewhere."""
        assert isinstance(link, EdgeLink)
        if self.links.get(link.origin) is link:
            del self.links[link.origin]
        directory: Directory = link.data
        _log.warning("link down", origin=link.origin, reason=reason, sessions=len(directory.attachments))
        for attachment in list(directory.attachments.values()):
            if attachment.phase == AttachmentPhase.ASKED:
                self._attaching.retry(attachment, f"{link.origin} is lost")
            else:
                attachment.client.close_with(StatusCode.CONNECT_CLOSED, _LOST)
        self._edge.flush_clients()

    def close(self, reason: str) -> None:
        """End every link."""
        gevent.sleep(0)  # What was sent to the origins last leaves first.
        for link in list(self.links.values()):
            link.close(reason)
        self.links.clear()

    def _on_batch(self, link: Link, envelopes: list[Any]) -> None:
        self._handlers.carry_out(link.data, envelopes)
        if self._edge.config.flush_ms == 0:
            self._handlers.flush_streams()
        self._edge.flush_clients()

    def flush_streams(self) -> None:
        """Send what streams have gathered since the last call."""
        self._handlers.flush_streams()
        self._edge.flush_clients()

    def flush_job(self) -> None:
        """Job: one flush for all streams every `flush_ms`."""
        interval_s = self._edge.config.flush_ms / 1000
        due = time.monotonic()
        while True:
            due = max(due + interval_s, time.monotonic())
            gevent.sleep(max(0.001, due - time.monotonic()))
            self.flush_streams()

    def health(self) -> dict[str, Any]:
        """The links by origin, the number of objects, and the players of each stream."""
        streams: dict[str, int] = {}
        links: dict[str, dict[str, Any]] = {}
        objects = 0
        for origin, link in sorted(self.links.items()):
            links[origin] = {
                # Empty until the origin has answered.
                "peer": link.peer,
                "sessions": len(link.data.attachments),
                "queued_bytes": link.queued_bytes,
                "resent_batches": link.state.resent_batches,
                "unknown": link.state.unknown,
            }
            directory: Directory = link.data
            objects += len(directory.objects)
            for fanout in directory.streams.values():
                streams[fanout.name] = streams.get(fanout.name, 0) + fanout.player_count
        return {"links": links, "streams": streams, "objects": objects}
