"""What SharedObjects have yet to tell their members: commits that are gathered, so that one message carries many of them."""

from itertools import count
from typing import TYPE_CHECKING

from headwater_rtmp.shared_object import EventType

from headwater_edge.object_messages import CommitEvents, ObjectWriter

if TYPE_CHECKING:
    from headwater_edge.client import Client

_SEND = int(EventType.SEND_MESSAGE)
_MOST_COMMITS, _MOST_BYTES = 256, 64 * 1024
"""Of one object; it tells its members at once then."""
_EVENT_BYTES = 16
"""What one takes beside its key and value, about."""
_turn = count()
"""Numbers the commits of all objects in the order in which they came."""


class Pending:
    """Commits of one object, in order. Each is encoded once for each AMF version; the messages that hold them are kept until the
    next one comes, as members share them."""

    __slots__ = ("_messages", "_pieces", "_size_bytes", "_writer", "commits", "said", "turns", "versions")

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer
        self.commits: list[CommitEvents] = []
        """One list for good: its object looks at it, too."""
        self.turns: list[int] = []
        """Of each commit, its place among those of all objects."""
        self.versions = [0]
        """The version before each commit, and that behind the last."""
        self.said = 0
        """Behind the last commit with a message (`send`): the commits from here on only change slots."""
        self._size_bytes = 0
        self._pieces: dict[bool, list[bytes]] = {}
        self._messages: dict[tuple[int, int, bool], bytes] = {}

    def add(self, before: int, version: int, events: CommitEvents) -> bool:
        """Take a commit that brings the object from one version to another, or the same. Returns whether it is time to tell
        all members."""
        self.versions[-1] = before
        self.commits.append(events)
        self.turns.append(next(_turn))
        self.versions.append(version)
        if self._messages:
            self._messages.clear()
        size = 0
        for kind, key, value in events:
            size += _EVENT_BYTES + len(key) + len(value)
            if kind == _SEND:
                self.said = len(self.commits)
        self._size_bytes += size
        return len(self.commits) >= _MOST_COMMITS or self._size_bytes >= _MOST_BYTES

    def clear(self) -> None:
        """Every member was told everything."""
        self.commits.clear()
        self.turns.clear()
        self.versions = [0]
        self.said = self._size_bytes = 0
        self._pieces.clear()
        self._messages.clear()

    def message(self, start: int, end: int, amf3: bool) -> bytes:
        """The chunks of one message with the commits from one to before another, for others than who asked for them."""
        known = self._messages.get((start, end, amf3))
        if known is None:
            pieces = self._encoded(amf3)[start:end]
            known = self._writer.message(b"".join(pieces), self.versions[end], amf3)
            self._messages[start, end, amf3] = known
        return known

    def _encoded(self, amf3: bool) -> list[bytes]:
        pieces = self._pieces.get(amf3)
        if pieces is None:
            pieces = self._pieces[amf3] = []
        for events in self.commits[len(pieces) :]:
            pieces.append(self._writer.commit(events, amf3))
        return pieces


def tell_pending(client: "Client") -> bool:
    """Queue what its objects have yet to tell a client, in the order in which it was committed: whatever is queued next comes
    behind it. Returns whether the client is still there: with too much queued it is closed, and in no object any more."""
    if not client.objects:
        return not client.closed
    owing = [
        (known, number) for known, number in client.objects.items() if known.gathered and known.owes(number)
    ]
    if len(owing) > 1:
        rows = [
            (turn, at, place)
            for at, (known, number) in enumerate(owing)
            for turn, place in known.turns_of(number)
        ]
        rows.sort()
        # Of one object, those that follow each other are told together, up to the last of them.
        following = [at for _, at, _ in rows[1:]]
        for (_, at, place), next_at in zip(rows, [*following, -1], strict=True):
            if at != next_at and not client.closed:
                known, number = owing[at]
                known.tell(number, client, place + 1)
    elif owing:
        known, number = owing[0]
        known.tell(number, client)
    return not client.closed
