"""Operators move, drain, pin, pause and rebalance a cluster of real processes, while clients call and write all the time: no
client is disconnected, nothing that was acknowledged is lost, and nothing happens twice."""

import json
import signal
from collections import Counter as Counts
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from gevent import subprocess
from headwater_client import ConnectError
from support.cluster import BIN, ROOT, Cluster
from support.tally import Counter, settled
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster
TALLY = "--app tally=tests.support.tally_app:Tally"
MakeCluster = Callable[..., Cluster]
ROOMS = 6


def counting(url: str, name: str) -> Counter:
    """A client that counts, tried for until an origin has its group: a cluster that has just started may take its time."""

    def attempt() -> Counter | None:
        try:
            return Counter(url, name)
        except ConnectError:
            return None

    counter: Counter = eventually(attempt, within_s=30, what=f"{name} connected")
    return counter


class Operated:
    """A cluster with two counting clients in each of some rooms, on different edges. Its commands let the clients go on."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.rooms = [
            [counting(cluster.rtmp_url(edge, f"tally/room{room}"), f"c{room}-{edge}") for edge in (1, 2)]
            for room in range(ROOMS)
        ]

    def counters(self) -> list[Counter]:
        return [counter for room in self.rooms for counter in room]

    def command(self, *words: str) -> Any:
        return subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            cwd=ROOT,
            env=self.cluster.command_env,
            capture_output=True,
            text=True,
            timeout=60 * TIME_FACTOR,
            check=False,
        )

    def order(self, *words: str, status: int = 0) -> Any:
        """A command of the balancer's, with --json; where it is to fail, what it says."""
        done = self.command("headwater-balancer", *words, "--json")
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout) if not status else done.stderr

    def owners(self) -> dict[str, str]:
        found: dict[str, str] = eventually(self.cluster.groups, within_s=20)
        return found

    def listed(self) -> dict[str, str]:
        """The owners, as the command tells them."""
        done = self.command("headwater-registry", "groups", "--json")
        assert done.returncode == 0, done.stderr
        return {row["group"]: row["origin"] for row in json.loads(done.stdout)}

    def count(self) -> Counts[str]:
        return Counts(self.owners().values())

    def come_to(self, wanted: dict[str, int], within_s: float) -> None:
        """Wait until each origin has so many."""
        eventually(lambda: self.count() == wanted, within_s, f"{wanted}", every_s=0.1)

    def all_go_on(self) -> None:
        for counter in self.counters():
            counter.goes_on(5, within_s=30)

    def check(self) -> None:
        """Every client is connected, and has had each of its acknowledged counts carried out once, in order."""
        assert not any(counter.connection.closed.is_set() for counter in self.counters())
        for room in self.rooms:
            settled(room)
            assert not any(key.startswith("left ") for key in room[0].totals())
        assert [counter.refusals for counter in self.counters() if counter.refusals] == []


@contextmanager
def operated(make_cluster: MakeCluster, balancer: str = "") -> Iterator[Operated]:
    # A long lease: on a busy machine a node may be late, and here only those that are killed are to die.
    options = {"registry": "--lease-ms 60000", "origin": TALLY, "balancer": balancer}
    cluster = make_cluster({"origin": 3}, options)
    operators = Operated(cluster)
    try:
        yield operators
    finally:
        for counter in operators.counters():
            counter.close()


def test_orders_are_carried_out_while_clients_write(make_cluster: MakeCluster) -> None:
    with operated(make_cluster) as operators:
        assert operators.count() == {"origin-1": 2, "origin-2": 2, "origin-3": 2}
        assert operators.listed() == operators.owners()
        operators.order("pause")
        assert "balancing is paused already" in operators.order("pause", status=2)

        group, here = next(iter(operators.owners().items()))
        there = "origin-2" if here != "origin-2" else "origin-3"
        planned = operators.order("move", group, there, "--dry-run")
        assert [(row["group"], row["from"], row["to"]) for row in planned["moves"]] == [(group, here, there)]
        assert operators.owners()[group] == here
        moved = operators.order("move", group, there)
        assert [row["state"] for row in moved["moves"]] == ["moved"]
        assert operators.owners()[group] == there
        operators.all_go_on()
        assert f"{group} is on {there} already" in operators.order("move", group, there, status=2)

        pinned = operators.order("pin", "tally/*", "origin-3")
        assert pinned["moves"] == []
        assert "balancing is paused: " in pinned["notes"][0]
        moved = operators.order("rebalance")
        assert {row["state"] for row in moved["moves"]} == {"moved"}
        assert operators.count() == {"origin-3": ROOMS}
        operators.all_go_on()
        operators.order("unpin", "tally/*")

        drained = operators.order("drain", "origin-3", "--wait")
        assert (drained["empty"], drained["groups"]) == (True, 0)
        assert operators.count() == {"origin-1": 3, "origin-2": 3}
        assert "origin-3 is drained already" in operators.order("drain", "origin-3", status=2)
        operators.order("drain", "origin-2", "--wait")
        assert "origin-1 is the last origin that is not drained" in operators.order(
            "drain", "origin-1", status=2
        )
        assert operators.count() == {"origin-1": ROOMS}
        operators.all_go_on()

        operators.order("undrain", "origin-2")
        operators.order("apart", "tally/room0", "tally/room1")
        # Balancing is paused, so nothing parts them until somebody says so.
        assert operators.count() == {"origin-1": ROOMS}
        operators.order("rebalance")
        owners = operators.owners()
        assert owners["tally/room0"] != owners["tally/room1"]
        operators.all_go_on()

        status = operators.order("status")
        assert (status["paused"], status["orphans"], status["waiting"]) == (True, 0, 0)
        assert [row["drained"] for row in status["origins"]] == [False, False, True]
        assert status["rules"]["apart"] == [["tally/room0", "tally/room1"]]
        history = operators.order("history", "--count", "1000")
        moves = [row for row in history if row["event"] == "moved"]
        assert (moves[0]["subject"], moves[0]["from"], moves[0]["to"]) == (group, here, there)
        assert moves[0]["reason"].startswith("ordered by ")
        assert {row["reason"].partition(":")[0] for row in moves} >= {"drain"}
        assert all(row["epoch"] > 0 for row in moves)
        print(f"{len(moves)} moves while {len(operators.counters())} clients wrote")
        operators.check()


def test_an_origin_that_dies_and_one_that_comes_change_nothing_for_clients(make_cluster: MakeCluster) -> None:
    with operated(make_cluster, "--cooldown-s 2 --patience-s 1") as operators:
        operators.cluster.kill("origin.3")
        operators.come_to({"origin-1": 3, "origin-2": 3}, within_s=20)
        operators.all_go_on()
        # A balancer that is killed in the middle of a drain goes on with it when it is there again.
        operators.cluster.start_process("origin.3")
        operators.cluster.wait_registered("origin.3")
        operators.order("drain", "origin-1")
        operators.cluster.kill("balancer.1")
        operators.cluster.start_process("balancer.1")
        eventually(lambda: operators.count()["origin-1"] == 0, within_s=30, every_s=0.1)
        operators.order("undrain", "origin-1")
        # It takes its share by itself.
        operators.come_to({"origin-1": 2, "origin-2": 2, "origin-3": 2}, within_s=60)
        operators.all_go_on()
        events = {row["event"] for row in operators.order("history", "--count", "1000")}
        assert events >= {"node-died", "taken-over", "moved", "settings"}
        operators.cluster.kill("origin.2", signal.SIGTERM)
        operators.come_to({"origin-1": 3, "origin-3": 3}, within_s=20)
        operators.check()
