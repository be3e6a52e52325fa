"""The origin: which groups it has, how long they stay, and how they end. No sockets."""

import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from headwater_bus.control import Refused
from headwater_bus.requests import RequestError
from headwater_bus.traffic import Attach, AttachRefused, ToClient
from headwater_origin import Application, Client, Reject
from headwater_rtmp.command import encode_command
from support.attach_bench import OPEN, Noting
from support.origin_bench import ME, Bench, plain, settle


@pytest.fixture
def noting() -> type[Noting]:
    class Fresh(Noting):
        log: list[tuple[Any, ...]] = []  # noqa: RUF012

    return Fresh


def test_a_group_without_clients_lingers_stops_and_is_released(noting: type[Noting]) -> None:
    bench = Bench({"app": noting}, group_linger_s=10.0)
    client = bench.joined(bench.edge())
    group = bench.origin.groups["app/room"]
    bench.origin.tend(group.clock() + 100)
    assert "app/room" in bench.origin.groups
    client.detach()
    settle()
    assert group.idle_since is not None
    bench.origin.tend(group.idle_since + 9.9)
    assert "app/room" in bench.origin.groups
    bench.origin.tend(group.idle_since + 10.0)
    settle()
    assert bench.origin.groups == {}
    assert noting.log[-1] == ("on_stop",)
    assert bench.released == [("app/room", 1)]
    bench.origin.tend(group.idle_since + 1000)
    settle()
    assert bench.released == [("app/room", 1)]


def test_a_granted_group_that_nobody_attaches_is_released_after_the_linger_time() -> None:
    bench = Bench(OPEN, group_linger_s=10.0)
    started = time.monotonic()
    bench.change("group", "app/mine", ME, 3)
    bench.change("group", "app/theirs", "origin-2", 4)
    bench.change("group", "app/moved", ME, 5)
    bench.change("group", "app/moved", "origin-2", 6)
    bench.change("group", "app/gone", ME, 7)
    bench.change("group-gone", "app/gone")
    bench.joined(bench.edge())
    bench.origin.tend(started + 9.9)
    settle()
    assert bench.released == []
    bench.origin.tend(time.monotonic() + 10.0)
    settle()
    assert bench.released == [("app/mine", 3)]
    assert bench.origin.health()["unused"] == 0


def test_a_group_that_moves_here_anew_has_its_time_anew() -> None:
    bench = Bench(OPEN, group_linger_s=10.0)
    bench.change("group", "other/room", ME, 1)
    bench.origin._releases._unused["other/room"].due = 0.0
    bench.change("group", "other/room", ME, 2)
    bench.origin.tend(time.monotonic())
    settle()
    assert bench.released == []


def test_who_comes_before_the_release_is_served_and_the_group_stays() -> None:
    bench = Bench(OPEN, group_linger_s=10.0)
    bench.change("group", "app/room", ME, 1)
    bench.joined(bench.edge())
    bench.origin.tend(time.monotonic() + 1000)
    settle()
    assert bench.released == []


def test_who_comes_while_the_group_is_being_released_is_sent_away_until_it_is_ours_again() -> None:
    bench = Bench(OPEN, group_linger_s=0.0)
    link = bench.edge()
    answered = Event()
    bench.on_release = lambda name, epoch: answered.wait() and None
    bench.joined(link).detach()
    bench.origin.tend(time.monotonic())
    settle()
    early = bench.client(link)
    assert [type(part) for part in early.take()] == [AttachRefused]
    answered.set()
    settle()
    late = bench.client(link)  # The change feed is slower than the answer.
    assert [type(part) for part in late.take()] == [AttachRefused]
    bench.change("group-gone", "app/room")
    bench.change("group", "app/room", ME, 2)
    late.attach(epoch=2)
    settle()
    assert late.take()[0] == late.attached
    assert bench.released == [("app/room", 1)]


def test_a_release_whose_change_came_inside_a_snapshot_does_not_block_the_next_epoch() -> None:
    bench = Bench(OPEN, group_linger_s=0.0)
    link = bench.edge()
    bench.on_release = lambda name, epoch: None
    bench.joined(link).detach()
    bench.origin.tend(time.monotonic())
    settle()
    bench.change("group", "app/room", ME, 2)  # "group-gone" was between the two.
    client = bench.client(link, epoch=2)
    settle()
    assert client.take()[0] == client.attached


