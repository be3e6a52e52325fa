"""The last commits of a SharedObject, as long as an edge may lack one: what a replica that was cut off gets when it is back.

They are counted by `events`, without a hole. A replica says which commit it has last and of which version the content was then:
only where both agree is it a copy of this history, and can be told the rest.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

from headwater_bus.codec import EnvelopeError
from headwater_bus.rows import pack_rows, unpack_rows

MOST_COMMITS = 1000
MOST_BYTES = 1024 * 1024
"""Of one object; over either the oldest are forgotten, and a replica that lacks them gets the whole content."""
_COMMIT_BYTES = 200
"""What a commit takes beside its payload, about."""
new_row = tuple.__new__
"""Makes an Asker or a Commit of its values in half of the time that its own constructor takes: one of each for every change."""


class Asker(NamedTuple):
    """Whose message a commit carries out: its session, the number of the message, and the edge with its number of the attachment.
    An edge keeps that number when the session goes on at another origin, so it means the same member there."""

    session_id: str
    message: int
    edge: str
    attachment: int


class Commit(NamedTuple):
    """One commit: `version` of the content behind it, `payload` as in ObjectUpdate, `entry` of the journal that holds it, `order`
    among the commits of all objects of the group (see Outputs.order)."""

    version: int
    events: int
    asker: Asker | None
    payload: bytes
    entry: int
    order: int

    def attachment(self, edge: str) -> int:
        """The number of the asker on an edge; 0: it is none of its."""
        return self.asker.attachment if self.asker is not None and self.asker.edge == edge else 0


class Have(NamedTuple):
    """What an edge's replica has, or what one of its members has been told."""

    version: int
    events: int


class Recent:
    """See the module. `events` and `version` are those before the first commit that is kept, `last_events` that of the last."""

    __slots__ = ("_size_bytes", "commits", "events", "last_events", "version")

    def __init__(self, version: int = 0, events: int = 0) -> None:
        self.version, self.events, self.last_events = version, events, events
        self.commits: deque[Commit] = deque()
        self._size_bytes = 0

    def add(self, commit: Commit) -> None:
        """The next commit."""
        events = commit.events
        if events != self.last_events + 1:
            self.begin(commit.version, events)
            return
        self.last_events = events
        self.commits.append(commit)
        self._size_bytes += len(commit.payload) + _COMMIT_BYTES
        while self._size_bytes > MOST_BYTES or len(self.commits) > MOST_COMMITS:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        commit = self.commits.popleft()
        self._size_bytes -= len(commit.payload) + _COMMIT_BYTES
        self.version, self.events = commit.version, commit.events

    def begin(self, version: int, events: int) -> None:
        """Forget everything: whoever has not just this gets the whole content."""
        self.commits.clear()
        self._size_bytes = 0
        self.version, self.events, self.last_events = version, events, events

    def settle(self, entry: int) -> None:
        """Every edge has what was journaled up to this entry."""
        commits, last = self.commits, None
        while commits and commits[0].entry <= entry:
            last = commits.popleft()
            self._size_bytes -= len(last.payload) + _COMMIT_BYTES
        if last is not None:
            self.version, self.events = last.version, last.events

    def since(self, have: Have) -> list[Commit] | None:
        """What a replica lacks; None: it is no copy, or what it lacks is forgotten."""
        lacking = self.last_events - have.events
        if not 0 <= lacking <= len(self.commits):
            return None
        had = self.version if lacking == len(self.commits) else self.commits[-lacking - 1].version
        return self._last(lacking) if have.version == had else None

    def between(self, after: int, last: int) -> list[Commit]:
        """Those that are known of the commits behind `after`, up to `last`."""
        lacking = min(self.last_events - after, len(self.commits))
        return [commit for commit in self._last(lacking) if commit.events <= last]

    def from_first_of(self, session_id: str, answered: int) -> list[Commit]:
        """The commits from the first one on that carries out a message of a session with a number above `answered`."""
        for at, commit in enumerate(self.commits):
            asker = commit.asker
            if asker is not None and asker.session_id == session_id and asker.message > answered:
                return list(islice(self.commits, at, None))
        return []

    def _last(self, count: int) -> list[Commit]:
        return list(islice(self.commits, len(self.commits) - count, None)) if count > 0 else []

    def pack(self) -> bytes:
        """For the journal."""
        return pack_rows(
            [
                (commit.version, commit.events, list(commit.asker or ()), commit.payload, commit.order)
                for commit in self.commits
            ]
        )

    def restore(self, version: int, events: int, payload: bytes, entry: int) -> int:
        """Take what `pack` gave, behind `version` and `events`; returns the order of the last commit. Raises EnvelopeError or
        TypeError."""
        self.begin(version, events)
        try:
            rows = unpack_rows(payload, int, int, list, bytes, int)
        except EnvelopeError:
            # Of a former version: all of it comes before what is said.
            rows = [[*row, 0] for row in unpack_rows(payload, int, int, list, bytes)]
        order = 0
        for at, count, asker, changes, order in rows:
            self.add(Commit(at, count, asker_of(asker), changes, entry, order))
        return order


def asker_of(row: Sequence[Any]) -> Asker | None:
    """What a row of the journal says. Raises TypeError."""
    return Asker(*row[:4]) if row else None
