"""Where an edge listens, and its listeners."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater_edge.doors.door import Door
from headwater_edge.doors.tls import TlsStore
from headwater_edge.listener import Listener, OnAccept

if TYPE_CHECKING:
    from headwater_edge.edge import Edge


@dataclass(frozen=True, slots=True)
class Place:
    """An IP address and a port (0: any), and what comes in there. `shared`: other processes of this machine may listen there,
    too."""

    host: str
    port: int
    door: Door
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Doors:
    """All places: first those of RTMP that the edges of the machine share, last those of RTMP of this edge alone. `rtmpt`:
    whether there are sessions over HTTP; for its health an edge may be asked in any case."""

    places: tuple[Place, ...]
    tls: TlsStore | None = None
    rtmpt: bool = True


def open_doors(edge: "Edge", doors: Doors) -> list[Listener]:
    """Listen at all places, in their order, and watch the certificate. Raises ListenError; nothing is open then."""
    listeners: list[Listener] = []
    try:
        for place in doors.places:
            on_accept = _into(edge.accept, place.door)
            listeners.append(Listener(place.host, place.port, on_accept, shared=place.shared))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    if doors.tls is not None:
        doors.tls.watch(edge.loop)
    return listeners


def _into(accept: Callable[[Any, str, Door], None], door: Door) -> OnAccept:
    def on_accept(sock: Any, address: str) -> None:
        accept(sock, address, door)

    return on_accept
