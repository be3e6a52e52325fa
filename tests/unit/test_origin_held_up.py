"""The origin's event loop: what takes long lets others have their turn, and time in which nothing could run counts for nobody."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from headwater_bus.control import Refused
from headwater_bus.traffic import Attach, FromClient
from headwater_origin import Application, Client, origin, remote
from headwater_rtmp.command import encode_command
from support.journal_bench import JournaledBench, TestJournals
from support.origin_bench import Bench, FakeClient, settle
from support.waiting import eventually

MANY = 20


class App(Application):
    gone: list[str] = []  # noqa: RUF012

    def on_disconnect(self, client: Client) -> None:
        self.gone.append(client.id)

    @remote
    def add(self, client: Client, by: float) -> float:
        self.state["n"] = self.state.get("n", 0.0) + by
        return float(self.state["n"])


@pytest.fixture
def pausing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything takes long."""
    monkeypatch.setattr(origin, "SLICE_S", -1.0)
    monkeypatch.setattr(origin, "_UNPAUSED", 1)


@pytest.fixture
def journals() -> TestJournals:
    return TestJournals()


@pytest.fixture
def bench(journals: TestJournals) -> Iterator[JournaledBench]:
    app: type[App] = type("Fresh", (App,), {"gone": []})
    made = JournaledBench(app, journals)
    yield made
    journals.go()
    made.committing.kill()


def commands(client: FakeClient) -> list[Any]:
    """As many messages as make one batch long."""
    made = []
    for number in range(1, MANY + 1):
        message = encode_command("createStream", number, None)
        made.append(FromClient(client.number, number, message.type_id, 0, 0, message.payload))
    return made


def answered(client: FakeClient) -> list[float]:
    """Transactions whose answers have left so far."""
    return [told[1] for told in client.take()]


def worked_off(client: FakeClient) -> list[list[float]]:
    """What a client is answered, turn by turn, until nothing that its edge has said is left."""
    port = client.link.data
    seen = [answered(client)]
    while port.worker is not None:
        gevent.sleep(0)
        seen.append(answered(client))
    return seen


@pytest.mark.usefixtures("pausing")
def test_a_long_batch_lets_others_run_and_keeps_its_order() -> None:
    bench = Bench({"app": App}, streams_per_session=MANY)
    client = bench.joined(bench.edge())
    first, *others = commands(client)
    client.put(first, *others[:-1])
    client.put(others[-1])  # It comes while the first batch is under way.
    seen = worked_off(client)
    assert [transaction for some in seen for transaction in some] == [float(at + 1) for at in range(MANY)]
    assert max(map(len, seen)) == 1


@pytest.mark.usefixtures("pausing")
def test_long_batches_of_two_edges_are_carried_out_together() -> None:
    bench = Bench({"app": App}, streams_per_session=MANY)
    clients = [bench.joined(bench.edge()) for _ in range(2)]
    for client in clients:
        client.put(*commands(client))
    done = [0, 0]
    while any(client.link.data.worker is not None for client in clients):
        gevent.sleep(0)
        done = [count + len(answered(client)) for count, client in zip(done, clients, strict=True)]
        assert abs(done[0] - done[1]) <= 1
    assert done == [MANY, MANY]


@pytest.mark.usefixtures("pausing")
def test_nobody_is_listened_to_while_one_edge_is_too_far_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "_MOST_BEHIND", MANY - 3)
    bench = Bench({"app": App}, streams_per_session=MANY)
    client = bench.joined(bench.edge())
    *most, last = commands(client)
    client.put(*most)
    assert answered(client) == [1.0]
    client.put(last)  # Returns when all is done.
    assert len(answered(client)) == MANY - 1


@pytest.mark.usefixtures("pausing")
def test_nothing_more_of_a_batch_is_done_when_its_link_is_lost_meanwhile() -> None:
    bench = Bench({"app": App}, streams_per_session=MANY)
    client = bench.joined(bench.edge())
    connect = encode_command("connect", 1, {"app": "app/room"})
    late = Attach(
        9,
        "late",
        "app/room",
        1,
        "",
        0,
        False,
        connect.type_id,
        0,
        0,
        b"",
        [],
        [],
        [],
        payload=connect.payload,
    )
    client.put(*commands(client), late)
    link: Any = client.link
    bench.origin.link_down(link, "the edge is lost")
    settle()
    assert answered(client) == [1.0]
    assert bench.origin.sessions == 0
    assert link.data.worker is None


def test_many_epochs_of_which_the_registry_knows_better_are_one_line(
    bench: JournaledBench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(seen: Any) -> Refused:
        asked.append(seen.group)
        return Refused("not-yours", "origin-2 has it")

    monkeypatch.setattr(bench.origin.node, "request_registry", refuse)
    with caplog.at_level(logging.INFO):
        for number in range(MANY):
            bench.origin._epochs.seen(f"app/{number}", 7)
        settle()
    assert len(asked) == MANY
    (line,) = [record for record in caplog.records if "registry knows better" in record.getMessage()]
    assert line.__dict__["fields"]["groups"] == MANY


def test_time_in_which_the_process_did_not_run_is_not_the_stores(
    bench: JournaledBench, journals: TestJournals
) -> None:
    client = bench.member(bench.edge())
    bench.committed()
    journals.hold()
    client.command("add", 1, transaction=2)
    eventually(lambda: journals.held, within_s=5)
    committer, (group,) = bench.origin.committer, bench.origin.groups.values()
    assert committer._since is not None
    committer._since -= 100
    bench.origin.held_up(100)
    bench.origin.tend(time.monotonic() + 4)
    assert not group.stalled
    bench.origin.tend(time.monotonic() + 6)
    assert group.stalled


def test_time_in_which_the_process_did_not_run_is_not_that_of_absent_members(bench: JournaledBench) -> None:
    client = bench.member(bench.edge())
    bench.committed()
    link: Any = client.link
    bench.origin.link_down(link, "lost")
    (group,) = bench.origin.groups.values()
    left = group.clock()
    bench.origin.held_up(100)
    bench.origin.tend(left + 105)
    settle()
    assert group.policy.gone == []  # type: ignore[attr-defined]
    bench.origin.tend(left + 120)
    settle()
    assert group.policy.gone == ["session-1"]  # type: ignore[attr-defined]


def test_a_tick_that_comes_late_says_by_how_much(
    bench: JournaledBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[float] = []
    monkeypatch.setattr(origin, "_TICK_S", 0.01)
    monkeypatch.setattr(origin, "_LATE_S", 0.1)
    monkeypatch.setattr(bench.origin, "held_up", late.append)
    ticking = gevent.spawn(bench.origin.tick)

    def stopped() -> list[float]:
        """The process is, for a moment: it spins, as a patched sleep would let others run."""
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            pass
        return late

    eventually(stopped, within_s=5)
    assert late[0] > 0.1
    ticking.kill()
