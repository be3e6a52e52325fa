"""What a group has journaled and not committed yet, and what it says to edges meanwhile: that waits behind it, in order.

All rows since the last commit began are one entry. With the journal off nothing ever waits.
"""

from typing import TYPE_CHECKING, Any

from gevent.event import Event
from headwater_bus.logs import get_log

from headwater_origin.durable.journal import RowKind
from headwater_origin.errors import GroupLost

if TYPE_CHECKING:
    from headwater_store import Loaded

    from headwater_origin.config import OriginConfig
    from headwater_origin.durable.commits import Committer
    from headwater_origin.edge_port import EdgePort
    from headwater_origin.group import Group
    from headwater_origin.session import Session

_log = get_log("origin")
_MOST_ENTRIES_FACTOR = 4
"""A snapshot that is larger than the entries since the last one waits for so many times more entries."""
_ROW_BYTES, _OUTPUT_BYTES = 48, 200
"""What a row or an envelope takes beside its payload, about."""


class Entry:
    """Rows that are committed together, and what waits for them."""

    __slots__ = ("numbers", "outputs", "rows", "size_bytes", "waiters")

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self.numbers: dict[str, int] = {}
        """The last applied message of each session that had effects here."""
        self.outputs: list[tuple[EdgePort, Any, Session | None]] = []
        self.waiters: list[Event] = []
        self.size_bytes = 0

    def all_rows(self) -> list[list[Any]]:
        """The rows with one for each number."""
        numbers = [[RowKind.NUMBER, session_id, number] for session_id, number in self.numbers.items()]
        return [*self.rows, *numbers]


