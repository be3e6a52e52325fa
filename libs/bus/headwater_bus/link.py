"""Links on ZeroMQ sockets: the edge's end (a DEALER each) and the origin's end (one ROUTER for all edges).

One greenlet reads a socket and one writes it; a third looks at the clock. Callbacks run in the reading
greenlet, one batch at a time and in order; they must not block for long.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any

import gevent
import zmq.green as zmq
from gevent.event import Event

from headwater_bus.codec import Codec
from headwater_bus.link_state import (
    LinkOptions,
    LinkProtocolError,
    LinkState,
    Signal,
    bye,
    read_header,
    reset,
)
from headwater_bus.logs import get_log
from headwater_bus.security import Security
from headwater_bus.traffic import TRAFFIC

_CODEC = Codec(TRAFFIC)
_log = get_log("link")


class Link:
    """What both ends have in common: `send`, who the peer is, how much it has not acknowledged."""

    __slots__ = ("_wake", "data", "id", "state")

    def __init__(self, state: LinkState, wake: Event, link_id: bytes) -> None:
        self.state = state
        self.id = link_id
        self._wake = wake
        self.data: Any = None
        """Whatever the owner keeps for this link."""

    @property
    def peer(self) -> str:
        """Node id of the other end; empty until the link is up."""
        return self.state.peer

    @property
    def boot(self) -> str:
        """Boot id of the other end."""
        return self.state.peer_boot

    @property
    def queued_bytes(self) -> int:
        """Bytes that the peer has not acknowledged."""
        return self.state.queued_bytes

    @property
    def failure(self) -> str | None:
        """Why the link is over, or None."""
        return self.state.failure

    def send(self, envelope: Any) -> None:
        """Queue an envelope; it leaves with the next batch. Never blocks."""
        self.state.send(envelope)
        self._wake.set()


OnBatch = Callable[[Link, list[Any]], None]
OnUp = Callable[[Link], None]
OnDown = Callable[[Link, str], None]


class EdgeLink(Link):
    """The edge's end of a link to one origin. `start()` connects; `on_down` is called once, at the end."""

    __slots__ = ("_jobs", "_on_batch", "_on_down", "_on_up", "_options", "_socket", "_up", "origin")

    def __init__(
        self,
        *,
        context: Any,
        security: Security,
        node_id: str,
        boot: str,
        origin: str,
        endpoint: str,
        on_batch: OnBatch,
        on_up: OnUp,
        on_down: OnDown,
        options: LinkOptions | None = None,
    ) -> None:
        self._options = options or LinkOptions()
        state = LinkState(node_id, boot, _CODEC, self._options, time.monotonic(), initiator=True)
        # Each link has an identity of its own: what an old one left behind never reaches a new one.
        link_id = f"{node_id}|{boot}|{secrets.token_hex(4)}".encode()
        super().__init__(state, Event(), link_id)
        self.origin = origin
        self._on_batch, self._on_up, self._on_down = on_batch, on_up, on_down
        self._up = False
        self._jobs: list[gevent.Greenlet] = []
        self._socket = context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.SNDHWM, 0)
        self._socket.set(zmq.RCVHWM, 0)
        self._socket.set(zmq.IDENTITY, link_id)
        self._socket.set(zmq.RECONNECT_IVL, 50)
        self._socket.set(zmq.RECONNECT_IVL_MAX, 500)
        security.apply_client(self._socket, origin)
        self._socket.connect(endpoint)

    def start(self) -> None:
        """Begin: HELLO goes out, batches follow when the origin has answered."""
        self._wake.set()
        self._jobs = [gevent.spawn(job) for job in (self._read, self._write, self._tick)]

    def close(self, reason: str) -> None:
        """Say BYE and end the link; `on_down` is not called."""
        if self.failure is None:
            self._socket.send_multipart(bye(reason), flags=zmq.NOBLOCK)
        self._end(reason)

    def _end(self, reason: str) -> None:
        self.state.fail(reason)
        gevent.killall([job for job in self._jobs if job is not gevent.getcurrent()], block=False)
        self._jobs = []
        if not self._socket.closed:
            # A short linger lets the BYE leave.
            self._socket.close(linger=200)

    def _over(self) -> None:
        """End a link that failed, and say so, once."""
        reason = self.state.failure or "closed"
        was_open = bool(self._jobs)
        self._end(reason)
        if was_open:
            self._on_down(self, reason)

    def _read(self) -> None:
        receive = self._socket.recv_multipart
        while True:
            self._take(receive())
            if self.failure is not None:
                return self._over()

    def _take(self, frames: list[bytes]) -> None:
        try:
            envelopes = self.state.receive(frames, time.monotonic())
        except LinkProtocolError as error:
            self.state.fail(str(error))
            return
        if self.state.established and not self._up:
            self._up = True
            self._on_up(self)
        if envelopes:
            self._on_batch(self, envelopes)
        self._wake.set()

    def _write(self) -> None:
        send = self._socket.send_multipart
        while True:
            self._wake.wait()
            self._wake.clear()
            for frames in self.state.outgoing(time.monotonic()):
                send(frames, copy=False)
            if self.failure is not None:
                return self._over()
            # Let the rest of this loop iteration add to the next batch.
            gevent.sleep(0)

    def _tick(self) -> None:
        interval_s = min(0.1, self._options.heartbeat_s / 2)
        while True:
            gevent.sleep(interval_s)
            if self.state.silent(time.monotonic()):
                self.state.fail(f"nothing heard for {self._options.timeout_s} s")
                return self._over()
            self._wake.set()


