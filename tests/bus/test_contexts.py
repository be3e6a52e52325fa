"""How these tests end their ZeroMQ contexts: whatever a test that failed has left behind, it is the failure that is told."""

import threading
from pathlib import Path
from typing import Any

import pytest
import zmq.green as zmq

from .conftest import end_context, make_context


def sender(context: Any, endpoint: str) -> Any:
    socket = context.socket(zmq.PUSH)
    socket.connect(endpoint)
    return socket


def test_what_is_open_or_was_closed_with_something_unsent_is_dropped(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/nobody"
    context = make_context()
    left, closed = sender(context, endpoint), sender(context, endpoint)
    for socket in (left, closed):
        socket.send(b"never heard")
    closed.close()
    end_context(context)
    assert context.closed
    assert left.closed


class Endless:
    """A context that ends when it is let."""

    _sockets = ()

    def __init__(self) -> None:
        self.let = threading.Event()
        self.term = self.let.wait


def test_a_context_that_does_not_end_is_a_failure_and_no_hang() -> None:
    context = Endless()
    try:
        with pytest.raises(AssertionError, match="something waits to be sent"):
            end_context(context, within_s=0.05)
    finally:
        context.let.set()
