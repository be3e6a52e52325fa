"""What the numbers on one link mean."""

from headwater_edge.client import Client
from headwater_edge.fanout import StreamFanout
from headwater_edge.objects import ObjectFanout


class Directory:
    """The sessions on a link, and the streams and objects that its origin named."""

    __slots__ = ("clients", "objects", "streams")

    def __init__(self) -> None:
        self.clients: dict[int, Client] = {}
        self.streams: dict[int, StreamFanout] = {}
        self.objects: dict[int, ObjectFanout] = {}
