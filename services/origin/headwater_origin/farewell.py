"""What a client hears when it is not taken in, or when the application closes it."""

from typing import TYPE_CHECKING

from headwater_bus.logs import get_log
from headwater_bus.traffic import Attached
from headwater_rtmp.command import encode_command
from headwater_rtmp.status import StatusCode, status

from headwater_origin.durable.said import close_form, message_form
from headwater_origin.errors import Redirect, Reject

if TYPE_CHECKING:
    from headwater_origin.session import Session

_log = get_log("origin")
_LONGEST_REASON = 500


def told(reason: str) -> str:
    """A reason that may be an application's text: it has an end, and no lone surrogates, which have no UTF-8."""
    return reason[:_LONGEST_REASON].encode(errors="replace").decode()


def refuse(session: "Session", why: str | Reject, code: StatusCode) -> None:
    """Answer its connect with `_error`, and close it."""
    if session.closed:
        return
    reason = why if isinstance(why, str) else why.reason
    elsewhere = {"ex": {"code": 302.0, "redirect": why.url}} if isinstance(why, Redirect) else {}
    session.group.counters.connects_rejected += 1
    _log.info("connect refused", group=session.group.name, address=session.address, reason=told(reason))
    # In AMF0 for every client, as the answer of a connect that succeeds is.
    info = {**status(code, told(reason)), **elsewhere}
    # What the application says may come of what is not committed yet; the origin's own reasons do not.
    say = session.send if isinstance(why, Reject) else session.reply
    say(encode_command("_error", session.connect_transaction, None, info))
    session.drop(f"connect refused: {reason}")


def turn_away(session: "Session", why: Reject) -> None:
    """The application of a new origin does not take a client that was connected before: it is closed."""
    session.group.counters.connects_rejected += 1
    session.group.reply(session, Attached(session.number, 0, False, session.epoch))
    session.send_status(0, status(StatusCode.CONNECT_REJECTED, told(why.reason)))
    session.drop(why.reason)


def close_for_application(session: "Session", reason: str) -> None:
    """`close` as an effect of application code: journaled, so that a client that its origin's death has kept from hearing it
    hears it from the next one."""
    if session.accepted and not (session.closed and not session.absent) and not session.group.stalled:
        text = told(reason)
        info = status(StatusCode.CONNECT_CLOSED, text)
        say = session.group.durable.say
        say(session, message_form(encode_command("onStatus", 0, None, info, amf3=session.amf3)))
        say(session, close_form(text))
        if session.absent:
            session.group.gone(session)
        else:
            session.ended(text)
    else:
        session.close(reason)
