"""Commits of a SharedObject that members who are away were not told: held back, in order, until an origin goes on with them."""

from bisect import bisect_right
from collections.abc import Mapping
from operator import attrgetter

from headwater_rtmp.shared_object import EventType

from headwater_edge.object_messages import CommitEvents

_CLEAR, _SEND = int(EventType.CLEAR), int(EventType.SEND_MESSAGE)
_MOST_HELD, _MOST_HELD_BYTES = 1000, 1024 * 1024
"""Of one object; over either the oldest is told at once, out of its order with other things."""
_COMMIT_BYTES = 200
"""What one takes beside its keys and values, about."""
_count_of = attrgetter("count")


class HeldCommit:
    """One of them. `before`: what the slots were that it has changed. `chunks`: for others than who asked for it, by AMF
    version."""

    __slots__ = ("before", "chunks", "count", "events", "requester", "size_bytes", "version")

    def __init__(self, version: int, count: int, requester: int, events: CommitEvents) -> None:
        self.version, self.count, self.requester, self.events = version, count, requester, events
        self.before: dict[str, bytes | None] = {}
        self.chunks: dict[bool, bytes] = {}
        self.size_bytes = _COMMIT_BYTES + sum(len(key) + len(value) for _, key, value in events)


class HeldBack:
    """All of them, while somebody is away."""

    __slots__ = ("_commits", "_size_bytes")

    def __init__(self) -> None:
        self._commits: list[HeldCommit] = []
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._commits)

    def hold(self, commit: HeldCommit, values: Mapping[str, bytes]) -> None:
        """Hold a commit back that is about to be applied to these values."""
        for kind, key, _ in commit.events:
            if kind == _CLEAR:
                for gone, value in values.items():
                    commit.before.setdefault(gone, value)
            elif kind != _SEND:
                commit.before.setdefault(key, values.get(key))
        self._commits.append(commit)
        self._size_bytes += commit.size_bytes

    @property
    def oldest(self) -> int:
        """The count of the oldest, where it has to go because there are too many, else 0."""
        full = len(self._commits) > _MOST_HELD or self._size_bytes > _MOST_HELD_BYTES
        return self._commits[0].count if full else 0

    def drop_oldest(self) -> None:
        """It is gone; where there are none, nothing happens."""
        if self._commits:
            self._size_bytes -= self._commits.pop(0).size_bytes

    def clear(self) -> None:
        """Nobody is away any more, or they are told another way."""
        self._commits.clear()
        self._size_bytes = 0

    def between(self, told: int, count: int) -> list[HeldCommit]:
        """Those behind one count, up to another."""
        commits = self._commits
        first, last = (bisect_right(commits, at, key=_count_of) for at in (told, count))
        return commits[first:last]

    def values_behind(self, values: Mapping[str, bytes], count: int) -> dict[str, bytes]:
        """Slots that have these values now, as they were behind a commit, as far back as commits are held."""
        then = dict(values)
        for commit in reversed(self._commits):
            if commit.count <= count:
                break
            for key, value in commit.before.items():
                if value is None:
                    then.pop(key, None)
                else:
                    then[key] = value
        return then
