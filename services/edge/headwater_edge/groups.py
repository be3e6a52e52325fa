"""What an edge has of the groups of its sessions, wherever their origins are."""

from typing import TYPE_CHECKING

from headwater_bus.link import EdgeLink

from headwater_edge.attachment import Attachment

if TYPE_CHECKING:
    from headwater_edge.fanout import StreamFanout
    from headwater_edge.objects import ObjectFanout, ObjectKey
    from headwater_edge.resuming import LinkLoss

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.4


class EdgeGroup:
    """One group on this edge. `link` leads to its origin; None while that is looked for. `epoch`: at which it has the group.

    Attachments, streams and objects outlive the origin. When the group leaves a link, everything of it leaves that link's
    Directory at once; the next origin gives streams and objects numbers of its own.
    """

    __slots__ = (
        "asked",
        "asking",
        "attachments",
        "epoch",
        "feed",
        "finding",
        "gone",
        "link",
        "loss",
        "name",
        "objects",
        "patient",
        "pause_s",
        "resuming",
        "retrying",
        "streams",
        "unbound",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = 0
        self.feed = ""
        """The change feed as it was when the epoch was heard of: a registry that starts anew may count anew."""
        self.link: EdgeLink | None = None
        self.attachments: dict[int, Attachment] = {}
        self.finding: dict[int, Attachment] = {}
        """Those of them that no origin is asked for now."""
        self.streams: dict[str, StreamFanout] = {}
        """By name."""
        self.objects: dict[ObjectKey, ObjectFanout] = {}
        """By name and persistence."""
        self.asked: dict[int, float] = {}
        """Attachments that the present origin was asked to go on with, since when: it may number what they use, though they have
        left since."""
        self.gone: list[str] = []
        """Session ids of attachments that ended while no origin could be told."""
        self.resuming = 0
        """How many attachments that an origin had taken wait for the next one."""
        self.loss: LinkLoss | None = None
        """Of which these became so."""
        self.unbound = False
        """Whether some stream or object may have no number of the present origin."""
        self.asking = self.retrying = self.patient = False
        """Whether the balancer is asked, a timer will look again, the change feed is given a moment to tell."""
        self.pause_s = FIRST_PAUSE_S
        """Until the next look, should one be needed."""

    @property
    def used(self) -> bool:
        """Whether there is anything of it here."""
        return bool(self.attachments or self.streams or self.objects or self.gone)

    def add(self, attachment: Attachment) -> None:
        """A session wants to be in it."""
        self.attachments[attachment.number] = self.finding[attachment.number] = attachment

    def remove(self, attachment: Attachment) -> None:
        """A session is no longer in it."""
        self.attachments.pop(attachment.number, None)
        self.finding.pop(attachment.number, None)
        if self.link is not None:
            self.link.data.attachments.pop(attachment.number, None)
        self.tidy()

    def enter(self, link: EdgeLink) -> None:
        """Its origin is at the other end of this link. It has left the one before."""
        self.link = link
        link.data.groups[self.name] = self

    def outdated(self, epoch: int, feed: str) -> bool:
        """Whether a newer epoch is known than what the feed says now: the balancer was quicker."""
        return self.link is not None and epoch < self.epoch and feed == self.feed

    def reached(self) -> None:
        """Its origin has answered a session: it has the group, and knows who is gone."""
        self.pause_s = FIRST_PAUSE_S
        self.gone.clear()

    def leave(self, now: float) -> int:
        """Its origin is another now, or lost: nothing that the link brings is about it any more. Returns how many attachments
        were taken there. `now`: monotonic seconds."""
        if self.link is None:
            return 0
        directory, self.link = self.link.data, None
        directory.groups.pop(self.name, None)
        lost = 0
        # A copy: who is told what its objects had gathered may be closed, because too much is queued for it.
        for number, attachment in list(self.attachments.items()):
            directory.attachments.pop(number, None)
            lost += self.lose(attachment, now)
        for stream in self.streams.values():
            directory.streams.pop(stream.number, None)
            stream.number = 0
        for shared_object in self.objects.values():
            directory.objects.pop(shared_object.number, None)
            shared_object.number = 0
        self.asked.clear()
        self.unbound = bool(self.streams or self.objects)
        self.tidy()
        return lost

    def lose(self, attachment: Attachment, now: float) -> bool:
        """No origin has one attachment any more; returns whether one had."""
        lost = attachment.lost(now)
        self.resuming += lost
        self.finding[attachment.number] = attachment
        objects = attachment.client.objects
        for shared_object, number in objects.items() if objects is not None else ():
            if number == attachment.number:
                shared_object.goes_away(number)
        publications = attachment.client.publications
        for publication in publications.values() if publications is not None else ():
            if publication.attachment is attachment:
                publication.stream = 0
        return lost

    def tidy(self) -> None:
        """Forget streams and objects that no origin numbers and nobody uses. While an origin is asked to go on with sessions it
        may be about to number them."""
        if not self.unbound or (self.link is not None and (self.resuming or self.asked)):
            return
        streams = [
            name for name, stream in self.streams.items() if not (stream.number or stream.player_count)
        ]
        for name in streams:
            del self.streams[name]
        unused = [key for key, known in self.objects.items() if not (known.number or known.members)]
        for key in unused:
            del self.objects[key]
        self.unbound = any(not stream.number for stream in self.streams.values()) or any(
            not shared_object.number for shared_object in self.objects.values()
        )
