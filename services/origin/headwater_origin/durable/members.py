"""What the journal knows of a group's sessions: members, how far their messages are applied, what runs once only."""

from typing import Any

from headwater_origin.durable.journal import RowKind


class Member:
    """A member as its MEMBER row says: what its Session is made of again. `attributes` packed, as they are journaled;
    `type_id` and `payload` of its connect command."""

    __slots__ = ("address", "attributes", "object_encoding", "payload", "type_id")

    def __init__(
        self, address: str, object_encoding: int, attributes: bytes, type_id: int, payload: bytes
    ) -> None:
        self.address, self.object_encoding, self.attributes = address, object_encoding, attributes
        self.type_id, self.payload = type_id, payload

    def row(self, session_id: str) -> list[Any]:
        """The MEMBER row."""
        return [
            int(RowKind.MEMBER),
            session_id,
            self.address,
            self.object_encoding,
            self.attributes,
            self.type_id,
            self.payload,
        ]


class Members:
    """By session id. `apply` is for live rows and for those of the journal."""

    __slots__ = ("_audiences", "known", "numbers", "rooms", "started", "states")

    def __init__(self) -> None:
        self.known: dict[str, Member] = {}
        self.numbers: dict[str, int] = {}
        """The last applied message; of guests too."""
        self.started: dict[str, int] = {}
        """The message whose call has begun and must not run again."""
        self.rooms: dict[str, list[str]] = {}
        self.states: dict[str, tuple[int, bytes]] = {}
        """The last SessionState that was journaled, and the message that it was journaled with; of guests too."""
        self._audiences: dict[str | None, frozenset[str]] = {}

    def audience(self, room: str | None) -> frozenset[str]:
        """All members, or all in a room or in one inside it. While nothing changes it is the same object."""
        found = self._audiences.get(room)
        if found is None:
            if room is None:
                found = frozenset(self.known)
            else:
                inside = room + "/"
                found = frozenset(
                    session_id
                    for session_id, paths in self.rooms.items()
                    if any(path == room or path.startswith(inside) for path in paths)
                )
            self._audiences[room] = found
        return found

    def add(self, session_id: str, member: Member) -> None:
        """A session is a member."""
        self.known[session_id] = member
        self._audiences.clear()

    def apply(self, row: list[Any]) -> bool:
        """Take a row; returns whether it is one of these."""
        kind, session_id = row[0], row[1]
        if kind == RowKind.NUMBER:
            self.numbers[session_id] = row[2]
            if self.started.get(session_id, row[2] + 1) <= row[2]:
                del self.started[session_id]
        elif kind == RowKind.MEMBER:
            self.add(session_id, Member(*row[2:7]))
        elif kind == RowKind.MEMBER_GONE:
            self._audiences.clear()
            self.states.pop(session_id, None)
            self.known.pop(session_id, None)
            self.numbers.pop(session_id, None)
            self.started.pop(session_id, None)
            self.rooms.pop(session_id, None)
        elif kind == RowKind.ATTRIBUTES:
            member = self.known.get(session_id)
            if member is not None:
                member.attributes = row[2]
        elif kind == RowKind.STARTED:
            self.started[session_id] = row[2]
        elif kind == RowKind.SESSION_STATE:
            self.states[session_id] = (row[2], row[3])
        elif kind == RowKind.ROOMS:
            self._audiences.clear()
            if row[2]:
                self.rooms[session_id] = row[2]
            else:
                self.rooms.pop(session_id, None)
        else:
            return False
        return True

    def rows(self) -> list[list[Any]]:
        """What rebuilds it."""
        return [
            *(member.row(session_id) for session_id, member in self.known.items()),
            *([int(RowKind.NUMBER), session_id, number] for session_id, number in self.numbers.items()),
            *([int(RowKind.STARTED), session_id, number] for session_id, number in self.started.items()),
            *([int(RowKind.ROOMS), session_id, rooms] for session_id, rooms in self.rooms.items()),
            *(
                [int(RowKind.SESSION_STATE), session_id, number, state]
                for session_id, (number, state) in self.states.items()
            ),
        ]
