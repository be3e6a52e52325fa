"""What a session that goes on has missed of a SharedObject, to be told in its place among all that the group has done.

Its edge has brought its replica up to date and holds the commits back from the member: it lets them out as it is told to, by
ObjectJoined. Only what the edge cannot know the member is told alone: messages and answers among commits that its replica has got
over, as with the content as a whole they do not go.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headwater_bus.object_traffic import ObjectAnswer, ObjectJoined
from headwater_bus.rows import pack_rows, unpack_rows
from headwater_bus.traffic import ToClient
from headwater_rtmp.shared_object import Event, EventType, arguments_for, encode_shared_object, value_for

from headwater_origin.objects.operations import CLEAR, REMOVE, SEND, SET
from headwater_origin.objects.recent import Commit, Have

if TYPE_CHECKING:
    from headwater_origin.objects.shared_object import SharedObject
    from headwater_origin.session import Session


class Missed:
    """Of one session, which goes on with an object that its edge knows by `number`; the edge holds every commit behind `since`
    back from it. `have`: what the session has been told of the object; None where it is no member of the replica, as it was never
    told that it has joined. Everything that its messages up to number `answered` have caused was told.

    `is_new`: another edge had the session: it is told all by itself, as its requests are not known as its own at this one. That a
    commit was told its edge hears. `since` means nothing.

    `told`: envelopes, each with the order of the commit that it is about; `ends`: those behind all that the group has done."""

    __slots__ = ("_session", "_shared", "ends", "told")

    def __init__(
        self,
        shared: "SharedObject",
        session: "Session",
        number: int,
        since: int,
        have: Have | None,
        answered: int,
        is_new: bool = False,
    ) -> None:
        self._shared, self._session = shared, session
        self.told: list[tuple[int, Any]] = []
        self.ends: list[Any] = []
        recent = shared.recent
        joined = ObjectJoined(session.number, number, -1, True)
        if have is None:
            # It begins with the content as it is now, in the place of its first change.
            own = recent.from_first_of(session.session_id, answered)
            if own:
                self.told.append((own[0].order, joined))
            else:
                self.ends.append(joined)
            self._tell_alone(own)
            return
        known = shared.covers(have)
        if is_new:
            self._tell_all(number, recent.between(have.events, recent.last_events))
            self.ends.append(ObjectJoined(session.number, number, -1, True, recent.last_events))
            if not known:
                self._tell_content(number)
            return
        self.ends.append(joined)
        if have.events < since:
            self._tell_alone(recent.between(have.events, since))
            known = False
        if session.scope:
            return  # An application has been told by its replica.
        for commit in recent.between(max(have.events, since), recent.last_events):
            if _asked_elsewhere(commit, session):
                self._tell_all(number, [commit])
            else:
                joined = ObjectJoined(session.number, number, commit.events, True)
                self.told.append((commit.order, joined))
        if not known:
            self._tell_content(number)

    def _tell_content(self, number: int) -> None:
        """In the end, all of it."""
        self.ends.append(ObjectAnswer(self._session.number, number, pack_rows([(CLEAR, "")])))

    def _tell_all(self, number: int, commits: Iterable[Commit]) -> None:
        """All of these commits, to a session whose edge may have got over them before it had the session."""
        session, shared = self._session, self._shared
        for commit in commits:
            own = commit.asker is not None and commit.asker.session_id == session.session_id
            events = [
                event
                for row in unpack_rows(commit.payload, int, str, bytes)
                if (event := _event_for(session, own, *row)) is not None
            ]
            if events:
                self.told.append((commit.order, _message(session, shared, commit.version, events)))
            told = ObjectJoined(session.number, number, commit.events, True, commit.events)
            self.told.append((commit.order, told))

    def _tell_alone(self, commits: Iterable[Commit]) -> None:
        """Messages and answers of these commits; in the end slots that are not what the session takes them for by then."""
        session, shared = self._session, self._shared
        answered: dict[str, bytes | None] = {}
        for commit in commits:
            events = _events_for(session, commit, answered)
            if events:
                self.told.append((commit.order, _message(session, shared, commit.version, events)))
        values, amf3 = shared.content.values, session.amf3
        corrections = [
            Event(EventType.REMOVE, key)
            if (raw := values.get(key)) is None
            else Event(EventType.CHANGE, key, value_for(raw, amf3))
            for key, taken in answered.items()
            if values.get(key) != taken
        ]
        if corrections:
            self.ends.append(_message(session, shared, shared.version, corrections))


def _asked_elsewhere(commit: Commit, session: "Session") -> bool:
    """Whether a session has asked for a commit by another edge, so that the one that it has now does not know it as its own."""
    asker = commit.asker
    if asker is None or asker.session_id != session.session_id:
        return False
    return commit.attachment(session.edge.link.peer) != session.number


def _event_for(session: "Session", own: bool, kind: int, key: str, value: bytes) -> Event | None:
    """As the edge would tell it."""
    if kind == SEND:
        hears = not (own and session.scope)  # An application does not hear itself.
        return Event(EventType.SEND_MESSAGE, None, arguments_for(value, session.amf3)) if hears else None
    if own and (kind == SET or (kind == REMOVE and value)):
        return Event(EventType.SUCCESS, key)
    if kind == SET:
        return Event(EventType.CHANGE, key, value_for(value, session.amf3))
    return Event(EventType.CLEAR) if kind == CLEAR else Event(EventType.REMOVE, key)


def _events_for(session: "Session", commit: Commit, answered: dict[str, bytes | None]) -> list[Event]:
    own = commit.asker is not None and commit.asker.session_id == session.session_id
    events: list[Event] = []
    for kind, key, value in unpack_rows(commit.payload, int, str, bytes):
        if kind == SEND:
            if not (own and session.scope):  # An application does not hear itself.
                events.append(Event(EventType.SEND_MESSAGE, None, arguments_for(value, session.amf3)))
        elif own and (kind == SET or (kind == REMOVE and value)):
            events.append(Event(EventType.SUCCESS, key))
            answered[key] = value if kind == SET else None
    return events


def _message(session: "Session", shared: "SharedObject", version: int, events: list[Event]) -> ToClient:
    message = encode_shared_object(shared.name, version, shared.persistent, events, session.amf3)
    return ToClient(session.number, message.type_id, 0, 0, message.payload)


def in_order(missed: Iterable[Missed], said: Iterable[tuple[int, Any]]) -> list[Any]:
    """All that one session has missed of its objects, and what is `said` to it again, each behind the commit of its order."""
    told = [(order, 0, envelope) for one in missed for order, envelope in one.told]
    told += [(order, 1, envelope) for order, envelope in said]
    told.sort(key=lambda row: row[:2])
    last = told[-1][2] if told else None
    # The object that was let out last goes on without a stop.
    ends = sorted((one.ends for one in missed), key=lambda ends: not (ends and _goes_on(last, ends[0])))
    envelopes = [envelope for _, _, envelope in told] + [envelope for end in ends for envelope in end]
    return [
        envelope
        for at, envelope in enumerate(envelopes)
        if at + 1 == len(envelopes) or not _goes_on(envelope, envelopes[at + 1])
    ]


def _goes_on(envelope: Any, after: Any) -> bool:
    """Whether an object is let out, and then more of it."""
    return (
        isinstance(envelope, ObjectJoined)
        and isinstance(after, ObjectJoined)
        and envelope.shared_object == after.shared_object
        and envelope.told <= after.told
    )
