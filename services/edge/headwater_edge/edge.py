"""The edge's clients: accepted, timed, flushed, closed, and handed to the cluster when they connect."""

import socket
import time
from ipaddress import ip_address
from typing import Any

import gevent
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_bus.traffic import Detach
from headwater_rtmp import control
from headwater_rtmp.chunk import ChunkLimits
from headwater_rtmp.command import Command, decode_command, encode_command
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.status import StatusCode, status
from headwater_rtmp.url import split_app

from headwater_edge.client import Client, Phase
from headwater_edge.cluster import Cluster
from headwater_edge.config import EdgeConfig
from headwater_edge.counters import Counters

_log = get_log("edge")
_LINGER_S = 1.0
_COMMANDS = frozenset((MessageType.COMMAND_AMF0, MessageType.COMMAND_AMF3))
_FORWARDED = _COMMANDS | {
    MessageType.DATA_AMF0,
    MessageType.DATA_AMF3,
    MessageType.SHARED_OBJECT_AMF0,
    MessageType.SHARED_OBJECT_AMF3,
}


class Edge:
    """All clients of one edge process."""

    def __init__(self, node: Node, config: EdgeConfig) -> None:
        self.node, self.config = node, config
        self.counters = Counters()
        self.chunk_limits = ChunkLimits()
        self.clients: dict[int, Client] = {}
        self.dirty: list[Client] = []
        self.paused: set[Client] = set()
        self.cluster = Cluster(self)
        self._by_address: dict[str, int] = {}
        self._closing: list[tuple[Any, float]] = []
        self._next_session = 1
        self.draining = False

    # Accepting and closing

    def accept(self, sock: Any, address: str) -> None:
        """Take a new connection; over a limit it is closed at once."""
        held = self._by_address.get(address, 0)
        over = len(self.clients) >= self.config.max_connections
        if (
            over
            or self.draining
            or (held >= self.config.max_per_address and not ip_address(address).is_loopback)
        ):
            self.counters.connections_refused += 1
            sock.close()
            return
        sock.setblocking(False)
        self._by_address[address] = held + 1
        session, self._next_session = self._next_session, self._next_session + 1
        self.counters.connections_accepted += 1
        self.clients[session] = Client(self, sock, address, session)

    def client_closed(self, client: Client, reason: str, error: bool) -> None:
        """A client's socket is closed: forget it here, tell its origin."""
        self.clients.pop(client.session, None)
        self.paused.discard(client)
        held = self._by_address.get(client.address, 1) - 1
        if held:
            self._by_address[client.address] = held
        else:
            self._by_address.pop(client.address, None)
        self._hang_up(client.sock)
        if client.players is not None:
            for player in client.players.values():
                player.fanout.leave(player)
            client.players = None
        if client.link is not None:
            self.cluster.forget(client)
            client.link.send(Detach(client.session, reason))
        if error:
            _log.warning("client closed", session=client.session, address=client.address, reason=reason)

    def _hang_up(self, sock: Any) -> None:
        """Close our half at once and the rest when the client has read it: closing a socket with unread bytes
        would reset the connection and take the last status from the client."""
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
        else:
            self._closing.append((sock, time.monotonic() + _LINGER_S))

    def _finish_closing(self, now: float) -> None:
        closing, self._closing = self._closing, []
        for sock, deadline in closing:
            try:
                ended = not sock.recv(65536)
            except BlockingIOError:
                ended = False
            except OSError:
                ended = True
            if ended or now > deadline:
                sock.close()
            else:
                self._closing.append((sock, deadline))

    # Messages of clients

    def client_message(self, client: Client, message: Message) -> None:
        """Route a message that is not media of a publisher."""
        if client.phase == Phase.CONNECTED:
            if message.type_id in _FORWARDED:
                client.forward(message)
        elif client.phase == Phase.CONNECTING:
            client.hold(message)
        elif message.type_id in _COMMANDS:
            self._connect(client, message)
        else:
            raise RemoteProtocolError(f"message type {message.type_id} before connect")

    def _connect(self, client: Client, message: Message) -> None:
        command = decode_command(message)
        if command.name != "connect" or not isinstance(command.command_object, dict):
            raise RemoteProtocolError(f"command {command.name[:64]!r} before connect")
        client.phase = Phase.CONNECTING
        client.early = [message]
        client.object_encoding = 3 if command.command_object.get("objectEncoding") == 3 else 0
        client.enqueue(
            client.rtmp.send(control.window_acknowledgement_size(self.config.window_ack_size))
            + client.rtmp.send(control.set_peer_bandwidth(self.config.window_ack_size, 2))
            + client.rtmp.send(control.set_chunk_size(self.config.chunk_size))
        )
        group = _group_of(command)
        if group is None:
            self.reject(client, StatusCode.CONNECT_INVALID_APP, "no application is named in the URL")
            return
        client.group = group
        self.cluster.attach(client)

    def reject(self, client: Client, code: StatusCode, text: str) -> None:
        """Answer `connect` with an error and close."""
        if client.phase != Phase.CONNECTING:
            return
        info = status(code, text)
        client.send(encode_command("_error", 1, None, info, amf3=False))
        client.close(f"connect refused: {text}")

    # Time

    def flush_clients(self) -> None:
        """Send what was queued for clients since the last call."""
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for client in dirty:
                client.flush()

    def sweep(self) -> None:
        """Job: deadlines, pings and paused readers, for ever."""
        while True:
            gevent.sleep(0.25)
            self._resume_readers()
            now = time.monotonic()
            self._deadlines(now)
            self._finish_closing(now)
            self.flush_clients()

    def _resume_readers(self) -> None:
        for client in list(self.paused):
            if client.link is None or client.link.queued_bytes < self.config.link_bytes // 2:
                self.paused.discard(client)
                client.resume_reading()

    def _deadlines(self, now: float) -> None:
        config = self.config
        for client in list(self.clients.values()):
            age = now - client.opened_at
            if client.phase == Phase.HANDSHAKE:
                if age > config.handshake_s:
                    client.close(f"no handshake within {config.handshake_s} s", error=True)
            elif client.phase == Phase.OPENING:
                if age > config.handshake_s + config.connect_s:
                    client.close(f"no connect within {config.connect_s} s", error=True)
            elif now - client.heard_at > config.idle_s:
                client.close(f"silent for {config.idle_s} s", error=True)
            elif now - client.heard_at > config.ping_s and client.pinged_at < client.heard_at:
                client.pinged_at = now
                client.enqueue(client.rtmp.send(control.ping_request(int(now * 1000) & 0xFFFFFFFF)))

    def shutdown(self, reason: str) -> None:
        """Tell every client that the edge goes, close them, end the links."""
        self.draining = True
        info = status(StatusCode.CONNECT_APP_SHUTDOWN, reason)
        for client in list(self.clients.values()):
            if client.phase == Phase.CONNECTED:
                client.send(encode_command("onStatus", 0, None, info, amf3=client.object_encoding == 3))
            client.close(reason)
        self.cluster.close(reason)

    def health(self) -> dict[str, Any]:
        """What the health answer says of the edge."""
        return {
            "clients": len(self.clients),
            "connected": sum(client.phase == Phase.CONNECTED for client in self.clients.values()),
            **self.cluster.health(),
            "counters": self.counters.as_dict(),
        }


def _group_of(command: Command) -> str | None:
    app = command.command_object.get("app")
    if not isinstance(app, str):
        return None
    try:
        name, instance = split_app(app)
    except ValueError:
        return None
    return f"{name}/{instance}"
