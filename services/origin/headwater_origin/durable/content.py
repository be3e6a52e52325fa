"""What of a group outlives its origin: the rows of its journal, applied here whether they are live or read again."""

from typing import TYPE_CHECKING, Any

from headwater_bus.rows import pack_rows, unpack_rows
from headwater_rtmp.shared_object import EventType

from headwater_origin.durable.jobs import Jobs
from headwater_origin.durable.journal import JournalError, ObjectKind, RowKind
from headwater_origin.durable.members import Members
from headwater_origin.durable.values import Changes, Values, pack_values

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import Session

_STATE = "state"
_CHANGE, _REMOVE = int(EventType.CHANGE), int(EventType.REMOVE)


class Durable:
    """Of one group."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self.members = Members()
        """Filled only while there is a journal."""
        self.jobs = Jobs(group)
        self.state = Values(group, "state", group.config.state_bytes, self._state_changed)
        self._state_version = 0

    @property
    def keeps(self) -> bool:
        """Whether the journal is kept when the group stops."""
        # A member whose `on_disconnect` takes longer than the end of the group hears of it at the next one.
        return bool(self.state.raw or self.members.known or self.jobs) or self._group.objects.durable

    # Rows of the journal

    def apply(self, row: list[Any]) -> None:
        """A row that is read. Raises JournalError for a kind that nobody knows."""
        kind = row[0]
        if kind in (RowKind.OBJECT, RowKind.OBJECT_SET, RowKind.OBJECT_GONE):
            if row[1] == ObjectKind.STATE:
                self._restore_state(row)
            else:
                self._group.objects.restore(row)
        elif kind in (RowKind.JOB, RowKind.JOB_GONE):
            self.jobs.restore(row)
        elif not self.members.apply(row):
            raise JournalError(f"a row of kind {kind!r}")

    def rows(self) -> list[list[Any]]:
        """What rebuilds the group as it is now."""
        return [
            *self._state_rows(),
            *self.jobs.rows(),
            *self.members.rows(),
            *self._group.objects.snapshot_rows(),
        ]

    # Members

    def record(self, row: list[Any]) -> None:
        """A row about a session: applied, and journaled."""
        if not self._group.outputs.off:
            self.members.apply(row)
            self._group.journal(row)

    def joined(self, session: "Session", type_id: int, payload: bytes) -> None:
        """A session is a member; type and body of its connect command."""
        self.record(
            [
                int(RowKind.MEMBER),
                session.session_id,
                session.address,
                session.object_encoding,
                pack_values(session.attributes.raw),
                int(type_id),
                payload,
            ]
        )
        rooms = self._group.rooms.joined.get(session)
        if rooms:
            self.record([int(RowKind.ROOMS), session.session_id, rooms])

    def attributes_changed(self, session: "Session") -> None:
        """A member's attributes have changed."""
        if session.session_id in self.members.known:
            self.record([int(RowKind.ATTRIBUTES), session.session_id, pack_values(session.attributes.raw)])

    def applied(self, session: "Session", number: int) -> None:
        """A message of a session had the effects that were just journaled. Of one that has ended with it nothing is kept."""
        outputs, members = self._group.outputs, self.members
        if not outputs.off and (session.session_id in members.known or not session.closed):
            members.apply([int(RowKind.NUMBER), session.session_id, number])
            outputs.number(session, number)

    def started(self, session: "Session", number: int) -> None:
        """A call begins that must not run twice."""
        self.record([int(RowKind.STARTED), session.session_id, number])

    def left(self, session: "Session") -> None:
        """A session, a guest too, is over."""
        members, session_id = self.members, session.session_id
        if session_id in members.known or session_id in members.numbers or session_id in members.started:
            self._group.outputs.forget_number(session_id)
            self.record([int(RowKind.MEMBER_GONE), session_id])

    def forget_guests(self) -> None:
        """Guests that the journal knows and that have not come back."""
        here = {session.session_id for session in self._group.sessions}
        for session_id in list(self.members.numbers):
            if session_id not in here and session_id not in self.members.known:
                self.record([int(RowKind.MEMBER_GONE), session_id])

    # The application's state

    def _state_changed(self, changes: Changes) -> None:
        self._state_version += 1
        events = [(_REMOVE, key, b"") if raw is None else (_CHANGE, key, raw) for key, raw in changes.items()]
        version = self._state_version
        self._group.journal(
            [int(RowKind.OBJECT), int(ObjectKind.STATE), _STATE, version, version, pack_rows(events)]
        )

    def _state_rows(self) -> list[list[Any]]:
        raw = self.state.raw
        if not raw and not self._state_version:
            return []
        version = self._state_version
        payload = pack_rows([(key, value, version) for key, value in raw.items()])
        return [
            [int(RowKind.OBJECT_SET), int(ObjectKind.STATE), _STATE, version, version, version, [], payload]
        ]

    def _restore_state(self, row: list[Any]) -> None:
        self._state_version = row[3]
        if row[0] == RowKind.OBJECT_SET:
            self.state.apply(dict.fromkeys(self.state.raw))
            self.state.apply({key: value for key, value, _ in unpack_rows(row[-1], str, bytes, int)})
        else:
            self.state.apply(
                {
                    key: value if kind == _CHANGE else None
                    for kind, key, value in unpack_rows(row[-1], int, str, bytes)
                }
            )
