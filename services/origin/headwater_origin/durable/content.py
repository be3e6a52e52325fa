"""What of a group outlives its origin: the rows of its journal, applied here whether they are live or read again."""

from typing import TYPE_CHECKING, Any

from headwater_bus.rows import pack_rows, unpack_rows
from headwater_rtmp.shared_object import EventType

from headwater_origin.durable.jobs import Jobs
from headwater_origin.durable.journal import JournalError, ObjectKind, RowKind
from headwater_origin.durable.members import Members
from headwater_origin.durable.said import Form, Said
from headwater_origin.durable.values import Changes, Values

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
        self._said = group.outputs.said

    @property
    def keeps(self) -> bool:
        """Whether the journal is kept when the group stops."""
        # A member whose `on_disconnect` takes longer than the end of the group hears of it at the next one.
        members = self.members
        return bool(self.state.raw or members.known or self.jobs) or self._group.objects.durable

    # Rows of the journal

    def apply(self, row: list[Any], entry: int) -> None:
        """A row that is read, of this entry. Raises JournalError for a kind that nobody knows."""
        kind = row[0]
        if kind in (RowKind.OBJECT, RowKind.OBJECT_SET, RowKind.OBJECT_GONE, RowKind.OBJECT_RECENT):
            if row[1] == ObjectKind.STATE:
                self._restore_state(row)
            else:
                self._group.objects.restore(row)
        elif kind in (RowKind.JOB, RowKind.JOB_GONE):
            self.jobs.restore(row)
        elif kind == RowKind.SAID:
            earlier = row[4] if len(row) > 4 else 0
            self._said.add(Said((row[1],), row[2], row[3], self._group.outputs.order - earlier, entry))
        elif kind == RowKind.BROADCAST:
            audience = self.members.audience(row[1])
            self._said.add(Said(audience, 0, row[2], self._group.outputs.order, entry))
        elif kind == RowKind.SAID_KEPT:
            outputs = self._group.outputs
            outputs.order = max(self._said.restore(row), outputs.order)
        elif not self.members.apply(row):
            raise JournalError(f"a row of kind {kind!r}")

    def rows(self) -> list[list[Any]]:
        """What rebuilds the group as it is now."""
        return [
            *self._state_rows(),
            *self.jobs.rows(),
            *self.members.rows(),
            *self._said.rows(),
            *self._group.objects.snapshot_rows(),
        ]

    # Members

    def record(self, row: list[Any]) -> None:
        """A row about a session: applied, and journaled."""
        if not self._group.outputs.off:
            self.members.apply(row)
            self._group.journal(row)

    def joined(self, session: "Session") -> None:
        """A session is a member."""
        group, member = self._group, session.member
        if group.outputs.off or member is None:
            return
        member.attributes = session.pack_attributes()
        self.members.add(session.session_id, member)
        group.journal(member.row(session.session_id))
        rooms = group.rooms.joined.get(session)
        if rooms:
            self.record([int(RowKind.ROOMS), session.session_id, rooms])

    def attributes_changed(self, session: "Session") -> None:
        """A member's attributes have changed."""
        if session.session_id in self.members.known:
            self.record([int(RowKind.ATTRIBUTES), session.session_id, session.pack_attributes()])

    def applied(self, session: "Session", number: int) -> None:
        """A message of a session had the effects that were just journaled, and has said what it had to say. Of a session that has
        ended with it the number is not kept."""
        outputs, members = self._group.outputs, self.members
        if outputs.off:
            outputs.done(session, number)
            return
        session_id = session.session_id
        if session.closed and session_id not in members.known:
            outputs.applied(session, number, is_kept=False)
            return
        members.numbers[session_id] = number
        if members.started and members.started.get(session_id, number + 1) <= number:
            del members.started[session_id]
        outputs.applied(session, number)
        state = session.state_to_journal()
        if state is not None:
            self.record([int(RowKind.SESSION_STATE), session_id, number, state])

    def started(self, session: "Session", number: int) -> None:
        """A call begins that must not run twice."""
        self.record([int(RowKind.STARTED), session.session_id, number])

    def left(self, session: "Session") -> None:
        """A session, a guest too, is over."""
        members, session_id = self.members, session.session_id
        if (
            session_id in members.known
            or session_id in members.numbers
            or session_id in members.started
            or session_id in members.states
        ):
            self._group.outputs.forget_number(session)
            self.record([int(RowKind.MEMBER_GONE), session_id])

    def guests(self) -> list[str]:
        """Session ids of guests that the journal knows."""
        members = self.members
        return [id_ for id_ in {**members.numbers, **members.states} if id_ not in members.known]

    # What is said

    def say(self, session: "Session", form: Form) -> None:
        """Tell one session something as an effect; also one that is to come back."""
        session_id = session.session_id
        row = [int(RowKind.SAID), session_id, 0, form]
        self._group.outputs.say(row, (session_id,), form, () if session.closed else (session,))

    def broadcast(self, room: str | None, form: Form, here: "list[Session]") -> None:
        """Tell all members, or all in a room; `here`: those of them who are."""
        outputs = self._group.outputs
        audience = () if outputs.off else self.members.audience(room)
        if outputs.off or audience:
            outputs.say([int(RowKind.BROADCAST), room, form], audience, form, here)

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
