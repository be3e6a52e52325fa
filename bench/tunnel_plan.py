"""What a load of RTMPT is, and what its clients see of a window."""

from dataclasses import dataclass
from enum import Enum

from bench.session import Target
from bench.stream import StreamShape


class Role(Enum):
    """What the clients do."""

    ASK = "ask"
    """Each asks for what there is (`idle`) as soon as it is answered: nothing is said and nothing stored."""
    SAY = "say"
    """Each says 16 bytes (`send`) as soon as it is answered: every request is stored."""
    IDLE = "idle"
    """They are connected, and ask when the server says so."""
    PLAY = "play"
    """They play one stream."""
    PUBLISH = "publish"
    """Each publishes a stream."""


@dataclass(frozen=True, slots=True)
class TunnelPlan:
    """`tunnelled`: RTMPT, otherwise RTMP. `target.stream`: what is played; those who publish each have a name of their own.
    `wait_s`: how long the server may take until it lets the first one in."""

    target: Target
    tunnelled: bool
    role: Role
    clients: int
    shape: StreamShape
    core: int
    opening: int = 16
    wait_s: float = 30.0


@dataclass(frozen=True, slots=True)
class TunnelWindow:
    """One measured window. `requests` that were answered, and how long that took; `rtmp_bytes` that came to players or that
    publishers sent; `latencies_ms` of every stamped message that came to a player; `missing`, `disordered` of these; `cpu_s` of
    this process; `lag_ms`: by how much the latest message of a publisher left too late."""

    wall_s: float
    cpu_s: float
    requests: int
    answer_p50_ms: float
    answer_p99_ms: float
    rtmp_bytes: int
    latencies_ms: list[float]
    missing: int
    disordered: int
    closed: int
    lag_ms: float
