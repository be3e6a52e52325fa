"""Fixtures that several kinds of tests use."""

# ruff: noqa: E402
from gevent import monkey

# The services' command lines do it when they are imported, which comes too late behind a module that has taken parts of ssl.
monkey.patch_ssl()

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.cluster import Cluster, ending_well
from support.redis import RedisServer
from support.waiting import eventually

# A shell has what it runs in the background ignore Ctrl-C, and so would the programs that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadlines: machines are busy. In CI always the same examples; elsewhere new ones each time.
settings.register_profile("new", deadline=None)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same" if os.environ.get("CI") else "new")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all tests that break none of its processes. It must end well, too."""
    with ending_well(Cluster(tmp_path_factory.mktemp("cluster"))) as running:
        yield running


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Programs that end with the test."""
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def make_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters of a test's own, which it may break; they are stopped at its end."""
    made: list[Cluster] = []

    def make(processes: dict[str, int] | None = None, options: dict[str, str] | None = None) -> Cluster:
        made.append(Cluster(tmp_path_factory.mktemp("own-cluster"), processes, options))
        return made[-1].start()

    yield make
    for running in made:
        running.stop()
    for running in made:
        assert running.trouble() == []


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Finds a program that a test needs. Without it the test is skipped; in CI it fails."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None and os.environ.get("CI"):
            pytest.fail(f"{name} is missing: scripts/system-packages.sh installs it")
        if path is None:
            pytest.skip(f"{name} is missing: scripts/system-packages.sh names its package")
        return path

    return find


@pytest.fixture
def make_redis(tool: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Makes servers of a test's own, which it may break."""
    made: list[RedisServer] = []

    def make(
        master: RedisServer | None = None, options: dict[str, str] | None = None, sentinel: str = ""
    ) -> RedisServer:
        folder = tmp_path / f"redis-{len(made)}"
        made.append(RedisServer(tool("redis-server"), folder, master, options, sentinel))
        if master is not None:
            eventually(made[-1].follows, within_s=20)
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB: a file system of its own, which only root may mount, as CI is."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], check=False)
    if mounted.returncode and os.environ.get("CI"):
        pytest.fail("a small file system cannot be mounted; CI is expected to be root")
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
