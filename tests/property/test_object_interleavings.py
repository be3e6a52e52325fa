"""Clients and the application at one SharedObject, in any order, with a lock now and then and updates lost on the way to an edge:
in the end all who use it have what a plain model has and have heard what was said, and versions and commits only ever grow.

The origin's own objects and the edges' own replicas, without sockets.
"""

from collections import deque
from typing import Any

import gevent
from gevent.event import Event as Gate
from headwater_bus.traffic import Detach
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.object_bench import CLEAR, DELETE, RELEASE, SEND, SET, USE, Open
from support.object_edges import Copy, EdgeSide
from support.origin_bench import Bench, settle

NAME = "board"
KEYS = st.sampled_from(["x", "y", "z", "w"])
VALUES = st.sampled_from([1.0, 2.0, "three", [4.0], None])
CLIENTS = 4
EVENTS = st.one_of(
    st.tuples(st.just(SET), KEYS, VALUES),
    st.tuples(st.just(DELETE), KEYS),
    st.tuples(st.just(CLEAR)),
    st.tuples(st.just(SEND), st.just("hear"), st.integers(0, 99).map(float)),
)
WHO = st.integers(0, CLIENTS - 1)
STEPS = st.one_of(
    st.tuples(st.just("ask"), WHO, st.lists(EVENTS, min_size=1, max_size=5)),
    st.tuples(st.just("ask"), WHO, st.lists(EVENTS, min_size=1, max_size=5)),
    st.tuples(st.just("join"), WHO),
    st.tuples(st.just("leave"), WHO),
    st.tuples(st.just("gone"), WHO),
    st.tuples(st.just("change"), st.dictionaries(KEYS, VALUES, max_size=3)),
    st.tuples(st.just("empty")),
    st.tuples(st.just("say"), st.integers(100, 199).map(float)),
    st.tuples(st.just("lock")),
    st.tuples(st.just("unlock")),
    st.tuples(st.just("lose"), st.integers(0, 1)),
    st.tuples(st.just("purge")),
)


class Holder:
    """A greenlet of the application with the object's lock; it does what it is told until `unlock`."""

    def __init__(self, view: Any) -> None:
        self._view = view
        self.orders: deque[Any] = deque()
        self._wake = Gate()
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        with self._view.locked():
            while True:
                self._wake.wait()
                self._wake.clear()
                while self.orders:
                    order = self.orders.popleft()
                    if order is None:
                        return
                    order()

    def do(self, order: Any) -> None:
        self.orders.append(order)
        self._wake.set()
        settle()


