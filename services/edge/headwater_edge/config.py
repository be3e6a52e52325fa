"""The edge's settings."""

from dataclasses import dataclass

from headwater_bus.link_state import LinkOptions

_SLACK_MS = 5
"""What comes in a fifth of a picture's time need not be sent alone. A message waits so much longer at most."""
_ACK_DELAY_S = LinkOptions().ack_delay_s
_MAX_ACK_DELAY_S = LinkOptions().resend_s / 2
"""Origins ask what has come when they have not heard of it for `resend_s`."""


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """What an edge bears. Bytes are bytes, `_s` seconds, `_ms` milliseconds."""

    flush_ms: int = 20
    """How long media of a publisher gathers on its way to players; half as long again where several edges have publishers.
    0 sends it as it comes."""
    object_flush_ms: int = 20
    """For how long at most changes of a SharedObject gather that come quickly after others; 0: none do."""
    chunk_size: int = 60_000
    """Chunk size of everything sent to clients."""
    window_ack_bytes: int = 5_000_000
    """Clients are to acknowledge every so many bytes."""
    cache_bytes: int = 4 * 1024 * 1024
    """Of one stream's GOP cache; less than `client_queue_bytes`, into which a joining player gets it."""
    media_queue_bytes: int = 2 * 1024 * 1024
    """Over this, a player gets nothing until the next keyframe."""
    object_queue_bytes: int = 1024 * 1024
    """Over this, changes of SharedObjects are merged."""
    client_queue_bytes: int = 8 * 1024 * 1024
    """Over this, a client is closed."""
    link_bytes: int = 32 * 1024 * 1024
    """Over this many unacknowledged bytes to an origin, its clients are not read."""
    max_connections: int = 15_000
    max_per_address: int = 1_000
    """Connections from one address; loopback is exempt."""
    handshake_s: float = 5.0
    connect_s: float = 10.0
    """From the end of the handshake (at most `handshake_s` after the accept) to `connect`."""
    attach_s: float = 5.0
    """How long an origin may take to be found for a new session."""
    resume_s: float = 30.0
    """How long sessions whose origin is lost wait for the next one."""
    kept_messages: int = 1000
    """With so many messages of it that no origin has applied yet, or `kept_bytes` of payload, a client is not read. Less than an
    origin takes of one session at a time (1,024)."""
    kept_bytes: int = 1024 * 1024
    ring_s: float = 4.0
    """So much of what a client publishes is kept, should another origin need it; `ring_bytes` at most."""
    ring_bytes: int = 8 * 1024 * 1024
    answer_s: float = 30.0
    """How long an application may take to accept a client."""
    linger_s: float = 2.0
    """How long a closed client may take to read what was queued for it."""
    http_request_s: float = 10.0
    """How long an HTTP request may take to come, or an answer to be taken."""
    http_idle_s: float = 75.0
    """How long an HTTP connection is kept between requests."""
    http_body_bytes: int = 1024 * 1024
    """Of one HTTP request."""
    tunnel_answer_bytes: int = 128 * 1024
    """Of RTMP in one answer of an RTMPT session."""
    tunnel_hold_s: float = 0.2
    """How long an idle request of an RTMPT session waits for something to say."""
    tunnel_pause_s: float = 0.5
    """How long the answer waits while the session's origins do not keep up. Balancers ask another edge after about a second."""
    tunnel_early_s: float = 1.5
    """How long a request waits for those before it."""
    tunnel_idle_s: float = 30.0
    """After so long without a request an RTMPT session is over."""
    tunnel_refresh_s: float = 30.0
    """So often the record of an RTMPT session is written even if nothing has changed: one that is not written is forgotten."""
    tunnel_patience_s: float = 10.0
    """How long requests wait for a store that is away."""
    ping_s: float = 45.0
    """After this silence a client is pinged: one that plays 1 Mbit/s has acknowledged `window_ack_bytes` by then, and is not."""
    idle_s: float = 90.0
    """After this silence it is closed."""

    @property
    def read_interval_s(self) -> float:
        """So often publishers are read: what they send gathers in their sockets."""
        return (self.flush_ms + _SLACK_MS) / 1000 if self.flush_ms else 0.0

    @property
    def ack_delay_s(self) -> float:
        """How long acknowledgements to origins wait for something that could carry them: until publishers have been read."""
        return min(self.read_interval_s + _ACK_DELAY_S, _MAX_ACK_DELAY_S)

    @property
    def media_interval_ms(self) -> int:
        """So often, at most, origins are to send media here. It has gathered already, but that of several edges may leave
        together."""
        return self.flush_ms // 2
