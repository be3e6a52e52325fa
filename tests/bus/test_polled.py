"""A ZeroMQ socket on gevent's loop."""

import subprocess
import sys
from typing import Any

import gevent
import pytest
import zmq
from headwater_bus.polled import PolledSocket
from support.waiting import eventually


@pytest.fixture
def pair(context: Any) -> Any:
    router, dealer = PolledSocket(context, zmq.ROUTER), PolledSocket(context, zmq.DEALER)
    for socket in (router, dealer):
        socket.raw.set(zmq.SNDHWM, 0)
    dealer.raw.set(zmq.IDENTITY, b"d")
    port = router.raw.bind_to_random_port("tcp://127.0.0.1")
    dealer.raw.connect(f"tcp://127.0.0.1:{port}")
    yield router, dealer
    for socket in (router, dealer):
        socket.close(0)


def reading(socket: PolledSocket, got: list[list[bytes]]) -> Any:
    def read() -> None:
        while True:
            got.append([frame.bytes for frame in socket.receive()])

    return gevent.spawn(read)


def test_messages_of_many_frames_and_of_long_ones_arrive_in_order(pair: Any) -> None:
    router, dealer = pair
    got: list[list[bytes]] = []
    reader = reading(router, got)
    sent = [[b"%d" % number, *(b"f" * (number * 5000) for _ in range(number % 4))] for number in range(40)]
    for frames in sent:
        dealer.send(frames)
    eventually(lambda: len(got) == len(sent), 10)
    assert got == [[b"d", *frames] for frames in sent]
    reader.kill()


FROM_THE_LOOP = """
from gevent import monkey
monkey.patch_all()
import gevent, zmq
from headwater_bus.polled import PolledSocket
context = zmq.Context()
router, dealer = PolledSocket(context, zmq.ROUTER), PolledSocket(context, zmq.DEALER)
dealer.raw.connect(f"tcp://127.0.0.1:{router.raw.bind_to_random_port('tcp://127.0.0.1')}")
gevent.get_hub().loop.run_callback(dealer.send, [b"head", bytes(200_000)])
with gevent.Timeout(10):
    print([len(frame.bytes) for frame in router.receive()][1:])
for socket in (router, dealer):
    socket.close(0)
"""


def test_the_first_long_frame_of_a_process_may_leave_from_the_loop_itself() -> None:
    """Where nothing can wait: what pyzmq shares with ZeroMQ's thread it keeps an account of, for which it starts a thread."""
    ran = subprocess.run([sys.executable, "-c", FROM_THE_LOOP], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("[4, 200000]\n", "")


def test_whoever_sends_while_the_other_greenlet_waits_keeps_nothing_from_it(pair: Any) -> None:
    """What comes while one sends is seen by the send; the descriptor does not tell it again."""
    router, dealer = pair
    at_router: list[list[bytes]] = []
    at_dealer: list[list[bytes]] = []
    readers = [reading(router, at_router), reading(dealer, at_dealer)]
    dealer.send([b"hello"])
    eventually(lambda: at_router, 10)
    for number in range(3000):
        dealer.send([b"up"])
        router.send([b"d", b"down"])
        if number % 7 == 0:
            gevent.sleep(0)
    eventually(lambda: len(at_router) == 3001 and len(at_dealer) == 3000, 10)
    gevent.killall(readers)


def test_a_close_ends_who_waits(pair: Any) -> None:
    router, _ = pair
    ended: list[zmq.ZMQError] = []

    def read() -> None:
        try:
            router.receive()
        except zmq.ZMQError as error:
            ended.append(error)

    gevent.spawn(read)
    gevent.sleep(0)
    router.close(0)
    eventually(lambda: ended, 5)
    assert router.closed
    with pytest.raises(zmq.ZMQError):
        router.send([b"d", b"late"])


def test_a_reader_that_is_killed_leaves_nothing_behind(pair: Any) -> None:
    router, dealer = pair
    reader = gevent.spawn(router.receive)
    gevent.sleep(0)
    reader.kill()
    dealer.send([b"later"])
    assert [frame.bytes for frame in router.receive()] == [b"d", b"later"]


def test_it_knows_whether_a_message_had_to_be_waited_for(pair: Any) -> None:
    router, dealer = pair
    first = gevent.spawn(lambda: (router.receive(), router.waited))
    gevent.sleep(0)
    for _ in range(2):
        dealer.send([b"m"])
    assert first.get(timeout=5)[1]
    eventually(lambda: router._readable, 5)
    router.receive()
    assert not router.waited
