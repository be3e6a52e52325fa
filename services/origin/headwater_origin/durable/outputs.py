"""What a group has journaled and not committed yet, and what it says to edges meanwhile: that waits behind it, in order.

All rows since the last commit began are one entry. With the journal off nothing ever waits. What an entry lets out leaves in one
step, so one number for each session, that of the entry, says what it has been told.
"""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from gevent import getcurrent
from gevent.event import Event
from headwater_bus.logs import get_log

from headwater_origin.durable.entry import Entry
from headwater_origin.durable.journal import RowKind
from headwater_origin.durable.reached import Reached
from headwater_origin.durable.said import STORED, Form, Said, SaidLog, envelope_of, form_of
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


class Outputs:
    """Of one group. `count` of rows ever journaled tells whether something was."""

    __slots__ = (
        "_committer",
        "_group",
        "_reached",
        "committed_number",
        "count",
        "epoch",
        "flying",
        "gathering",
        "last_number",
        "lost",
        "off",
        "order",
        "pending_bytes",
        "said",
        "settled",
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
        self.committed_number = 0
        """Of the last entry that is committed and has been said."""
        self.settled = 0
        """Nobody needs any more what was said with entries up to this one: every edge has taken it, and no session that is to
        come back may lack it."""
        self.order = 0
        """Of the last commit of any SharedObject. All of them are counted together, so that who comes back is told what it has
        missed, of all objects and of what is said, in the order in which it was done."""
        self.said = SaidLog()
        self._reached = Reached()
        self.tail_entries = self.tail_bytes = self.snapshot_size = 0
        """Entries since the last snapshot, their bytes, and the bytes of that."""

    @property
    def next_number(self) -> int:
        """Of the entry that gathers, or of the next one."""
        return self.last_number + 1

    def next_order(self) -> int:
        """Of one more commit of a SharedObject."""
        self.order += 1
        return self.order

    # Journaling

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
        # As _grow does it, without the call: this is done for each change.
        size = _ROW_BYTES + len(payload) if type(payload) is bytes else _ROW_BYTES
        entry.size_bytes += size
        self.pending_bytes += size
        if self.pending_bytes > self._committer.limit_bytes:
            self.stalled = True

    def begin(self) -> None:
        """Have an entry committed, without a row if there is none: what is said from here on waits for it."""
        if self.gathering is None and not self.off:
            self._gather()

    def _gather(self) -> Entry:
        entry = self.gathering = self.tail = Entry()
        self._committer.dirty(self._group)
        return entry

    def _grow(self, entry: Entry, size: int) -> None:
        entry.size_bytes += size
        self.pending_bytes += size
        if self.pending_bytes > self._committer.limit_bytes:
            self.stalled = True

    # How far sessions are

    def applied(self, session: "Session", number: int, is_kept: bool = True) -> None:
        """The last message of a session that is applied with what was just journaled; what it has been told for its messages up
        to this one, and may not have heard, is in the entry as well. `is_kept`: whether the number is, which it is not when the
        session has ended."""
        entry = self.gathering
        if entry is None:
            entry = self._gather()
        sessions = entry.applied if is_kept else entry.done
        if session not in sessions:
            session.waiting += 1
        sessions[session] = number
        if session.unheard:
            self._keep_answers(entry, session)

    def _keep_answers(self, entry: Entry, session: "Session") -> None:
        unheard, session.unheard = session.unheard or (), None
        for said in unheard:
            if session.lacks(said.number, said.position):
                row = [int(RowKind.SAID), session.session_id, said.number, said.form]
                if said.order < self.order:
                    row.append(self.order - said.order)
                self._keep(entry, said, row)

    def _keep(self, entry: Entry, said: Said, row: list[Any]) -> None:
        entry.rows.append(row)
        entry.said.append(said)
        self.said.add(said)
        self._grow(entry, _ROW_BYTES + said.size_bytes)

    def done(self, session: "Session", number: int) -> None:
        """A message of a session that journaled nothing is done: its edge need not keep it any more, as soon as all is said to
        the session that waits."""
        if session.waiting and self.tail is not None:
            if session not in self.tail.done:
                session.waiting += 1
            self.tail.done[session] = number
        else:
            session.done = number
            session.edge.note(session)

    def forget_number(self, session: "Session") -> None:
        """A session is gone: its number is not journaled behind that."""
        if self.gathering is not None and self.gathering.applied.pop(session, None) is not None:
            session.waiting -= 1

    # Saying

    def send(self, edge: "EdgePort", envelope: Any, session: "Session | None" = None) -> None:
        """Say something to an edge when everything journaled so far is committed. `session`: whom it concerns."""
        said = None
        if session is not None and session.handler is not None and not self.off and type(envelope) in STORED:
            said = self._answers(session, envelope)
        tail = self.tail
        if tail is None:
            self._tell(edge, envelope, said)
        else:
            self._wait(tail, edge, envelope, session, said)

    def reply(self, session: "Session", envelope: Any) -> None:
        """Say what depends on no journaled state: at once, unless something of this session waits."""
        if session.waiting:
            self.send(session.edge, envelope, session)
            return
        said = None
        if session.handler is not None and not self.off and type(envelope) in STORED:
            said = self._answers(session, envelope)
        self._tell(session.edge, envelope, said)

    def ask(self, session: "Session", envelope: Any) -> None:
        """Ask a client for an answer that a handler waits for: `send`, but it is not part of the answer to the message that runs.
        Where the origin dies that message runs again, and asks again."""
        tail = self.tail
        if tail is None:
            self._tell(session.edge, envelope, None)
        else:
            self._wait(tail, session.edge, envelope, session, None)

    def tell_state(self, session: "Session", envelope: Any, said: Said) -> None:
        """`reply` with a SessionState; `said` notes where it is."""
        if session.waiting and self.tail is not None:
            self._wait(self.tail, session.edge, envelope, session, said)
        else:
            self._tell(session.edge, envelope, said)

    def _tell(self, edge: "EdgePort", envelope: Any, said: Said | None) -> None:
        if self.lost:
            return  # Whoever has the group now says it.
        load = self._group.load
        load.messages += 1
        load.bytes += len(getattr(envelope, "payload", b""))
        link = edge.link
        link.send(envelope)
        if said is not None:
            said.position = link.position

    def _wait(
        self, tail: Entry, edge: "EdgePort", envelope: Any, session: "Session | None", said: Said | None
    ) -> None:
        tail.outputs.append((edge, envelope, session, said))
        if session is not None:
            session.waiting += 1
        size, load = len(getattr(envelope, "payload", b"")), self._group.load
        load.messages += 1
        load.bytes += size
        size += _OUTPUT_BYTES  # As in `journal`.
        tail.size_bytes += size
        self.pending_bytes += size
        if self.pending_bytes > self._committer.limit_bytes:
            self.stalled = True

    def _answers(self, session: "Session", envelope: Any) -> Said | None:
        """Note what the message of a session that runs here says to it: should that, or a later one, journal something, it is
        stored, as the message does not run again then."""
        if session.handler is not getcurrent():
            return None
        form = form_of(session.edge, envelope)
        if form is None:
            return None
        said = Said((session.session_id,), session.handling, form, self.order)
        unheard = session.unheard
        if unheard is None:
            session.unheard = [said]
            return said
        # Not all of them each time: who has many calls under way would pay for each with as many looks.
        heard = 0
        for one in unheard:
            if session.lacks(one.number, one.position):
                break
            heard += 1
        del unheard[:heard]
        unheard.append(said)
        return said

    def say(
        self, row: list[Any], session_ids: Collection[str], form: Form, here: "Iterable[Session]"
    ) -> None:
        """Say something as an effect: it is journaled as `row`, and said to who is `here`, of all whom it concerns. Of the
        others, who comes back hears it."""
        if self.lost:
            return
        self.count += 1
        if self.off:
            for session in here:
                self._tell(session.edge, envelope_of(form, session), None)
            return
        entry = self.gathering or self._gather()
        said = Said(session_ids, 0, form, self.order)
        self._keep(entry, said, row)
        for session in here:
            self._wait(entry, session.edge, envelope_of(form, session), session, None)
            if session not in entry.done:
                # So that the edge learns of the entry.
                session.waiting += 1
                entry.done[session] = 0

    def unheard(self, session: "Session", applied: int, heard: int) -> list[tuple[int, Any]]:
        """What a session that has come back has not heard, over its present link: each with the order of the commit that it was
        said behind."""
        again = [
            (said.order, envelope)
            for said in self.said.unheard(session.session_id, applied, heard)
            if (envelope := envelope_of(said.form, session)) is not None
        ]
        self._group.counters.said_again += len(again)
        return again

    def told_again(self, session: "Session") -> None:
        """It has been told all of that: have its edge know how far it is."""
        self.done(session, session.done)
        if self.tail is None:
            self._reached.said(session.edge, self.settled)
        else:
            self.tail.again.setdefault(session.edge, self.settled)

    def hold(self, session: "Session") -> None:
        """Let what is said to a session from here on wait for what was just journaled, built-in answers too."""
        if self.tail is not None:
            self.tail.outputs.append((session.edge, None, session, None))
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

    # What is settled

    def taken_by(self, edge: "EdgePort") -> int:
        """Entries up to this one an edge has taken everything of."""
        reached = self._reached.of(edge, self.committed_number)
        return min([reached, *(entry.again.get(edge, reached) for entry in self._waiting())])

    @property
    def reached(self) -> int:
        """Entries up to this one all edges have taken everything of."""
        return self._reached.by_all(self.committed_number)

    def forget_edge(self, edge: "EdgePort") -> None:
        """Its link is down."""
        self._reached.forget(edge)
        for entry in self._waiting():
            entry.again.pop(edge, None)

    def settle(self) -> None:
        """Look what nobody needs any more."""
        group = self._group
        settled = min(self.reached, group.absent.needed, group.roaming.needed)
        # Whoever has come back may have to be told once more still, behind what waits.
        self.settled = min([settled, *(above for entry in self._waiting() for above in entry.again.values())])
        self.said.settle(self.settled)

    def _waiting(self) -> list[Entry]:
        return [entry for entry in (self.flying, self.gathering) if entry is not None]

    def health(self) -> dict[str, Any]:
        """What waits, and how long the journal is."""
        return {
            "number": self.last_number,
            "tail_entries": self.tail_entries,
            "tail_bytes": self.tail_bytes,
            "pending_bytes": self.pending_bytes,
            "said": len(self.said),
            "stalled": self.stalled,
        }

    # The committer's side

    def opened(self, epoch: int, loaded: "Loaded") -> None:
        """The journal is open, and holds this."""
        self.epoch, self.last_number = epoch, loaded.tail
        self.committed_number = loaded.tail
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
        self.last_number = max(number, self.last_number)
        self.tail_entries = self.tail_bytes = 0
        self.snapshot_size = size_bytes

    def went_back(self, seen: int) -> bool:
        """An edge has heard of entry `seen`. Whether the journal ends before it: the store has lost some. The next entry then
        comes above it, which the store will not take, and so finds out what is missing (Committer)."""
        if self.off or seen <= self.last_number:
            return False
        self.begin()
        self.last_number = seen
        return True

    def cut(self) -> Entry | None:
        """Take what has gathered; what comes now is the next entry."""
        entry = self.flying = self.gathering
        self.gathering = None
        if entry is not None:
            self._number(entry, self.next_number)
        return entry

    def _number(self, entry: Entry, number: int) -> None:
        entry.number = number
        for said in entry.said:
            said.entry = number

    def merge(self) -> None:
        """What has gathered since is on its way with the entry that flies."""
        flying, more = self.flying, self.gathering
        if flying is None or more is None:
            return
        self.gathering = None
        self.tail = flying
        flying.outputs += more.outputs
        flying.again = {**more.again, **flying.again}
        flying.waiters += more.waiters
        flying.size_bytes += more.size_bytes
        flying.said += more.said
        self._number(flying, flying.number)
        for mine, theirs in ((flying.applied, more.applied), (flying.done, more.done)):
            for session, number in theirs.items():
                if session in mine:
                    session.waiting -= 1
                mine[session] = max(number, mine.get(session, 0))

    def committed(self) -> None:
        """The entry that flies is committed: say what waited for it."""
        entry, self.flying = self.flying, None
        if entry is None:
            return
        if self.tail is entry:
            self.tail = None
        self.pending_bytes -= entry.size_bytes
        before, self.committed_number = self.committed_number, entry.number
        edges: dict[EdgePort, None] = {}
        for edge, envelope, session, said in entry.outputs:
            if session is not None:
                session.waiting -= 1
            # Who is absent is told when it is here again.
            if envelope is not None and edge.up and (session is None or not session.absent):
                edges[edge] = None
                try:
                    edge.link.send(envelope)
                except Exception as error:
                    _log.error("envelope not sent", group=self._group.name, error=repr(error))
                if said is not None:
                    said.position = edge.link.position
        for sessions in (entry.applied, entry.done):
            for session, number in sessions.items():
                session.waiting -= 1
                if not session.absent:
                    if number > session.done:
                        session.done = number
                    session.edge.note(session)
        for edge in {**edges, **entry.again}:
            self._reached.said(edge, entry.again.get(edge, before))
        if self.said:
            self.settle()  # Otherwise the next tick is soon enough.
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
            if entry is not None:
                entry.waits_no_more()
                for done in entry.waiters:
                    done.set()

    def reopened(self) -> None:
        """The group goes on after all, at the epoch that it had."""
        self.lost = False
        self.off = self._committer.off
