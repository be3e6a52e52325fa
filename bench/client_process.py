"""What a process of clients does: opens them, says so, obeys."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from headwater_rtmp.errors import RemoteProtocolError

from bench.processes import enter_load_process
from bench.session import SessionError


class LoadClients(Protocol):
    """All clients of a process."""

    plan: Any
    """With the `core` that they are on."""

    def open_all(self, say: Callable[[int], None]) -> None: ...

    def close(self) -> None: ...


Clients = TypeVar("Clients", bound=LoadClients)


def serve(pipe: Any, clients: Clients, obey: Callable[[Any, Clients], None]) -> None:
    """Process: says ("opened", n) while it opens and ("ready", None), then `obey(pipe, clients)` carries orders out until
    "stop" or the pipe closes. Says ("failed", text) when it cannot go on."""
    enter_load_process(clients.plan.core)
    try:
        clients.open_all(lambda count: pipe.send(("opened", count)))
        pipe.send(("ready", None))
        obey(pipe, clients)
    except (OSError, SessionError, RemoteProtocolError) as error:
        try:
            pipe.send(("failed", f"clients: {error}"))
        except OSError:
            pass  # The parent is gone.
    finally:
        clients.close()
