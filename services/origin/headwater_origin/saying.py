"""What applications say to clients: calls without an answer (transaction id 0), to one of them or to all.

In a transaction they are sent when that is committed. They are an effect like others: journaled, and said again to who has not
heard them.
"""

from typing import TYPE_CHECKING, Any

from headwater_rtmp.command import encode_command
from headwater_rtmp.message import Message

from headwater_origin.durable.said import Form, broadcast_form, message_form
from headwater_origin.transaction import current

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import Session


def notify(session: "Session", name: str, args: tuple[Any, ...]) -> None:
    """Call a method of one client. Before it is accepted this waits until it is."""
    message = encode_command(name, 0, None, *args, amf3=session.amf3)
    now = current()
    if now is None:
        session.group.writable()
        _notify(session, message)
    else:
        now.after(lambda: _notify(session, message), journals=True)


def _notify(session: "Session", message: Message) -> None:
    durable = session.group.durable
    _closed_behind(session)
    if session.closed and not session.absent:
        return
    if session.accepted:
        durable.say(session, message_form(message))
    else:
        session.post(
            lambda: durable.say(session, message_form(message)), waits=False, size=len(message.payload)
        )


def broadcast(group: "Group", name: str, args: tuple[Any, ...], room: str | None = None) -> None:
    """Call a method of every member, or of all in a room, who are there when it is sent; the command is encoded once for each AMF
    version."""
    amf0, amf3 = (encode_command(name, 0, None, *args, amf3=amf3) for amf3 in (False, True))
    form = broadcast_form(amf0, amf3)
    now = current()
    if now is None:
        group.writable()
        _broadcast(group, form, room)
    else:
        now.after(lambda: _broadcast(group, form, room), journals=True)


def _broadcast(group: "Group", form: Form, room: str | None) -> None:
    sessions = group.attached if room is None else group.rooms.sessions(room)
    here = [session for session in sessions if not session.absent and not _closed_behind(session)]
    group.durable.broadcast(room, form, here)


def _closed_behind(session: "Session") -> bool:
    """Close a session to which as much waits to be said as may; whether it was one."""
    if session.behind:
        session.close(f"{session.waiting} messages to it wait for the store already")
        return True
    return False
