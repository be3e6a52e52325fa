"""Writers and servers that are killed, and writers that race: what was acknowledged is there, once, whole, and of one owner."""

import os
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from store.conftest import LASTING
from support.redis import RedisServer, free_port, sentinel_of
from support.waiting import TIME_FACTOR, eventually

TESTS = Path(__file__).parents[1]
every_lasting_engine = pytest.mark.parametrize("url", LASTING, indirect=True)


def writer(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "support.store_writer", *map(str, arguments)]


def numbers_of(*arguments: object) -> list[int]:
    """Run a writer to its end: the numbers that it prints."""
    ended = subprocess.run(
        writer(*arguments), cwd=TESTS, capture_output=True, text=True, timeout=120 * TIME_FACTOR, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return [int(number) for number in re.findall(r"\d+", ended.stdout)]


class Endurer:
    """A writer that goes on whatever happens, until `end`."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            writer("endure", url),
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.lines: list[str] = []
        self._rest = b""

    def saw(self, word: str, more_than: int = 0) -> bool:
        """Whether more than so many of its lines begin like that by now."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        while select.select([output], [], [], 0)[0] and (some := os.read(output, 65536)):
            *lines, self._rest = (self._rest + some).split(b"\n")
            self.lines += [line.decode() for line in lines]
        assert self._process.poll() is None, "\n".join(self.lines)
        return self.count(word) > more_than

    def count(self, word: str) -> int:
        return sum(line.startswith(word) for line in self.lines)

    def goes_on(self) -> None:
        """Wait until it has written some hundred entries more."""
        before = self.count("entries")
        eventually(lambda: self.saw("entries", before + 1), within_s=30, what=f"entries; {self.lines[-3:]}")

    def end(self) -> None:
        """It checks what is there, and must be content."""
        output, _ = self._process.communicate(b"end\n", timeout=60 * TIME_FACTOR)
        assert self._process.returncode == 0, "\n".join([*self.lines, output.decode()])

    def __enter__(self) -> "Endurer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@every_lasting_engine
def test_nothing_acknowledged_is_lost_when_writers_are_killed(url: str) -> None:
    kills, acknowledged, there = numbers_of("killed", url, 1, 100, 10_000)
    assert kills >= 100
    assert acknowledged >= 10_000
    assert acknowledged <= there


@every_lasting_engine
def test_two_writers_of_one_group_are_never_both_accepted(url: str) -> None:
    rounds, acknowledged, fenced = numbers_of("race", url, 1, 25)
    assert rounds == 25
    assert acknowledged >= 25 * 100
    assert fenced > 0  # At least one had written when it lost the group, otherwise nothing was tried.


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    make_redis: Callable[..., RedisServer],
) -> None:
    server = make_redis()
    with Endurer(server.url) as writing:
        for times in range(5):
            writing.goes_on()
            server.kill()
            eventually(lambda times=times: writing.saw("away", times), within_s=10)  # type: ignore[misc]
            server.start()
        writing.goes_on()
        assert "cannot be reached" in next(line for line in writing.lines if line.startswith("away"))
        writing.end()


def test_a_server_that_hangs_is_waited_for(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis()
    with Endurer(server.url) as writing:
        writing.goes_on()
        server.pause()
        eventually(lambda: writing.saw("away"), within_s=10)
        server.resume()
        eventually(lambda: writing.saw("back"), within_s=10)
        writing.goes_on()
        writing.end()


def test_a_fail_over_by_sentinel_loses_nothing_that_a_replica_had_to_have(
    make_redis: Callable[..., RedisServer],
) -> None:
    master = make_redis()
    replica = make_redis(master)
    sentinel = make_redis(sentinel=sentinel_of(master, "journals"))
    # The first Sentinel named is not there.
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/journals/0?replicas=1"

    def knows_the_replica() -> bool:
        with sentinel.client() as client:
            return bool(client.sentinel_slaves("journals"))

    def promoted() -> bool:
        with replica.client() as client:
            return bool(client.info("replication")["role"] == "master")

    eventually(knows_the_replica, within_s=20)
    with Endurer(url) as writing:
        writing.goes_on()
        master.kill()
        eventually(lambda: writing.saw("away"), within_s=10)
        eventually(promoted, within_s=30)
        # Alone it commits nothing.
        assert not writing.saw("back")
        make_redis(replica)
        writing.goes_on()
        writing.end()
