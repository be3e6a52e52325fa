"""The clients of the object load on socket pairs: the test is the server."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.shared_object import Event, EventType, encode_shared_object
from support.waiting import eventually

from bench import object_clients
from bench.object_clients import ObjectClients
from bench.object_layout import ClientSpec
from bench.object_plan import ObjectPlan
from bench.object_wire import encode_request, object_name, slot_name
from bench.session import SessionError, Target

CLIENTS = [ClientSpec(0, "room", (0,), 0), ClientSpec(0, "room", (0,))]
WINDOW = 3
REQUEST_BYTES = len(encode_request(CLIENTS[0], 1, 0, True))


class Server:
    """The other ends of the clients' connections, in their order."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []
        self.version = 0

    def open(self, *_: object) -> socket.socket:
        theirs, ours = socket.socketpair()
        self.ends.append(ours)
        return theirs

    def heard(self) -> list[bytes]:
        """The requests of the first client, from its next on; it acknowledges first, once."""
        data = self.ends[0].recv(65536)
        data = data[len(data) % REQUEST_BYTES :]
        return [data[at : at + REQUEST_BYTES] for at in range(0, len(data), REQUEST_BYTES)]

    def answer(self, request: bytes, *, tell: bool = True) -> None:
        """Success for the requester and, with `tell`, a Change for the listener."""
        self.version += 1
        self._send(0, Event(EventType.SUCCESS, slot_name(0, 0)))
        if tell:
            self._send(1, Event(EventType.CHANGE, slot_name(0, 0), request[-27:]))

    def _send(self, end: int, event: Event) -> None:
        message = encode_shared_object(object_name(0), self.version, True, [event])
        self.ends[end].sendall(encode_message(message, csid_for(message.type_id), 60_000))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(object_clients, "open_member", made.open)
    yield made
    for end in made.ends:
        end.close()


@pytest.fixture
def clients(server: Server) -> Iterator[ObjectClients]:
    with closing(ObjectClients(ObjectPlan("127.0.0.1", (1,), "live", CLIENTS, WINDOW, True, 0))) as made:
        opened: list[int] = []
        made.open_all(opened.append)
        assert opened == [1, 2]
        yield made


def read_all(clients: ObjectClients, messages: int) -> None:
    """Until so many have come to members."""

    def come() -> bool:
        clients.turn(0.01)
        return clients.tally.delivered >= messages

    eventually(come, within_s=5, what=f"{messages} messages")


def test_a_requester_keeps_its_window_full(server: Server, clients: ObjectClients) -> None:
    clients.start(None)
    requests = server.heard()
    assert len(requests) == WINDOW
    server.answer(requests[0])
    read_all(clients, 2)
    assert clients.sent == WINDOW + 1
    assert len(server.heard()) == 1


def test_a_window_counts_what_came(server: Server, clients: ObjectClients) -> None:
    clients.start(None)
    begun = clients.begin()
    clients.stop()
    for request in server.heard():
        server.answer(request)
    read_all(clients, 2 * WINDOW)
    assert clients.counted(begun) == (0, WINDOW, 2 * WINDOW)
    assert clients.drain() == (0, 0)
    assert clients.new_faults() == (0, 0, 0, 0)


def test_what_does_not_come_is_told(
    server: Server, clients: ObjectClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_clients, "_DRAIN_S", 0.0)
    clients.start(None)
    clients.stop()
    first, second, _ = server.heard()
    server.answer(first)
    server.answer(second, tell=False)
    read_all(clients, 3)
    assert clients.drain() == (1, 1)


def test_a_rate_is_kept_without_answers(server: Server, clients: ObjectClients) -> None:
    clients.start(500.0)

    def sent() -> bool:
        clients.turn(0.01)
        return clients.sent >= 10

    eventually(sent, within_s=5, what="10 messages")


def test_a_closed_client_is_counted(server: Server, clients: ObjectClients) -> None:
    server.ends[1].close()

    def closed() -> bool:
        clients.turn(0.01)
        return clients.closed == 1

    eventually(closed, within_s=5, what="the client is closed")


def test_an_order_is_seen(clients: ObjectClients) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        clients.watch(theirs.fileno())
        assert not clients.turn(0.0)
        ours.send(b"x")
        assert clients.turn(1.0)


class Starting(Server):
    """Two edges that listen one after the other, and the later one not for long."""

    def __init__(self, refuses: dict[int, list[bool]]) -> None:
        super().__init__()
        self.refuses = refuses

    def open(self, *args: object) -> socket.socket:
        target = args[0]
        assert isinstance(target, Target)
        if self.refuses[target.port] and self.refuses[target.port].pop(0):
            raise ConnectionRefusedError(target.port)
        return super().open()


@pytest.mark.parametrize("fails_later", [False, True])
def test_every_edge_is_waited_for_and_then_must_be_there(
    monkeypatch: pytest.MonkeyPatch, fails_later: bool
) -> None:
    starting = Starting({1: [True], 2: [True, True, False, fails_later]})
    monkeypatch.setattr(object_clients, "open_member", starting.open)
    monkeypatch.setattr(object_clients, "_RETRY_S", 0.0)
    members = [
        ClientSpec(edge, "room", (0,), 0 if number == 0 else None) for number, edge in enumerate((0, 1, 1, 0))
    ]
    opened: list[int] = []
    with closing(ObjectClients(ObjectPlan("127.0.0.1", (1, 2), "live", members, 1, True, 0))) as clients:
        if fails_later:
            with pytest.raises(SessionError, match="client 3: 2"):
                clients.open_all(opened.append)
        else:
            clients.open_all(opened.append)
    assert opened == ([1, 2] if fails_later else [1, 2, 3, 4])
    for end in starting.ends:
        end.close()
