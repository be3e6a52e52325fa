"""How a session goes on that had its group before, at another origin or over another link: from what the journal says and what
its edge knows, in the session's order, before what its client sends next.
"""

from collections.abc import Callable

from headwater_bus.logs import get_log
from headwater_bus.traffic import Attach, Attached, CloseSession

from headwater_origin import hooks
from headwater_origin.durable.said import envelope_of
from headwater_origin.objects.missed import in_order
from headwater_origin.session import Session
from headwater_origin.session_state import StateError, StateOf, unpack_state
from headwater_origin.streams import routes as stream_routes

_log = get_log("origin")


def attached(session: Session) -> Attached:
    """What its edge is told when it is here."""
    return Attached(session.number, session.applied, session.group.spread_objects, session.epoch)


def went_back(session: Session, attach: Attach) -> bool:
    """Whether the edge has heard more than the journal holds: the store has gone back in time. Then the group goes on above what
    was seen."""
    group = session.group
    ends_at = group.outputs.last_number
    if not group.outputs.went_back(attach.heard):
        return False
    _log.error(
        "the store went back in time, clients have heard of entries that it lacks",
        group=group.name,
        entries_lost=f"{ends_at + 1} to {attach.heard}",
    )
    return True


def restore(session: Session, attach: Attach, accept: Callable[[], None] | None = None) -> None:
    """The session is here: all of it is said in one step, behind what waits for the journal, and nothing waits in between.
    `accept`: says that it is, to an edge that has not heard so."""
    group = session.group
    members = group.durable.members
    session.applied = session.done = max(members.numbers.get(session.session_id, 0), attach.applied)
    session.accepted = True
    group.counters.sessions_resumed += 1
    state = _state(session, attach)
    # What it is told from here on waits for what its former self has not committed yet.
    group.outputs.hold(session)
    missed = group.objects.resume(session, state.objects, attach.objects, attach.applied)
    group.objects.routes.resume(session, state.elsewhere)
    if accept is not None:
        accept()
    else:
        group.send(session.edge, attached(session), session)
    for envelope in in_order(missed, group.outputs.unheard(session, attach.applied, attach.heard)):
        group.send(session.edge, envelope, session)
    group.outputs.told_again(session)
    group.streams.resume(session, state.streams, attach.streams, state.publications)
    stream_routes.resume(session, state.guest_streams, attach.guest_streams)
    session.bandwidth_done = state.bandwidth_done
    session.knows_state(attach.state)
    session.tell_state()


def _state(session: Session, attach: Attach) -> StateOf:
    """The newer one of what the edge and the journal know."""
    number, journaled = session.group.durable.members.states.get(session.session_id, (0, b""))
    try:
        return unpack_state(journaled if number > attach.applied else attach.state)
    except StateError as error:
        session.group.counters.protocol_errors += 1
        _log.error(
            "a session goes on without its streams and objects",
            group=session.group.name,
            session=session.session_id,
            error=str(error),
        )
        return StateOf()


def tell_application(session: Session) -> None:
    """`on_resume`, which may wait."""
    if session.group.waits("on_resume"):
        hooks.tell(session.group, "on_resume", session.client)


def say_goodbye(session: Session, attach: Attach) -> None:
    """It has ended here, and its edge has not heard so."""
    group = session.group
    session.applied = attach.applied
    group.send(session.edge, attached(session), session)
    closed = False
    for said in group.outputs.said.unheard(session.session_id, attach.applied, attach.heard):
        envelope = envelope_of(said.form, session)
        if envelope is not None:
            group.send(session.edge, envelope, session)
            closed = closed or isinstance(envelope, CloseSession)
    if closed:
        session.ended("it has ended here")
    else:
        session.drop("the session has ended at its origin")