class Model:
    """What the object should hold and what was said, in the order in which the origin should have taken it."""

    def __init__(self) -> None:
        self.slots: dict[str, Any] = {}
        self.said: list[list[Any]] = []
        self.locked = False
        self.held: list[Any] = []
        """What the holder of the lock did."""
        self.waiting: deque[int] = deque()
        """Clients in the order of their turns."""
        self.inboxes: dict[int, deque[Any]] = {}
        self.using: dict[int, int | None] = {}
        """By client: how much had been said when it joined."""
        self.heard: dict[int, list[list[Any]]] = {}

    def apply(self, events: list[Any]) -> None:
        for kind, *rest in events:
            if kind == SET and rest[1] is not None:
                self.slots[rest[0]] = rest[1]
            elif kind in (SET, DELETE):
                self.slots.pop(rest[0], None)
            elif kind == CLEAR:
                self.slots.clear()
            else:
                self.said.append(rest[1:])

    def post(self, who: int, what: Any) -> None:
        """A message of a client: at once, or behind its others, which wait for the lock."""
        inbox = self.inboxes.setdefault(who, deque())
        inbox.append(what)
        if len(inbox) == 1:
            self._work(who)

    def _work(self, who: int, turn: bool = False) -> None:
        inbox = self.inboxes[who]
        while inbox:
            kind = inbox[0][0]
            used = self.using.get(who) is not None
            if kind == "ask" and used and not turn and (self.locked or self.waiting):
                self.waiting.append(who)
                return
            turn = False
            what = inbox.popleft()
            if kind == "ask":
                if used:
                    self.apply(what[1])
            elif kind == "join":
                if not used:
                    self.using[who] = len(self.said)
            else:
                self.leave(who)

    def leave(self, who: int) -> None:
        since = self.using.get(who)
        if since is not None:
            self.heard.setdefault(who, []).extend(self.said[since:])
        self.using[who] = None

    def gone(self, who: int) -> None:
        self.leave(who)
        self.inboxes.pop(who, None)
        self.heard.pop(who, None)
        if who in self.waiting:
            self.waiting.remove(who)

    def unlock(self) -> None:
        self.locked = False
        self.apply(self.held)
        self.held = []
        while self.waiting:
            self._work(self.waiting.popleft(), turn=True)


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(STEPS, max_size=30))
# What the application has changed and what a client has asked for come to it as one message.
@example(
    False, [("join", 0), ("lock",), ("ask", 0, [(DELETE, "x"), (SET, "x", 1.0)]), ("change", {"x": 1.0})]
)
def test_all_clients_end_with_what_the_model_has(persistent: bool, steps: list[Any]) -> None:
    bench = Bench({"app": Open}, messages_per_s=10**6, messages_burst=10**6)
    edges = [EdgeSide(bench.edge()), EdgeSide(bench.edge())]
    model, clients = Model(), {}
    holder: Holder | None = None

    def connect(who: int) -> Copy:
        edge = edges[who % 2]
        client = bench.client(edge.link, amf3=who > 1)
        copy = clients[who] = Copy(client, settles=False, amf3=who > 1)
        edge.clients[client.number] = copy
        settle()
        return copy

    for who in range(CLIENTS):
        connect(who)
    view = clients[0].client.scope.shared_object(NAME, persistent)

    def by_application(events: list[Any], order: Any) -> None:
        if holder is None:
            model.apply(events)
            order()
        else:
            model.held += events
            holder.do(order)

    for kind, *rest in [*steps, ("unlock",)]:
        if kind in ("ask", "join", "leave", "gone"):
            who = rest[0]
            copy = clients[who]
            if kind == "gone":
                model.gone(who)
                copy.client.put(Detach(copy.client.number, "gone"))
                del edges[who % 2].clients[copy.client.number]
                if edges[who % 2].fanout is not None:
                    edges[who % 2].fanout.leave(copy.client.number)
                connect(who)
            elif kind == "ask":
                model.post(who, ("ask", rest[1]))
                copy.ask(NAME, *rest[1], persistent=persistent)
            else:
                model.post(who, (kind,))
                copy.ask(NAME, (USE,) if kind == "join" else (RELEASE,), persistent=persistent)
        elif kind == "change":
            by_application([(SET, *item) for item in rest[0].items()], lambda rest=rest: view.change(rest[0]))
        elif kind == "empty":
            by_application([(CLEAR,)], view.clear)
        elif kind == "say":
            by_application([(SEND, "hear", rest[0])], lambda rest=rest: view.send("hear", rest[0]))
        elif kind == "lock" and holder is None:
            holder, model.locked = Holder(view), True
        elif kind == "unlock" and holder is not None:
            holder.orders.append(None)
            holder._wake.set()
            holder = None
            model.unlock()
        elif kind == "lose":
            edges[rest[0]].drop = 1
        elif kind == "purge":
            by_application([], lambda: view.purge(view.version))
        settle()
        for edge in edges:
            edge.carry_out()
        settle()
    for edge in edges:
        edge.drop = 0
    view["last"] = 0.0
    model.apply([(SET, "last", 0.0)])
    for edge in edges:
        edge.carry_out()
    assert dict(view) == model.slots
    for who, copy in clients.items():
        if model.using.get(who) is not None:
            assert copy.slots == model.slots
            assert copy.version == view.version
        if not any(step[0] == "lose" for step in steps):
            model.leave(who)
            assert copy.heard == model.heard.get(who, [])
    for edge in edges:
        for before, after in zip(edge.commits, edge.commits[1:], strict=False):
            assert after[0] > before[0]
            assert after[1] > before[1] if after[2] else after[1] == before[1]


class Watching(Open):
    """Keeps what its handlers are told of the object."""

    def on_start(self) -> None:
        self.copy: dict[str, Any] = {}
        self.shared_object(NAME).on_change(self.changed)

    def changed(self, changes: dict[str, Any]) -> None:
        for key, value in changes.items():
            if value is None:
                self.copy.pop(key, None)
            else:
                self.copy[key] = value


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.lists(EVENTS, min_size=1, max_size=5)), max_size=12))
def test_the_application_is_told_of_every_change(messages: list[Any]) -> None:
    bench = Bench({"app": Watching})
    clients = [Copy(bench.client(bench.edge())) for _ in range(2)]
    settle()
    for copy in clients:
        copy.ask(NAME, (USE,))
    for who, events in messages:
        clients[who].ask(NAME, *events)
        if len(events) % 2:
            settle()
    settle()
    application = clients[0].client.scope
    assert application.copy == dict(application.shared_object(NAME))
    assert bench.origin.counters.handler_errors == 0
