"""Members that the journal knows and whose edges have not attached them here (yet)."""

from typing import TYPE_CHECKING, Any

from headwater_origin.durable.members import Member
from headwater_origin.edge_port import EdgePort
from headwater_origin.session import Session

if TYPE_CHECKING:
    from headwater_origin.group import Group


class _NoLink:
    """Of a member that is not here."""

    data: Any = None
    peer = "nobody"
    queued_bytes = 0

    def send(self, envelope: Any) -> None:
        """Nobody hears it."""


_NOWHERE = EdgePort(_NoLink())


def absent(group: "Group", session_id: str, member: Member) -> Session:
    """A member that the journal knows and that is not here (yet)."""
    session = Session(_NOWHERE, 0, session_id, group, member.address, member.object_encoding)
    session.accepted = session.closed = True
    session.restore(member, group.durable.members.numbers.get(session_id, 0))
    return session