class OriginLinks:
    """The origin's end of all its links: one ROUTER, a `Link` for each edge that said HELLO."""

    def __init__(
        self,
        *,
        context: Any,
        security: Security,
        node_id: str,
        boot: str,
        on_batch: OnBatch,
        on_up: OnUp,
        on_down: OnDown,
        options: LinkOptions | None = None,
    ) -> None:
        self._options = options or LinkOptions()
        self._security = security
        self._node_id, self._boot = node_id, boot
        self._on_batch, self._on_up, self._on_down = on_batch, on_up, on_down
        self.links: dict[bytes, Link] = {}
        self._wake = Event()
        self._farewells: list[list[bytes]] = []
        self._socket = context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.SNDHWM, 0)
        self._socket.set(zmq.RCVHWM, 0)
        self._socket.set(zmq.ROUTER_HANDOVER, 1)
        security.apply_server(self._socket)

    def bind(self, endpoint: str) -> str:
        """Bind; returns the endpoint with its actual port. Raises zmq.ZMQError when it is in use."""
        self._security.check_endpoint(endpoint)
        self._socket.bind(endpoint)
        actual: bytes = self._socket.get(zmq.LAST_ENDPOINT)
        return actual.decode().rstrip("\0")

    def jobs(self) -> list[tuple[str, Callable[[], None]]]:
        """Named jobs to spawn; each runs until it is killed."""
        return [("link-read", self.read), ("link-write", self.write), ("link-tick", self.tick)]

    def read(self) -> None:
        """Take messages for ever."""
        while True:
            if self._security.encrypted:
                parts = self._socket.recv_multipart(copy=False)
                self._take([part.bytes for part in parts], parts[-1].get("User-Id"))
            else:
                self._take(self._socket.recv_multipart(), None)

    def _take(self, frames: list[bytes], user: str | None) -> None:
        now = time.monotonic()
        link_id = frames[0]
        link = self.links.get(link_id)
        try:
            if link is None:
                link = self._accept(link_id, frames[1:], user, now)
                if link is None:
                    return
            envelopes = link.state.receive(frames[1:], now)
        except LinkProtocolError as error:
            _log.warning("link message refused", link=link_id.decode("latin-1"), error=str(error))
            if link is not None:
                self._farewells.append([link_id, *bye(str(error))])
                self._drop(link, str(error))
                self._wake.set()
            return
        if link.failure is not None:
            self._drop(link, link.failure)
            return
        if envelopes:
            self._on_batch(link, envelopes)
        self._wake.set()

    def _accept(self, link_id: bytes, frames: list[bytes], user: str | None, now: float) -> Link | None:
        header = read_header(frames)
        if header[0] != Signal.HELLO:
            if header[0] not in (Signal.BYE, Signal.RESET):
                self._farewells.append([link_id, *reset(self._boot)])
                self._wake.set()
            return None
        state = LinkState(self._node_id, self._boot, _CODEC, self._options, now, initiator=False)
        state.receive(frames, now)
        if self._security.encrypted and user != state.peer:
            raise LinkProtocolError(f"HELLO: node id {state.peer!r}, but the key is that of {user!r}")
        link = Link(state, self._wake, link_id)
        self.links[link_id] = link
        self._on_up(link)
        return link

    def _drop(self, link: Link, reason: str) -> None:
        link.state.fail(reason)
        if self.links.pop(link.id, None) is not None:
            self._on_down(link, reason)

    def write(self) -> None:
        """Send what the links have, batch by batch, for ever."""
        send = self._socket.send_multipart
        while True:
            self._wake.wait()
            self._wake.clear()
            now = time.monotonic()
            farewells, self._farewells = self._farewells, []
            for message in farewells:
                send(message)
            for link in list(self.links.values()):
                for frames in link.state.outgoing(now):
                    send([link.id, *frames], copy=False)
            gevent.sleep(0)

    def tick(self) -> None:
        """Heartbeats, resends and lost peers."""
        interval_s = min(0.1, self._options.heartbeat_s / 2)
        while True:
            gevent.sleep(interval_s)
            now = time.monotonic()
            for link in list(self.links.values()):
                if link.failure is not None:
                    self._drop(link, link.failure)
                elif link.state.silent(now):
                    self._drop(link, f"nothing heard for {self._options.timeout_s} s")
            self._wake.set()

    def close(self, reason: str) -> None:
        """Say BYE on every link and close the socket."""
        for link in self.links.values():
            self._socket.send_multipart([link.id, *bye(reason)], flags=zmq.NOBLOCK)
        self.links.clear()
        self._socket.close(linger=200)
