"""Sessions that come back while something else happens to them: nothing is lost, and nobody stays a member who has gone."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from gevent.event import Event
from headwater_bus import traffic
from headwater_origin import Application, Client, remote
from headwater_origin.edge_port import EdgePort
from headwater_rtmp.command import encode_command
from support.journal_bench import JournaledBench, TestJournals
from support.origin_bench import ME, settle
from support.resuming_edges import GROUP, Reader, ResumingEdge
from support.waiting import eventually


class App(Application):
    gone: Counter[str] = Counter()  # noqa: RUF012
    go = Event()

    def on_disconnect(self, client: Client) -> None:
        self.gone[client.id] += 1

    @remote
    def leave(self, client: Client) -> None:
        self.go.wait()
        client.close("enough")

    @remote
    def read(self, client: Client) -> float:
        return 5.0

    @remote
    def tell(self, client: Client, word: str) -> None:
        self.broadcast("word", word)


class Edge(ResumingEdge):
    """One that notes that a client was closed."""

    closed = False

    def _carry_out(self, envelope: Any) -> None:
        if isinstance(envelope, traffic.CloseSession):
            self.closed = True
        else:
            super()._carry_out(envelope)


@pytest.fixture
def app() -> type[App]:
    return type("Fresh", (App,), {"gone": Counter(), "go": Event()})


@pytest.fixture
def bench(app: type[App]) -> Iterator[JournaledBench]:
    made = JournaledBench(app, TestJournals(), resume_grace_s=1000.0, commit_ms=0.0)
    made.change("group", GROUP, ME, made.epoch)
    yield made
    made.crash()


def member(bench: JournaledBench, edge: ResumingEdge, number: int) -> Reader:
    if edge.link is None:
        edge.connect(bench.origin, bench.epoch)
    client = edge.join(number)

    def there() -> bool:
        settle()
        edge.deliver()
        return client.attached

    eventually(there, within_s=10)
    assert edge.link is not None
    edge.link.ack()
    return client


def test_who_is_closed_while_it_comes_back_leaves_once(bench: JournaledBench, app: type[App]) -> None:
    edge = Edge("edge-1")
    client = member(bench, edge, 1)
    client.message(encode_command("leave", 2, None))
    settle()
    edge.cut()
    edge.connect(bench.origin, bench.epoch)
    settle()
    # It waits for its former self, whose method closes it now.
    app.go.set()

    def closed() -> bool:
        settle()
        edge.deliver()
        return edge.closed

    eventually(closed, within_s=10)
    bench.committed()
    group = bench.origin.groups[GROUP]
    assert app.gone == {client.session_id: 1}
    assert group.durable.members.known == {}
    assert len(group.absent) == 0


def test_what_comes_behind_an_attach_that_waits_is_the_new_session_s(bench: JournaledBench) -> None:
    """The registry grants a group anew to the origin that has it; the edge hears of it first, and attaches over the same link."""
    edge = Edge("edge-1")
    client = member(bench, edge, 1)
    edge._epoch = bench.epoch + 1
    edge.put(*edge._attach(client))
    client.message(encode_command("read", 2, None))
    settle()
    bench.change("group", GROUP, ME, bench.epoch + 1)

    def done() -> bool:
        settle()
        edge.deliver()
        return client.attached and not client.kept

    eventually(done, within_s=10)
    # What answers its connect, and the call.
    assert len(client.read) == 2


def test_who_leaves_while_its_attach_waits_is_no_ghost(bench: JournaledBench) -> None:
    edge = Edge("edge-1")
    client = member(bench, edge, 1)
    edge._epoch = bench.epoch + 1
    edge.put(*edge._attach(client), traffic.Detach(client.number, "gone"))
    bench.change("group", GROUP, ME, bench.epoch + 1)
    settle()
    group = bench.origin.groups[GROUP]
    assert not group.sessions
    # It may come back yet; if not, its time is up some day, or its edge says so.
    assert list(group.absent) == [client.session_id]


def test_what_nobody_lacks_is_forgotten_while_another_one_is_absent(bench: JournaledBench) -> None:
    """There may always be somebody."""
    edges = [Edge(f"edge-{at}") for at in range(3)]
    clients = [member(bench, edge, at + 1) for at, edge in enumerate(edges)]
    group = bench.origin.groups[GROUP]

    def told() -> None:
        for edge in edges:
            edge.deliver()
            if edge.link is not None:
                edge.link.ack()

    for turn in range(4):
        absent = edges[turn % 2]
        absent.cut()
        clients[2].message(encode_command("tell", 0, None, str(turn)))
        settle()
        bench.committed()
        told()
        other = edges[1 - turn % 2]
        if other.link is None:
            other.connect(bench.origin, bench.epoch)
            settle()
            bench.committed()
            told()
        group.tick(group.clock())
        assert len(group.absent) == 1
        assert len(group.outputs.said) == 1


def test_a_link_does_not_note_for_ever_who_has_gone_elsewhere(
    bench: JournaledBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater_origin.edge_port._MOST_DROPPED", 2)
    edge = Edge("edge-1")
    for number in range(1, 5):
        member(bench, edge, number)
    assert edge.link is not None
    port: EdgePort = edge.link.data
    bench.change("group", GROUP, "origin-other", bench.epoch + 1)
    settle()
    assert list(port.dropped) == [3, 4]
    bench.change("group", GROUP, ME, bench.epoch + 2)
    edge._epoch = bench.epoch + 2
    edge.put(*edge._attach(edge.clients[3]))
    assert list(port.dropped) == [4]


def test_who_is_due_leaves_also_where_too_much_is_kept_for_others(
    bench: JournaledBench, app: type[App]
) -> None:
    edges = [Edge(f"edge-{at}") for at in range(2)]
    clients = [member(bench, edge, at + 1) for at, edge in enumerate(edges)]
    group = bench.origin.groups[GROUP]
    edges[0].cut()
    group.absent.postpone(-2000.0)
    edges[1].cut()
    group.outputs.said.size_bytes += group.config.said_bytes + 1
    group.tick(group.clock())
    settle()
    assert app.gone == {client.session_id: 1 for client in clients}
