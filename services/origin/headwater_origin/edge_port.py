"""The origin's side of one link: which sessions came over it, and what its numbers mean."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import gevent
from headwater_bus.alike import Alike
from headwater_bus.traffic import Applied, AttachRefused, SessionTaken

from headwater_origin.streams.media_out import MediaOut

if TYPE_CHECKING:
    from headwater_origin.attaches import Waiting
    from headwater_origin.objects.shared_object import SharedObject
    from headwater_origin.session import Session
    from headwater_origin.streams.publication import Publication


_MOST_DROPPED = 100_000


class LinkLike(Protocol):
    """What the origin needs of a `headwater_bus.link.Link`."""

    data: Any

    @property
    def peer(self) -> str: ...

    @property
    def boot(self) -> str: ...

    @property
    def queued_bytes(self) -> int: ...

    @property
    def position(self) -> int: ...

    @property
    def acknowledged(self) -> int: ...

    def send(self, envelope: Any) -> None: ...

    def mark(self) -> None: ...

    def end_batches_with(self, trailer: Callable[[], Any]) -> None: ...


class EdgePort:
    """One edge that is linked to this origin. Numbers of streams and objects count up and are never used again."""

    __slots__ = (
        "_last_number",
        "_news",
        "behind",
        "behind_bytes",
        "closed",
        "connects",
        "dropped",
        "link",
        "media",
        "objects",
        "peer",
        "publications",
        "sessions",
        "up",
        "waiting",
        "worker",
    )

    def __init__(self, link: LinkLike) -> None:
        self.link, self.peer = link, link.peer
        self.media = MediaOut(link)
        """StreamMedia goes through it."""
        self.up = True
        """Whether there is still somebody to say something to."""
        self.behind: deque[Any] = deque()
        """What the edge has said and was not carried out yet, in order."""
        self.behind_bytes = 0
        """Payload of that, or more: what was carried out meanwhile may still be counted."""
        self.worker: gevent.Greenlet[..., None] | None = None
        """Carries that out; None: there is nothing."""
        self.sessions: dict[int, Session] = {}
        self.connects = Alike(self._connect_of)
        """Those of one page or program say the same, where no token is in it."""
        self.dropped: dict[int, None] = {}
        """Numbers of the last sessions that have ended here without a word, as another origin has their group."""
        self.closed: dict[tuple[str, str, bool], None] = {}
        """Objects (group, name, persistent) that were closed over this link, and are not open now."""
        self.waiting: dict[int, Waiting] = {}
        """Attaches that are not decided yet, by their session's number."""
        self.publications: dict[int, Publication] = {}
        """By the number that PublisherMedia carries."""
        self.objects: dict[int, SharedObject] = {}
        """Those that the edge knows, by their number on this link."""
        self._last_number = 0
        self._news: dict[Session, None] = {}
        """Sessions of which the edge does not know yet how far they are."""
        link.end_batches_with(self._applied)

    def _connect_of(self, number: int) -> bytes | None:
        session = self.sessions.get(number)
        return None if session is None or session.member is None else session.member.payload

    def note(self, session: "Session") -> None:
        """Have the edge told, with the next batch, how far a session is (`done`) and up to which entry it has been told what
        concerns it: everything that was said to it until then is in that batch, or was in an earlier one."""
        news = self._news
        if not news:
            self.link.mark()
        news[session] = None

    def _applied(self) -> Applied | None:
        if not self._news:
            return None
        news, self._news = self._news, {}
        rows: list[int] = []
        for session in news:
            # Also of one that goes on elsewhere now; what its edge has heard here it need not hear there.
            if self.sessions.get(session.number, session) is session:
                entry, stored = session.group.outputs.committed_number, session.stored
                if stored is not None:
                    stored.told_entry = entry
                rows += (session.number, session.done, entry)
        return Applied(rows) if rows else None

    def refuse(self, number: int, group: str, reason: str, epoch: int = 0) -> None:
        """Have the edge look for the origin of a session, which has asked for the group at `epoch`. How far it is here comes
        first: what comes behind is not about it."""
        applied = self._applied()
        if applied is not None:
            self.link.send(applied)
        self.link.send(AttachRefused(number, group, reason, epoch))

    def taken(self, session: "Session", number: int, fence: int) -> None:
        """Another edge has a session: this one, if it is there, forgets it."""
        self.forget(session)
        if self.up:
            self.link.send(SessionTaken(number, fence))

    def forget(self, session: "Session") -> None:
        """The edge looks for another origin for a session: it has no more to say of it here."""
        if self.sessions.get(session.number) is session:
            del self.sessions[session.number]

    def drop(self, session: "Session") -> None:
        """A session ends here without a word: that its group is elsewhere the edge hears from the registry."""
        if self.sessions.get(session.number) is session:
            del self.sessions[session.number]
            self.dropped[session.number] = None
            if len(self.dropped) > _MOST_DROPPED:
                # Its edge has heard of the other origin long since.
                del self.dropped[next(iter(self.dropped))]

    def note_closed(self, key: tuple[str, str, bool]) -> None:
        """An object is closed for the edge."""
        self.closed[key] = None
        if len(self.closed) > _MOST_DROPPED:
            del self.closed[next(iter(self.closed))]

    def next_number(self) -> int:
        """A number for a stream or an object on this link."""
        self._last_number += 1
        return self._last_number
