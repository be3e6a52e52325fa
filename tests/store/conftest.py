"""Real servers for the store's tests. One plain server and one with a replica serve all tests that break nothing; each test finds
them empty."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from headwater_store import Journals, open_journals, sqlite_url
from support.redis import RedisServer
from support.waiting import eventually

ENGINES = ["memory", "sqlite", "redis", "redis+replica"]
LASTING = ENGINES[1:]


@pytest.fixture(scope="session")
def lone_redis(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server; use `redis_url`."""
    server = RedisServer(tool("redis-server"), tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_pair(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master and its replica."""
    program = tool("redis-server")
    master = RedisServer(program, tmp_path_factory.mktemp("master"))
    replica = RedisServer(program, tmp_path_factory.mktemp("replica"), master)
    eventually(replica.follows, within_s=20)
    yield master, replica
    replica.stop()
    master.stop()


@pytest.fixture
def redis_url(lone_redis: RedisServer) -> str:
    """A server that is empty."""
    with lone_redis.client() as client:
        client.flushall()
    return lone_redis.url


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that is empty, of the engine that the test is given (indirectly)."""
    engine = str(request.param)
    if engine == "memory":
        return f"memory:{tmp_path}"
    if engine == "sqlite":
        return sqlite_url(tmp_path / "store")
    if engine == "redis":
        return str(request.getfixturevalue("redis_url"))
    master: RedisServer = request.getfixturevalue("redis_pair")[0]
    with master.client() as client:
        client.flushall()
    return f"{master.url}?replicas=1"


@pytest.fixture
def connect() -> Iterator[Callable[[str], Journals]]:
    """Opens journals that are closed at the end."""
    opened: list[Journals] = []

    def open_one(url: str) -> Journals:
        opened.append(open_journals(url))
        return opened[-1]

    yield open_one
    for journals in opened:
        journals.close()
