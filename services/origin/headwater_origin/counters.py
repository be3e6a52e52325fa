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
    messages_again: int = 0
    """Messages that edges have sent once more, and that were here already."""
    sessions_resumed: int = 0
    """Sessions that had their group before, over another link or at another origin."""
    said_again: int = 0
    """What clients were told once more, as their edges had not heard it."""
    bytes_in: int = 0
    """Payload bytes of everything that edges sent, media included."""
    media_in: int = 0
    media_out: int = 0
    """Media messages to edges: one for each subscribed edge."""
    media_dropped: int = 0
    """Media messages not sent to an edge that did not keep up."""
    object_commits: int = 0
    object_snapshots_out: int = 0
    """Whole contents to edges: one for each that has users of an object, however many."""
    object_updates_out: int = 0
    object_changes_refused: int = 0
    calls: int = 0
    calls_failed: int = 0
    commits: int = 0
    """Commits of the journal, each of all groups that had something."""
    commit_us: int = 0
    """How long they took together."""
    commits_failed: int = 0
    """Attempts that met no store."""
    snapshots: int = 0
    groups_lost: int = 0
    """Groups that another origin was found to have."""
    groups_taken: int = 0
    """Groups that began here with sessions that were at another origin before."""
    groups_handed_over: int = 0
    moves_failed: int = 0
    """Groups that were to be handed over, and went on here."""
    handler_errors: int = 0
    internal_errors: int = 0
    """Faults of the origin itself."""
    protocol_errors: int = 0
    stray_messages: int = 0
    """Envelopes about sessions or streams that are gone, and kinds that this origin does not know."""

    def as_dict(self) -> dict[str, int]:
        """All of them by name."""
        return asdict(self)
