"""Everything that clients ask for happens once, in order, and everybody hears of it once: whatever is lost, and wherever in a
message's life its origin dies."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import gevent
import pytest
from headwater_bus.traffic import AttachRefused
from headwater_origin import Application, CallError, Client, remote
from headwater_rtmp.command import decode_command, encode_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.journal_bench import JournaledBench, TestJournals
from support.origin_bench import ME, settle
from support.resuming_edges import GROUP, Reader, ResumingEdge
from support.waiting import eventually

EDGES, PER_EDGE = 2, 2
KINDS = ("add", "read", "say", "say_to_room", "whisper", "slow", "refuse", "createStream", "nobody", "ask")


class Book(Application):
    """Each method answers with what shows whether it ran once."""

    resumed: Counter[str] = Counter()  # noqa: RUF012
    gone: Counter[str] = Counter()  # noqa: RUF012

    def on_connect(self, client: Client, *args: Any) -> None:
        self.room("tables/1").join(client)

    def on_resume(self, client: Client) -> None:
        type(self).resumed[client.id] += 1

    def on_disconnect(self, client: Client) -> None:
        type(self).gone[client.id] += 1

    def _count(self, key: str) -> float:
        self.state[key] = self.state.get(key, 0.0) + 1
        return float(self.state[key])

    @remote
    def add(self, client: Client, text: str) -> float:
        client.attributes["last"] = text
        return self._count("sum")

    @remote
    def read(self, client: Client, text: str) -> Any:
        return client.attributes.get("last")

    @remote
    def say(self, client: Client, text: str) -> None:
        self.broadcast("heard", text)

    @remote
    def say_to_room(self, client: Client, text: str) -> None:
        self.room("tables").broadcast("heard", text)

    @remote
    def whisper(self, client: Client, text: str) -> None:
        for other in self.clients:
            if other is not client:
                other.notify("heard", text)

    @remote
    def slow(self, client: Client, text: str) -> float:
        gevent.sleep(0)
        self.broadcast("heard", text)
        gevent.sleep(0)
        return self._count("sum")

    @remote
    def refuse(self, client: Client, text: str) -> None:
        raise CallError("Book.Refused", text)

    @remote
    def ask(self, client: Client, text: str) -> float:
        assert client.call("question", text) == text
        return self._count("sum")


class Player(Reader):
    """A client that notes what it is told, and answers what it is asked."""

    def __init__(self, edge: ResumingEdge, number: int) -> None:
        super().__init__(edge, number)
        self.answers: list[tuple[str, float, Any]] = []
        self.heard: list[str] = []
        self.transactions = count(2)

    def told(self, message: Any) -> None:
        command = decode_command(message)
        if command.name == "heard":
            self.heard.append(command.args[0])
        elif command.name == "question":
            self.message(encode_command("_result", command.transaction_id, None, command.args[0]))
        elif command.transaction_id > 1:
            value = command.args[0] if command.args else None
            self.answers.append((command.name, command.transaction_id, value))


class Edge(ResumingEdge):
    """One that attaches again when a test has it do so."""

    def _carry_out(self, envelope: Any) -> None:
        if not isinstance(envelope, AttachRefused):
            super()._carry_out(envelope)


class World:
    """Clients at edges, an origin that dies and has successors."""

    def __init__(self) -> None:
        self.app: type[Book] = type("Fresh", (Book,), {"resumed": Counter(), "gone": Counter()})
        self.journals = TestJournals()
        self.bench = self._bench(JournaledBench(self.app, self.journals, **self.config))
        self.edges = [Edge(f"edge-{at + 1}") for at in range(EDGES)]
        self.players: list[Player] = []
        self.asked: dict[int, list[tuple[str, float]]] = {}
        self.texts: list[tuple[str, Player]] = []
        for edge in self.edges:
            edge.connect(self.bench.origin, self.bench.epoch)
            for _ in range(PER_EDGE):
                number = len(self.players) + 1
                player = edge.clients[number] = Player(edge, number)
                edge.put(*edge._attach(player))
                self.players.append(player)
                self.asked[number] = []
        self.calm()

    config: dict[str, Any] = {"resume_grace_s": 1000.0, "snapshot_entries": 4, "commit_ms": 0.0}  # noqa: RUF012

    def _bench(self, bench: JournaledBench) -> JournaledBench:
        bench.change("group", GROUP, ME, bench.epoch)
        return bench

    # What happens

    def act(self, at: int, kind: str) -> None:
        """A client asks for something."""
        player = self.players[at]
        transaction = next(player.transactions)
        text = f"{kind} {player.number}.{transaction}"
        self.asked[player.number].append((kind, float(transaction)))
        if kind in ("say", "say_to_room", "whisper", "slow"):
            self.texts.append((text, player))
        player.message(encode_command(kind, transaction, None, *(() if kind == "createStream" else (text,))))
        settle()

    def crash(self, committed: bool) -> None:
        """The origin dies. `committed`: what is on its way to the store gets there, though nobody hears so."""
        self.bench.crash()
        self.journals.away = not committed
        self.journals.go()
        self.bench.origin.committer._thread.call(lambda: None)
        self.journals.away = False
        for edge in self.edges:
            edge.forget_link()
        self.bench = self._bench(self.bench.successor(**self.config))

    def stop(self, heard: bool) -> None:
        """The origin is told to stop. `heard`: its last words arrive before its links end."""
        self.journals.go()
        self.bench.origin.shutdown("bye", within_s=0.5)
        for edge in self.edges:
            if heard:
                edge.deliver()
            edge.forget_link()
        self.bench.crash()
        self.bench = self._bench(self.bench.successor(**self.config))

    def cut(self, at: int, lost: bool) -> None:
        """An edge's link is lost."""
        self.edges[at].cut(lost)
        settle()

    def connect(self, at: int) -> None:
        """An edge has a link again."""
        if self.edges[at].link is None:
            self.edges[at].connect(self.bench.origin, self.bench.epoch)
            settle()

    def calm(self) -> None:
        """Everything gets through."""
        self.journals.go()
        for at in range(EDGES):
            self.connect(at)

        def quiet() -> bool:
            settle()
            for edge in self.edges:
                edge.deliver()
                assert edge.link is not None
                edge.link.ack()
            settle()
            idle = all(group.outputs.tail is None for group in self.bench.origin.groups.values())
            return idle and all(player.attached and not player.kept for player in self.players)

        eventually(quiet, within_s=20)

    # What must be true

    def check(self) -> None:
        """Everybody has what there is to have, once."""
        effects = 0
        for player in self.players:
            asked = self.asked[player.number]
            assert [transaction for _, transaction, _ in player.answers] == [
                transaction for _, transaction in asked
            ], player.answers
            for (name, _, value), (kind, _) in zip(player.answers, asked, strict=True):
                assert name == ("_error" if kind in ("refuse", "nobody") else "_result"), (name, value)
                effects += kind in ("add", "slow", "ask")
            streams = [
                value
                for (_, _, value), (kind, _) in zip(player.answers, asked, strict=True)
                if kind == "createStream"
            ]
            assert streams == [float(at + 1) for at in range(len(streams))]
            expected = [text for text, by in self.texts if by is not player or not text.startswith("whisper")]
            assert Counter(player.heard) == Counter(expected)
            for other in self.players:
                mine = [text for text in player.heard if f" {other.number}." in text]
                assert mine == [text for text, by in self.texts if by is other and text in mine]
        (group,) = self.bench.origin.groups.values()
        assert group.durable.state.get("sum", 0.0) == effects
        sums = [
            value
            for p in self.players
            for (_, _, value), (kind, _) in zip(p.answers, self.asked[p.number], strict=True)
            if kind in ("add", "slow", "ask")
        ]
        assert sorted(sums) == [float(at + 1) for at in range(effects)]
        assert self.app.gone == Counter()
        self.bench.origin.tend(0.0)
        assert len(group.outputs.said) == 0
        assert len(group.absent) == 0

    def close(self) -> None:
        """The end."""
        self.bench.crash()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def before_it_is_handled(world: World, kind: str) -> None:
    world.cut(0, lost=True)
    world.act(0, kind)
    world.crash(committed=True)


