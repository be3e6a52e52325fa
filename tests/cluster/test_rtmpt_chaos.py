"""The chaos suite of the edges, in short: see support.edge_chaos. `make chaos-edges` runs it for long."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.edge_chaos import EdgeChaos
from support.edge_chaos_cluster import needed, running
from support.edge_chaos_results import Bounds, Config

pytestmark = pytest.mark.cluster

_BUSY = Bounds(killed_s=6.0, hung_s=5.5, median_s=2.5)
"""For a machine whose two cores are wanted by others, too: nobody waits until an edge that hangs goes on, and half of them not
even for a lease to end. `make chaos-edges` asserts what is promised."""


@pytest.mark.parametrize(
    ("balancer", "store", "edges", "origins"),
    [("nginx", "sqlite", 2, 2), ("haproxy", "redis", 3, 1)],
)
def test_no_rtmpt_client_notices_that_edges_are_killed_and_hang(
    balancer: str, store: str, edges: int, origins: int, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """Through HAProxy ffmpeg and rtmpdump may: it does not repeat every request, and they do not repeat any."""
    seed = random.SystemRandom().randrange(10_000)
    config = Config(balancer, store, edges, origins, kills=2, hangs=1, seed=seed, bounds=_BUSY)
    tools = {name: tool(name) for name in needed(config)}
    said: list[str] = []
    with running(config, tmp_path, tools) as (cluster, front):
        result = EdgeChaos(config, cluster, front, tools, said.append).run()
    # What is not done cannot fail.
    assert result.counts["answers"] > 1000, said
    assert result.counts["frames"] > 1000, said
    assert result.counts["sessions taken over"] > config.clients, said
    assert not result.report(), f"seed {seed}\n{result.report()}"
    assert not result.late(), said
