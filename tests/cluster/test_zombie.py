"""An origin that is stopped, replaced, and goes on: it commits nothing more, lets go of what it had, and is used again."""

import random
import signal
import time
from pathlib import Path

import gevent
import pytest
from support.chaos_checks import Findings
from support.chaos_clients import Group, Member, Pauses
from support.chaos_cluster import ChaosCluster
from support.proxy import Cut
from support.waiting import eventually

pytestmark = pytest.mark.cluster

_GROUPS, _MEMBERS = 9, 4
_LOST = "group lost to another origin"


class Crowd:
    """Members of some groups, who write all the time."""

    def __init__(self, cluster: ChaosCluster, first: int, groups: int, findings: Findings) -> None:
        self._cluster = cluster
        pauses = Pauses(findings)
        self.groups = [
            Group(f"chaos/z{number:02}", findings, pauses, spread=False)
            for number in range(first, first + groups)
        ]
        for group in self.groups:
            for number in range(_MEMBERS):
                url = cluster.rtmp_url(1 + number % 2, group.scope)
                group.members.append(Member(url, f"{group.scope[-3:]}-{number}", number % 2 == 0, group))

    @property
    def members(self) -> list[Member]:
        return [member for group in self.groups for member in group.members]

    def start(self) -> None:
        for member in self.members:
            member.connect()
        for member in self.members:
            member.start(random.Random(member.name))

    def served_from(self, now_s: float) -> None:
        """Wait until changes of all of them are acknowledged that were asked for after this moment."""
        eventually(lambda: all(member.served_since(now_s) for member in self.members), 30, "all are served")

    def finish(self) -> None:
        """End, and have everything checked."""
        gevent.joinall([gevent.spawn(member.stop) for member in self.members])
        eventually(lambda: all(group.settled() for group in self.groups), 30, "all have heard everything")
        for at, group in enumerate(self.groups):
            group.finish(self._cluster.rtmp_url(1 + at % 2, group.scope))
        for member in self.members:
            member.connection.end()


def test_what_a_zombie_wants_to_commit_is_refused_and_no_client_sees_two_histories(tmp_path: Path) -> None:
    cluster = ChaosCluster(tmp_path)
    began = time.monotonic()
    findings = Findings(lambda: time.monotonic() - began)
    try:
        cluster.start()
        crowd = Crowd(cluster, 1, _GROUPS, findings)
        crowd.start()
        crowd.served_from(findings.clock())
        zombie, node_id = _busiest(cluster)
        had = {group for group, origin in cluster.groups().items() if origin == node_id}
        boot = cluster.nodes()[node_id][2]

        # What clients write while it is stopped is in its sockets when it goes on, and nobody tells it what has happened.
        cluster.hang(zombie)
        cluster.links[zombie].cut(Cut.SILENT, registries=True, edges=False)
        eventually(
            lambda: _owners(cluster, had) and node_id not in _owners(cluster, had),
            30,
            "others have its groups",
        )
        crowd.served_from(findings.clock())

        cluster.kill(zombie, signal.SIGCONT)
        # Each of its groups finds out by itself: by the store, which refuses.
        eventually(lambda: cluster.log(zombie).count(_LOST) == len(had), 20, "it has lost all of them")
        cluster.heal(zombie)
        eventually(lambda: node_id in cluster.nodes(), 30, "it is registered again")
        assert cluster.nodes()[node_id][2] == boot, "it is the process that was stopped"
        state = cluster.health(zombie)
        assert state["groups"] == {}
        assert state["counters"]["groups_lost"] == len(had)
        assert [
            line for line in cluster.log(zombie).splitlines() if _LOST in line and "epoch=" not in line
        ] == []
        assert node_id not in _owners(cluster, had)

        # It has nothing, so new groups are its own, and it serves them as any other.
        more = Crowd(cluster, _GROUPS + 1, 6, findings)
        more.start()
        more.served_from(findings.clock())
        assert node_id in _owners(cluster, {group.scope for group in more.groups})
        more.finish()
        crowd.finish()
    finally:
        statuses = cluster.close()
    assert not findings, findings.report()
    assert set(statuses.values()) == {0}, statuses
    assert cluster.trouble() == []


def _owners(cluster: ChaosCluster, groups: set[str]) -> set[str]:
    """Which origins have these, by node ids; empty while the registry does not answer or one has none."""
    table = cluster.groups()
    owners = {table.get(group, "") for group in groups}
    return set() if "" in owners else owners


def _busiest(cluster: ChaosCluster) -> tuple[str, str]:
    """The origin with most groups: its process and its node id."""
    table = list(cluster.groups().values())
    node_id = max(set(table), key=table.count)
    return node_id.replace("-", "."), node_id
