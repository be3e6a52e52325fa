"""The origin: messages that may wait, of many clients, in the greenlets of their group. No sockets."""

from typing import Any

import gevent
from gevent.event import Event
from headwater_origin import Application, Client, remote
from support.journal_bench import JournaledBench, memory_journals
from support.origin_bench import Bench, FakeClient, settle
from support.waiting import eventually


class App(Application):
    def __init__(self, group: Any) -> None:
        super().__init__(group)
        self.greenlets: list[object] = []
        self.gate = Event()
        self.order: list[tuple[str, int]] = []

    @remote
    def note(self, client: Client, number: float = 0) -> float:
        self.greenlets.append(gevent.getcurrent())
        self.order.append((client.id, int(number)))
        return number

    @remote
    def wait(self, client: Client) -> str:
        self.greenlets.append(gevent.getcurrent())
        self.gate.wait()
        return "waited"

    @remote
    def die(self, client: Client) -> None:
        raise gevent.GreenletExit


def stage(count: int) -> tuple[Bench, list[FakeClient], App]:
    bench = Bench({"app": App})
    link = bench.edge()
    clients = [bench.joined(link) for _ in range(count)]
    return bench, clients, bench.origin.groups["app/room"].application  # type: ignore[return-value]


def answers(client: FakeClient) -> list[Any]:
    return [told[2] for told in client.take() if isinstance(told, tuple) and told[0] == "_result"]


def test_what_does_not_wait_needs_one_greenlet_for_all() -> None:
    _, clients, app = stage(20)
    for client in clients:
        client.command("note", 1.0, transaction=2)
    settle()
    assert [answers(client) for client in clients] == [[1.0]] * 20
    assert len(set(app.greenlets)) == 1


def test_what_waits_holds_up_nobody_else() -> None:
    _, clients, app = stage(6)
    for number, client in enumerate(clients):
        client.command("wait" if number % 2 else "note", transaction=2)
        client.command("note", 1.0, transaction=3)
    settle()
    assert [answers(client) for client in clients] == [[0.0, 1.0], []] * 3
    # Each that waits has its greenlet for itself.
    assert len(set(app.greenlets)) == 3
    app.gate.set()
    settle()
    assert [answers(client) for client in clients[1::2]] == [["waited", 1.0]] * 3


def test_each_clients_messages_come_in_their_order() -> None:
    _, clients, app = stage(5)
    for number in range(50):
        for client in clients:
            client.command("note", float(number), transaction=number + 2)
        if number % 7 == 0:
            gevent.sleep(0)
    eventually(lambda: len(app.order) == 250, 5)
    for name in {name for name, _ in app.order}:
        assert [number for who, number in app.order if who == name] == list(range(50))


def test_a_greenlet_that_ends_half_way_leaves_the_rest_to_another() -> None:
    _, clients, _ = stage(4)
    clients[0].command("die", transaction=2)
    clients[0].command("note", 4.0, transaction=3)
    for client in clients[1:]:
        client.command("note", 2.0, transaction=2)
    settle()
    # A call that is neither carried out nor answered ends its session.
    assert [answers(client) for client in clients] == [[], [2.0], [2.0], [2.0]]
    assert clients[0].session.closed
    # And so it goes on.
    clients[1].command("note", 3.0, transaction=3)
    settle()
    assert answers(clients[1]) == [3.0]


class Asking(Application):
    """It asks somebody about each connect, and its greenlets may be ended."""

    def __init__(self, group: Any) -> None:
        super().__init__(group)
        self.asking: list[Any] = []
        self.ran = False

    def on_connect(self, client: Client, *args: Any) -> None:
        self.asking.append(gevent.getcurrent())
        Event().wait()

    @remote
    def secret(self, client: Client) -> None:
        self.ran = True


def test_a_client_of_which_nothing_was_decided_can_do_nothing() -> None:
    bench = Bench({"app": Asking})
    client = bench.client(bench.edge())
    settle()
    client.command("secret", transaction=2)
    settle()
    app = bench.origin.groups["app/room"].application
    assert isinstance(app, Asking)
    app.asking[0].kill()
    settle()
    assert client.session.closed
    assert not client.session.accepted
    assert not app.ran


class Leaving(Application):
    def on_disconnect(self, client: Client) -> None:
        raise gevent.GreenletExit


def test_a_member_has_left_whatever_ended_the_hook_that_was_told() -> None:
    bench = JournaledBench(Leaving, memory_journals())
    client = bench.member(bench.edge())
    group = bench.origin.groups["app/room"]
    assert group.durable.members.known
    client.detach()
    eventually(lambda: not group.durable.members.known, 5)


def test_a_group_that_stops_waits_for_what_runs() -> None:
    bench, clients, app = stage(2)
    group = bench.origin.groups["app/room"]
    clients[0].command("wait", transaction=2)
    settle()
    waiting = gevent.spawn(group.quiesce, 30)
    settle()
    assert not waiting.ready()
    app.gate.set()
    settle()
    assert waiting.ready()
    group.quiesce(30)  # At once: nothing runs.
    late = gevent.spawn(group.quiesce, 0)
    settle()
    assert late.ready()


def test_many_calls_leave_room_for_others() -> None:
    """What a round has to do takes longer than a slice: the loop sees to its sockets and threads in between."""
    _, clients, app = stage(10)
    loop = gevent.get_hub().loop
    woken: list[int] = []
    watcher = loop.async_()
    watcher.start(lambda: woken.append(len(app.order)))
    for number in range(100):
        for client in clients:
            client.command("note", float(number), transaction=number + 2)
    watcher.send()
    eventually(lambda: len(app.order) == 1000, 10)
    watcher.stop()
    watcher.close()
    assert woken


def test_all_who_wait_for_the_end_of_the_work_go_on_at_it() -> None:
    bench, clients, app = stage(1)
    clients[0].command("wait", transaction=2)
    settle()
    crew = bench.origin.groups["app/room"].crew
    waiters = [gevent.spawn(crew.wait, 600.0) for _ in range(2)]
    gevent.sleep(0)
    app.gate.set()
    eventually(lambda: all(waiter.ready() for waiter in waiters), 10)
    # And again, when there is more to do.
    app.gate.clear()
    clients[0].command("wait", transaction=3)
    settle()
    again = gevent.spawn(crew.wait, 600.0)
    gevent.sleep(0)
    assert not again.ready()
    app.gate.set()
    eventually(again.ready, 10)
