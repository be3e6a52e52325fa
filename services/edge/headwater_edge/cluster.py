"""The edge's side of the cluster: the links to origins, which groups are there, and what becomes of both as the table changes."""

import time
from typing import TYPE_CHECKING, Any, cast

import gevent
from headwater_bus.link import EdgeLink, Link, LinkOptions
from headwater_bus.logs import get_log
from headwater_bus.traffic import Detach, GatherMedia
from headwater_bus.view import Assignment
from headwater_rtmp.message import Message

from headwater_edge.attaching import Attaching
from headwater_edge.attachment import Attachment, AttachmentPhase
from headwater_edge.client import Client
from headwater_edge.directory import Directory
from headwater_edge.envelope_handlers import EnvelopeHandlers
from headwater_edge.groups import EdgeGroup
from headwater_edge.resuming import Resuming

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_log = get_log("edge")
_ANSWER_S = 10.0
"""An origin that was asked to go on with an attachment that has left meanwhile may answer so long, or never."""


class Cluster:
    """Attaches sessions to the origins of their groups and keeps one link to each of these. When an origin is lost, or a group
    has another, its sessions go on there and their clients notice nothing."""

    def __init__(self, edge: "Edge") -> None:
        self._edge = edge
        self._node = edge.node
        self.groups: dict[str, EdgeGroup] = {}
        self.links: dict[str, EdgeLink] = {}
        self.resuming = Resuming(edge.counters)
        self._attaching = Attaching(edge, self.resuming, self._link_to)
        self._handlers = EnvelopeHandlers(edge, self)
        self._boots: dict[str, str] = {}
        """Of the origins, as the table had them last."""
        self._forsaken: dict[str, float] = {}
        """Groups that are there only to tell an origin who is gone, and until when."""
        self._node.view.on_change(self._table_changed)

    # Attachments

    def connect_of(self, session: int) -> Message | None:
        """The connect command of a client that is here."""
        client = self._edge.clients.get(session)
        return None if client is None else client.connect

    def attach(self, attachment: Attachment) -> None:
        """Send a session to the origin of a group, as a client that connects or as a guest."""
        self._attaching.attach(self._group(attachment.group), attachment)

    def restore(self, attachment: Attachment) -> EdgeGroup:
        """A session that another edge had is in a group; `attach` comes when all that it has there is restored."""
        group = self._group(attachment.group)
        group.add(attachment)
        if attachment.accepted:
            self.resuming.restored(group)
        return group

    def _group(self, name: str) -> EdgeGroup:
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = EdgeGroup(name)
        return group

    def group_at(self, directory: Directory, name: str) -> EdgeGroup | None:
        """The group in which an origin opens something here; None where another has it. Whoever it was opened for may be at
        another edge by now, and the group forgotten: the origin takes it for open here until it closes it, so the group is there
        again."""
        group = directory.groups.get(name)
        if group is not None or directory.lost:
            return group
        known, link = self.groups.get(name), cast(EdgeLink, directory.link)
        assignment = self._node.view.groups.get(name)
        elsewhere = assignment is not None and assignment.origin != link.origin
        if elsewhere or (known is not None and known.link is not None):
            return None
        group = self._group(name)
        group.enter(link)
        if assignment is not None:
            group.epoch, group.feed = assignment.epoch, self._node.view.feed
        return group

    def answered(self, directory: Directory, number: int) -> EdgeGroup | None:
        """The origin has answered for an attachment which it was asked to go on with, which may have left: its group then."""
        group = directory.asked.pop(number, None)
        if group is None or self.groups.get(group.name) is not group:
            return None
        group.asked.pop(number, None)
        return group

    def attached(self, attachment: Attachment, number: int) -> None:
        """The group's origin has taken an attachment, or goes on with it; it has applied what was sent up to `number`."""
        resumed = attachment.accepted
        attachment.attached(number)
        group = self.groups[attachment.group]
        group.reached()
        if resumed:
            self.resuming.resumed(group, attachment)

    def refused(self, attachment: Attachment, reason: str) -> None:
        """An origin does not take an attachment, or has it no longer."""
        self._attaching.refused(self.groups[attachment.group], attachment, reason)

    def detach(self, attachment: Attachment, reason: str) -> None:
        """End an attachment and tell its origin: the number means nothing any more. Where there is none, the next one is told."""
        phase, link = attachment.phase, attachment.link
        attachment.ended()
        attachment.client.forget_restored(attachment.number)
        if link is not None:
            link.send(Detach(attachment.number, reason))
        group = self.groups.get(attachment.group)
        if group is None:
            return
        if attachment.accepted and phase != AttachmentPhase.ATTACHED:
            # Also when an origin was asked: it may refuse.
            group.gone.append(attachment.client.session_id)
            self.resuming.ended(group)
        group.remove(attachment)
        self.drop_unused(group)

    def drop_unused(self, group: EdgeGroup) -> None:
        """Forget a group of which nothing is left here; one of its name may have come since."""
        if self.groups.get(group.name) is not group:
            return
        if not group.used:
            del self.groups[group.name]
            self._forsaken.pop(group.name, None)
            if group.link is not None:
                group.link.data.groups.pop(group.name, None)
        elif not group.attachments and group.gone:
            self._forsaken[group.name] = time.monotonic() + self._edge.config.resume_s

    def forget_forsaken(self, now: float) -> None:
        """Origins that have not come know by themselves by now who is gone."""
        for name in [name for name, until in self._forsaken.items() if now > until]:
            del self._forsaken[name]
            group = self.groups.get(name)
            if group is not None and not group.attachments:
                group.gone.clear()
                self.drop_unused(group)
        for group in [group for group in self.groups.values() if group.asked]:
            group.asked = {number: at for number, at in group.asked.items() if now - at < _ANSWER_S}
            group.tidy()
            self.drop_unused(group)

    def vanish(self, client: Client) -> list[tuple[Link, int]]:
        """Another edge has a session, or is to have it: its attachments here end, and no origin is told. Returns the numbers by
        which origins know them, each with its link."""
        self._leave_objects(client)
        attachments = client.attachments
        client.guests = client.routes = None
        known: list[tuple[Link, int]] = []
        for attachment in attachments:
            awaited = attachment.accepted and attachment.phase != AttachmentPhase.ATTACHED
            if attachment.link is not None:
                known.append((attachment.link, attachment.number))
            attachment.ended()
            group = self.groups.get(attachment.group)
            if group is None:
                continue
            if awaited:
                self.resuming.ended(group)
            group.remove(attachment)
            self.drop_unused(group)
        return known

    def _leave_objects(self, client: Client) -> None:
        for shared_object, number in client.objects.items() if client.objects is not None else ():
            shared_object.leave(number)
        client.objects = None

    def forget(self, client: Client, reason: str) -> None:
        """A client is closed: its attachments end."""
        self._leave_objects(client)
        self.detach(client.home, reason)
        guests, client.guests, client.routes = client.guests, None, None
        for guest in guests.values() if guests is not None else ():
            self.detach(guest, reason)

    # Links

    def _link_to(self, origin: str) -> EdgeLink | None:
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
            on_suspect=self._on_suspect,
            options=LinkOptions(ack_delay_s=self._edge.config.ack_delay_s),
        )
        link.data = Directory(link, node.boot)
        self._boots[origin] = node.boot
        self.links[origin] = link
        link.start()
        return link

    def _on_up(self, link: Link) -> None:
        _log.info("link up", origin=link.peer)
        link.send(GatherMedia(self._edge.config.media_interval_ms))

    def _on_suspect(self, origin: str, boot: str) -> None:
        """The connection to an origin is gone. Should it be dead, the registry finds out sooner than by its lease."""
        self._node.suspect(origin, boot)

    def _on_down(self, link: Link, reason: str) -> None:
        """The origin is lost, or the way to it: its sessions go on at the next one. Groups with many come first. When the edge
        has given a link up, it says so itself and the link says it again."""
        link = cast(EdgeLink, link)
        directory: Directory = link.data
        if directory.lost:
            return
        directory.lost = True
        if self.links.get(link.origin) is link:
            del self.links[link.origin]
        groups = sorted(directory.groups.values(), key=lambda group: len(group.attachments), reverse=True)
        self.resuming.link_lost(link.origin, reason, groups, time.monotonic())
        self._attaching.lost(groups, link.origin)
        for group in groups:
            self.drop_unused(group)
        self._edge.flush_clients()

    def close(self, reason: str) -> None:
        """End every link."""
        gevent.sleep(0)  # What was sent to the origins last leaves first.
        for link in list(self.links.values()):
            link.close(reason)
        self.links.clear()

    # The table

    def _table_changed(self, change: list[Any]) -> None:
        """The change feed says something new. A group that nobody has any more goes on where it is as long as the link does."""
        if change[0] == "group":
            group = self.groups.get(change[1])
            if group is not None:
                self._group_changed(group, Assignment(*change[1:4]))
        elif change[0] == "node":
            node_id, role, boot = change[1][:3]
            if role == "origin":
                self._boots[node_id] = boot
                self._give_up(node_id, "the origin has restarted", lambda known: known != boot)
        elif change[0] == "node-gone":
            boot = self._boots.pop(change[1], "")
            self._give_up(change[1], "the registry says that it is gone", lambda known: boot in ("", known))

    def _group_changed(self, group: EdgeGroup, assignment: Assignment) -> None:
        link = group.link
        if group.outdated(assignment.epoch, self._node.view.feed):
            return
        if assignment.origin:
            at = link.origin if link is not None and link.failure is None else ""
            if at == assignment.origin and not group.finding:
                group.epoch, group.feed = assignment.epoch, self._node.view.feed
            else:
                self._attaching.go(group, assignment)
                self.drop_unused(group)
                self._edge.flush_clients()
        elif link is not None:
            node = self._node.view.nodes.get(link.origin)
            if node is None or node.boot != self._boot_of(link):
                self._lose(link, "the registry says that it is gone")
            else:
                self.resuming.leave(group, time.monotonic())
                self._attaching.lost([group], link.origin)
                self.drop_unused(group)
                self._edge.flush_clients()

    def _give_up(self, origin: str, reason: str, gone: Any) -> None:
        """End the link to an origin where `gone(boot)` says so of the process that it leads to."""
        link = self.links.get(origin)
        if link is not None and gone(self._boot_of(link)):
            self._lose(link, reason)

    def _lose(self, link: EdgeLink, reason: str) -> None:
        link.give_up(reason)
        self._on_down(link, reason)

    @staticmethod
    def _boot_of(link: Link) -> str:
        directory: Directory = link.data
        return link.boot or directory.boot

    # Batches

    def _on_batch(self, link: Link, envelopes: list[Any]) -> None:
        self._handlers.carry_out(link.data, envelopes)
        self._handlers.flush_streams()
        self._handlers.objects.end_batch()
        self._edge.flush_clients()

    def flush_objects(self) -> None:
        """Tell members what SharedObjects have gathered."""
        self._handlers.objects.flush()

    def health(self) -> dict[str, Any]:
        """The links by origin, the number of objects, the players of each stream, and who is without an origin."""
        links: dict[str, dict[str, Any]] = {}
        for origin, link in sorted(self.links.items()):
            links[origin] = {
                # Empty until the origin has answered.
                "peer": link.peer,
                "sessions": len(link.data.attachments),
                "queued_bytes": link.queued_bytes,
                "resent_batches": link.state.resent_batches,
                "unknown": link.state.unknown,
            }
        streams: dict[str, int] = {}
        objects = 0
        for group in self.groups.values():
            objects += len(group.objects)
            for fanout in group.streams.values():
                streams[fanout.name] = streams.get(fanout.name, 0) + fanout.player_count
        return {"links": links, "streams": streams, "objects": objects, **self.resuming.health()}
