"""What waits for a socket, and sockets whose client is closed, on socket pairs."""

import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from headwater_edge.admission import Admission
from headwater_edge.closing import LingeringSocket
from headwater_edge.outbox import Outbox
from headwater_edge.turns import Turns
from support.waiting import eventually

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The edge's end and the client's, with small buffers; neither blocks."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def loop() -> Any:
    return gevent.get_hub().loop


def read(sock: socket.socket) -> bytes:
    """What is there to be read now."""
    data = b""
    try:
        while more := sock.recv(1 << 20):
            data += more
    except (BlockingIOError, ConnectionError):
        pass
    return data


class Owner:
    """Sends whenever its outbox says so."""

    def __init__(self, sock: socket.socket) -> None:
        self.called = 0
        self.outbox = Outbox(loop(), sock, self.writable)

    def writable(self) -> None:
        self.called += 1
        self.outbox.send()


def pieces(count: int) -> list[bytes]:
    return [bytes([number % 251]) * (1 + number * 997 % 9_000) for number in range(count)]


def test_what_is_queued_arrives_whole_and_in_order(pair: Pair) -> None:
    ours, theirs = pair
    owner = Owner(ours)
    for piece in pieces(300):
        owner.outbox.put(piece)
    total = sum(map(len, pieces(300)))
    assert owner.outbox.backlog_bytes == total
    sent = owner.outbox.send()
    assert 0 < sent < total
    assert (owner.outbox.backlog_bytes, owner.outbox.full) == (total - sent, True)
    seen = bytearray()
    eventually(lambda: (seen.extend(read(theirs)), len(seen) == total)[1], 10)  # type: ignore[func-returns-value]  # an act and a look in one expression
    assert seen == b"".join(pieces(300))
    assert (owner.outbox.backlog_bytes, owner.outbox.full) == (0, False)
    assert owner.called > 1


def test_an_outbox_that_is_empty_watches_nothing(pair: Pair) -> None:
    ours, theirs = pair
    owner = Owner(ours)
    owner.outbox.put(b"x" * 100)
    assert owner.outbox.send() == 100
    assert not owner.outbox.full
    assert read(theirs) == b"x" * 100
    for _ in range(5):
        gevent.sleep(0)
    assert owner.called == 0


def test_the_rest_of_what_the_owner_sent_goes_first(pair: Pair) -> None:
    ours, theirs = pair
    for sent in (0, 3):
        owner = Owner(ours)
        owner.outbox.put_rest(b"abcdef", sent)
        assert (owner.outbox.backlog_bytes, owner.outbox.full) == (6 - sent, True)
        owner.outbox.put(b"ghi")
        eventually(lambda owner=owner: not owner.outbox.backlog_bytes, 10)  # type: ignore[misc]  # mypy infers no lambda with a default
        assert read(theirs) == b"abcdefghi"[sent:]


def test_dropping_keeps_the_piece_that_is_under_way(pair: Pair) -> None:
    ours, theirs = pair
    owner = Owner(ours)
    owner.outbox.put(b"a" * 200_000)
    owner.outbox.put(b"b" * 100)
    owner.outbox.send()
    owner.outbox.drop()
    owner.outbox.put(b"last")
    seen = bytearray()
    eventually(lambda: (seen.extend(read(theirs)), not owner.outbox.backlog_bytes)[1], 10)  # type: ignore[func-returns-value]  # an act and a look in one expression
    seen += read(theirs)
    assert bytes(seen) == b"a" * 200_000 + b"last"


def test_dropping_what_has_not_begun_leaves_nothing(pair: Pair) -> None:
    owner = Owner(pair[0])
    owner.outbox.drop()
    owner.outbox.put(b"a" * 100)
    owner.outbox.put(b"b" * 100)
    owner.outbox.drop()
    assert owner.outbox.backlog_bytes == 0


