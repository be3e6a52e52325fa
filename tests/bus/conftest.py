"""A TCP connection that tests can cut, stall and slow down, and the two ends of a link."""

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
import zmq.green as zmq
from gevent.server import StreamServer
from gevent.socket import create_connection, socket
from headwater_bus.link import EdgeLink, Link, LinkOptions, OriginLinks
from headwater_bus.security import Security
from support.waiting import TIME_FACTOR


class TcpProxy:
    """Between a DEALER and a ROUTER. `cut` closes the connections that there are, `stalled` passes nothing on, `refuse`
    lets no new one in, `delay_s` holds each piece back."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._pairs: list[tuple[socket, socket]] = []
        self._pumps: list[gevent.Greenlet[..., None]] = []
        self.stalled = self.refuse = False
        self.delay_s = 0.0
        self.accepted = self.passed_bytes = 0
        self._server = StreamServer(("127.0.0.1", 0), self._accept)
        self._server.start()

    @property
    def endpoint(self) -> str:
        """Where the DEALER connects."""
        return f"tcp://127.0.0.1:{self._server.server_port}"

    def _accept(self, near: socket, address: object) -> None:
        if self.refuse:
            near.close()
            return
        try:
            far = create_connection(self._target)
        except OSError:
            near.close()
            return
        self.accepted += 1
        self._pairs.append((near, far))
        pumps = [gevent.spawn(self._pump, near, far), gevent.spawn(self._pump, far, near)]
        self._pumps += pumps
        gevent.joinall(pumps)
        near.close()
        far.close()

    def _pump(self, source: socket, sink: socket) -> None:
        try:
            while data := source.recv(4096):
                while self.stalled:
                    gevent.sleep(0.005)
                if self.delay_s:
                    gevent.sleep(self.delay_s)
                sink.sendall(data)
                self.passed_bytes += len(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(2)
            except OSError:
                pass

    def cut(self) -> None:
        """Close what is connected now, whatever is on its way."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(2)
                except OSError:
                    pass

    def close(self) -> None:
        """End it."""
        self.stalled = False
        self._server.stop()
        self.cut()
        gevent.joinall(self._pumps, timeout=5)


class Origin:
    """The origin's end with all that happened to it."""

    def __init__(
        self,
        context: Any,
        boot: str = "o1",
        endpoint: str = "tcp://127.0.0.1:*",
        security: Security | None = None,
        options: LinkOptions | None = None,
        on_batch: Callable[[Any, list[Any]], object] | None = None,
    ) -> None:
        self.got: dict[str, list[Any]] = {}
        self.ups: list[Link] = []
        self.downs: list[tuple[str, str]] = []
        self._on_batch = on_batch
        self.links = OriginLinks(
            context=context,
            security=security or Security.plain(),
            node_id="origin-1",
            boot=boot,
            on_batch=self._batch,
            on_up=self.ups.append,
            on_down=lambda link, reason: self.downs.append((link.peer, reason)),
            options=options,
        )
        self.endpoint = self.links.bind(endpoint)
        self._jobs = [gevent.spawn(job) for _, job in self.links.jobs()]

    def _batch(self, link: Link, envelopes: list[Any]) -> None:
        if self._on_batch is not None:
            self._on_batch(link, envelopes)
        self.got.setdefault(link.peer, []).extend(envelopes)

    def close(self, reason: str = "the test is over") -> None:
        """End as a process that stops does."""
        self.links.close(reason)
        self._stop()

    def kill(self) -> None:
        """End as a killed process does: not a word."""
        self.links._socket.close(0)
        self._stop()

    def _stop(self) -> None:
        gevent.killall(self._jobs)
        for job in self._jobs:
            job.get()


class Edge:
    """The edge's end with all that happened to it."""

    def __init__(
        self,
        context: Any,
        endpoint: str,
        node_id: str = "edge-1",
        boot: str = "e1",
        security: Security | None = None,
        options: LinkOptions | None = None,
        on_batch: Callable[[Any, list[Any]], object] | None = None,
        on_down: Callable[[], object] | None = None,
        starts: bool = True,
    ) -> None:
        self.got: list[Any] = []
        self.ups = 0
        self.downs: list[str] = []
        self.suspects: list[tuple[str, str]] = []
        self._on_batch, self._on_down = on_batch, on_down
        self.link = EdgeLink(
            context=context,
            security=security or Security.plain(),
            node_id=node_id,
            boot=boot,
            origin="origin-1",
            endpoint=endpoint,
            on_batch=self._batch,
            on_up=self._up,
            on_down=self._down,
            on_suspect=lambda origin, boot: self.suspects.append((origin, boot)),
            options=options,
        )
        if starts:
            self.link.start()

    def _batch(self, link: Link, envelopes: list[Any]) -> None:
        if self._on_batch is not None:
            self._on_batch(link, envelopes)
        self.got += envelopes

    def _up(self, link: Link) -> None:
        self.ups += 1

    def _down(self, link: Link, reason: str) -> None:
        self.downs.append(reason)
        if self._on_down is not None:
            self._on_down()

    def kill(self) -> None:
        """End as a killed process does."""
        jobs = self.link._jobs
        self.link._jobs = []
        gevent.killall(jobs)
        self.link._socket.raw.disable_monitor()
        self.link._monitor.close()
        self.link._socket.close(0)


def make_context() -> Any:
    """A ZeroMQ context; its sockets keep nothing unsent for later, unless they are told to."""
    made = zmq.Context()
    made.linger = 0
    return made


def end_context(context: Any, within_s: float = 10.0) -> None:
    """Close whatever is left open in it, and end it. ZeroMQ would wait for what is still to be sent, for ever, and all greenlets
    with it: that is a failure of the test instead."""
    for left in list(context._sockets):
        left.close(linger=0)
    ending = threading.Thread(target=context.term, daemon=True)
    ending.start()
    ending.join(within_s * TIME_FACTOR)
    assert not ending.is_alive(), f"not within {within_s} s: the context's end; something waits to be sent"


@pytest.fixture
def context() -> Iterator[Any]:
    """A ZeroMQ context; whatever a test leaves open in it is closed, and no greenlet may have died with an error."""
    errors: list[str] = []
    hub: Any = gevent.get_hub()
    original = hub.handle_error

    def note(where: Any, kind: Any, value: Any, trace: Any) -> None:
        if not issubclass(kind, (*hub.NOT_ERROR, *hub.SYSTEM_ERROR)):
            errors.append(f"{where}: {value!r}")
        original(where, kind, value, trace)

    hub.handle_error = note
    made = make_context()
    yield made
    gevent.sleep(0)
    try:
        end_context(made)
        gc.collect()
    finally:
        del hub.handle_error
    assert errors == []


@pytest.fixture
def make_proxy() -> Iterator[Callable[[str], TcpProxy]]:
    """Makes proxies, and closes them."""
    made: list[TcpProxy] = []

    def make(target: str) -> TcpProxy:
        made.append(TcpProxy(target))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


PATIENT = LinkOptions(timeout_s=30.0 * TIME_FACTOR)
"""For tests in which a slow machine must not end the link."""
