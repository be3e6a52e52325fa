"""Orders that the clients in C cannot obey: they say so and end with status 2, instead of measuring something else."""

import json
import subprocess
from pathlib import Path

import pytest

from bench.native_build import build

WAIT_S = 30.0
OPENED = "pinger 127.0.0.1 1 live/room\nopen 1\n"
"""Nobody listens; but that is noticed only after the orders that came with it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


def answer(program: Path, orders: str) -> tuple[int, str]:
    """(its status, why it ended)."""
    ended = subprocess.run(
        [program], input=orders, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert not ended.stderr
    return ended.returncode, json.loads(ended.stdout.splitlines()[-1])["text"]


@pytest.mark.parametrize(
    ("orders", "text"),
    [
        ("dance", "not an order: dance"),
        ("hold 127.0.0.1 65536 live 1 1", "not a port: 65536"),
        ("hold 127.0.0.1 0 live 1 1", "not a port: 0"),
        ("hold localhost 1935 live 1 1", "not an IPv4 address: localhost"),
        ("hold 127.0.0.1 1935 live one 1", "not a number: one"),
        (f"hold 127.0.0.1 1935 {'a' * 64} 1 1", f"too long: {'a' * 64}"),
        ("shape 30 1024 44100 18 3000 25", "shape: a video message has no room for a stamp"),
        ("shape 30 1024 44100 17 3000 26", "shape: audio messages have no room for a stamp"),
        ("shape 0 1024 44100 18 3000", "shape: frames, samples and their rate cannot be 0"),
        ("shape" + " 30" * 4096, "too many words in an order: shape"),
        ("shape " + "3" * 70_000, "not an order: the line is too long"),
    ],
    ids=lambda value: value[:40],
)
def test_media_orders_that_are_none(folder: Path, orders: str, text: str) -> None:
    assert answer(build("rtmp_load", folder), orders + "\n") == (2, text)


@pytest.mark.parametrize(
    ("orders", "text"),
    [
        ("batch 101 1", "not a number of changes: 101"),
        ("batch 1 2", "neither 0 nor 1: 2"),
        ("pinger 127.0.0.1 70000 live/room", "not a port: 70000"),
        (f"caller 127.0.0.1 1 live/room {'a' * 64}", f"too long: {'a' * 64}"),
        ("member 127.0.0.1 1 live/room - 10000", "too large for the number of an object: 10000"),
        ("open 1", "open: of none there is nothing to do"),
        (OPENED + "open 1", "open: all clients are made and opened already"),
        (OPENED + "batch 1 1", "batch: all clients are made and opened already"),
        (OPENED + "pinger 127.0.0.1 1 live/room", "pinger: all clients are made and opened already"),
        (OPENED + "run 1", "nobody: who asks is open"),
        ("member 127.0.0.1 1 live/room -" + " 1" * 4096, "too many words in an order: member"),
    ],
    ids=lambda value: value[-40:],
)
def test_object_orders_that_are_none(folder: Path, orders: str, text: str) -> None:
    assert answer(build("object_load", folder), orders + "\n") == (2, text)


def test_smallest_messages_are_published(folder: Path) -> None:
    """The least that a shape may have is obeyed."""
    ended = subprocess.run(
        [build("rtmp_load", folder)], input="shape 30 1024 44100 18 26\nstop\n", capture_output=True, text=True,
        timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "")
