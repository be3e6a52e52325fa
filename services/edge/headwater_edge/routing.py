"""Where a client's messages go: `connect` to the cluster, those behind it wait, all later ones to the session's home, or the way
that it has told for a SharedObject."""

import time
from typing import TYPE_CHECKING

from headwater_bus.control import MAX_SCOPE_BYTES
from headwater_rtmp import control
from headwater_rtmp.command import Command, decode_command
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import COMMANDS, MEDIA, OBJECTS, Message
from headwater_rtmp.shared_object import EventType, peek_shared_object
from headwater_rtmp.status import StatusCode
from headwater_rtmp.url import split_app

from headwater_edge.client import Client, Phase
from headwater_edge.routes import ObjectRoutes

if TYPE_CHECKING:
    from headwater_edge.cluster import Cluster
    from headwater_edge.config import EdgeConfig
    from headwater_edge.counters import Counters

# Media too, of a client that publishes without waiting for the answer: the origin knows whether it may.
_FORWARDED = COMMANDS | OBJECTS | MEDIA
_MEMBERSHIP = frozenset(map(int, (EventType.USE, EventType.RELEASE)))
"""What the home has to hear of, wherever the object is."""
_EARLY_MESSAGES = 64
_EARLY_BYTES = 128 * 1024


class Router:
    """Routes every message that is not media of a publisher."""

    def __init__(self, cluster: "Cluster", config: "EdgeConfig", counters: "Counters") -> None:
        self._cluster, self._config, self._counters = cluster, config, counters

    def route(self, client: Client, message: Message) -> None:
        """Take a message of a client. Raises RemoteProtocolError."""
        phase = client.phase
        if phase == Phase.CONNECTED:
            if client.spread_objects and message.type_id in OBJECTS:
                _by_route(client, message)
            elif message.type_id in _FORWARDED:
                client.home.forward(message)
            else:
                self._counters.messages_ignored += 1
        elif phase == Phase.CONNECTING:
            _hold(client, message)
        elif phase == Phase.CLOSED:
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
        client.connect, client.early = message, []
        client.object_encoding = 3 if command.command_object.get("objectEncoding") == 3 else 0
        client.enqueue(
            client.rtmp.send_window_ack_size()
            + client.rtmp.send(control.set_peer_bandwidth(self._config.window_ack_bytes))
            + client.rtmp.send_chunk_size(self._config.chunk_size)
        )
        try:
            group = _group_of(command)
        except ValueError as error:
            client.reject(StatusCode.CONNECT_INVALID_APP, str(error))
            return
        if not client.closed:
            client.home.group = group
            client.home.since = client.phase_at
            self._cluster.attach(client.home)


def _by_route(client: Client, message: Message) -> None:
    """Send a SharedObject message of a spread scope by the home or straight to the object. Raises RemoteProtocolError."""
    about = peek_shared_object(message)
    if client.routes is None:
        client.routes = ObjectRoutes()
    by_home = not _MEMBERSHIP.isdisjoint(about.kinds)
    attachment = client.routes.next((about.name, about.persistent), by_home)
    (attachment if attachment is not None else client.home).forward(message)


def _hold(client: Client, message: Message) -> None:
    """Keep a message until an origin has accepted the session. Raises RemoteProtocolError for one too many."""
    assert client.early is not None
    size = len(message.payload) + sum(len(held.payload) for held in client.early)
    if len(client.early) >= _EARLY_MESSAGES or size > _EARLY_BYTES:
        raise RemoteProtocolError(
            f"{len(client.early) + 1} messages of {size} bytes before the answer to connect, "
            f"expected at most {_EARLY_MESSAGES} of {_EARLY_BYTES}"
        )
    client.early.append(message)


def _group_of(command: Command) -> str:
    """The group that a client asks for. Raises ValueError, whose text is for the client."""
    app = command.command_object.get("app")
    if not isinstance(app, str):
        raise ValueError("no application is named in the URL")
    group = "/".join(split_app(app))
    size = len(group.encode(errors="surrogatepass"))
    if size > MAX_SCOPE_BYTES:
        raise ValueError(f"application {group[:64]!r}: {size} bytes, expected at most {MAX_SCOPE_BYTES}")
    return group
