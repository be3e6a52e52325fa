"""Many joins of one object: the origin sends its content once for each edge, and every client has it soon."""

import time
from typing import Any

import gevent
import pytest
from gevent import socket
from headwater_client import NetConnection
from headwater_rtmp.chunk import encode_message
from headwater_rtmp.command import encode_command
from headwater_rtmp.shared_object import Event, EventType, encode_shared_object
from support.cluster import Cluster
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster
CLIENTS, SLOTS = 1000, 200
WITHIN_S = 2.0
GROUP = "live/thousand"
USE = encode_message(encode_shared_object("board", 0, True, [Event(EventType.USE)]), 3, 128)


class Joiner:
    """A client that costs next to nothing: plain bytes on a socket, looked at afterwards."""

    def __init__(self, cluster: Cluster, edge: int) -> None:
        port = int(cluster.rtmp_url(edge, "").rsplit(":", 1)[1].split("/")[0])
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=60 * TIME_FACTOR)
        self._sock.sendall(b"\x03" + bytes(1536))
        answer = self._read(3073)
        url = f"rtmp://127.0.0.1/{GROUP}"
        connect = encode_message(encode_command("connect", 1.0, {"app": GROUP, "tcUrl": url}), 3, 128)
        self._sock.sendall(answer[1:1537] + connect)
        seen = b""
        while b"objectEncoding" not in seen or not seen.endswith(b"\x00\x00\x09"):
            seen += self._sock.recv(65536)
        self.received = b""

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._sock.recv(size - len(data))
            assert more, data
            data += more
        return data

    def use(self) -> None:
        """Ask for the object."""
        self._sock.sendall(USE)

    def take(self, size: int) -> None:
        """Wait for so many bytes of it."""
        self.received = self._read(size)

    def take_until_quiet(self) -> int:
        """All that comes; returns how many bytes that is."""
        self._sock.settimeout(0.5 * TIME_FACTOR)
        try:
            while True:
                self.received += self._sock.recv(65536)
        except TimeoutError:
            return len(self.received)

    def close(self) -> None:
        """Leave."""
        self._sock.close()


def snapshots(cluster: Cluster) -> int:
    states: list[dict[str, Any]] = [cluster.health(f"origin.{number}") for number in (1, 2)]
    return sum(int(state["counters"]["object_snapshots_out"]) for state in states)


def test_a_thousand_clients_join_one_object_through_two_edges(cluster: Cluster) -> None:
    with NetConnection(cluster.rtmp_url(1, GROUP)) as maker:
        made = maker.shared_object("board", persistent=True)
        made.wait_synced(10)
        made.update({f"slot{number}": [float(number), "text " * 4] for number in range(SLOTS)})
        made.flush(10)
    # The maker's edge lets go of it, so that both edges ask for it again.
    eventually(lambda: cluster.health("edge.1")["objects"] == 0, within_s=20)

    joiners: list[Joiner] = []
    for start in range(0, CLIENTS, 50):
        jobs = [gevent.spawn(Joiner, cluster, 1 + number % 2) for number in range(start, start + 50)]
        gevent.joinall(jobs, raise_error=True)
        joiners += [job.get() for job in jobs]
    before = snapshots(cluster)
    first, *others = joiners
    first.use()
    size = first.take_until_quiet()
    assert size > SLOTS * 30

    begun = time.monotonic()
    for joiner in others:
        joiner.use()
    gevent.joinall([gevent.spawn(joiner.take, size) for joiner in others], raise_error=True)
    took_s = time.monotonic() - begun

    assert snapshots(cluster) - before == 2
    assert {joiner.received for joiner in joiners} == {first.received}
    assert all(f"slot{number}".encode() in first.received for number in range(SLOTS))
    assert took_s < WITHIN_S * TIME_FACTOR
    for joiner in joiners:
        joiner.close()
