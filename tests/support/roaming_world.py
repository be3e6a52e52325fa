"""One group with RTMPT clients that go from edge to edge, while whatever is between them moves on, hangs, is lost or dies."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar
from unittest import mock

import gevent
from gevent.event import Event
from headwater_origin import Client, remote
from headwater_rtmp.rtmpt import Verb
from headwater_store import Append, Fenced, Journals, Loaded, StoreError, WentBack, open_leases

from support.journal_bench import JournaledBench, memory_journals
from support.object_bench import CLEAR, DELETE, SEND, SET
from support.object_cast import Speaking
from support.origin_bench import ME, settle
from support.resuming_edges import GROUP
from support.roaming_clients import ObjectName, Roamer
from support.roaming_edges import FOREVER_S, RoamingEdge, Wire

NAMES: list[ObjectName] = [("board", False), ("wall", True)]
CLIENTS = 3
ALL = 10**6
_Given = ParamSpec("_Given")
_Got = TypeVar("_Got")
_World = TypeVar("_World", bound="RoamingWorld")


class Talking(Speaking):
    """Also with an answer."""

    allow_publish = True

    @remote
    def echo(self, client: Client, word: float) -> float:
        return word

    @remote
    def told(self, client: Client, word: float) -> float:
        self.broadcast("word", word)
        return word


class Recording:
    """Journals that note what was committed."""

    def __init__(self) -> None:
        self.inner: Journals = memory_journals()
        self.entries: list[bytes] = []

    def append(self, batch: list[Append]) -> list[Fenced | WentBack | None]:
        outcomes = self.inner.append(batch)
        for asked, outcome in zip(batch, outcomes, strict=True):
            if outcome is None:
                self.entries += asked.entries
        return outcomes

    def open_many(self, wanted: list[tuple[str, int]]) -> list[Loaded | StoreError]:
        return self.inner.open_many(wanted)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Steps:
    """Instead of the thread in which the store is called. `early`: what is asked for is done at once; only that it is done is not
    known until `go`."""

    def __init__(self) -> None:
        self.go = Event()
        self.go.set()
        self.early = False

    def call(self, function: Callable[_Given, _Got], *args: _Given.args, **kwargs: _Given.kwargs) -> _Got:
        if self.early:
            got = function(*args, **kwargs)
            self.go.wait()
            return got
        self.go.wait()
        return function(*args, **kwargs)

    def end_with(self, function: Callable[[], None]) -> None:
        function()


class RoamingWorld:
    """See the module."""

    roamer: type[Roamer] = Roamer

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        """Of the edges."""
        self.now = 1000.0
        self.journals = Recording()
        self.leases = open_leases("memory:", "rtmpt")
        self.acting: RoamingEdge | None = None
        self.wires: list[Wire] = []
        self.boots = 0
        self.boot = "origin-0"
        self.bench = self._begin(JournaledBench(Talking, self.journals, **self._limits()))  # type: ignore[arg-type]  # all that it needs
        self.edges = [self._edge("edge-1"), self._edge("edge-2")]
        self._committing: gevent.Greenlet[..., None] | None = None
        self.merges = "object_queue_bytes" in settings
        """Whether others' changes may be told together."""
        self.serial = 1
        self.made: list[float] = []
        self.said: list[float] = []
        self.words: list[float] = []
        self.clients = [self.roamer(number, number == 2) for number in range(CLIENTS)]

    def begin(self) -> None:
        """All clients connect, and two use an object."""
        for client in self.clients:
            self.exchange(client, self.edges[client.number % 2])
        self.quiet()
        for client in self.clients:
            client.connect()
        self.quiet()
        for client in self.clients[:2]:
            client.use(NAMES[0])
        self.quiet()

    def _limits(self) -> dict[str, Any]:
        return {
            "messages_per_s": 10**6,
            "messages_burst": 10**6,
            "snapshot_entries": 10**6,
            "attach_hold_s": FOREVER_S,
            "resume_grace_s": FOREVER_S,
            "group_linger_s": FOREVER_S,
        }

    def _begin(self, bench: JournaledBench) -> JournaledBench:
        bench.committing.kill()
        bench.origin.host.clock = lambda: self.now
        self.thread = Steps()
        committer: Any = bench.origin.committer
        committer._thread = committer._opening._thread = self.thread
        bench.change("group", GROUP, ME, bench.epoch)
        settle()
        return bench

    def _edge(self, name: str) -> RoamingEdge:
        self.boots += 1
        return RoamingEdge(self, name, f"b{self.boots}", self.leases, **self.settings)

    def edge_of(self, client: Roamer) -> RoamingEdge:
        """That it asked last."""
        return next(edge for edge in self.edges if edge.name == client.at)

    def wire(self, **settings: Any) -> Wire:
        """Instead of EdgeLink."""
        assert self.acting is not None
        made = Wire(self, self.acting, settings)
        self.wires = [wire for wire in self.wires if not wire.over]
        self.wires.append(made)
        return made

    def later(self, *args: Any) -> None:
        """Instead of gevent's."""
        assert self.acting is not None
        if not callable(args[0]):
            args = args[1:]
        job, *rest = args
        self.acting.timers.append(lambda: job(*rest))

    # What moves

    def wires_of(self, edge: RoamingEdge) -> list[Wire]:
        """Also those that it has lost, and those of a former process."""
        return [wire for wire in self.wires if wire._edge.name == edge.name]

    def rise(self, edge: RoamingEdge, count: int) -> bool:
        moved = False
        for wire in self.wires_of(edge):
            moved = wire.rise(count) or moved
        settle()
        return moved

    def fall(self, edge: RoamingEdge) -> bool:
        return not edge.hangs and edge.fall()

    def commit(self, half: str = "") -> None:
        """Commit what has gathered. Of `half` a commit only the beginning: "cut", or "done" and not known."""
        if self._committing is not None:
            self.thread.go.set()
            settle()
            self._committing = None
        if half:
            self.thread.go.clear()
        self.thread.early = half == "done"
        self._committing = gevent.spawn(self.bench.origin.committer._commit)
        settle()
        if not half:
            assert self._committing.ready()
            self._committing = None

    def flow(self, edge: RoamingEdge) -> bool:
        """What an edge and the origin have for each other arrives."""
        moved = self.rise(edge, ALL)
        self.commit()
        while self.fall(edge):
            moved = True
        if edge.wire is not None and not edge.hangs:
            edge.wire.acknowledge()
        return moved

    def work(self, edge: RoamingEdge) -> bool:
        """An edge does all that it has to do, with the store."""
        moved = False
        while not edge.hangs and (edge.serve() or edge.store() or edge.hear_store()):
            moved = True
        return moved

    def post(self, client: Roamer, edge: RoamingEdge, gone: bool = True) -> None:
        """A client asks an edge. Before it asks another one the same, as there is no answer, a second passes: edges that do not
        hang, and the origin, have heard of each other by then. Where they have not, an edge that has lost the session may answer
        that there is nothing, though the other has told something that nobody hears any more."""
        if client.verb is Verb.IDLE and client.body is not None and client.at != edge.name:
            self._meet()
        client.post(edge, gone)

    def _meet(self) -> None:
        here = [edge for edge in self.edges if not edge.hangs]
        for _ in range(3):
            for edge in here:
                while edge.learn():
                    pass
                edge.time_is_up()
                self.sort_out(edge)
            for edge in self.edges:
                self.rise(edge, ALL)
            for edge in here:
                self.flow(edge)

    def sort_out(self, edge: RoamingEdge) -> None:
        """Who has not noticed yet that a link is lost does."""
        for wire in self.wires_of(edge):
            if wire.gone and wire.failure is None:
                edge.lose()
                edge.time_is_up()
            if wire.failure is not None and wire.far is not None:
                wire.sink()

    def thaw(self, edge: RoamingEdge) -> None:
        """An edge that has hung for long goes on."""
        if edge.hangs:
            edge.hangs = False
            edge.doubt()

    def exchange(self, client: Roamer, edge: RoamingEdge) -> bool:
        """A client asks an edge, and has the answer, if that works."""
        news = client.news
        self.post(client, edge)
        self.work(edge)
        self.look()
        if client.attempt is not None and not edge.hangs:
            edge.ring()
            self.work(edge)
            self.look()
        return client.news > news

    def look(self) -> bool:
        news = [client.look() for client in self.clients]
        return any(news)

    def die(self, edge: RoamingEdge) -> None:
        """Another process of the same name begins."""
        at = self.edges.index(edge)
        for request in [client.attempt for client in self.clients if client.at == edge.name]:
            if request is not None:
                request.abort()
        self.look()
        self.edges[at] = self._edge(edge.name)
        for wire in self.wires_of(edge):
            wire.failure = wire.failure or "dead"

    def crash(self) -> None:
        """The origin dies; another process of its name goes on. What edges have told is stored by then: a client that loses its
        origin, and its edge before that has stored what it told last, may lose that. Who was where the next origin does not know,
        so it may be told a whole content instead of changes."""
        self.merges = True
        for edge in self.edges:
            self.thaw(edge)
        for client in self.clients:
            self.exchange(client, self.edge_of(client))
        if self._committing is not None:
            self._committing.kill()
            self._committing = None
        self.bench.crash()
        self.boots += 1
        self.boot = f"origin-{self.boots}"
        self.bench = self._begin(self.bench.successor(**self._limits()))
        for edge in self.edges:
            edge.feed.append(["node", [ME, "origin", self.boot, "inproc://x", 1.0, {"apps": ["app"]}, {}]])
            edge.feed.append(["group", GROUP, ME, self.bench.epoch])

    def pass_time(self) -> None:
        """So much that objects are closed where nobody uses them."""
        self.now += 6.0
        for group in list(self.bench.origin.groups.values()):
            group.tick(self.now)
        settle()

    def quiet(self) -> None:
        """Everything arrives, and everybody is told everything."""
        still = 0
        for _ in range(200):
            moved = False
            for edge in self.edges:
                self.thaw(edge)
                while edge.learn():
                    moved = True
                moved = edge.time_is_up() or moved
                self.sort_out(edge)
                moved = self.work(edge) or moved
                moved = self.flow(edge) or moved
            for client in self.clients:
                if not client.ended:
                    moved = client.wants or moved
                    moved = self.exchange(client, self.edge_of(client)) or moved
            still = 0 if moved else still + 1
            if still > 2:
                return
        raise AssertionError("never quiet")

    # What clients do

    def events(self, wanted: list[Any]) -> list[tuple[Any, ...]]:
        made: list[tuple[Any, ...]] = []
        for kind, *key in wanted:
            self.serial += 1
            value = float(self.serial)
            if kind == "set":
                self.made.append(value)
                made.append((SET, *key, value))
            elif kind == "delete":
                made.append((DELETE, *key))
            elif kind == "clear":
                made.append((CLEAR,))
            else:
                self.said.append(value)
                made.append((SEND, "hear", value))
        return made

    def ask(self, client: Roamer, name: ObjectName, wanted: list[Any]) -> None:
        if name in client.using:
            client.ask(name, *self.events(wanted))

    def turn(self, client: Roamer, name: ObjectName, wanted: list[Any]) -> None:
        if name in client.using:
            client.release(name, *self.events(wanted))
        else:
            client.use(name, *self.events(wanted))

    def call(self, client: Roamer, method: str) -> None:
        self.serial += 1
        value = float(self.serial)
        if method != "echo":
            self.words.append(value)
        client.command(method, value, value if method in ("echo", "told") else 0.0)


@contextmanager
def roaming(kind: type[_World], **settings: Any) -> Iterator[_World]:
    """A world whose edges have these settings."""
    world = kind(**settings)
    fake = mock.Mock()
    fake.spawn_later = fake.spawn = world.later
    with (
        mock.patch("headwater_edge.cluster.EdgeLink", world.wire),
        mock.patch("headwater_edge.attaching.gevent", fake),
        mock.patch("headwater_origin.origin.SLICE_S", FOREVER_S),
        mock.patch("headwater_origin.group.SLICE_S", FOREVER_S),
    ):
        world.begin()
        yield world
