"""The benchmark's programs: on their core, explained when they die, all gone afterwards."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from bench.errors import BenchError
from bench.measure import UsageMeter
from bench.processes import Program, free_port, on_core
from bench.server import Server
from bench.session import Target

CORE = min(os.sched_getaffinity(0))
PARENT_WITH_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
child.wait()
"""


def program(folder: Path, code: str) -> Program:
    return Program("thing", [sys.executable, "-c", code], folder, CORE)


def first_line(folder: Path, of: Program) -> str:
    """Waits, without a deadline of its own, until the program has written a line or ended."""
    log = folder / "thing.log"
    while not (text := log.read_text()).endswith("\n"):
        of.check()
        os.sched_yield()
    return text.splitlines()[0]


def test_a_program_is_stopped_with_what_it_started_and_has_lived_on_its_core(tmp_path: Path) -> None:
    made = program(tmp_path, PARENT_WITH_CHILD)
    try:
        child = int(first_line(tmp_path, made))
        own, *others = made.processes()
        assert [each.pid for each in others] == [child]
        assert own.cpu_affinity() == others[0].cpu_affinity() == [CORE]
        wall_s, usages, _ = UsageMeter({"all": made.processes()}, CORE).end()
        assert wall_s >= 0
        assert usages["all"].rss_mb > 1
    finally:
        made.stop()
    assert made.processes() == []
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_program_that_ended_is_explained_by_its_last_line(tmp_path: Path) -> None:
    made = program(tmp_path, "import sys; print('first'); sys.exit('port in use')")
    made.wait()
    with pytest.raises(BenchError, match=r"thing ended with status 1: port in use") as caught:
        made.check()
    assert caught.value.failed
    made.stop()


class Twins(Server):
    """Two programs that say the same before they end."""

    label = "twins"
    groups = ("one", "all")

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", 1)

    def start(self) -> None:
        for name, groups in (("one", ("one", "all")), ("two", ("all",))):
            twin = Program(name, [sys.executable, "-c", "print('no room')"], self.folder, self.core)
            self.add(twin, *groups)
            twin.wait()

    def settings(self) -> dict[str, object]:
        return {"version": "twins 1"}


def test_a_server_tells_what_its_programs_said_once_and_leaves_no_folder() -> None:
    with Twins(CORE) as server:
        folder = server.folder
        assert [program.name for program in server.programs()] == ["one", "two"]
        assert server.last_words("") == ["one: no room"]
        assert server.last_words("one ended: no room") == []
        with pytest.raises(BenchError, match="one ended with status 0: no room"):
            server.check()
    assert not folder.exists()


def test_the_core_is_left_as_it_was() -> None:
    before = os.sched_getaffinity(0)
    with on_core(CORE):
        assert os.sched_getaffinity(0) == {CORE}
    assert os.sched_getaffinity(0) == before


def test_a_free_port_is_free_with_its_neighbours() -> None:
    base = free_port((0, 1, 11))
    assert 0 < base < 65_536 - 11
