"""`make run` and honcho: the whole cluster from one command, a line when it is ready, and a clean end."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from headwater_client import NetConnection
from support.cluster import BIN, ROOT
from support.ports import free_base_port
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster


class Started:
    """A command in a process group of its own, as a terminal starts it."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.base_port = free_base_port()
        self._output = folder / "output.txt"
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        env |= {
            "HEADWATER_BASE_PORT": str(self.base_port),
            "HEADWATER_DATA": str(folder / "data"),
            "PATH": f"{BIN}:{env['PATH']}",
        }
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def interrupt(self) -> float:
        """Ctrl-C; returns after how many seconds all of it had ended."""
        started = time.monotonic()
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(30 * TIME_FACTOR)
        return time.monotonic() - started

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self._process.poll() is None:
            self.interrupt()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Started]]:
    made: list[Started] = []
    yield made
    for run in made:
        run.end()


def left_behind(run: Started) -> list[str]:
    """Command lines of processes that belong to this cluster: its base port is in their environment."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HEADWATER_BASE_PORT") == str(run.base_port):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def edges_work(run: Started, ports: list[int]) -> None:
    for port in ports:
        with NetConnection(f"rtmp://127.0.0.1:{port}/chat/lobby", f"nick{port}") as connection:
            assert connection.call("say", "hello", timeout_s=10 * TIME_FACTOR) >= 1


def test_make_run_says_ready_and_ctrl_c_ends_all_of_it(started: list[Started], tmp_path: Path) -> None:
    run = Started(["make", "run"], tmp_path)
    started.append(run)
    eventually(lambda: "ready: " in run.output, within_s=60)
    base = run.base_port
    ready = next(line for line in run.output.splitlines() if line.startswith("ready: "))
    for port in (base, base + 11, base + 12):
        assert f":{port}" in ready
    edges_work(run, [base, base + 11, base + 12])
    assert run.interrupt() < 5 * TIME_FACTOR
    assert "Traceback" not in run.output
    assert not re.search(r"job died|Aborted|exited with (?!0)", run.output), run.output
    assert left_behind(run) == []


def test_persistent_objects_survive_ctrl_c_and_make_run(started: list[Started], tmp_path: Path) -> None:
    contents: list[dict[str, object]] = []
    for round_ in range(3):
        run = Started(["make", "run"], tmp_path)
        started.append(run)
        eventually(lambda run=run: "ready: " in run.output, within_s=60)  # type: ignore[misc]
        with NetConnection(
            f"rtmp://127.0.0.1:{run.base_port}/live/kept", timeout_s=10 * TIME_FACTOR
        ) as connection:
            board = connection.shared_object("board", persistent=True)
            board.wait_synced()
            contents.append(dict(board))
            board[f"round{round_}"] = [float(round_), {"text": "grüße"}]
            board.flush()
        run.interrupt()
        assert "Traceback" not in run.output
    kept = {f"round{number}": [float(number), {"text": "grüße"}] for number in range(2)}
    assert contents == [{}, {"round0": kept["round0"]}, kept]


def test_honcho_starts_as_many_as_it_is_told(started: list[Started], tmp_path: Path) -> None:
    run = Started([str(BIN / "honcho"), "start", "-c", "edge=4,origin=3"], tmp_path)
    started.append(run)
    env = {**os.environ, "HEADWATER_BASE_PORT": str(run.base_port)}
    waited = subprocess.run(
        [str(BIN / "headwater-registry"), "wait", "registry=1,balancer=1,edge=4,origin=3"],
        env=env,
        capture_output=True,
        text=True,
        timeout=90 * TIME_FACTOR,
        check=False,
    )
    assert waited.returncode == 0, waited.stdout + waited.stderr
    edges_work(run, [run.base_port + 10 + number for number in (1, 2, 3, 4)])
    assert run.interrupt() < 5 * TIME_FACTOR
    assert "Traceback" not in run.output
