"""The clients of the fail-over load on socket pairs: the test is the server."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.shared_object import Event, EventType, encode_shared_object
from support.waiting import eventually

from bench import object_clients
from bench.failover_clients import FailoverClients
from bench.object_layout import ClientSpec
from bench.object_plan import ObjectPlan
from bench.object_wire import encode_request, object_name, slot_name

CLIENTS = [ClientSpec(0, "f0000", (0,), 0), ClientSpec(1, "f0000", (0,))]
REQUEST_BYTES = len(encode_request(CLIENTS[0], 1, 0, True))


class Server:
    """The other ends of the writer's and the reader's connections."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []
        self.version = 0
        self._heard = b""

    def open(self, *_: object) -> socket.socket:
        theirs, ours = socket.socketpair()
        ours.setblocking(False)
        self.ends.append(ours)
        return theirs

    def heard(self) -> list[bytes]:
        """The writer's requests that have not been returned yet; it acknowledges first, once."""
        try:
            self._heard += self.ends[0].recv(65536)
        except BlockingIOError:
            pass
        data = self._heard[len(self._heard) % REQUEST_BYTES :]
        self._heard = b""
        return [data[at : at + REQUEST_BYTES] for at in range(0, len(data), REQUEST_BYTES)]

    def tell(self, *requests: bytes) -> None:
        """A Change of each in one message for the reader, and as many Successes for the writer."""
        self.version += len(requests)
        changes = [Event(EventType.CHANGE, slot_name(0, 0), request[-27:]) for request in requests]
        self._send(1, changes)
        self._send(0, [Event(EventType.SUCCESS, slot_name(0, 0))] * len(requests))

    def _send(self, end: int, events: list[Event]) -> None:
        message = encode_shared_object(object_name(0), self.version, True, events)
        self.ends[end].sendall(encode_message(message, csid_for(message.type_id), 60_000))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(object_clients, "open_member", made.open)
    yield made
    for end in made.ends:
        end.close()


@pytest.fixture
def clients(server: Server) -> Iterator[FailoverClients]:
    plan = ObjectPlan("127.0.0.1", (1, 2), "live", CLIENTS, 1, True, None)
    with closing(FailoverClients(plan)) as made:
        made.open_all(lambda opened: None)
        yield made


def sent(clients: FailoverClients, server: Server, count: int) -> list[bytes]:
    """Until the writer has sent so many more."""
    requests: list[bytes] = []

    def enough() -> bool:
        clients.turn(0.01)
        requests.extend(server.heard())
        return len(requests) >= count

    eventually(enough, within_s=5, what=f"{count} requests")
    return requests


def read_all(clients: FailoverClients, count: int) -> None:
    """Until all of these have reached the reader and the writer."""

    def come() -> bool:
        clients.turn(0.01)
        return clients.tally.answered >= count

    eventually(come, within_s=5, what=f"{count} answers")


def test_a_window_has_what_each_client_saw_since_it_began(server: Server, clients: FailoverClients) -> None:
    clients.start(200.0)
    before = sent(clients, server, 2)
    server.tell(*before)
    read_all(clients, len(before))
    begun, began_ns = clients.begin(), clients.base_ns + clients.now_ns()
    inside = sent(clients, server, 3)
    clients.stop()
    inside += server.heard()
    server.tell(*inside)
    read_all(clients, len(before + inside))
    window = clients.end(begun)
    writer, reader = window.traces
    assert len(writer.arrivals_ns) == len(reader.arrivals_ns) == len(inside)
    assert all(began_ns < at_ns < clients.base_ns + clients.now_ns() for at_ns in reader.arrivals_ns)
    # They came together, so the first that was sent is the latest.
    assert list(reader.delays_ns) == sorted(reader.delays_ns, reverse=True)
    assert min(reader.delays_ns) > 0
    assert (window.answered, window.faults) == (len(inside), 0)


def test_every_writer_sends_when_it_is_told_to_beside_what_is_due(
    server: Server, clients: FailoverClients
) -> None:
    clients.start(0.001)
    sent(clients, server, 1)
    clients.send_each()
    assert len(sent(clients, server, 1)) == 1
    assert clients.sent == 2


def test_what_never_comes_is_a_fault(
    server: Server, clients: FailoverClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_clients, "_DRAIN_S", 0.0)
    clients.start(200.0)
    begun = clients.begin()
    sent(clients, server, 1)
    window = clients.end(begun)
    assert (window.unanswered > 0, window.behind) == (True, 1)
    assert [len(trace.arrivals_ns) for trace in window.traces] == [0, 0]