def before_the_commit(world: World, kind: str) -> None:
    world.journals.hold()
    world.act(0, kind)
    world.crash(committed=False)


def behind_the_commit(world: World, kind: str) -> None:
    world.journals.hold()
    world.act(0, kind)
    world.crash(committed=True)


def before_it_is_told(world: World, kind: str) -> None:
    world.act(0, kind)
    world.bench.committed()
    settle()
    world.crash(committed=True)


def when_one_edge_was_told(world: World, kind: str) -> None:
    world.act(0, kind)
    world.bench.committed()
    settle()
    world.edges[1].deliver()
    world.crash(committed=True)


def when_its_edge_was_told(world: World, kind: str) -> None:
    world.act(0, kind)
    world.bench.committed()
    settle()
    world.edges[0].deliver()
    world.crash(committed=True)


def when_all_were_told(world: World, kind: str) -> None:
    world.act(0, kind)
    world.bench.committed()
    settle()
    for edge in world.edges:
        edge.deliver()
        assert edge.link is not None
        edge.link.ack()
    world.crash(committed=True)


def when_links_are_lost_before_the_commit(world: World, kind: str) -> None:
    world.journals.hold()
    world.act(0, kind)
    world.cut(0, lost=True)
    world.cut(1, lost=True)
    world.connect(0)
    world.connect(1)


def when_links_are_lost_before_it_is_told(world: World, kind: str) -> None:
    world.act(0, kind)
    world.bench.committed()
    settle()
    world.cut(0, lost=True)
    world.cut(1, lost=True)