def test_while_the_registry_is_away_groups_are_served_on_and_later_released(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(OPEN, group_linger_s=0.0)
    link = bench.edge()

    def away(name: str, epoch: int) -> None:
        raise RequestError("the registry is away")

    back, bench.on_release = bench.on_release, away
    for name in ("app/one", "app/two"):
        bench.joined(link, name).detach()
    for later_s in (0.0, 0.5, 2.0, 4.0):
        bench.origin.tend(time.monotonic() + later_s)
        settle()
    # One is tried at a time, and not at every tick.
    assert bench.released == [("app/one", 1)] * 3
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    guest = bench.joined(link, "app/one")
    bench.on_release = back
    bench.origin.tend(time.monotonic() + 6.0)
    settle()
    assert bench.released[3:] == [("app/two", 1)]
    guest.detach()
    bench.origin.tend(time.monotonic() + 7.0)
    settle()
    assert bench.released[4:] == [("app/one", 1)]
    assert bench.view.groups == {}


def test_a_release_that_the_feed_does_not_confirm_is_said_again() -> None:
    bench = Bench(OPEN, group_linger_s=0.0)
    back, bench.on_release = bench.on_release, lambda name, epoch: None
    bench.joined(bench.edge()).detach()
    bench.origin.tend(time.monotonic())
    settle()
    bench.origin.tend(time.monotonic() + 4)
    settle()
    assert bench.released == [("app/room", 1)]
    bench.on_release = back
    bench.origin.tend(time.monotonic() + 6)
    settle()
    assert bench.released == [("app/room", 1)] * 2
    assert bench.view.groups == {}


def test_a_group_that_the_registry_refuses_to_take_back_is_served_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(OPEN, group_linger_s=0.0)
    link = bench.edge()
    bench.on_release = lambda name, epoch: Refused("not-yours", "not yours")
    bench.joined(link).detach()
    bench.origin.tend(time.monotonic())
    settle()
    assert bench.released == [("app/room", 1)]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    bench.joined(link)


def test_an_on_start_that_never_returns_ends_with_its_group(noting: type[Noting]) -> None:
    noting.gate = Event()
    bench = Bench({"app": noting}, group_linger_s=0.0)
    clients = [bench.client(bench.edge(), arguments=("x",)) for _ in range(2)]
    settle()
    group = bench.origin.groups["app/room"]
    assert (len(group._workers), len(group.early)) == (1, 2)
    clients[0].detach()
    bench.change("group", "app/room", "origin-2", 2)
    settle()
    assert (group._workers, len(group.early)) == (set(), 0)
    assert group.started.is_set()
    assert group.failure is not None
    assert clients[0].take() == []
    assert [type(told) for told in clients[1].take()] == [AttachRefused]
    noting.gate.set()
    settle()
    assert noting.log == [("on_start",)]  # It never started, so it does not stop, and nobody connected.


@pytest.mark.parametrize(
    ("end", "hooks"),
    [
        # The next owner asks it again.
        (lambda bench: bench.change("group", "app/room", "origin-2", 2), []),
        (lambda bench: bench.origin.shutdown("bye"), ["disconnected"]),
    ],
)
def test_who_still_connects_when_the_group_ends_is_sent_on(
    end: Callable[[Bench], None], hooks: list[str]
) -> None:
    log: list[str] = []
    gate = Event()

    class Slow(Application):
        def on_connect(self, client: Client, *args: Any) -> None:
            gate.wait()

        def on_disconnect(self, client: Client) -> None:
            log.append("disconnected")

    bench = Bench({"app": Slow})
    client = bench.client(bench.edge())
    settle()
    end(bench)
    assert [type(told) for told in client.take()] == [AttachRefused]
    gate.set()
    settle()
    assert client.take() == []
    assert log == hooks
    assert bench.origin.counters.connects_rejected == 0


def test_the_answer_has_the_transaction_of_the_connect() -> None:
    class Choosy(Application):
        def on_connect(self, client: Client, *args: Any) -> Reject:
            return Reject("no")

    bench = Bench({"app": Choosy})
    client = bench.client(bench.edge())
    message = encode_command("connect", 7, {"app": "app/room"})
    payload = message.payload
    client.put(
        Attach(
            9,
            "other",
            "app/room",
            1,
            "192.0.2.7",
            0,
            False,
            message.type_id,
            0,
            0,
            b"",
            [],
            [],
            [],
            payload=payload,
        )
    )
    settle()
    (answer,) = [told for told in client.link.take(ToClient) if told.session == 9]
    assert plain(answer)[:2] == ("_error", 7.0)


def test_a_group_that_another_origin_has_ends_without_a_word(noting: type[Noting]) -> None:
    bench = Bench({"app": noting})
    link = bench.edge()
    clients = [bench.joined(link), bench.joined(link)]
    bench.change("group", "app/room", "origin-2", 2)
    settle()
    for client in clients:
        assert client.take() == []
    assert noting.log[-2:] == [("on_connect",), ("on_stop",)]
    assert bench.origin.groups == {}
    assert bench.released == []
    # An edge that has missed that looks again, once.
    for _ in range(2):
        clients[0].command("createStream", transaction=2)
    assert clients[0].take() == [AttachRefused(1, "", "not attached any more")]


def test_a_group_begins_when_it_is_granted(noting: type[Noting]) -> None:
    bench = Bench({"app": noting})
    bench.change("group", "app/room", ME, 3)
    settle()
    assert noting.log == [("on_start",)]
    assert bench.origin.groups["app/room"].epoch == 3
    bench.change("group", "app/room", ME, 4)
    bench.joined(bench.edge(), epoch=4)
    assert noting.log.count(("on_start",)) == 1


def test_on_stop_comes_after_hooks_that_take_their_time() -> None:
    log: list[str] = []
    gate = Event()

    class Slow(Application):
        def on_disconnect(self, client: Client) -> None:
            gate.wait()
            log.append("on_disconnect")

        def on_stop(self) -> None:
            log.append("on_stop")

    bench = Bench({"app": Slow})
    bench.joined(bench.edge())
    gevent.spawn(bench.origin.shutdown, "bye", 20.0)
    settle()
    assert log == []
    gate.set()
    settle()
    assert log == ["on_disconnect", "on_stop"]


def test_tasks_end_with_the_scope_and_their_faults_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []

    class Busy(Application):
        def on_start(self) -> None:
            self.spawn(self.work, "soon")
            self.spawn(self.work, "never", delay_s=3600)
            self.spawn(self.fail)

        def work(self, name: str) -> None:
            ran.append(name)
            try:
                gevent.sleep(3600)
            finally:
                ran.append("ended")

        def fail(self) -> None:
            raise ValueError("x")

    bench = Bench({"app": Busy})
    bench.joined(bench.edge())
    settle()
    assert ran == ["soon"]
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    bench.change("group", "app/room", "origin-2", 2)
    settle()
    assert ran == ["soon", "ended"]


def test_a_lost_edge_takes_its_sessions_along(noting: type[Noting]) -> None:
    bench = Bench({"app": noting}, owned=False)
    one, two = bench.edge(), bench.edge()
    bench.change("group", "app/room", ME, 1)
    bench.joined(one)
    kept = bench.joined(two)
    held = bench.client(one, epoch=5)
    one.log.clear()
    bench.origin.link_down(one, "nothing heard")  # type: ignore[arg-type]  # all that it needs of a Link
    settle()
    assert noting.log.count(("on_disconnect",)) == 1
    assert bench.origin.sessions == 1
    bench.change("group", "app/room", ME, 5)
    settle()
    assert held.take() == []
    kept.command("createStream", transaction=2)
    assert kept.take() == [("_result", 2.0, 1.0)]


def test_shutdown_tells_nobody_and_answers_nobody_new(noting: type[Noting]) -> None:
    bench = Bench({"app": noting})
    link = bench.edge()
    client, held = bench.joined(link), bench.client(link, epoch=9)
    bench.origin.shutdown("the origin is stopping", within_s=5)
    assert client.take() == held.take() == []
    assert noting.log[-2:] == [("on_disconnect",), ("on_stop",)]
    late = bench.client(link)
    bench.change("group", "app/room", ME, 9)
    bench.origin.tend(float("inf"))
    settle()
    assert late.take() == held.take() == []
    assert bench.origin.groups == {}


def test_health_names_everything() -> None:
    bench = Bench({"app": Application, "other": Application})
    link = bench.edge()
    bench.joined(link)
    link.data.sessions[1].group.objects.view("board", False)["x"] = 1
    health = bench.origin.health()
    assert health["applications"] == ["app", "other"]
    assert health["groups"]["app/room"] == {
        "epoch": 1,
        "sessions": 1,
        "absent": 0,
        "streams": {},
        "objects": {"board": {"users": 0, "slots": 1, "version": 1}},
    }
    assert health["counters"]["attaches"] == 1
    assert health["links"] == [{"edge": "edge-1", "sessions": 1, "queued_bytes": 0}]
    bench.origin.link_down(link, "gone")  # type: ignore[arg-type]  # all that it needs of a Link
    assert bench.origin.health()["links"] == []


def test_a_group_granted_anew_while_others_are_released_has_its_time_anew() -> None:
    bench = Bench(OPEN, group_linger_s=10.0)
    for number, name in enumerate(("app/a", "app/b"), 1):
        bench.change("group", name, ME, number)
    answered = Event()
    bench.on_release = lambda name, epoch: answered.wait() and None
    bench.origin.tend(time.monotonic() + 11.0)
    settle()
    assert bench.released == [("app/a", 1)]
    bench.change("group-gone", "app/b")
    bench.change("group", "app/b", ME, 3)
    answered.set()
    settle()
    assert bench.released == [("app/a", 1)]
