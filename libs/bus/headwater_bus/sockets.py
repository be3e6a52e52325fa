"""What every ZeroMQ socket here has in common: binding with one clear error, and greenlets that end with their socket."""

from collections.abc import Callable
from typing import Any

import gevent
import zmq

from headwater_bus.security import Security

SLICE_S = 0.005
"""After so long of reading without a pause, a reader lets the other greenlets run (`pause`)."""


class BindError(zmq.ZMQError):
    """An endpoint that cannot be bound; the text is for the operator."""

    def __init__(self, endpoint: str, error: zmq.ZMQError) -> None:
        super().__init__(error.errno, f"{endpoint}: cannot listen there: {error.strerror or error}")


FIRST = 2
"""The highest priority of watchers (libev's EV_MAXPRI)."""


def pause() -> None:
    """Let the other greenlets run, and the loop look at its sockets, timers and threads. With `gevent.sleep(0)` those may have to
    wait for fifty slices of those greenlets that have so much to do: the loop goes through its callbacks first."""
    # Of the highest priority: one of a lower one waits until nothing else is to be done.
    gevent.idle(FIRST)


def bind(socket: Any, security: Security, endpoint: str) -> str:
    """Bind; returns the endpoint with its actual port. Raises SecurityError or BindError."""
    security.check_endpoint(endpoint)
    try:
        socket.set(zmq.IPV6, int("[" in endpoint))
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise BindError(endpoint, error) from error
    actual: bytes = socket.get(zmq.LAST_ENDPOINT)
    return actual.decode().rstrip("\0")


def connect(socket: Any, security: Security, endpoint: str, server: str) -> None:
    """Connect to the node `server`. Raises SecurityError, or zmq.ZMQError for what is no endpoint."""
    security.check_endpoint(endpoint)
    security.apply_client(socket, server)
    socket.set(zmq.IPV6, int("[" in endpoint))
    socket.connect(endpoint)


def until_closed(socket: Any, job: Callable[[], None]) -> Callable[[], None]:
    """The job of a socket, which ends quietly once the socket is closed under it."""

    def run() -> None:
        try:
            job()
        except zmq.ZMQError:
            if not socket.closed:
                raise

    return run


def user_of(part: Any) -> str | None:
    """The name on the key of whoever sent a frame (RFC 27's User-Id); None where it has none."""
    try:
        name: str = part.get("User-Id")
    except zmq.ZMQError:
        return None
    return name
