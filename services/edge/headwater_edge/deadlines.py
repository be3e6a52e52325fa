"""What happens to clients because time has passed: deadlines, pings, silence."""

from typing import TYPE_CHECKING

from headwater_bus.logs import get_log
from headwater_rtmp.status import StatusCode

from headwater_edge.attachment import AttachmentPhase
from headwater_edge.client import Client, Phase

if TYPE_CHECKING:
    from headwater_edge.config import EdgeConfig

_log = get_log("edge")
_HANDSHAKE, _OPENING, _CONNECTING, _CONNECTED = (
    Phase.HANDSHAKE,
    Phase.OPENING,
    Phase.CONNECTING,
    Phase.CONNECTED,
)
_ASKED, _ATTACHED = AttachmentPhase.ASKED, AttachmentPhase.ATTACHED
_ELSEWHERE_S = 1.5
"""A client of RTMPT asks more often than that."""


def check_deadlines(client: Client, now: float, config: "EdgeConfig") -> None:
    """Close a client that waits for too long; ping one that is silent. `now`: monotonic seconds."""
    if client.holds and now - client.heard_at > _ELSEWHERE_S:
        return  # Its requests go to another edge, or it is gone.
    phase = client.phase
    age = now - client.phase_at
    if phase is _CONNECTED:
        _check_origins(client, now, config)
        _check_silence(client, now, config)
    elif phase is _HANDSHAKE:
        if age > config.handshake_s:
            client.close(f"no handshake within {config.handshake_s} s", error=True)
    elif phase is _OPENING:
        if age > config.handshake_s + config.connect_s:
            client.close(f"no connect within {config.connect_s} s", error=True)
    elif phase is _CONNECTING and age > config.answer_s:
        _log.warning("connect not answered", group=client.home.group, session=client.session)
        client.reject(StatusCode.CONNECT_FAILED, f"no answer within {config.answer_s} s")


def _check_origins(client: Client, now: float, config: "EdgeConfig") -> None:
    """An origin that does not come back costs the client, and so does one that does not answer for a guest: it waits for what it
    asked for in vain."""
    for attachment in client.attachments:
        if attachment.phase is _ATTACHED:
            continue
        waited_s = now - attachment.since
        if attachment.phase is _ASKED and waited_s > config.answer_s:
            text = f"{attachment.group}: no answer within {config.answer_s} s"
        elif attachment.accepted and attachment.phase < _ATTACHED and waited_s > config.resume_s:
            text = f"{attachment.group}: no origin within {config.resume_s} s"
        else:
            continue
        attachment.fail(StatusCode.CONNECT_CLOSED, text)
        return


def _check_silence(client: Client, now: float, config: "EdgeConfig") -> None:
    silence = now - client.heard_at
    if client.paused or client.holds:
        return  # We do not listen, or it is its requests that are listened for.
    if silence > config.idle_s:
        client.close_with(StatusCode.CONNECT_IDLE_TIMEOUT, f"silent for {config.idle_s} s", error=True)
    elif silence > config.ping_s and client.pinged_at < client.heard_at:
        client.pinged_at = now
        client.enqueue(client.rtmp.send_ping(now))
