"""Sessions of a group whose edges have no link here (any more, or yet): members still, until they come back or their time is
up."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater_origin.durable.members import Member
from headwater_origin.durable.reached import NOTHING
from headwater_origin.edge_port import EdgePort
from headwater_origin.session import Session

if TYPE_CHECKING:
    from headwater_origin.group import Group


class _NoLink:
    """Of a session that is not here."""

    data: Any = None
    peer, boot = "nobody", ""
    queued_bytes = position = acknowledged = 0

    def send(self, envelope: Any) -> None:
        """Nobody hears it."""

    def mark(self) -> None:
        """Nobody waits for it."""

    def end_batches_with(self, trailer: Any) -> None:
        """There are none."""


_NOWHERE = EdgePort(_NoLink())
_NOWHERE.up = False


@dataclass(slots=True)
class _Away:
    session: Session
    until: float
    heard: int
    boot: str


class Absent:
    """Of one group, by session id."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Away] = {}
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
        return [away.session for away in self._sessions.values()]

    def get(self, session_id: str) -> Session | None:
        """The one of this id."""
        found = self._sessions.get(session_id)
        return None if found is None else found.session

    def add(self, session: Session, until: float, heard: int, boot: str) -> None:
        """One more, `until` then by the group's clock. Its edge, which is the process `boot`, has what was said with entries up
        to `heard`."""
        self._sessions[session.session_id] = _Away(session, until, heard, boot)
        self.needed = min(self.needed, heard)

    def pop(self, session_id: str) -> Session | None:
        """It has come back, or is gone."""
        found = self._sessions.pop(session_id, None)
        if not self._sessions:
            self.needed = NOTHING
        return None if found is None else found.session

    def due(self, now: float, lives: Callable[[str], bool], longer_s: float) -> list[Session]:
        """Those whose time is up, taken out; but not one whose edge is here again, which waits for its former self to end. One
        whose edge is there (`lives`, by its boot) and looks for this origin still has so much longer."""
        due = [
            away.session
            for away in self._sessions.values()
            if away.until <= now
            and away.session.successor is None
            and (away.until + longer_s <= now or not lives(away.boot))
        ]
        for session in due:
            self.pop(session.session_id)
        # Of those that have come back meanwhile nothing need be kept, though others are absent still.
        self.needed = min((away.heard for away in self._sessions.values()), default=NOTHING)
        return due

    def postpone(self, by_s: float) -> None:
        """Their edges could not come for so long."""
        for away in self._sessions.values():
            away.until += by_s

    def clear(self) -> None:
        """They are another origin's."""
        self._sessions.clear()
        self.needed = NOTHING


def restore_absent(group: "Group", until: float) -> None:
    """Those that the journal knows are absent, with their rooms, until so."""
    durable = group.durable
    for session_id, member in durable.members.known.items():
        session = absent_member(group, session_id, member)
        group.absent.add(session, until, 0, _opened_by(session_id))
        if session_id in durable.members.rooms:
            group.rooms.joined[session] = durable.members.rooms[session_id]
    for session_id in durable.guests():
        group.absent.add(absent_guest(group, session_id), until, 0, _opened_by(session_id))


def _opened_by(session_id: str) -> str:
    """The boot of the node that a session was opened at: which one has it the journal does not say."""
    return session_id.partition("-")[0]


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
