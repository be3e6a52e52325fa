"""The edge's clients: accepted, timed, flushed, closed, and handed to the cluster when they connect."""

import time
from typing import Any

import gevent
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_bus.traffic import Detach
from headwater_rtmp import control
from headwater_rtmp.chunk import ChunkLimits, csid_for, encode_message
from headwater_rtmp.command import Command, decode_command, encode_command
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.status import StatusCode, status
from headwater_rtmp.url import split_app

from headwater_edge.client import Client, Phase, Pieces
from headwater_edge.closing import Parting
from headwater_edge.cluster import Cluster
from headwater_edge.config import EdgeConfig
from headwater_edge.counters import Counters
from headwater_edge.listener import is_loopback, owner_of

_log = get_log("edge")
_SWEEP_S = 0.25
_SWEEPS_PER_DEADLINE = 4
_DYNAMIC = 2
_COMMANDS = frozenset(map(int, (MessageType.COMMAND_AMF0, MessageType.COMMAND_AMF3)))
_FORWARDED = _COMMANDS | frozenset(
    map(
        int,
        (
            MessageType.DATA_AMF0,
            MessageType.DATA_AMF3,
            MessageType.SHARED_OBJECT_AMF0,
            MessageType.SHARED_OBJECT_AMF3,
            # Of a client that publishes without waiting for the answer: the origin knows whether it may.
            MessageType.AUDIO,
            MessageType.VIDEO,
        ),
    )
)


