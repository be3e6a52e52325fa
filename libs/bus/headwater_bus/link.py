"""Links on ZeroMQ sockets: the edge's end (a DEALER each) and the origin's end (one ROUTER for all edges).

One greenlet reads a socket. What is to be sent leaves at the end of the loop's turn, from a callback of the loop, also when an
alarm says that time has come for something. The owner's callbacks run in greenlets, those for batches in the reading one, one
batch at a time and in order; they must not block for long. One that raises ends its link, and only that.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any

import gevent
import zmq
from zmq.utils.monitor import parse_monitor_message

from headwater_bus.codec import Codec
from headwater_bus.delay import Soon
from headwater_bus.link_end import Link
from headwater_bus.link_signals import LinkProtocolError, Signal, bye, read_header, reset
from headwater_bus.link_state import MAX_FRAME_BYTES, LinkOptions, LinkState
from headwater_bus.logs import RateLimit, get_log
from headwater_bus.polled import PolledSocket
from headwater_bus.security import Security, SecurityError
from headwater_bus.sockets import SLICE_S, BindError, bind, connect, pause, until_closed, user_of
from headwater_bus.traffic import TRAFFIC

__all__ = ["BindError", "EdgeLink", "Link", "LinkOptions", "OriginLinks"]

_CODEC = Codec(TRAFFIC)
_BYE_LINGER_MS = 200
_MAY_LINK = ("edge-", "origin-")
"""Whose node ids may open a link: edges, and origins for what their applications do at others."""
_RECEIVE_HWM = 4096
"""Messages that ZeroMQ holds for a reader; TCP holds back the sender then, nothing is dropped."""
_log = get_log("link")


OnBatch = Callable[[Link, list[Any]], None]
OnUp = Callable[[Link], None]
OnDown = Callable[[Link, str], None]


class EdgeLink(Link):
    """The edge's end of a link to one origin. `start()` connects; `on_down` is called once, at the end, also when the
    endpoint or the keys will not do. `on_suspect(origin, boot)` is called when the connection goes; the link is not over
    then, ZeroMQ connects again. Nothing is raised."""

    __slots__ = (
        "_endpoint",
        "_has_keys",
        "_jobs",
        "_monitor",
        "_on_batch",
        "_on_down",
        "_on_suspect",
        "_on_up",
        "_options",
        "_socket",
        "_up",
        "_writer",
        "origin",
    )

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
        on_suspect: Callable[[str, str], None] | None = None,
        options: LinkOptions | None = None,
    ) -> None:
        self._options = options or LinkOptions()
        state = LinkState(
            node_id, boot, _CODEC, self._options, time.monotonic(), initiator=True, expected_peer=origin
        )
        # Each link has an identity of its own: what an old one left behind never reaches a new one.
        link_id = f"{node_id}|{boot}|{secrets.token_hex(16)}".encode()
        self._writer = Soon(self._write)
        super().__init__(state, link_id, lambda _: self._writer.ask())
        self.origin = origin
        self._endpoint, self._has_keys = endpoint, security.encrypted
        self._on_batch, self._on_up, self._on_down = on_batch, on_up, on_down
        self._on_suspect = on_suspect
        self._up = False
        self._jobs: list[gevent.Greenlet[..., None]] = []
        self._socket = PolledSocket(context, zmq.DEALER)
        socket = self._socket.raw
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, _RECEIVE_HWM)
        socket.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.set(zmq.IDENTITY, link_id)
        socket.set(zmq.RECONNECT_IVL, 50)
        socket.set(zmq.RECONNECT_IVL_MAX, 500)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        try:
            connect(socket, security, endpoint, origin)
        except (SecurityError, zmq.ZMQError) as error:
            state.fail(str(error))

    def start(self) -> None:
        """Begin: HELLO goes out, batches follow when the origin has answered."""
        if self.failure is not None:
            self._jobs = [gevent.spawn(self._run, self._over)]
            return
        self._jobs = [gevent.spawn(self._run, job) for job in (self._read, self._watch)]
        self.mark()
        # Also where it was marked before, and nothing could leave yet.
        self._writer.ask()

    def close(self, reason: str) -> None:
        """Send what is queued and BYE, and end the link; `on_down` is not called."""
        if self.failure is None and not self._socket.closed:
            self._say_last([*self.state.outgoing(time.monotonic()), bye(reason)])
        self._end(reason)

    def _say_last(self, messages: list[list[bytes]]) -> None:
        try:
            for frames in messages:
                self._socket.send(frames)
        except zmq.Again:
            pass  # There is no connection, and there will be none.

    def _run(self, job: Callable[[], None]) -> None:
        try:
            until_closed(self._socket, job)()
        except Exception as error:
            self._broken(error)
            self._over()

    def _broken(self, error: Exception) -> None:
        _log.error("internal error: link given up", origin=self.origin, error=repr(error))
        self.state.fail(f"internal error: {error!r}")

    def _end(self, reason: str) -> None:
        self.end(reason)
        jobs, self._jobs = self._jobs, []
        gevent.killall([job for job in jobs if job is not gevent.getcurrent()], block=False)
        if not self._socket.closed:
            self._socket.raw.disable_monitor()
            self._monitor.close()
            # A short linger lets the BYE leave.
            self._socket.close(_BYE_LINGER_MS)

    def _over(self) -> None:
        """End a link that failed, and say so, once."""
        reason = self.state.failure or "closed"
        was_open = bool(self._jobs)
        if was_open and not self._socket.closed:
            # The origin need not wait for the silence; where it said BYE itself it does not listen.
            self._say_last([bye(reason)])
        self._end(reason)
        if was_open:
            self._on_down(self, reason)

    def _read(self) -> None:
        receive = self._socket.receive
        paused_at = time.monotonic()
        while True:
            frames = [frame.bytes for frame in receive()]
            now = time.monotonic()
            if self._socket.waited:
                paused_at = now
            self._take(frames, now)
            if self.failure is not None:
                return self._over()
            if now - paused_at > SLICE_S:
                pause()
                paused_at = time.monotonic()

    def _take(self, frames: list[bytes], now: float) -> None:
        try:
            envelopes = self.state.receive(frames, now)
        except LinkProtocolError as error:
            self.state.fail(str(error))
            return
        if self.state.established and not self._up:
            self._up = True
            self._on_up(self)
        if envelopes:
            self._on_batch(self, envelopes)
        self.look()

    def _write(self) -> None:
        """The loop's turn ends."""
        if not self._jobs:
            return
        send = self._socket.send
        try:
            for frames in self.outgoing(time.monotonic()):
                send(frames)
        except zmq.Again:
            # It does not connect again then.
            self.state.fail(
                f"ZeroMQ gave up the connection to {self._endpoint}: expected --keys at both ends or at neither "
                f"(here: {'with' if self._has_keys else 'without'}), and frames of {MAX_FRAME_BYTES} bytes at most"
            )
        except Exception as error:
            self._broken(error)
        if self.failure is not None:
            gevent.spawn(self._run, self._over)

    def _watch(self) -> None:
        """Every handshake but the first is a reconnect."""
        connected = False
        while True:
            event = parse_monitor_message(self._monitor.recv_multipart())["event"]
            if event == zmq.EVENT_DISCONNECTED:
                if self._on_suspect is not None and self.state.established:
                    self._on_suspect(self.origin, self.boot)
            elif connected:
                self.state.reconnected()
                self.mark()
            else:
                connected = True

    def give_up(self, reason: str) -> None:
        """The origin is known to be gone: the link is over, `on_down` is called soon."""
        if self.failure is None:
            self.state.fail(reason)
            self.mark()


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
        self.refused = 0
        """Messages that no edge's link would send."""
        self._limit = RateLimit(10.0)
        self._writer = Soon(self._write)
        self._ready: list[Link] = []
        """Links to look at."""
        self._farewells: list[list[bytes]] = []
        self._socket = PolledSocket(context, zmq.ROUTER)
        socket = self._socket.raw
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, _RECEIVE_HWM)
        socket.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.set(zmq.ROUTER_HANDOVER, 1)
        security.apply_server(socket)

    def bind(self, endpoint: str) -> str:
        """Bind; returns the endpoint with its actual port. Raises SecurityError or BindError, and is closed then."""
        try:
            return bind(self._socket.raw, self._security, endpoint)
        except (SecurityError, BindError):
            self._socket.close(0)
            raise

    def jobs(self) -> list[tuple[str, Callable[[], None]]]:
        """Named jobs to spawn; each runs until it is killed or the links are closed."""
        return [("link-read", until_closed(self._socket, self.read))]

    def read(self) -> None:
        """Take messages for ever."""
        receive, encrypted = self._socket.receive, self._security.encrypted
        paused_at = time.monotonic()
        while True:
            parts = receive()
            frames = [part.bytes for part in parts]
            user = user_of(parts[-1]) if encrypted else None
            now = time.monotonic()
            if self._socket.waited:
                paused_at = now
            self._take(frames, user, now)
            if now - paused_at > SLICE_S:
                pause()
                paused_at = time.monotonic()

    def _take(self, frames: list[bytes], user: str | None, now: float) -> None:
        link_id = frames.pop(0)
        link = self.links.get(link_id)
        try:
            if link is None:
                link = self._accept(link_id, frames, user, now)
                if link is None:
                    return
                envelopes: list[Any] = []
            elif self._security.encrypted and user != link.peer:
                raise LinkProtocolError(f"the link is {link.peer!r}'s, but the key is that of {user!r}")
            else:
                envelopes = link.state.receive(frames, now)
        except LinkProtocolError as error:
            self._refuse(link_id, link, str(error))
            return
        if link.failure is not None:
            self._drop(link, link.failure)
            return
        if envelopes and self._guard(link, self._on_batch, link, envelopes):
            return
        link.look()

    def _accept(self, link_id: bytes, frames: list[bytes], user: str | None, now: float) -> Link | None:
        header = read_header(frames)
        if header[0] != Signal.HELLO:
            if header[0] not in (Signal.BYE, Signal.RESET):
                self._farewell(link_id, reset(self._boot))
            return None
        state = LinkState(self._node_id, self._boot, _CODEC, self._options, now, initiator=False)
        state.receive(frames, now)
        if self._security.encrypted and user != state.peer:
            raise LinkProtocolError(f"HELLO: node id {state.peer!r}, but the key is that of {user!r}")
        if not link_id.startswith(f"{state.peer}|{state.peer_boot}|".encode()):
            # Also what ZeroMQ still reads from the old connection of an edge that has reconnected.
            raise LinkProtocolError("HELLO: the identity of the socket is not that of the link")
        if not state.peer.startswith(_MAY_LINK):
            raise LinkProtocolError(
                f"HELLO: node id {state.peer!r}, expected an edge (edge-NAME) or an origin"
            )
        for other in [other for other in self.links.values() if other.peer == state.peer]:
            reason = "restarted" if other.boot != state.peer_boot else "opened another link"
            self._farewell(other.id, bye(f"{state.peer} {reason}"))
            self._drop(other, f"{state.peer} {reason}")
        link = Link(state, link_id, self._look_at)
        self.links[link_id] = link
        return None if self._guard(link, self._on_up, link) else link

    def _refuse(self, link_id: bytes, link: Link | None, error: str) -> None:
        self.refused += 1
        if self._limit.passes("refused"):
            _log.warning(
                "link message refused",
                peer=link.peer if link else "unknown",
                error=error,
                not_shown=self._limit.suppressed("refused"),
            )
        self._farewell(link_id, bye(error))
        if link is not None:
            self._drop(link, error)

    def _guard(self, link: Link, callback: Callable[..., None], *args: Any) -> bool:
        """Whether the callback failed, and so the link."""
        try:
            callback(*args)
        except Exception as error:
            _log.error("internal error: link given up", peer=link.peer, error=repr(error))
            self._farewell(link.id, bye("internal error"))
            self._drop(link, f"internal error: {error!r}")
            return True
        return False

    def _farewell(self, link_id: bytes, frames: list[bytes]) -> None:
        self._farewells.append([link_id, *frames])
        self._writer.ask()

    def _drop(self, link: Link, reason: str) -> None:
        link.end(reason)
        if self.links.get(link.id) is link:
            del self.links[link.id]
            try:
                self._on_down(link, reason)
            except Exception as error:
                _log.error("internal error: at the end of a link", peer=link.peer, error=repr(error))

    def _look_at(self, link: Link) -> None:
        self._ready.append(link)
        self._writer.ask()

    def _write(self) -> None:
        """The loop's turn ends: send what the links have, batch by batch. Looks only at links that asked for it."""
        farewells, self._farewells = self._farewells, []
        ready, self._ready = self._ready, []
        if self._socket.closed:
            return
        now, send = time.monotonic(), self._socket.send
        for message in farewells:
            send(message)
        for link in ready:
            try:
                for frames in link.outgoing(now):
                    send([link.id, *frames])
            except Exception as error:
                _log.error("internal error: link given up", peer=link.peer, error=repr(error))
                link.state.fail(f"internal error: {error!r}")
            if link.failure is not None:
                gevent.spawn(self._give_up, link, link.failure)

    def _give_up(self, link: Link, reason: str) -> None:
        if self.links.get(link.id) is link:
            self._farewell(link.id, bye(reason))
            self._drop(link, reason)

    def close(self, reason: str) -> None:
        """Send what is queued and BYE on every link, and close the socket; `on_down` is not called."""
        if self._socket.closed:
            return
        for link in self.links.values():
            for frames in [*link.state.outgoing(time.monotonic()), bye(reason)]:
                self._socket.send([link.id, *frames])
            link.end(reason)
        self.links.clear()
        self._socket.close(_BYE_LINGER_MS)