def test_a_broken_socket_is_said(pair: Pair) -> None:
    ours, theirs = pair
    owner = Owner(ours)
    owner.outbox.put(b"x")
    theirs.close()
    with pytest.raises(OSError, match="pipe"):
        owner.outbox.send()
    assert not owner.outbox.full


# Lingering


def linger(sock: socket.socket, data: bytes = b"") -> tuple[LingeringSocket, list[LingeringSocket]]:
    done: list[LingeringSocket] = []
    outbox = None
    if data:
        outbox = Outbox(loop(), sock, lambda: None)
        outbox.put(data)
    return LingeringSocket(loop(), sock, "203.0.113.1", outbox, 0.0, done.append), done


def test_what_was_queued_leaves_then_our_half_is_closed_then_the_client_s(pair: Pair) -> None:
    ours, theirs = pair
    lingering, done = linger(ours, b"x" * 500_000)
    seen = bytearray()

    def half_closed() -> bool:
        try:
            data = theirs.recv(1 << 20)
        except BlockingIOError:
            return False
        seen.extend(data)
        return not data

    theirs.sendall(b"still talking")
    eventually(half_closed, 10)
    assert len(seen) == 500_000
    assert not lingering.ended
    theirs.close()
    eventually(lambda: done == [lingering], 10)
    assert lingering.ended


@pytest.mark.parametrize("queued", [0, 500_000])
def test_a_lingering_socket_may_be_ended_at_any_time_and_once(pair: Pair, queued: int) -> None:
    lingering, done = linger(pair[0], b"x" * queued)
    lingering.end()
    lingering.end()
    assert done == [lingering]
    # The number is another's now; nothing may be watched under it.
    for _ in range(5):
        gevent.sleep(0)
    assert pair[0].fileno() < 0


@pytest.mark.parametrize("queued", [1, 500_000])
def test_a_client_that_is_gone_already_ends_it(pair: Pair, queued: int) -> None:
    ours, theirs = pair
    theirs.close()
    lingering, done = linger(ours, b"x" * queued)
    assert done == [lingering]


def test_a_client_that_goes_while_much_is_queued_ends_it(pair: Pair) -> None:
    ours, theirs = pair
    lingering, done = linger(ours, b"x" * 500_000)
    assert not lingering.ended
    theirs.close()
    eventually(lambda: done == [lingering], 10)


# Turns


class Waiting:
    """A client that takes so many turns."""

    def __init__(self, turns: Turns, count: int) -> None:
        self.turns, self.left = turns, count

    def go_on(self) -> None:
        self.left -= 1
        if self.left:
            self.turns.add(self)  # type: ignore[arg-type]  # all that it needs of a Client


def test_turns_are_given_until_nobody_waits_and_others_run_between() -> None:
    turns = Turns(loop())
    clients = [Waiting(turns, 5), Waiting(turns, 2)]
    for client in clients:
        turns.add(client)  # type: ignore[arg-type]  # all that it needs of a Client
    assert [client.left for client in clients] == [5, 2]
    seen: set[int] = set()
    eventually(lambda: (seen.add(clients[0].left), clients[0].left == 0)[1], 10)  # type: ignore[func-returns-value]  # an act and a look in one expression
    assert clients[1].left == 0
    assert turns._timer is None


# Admission


def test_connections_are_counted_by_owner() -> None:
    admission = Admission(5, 2)
    for address in ("203.0.113.1", "203.0.113.1", "2001:db8::1", "2001:db8::2"):
        assert admission.admits(address)
        admission.enter(address)
    assert not admission.admits("203.0.113.1")
    assert not admission.admits("2001:db8::3")
    assert admission.admits("127.0.0.1")
    admission.enter("127.0.0.1")
    assert not admission.admits("127.0.0.1")
    admission.leave("203.0.113.1")
    assert admission.admits("203.0.113.1")
    for address in ("203.0.113.1", "2001:db8::1", "2001:db8::2", "127.0.0.1"):
        admission.leave(address)
    assert (admission.count, admission.held) == (0, {})
