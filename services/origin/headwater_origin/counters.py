"""What an origin counts; read by the health answer and the load report."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """Totals since the start."""

    attaches: int = 0
    attaches_refused: int = 0
    connects_accepted: int = 0
    connects_rejected: int = 0
    messages_in: int = 0
    """Commands, data and SharedObject messages of clients."""
    bytes_in: int = 0
    """Payload bytes of everything that edges sent, media included."""
    media_in: int = 0
    media_out: int = 0
    """Media messages to edges: one for each subscribed edge."""
    media_dropped: int = 0
    """Media messages not sent to an edge that did not keep up."""
    object_commits: int = 0
    object_updates_out: int = 0
    object_changes_refused: int = 0
    calls: int = 0
    calls_failed: int = 0
    handler_errors: int = 0
    internal_errors: int = 0
    """Faults of the origin itself."""
    protocol_errors: int = 0
    stray_messages: int = 0
    """Envelopes about sessions or streams that are gone, and kinds that this origin does not know."""

    def as_dict(self) -> dict[str, int]:
        """All of them by name."""
        return asdict(self)
