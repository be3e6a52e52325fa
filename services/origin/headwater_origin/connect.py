"""The connect command (RTMP 1.0, section 7.2.1.1): the application's answer, and what the server says of itself."""

from typing import Any

from headwater_bus.traffic import Attached
from headwater_rtmp.capabilities import parse_capabilities, relay_capabilities
from headwater_rtmp.command import Command, encode_command
from headwater_rtmp.status import StatusCode, status

from headwater_origin import hooks
from headwater_origin.session import Session

_VERSION = "FMS/3,5,7,7009"
"""Clients compare it with versions of Flash Media Server: from 3,5 on they use all that is served here."""
_CAPABILITIES = 31.0
"""What Flash Media Server 3.5 says."""


def connect(session: Session, command: Command) -> None:
    """Have the application decide, then answer. Runs in the session's order, before everything else the client sends."""
    group = session.group
    session.connect_transaction = command.transaction_id

    def decide() -> None:
        group.started.wait()
        if session.closed:
            return  # The application never saw it.
        if group.failure is not None:
            session.close(group.failure)
            return
        args = (session.client, *command.args)
        # Of this hook alone the arguments are the client's, so it is no failure of the application when they do not fit.
        reason = hooks.arguments_problem(group.application.on_connect, args)
        if reason is None:
            reason = hooks.allowed(group, "on_connect", *args)
        if session.closed:
            # It went while the application thought: what that has noted of the client ends as for any other.
            if reason is None and group.waits("on_disconnect"):
                hooks.tell(group, "on_disconnect", session.client)
        elif reason is None:
            accept(session, command)
        else:
            session.refuse(reason, StatusCode.CONNECT_REJECTED)

    waits = not group.started.is_set() or group.waits("on_connect")
    session.post(decide, waits=waits)


def accept(session: Session, command: Command) -> None:
    """The client is a member of the scope from now on."""
    session.accepted = True
    session.group.counters.connects_accepted += 1
    session.edge.link.send(Attached(session.number))
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
