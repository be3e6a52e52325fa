"""The edge's clients: accepted, flushed, swept, closed."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import gevent
from headwater_bus.delay import Delay
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_bus.rhythm import until_next
from headwater_bus.sockets import SLICE_S, pause
from headwater_rtmp.chunk import ChunkLimits
from headwater_rtmp.command import encode_command
from headwater_rtmp.status import StatusCode, status
from headwater_store import Leases

from headwater_edge.admission import Admission
from headwater_edge.attachment import AttachmentPhase
from headwater_edge.client import Client, Phase
from headwater_edge.closing import LingeringSocket
from headwater_edge.cluster import Cluster
from headwater_edge.config import EdgeConfig
from headwater_edge.counters import Counters
from headwater_edge.deadlines import check_deadlines
from headwater_edge.doors.door import Door, TrustedProxies
from headwater_edge.doors.http import HttpConnection
from headwater_edge.doors.opening import Opening
from headwater_edge.draining import can_reconnect
from headwater_edge.gate import Gate
from headwater_edge.handed_over import HandedOver
from headwater_edge.outbox import Outbox
from headwater_edge.read_pace import ReadPace
from headwater_edge.routing import Router
from headwater_edge.rtmpt.tunnels import Tunnels
from headwater_edge.tcp_client import TcpClient
from headwater_edge.turns import Turns

_log = get_log("edge")
# Plain names: a member that is looked up in its class takes three times as long.
_CONNECTED, _ATTACHED = Phase.CONNECTED, AttachmentPhase.ATTACHED
_SWEEP_S = 1.0
_PAUSE_S = 0.25
"""So long clients wait that are not read, until it is looked whether their origins have caught up."""
_LOOK_S = 0.02
_UNPAUSED = 64
"""So many clients are looked at before it is asked how long that took."""


class Edge:
    """All clients of one edge process."""

    def __init__(
        self,
        node: Node,
        config: EdgeConfig,
        leases: Leases | None = None,
        gate: Gate | None = None,
    ) -> None:
        """`leases`: the records of RTMPT sessions; None: there are no such sessions."""
        self.node, self.config = node, config
        self.loop: Any = gevent.get_hub().loop
        self.counters = Counters()
        self.chunk_limits = ChunkLimits()
        self.admission = Admission(config.max_connections, config.max_per_address)
        self.turns = Turns(self.loop)
        self.read_pace = ReadPace(config.read_interval_s)
        self.clients: dict[int, Client] = {}
        self.dirty: list[Client] = []
        """Clients with something queued, and no watcher that waits to send it."""
        self.paused: set[Client] = set()
        self._resuming = Delay(_PAUSE_S, self.resume_readers)
        self.cluster = Cluster(self)
        self.router = Router(self.cluster, self.counters, gate)
        self.tunnels = Tunnels(self, leases)
        """RTMPT sessions."""
        self.openings: set[Opening] = set()
        """Connections of which nothing is known yet."""
        self.requests: set[HttpConnection] = set()
        """Connections that bring HTTP requests."""
        self.lingering: set[LingeringSocket] = set()
        self.draining = False
        self._handed_over = HandedOver()
        self._last_number = 0

    # Accepting and closing

    def accept(self, sock: Any, address: str, door: Door) -> None:
        """Take a new connection; over a limit it is closed at once."""
        if self.enters(sock, address, address in door.trusted):
            Opening(self, sock, address, door)

    def enters(self, sock: Any, address: str, exempt: bool = False) -> bool:
        """Whether a connection is taken, and counted; `exempt`: whatever comes from its address already."""
        if self.draining or not self.admission.admits(address, exempt):
            self.counters.connections_refused += 1
            sock.close()
            return False
        sock.setblocking(False)
        self.admission.enter(address)
        self.counters.connections_accepted += 1
        return True

    def open_rtmp(self, sock: Any, address: str, data: bytes, secure: bool) -> None:
        """A connection that was accepted speaks RTMP; `data` is what was read of it. From here on the socket is the client's."""
        client = TcpClient(self, sock, address, secure)
        self.clients[client.session] = client
        if data:
            client.receive(data)

    def open_http(self, sock: Any, address: str, data: bytes, secure: bool, trusted: TrustedProxies) -> None:
        """The same, of one that speaks HTTP; if it is `trusted`, its X-Forwarded-For says who it speaks for."""
        HttpConnection(self, sock, address, data, secure, self.tunnels.request, trusted)

    def next_number(self) -> int:
        """A number for an attachment; those of homes are the clients' too."""
        self._last_number += 1
        return self._last_number

    def client_closed(self, client: Client, reason: str, error: bool) -> None:
        """A client is closed: forget it here, tell its origins."""
        self._forget(client)
        self.cluster.forget(client, reason)
        self.counters.connections_closed += 1
        if error:
            _log.warning("client closed", session=client.session, address=client.address, reason=reason)

    def client_taken(self, client: Client) -> None:
        """Another edge has the session of a client, or is to have it: forget it here without a word."""
        self._forget(client)
        known = self.cluster.vanish(client)
        if self.draining:
            self._handed_over.add(known, time.monotonic() + self.config.tunnel_idle_s)
        self.counters.sessions_taken += 1

    def _forget(self, client: Client) -> None:
        self.clients.pop(client.session, None)
        self.paused.discard(client)
        if client.players is not None:
            for player in client.players.values():
                player.fanout.leave(player)
            client.players = None
        client.publications = None

    def linger(self, sock: Any, address: str, outbox: Outbox | None, gone: bool) -> None:
        """Let go of the socket of a connection that has ended, when what is queued has left; at once where its peer is `gone`."""
        if gone:
            sock.close()
            self.admission.leave(address)
            return
        deadline = time.monotonic() + self.config.linger_s
        lingering = LingeringSocket(self.loop, sock, address, outbox, deadline, self._lingered)
        if not lingering.ended:
            self.lingering.add(lingering)

    def _lingered(self, lingering: LingeringSocket) -> None:
        self.lingering.discard(lingering)
        self.admission.leave(lingering.address)

    def flush_clients(self) -> None:
        """Send what was queued for clients since the last call."""
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for client in dirty:
                client.flush()

    # Time

    def sweep(self) -> None:
        """Job: deadlines and pings, for ever."""
        while True:
            gevent.sleep(until_next(_SWEEP_S))
            now = time.monotonic()
            self.end_lingering(now)
            self.check_deadlines(now)
            self.flush_clients()

    def pause(self, client: Client) -> None:
        """A client is not to be read until its origins have caught up."""
        self.paused.add(client)
        self._resuming.start()

    def resume_readers(self) -> None:
        """Read clients again whose origins have caught up."""
        for client in list(self.paused):
            try:
                self.read_on(client)
            except Exception as error:
                # The others go on, and this one is closed.
                client.close(f"internal error: {error!r}", error=True)
        if self.paused:
            self._resuming.start()

    def read_on(self, client: Client) -> None:
        """Read a paused client again, if its origins have caught up."""
        if client.paused and not client.must_wait(2):
            self.paused.discard(client)
            client.resume_reading()

    def end_lingering(self, now: float) -> None:
        """Close the sockets of closed clients that do not close their end."""
        for lingering in [lingering for lingering in self.lingering if now > lingering.deadline]:
            lingering.end()

    def check_deadlines(self, now: float) -> None:
        """Close who waits for too long; ping who is silent. Where there are many, others have their turns meanwhile."""
        paused_at, heard_after = time.monotonic(), now - min(self.config.ping_s, self.config.idle_s)
        looked_at = 0
        for client in list(self.clients.values()):
            # Most wait for nothing and were heard: a thousand of them once a second, each in a seventh of the time so.
            if (
                client.heard_at >= heard_after
                and client.phase is _CONNECTED
                and client.guests is None
                and client.home.phase is _ATTACHED
            ):
                continue
            check_deadlines(client, now, self.config)
            looked_at += 1
            if looked_at % _UNPAUSED == 0 and time.monotonic() - paused_at > SLICE_S:
                # What was queued leaves now, too: it takes memory until it does.
                self.flush_clients()
                pause()
                paused_at = time.monotonic()
        self.tunnels.check_deadlines(now)
        for opening in list(self.openings):
            opening.check(now)
        for connection in list(self.requests):
            connection.check(now)
        self.cluster.forget_forsaken(now)
        self._handed_over.check(now)

    # The end of the edge

    def let_go(self) -> set[Client]:
        """The edge is about to end: it takes no more clients, other edges go on with RTMPT sessions, and clients that understand
        it are asked to connect elsewhere. Returns those. A second call does nothing."""
        if self.draining:
            return set()
        self.draining = True
        self.tunnels.hand_over()
        for opening in list(self.openings):
            opening.close()
        for connection in list(self.requests):
            connection.drain()
        asked = {client for client in self.clients.values() if can_reconnect(client)}
        for client in asked:
            info = status(StatusCode.CONNECT_RECONNECT_REQUEST, "this edge is about to end")
            client.send(encode_command("onStatus", 0, None, info, amf3=client.amf3))
        self.flush_clients()
        return asked

    def close_clients(self, clients: Iterable[Client], reason: str) -> None:
        """Tell clients that the edge goes, and close them; but for RTMPT sessions, which are handed over as soon as their last
        answer is stored."""
        self.cluster.flush_objects()
        for client in clients:
            if not client.holds:
                client.close_with(StatusCode.CONNECT_APP_SHUTDOWN, reason)
        self.flush_clients()

    def shutdown(self, reason: str, within_s: float = 1.0) -> None:
        """Let go of all clients, close those that do not leave, end the links. Waits until they have read it, or for so long.
        Who was asked to connect elsewhere has half of that for it."""
        until = time.monotonic() + within_s
        asked = self.let_go()
        self.close_clients(set(self.clients.values()) - asked, reason)
        self._wait_while(lambda: not all(client.closed for client in asked), until - within_s / 2)
        self.close_clients(asked, reason)
        self.cluster.close(reason)
        self._wait_while(lambda: bool(self.lingering or len(self.tunnels)), until)
        for lingering in list(self.lingering):
            lingering.end()

    @staticmethod
    def _wait_while(condition: Callable[[], bool], until: float) -> None:
        while condition() and time.monotonic() < until:
            gevent.sleep(_LOOK_S)

    def health(self) -> dict[str, Any]:
        """What the health answer says of the edge."""
        return {
            "clients": len(self.clients),
            "connected": sum(client.phase == Phase.CONNECTED for client in self.clients.values()),
            "guests": sum(len(client.guests) for client in self.clients.values() if client.guests),
            "tunnels": len(self.tunnels),
            "opening": len(self.openings),
            "requests": len(self.requests),
            "closing": len(self.lingering),
            "draining": self.draining,
            "paused": len(self.paused),
            "backlog_bytes": sum(client.backlog_bytes for client in self.clients.values()),
            **self.cluster.health(),
            "counters": self.counters.as_dict(),
        }
