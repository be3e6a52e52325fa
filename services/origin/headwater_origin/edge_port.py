"""The origin's side of one link: which sessions came over it, and what its numbers mean."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import Session
    from headwater_origin.streams.stream import Publication


class LinkLike(Protocol):
    """What the origin needs of a `headwater_bus.link.Link`."""

    data: Any

    @property
    def peer(self) -> str: ...

    @property
    def queued_bytes(self) -> int: ...

    def send(self, envelope: Any) -> None: ...


class EdgePort:
    """One edge that is linked to this origin. Numbers of streams and objects count up and are never used again."""

    __slots__ = ("_last_number", "link", "object_groups", "publications", "sessions", "up")

    def __init__(self, link: LinkLike) -> None:
        self.link = link
        self.up = True
        """Whether there is still somebody to say something to."""
        self.sessions: dict[int, Session] = {}
        self.publications: dict[int, Publication] = {}
        """By the number that PublisherMedia carries."""
        self.object_groups: dict[int, Group] = {}
        """Whose object it is that the edge knows by a number."""
        self._last_number = 0

    def forget(self, session: "Session") -> None:
        """The edge looks for another origin for a session: it has no more to say of it here."""
        if self.sessions.get(session.number) is session:
            del self.sessions[session.number]

    def next_number(self) -> int:
        """A number for a stream or an object on this link."""
        self._last_number += 1
        return self._last_number
