"""What a process of clients does: opens them, says so, obeys."""

from collections.abc import Callable
from typing import Any, Protocol

from headwater_rtmp.errors import RemoteProtocolError

from bench.processes import enter_load_process
from bench.session import SessionError

_POLL_S = 0.2


class LoadClients(Protocol):
    """All clients of a process."""

    plan: Any
    """With the `core` that they are on."""

    def open_all(self, say: Callable[[int], None]) -> None: ...

    def watch(self, fd: int) -> None: ...

    def turn(self, timeout_s: float) -> bool: ...

    def begin(self) -> Any: ...

    def end(self, begun: Any) -> Any: ...

    def order(self, order: Any) -> None: ...

    def close(self) -> None: ...


def serve(pipe: Any, clients: LoadClients) -> None:
    """Process: says ("opened", n) while it opens and ("ready", None), then carries orders out until "stop" or the pipe closes:
    "begin" of a window, "end" of it, answered with ("window", what `end` returns); any other is the clients' own. Says
    ("failed", text) when it cannot go on."""
    enter_load_process(clients.plan.core)
    try:
        clients.open_all(lambda count: pipe.send(("opened", count)))
        pipe.send(("ready", None))
        _obey(pipe, clients)
    except (OSError, SessionError, RemoteProtocolError) as error:
        try:
            pipe.send(("failed", f"clients: {error}"))
        except OSError:
            pass  # The parent is gone.
    finally:
        clients.close()


def _obey(pipe: Any, clients: LoadClients) -> None:
    clients.watch(pipe.fileno())
    begun = clients.begin()
    while True:
        if not clients.turn(_POLL_S):
            continue
        try:
            order = pipe.recv()
        except EOFError:
            return
        if order == "stop":
            return
        if order == "begin":
            begun = clients.begin()
        elif order == "end":
            pipe.send(("window", clients.end(begun)))
        else:
            clients.order(order)
