"""A bandwidth check of a real client through a real edge."""

from typing import Any

import pytest
from headwater_client import NetConnection
from support.cluster import Cluster
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("encoding", [0, 3])
def test_a_client_checks_its_bandwidth(cluster: Cluster, encoding: int) -> None:
    done: list[Any] = []
    payloads: list[list[str]] = []
    with NetConnection(
        cluster.rtmp_url(1, "live/bandwidth"), object_encoding=encoding, timeout_s=10 * TIME_FACTOR
    ) as client:
        client.on("onBWCheck", payloads.append)
        client.on("onBWDone", lambda *told: done.append(told))
        client.call("checkBandwidth")
        eventually(lambda: done, within_s=20)
        ((kbps, kbit, seconds, latency_ms),) = done
        sizes = [sum(map(len, payload)) for payload in payloads]
        assert sizes[:3] == [0, 0, 0]
        assert sizes[3] == 4096
        assert kbit == sum(sizes) * 8 / 1000
        # Between processes of one machine; no figure that depends on how busy it is.
        assert kbps > 0 < seconds
        assert 0 < latency_ms < 10_000
