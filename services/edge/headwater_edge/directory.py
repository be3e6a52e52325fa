"""What the numbers on one link mean."""

from typing import TYPE_CHECKING

from headwater_bus.link import Link

from headwater_edge.attachment import Attachment
from headwater_edge.fanout import StreamFanout
from headwater_edge.objects import ObjectFanout

if TYPE_CHECKING:
    from headwater_edge.groups import EdgeGroup


class Directory:
    """The groups that are at a link's origin, the attachments over it, and the streams and objects that the origin named.

    A group that has another origin, or looks for one, is not in it any more with anything: what is still said of that here means
    nothing.
    """

    __slots__ = ("asked", "attachments", "boot", "groups", "link", "lost", "objects", "streams")

    def __init__(self, link: Link, boot: str = "") -> None:
        self.link, self.boot = link, boot
        """`boot`: that of the origin which the link was made to, as the table had it."""
        self.lost = False
        """Whether the link is given up and everything has left it."""
        self.groups: dict[str, EdgeGroup] = {}
        self.asked: dict[int, EdgeGroup] = {}
        """Where the origin was asked to go on with an attachment, by its number."""
        self.attachments: dict[int, Attachment] = {}
        self.streams: dict[int, StreamFanout] = {}
        self.objects: dict[int, ObjectFanout] = {}
