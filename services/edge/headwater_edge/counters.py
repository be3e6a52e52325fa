"""What the edge counts, for its health answer and for tests."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """Totals since the process started. Bytes are those of client sockets."""

    connections_accepted: int = 0
    connections_refused: int = 0
    protocol_errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    media_in: int = 0
    """Media messages that local publishers sent."""
    media_received: int = 0
    """Media messages that origins sent to this edge: each once, however many players there are."""
    messages_encoded: int = 0
    """Media messages that were encoded into chunks, the starts of joining players included."""
    messages_delivered: int = 0
    messages_dropped: int = 0
    object_updates: int = 0
    object_deliveries: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counters by name."""
        return asdict(self)