def when_its_link_is_lost_when_it_is_told(world: World, kind: str) -> None:
    world.act(0, kind)
    world.bench.committed()
    settle()
    world.cut(0, lost=False)
    world.cut(1, lost=True)


def when_a_link_is_lost_and_then_the_origin(world: World, kind: str) -> None:
    world.journals.hold()
    world.act(0, kind)
    world.cut(0, lost=True)
    world.connect(0)
    world.crash(committed=True)
    world.connect(0)
    world.crash(committed=True)


def when_its_origin_stops(world: World, kind: str) -> None:
    world.act(0, kind)
    world.stop(heard=False)


def when_its_origin_stops_and_says_so(world: World, kind: str) -> None:
    world.act(0, kind)
    world.stop(heard=True)


LIFE = (
    when_its_origin_stops,
    when_its_origin_stops_and_says_so,
    before_it_is_handled,
    before_the_commit,
    behind_the_commit,
    before_it_is_told,
    when_one_edge_was_told,
    when_its_edge_was_told,
    when_all_were_told,
    when_links_are_lost_before_the_commit,
    when_links_are_lost_before_it_is_told,
    when_its_link_is_lost_when_it_is_told,
    when_a_link_is_lost_and_then_the_origin,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", LIFE, ids=lambda end: end.__name__)
def test_a_message_counts_once_wherever_in_its_life_something_dies(
    world: World, end: Callable[[World, str], None], kind: str
) -> None:
    world.act(0, "add")
    world.act(2, "say")
    world.calm()
    # One behind another, neither of them done.
    end(world, kind)
    world.act(0, "add")
    world.calm()
    world.check()


@pytest.mark.parametrize("first", ["read", "createStream", "refuse"])
def test_the_answer_of_a_message_that_changes_nothing_is_not_lost_with_one_that_does(
    world: World, first: str
) -> None:
    """The journal says that the second is done, so neither runs again."""
    world.act(0, first)
    world.act(0, "add")
    world.bench.committed()
    settle()
    world.crash(committed=True)
    world.calm()
    # What the first one has made is there, too.
    world.act(0, first)
    world.calm()
    world.check()


@pytest.mark.parametrize("second", ["read", "createStream", "refuse"])
def test_a_message_that_changes_nothing_is_not_done_before_the_one_before_it(
    world: World, second: str
) -> None:
    world.journals.hold()
    world.act(0, "add")
    world.act(0, second)
    world.edges[0].deliver()
    assert [envelope.number for envelope in world.players[0].kept] == [1, 2]
    assert world.players[0].answers == []
    world.crash(committed=False)
    world.calm()
    world.check()


@pytest.mark.parametrize("tends", [False, True])
def test_what_waits_to_be_said_again_is_kept_until_it_is(world: World, tends: bool) -> None:
    """It is said again behind what others have journaled meanwhile; the link is lost before that is committed."""
    world.act(1, "say")
    world.bench.committed()
    settle()
    world.cut(0, lost=True)
    world.edges[1].deliver()
    world.journals.hold()
    world.act(2, "add")
    assert world.edges[1].link is not None
    world.edges[1].link.ack()
    world.connect(0)
    if tends:
        world.bench.origin.tend(0.0)
    world.cut(0, lost=True)
    world.journals.go()
    world.bench.committed()
    settle()
    world.calm()
    world.check()


def test_each_client_is_told_to_the_application_once_when_it_comes_back(world: World) -> None:
    world.crash(committed=True)
    world.calm()
    assert world.app.resumed == {player.session_id: 1 for player in world.players}
    world.cut(0, lost=True)
    world.calm()
    assert world.app.resumed == {
        player.session_id: 2 - (player.edge is not world.edges[0]) for player in world.players
    }


ACTS = st.tuples(st.just("act"), st.integers(0, EDGES * PER_EDGE - 1), st.sampled_from(KINDS))
EVENTS = st.one_of(
    ACTS,
    ACTS,
    st.tuples(st.sampled_from(["deliver", "ack", "connect"]), st.integers(0, EDGES - 1)),
    st.tuples(st.just("cut"), st.integers(0, EDGES - 1), st.booleans()),
    st.tuples(st.sampled_from(["hold", "go"])),
    st.tuples(st.sampled_from(["crash", "stop"]), st.booleans()),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENTS, min_size=5, max_size=40))
def test_whatever_is_lost_in_whichever_order(events: list[tuple[Any, ...]]) -> None:
    world = World()
    try:
        for what, *how in events:
            if what == "deliver":
                world.edges[how[0]].deliver()
            elif what == "ack":
                link = world.edges[how[0]].link
                if link is not None:
                    link.ack()
            elif what in ("hold", "go"):
                getattr(world.journals, what)()
            else:
                getattr(world, what)(*how)
            settle()
        world.calm()
        world.check()
    finally:
        world.journals.go()
        world.close()
