"""Sessions of a group whose edges have no link here (any more, or yet): members still, until they come back or their time is
up."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from headwater_origin.durable.members import Member
from headwater_origin.edge_port import EdgePort
from headwater_origin.session import Session

if TYPE_CHECKING:
    from headwater_origin.group import Group


class _NoLink:
    """Of a session that is not here."""

    data: Any = None
    peer = "nobody"
    queued_bytes = position = acknowledged = 0

    def send(self, envelope: Any) -> None:
        """Nobody hears it."""

    def mark(self) -> None:
        """Nobody waits for it."""

    def end_batches_with(self, trailer: Any) -> None:
        """There are none."""


_NOWHERE = EdgePort(_NoLink())
_NOWHERE.up = False


NOTHING = 1 << 62
"""Above the number of every entry."""


class Absent:
    """Of one group, by session id. Each has its own time: `until`, of the group's clock."""

    def __init__(self) -> None:
        self._sessions: dict[str, tuple[Session, float, int]] = {}
        self.needed = NOTHING
        """They may lack what was said with entries above this one."""

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sessions)

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._sessions

    def values(self) -> list[Session]:
        """All of them."""
        return [session for session, _, _ in self._sessions.values()]

    def get(self, session_id: str) -> Session | None:
        """The one of this id."""
        found = self._sessions.get(session_id)
        return None if found is None else found[0]

    def add(self, session: Session, until: float, heard: int) -> None:
        """One more; what was said with entries up to `heard` its edge has."""
        self._sessions[session.session_id] = (session, until, heard)
        self.needed = min(self.needed, heard)

    def pop(self, session_id: str) -> Session | None:
        """It has come back, or is gone."""
        found = self._sessions.pop(session_id, None)
        if not self._sessions:
            self.needed = NOTHING
        return None if found is None else found[0]

    def due(self, now: float, lives: Callable[[str], bool], longer_s: float) -> list[Session]:
        """Those whose time is up, taken out; but not one whose edge is here again, which waits for its former self to end. One
        whose edge is there (`lives`, by its id) and looks for this origin still has so much longer."""
        due = [
            session
            for session, until, _ in self._sessions.values()
            if until <= now
            and session.successor is None
            and (until + longer_s <= now or not lives(session.session_id))
        ]
        for session in due:
            self.pop(session.session_id)
        # Of those that have come back meanwhile nothing need be kept, though others are absent still.
        self.needed = min((heard for _, _, heard in self._sessions.values()), default=NOTHING)
        return due

    def postpone(self, by_s: float) -> None:
        """Their edges could not come for so long."""
        self._sessions = {
            id_: (session, until + by_s, heard) for id_, (session, until, heard) in self._sessions.items()
        }

    def clear(self) -> None:
        """They are another origin's."""
        self._sessions.clear()
        self.needed = NOTHING


def absent_member(group: "Group", session_id: str, member: Member) -> Session:
    """A member that the journal knows and that is not here (yet)."""
    session = Session(_NOWHERE, 0, session_id, group, member.address, member.object_encoding)
    session.restore(member)
    session.accepted = session.closed = session.absent = True
    return session


def absent_guest(group: "Group", session_id: str) -> Session:
    """A guest that the journal knows and that is not here (yet)."""
    session = Session(_NOWHERE, 0, session_id, group, "", 0, guest=True)
    session.accepted = session.closed = session.absent = True
    return session
