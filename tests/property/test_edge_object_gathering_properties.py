"""Two SharedObjects of an edge that gather, tell at any time, and are said things between: every client hears all that is said
and asked for, in the order in which it was done, and all changes too unless it is slow; in the end it has what the objects are.
"""

from typing import Any

from headwater_amf import amf0
from headwater_edge.object_pending import tell_pending
from headwater_rtmp.chunk import encode_message
from headwater_rtmp.message import OBJECTS, Message
from headwater_rtmp.shared_object import decode_shared_object
from hypothesis import given, settings
from hypothesis import strategies as st
from support.edge import messages_in
from support.edge_object import CHANGE, CLEAR, REMOVE, SEND, SUCCESS, USED, Board, FakeClient, value

CLIENTS, BOARDS = 4, 2
"""Of the clients one is such as RTMPT's, and one of AMF3."""
WHO, WHERE = st.integers(0, CLIENTS - 1), st.integers(0, BOARDS - 1)
KEYS = st.sampled_from("xyz")
EVENTS = st.one_of(
    st.tuples(st.just(CHANGE), KEYS),
    st.tuples(st.just(CHANGE), KEYS),
    st.tuples(st.just(REMOVE), KEYS),
    st.tuples(st.just(CLEAR)),
    st.tuples(st.just(SEND)),
)
STEPS = st.one_of(
    st.tuples(st.just("commit"), WHERE, st.none() | WHO, st.lists(EVENTS, min_size=1, max_size=3)),
    st.tuples(st.just("commit"), WHERE, st.none() | WHO, st.lists(EVENTS, min_size=1, max_size=3)),
    st.tuples(st.just("flush"), WHERE),
    st.tuples(st.sampled_from(["join", "leave", "away"]), WHO, WHERE),
    st.tuples(st.sampled_from(["word", "full", "drain"]), WHO),
    st.tuples(st.just("answer"), WHO, WHERE, KEYS),
)
Told = tuple[str, int, str | None, Any]
"""Object, event type, slot, value; or a word: the first is empty."""


def plain(raw: bytes | None) -> Any:
    """A raw value, or a message, of either AMF version."""
    return None if raw is None else amf0.decode_all(raw)


class Listener:
    """A client, and what it should hear. `away`: what is held back from it, by object."""

    def __init__(self, session: int) -> None:
        self.client = FakeClient(session, amf3=session == 2, holds=session == 3)
        self.expected: list[Told] = []
        self.was_slow = False
        self.away: dict[Board, list[Told]] = {}

    def expects(self, board: Board, rows: list[Told]) -> None:
        if board.fanout in self.client.objects:
            self.away.get(board, self.expected).extend(rows)

    def heard(self) -> list[Told]:
        rows: list[Told] = []
        for message in messages_in(self.client.received):
            if message.type_id not in OBJECTS:
                rows.append(("", 0, None, message.payload))
                continue
            about = decode_shared_object(message)
            rows += [(about.name, event.type, event.key, plain(event.value)) for event in about.events]
        return rows


