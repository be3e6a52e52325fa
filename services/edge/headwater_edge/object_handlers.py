"""What origins say to the edge about SharedObjects. Replicas and their members survive the loss of their origin: the next one
finds them by group, name and persistence."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headwater_bus import object_traffic
from headwater_bus.rows import unpack_rows
from headwater_rtmp.slots import Slots

from headwater_edge.attachment import AttachmentPhase
from headwater_edge.directory import Directory
from headwater_edge.groups import EdgeGroup
from headwater_edge.object_flush import ObjectFlush
from headwater_edge.object_pending import tell_pending
from headwater_edge.objects import ObjectFanout

if TYPE_CHECKING:
    from headwater_edge.cluster import Cluster
    from headwater_edge.edge import Edge


class ObjectHandlers:
    """See the module. `handlers` by envelope."""

    def __init__(self, edge: "Edge", cluster: "Cluster", flush: ObjectFlush) -> None:
        self._edge = edge
        self._cluster = cluster
        self._flush = flush
        self.handlers: dict[type, Callable[[Directory, Any], None]] = {
            object_traffic.ObjectOpened: self._object_opened,
            object_traffic.ObjectResumed: self._object_resumed,
            object_traffic.ObjectJoined: self._object_joined,
            object_traffic.ObjectUpdate: self._object_update,
            object_traffic.ObjectAnswer: self._object_answer,
            object_traffic.ObjectLeft: self._object_left,
            object_traffic.ObjectClosed: self._object_closed,
        }

    def _object_opened(self, directory: Directory, envelope: object_traffic.ObjectOpened) -> None:
        group = self._cluster.group_at(directory, envelope.group)
        if group is None:
            return
        rows = unpack_rows(envelope.payload, str, bytes, int)
        slots = Slots.from_rows(envelope.version, envelope.base, rows)
        known = group.objects.get((envelope.name, envelope.persistent))
        if known is None:
            known = self._new(group, envelope.name, envelope.persistent, slots, envelope.events)
        else:
            self._edge.counters.objects_replaced += known.number != envelope.shared_object
            known.replace(slots, envelope.events)
        self._bind(directory, known, envelope.shared_object)

    def _object_resumed(self, directory: Directory, envelope: object_traffic.ObjectResumed) -> None:
        group = self._cluster.group_at(directory, envelope.group)
        if group is None:
            return
        known = group.objects.get((envelope.name, envelope.persistent))
        if known is None:
            # Its last member has left meanwhile.
            known = self._new(group, envelope.name, envelope.persistent, Slots(), -1)
        if known.events != envelope.events:
            known.stale = True
            directory.link.send(object_traffic.ObjectResync(envelope.shared_object))
        self._bind(directory, known, envelope.shared_object)

    def _new(self, group: EdgeGroup, name: str, persistent: bool, slots: Slots, events: int) -> ObjectFanout:
        fanout = ObjectFanout(
            name, persistent, slots, events, self._edge.config.chunk_size, self._edge.counters
        )
        group.objects[name, persistent] = fanout
        fanout.group = group
        return fanout

    def _bind(self, directory: Directory, fanout: ObjectFanout, number: int) -> None:
        directory.objects.pop(fanout.number, None)
        fanout.number = number
        directory.objects[number] = fanout

    def _object_joined(self, directory: Directory, envelope: object_traffic.ObjectJoined) -> None:
        attachment = directory.attachments.get(envelope.session)
        shared_object = directory.objects.get(envelope.shared_object)
        if attachment is None or shared_object is None:
            return
        if envelope.resumed:
            if attachment.phase is AttachmentPhase.RESUMING:
                return  # It was said when this origin had the session before.
            if envelope.session in shared_object.members:
                shared_object.let_out(envelope.session, envelope.since, envelope.told)
                return
        client = attachment.client
        if client.objects is None:
            client.objects = {}
        client.objects[shared_object] = envelope.session
        shared_object.join(envelope.session, client, envelope.since)

    def _object_update(self, directory: Directory, envelope: object_traffic.ObjectUpdate) -> None:
        shared_object = directory.objects.get(envelope.shared_object)
        if shared_object is not None:
            events = unpack_rows(envelope.payload, int, str, bytes)
            if not shared_object.update(envelope.version, envelope.events, envelope.session, events):
                directory.link.send(object_traffic.ObjectResync(envelope.shared_object))
            elif shared_object.gathered:
                self._flush.arrange(shared_object)

    def _object_answer(self, directory: Directory, envelope: object_traffic.ObjectAnswer) -> None:
        shared_object = directory.objects.get(envelope.shared_object)
        if shared_object is not None:
            shared_object.answer(envelope.session, unpack_rows(envelope.payload, int, str))

    def _object_left(self, directory: Directory, envelope: object_traffic.ObjectLeft) -> None:
        attachment = directory.attachments.get(envelope.session)
        shared_object = directory.objects.get(envelope.shared_object)
        if attachment is not None and shared_object is not None:
            tell_pending(attachment.client)
            if attachment.client.objects is not None:
                attachment.client.objects.pop(shared_object, None)
            shared_object.leave(envelope.session)

    def _object_closed(self, directory: Directory, envelope: object_traffic.ObjectClosed) -> None:
        """But a session that another edge had may be a member by now: it goes on with the replica, which gets another number."""
        fanout = directory.objects.pop(envelope.shared_object, None)
        group = fanout.group if fanout is not None else None
        if fanout is None or group is None:
            return
        if fanout.members:
            fanout.number, group.unbound = 0, True
            return
        del group.objects[fanout.name, fanout.persistent]
        self._cluster.drop_unused(group)
