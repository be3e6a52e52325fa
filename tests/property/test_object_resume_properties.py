"""Clients of one SharedObject on two edges, while origins die and links are lost at any point: nothing that was not committed
survives, and what an origin says arrives batch by batch, as a whole or not at all. In the end all replicas are what the object
is; each client has heard everything that was said between its UseSuccess and its end, once and in order; each request was carried
out once and answered. Whatever a client hears, of the object or as a word, it hears in the order in which it was done.

Origins one after the other on one journal, and the edges' own replicas, without sockets.
"""

from itertools import pairwise
from typing import Any

from headwater_amf import amf0
from headwater_bus.rows import unpack_rows as unpack_payload
from headwater_origin.durable.journal import RowKind, unpack_rows
from headwater_origin.durable.said import SaidKind
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.message import COMMANDS, Message
from headwater_store import Journals
from hypothesis import given, settings
from hypothesis import strategies as st
from support.journal_bench import JournaledBench, memory_journals
from support.object_bench import CHANGED, CLEAR, DELETE, RELEASE, REMOVED, SEND, SENT, SET, USE
from support.object_cast import Speaking
from support.origin_bench import ME, settle
from support.resuming_edges import GROUP, Reader, ResumingEdge
from support.waiting import eventually

NAME = "board"
CLIENTS = 4
KEYS = st.sampled_from(["x", "y", "z"])
EVENTS = st.one_of(
    st.tuples(st.just("set"), KEYS),
    st.tuples(st.just("set"), KEYS),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("clear")),
    st.tuples(st.just("say")),
)
WHO, WHERE = st.integers(0, CLIENTS - 1), st.integers(0, 1)
STEPS = st.one_of(
    st.tuples(st.just("ask"), WHO, st.lists(EVENTS, min_size=1, max_size=4)),
    st.tuples(st.just("ask"), WHO, st.lists(EVENTS, min_size=1, max_size=4)),
    st.tuples(st.just("turn"), WHO, st.lists(EVENTS, max_size=2)),
    st.tuples(st.just("say"), st.just(0)),
    st.tuples(st.sampled_from(["tell", "whisper"]), WHO),
    st.tuples(st.sampled_from(["tell", "whisper"]), WHO),
    st.tuples(st.just("commit"), st.just(0)),
    st.tuples(st.just("deliver"), WHERE),
    st.tuples(st.just("deliver"), WHERE),
    st.tuples(st.just("flush"), WHERE),
    st.tuples(st.just("acknowledge"), WHERE),
    st.tuples(st.just("cut"), WHERE, st.booleans()),
    st.tuples(st.just("connect"), WHERE),
    st.tuples(st.just("crash"), st.just(0)),
    # What is committed and has reached one edge at most.
    st.tuples(st.just("speak"), WHO),
    st.tuples(st.just("die"), st.integers(0, 2)),
)


