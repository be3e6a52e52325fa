"""Requests of RTMPT sessions that come twice, late, in another order, cut off and at any edge: what they bring is consumed once
and in order, or the session is closed with a reason."""

import random
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from headwater_client import NetConnection
from support.cluster import ending_well
from support.edge_chaos_cluster import EdgeCluster
from support.edge_chaos_results import Config
from support.hostile import HostileClient, SessionClosed

pytestmark = pytest.mark.cluster
_SCOPE = "chaos/hostile"
_SESSIONS, _ROUNDS, _MOST_CALLS = 12, 12, 5
_FIRST = (0, 1, 2, 2**32 - 5, 2**31 - 5)
"""Numbers of first requests: FFmpeg's, Red5's, librtmp's, and such that pass the bounds of signed and unsigned ones."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeCluster]:
    """Three edges, one origin."""
    with ending_well(
        EdgeCluster(tmp_path_factory.mktemp("hostile"), Config(edges=3, origins=1), "")
    ) as running:
        assert isinstance(running, EdgeCluster)
        yield running


def runs(cluster: EdgeCluster, name: str) -> dict[float, float]:
    """How often each call of a client has run, by its number, as the application says. A number with a fraction is one that no
    client has sent: bytes were taken in another order than they were sent."""
    with NetConnection(cluster.rtmp_url(1, _SCOPE), "looks") as connection:
        found: dict[str, Any] = connection.call("journal", name)
    return {float(number): times for number, times in found.items()}


def once_each(number: int) -> dict[float, float]:
    """What `runs` says of so many calls that were consumed once and in order."""
    return dict.fromkeys(range(1, number + 1), 1)


def test_what_a_hostile_proxy_does_to_single_requests_is_not_noticed(cluster: EdgeCluster) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    clients = [
        HostileClient(
            cluster.addresses, _SCOPE, f"patient-{number}", _FIRST[number % len(_FIRST)], seed + number
        )
        for number in range(_SESSIONS)
    ]

    def run(client: HostileClient) -> None:
        client.connect()
        for number in range(_ROUNDS):
            client.call(1 + number % _MOST_CALLS)

    jobs = [gevent.spawn(run, client) for client in clients]
    gevent.joinall(jobs)
    failed = [f"seed {seed}: {job.exception!r}" for job in jobs if job.exception is not None]
    assert not failed, failed
    for client in clients:
        # Answers come in the order of the calls, each once.
        assert client.results == list(range(1, client.sent + 1)), f"seed {seed}: {client.done}"
        assert runs(cluster, client.name) == once_each(client.sent), f"seed {seed}: {client.done}"
    assert sum(cluster.log(name).count("session taken over") for name in cluster.names_of("edge")) > _SESSIONS


@pytest.mark.parametrize("overlap", [False, True])
def test_copies_that_go_astray_lose_and_double_nothing(cluster: EdgeCluster, overlap: bool) -> None:
    """Some sessions are ended by them: an answer may have gone to a copy. Where requests overlap at the moment that a copy has
    another edge take the session over, that one may take them in the wrong order (decision 22): then it closes the session for
    it, and only what was answered before is sure."""
    seed = random.SystemRandom().randrange(1_000_000)
    clients = [
        HostileClient(
            cluster.addresses,
            _SCOPE,
            f"stray-{overlap}-{number}",
            0,
            seed + number,
            strays=True,
            overlap=overlap,
        )
        for number in range(_SESSIONS)
    ]

    def run(client: HostileClient) -> str:
        try:
            client.connect()
            for number in range(_ROUNDS):
                client.call(1 + number % _MOST_CALLS)
        except SessionClosed as closed:
            return closed.status
        finally:
            client.end_strays()
        return ""

    jobs = [gevent.spawn(run, client) for client in clients]
    gevent.joinall(jobs)
    failed = [f"seed {seed}: {job.exception!r}" for job in jobs if job.exception is not None]
    assert not failed, failed
    for client, job in zip(clients, jobs, strict=True):
        about = f"seed {seed}: {job.value!r}, {client.done}"
        ran = runs(cluster, client.name)
        assert client.results == list(range(1, len(client.results) + 1)), about
        assert all(ran.get(number) == 1 for number in client.results), about
        if not overlap or not job.value:
            assert ran == once_each(len(ran)), about
        if not job.value:
            assert len(client.results) == client.sent == len(ran), about
        elif not overlap:
            assert job.value.startswith(("HTTP/1.1 409 ", "HTTP/1.1 404 ")), about


@pytest.mark.parametrize("how", ["far", "hole"])
def test_a_session_whose_order_is_lost_is_closed_with_a_reason(cluster: EdgeCluster, how: str) -> None:
    client = HostileClient(cluster.addresses, _SCOPE, f"offended-{how}", 0, seed=1)
    client.connect()
    client.call(3)
    assert client.offend(how).startswith("HTTP/1.1 409 ")
    reason = f'reason="request {client.offence}, expected {client.expected}"'
    assert client.after().startswith("HTTP/1.1 404 ")
    assert runs(cluster, client.name) == once_each(3)
    said = "".join(cluster.log(name) for name in cluster.names_of("edge"))
    assert reason in said
