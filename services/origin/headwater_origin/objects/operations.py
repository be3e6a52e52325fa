"""What an Overlay holds, and an ObjectRequest carries: rows of (operation, key, value).

The first four are the event types of the wire (RTMP 1.0, 7.1.3), with their keys and values. Numbers never change their
meaning: origins of two versions speak to each other during an upgrade.
"""

from enum import IntEnum

from headwater_rtmp.shared_object import EventType

Row = tuple[int, str, bytes]
SET, SEND, CLEAR, REMOVE = (
    int(EventType.CHANGE),
    int(EventType.SEND_MESSAGE),
    int(EventType.CLEAR),
    int(EventType.REMOVE),
)
EVENTS = frozenset((SET, CLEAR, REMOVE, SEND))


class Operation(IntEnum):
    """What is no event. Numbers that they need stand in `key`, in decimal."""

    PURGE = 64
    """Forget deleted slots older than the version `key`."""
    RESYNC_DEPTH = 65
    """The difference of versions, `key`, up to which a client that comes back is told only what differs; -1: any."""
    AUTO_COMMIT = 66
    """Whether commits are journaled as they come (`key` 1) or at COMMIT (0)."""
    COMMIT = 67
    """Journal what was not journaled yet."""
    LOCK = 68
    """Let all others' changes wait, when nobody else lets them."""
    UNLOCK = 69
    PERMIT = 70
    """Refused unless the asking scope has the rights `key` (bits of `Access`)."""


UNAVAILABLE = "unavailable: "
"""How the error of an ObjectReply begins that is no fault of what was asked: it may do later."""
