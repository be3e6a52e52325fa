"""The origin's settings and limits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OriginConfig:
    """What an origin bears. Bytes are bytes, `_s` seconds."""

    attach_hold_s: float = 2.0
    """How long an attach waits for the change feed to tell of its group's epoch."""
    attach_hold_bytes: int = 64 * 1024 * 1024
    """Of attaches that wait so, with what their clients have sent; over it they are refused at once."""
    group_linger_s: float = 10.0
    """A group with no session for this long is stopped and released, and so is one that nobody ever attached."""
    object_linger_s: float = 5.0
    """A temporary SharedObject with no user for this long is forgotten."""
    link_media_bytes: int = 16 * 1024 * 1024
    """Over this many unacknowledged bytes to an edge, media to it is dropped to the next keyframe."""
    cache_bytes: int = 4 * 1024 * 1024
    """Of one stream's GOP cache; the edges' are of the same size."""
    streams_per_session: int = 32
    """Message streams that a session may have at a time."""
    objects_per_session: int = 64
    objects_per_group: int = 10_000
    object_slots: int = 4096
    object_value_bytes: int = 64 * 1024
    object_total_bytes: int = 1024 * 1024
    """Keys and values of one SharedObject together."""
    messages_per_s: int = 2000
    """Commands and SharedObject messages that a client may send, as a lasting rate; over it it is closed."""
    messages_burst: int = 5000
    """So many of them it may send at once."""
    inbox_messages: int = 1024
    """Messages of a session that wait for its application code; over it the client is closed."""
    inbox_bytes: int = 4 * 1024 * 1024
    calls_pending: int = 256
    """Calls to one client that wait for an answer."""
    commit_ms: float = 2.0
    """At least so long between the starts of two commits; what happens meanwhile is committed together."""
    store_patience_s: float = 5.0
    """While the store is away for longer, changes are refused."""
    pending_bytes: int = 4 * 1024 * 1024
    """Of one group: while the store is away and more waits for it, changes are refused."""
    resume_grace_s: float = 10.0
    """A member whose link is lost, or that the journal of a group that begins here knows, and that does not come back within this
    time has left."""
    living_edge_grace_s: float = 35.0
    """It has so much longer while the edge that it came by is registered: that goes on looking for the group's origin (30 s,
    `--resume-s` of edges), and tells which of its sessions have ended meanwhile."""
    publisher_grace_s: float = 10.0
    """The name of a publisher that has gone without a goodbye is kept for it so long, with its players; 0: not at all."""
    publishers_awaited: int = 1000
    """Of one group, for so many at most at a time."""
    publisher_silent_s: float = 3.0
    """A publisher that has sent nothing for so long gives way to one with the same proof."""
    said_bytes: int = 64 * 1024 * 1024
    """Of one group: what is kept to be said again to members that are to come back; over it they have left at once."""
    move_held_bytes: int = 16 * 1024 * 1024
    """Of what edges say about a group while it is being moved; over it the group is not moved."""
    move_work_s: float = 1.0
    """So long a move waits for hooks and methods that run; what they were doing runs again at the other origin."""
    snapshot_entries: int = 2000
    """A snapshot is written when so many entries have come since the last one."""
    snapshot_bytes: int = 4 * 1024 * 1024
    """Or so many bytes of entries."""
    jobs_per_group: int = 10_000
    state_bytes: int = 16 * 1024 * 1024
    """Keys and values of an application's `state` together."""
    attributes_bytes: int = 64 * 1024
    """Keys and values of one client's attributes together."""