class World:
    """One group, its origins one after the other, and two edges with two clients each."""

    def __init__(self) -> None:
        self.journals: Journals = memory_journals()
        self.limits: dict[str, Any] = {
            "messages_per_s": 10**6,
            "messages_burst": 10**6,
            "snapshot_entries": 10**6,
        }
        self.bench = JournaledBench(Speaking, self.journals, **self.limits)
        self.edges = [ResumingEdge("edge-1"), ResumingEdge("edge-2", gathers=True)]
        self.using: set[int] = set()
        self.uses = dict.fromkeys(range(CLIENTS), 0)
        self.serial = 0
        self.made: list[float] = []
        """Values that were set, each once."""
        self.said: list[float] = []
        self.words: list[float] = []
        self._begin()
        self.clients: list[Reader] = []
        for edge in self.edges:
            self._connect(edge)
        for who in range(CLIENTS):
            self.clients.append(self.edges[who % 2].join(who + 1, amf3=who > 1))
        self.quiet()
        for who in range(CLIENTS - 1):
            self.step("turn", who, [])
        self.quiet()

    def _begin(self) -> None:
        self.bench.committing.kill()
        self.bench.change("group", GROUP, ME, self.bench.epoch)

    def _connect(self, edge: ResumingEdge) -> None:
        if edge.link is None:
            edge.connect(self.bench.origin, self.bench.epoch)
            self.settled()

    def settled(self) -> None:
        """Whatever can run has run."""
        settle()
        group = self.bench.origin.groups.get(GROUP)
        if group is not None:
            eventually(group.started.is_set, within_s=10)
            settle()

    def commit(self) -> None:
        self.bench.origin.committer._commit()
        settle()

    def crash(self) -> None:
        """The origin is gone, with all that it has not committed, and all that no edge has."""
        self.bench.crash()
        for edge in self.edges:
            edge.forget_link()
        self.bench = self.bench.successor(**self.limits)
        self._begin()

    def quiet(self) -> None:
        """Everything that is under way arrives."""
        for edge in self.edges:
            self._connect(edge)
        moved = True
        while moved:
            self.settled()
            self.commit()
            moved = False
            for edge in self.edges:
                moved = edge.deliver() or moved
                moved = edge.flush() or moved
                edge.link.ack()  # type: ignore[union-attr]  # It is connected.

    def events(self, wanted: list[Any]) -> list[tuple[Any, ...]]:
        made: list[tuple[Any, ...]] = []
        for kind, *key in wanted:
            self.serial += 1
            if kind == "set":
                self.made.append(float(self.serial))
                made.append((SET, *key, float(self.serial)))
            elif kind == "delete":
                made.append((DELETE, *key))
            elif kind == "clear":
                made.append((CLEAR,))
            else:
                self.said.append(float(self.serial))
                made.append((SEND, "hear", float(self.serial)))
        return made

    def step(self, kind: str, what: int, *rest: Any) -> None:
        if kind == "ask" and what in self.using:
            self.clients[what].ask(NAME, *self.events(rest[0]))
        elif kind == "turn":
            # With what it asks for in the same message, behind the one and before the other.
            client = self.clients[what]
            if what in self.using:
                self.using.remove(what)
                client.ask(NAME, *self.events(rest[0]), (RELEASE,))
            elif not client.kept:
                # Answers that it has not got by now were to what it released.
                self.using.add(what)
                self.uses[what] += 1
                client.ask(NAME, (USE,), *self.events(rest[0]))
        elif kind == "say":
            self._say()
        elif kind in ("tell", "whisper"):
            self.serial += 1
            self.words.append(float(self.serial))
            self.clients[what].message(encode_command(kind, 0, None, float(self.serial)))
        elif kind == "speak":
            self.step("tell", what)
            self.step("ask", what, [("say",), ("set", "x")])
            self.step("whisper", what)
            self.step("ask", what, [("say",)])
        elif kind == "die":
            self.commit()
            if what < len(self.edges):
                self.edges[what].deliver()
            self.crash()
        elif kind == "commit":
            self.commit()
        elif kind == "deliver":
            self.edges[what].deliver()
        elif kind == "flush":
            self.edges[what].flush()
        elif kind == "acknowledge":
            link = self.edges[what].link
            if link is not None:
                link.ack()
        elif kind == "cut":
            self.edges[what].cut(rest[0])
        elif kind == "connect":
            self._connect(self.edges[what])
        elif kind == "crash":
            self.crash()
        settle()

    def _say(self) -> None:
        """The application speaks; nobody does it again when its origin dies."""
        group: Any = self.bench.origin.groups.get(GROUP)
        if group is not None and group.started.is_set():
            group.application.shared_object(NAME).send("hear", 0.0)

    def truth(self) -> tuple[list[float], list[float], dict[str, Any]]:
        """What the journal says: values in the order in which they were set, messages, and the content; `done` by client: all
        that it may hear, in order."""
        loaded = self.journals.open(GROUP, self.bench.epoch + 1)
        made: list[float] = []
        said: list[float] = []
        slots: dict[str, Any] = {}
        self.done: list[list[tuple[str, Any]]] = [[] for _ in self.clients]
        for entry in loaded.entries:
            for row in unpack_rows(entry):
                if row[0] in (RowKind.SAID, RowKind.BROADCAST):
                    self._word(row)
                if row[0] != RowKind.OBJECT:
                    continue
                for kind, key, value in unpack_payload(row[-1], int, str, bytes):
                    if kind == CHANGED:
                        slots[key] = amf0.decode(value)[0]
                        made.append(slots[key])
                        self._done("set", made[-1])
                    elif kind == SENT:
                        said.append(amf0.decode_all(value)[1])
                        self._done("send", said[-1])
                    elif kind == REMOVED:
                        slots.pop(key)
                    else:
                        slots.clear()
        return made, said, slots

    def _word(self, row: list[Any]) -> None:
        to_all = row[0] == RowKind.BROADCAST
        form = row[2] if to_all else row[3]
        if form[0] == SaidKind.BROADCAST or (form[0] == SaidKind.TO_CLIENT and form[1] in COMMANDS):
            payload = form[2] if form[0] == SaidKind.BROADCAST else form[4]
            word = decode_command(Message(form[1], 0, 0, payload)).args[-1]
            self._done("word", word, "" if to_all else row[1])

    def _done(self, kind: str, value: float, session_id: str = "") -> None:
        for done, client in zip(self.done, self.clients, strict=True):
            if session_id in ("", client.session_id):
                done.append((kind, value))


def follows(heard: list[float], said: list[float]) -> bool:
    """Whether it is all that was said for a while."""
    return any(said[at : at + len(heard)] == heard for at in range(len(said) + 1))


def disorder(heard: list[tuple[str, Any]], done: list[tuple[str, Any]]) -> str:
    """What is wrong with the order; but what the application sends of itself has no number."""
    heard = [thing for thing in heard if thing[1]]
    if len(set(heard)) < len(heard):
        return f"twice: {heard}"
    places = {thing: at for at, thing in enumerate(done)}
    for one, two in pairwise(heard):
        if places[one] > places[two]:
            return f"{one} before {two}: {heard}"
    return ""


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_no_commit_is_lost_or_heard_twice(steps: list[Any]) -> None:
    world = World()
    for step in steps:
        world.step(*step)
    world.quiet()
    for who in sorted(world.using):
        world.clients[who].ask(NAME, *world.events([("set", "last"), ("say",)]))
    world.quiet()
    made, said, slots = world.truth()
    assert sorted(made) == world.made
    assert sorted({value for done in world.done for kind, value in done if kind == "word"}) == world.words
    assert sorted(value for value in said if value) == world.said
    for who, client in enumerate(world.clients):
        assert not client.kept
        assert client.statuses == []
        assert disorder(client.sequence, world.done[who]) == ""
        # Words reach also who does not use the object.
        assert [value for kind, value in client.sequence if kind == "word"] == [
            value for kind, value in world.done[who] if kind == "word"
        ]
        # Who has released it in time may not hear that it used it.
        assert len(client.segments) <= world.uses[who]
        for heard in client.segments:
            assert follows(heard, said), (heard, said)
        if who in world.using:
            assert {key: left for key, left in client.asked.items() if left} == {}
            assert client.slots == slots
            if client.segments[-1]:
                assert client.segments[-1][-1] == said[-1]
    assert world.bench.origin.counters.internal_errors == 0
    assert world.bench.origin.counters.handler_errors == 0
