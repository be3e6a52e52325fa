"""Where a client's credentials are looked at: before it connects, publishes or plays, when anything was configured about that."""

from collections.abc import Callable

from headwater_rtmp.command import Command, decode_command, encode_command
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status

from headwater_edge.auth import Asked, Authentication, Verdict
from headwater_edge.client import Client
from headwater_edge.proof import identity_proof, query_of

_DENIALS = {"publish": StatusCode.PUBLISH_DENIED, "play": StatusCode.PLAY_FAILED}
_SHORT_STRING = 0x02
_LONGEST = max(map(len, _DENIALS))


class Gate:
    """Asks `authentication` about clients."""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication

    def stops(self, client: Client, message: Message) -> bool:
        """Whether a command of a connected client is one to look at. Raises RemoteProtocolError."""
        payload = message.payload
        at = 1 if payload[:1] == b"\x00" else 0
        head = payload[at : at + 3 + _LONGEST]
        if len(head) >= 3 and head[0] == _SHORT_STRING:
            # What most are: told without looking at the rest.
            size = head[1] << 8 | head[2]
            name = bytes(head[3 : 3 + size]).decode("latin-1") if size <= _LONGEST else ""
        else:
            name = decode_command(message).name
        if name not in _DENIALS:
            return False
        command = decode_command(message)
        return bool(command.args) and isinstance(command.args[0], str)

    def look_at(
        self,
        client: Client,
        message: Message,
        passed: Callable[[Client], None],
        stopped: Callable[[Client, Message | None, str], None],
    ) -> None:
        """Decide about connect, publish or play: `passed(client)` or `stopped(client, answer, reason)` is called once, now or
        later, unless the client is closed meanwhile. `answer` is what it is told; None, of connect."""
        command = decode_command(message)
        connect = command.name == "connect"
        asked = _asked(client, command)

        def judged(verdict: Verdict) -> None:
            if client.closed or not client.gated or client.gated[0] is not message:
                return
            if verdict.identity:
                client.identity = verdict.identity
                client.proof = identity_proof(verdict.identity)
            if verdict.allowed:
                passed(client)
            elif connect:
                stopped(client, None, verdict.reason)
            else:
                info = status(_DENIALS[command.name], verdict.reason)
                answer = encode_command(
                    "onStatus", 0, None, info, stream_id=message.stream_id, amf3=client.amf3
                )
                stopped(client, answer, verdict.reason)

        self._authentication.check(asked, judged)


def _asked(client: Client, command: Command) -> Asked:
    assert client.connect is not None
    connect = command if command.name == "connect" else decode_command(client.connect)
    properties = connect.command_object if isinstance(connect.command_object, dict) else {}

    def text(name: str) -> str:
        value = properties.get(name)
        return value if isinstance(value, str) else ""

    connect_query = query_of(text("app")) or query_of(text("tcUrl"))
    stream, query, kind = "", connect_query, None
    if command is not connect:
        stream, _, query = str(command.args[0]).partition("?")
        kind = command.args[1] if len(command.args) > 1 else None
    return Asked(
        action=command.name,
        address=client.address,
        app=client.home.group.removesuffix("/_definst_"),
        stream=stream,
        query=query,
        connect_query=connect_query,
        tc_url=text("tcUrl"),
        page_url=text("pageUrl"),
        swf_url=text("swfUrl"),
        flash_ver=text("flashVer"),
        session_id=client.session_id,
        number=client.session,
        transport=client.transport,
        type=kind if isinstance(kind, str) else "",
    )
