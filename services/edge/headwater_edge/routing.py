"""Where a client's messages go: `connect` to the cluster, those behind it wait, all later ones to the session's home, or the way
that it has told for a SharedObject. What needs credentials, and what comes behind it, waits until they were looked at."""

import time
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from headwater_bus.alike import Alike
from headwater_bus.control import MAX_SCOPE_BYTES
from headwater_rtmp.command import Command, decode_command
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import COMMANDS, MEDIA, OBJECTS, Message
from headwater_rtmp.shared_object import EventType, peek_shared_object
from headwater_rtmp.status import StatusCode
from headwater_rtmp.url import split_app

from headwater_edge.client import Client, Phase
from headwater_edge.proof import client_proof
from headwater_edge.routes import ObjectRoutes

if TYPE_CHECKING:
    from headwater_edge.cluster import Cluster
    from headwater_edge.counters import Counters
    from headwater_edge.gate import Gate

_CONNECTING, _CONNECTED, _CLOSED = Phase.CONNECTING, Phase.CONNECTED, Phase.CLOSED
# Media too, of a client that publishes without waiting for the answer: the origin knows whether it may.
_FORWARDED = COMMANDS | OBJECTS | MEDIA
_MEMBERSHIP = frozenset(map(int, (EventType.USE, EventType.RELEASE)))
"""What the home has to hear of, wherever the object is."""
_REMEMBERED = 1024
"""Names of groups that were asked for last."""
_EARLY_MESSAGES = 64
_EARLY_BYTES = 128 * 1024


class Router:
    """Routes every message that is not media of a publisher."""

    def __init__(self, cluster: "Cluster", counters: "Counters", gate: "Gate | None" = None) -> None:
        self._cluster, self._counters, self._gate = cluster, counters, gate
        self._connects = Alike(cluster.connect_of)
        """Those of one page or program say the same, where no token is in it."""

    def route(self, client: Client, message: Message) -> None:
        """Take a message of a client. Raises RemoteProtocolError."""
        phase = client.phase
        if client.gated is not None:
            _hold(client.gated, message, "while its credentials are looked at")
        elif phase is _CONNECTED:
            if self._gate is not None and message.type_id in COMMANDS and self._gate.stops(client, message):
                self._look_at(client, message)
            elif client.spread_objects and message.type_id in OBJECTS:
                _by_route(client, message)
            elif message.type_id in _FORWARDED:
                client.home.forward(message)
            else:
                self._counters.messages_ignored += 1
        elif phase is _CONNECTING:
            assert client.early is not None
            _hold(client.early, message, "before the answer to connect")
        elif phase is _CLOSED:
            return
        elif message.type_id in COMMANDS:
            self._connect(client, message)
        else:
            raise RemoteProtocolError(f"message type {message.type_id} before connect")

    def _connect(self, client: Client, message: Message) -> None:
        command = decode_command(message)
        if command.name != "connect" or not isinstance(command.command_object, dict):
            raise RemoteProtocolError(f"command {command.name[:64]!r} before connect")
        client.phase = Phase.CONNECTING
        client.phase_at = time.monotonic()
        connect = Message(message.type_id, 0, 0, message.payload)
        client.connect, client.early = self._connects.shared(client.session, connect, connect.payload), []
        client.object_encoding = 3 if command.command_object.get("objectEncoding") == 3 else 0
        try:
            client.home.group = _group_of(command)
        except ValueError as error:
            client.reject(StatusCode.CONNECT_INVALID_APP, str(error))
            return
        client.proof = client_proof(client, command)
        if self._gate is None:
            self._attach(client)
        else:
            self._look_at(client, message)

    def _attach(self, client: Client) -> None:
        if not client.closed:
            client.home.since = time.monotonic()
            self._cluster.attach(client.home)

    # Credentials

    def _look_at(self, client: Client, message: Message) -> None:
        """Have the gate decide whether a client may do what a command asks for."""
        assert self._gate is not None
        client.gated = [message]
        self._gate.look_at(client, message, self._passed, self._stopped)

    def _passed(self, client: Client) -> None:
        """It may: the command goes its way, and what came behind it."""
        assert client.gated
        first, *behind = client.gated
        client.gated = None
        if client.phase is _CONNECTING:
            self._attach(client)
        elif first.type_id in _FORWARDED:
            client.home.forward(first)
        self._go_on(client, behind)

    def _stopped(self, client: Client, answer: Message | None, reason: str) -> None:
        """It may not: it is told so, and closed where it wanted to connect."""
        assert client.gated
        _, *behind = client.gated
        client.gated = None
        if answer is None:
            client.reject(StatusCode.CONNECT_REJECTED, reason)
            return  # Closed clients send what is left by themselves.
        client.send(answer)
        self._go_on(client, behind)

    def _go_on(self, client: Client, messages: Iterable[Message]) -> None:
        try:
            for message in messages:
                self.route(client, message)
        except RemoteProtocolError as error:
            client.close_for(error)
        if not client.closed:
            client.look_again()
            client.flush()

    def route_again(self, client: Client, gated: list[Message]) -> None:
        """A session that another edge had while its credentials were looked at."""
        if not gated:
            return
        if client.phase is _CONNECTING and self._gate is not None:
            self._look_at(client, gated[0])
            gated = gated[1:]
        elif client.phase is _CONNECTING:
            self._attach(client)
            gated = gated[1:]
        self._go_on(client, gated)


def _by_route(client: Client, message: Message) -> None:
    """Send a SharedObject message of a spread scope by the home or straight to the object. Raises RemoteProtocolError."""
    about = peek_shared_object(message)
    if client.routes is None:
        client.routes = ObjectRoutes()
    by_home = not _MEMBERSHIP.isdisjoint(about.kinds)
    attachment = client.routes.next((about.name, about.persistent), by_home)
    (attachment if attachment is not None else client.home).forward(message)


def _hold(held: list[Message], message: Message, when: str) -> None:
    """Keep a message until it can go on. Raises RemoteProtocolError for one too many."""
    size = len(message.payload) + sum(len(one.payload) for one in held)
    if len(held) >= _EARLY_MESSAGES or size > _EARLY_BYTES:
        raise RemoteProtocolError(
            f"{len(held) + 1} messages of {size} bytes {when}, "
            f"expected at most {_EARLY_MESSAGES} of {_EARLY_BYTES}"
        )
    held.append(message)


def _group_of(command: Command) -> str:
    """The group that a client asks for. Raises ValueError, whose text is for the client."""
    app = command.command_object.get("app")
    if not isinstance(app, str):
        raise ValueError("no application is named in the URL")
    name = app.partition("?")[0]
    _check_length(name)
    return _group_named(name)


@lru_cache(_REMEMBERED)
def _group_named(name: str) -> str:
    """That of an application's name without query: that may hold a secret, which is not to be remembered. Raises ValueError."""
    group = "/".join(split_app(name))
    _check_length(group)
    return group


def _check_length(name: str) -> None:
    """Raises ValueError."""
    if len(name) > MAX_SCOPE_BYTES:  # Of ASCII alone, or `split_app` does not take it.
        raise ValueError(f"application {name[:64]!r}: {len(name)} bytes, expected at most {MAX_SCOPE_BYTES}")
