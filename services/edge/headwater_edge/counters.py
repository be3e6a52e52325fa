"""What the edge counts, for its health answer and for tests."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """Totals since the process started. Bytes are those of client sockets."""

    connections_accepted: int = 0
    connections_refused: int = 0
    connections_closed: int = 0
    protocol_errors: int = 0
    """Clients closed for what they sent."""
    internal_errors: int = 0
    """Faults of the edge itself; each has a log line."""
    messages_ignored: int = 0
    """Messages of clients of a type that nobody here knows."""
    bytes_in: int = 0
    bytes_out: int = 0
    media_in: int = 0
    """Media messages that local publishers sent."""
    media_received: int = 0
    """Media messages that origins sent to this edge: each once, however many players there are."""
    messages_encoded: int = 0
    """Live messages that were encoded into chunks: each once for every message stream id that players use."""
    start_messages_encoded: int = 0
    """Messages encoded for players that began or came back: their starts from the cache, headers that they lacked."""
    messages_delivered: int = 0
    """Live messages handed to players, each player counted; starts are not."""
    messages_dropped: int = 0
    """Live messages that players wanted and did not get."""
    object_updates: int = 0
    """Commits that origins sent to this edge: each once, however many members there are."""
    object_deliveries: int = 0
    object_merges: int = 0
    """Changes that slow members did not get one by one."""
    object_resyncs: int = 0
    """Replicas that lacked a commit and were asked for anew."""
    tunnels_opened: int = 0
    """RTMPT sessions that began here."""
    sessions_restored: int = 0
    """Sessions that another edge had."""
    sessions_taken: int = 0
    """Sessions that another edge has taken."""
    requests: int = 0
    """Requests of RTMPT sessions."""
    requests_repeated: int = 0
    """Those that came again and got the same answer."""
    requests_refused: int = 0
    """Copies of such as were answered long since."""
    records_written: int = 0
    links_lost: int = 0
    sessions_resumed: int = 0
    """Attachments with which another origin, or the same over another link, went on."""
    messages_again: int = 0
    """Messages of clients that were sent to an origin again, for the one before had not applied them."""
    media_again: int = 0
    """Media messages that publications sent again from their rings."""
    media_doubled: int = 0
    """Media messages that this edge had already."""
    streams_interrupted: int = 0
    """Streams that another origin could not continue without a gap."""
    objects_replaced: int = 0
    """Replicas whose content another origin sent whole."""

    def as_dict(self) -> dict[str, int]:
        """The counters by name."""
        return asdict(self)
