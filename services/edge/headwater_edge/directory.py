"""What the numbers on one link mean."""

from headwater_bus.link import Link

from headwater_edge.attachment import Attachment
from headwater_edge.fanout import StreamFanout
from headwater_edge.objects import ObjectFanout


class Directory:
    """The attachments over a link, and the streams and objects that its origin named."""

    __slots__ = ("attachments", "link", "objects", "streams")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.attachments: dict[int, Attachment] = {}
        self.streams: dict[int, StreamFanout] = {}
        self.objects: dict[int, ObjectFanout] = {}
