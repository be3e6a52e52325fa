"""What the clients of an object load are told, and what they tell."""

from dataclasses import dataclass

from bench.object_layout import ClientSpec


@dataclass(frozen=True, slots=True)
class ObjectPlan:
    """`ports`: RTMP of each edge. `wait_s`: how long the server may take until it lets the first client in."""

    host: str
    ports: tuple[int, ...]
    app: str
    clients: list[ClientSpec]
    batch: int
    window: int
    persistent: bool
    core: int | None
    wait_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ObjectWindow:
    """One window. Of its time: `changes` that were answered with Success, `deliveries` of messages to members (answers too),
    `latencies` in ms from a request's sending to another member's Change, `cpu_s` of this process, `lag_ms` by which a message
    left late. Up to 10 s later, when nobody sends any more: `unanswered` messages, and `behind`, how often a member's last
    value is not the last that was sent. The other faults are all since the window before; see Tally."""

    wall_s: float
    cpu_s: float
    sent: int
    changes: int
    deliveries: int
    samples: int
    latency_p50_ms: float
    latency_p99_ms: float
    latency_max_ms: float
    lag_ms: float
    missing: int
    disordered: int
    strange: int
    closed: int
    unanswered: int
    behind: int
