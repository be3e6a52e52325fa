"""What clients say of themselves when they connect: the command object of `connect` (RTMP 1.0, section 7.2.1.1).

It is forgotten when the application has decided, and read again when somebody asks: it takes more memory than all else of an idle
session, and more time than all else of one that only comes back.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from headwater_rtmp.command import Command, decode_command
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message

if TYPE_CHECKING:
    from headwater_origin.session import Session


def read_connect(session: "Session") -> Command:
    """The connect command of a member. Raises RemoteProtocolError."""
    member = session.member
    assert member is not None
    command = decode_command(Message(member.type_id, 0, 0, member.payload))
    session.connect_transaction = command.transaction_id
    session.properties = command.command_object if isinstance(command.command_object, dict) else {}
    return command


def connect_properties(session: "Session") -> dict[str, Any]:
    """The command object; empty for a guest."""
    if session.properties is None:
        session.properties = {}
        if session.member is not None:
            # A former version may have taken it; nothing depends on what the client said of itself.
            with suppress(RemoteProtocolError):
                read_connect(session)
    return session.properties