class World:
    """The objects and their clients."""

    def __init__(self) -> None:
        self.boards = [Board(name, gathers=True) for name in ("one", "two")]
        self.listeners = [Listener(session) for session in range(1, CLIENTS + 1)]
        self.serial = 0
        for listener in self.listeners[:3]:
            for board in self.boards[: listener.client.session]:
                self.join(listener, board)

    def join(self, listener: Listener, board: Board) -> None:
        listener.away.pop(board, None)
        values = board.fanout.slots.values
        board.rejoin(listener.client)
        content = [(board.fanout.name, CHANGE, key, plain(raw)) for key, raw in values.items()]
        listener.expects(
            board,
            [(board.fanout.name, USED, None, None), (board.fanout.name, CLEAR, None, None), *content],
        )

    def commit(self, board: Board, who: int | None, wanted: list[Any]) -> None:
        events: list[tuple[int, str, bytes]] = []
        for kind, *key in wanted:
            self.serial += 1
            if kind == CHANGE:
                events.append((CHANGE, *key, value(self.serial)))
            elif kind == SEND:
                events.append((SEND, "", amf0.encode(f"hear {self.serial}")))
            else:
                events.append((kind, *(key or [""]), b""))
        requester = None if who is None else self.listeners[who]
        if requester is not None and (
            board.fanout not in requester.client.objects or board in requester.away
        ):
            requester = None
        name = board.fanout.name
        for listener in self.listeners:
            rows: list[Told] = []
            for kind, key, raw in events:
                if kind == CHANGE and listener is requester:
                    rows.append((name, SUCCESS, key, None))
                elif kind == CHANGE:
                    rows.append((name, CHANGE, key, plain(raw)))
                elif kind == SEND:
                    rows.append((name, SEND, None, plain(raw)))
                else:
                    rows.append((name, kind, key or None, None))
            listener.expects(board, rows)
        board.commit(*events, by=None if requester is None else requester.client)

    def back(self, listener: Listener) -> None:
        """Its origin goes on with it."""
        for board, held in list(listener.away.items()):
            del listener.away[board]
            listener.expected += held
            board.fanout.let_out(listener.client.session, -1)

    def step(self, kind: str, *rest: Any) -> None:
        if kind == "commit":
            self.commit(self.boards[rest[0]], *rest[1:])
            return
        if kind == "flush":
            self.boards[rest[0]].fanout.flush()
            return
        listener = self.listeners[rest[0]]
        client: Any = listener.client
        if kind == "full":
            client.objects_full = listener.was_slow = True
        elif kind == "drain":
            client.drain()
        elif kind == "word" and not listener.away:
            self.serial += 1
            payload = b"word %d" % self.serial
            tell_pending(client)
            client.enqueue(encode_message(Message(18, 0, 0, payload), 3, 128))
            listener.expected.append(("", 0, None, payload))
        elif kind in ("word", "away") and listener.away:
            self.back(listener)
        elif kind != "word":
            self._of_one(kind, listener, self.boards[rest[1]], *rest[2:])

    def _of_one(self, kind: str, listener: Listener, board: Board, key: str = "") -> None:
        client: Any = listener.client
        if kind == "join":
            if not listener.away:
                self.join(listener, board)
        elif board.fanout not in client.objects:
            return
        elif kind == "leave":
            tell_pending(client)
            del client.objects[board.fanout]
            board.fanout.leave(client.session)
            listener.away.pop(board, None)
        elif kind == "away":
            # As when the group of both has lost its origin.
            for fanout_board in self.boards:
                if fanout_board.fanout in client.objects:
                    fanout_board.fanout.goes_away(client.session)
                    listener.away[fanout_board] = []
        elif kind == "answer" and board not in listener.away:
            raw = board.fanout.slots.values.get(key)
            board.fanout.answer(client.session, [(REMOVE, key)])
            name = board.fanout.name
            listener.expects(
                board, [(name, REMOVE, key, None) if raw is None else (name, CHANGE, key, plain(raw))]
            )


def urgent(rows: list[Told]) -> list[Told]:
    """What also who is slow hears, in order."""
    return [row for row in rows if row[1] in (0, SEND, SUCCESS, USED)]


def contents(rows: list[Told]) -> dict[str, dict[str, Any]]:
    """What a client has, by object, where nothing that it asked for is left."""
    slots: dict[str, dict[str, Any]] = {}
    for name, kind, key, held in rows:
        values = slots.setdefault(name, {})
        if kind == CLEAR:
            values.clear()
        elif kind == CHANGE and key is not None:
            values[key] = held
        elif kind == REMOVE and key is not None:
            values.pop(key, None)
    return slots


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_every_client_hears_everything_in_order(steps: list[Any]) -> None:
    world = World()
    for step in steps:
        world.step(*step)
    for listener in world.listeners:
        world.back(listener)
    for board in world.boards:
        # Whatever was asked for is overwritten, as only who has asked knows what it was.
        world.commit(board, None, [(CLEAR,), (CHANGE, "x"), (SEND,), (CHANGE, "y")])
        board.fanout.flush()
        assert not board.fanout.gathered
    for listener in world.listeners:
        listener.client.drain()
        heard = listener.heard()
        if not listener.was_slow:
            assert heard == listener.expected
        assert urgent(heard) == urgent(listener.expected)
        has = contents(heard)
        for board in world.boards:
            if board.fanout in listener.client.objects:
                values = board.fanout.slots.values.items()
                assert has[board.fanout.name] == {key: plain(raw) for key, raw in values}
