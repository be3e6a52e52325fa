"""An origin that is killed again and again while it counts: nothing is lost or counted twice, and each increment is
acknowledged once."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from support.waiting import TIME_FACTOR

INCREMENTS, KILLS = 10_000, 100
_WINDOW = 64
"""Increments that are under way at a time."""
_TESTS = Path(__file__).parents[1]


class Life:
    """One process, from its start until it is killed."""

    def __init__(self, zygote: "subprocess.Popen[str]", folder: Path, epoch: int, acknowledged: int) -> None:
        path = folder / f"{epoch}.sock"
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen(1)
            listener.settimeout(30 * TIME_FACTOR)
            print(path, epoch, int(epoch > 1), acknowledged, file=zygote.stdin, flush=True)
            self.pid = int(zygote.stdout.readline())
            self.wire, _ = listener.accept()
        self.wire.settimeout(30 * TIME_FACTOR)
        self.lines: IO[str] = self.wire.makefile("r")

    def say(self, text: str) -> None:
        """A line; whether the process hears it is not known."""
        try:
            self.wire.sendall(f"{text}\n".encode())
        except OSError:
            pass  # It was killed.

    def kill(self) -> list[str]:
        """kill -9; what it had said before that."""
        os.kill(self.pid, signal.SIGKILL)
        try:
            return self.lines.read().splitlines()
        except ConnectionResetError:
            return []  # It had not read all that it was sent; then the kernel drops what it had said.
        finally:
            self.close()

    def close(self) -> None:
        """Its wire."""
        self.lines.close()
        self.wire.close()


@contextmanager
def running(store: str, lives: list[Life]) -> Iterator["subprocess.Popen[str]"]:
    """The process that forks the others, which all end with it."""
    zygote = subprocess.Popen(
        [sys.executable, "-m", "support.counter_process", store],
        cwd=_TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield zygote
    finally:
        if lives:
            lives[-1].close()  # Then it ends by itself.
        zygote.kill()
        zygote.wait()
        for pipe in (zygote.stdin, zygote.stdout):
            if pipe is not None:
                pipe.close()


def count(store: str, folder: Path, seed: int) -> None:
    """Count to INCREMENTS with KILLS at random places."""
    chance = random.Random(seed)
    kills = sorted(chance.sample(range(1, INCREMENTS), KILLS))
    acknowledged = 0
    epoch = 0
    lives: list[Life] = []
    with running(store, lives) as zygote:
        while True:
            epoch += 1
            life = Life(zygote, folder, epoch, acknowledged)
            lives.append(life)
            word, number = life.lines.readline().split()
            assert word == "A"
            # What was acknowledged is there, and nothing that was never sent.
            assert acknowledged <= int(number) <= INCREMENTS
            # What it lacks of the answers to these is said again.
            sent = int(number)
            until = kills.pop(0) if kills else INCREMENTS
            while acknowledged < until:
                while sent < INCREMENTS and sent - acknowledged < _WINDOW:
                    sent += 1
                    life.say(str(sent))
                acknowledged = _acknowledged(life.lines.readline().strip(), acknowledged)
            if not kills and acknowledged == INCREMENTS:
                break
            time.sleep(chance.random() * 0.003)  # Anywhere in a commit.
            for line in life.kill():
                if line.isdecimal():
                    acknowledged = _acknowledged(line, acknowledged)
        life.say(f"? {INCREMENTS + 1}")
        assert life.lines.readline().split() == ["=", str(INCREMENTS), str(INCREMENTS)]
        life.kill()
    assert epoch > KILLS * 0.9


def _acknowledged(line: str, before: int) -> int:
    """Each number comes once, in order, however many lives its answer has taken."""
    assert line.isdecimal(), f"expected an acknowledgement, got {line!r}"
    number = int(line)
    assert number == before + 1
    return number


def test_every_acknowledged_increment_counts_once_sqlite(tmp_path: Path) -> None:
    count(f"sqlite:{tmp_path / 'store'}", tmp_path, seed=1)


def test_every_acknowledged_increment_counts_once_redis(tmp_path: Path, redis_url: str) -> None:
    count(redis_url, tmp_path, seed=2)