class Edge:
    """All clients of one edge process."""

    def __init__(self, node: Node, config: EdgeConfig) -> None:
        self.node, self.config = node, config
        self.loop: Any = gevent.get_hub().loop
        self.counters = Counters()
        self.chunk_limits = ChunkLimits()
        self.clients: dict[int, Client] = {}
        self.dirty: list[Client] = []
        """Clients with something queued, and no watcher that waits to send it."""
        self.paused: set[Client] = set()
        self.cluster = Cluster(self)
        self.partings: set[Parting] = set()
        self._by_owner: dict[str, int] = {}
        self._turns: list[Client] = []
        self._turn_timer: Any = None
        self._next_session = 1
        self.draining = False

    # Accepting and closing

    def accept(self, sock: Any, address: str) -> None:
        """Take a new connection; over a limit it is closed at once."""
        owner = owner_of(address)
        held = self._by_owner.get(owner, 0)
        config = self.config
        if (
            self.draining
            or len(self.clients) + len(self.partings) >= config.max_connections
            or (held >= config.max_per_address and not is_loopback(address))
        ):
            self.counters.connections_refused += 1
            sock.close()
            return
        sock.setblocking(False)
        self._by_owner[owner] = held + 1
        session, self._next_session = self._next_session, self._next_session + 1
        self.counters.connections_accepted += 1
        self.clients[session] = Client(self, sock, address, session)

    def client_closed(self, client: Client, out: Pieces | None, reason: str, error: bool, gone: bool) -> None:
        """A client is closed: forget it here, tell its origin, let go of its socket. `out` is what was queued for it."""
        self.clients.pop(client.session, None)
        self.paused.discard(client)
        if client.players is not None:
            for player in client.players.values():
                player.fanout.leave(player)
            client.players = None
        client.ports = None
        self.cluster.forget(client)
        if client.link is not None:
            client.link.send(Detach(client.session, reason))
        self.counters.connections_closed += 1
        if error:
            _log.warning("client closed", session=client.session, address=client.address, reason=reason)
        if gone:
            client.sock.close()
            self._let_go(client.address)
            return
        deadline = time.monotonic() + self.config.linger_s
        parting = Parting(self.loop, client.sock, client.address, out, self._parted)
        parting.deadline = deadline
        if not parting.ended:
            self.partings.add(parting)

    def _parted(self, parting: Parting) -> None:
        self.partings.discard(parting)
        self._let_go(parting.address)

    def _let_go(self, address: str) -> None:
        owner = owner_of(address)
        held = self._by_owner.get(owner, 1) - 1
        if held:
            self._by_owner[owner] = held
        else:
            self._by_owner.pop(owner, None)

    def too_slow(self, client: Client) -> None:
        """More is queued for a client than it may let gather: it is told so instead, and closed."""
        reason = f"slow client: more than {self.config.client_queue_bytes} bytes queued"
        client.drop_queued()
        last = b""
        if client.phase == Phase.CONNECTED:
            info = status(StatusCode.CONNECT_CLOSED, reason)
            message = encode_command("onStatus", 0, None, info, amf3=client.amf3)
            last = encode_message(message, csid_for(message.type_id), self.config.chunk_size)
        client.close(reason, error=True, last=last)

    # Messages of clients

    def client_message(self, client: Client, message: Message) -> None:
        """Route a message that is not media of a publisher. Raises RemoteProtocolError."""
        if client.phase == Phase.CONNECTED:
            if message.type_id in _FORWARDED:
                client.forward(message)
            else:
                self.counters.messages_ignored += 1
        elif client.phase == Phase.CONNECTING:
            client.hold(message)
        elif client.phase == Phase.CLOSED:
            return
        elif message.type_id in _COMMANDS:
            self._connect(client, message)
        else:
            raise RemoteProtocolError(f"message type {message.type_id} before connect")

    def _connect(self, client: Client, message: Message) -> None:
        command = decode_command(message)
        if command.name != "connect" or not isinstance(command.command_object, dict):
            raise RemoteProtocolError(f"command {command.name[:64]!r} before connect")
        client.phase = Phase.CONNECTING
        client.phase_at = time.monotonic()
        client.early = [message]
        client.object_encoding = 3 if command.command_object.get("objectEncoding") == 3 else 0
        client.enqueue(
            client.rtmp.send_window_ack_size()
            + client.rtmp.send(control.set_peer_bandwidth(self.config.window_ack_size, _DYNAMIC))
            + client.rtmp.send_chunk_size(self.config.chunk_size)
        )
        group = _group_of(command)
        if group is None:
            self.reject(client, StatusCode.CONNECT_INVALID_APP, "no application is named in the URL")
            return
        client.group = group
        self.cluster.attach(client)

    def reject(self, client: Client, code: StatusCode, text: str) -> None:
        """Answer `connect` with an error and close."""
        if client.phase != Phase.CONNECTING or not client.early:
            return
        transaction = decode_command(client.early[0]).transaction_id
        client.send(encode_command("_error", transaction, None, status(code, text), amf3=False))
        client.close(f"connect refused: {text}")

    # Turns

    def turn_later(self, client: Client) -> None:
        """Let a client that sent very much go on after the loop has looked at all others."""
        self._turns.append(client)
        if self._turn_timer is None:
            self._turn_timer = self.loop.timer(0.0)
            self._turn_timer.start(self._give_turns)

    def _give_turns(self) -> None:
        self._turn_timer.stop()
        self._turn_timer.close()
        self._turn_timer = None
        turns, self._turns = self._turns, []
        for client in turns:
            client.go_on()

    def flush_clients(self) -> None:
        """Send what was queued for clients since the last call."""
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for client in dirty:
                client.flush()

    # Time

    def sweep(self) -> None:
        """Job: deadlines, pings and paused readers, for ever."""
        count = 0
        while True:
            gevent.sleep(_SWEEP_S)
            count += 1
            now = time.monotonic()
            self.resume_readers()
            self.end_partings(now)
            if count % _SWEEPS_PER_DEADLINE == 0:
                self.check_deadlines(now)
            self.flush_clients()

    def resume_readers(self) -> None:
        """Read clients again whose origin has caught up, or is gone."""
        for client in list(self.paused):
            if client.link is None or client.link.queued_bytes < self.config.link_bytes // 2:
                self.paused.discard(client)
                client.resume_reading()

    def end_partings(self, now: float) -> None:
        """Close the sockets of closed clients that do not close their end."""
        for parting in [parting for parting in self.partings if now > parting.deadline]:
            parting.end()

    def check_deadlines(self, now: float) -> None:
        """Close who waits for too long; ping who is silent."""
        config = self.config
        for client in list(self.clients.values()):
            phase = client.phase
            if phase == Phase.CONNECTED:
                self._check_silence(client, now)
                continue
            age = now - client.phase_at
            if phase == Phase.HANDSHAKE:
                if age > config.handshake_s:
                    client.close(f"no handshake within {config.handshake_s} s", error=True)
            elif phase == Phase.OPENING:
                if age > config.handshake_s + config.connect_s:
                    client.close(f"no connect within {config.connect_s} s", error=True)
            elif phase == Phase.CONNECTING and age > config.answer_s:
                _log.warning("connect not answered", group=client.group, session=client.session)
                self.reject(client, StatusCode.CONNECT_FAILED, f"no answer within {config.answer_s} s")

    def _check_silence(self, client: Client, now: float) -> None:
        silence = now - client.heard_at
        if client.paused:
            return  # We do not listen.
        if silence > self.config.idle_s:
            client.close(f"silent for {self.config.idle_s} s", error=True)
        elif silence > self.config.ping_s and client.pinged_at < client.heard_at:
            client.pinged_at = now
            client.enqueue(client.rtmp.send_ping(now))

    def shutdown(self, reason: str, within_s: float = 1.0) -> None:
        """Tell every client that the edge goes, close them, end the links. Waits until they have read it, or for so long."""
        self.draining = True
        info = status(StatusCode.CONNECT_APP_SHUTDOWN, reason)
        for client in list(self.clients.values()):
            if client.phase == Phase.CONNECTED:
                client.send(encode_command("onStatus", 0, None, info, amf3=client.amf3))
            client.close(reason)
        self.cluster.close(reason)
        deadline = time.monotonic() + within_s
        while self.partings and time.monotonic() < deadline:
            gevent.sleep(0.02)
        for parting in list(self.partings):
            parting.end()

    def health(self) -> dict[str, Any]:
        """What the health answer says of the edge."""
        return {
            "clients": len(self.clients),
            "connected": sum(client.phase == Phase.CONNECTED for client in self.clients.values()),
            "closing": len(self.partings),
            "paused": len(self.paused),
            "backlog_bytes": sum(client.backlog_bytes for client in self.clients.values()),
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
