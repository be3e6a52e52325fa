"""The same bytes to many sockets, by the loop of the build that runs and by the one in Python."""

import _socket
import errno
import socket
import ssl
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import headwater_sends
import pytest
from headwater_edge.shared_sends import SharedSends

Loop = Callable[["array[int]", bytes], list[tuple[int, int]]]


@pytest.fixture(params=["in Python", "of this build"])
def send_to_all(request: pytest.FixtureRequest) -> Loop:
    return headwater_sends._send_to_all if request.param == "in Python" else headwater_sends.send_to_all


@pytest.fixture
def pairs() -> Iterator[list[tuple[Any, Any]]]:
    """Sockets that do not block, and the other ends."""
    made = [socket.socketpair() for _ in range(5)]
    near = [_socket.socket(fileno=pair[0].detach()) for pair in made]
    for sock in near:
        sock.setblocking(False)
    yield [(sock, pair[1]) for sock, pair in zip(near, made, strict=True)]
    for sock, pair in zip(near, made, strict=True):
        sock.close()
        pair[1].close()


def fill(sock: Any) -> int:
    """Until it takes nothing more."""
    count = 0
    try:
        while True:
            count += sock.send(b"x" * 65536)
    except BlockingIOError:
        return count


def descriptors(pairs: list[tuple[Any, Any]]) -> "array[int]":
    return array("i", [sock.fileno() for sock, _ in pairs])


def test_everybody_gets_all_of_it(send_to_all: Loop, pairs: list[tuple[Any, Any]]) -> None:
    assert send_to_all(descriptors(pairs), b"news") == []
    assert [far.recv(100) for _, far in pairs] == [b"news"] * 5
    assert send_to_all(array("i"), b"news") == []
    assert send_to_all(descriptors(pairs), b"") == []


def test_who_takes_less_is_named_with_what_it_took(send_to_all: Loop, pairs: list[tuple[Any, Any]]) -> None:
    fill(pairs[1][0])
    pairs[3][1].close()
    large = b"m" * 4_000_000
    odd = dict(send_to_all(descriptors(pairs), large))
    assert odd[1] == 0, "it is full"
    assert odd[3] == -errno.EPIPE, "nobody is there"
    assert sorted(odd) == [0, 1, 2, 3, 4]
    assert all(0 < odd[place] < len(large) for place in (0, 2, 4))
    gone = descriptors(pairs)
    gone[0] = 1_000_000
    assert dict(send_to_all(gone, b"n"))[0] == -errno.EBADF


if headwater_sends.COMPILED:

    def test_what_is_no_array_of_ints_is_refused() -> None:
        wrong: Any = b"123"
        with pytest.raises(ValueError, match="3 bytes, expected C ints of 4"):
            headwater_sends.send_to_all(wrong, b"news")


class Sealed:
    """A socket of TLS, as its users see it: `outcomes` come one after the other."""

    def __init__(self, *outcomes: int | OSError) -> None:
        self.outcomes = list(outcomes)

    def send(self, data: bytes) -> int:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        return min(outcome, len(data))


def test_owners_come_and_go(pairs: list[tuple[Any, Any]]) -> None:
    sends: SharedSends[str] = SharedSends()
    assert sends.send(b"nobody") == []
    for name, (sock, _) in zip("abcde", pairs, strict=True):
        sends.add(name, sock)
    sends.add("sealed", Sealed(100, 100))
    assert len(sends) == 6
    assert "a" in sends
    assert "sealed" in sends
    assert sends.send(b"1") == []
    assert sends.discard("b")
    assert not sends.discard("b")
    assert "b" not in sends
    assert sends.send(b"2") == []
    sends.add("b", pairs[1][0])
    assert sends.discard("sealed")
    assert sends.send(b"3") == []
    assert [far.recv(100) for _, far in pairs] == [b"123", b"13", b"123", b"123", b"123"]


def test_owners_are_told_apart(pairs: list[tuple[Any, Any]]) -> None:
    sends: SharedSends[str] = SharedSends()
    for name, (sock, _) in zip("abcde", pairs, strict=True):
        sends.add(name, sock)
    sends.discard("a")
    fill(pairs[2][0])
    pairs[4][1].close()
    broken = ssl.SSLEOFError(8, "EOF occurred")
    sends.add("full", Sealed(BlockingIOError()))
    sends.add("part", Sealed(2))
    sends.add("gone", Sealed(broken))
    odd = dict(sends.send(b"news"))
    gone = odd.pop("e")
    assert isinstance(gone, BrokenPipeError)
    assert gone.strerror == "Broken pipe"
    assert odd == {"c": 0, "full": 0, "part": 2, "gone": broken}
