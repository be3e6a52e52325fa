"""The connect command (RTMP 1.0, section 7.2.1.1): the application's answer, and what the server says of itself."""

from typing import Any

from headwater_bus.traffic import Attach, GuestIdle
from headwater_rtmp.capabilities import parse_capabilities, relay_capabilities
from headwater_rtmp.command import Command, encode_command
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.status import StatusCode, status

from headwater_origin import hooks, resume
from headwater_origin.connect_properties import read_connect
from headwater_origin.errors import Reject, StoreUnavailable
from headwater_origin.farewell import refuse, turn_away
from headwater_origin.resume import attached
from headwater_origin.session import Session
from headwater_origin.streams.net_stream import uses_streams

_VERSION = "FMS/3,5,7,7009"
"""Clients compare it with versions of Flash Media Server: from 3,5 on they use all that is served here."""
_CAPABILITIES = 31.0
"""What Flash Media Server 3.5 says."""


def connect(session: Session, attach: Attach) -> None:
    """Have the application decide, then answer. Runs in the session's order, before everything else the client sends. One that
    was a member before goes on, which the application need not decide again; then its command need not even be read."""
    group = session.group
    command = None if attach.resumed else _read(session)
    if session.closed:
        return

    def decide() -> None:
        if session.closed:
            return  # The application never saw it.
        if group.failure is not None:
            if attach.resumed:
                session.send_away(group.failure)
            else:
                session.close(group.failure)
            return
        lost = attach.resumed and resume.went_back(session, attach)
        if _resume(session, command, attach) or session.closed:
            return
        if attach.resumed and group.journaled and not lost:
            resume.say_goodbye(session, attach)
        else:
            _begin(session, attach, command or _read(session))

    session.wait_for_start()
    waits = group.waits("on_connect") or group.waits("on_resume") or group.awaited(session)
    session.post(decide, waits=waits)


def _read(session: Session) -> Command | None:
    """Its connect command; None: it cannot be read, and the session is closed."""
    try:
        return read_connect(session)
    except RemoteProtocolError as error:
        session.group.counters.protocol_errors += 1
        session.close_for(str(error))
        return None


def _begin(session: Session, attach: Attach, command: Command | None) -> None:
    """Ask the application. A client that has been accepted before, at an origin of which nothing is left, does not notice."""
    if command is None:
        return
    group = session.group
    if group.stalled:
        refuse(session, str(StoreUnavailable()), StatusCode.CONNECT_FAILED)
        return
    refused = _refusal(session, command)
    if session.closed:
        # It went while the application thought: what that has noted of the client ends as for any other.
        if refused is None:
            group.depart(session)
    elif refused is None:
        _begins(session)
        session.properties = None
        group.durable.joined(session)
        if attach.resumed:
            group.counters.connects_accepted += 1
            resume.restore(session, attach)
        else:
            accept(session, command)
    elif attach.resumed:
        turn_away(session, refused)
    else:
        refuse(session, refused, StatusCode.CONNECT_REJECTED)


def _refusal(session: Session, command: Command) -> Reject | None:
    """Why the application does not take it."""
    group = session.group
    if not group.waits("on_connect"):
        return None
    args = (session.client, *command.args)
    # Of this hook alone the arguments are the client's, so it is no failure of the application when they do not fit.
    assert group.application is not None
    problem = hooks.arguments_problem(group.application.on_connect, args)
    return Reject(problem) if problem is not None else hooks.refusal(group, "on_connect", *args)


def _begins(session: Session) -> None:
    """Nothing that was said before concerns it."""
    if session.stored is not None:
        session.stored.heard(0, session.group.outputs.committed_number)


def accept(session: Session, command: Command) -> None:
    """The client is a member of the scope from now on."""
    session.accepted = True
    group = session.group
    group.counters.connects_accepted += 1
    group.send(session.edge, attached(session), session)
    enhanced = relay_capabilities() if parse_capabilities(command.command_object).enhanced else {}
    properties: dict[str, Any] = {"fmsVer": _VERSION, "capabilities": _CAPABILITIES, "mode": 1.0, **enhanced}
    info = status(
        StatusCode.CONNECT_SUCCESS,
        "connected",
        objectEncoding=float(session.object_encoding),
        clientid=session.session_id,
        **enhanced,
    )
    # In AMF0 for every client: the AMF version is what this answer settles.
    session.send(encode_command("_result", command.transaction_id, properties, info))


def _resume(session: Session, command: Command | None, attach: Attach) -> bool:
    """Go on with a member as the journal has it. Returns whether it has. Where the origin died before it could say so, the edge
    knows of no member (`resumed` is False) and has the connect answered now."""
    group = session.group
    before = group.returns(session)
    if before is None:
        return False
    if group.outputs.lost:
        session.send_away("another origin has it")
        return True
    session.follows(before)
    resume.restore(session, attach, None if command is None else lambda: accept(session, command))
    resume.tell_application(session)
    return True


def join_guest(session: Session, attach: Attach) -> None:
    """Its home has decided: it is here from now on, when the group has started."""
    group = session.group

    def join() -> None:
        if session.closed:
            return
        if group.failure is not None:
            session.send_away(group.failure)
            return
        if attach.resumed:
            resume.went_back(session, attach)
        before = group.returns(session)
        if session.closed:
            return
        if group.outputs.lost:
            session.send_away("another origin has it")
        elif attach.resumed:
            resume.restore(session, attach)
            tell_idle(session, session.applied)
        else:
            if before is not None:
                # It had left, and its edge died before it could say so, or was not told that it was here: it has sent nothing.
                group.ended_before(before)
            _begins(session)
            session.accepted = True
            group.reply(session, attached(session))

    session.wait_for_start()
    session.post(join, waits=group.awaited(session))


def tell_idle(session: Session, number: int) -> None:
    """Tell the edge of a guest that uses nothing here after its message `number`."""
    if not session.closed and not session.objects and not uses_streams(session):
        session.group.send(session.edge, GuestIdle(session.number, number), session)