class Outputs:
    """Of one group. `count` of rows ever journaled tells whether something was."""

    __slots__ = (
        "_committer",
        "_group",
        "count",
        "epoch",
        "flying",
        "gathering",
        "last_number",
        "lost",
        "off",
        "pending_bytes",
        "snapshot_size",
        "stalled",
        "tail",
        "tail_bytes",
        "tail_entries",
    )

    def __init__(self, group: "Group", committer: "Committer") -> None:
        self._group, self._committer = group, committer
        self.off = committer.off
        self.count = 0
        self.tail: Entry | None = None
        """The last entry that is not committed; None: nothing waits."""
        self.gathering: Entry | None = None
        self.flying: Entry | None = None
        """The entry that the committer has."""
        self.pending_bytes = 0
        self.stalled = False
        """Whether changes are refused: the store is away for too long, or too much waits for it."""
        self.lost = False
        self.epoch = group.epoch
        """At which the journal is open."""
        self.last_number = 0
        """Of the last entry that was cut."""
        self.tail_entries = self.tail_bytes = self.snapshot_size = 0
        """Entries since the last snapshot, their bytes, and the bytes of that."""

    def journal(self, row: list[Any]) -> None:
        """Add a row of the entry that is gathering. Its last item is its payload, if it has one."""
        self.count += 1
        if self.off:
            return
        entry = self.gathering
        if entry is None:
            entry = self._gather()
        entry.rows.append(row)
        payload = row[-1]
        self._grow(entry, _ROW_BYTES + (len(payload) if type(payload) is bytes else 0))

    def begin(self) -> None:
        """Have an entry committed, without a row if there is none: what is said from here on waits for it."""
        if self.gathering is None:
            self._gather()

    def number(self, session: "Session", number: int) -> None:
        """The last message of a session that is applied with what was just journaled."""
        if not self.off:
            entry = self.gathering or self._gather()
            entry.numbers[session.session_id] = number

    def forget_number(self, session_id: str) -> None:
        """A session is gone: its number is not journaled behind that."""
        if self.gathering is not None:
            self.gathering.numbers.pop(session_id, None)

    def _gather(self) -> Entry:
        entry = self.gathering = self.tail = Entry()
        self._committer.dirty(self._group)
        return entry

    def _grow(self, entry: Entry, size: int) -> None:
        entry.size_bytes += size
        self.pending_bytes += size
        if self.pending_bytes > self._committer.limit_bytes:
            self.stalled = True

    def send(self, edge: "EdgePort", envelope: Any, session: "Session | None" = None) -> None:
        """Say something to an edge when everything journaled so far is committed. `session`: whom it concerns."""
        tail = self.tail
        if tail is None:
            edge.link.send(envelope)
            return
        tail.outputs.append((edge, envelope, session))
        if session is not None:
            session.waiting += 1
        self._grow(tail, _OUTPUT_BYTES + len(getattr(envelope, "payload", b"")))

    def reply(self, session: "Session", envelope: Any) -> None:
        """Say what depends on no journaled state: at once, unless something of this session waits."""
        if session.waiting:
            self.send(session.edge, envelope, session)
        else:
            session.edge.link.send(envelope)

    def hold(self, session: "Session") -> None:
        """Let what is said to a session from here on wait for what was just journaled, built-in answers too."""
        if self.tail is not None:
            self.tail.outputs.append((session.edge, None, session))
            session.waiting += 1

    def flushed(self) -> None:
        """Wait until what is journaled so far is committed. Raises GroupLost."""
        if self.tail is not None:
            done = Event()
            self.tail.waiters.append(done)
            done.wait()
        if self.lost:
            raise self.loss()

    def loss(self) -> GroupLost:
        """What is raised by what comes too late."""
        return GroupLost(f"group {self._group.name}: it has ended here, another origin may have it now")

    def health(self) -> dict[str, Any]:
        """What waits, and how long the journal is."""
        return {
            "number": self.last_number,
            "tail_entries": self.tail_entries,
            "tail_bytes": self.tail_bytes,
            "pending_bytes": self.pending_bytes,
            "stalled": self.stalled,
        }

    # The committer's side

    def opened(self, epoch: int, loaded: "Loaded") -> None:
        """The journal is open, and holds this."""
        self.epoch, self.last_number = epoch, loaded.tail
        self.tail_entries, self.tail_bytes = len(loaded.entries), sum(map(len, loaded.entries))
        self.snapshot_size = len(loaded.snapshot or b"")

    def entry_cut(self, size_bytes: int) -> None:
        """An entry of so many bytes is on its way."""
        self.last_number += 1
        self.tail_entries += 1
        self.tail_bytes += size_bytes

    def snapshot_due(self, config: "OriginConfig", size_bytes: int) -> bool:
        """Whether a snapshot should follow the next entry. A large one is put off, so that it is not written for little."""
        entries, tail_bytes = self.tail_entries + 1, self.tail_bytes + size_bytes
        if entries < config.snapshot_entries and tail_bytes < config.snapshot_bytes:
            return False
        return tail_bytes >= self.snapshot_size or entries >= _MOST_ENTRIES_FACTOR * config.snapshot_entries

    def snapshot_taken(self, number: int, size_bytes: int) -> None:
        """The journal has a snapshot as of this entry, which was the last one that was cut."""
        self.last_number = number
        self.tail_entries = self.tail_bytes = 0
        self.snapshot_size = size_bytes

    def cut(self) -> Entry | None:
        """Take what has gathered; what comes now is the next entry."""
        self.flying, self.gathering = self.gathering, None
        return self.flying

    def merge(self) -> None:
        """What has gathered since is on its way with the entry that flies."""
        flying, more = self.flying, self.gathering
        if flying is None or more is None:
            return
        self.gathering = None
        self.tail = flying
        flying.outputs += more.outputs
        flying.waiters += more.waiters
        flying.size_bytes += more.size_bytes

    def committed(self) -> None:
        """The entry that flies is committed: say what waited for it."""
        entry, self.flying = self.flying, None
        if entry is None:
            return
        if self.tail is entry:
            self.tail = None
        self.pending_bytes -= entry.size_bytes
        for edge, envelope, session in entry.outputs:
            if session is not None:
                session.waiting -= 1
            if envelope is not None and edge.up:
                try:
                    edge.link.send(envelope)
                except Exception as error:
                    _log.error("envelope not sent", group=self._group.name, error=repr(error))
        for done in entry.waiters:
            done.set()

    def give_up(self) -> None:
        """The group is another origin's, or nobody's: nothing that waits is said, and nothing is journaled any more."""
        self.lost = self.off = True
        entries = (self.flying, self.gathering)
        self.flying = self.gathering = self.tail = None
        self.pending_bytes = 0
        self.stalled = False
        for entry in entries:
            if entry is None:
                continue
            for _, _, session in entry.outputs:
                if session is not None:
                    session.waiting -= 1
            for done in entry.waiters:
                done.set()
