"""Members of SharedObjects that another edge had."""

from typing import TYPE_CHECKING

from headwater_rtmp.slots import Slots

from headwater_edge.attachment import Attachment
from headwater_edge.groups import EdgeGroup
from headwater_edge.objects import ObjectFanout

if TYPE_CHECKING:
    from headwater_edge.edge import Edge


def restore_member(
    edge: "Edge", group: EdgeGroup, attachment: Attachment, name: str, persistent: bool, told: tuple[int, int]
) -> None:
    """A session uses an object of a group; `told`: version and count of what it was told. Where the edge has no replica yet it
    makes one of nothing, which the group's origin replaces."""
    replica = group.objects.get((name, persistent))
    if replica is None:
        replica = ObjectFanout(name, persistent, Slots(), -1, edge.config.chunk_size, edge.counters)
        replica.stale = True
        replica.group = group
        group.objects[name, persistent] = replica
        group.unbound = True
    client = attachment.client
    if client.objects is None:
        client.objects = {}
    client.objects[replica] = attachment.number
    replica.restore(attachment.number, client, told)
