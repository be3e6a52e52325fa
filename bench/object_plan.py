"""What the clients of an object load are told, and what they tell."""

from dataclasses import dataclass

from bench.object_layout import ClientSpec

MOST_CHANGES = 50
"""In one message: they stay within one chunk of what clients send."""


@dataclass(frozen=True, slots=True)
class ObjectPlan:
    """`ports`: RTMP of each edge. `window`: messages that a requester has unanswered where it sends as fast as it is
    answered. `wait_s`: how long the server may take until it lets the first client in."""

    host: str
    ports: tuple[int, ...]
    app: str
    clients: list[ClientSpec]
    window: int
    persistent: bool
    core: int | None
    wait_s: float = 30.0
