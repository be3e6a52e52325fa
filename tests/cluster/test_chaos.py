"""The chaos suite, for 20 s: see support.chaos. `make chaos` runs it for ten."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.chaos import Chaos, Config, cluster_for

pytestmark = pytest.mark.cluster

_SEED = os.environ.get("HEADWATER_CHAOS_SEED", "")
"""The faults of a run that has failed, again."""


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_no_client_notices_what_is_broken(store: str, tmp_path: Path, tool: Callable[[str], str]) -> None:
    if store == "redis":
        tool("redis-server")
    seed = int(_SEED) if _SEED else random.SystemRandom().randrange(10_000)
    config = Config(seconds=20, seed=seed, store=store, ffmpeg=tool("ffmpeg"))
    said: list[str] = []
    with cluster_for(tmp_path, store, controls=2 if store == "redis" else 1) as cluster:
        result = Chaos(config, cluster, said.append).run()
    # What is not done cannot fail.
    assert result.counts["answers"] > 1000, said
    assert result.counts["frames"] > 1000, said
    assert len(result.faults) > 1, said
    assert not result.report(), result.report()
