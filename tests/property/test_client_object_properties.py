"""However requests and answers cross on the wire, in the end every client shows what the server has."""

from collections import deque
from typing import Any

from headwater_client.object_state import HandlerCall, ObjectState
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.client_object_model import ModelObject

CLIENTS = (0, 1, 2)
READER = 2
"""This one's changes are all refused; the others' only with a value of 13."""
KEYS = st.sampled_from("xyz")
VALUES = st.one_of(st.integers(0, 15).map(float), st.lists(st.integers(0, 3).map(float), max_size=2))
WHO = st.sampled_from(CLIENTS)
Operations = list[tuple[Any, ...]]

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), WHO, KEYS, VALUES),
        st.tuples(st.just("set"), WHO, KEYS, VALUES),
        st.tuples(st.just("remove"), WHO, KEYS),
        st.tuples(st.just("clear"), WHO),
        st.tuples(st.just("update"), WHO, st.dictionaries(KEYS, VALUES, min_size=1)),
        st.tuples(st.just("say"), WHO),
        st.tuples(st.just("server"), KEYS, VALUES),
        st.tuples(st.just("resync"), WHO),
        st.tuples(st.just("use again"), WHO),
        st.tuples(st.just("up"), WHO),
        st.tuples(st.just("up"), WHO),
        st.tuples(st.just("down"), WHO),
        st.tuples(st.just("down"), WHO),
    ),
    max_size=60,
)


def refuses(client: object, key: str, value: object) -> bool:
    return client == READER or value == 13.0


class World:
    """A server, three clients (one of them speaks AMF3), and what is on the wires between them."""

    def __init__(self) -> None:
        self.server = ModelObject(persistent=True, refuses=refuses)
        self.states = {client: ObjectState(amf3=client == 1) for client in CLIENTS}
        self.up: dict[int, deque[Message]] = {client: deque() for client in CLIENTS}
        self.down: dict[int, deque[Message]] = {client: deque() for client in CLIENTS}
        self.heard: dict[int, list[float]] = {client: [] for client in CLIENTS}
        self.said: list[float] = []
        for client in CLIENTS:
            self.ask(client, Event(EventType.USE))

    def ask(self, client: int, *events: Event) -> None:
        self.up[client].append(
            encode_shared_object("board", self.states[client].version, True, events, client == 1)
        )

    def deliver(self, deliveries: list[tuple[Any, Message]]) -> None:
        for client, message in deliveries:
            self.down[client].append(message)

    def carry_up(self, client: int) -> None:
        if self.up[client]:
            asked = decode_shared_object(self.up[client].popleft())
            self.said += [1.0 for event in asked.events if event.type == EventType.SEND_MESSAGE]
            self.deliver(self.server.request(client, asked.events, client == 1, asked.version))

    def carry_down(self, client: int) -> None:
        if self.down[client]:
            outcomes = self.states[client].receive(decode_shared_object(self.down[client].popleft()))
            self.heard[client] += [
                outcome.args[0] for outcome in outcomes if isinstance(outcome, HandlerCall)
            ]

    def do(self, operation: tuple[Any, ...]) -> None:
        what, *rest = operation
        if what == "server":
            self.deliver(self.server.set(*rest))
            return
        client, *args = rest
        state = self.states[client]
        if what == "set":
            self.ask(client, state.set(*args))
            assert state.contents[args[0]] == args[1]
        elif what == "remove":
            self.ask(client, state.remove(*args))
            assert args[0] not in state.contents
        elif what == "clear":
            self.ask(client, state.clear())
            assert state.contents == {}
        elif what == "update":
            self.ask(client, *(state.set(key, value) for key, value in args[0].items()))
        elif what == "say":
            self.ask(client, state.handler_call("say", (1.0,)))
        elif what == "use again":
            self.ask(client, Event(EventType.USE))
        elif what == "resync":
            if client in self.server.users:
                self.deliver(self.server.resync(client))
        elif what == "up":
            self.carry_up(client)
        else:
            self.carry_down(client)

    def settle(self) -> None:
        while any(self.up.values()) or any(self.down.values()):
            for client in CLIENTS:
                self.carry_up(client)
                self.carry_down(client)


@settings(max_examples=400, deadline=None)
@given(OPERATIONS)
# Another's value comes while ours is on its way; two of ours around another's; removals that cross.
@example([("up", 0), ("up", 1), ("set", 0, "x", 1.0), ("set", 1, "x", 2.0), ("up", 1), ("up", 0)])
@example(
    [
        ("up", 0),
        ("up", 1),
        ("set", 0, "x", 1.0),
        ("up", 0),
        ("set", 1, "x", 2.0),
        ("up", 1),
        ("set", 0, "x", 3.0),
    ]
)
@example(
    [
        ("up", 0),
        ("up", 1),
        ("server", "x", 1.0),
        ("remove", 0, "x"),
        ("set", 0, "x", 2.0),
        ("remove", 1, "x"),
        ("up", 1),
    ]
)
@example(
    [
        ("up", 0),
        ("up", 1),
        ("server", "x", 1.0),
        ("set", 0, "y", 2.0),
        ("clear", 0),
        ("clear", 1),
        ("up", 1),
        ("down", 0),
    ]
)
@example([("set", 0, "x", 1.0), ("set", 0, "x", 13.0), ("set", 0, "x", 2.0), ("set", 0, "x", 13.0)])
def test_contents_equal_the_servers_when_everything_has_arrived(operations: Operations) -> None:
    world = World()
    for operation in operations:
        world.do(operation)
    world.settle()
    for client, state in world.states.items():
        assert state.unanswered == 0, client
        assert state.contents == world.server.contents, client
        assert state.version == world.server.version, client
        assert state.synced
    # A `say` reaches those who use the object when the server takes it, so nobody hears more than were said.
    assert all(len(world.heard[client]) <= len(world.said) for client in CLIENTS)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS)
def test_a_client_never_sees_a_slot_jump_back_while_its_own_request_is_on_the_way(
    operations: Operations,
) -> None:
    """Client 0 sets a slot of its own choice last: until the server has answered, that value is what shows."""
    world = World()
    for operation in operations:
        world.do(operation)
    world.do(("set", 0, "mine", 5.0))
    state = world.states[0]
    for client in (1, 2):
        world.do(("server", "mine", float(client)))
    while world.down[0]:
        world.carry_down(0)
        assert state.contents["mine"] == 5.0
    world.settle()
    assert state.contents == world.server.contents
